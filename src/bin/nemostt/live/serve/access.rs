// SPDX-License-Identifier: MIT OR Apache-2.0

//! Who may read captions.
//!
//! A page of another origin cannot: its requests have an `Origin`, or, where browsers send none (scripts, images, links), say with
//! `Sec-Fetch-Site` that they come from elsewhere; and where it made its own name lead to this address (DNS rebinding), the `Host`
//! is that name. Other machines need the token.

use std::net::{IpAddr, SocketAddr};

use hyper::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, HOST, HeaderName, ORIGIN},
};
use sha2::{Digest, Sha256};

/// Why a request is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub status: StatusCode,
    /// The cure.
    pub message: String,
}

/// The rules.
#[derive(Debug)]
pub struct Access {
    address: IpAddr,
    names: Vec<String>,
    /// Hash of the token: comparing hashes takes a time that says nothing about the token.
    token: Option<[u8; 32]>,
}

impl Access {
    /// Those of a server at `address` that is also reached as one of `names`.
    pub fn new(address: SocketAddr, names: &[String], token: Option<&str>) -> Self {
        Self {
            address: address.ip(),
            names: names
                .iter()
                .map(|name| without_port(name).to_ascii_lowercase())
                .collect(),
            token: token.map(hash),
        }
    }

    /// Checks where a request comes from.
    pub fn check_origin(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let host = text(headers, HOST).unwrap_or_default();
        let name = without_port(host).to_ascii_lowercase();
        if !self.is_served(&name) {
            return Err(forbidden(format!(
                "The host {name:?} is not served here. If it is a name of this machine, start nemostt with --serve-host {name}"
            )));
        }
        let Some(origin) = headers.get(ORIGIN) else {
            return Ok(());
        };
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map(|(_, authority)| authority);
        match authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host)) {
            true => Ok(()),
            false => Err(forbidden(format!(
                "Pages of {origin:?} may not read these captions. Open http://{host}/ instead"
            ))),
        }
    }

    /// Checks why a browser makes a request for `path`. Others do not say it.
    pub fn check_fetch(&self, headers: &HeaderMap, path: &str) -> Result<(), Refusal> {
        let value = |name| text(headers, HeaderName::from_static(name)).unwrap_or_default();
        let is_foreign = ["cross-site", "same-site"].contains(&value("sec-fetch-site"));
        // A link on another page may lead to this one.
        let is_link = value("sec-fetch-mode") == "navigate" && path == "/";
        match is_foreign && !is_link {
            true => Err(forbidden("Other pages may not load this. Open / instead".into())),
            false => Ok(()),
        }
    }

    /// Checks the token of a request for captions.
    pub fn check_token(&self, headers: &HeaderMap, query: Option<&str>) -> Result<(), Refusal> {
        let Some(expected) = self.token else {
            return Ok(());
        };
        let bearer = text(headers, AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let given = bearer.or_else(|| parameter(query, "token"));
        // Without leaving early.
        let differs = given
            .map(hash)
            .map(|given| expected.iter().zip(given).fold(0, |all, (a, b)| all | (a ^ b)));
        match differs {
            Some(0) => Ok(()),
            _ => Err(Refusal {
                status: StatusCode::UNAUTHORIZED,
                message: "A token is needed: open the address that nemostt printed, or send the header Authorization: Bearer \
                          TOKEN"
                    .into(),
            }),
        }
    }

    /// Whether requests may be for `host`. Addresses cannot be rebound as names can.
    fn is_served(&self, host: &str) -> bool {
        let numeric = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match numeric {
            Ok(ip) => self.address.is_unspecified() || ip == self.address,
            Err(_) => host == "localhost" || self.names.iter().any(|name| name == host),
        }
    }
}

/// The value of `name` in a query. Tokens and ids have no characters that are escaped.
pub fn parameter<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    let mut pairs = query?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

fn forbidden(message: String) -> Refusal {
    Refusal {
        status: StatusCode::FORBIDDEN,
        message,
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    fn access(address: &str) -> Access {
        Access::new(
            address.parse().unwrap(),
            &["Captions.example:443".into()],
            Some("secret"),
        )
    }

    #[test]
    fn other_hosts_are_refused() {
        let is_served = |address: &str, host: &str| access(address).check_origin(&headers(&[(HOST, host)])).is_ok();
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST", "captions.example"] {
            assert!(is_served("127.0.0.1:8080", host), "{host}");
        }
        for host in [
            "evil.example:8080",
            "localhost.evil.example",
            "192.168.0.2:8080",
            "",
            "127.0.0.1.nip.io",
        ] {
            assert!(!is_served("127.0.0.1:8080", host), "{host}");
        }
        assert!(is_served("[::1]:80", "[::1]:80") && !is_served("[::1]:80", "[::2]"));
        assert!(is_served("0.0.0.0:80", "192.168.0.2:80") && !is_served("0.0.0.0:80", "evil.example"));
        assert!(access("127.0.0.1:1").check_origin(&HeaderMap::new()).is_err());
        let refusal = access("127.0.0.1:1")
            .check_origin(&headers(&[(HOST, "evil.example")]))
            .unwrap_err();
        assert!(refusal.message.contains("--serve-host evil.example"), "{refusal:?}");
    }

    #[test]
    fn other_origins_are_refused() {
        let check = |host: &str, origin: &str| {
            access("127.0.0.1:8080")
                .check_origin(&headers(&[(HOST, host), (ORIGIN, origin)]))
                .is_ok()
        };
        assert!(check("127.0.0.1:8080", "http://127.0.0.1:8080"));
        assert!(check("captions.example", "https://captions.example"));
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:9090",
            "http://localhost:8080",
            "null",
            "",
        ] {
            assert!(!check("127.0.0.1:8080", origin), "{origin}");
        }
    }

    #[test]
    fn requests_without_an_origin_are_refused_if_they_come_from_another_page() {
        let check = |site: &str, mode: &str, path: &str| {
            let name = HeaderName::from_static;
            let headers = headers(&[(name("sec-fetch-site"), site), (name("sec-fetch-mode"), mode)]);
            access("127.0.0.1:8080").check_fetch(&headers, path).is_ok()
        };
        for site in ["cross-site", "same-site"] {
            for path in ["/captions.js", "/captions.vtt", "/events"] {
                assert!(
                    !check(site, "no-cors", path) && !check(site, "navigate", path),
                    "{path}"
                );
            }
            assert!(check(site, "navigate", "/") && !check(site, "no-cors", "/"));
        }
        assert!(check("same-origin", "cors", "/events") && check("none", "navigate", "/captions.vtt"));
        assert_eq!(access("127.0.0.1:1").check_fetch(&HeaderMap::new(), "/events"), Ok(()));
    }

    #[test]
    fn the_token_is_in_the_header_or_the_query() {
        let access = access("0.0.0.0:80");
        let check = |header: Option<&str>, query: Option<&str>| {
            let headers = header
                .map(|value| headers(&[(AUTHORIZATION, value)]))
                .unwrap_or_default();
            access.check_token(&headers, query).is_ok()
        };
        assert!(check(Some("Bearer secret"), None) && check(Some("bearer secret"), None));
        assert!(check(None, Some("last=x-1&token=secret")));
        for header in ["Bearer secre", "Bearer secrets", "Basic secret", "secret", ""] {
            assert!(!check(Some(header), None), "{header}");
        }
        assert!(!check(None, None) && !check(None, Some("token=")) && !check(None, Some("xtoken=secret")));
        let open = Access::new("127.0.0.1:80".parse().unwrap(), &[], None);
        assert_eq!(open.check_token(&HeaderMap::new(), None), Ok(()));
    }
}

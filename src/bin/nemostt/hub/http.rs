// SPDX-License-Identifier: MIT OR Apache-2.0

//! HTTP requests with proxy, token and redirects, and the errors for their status codes.

use std::sync::Arc;

use rustls::crypto::ring;
use ureq::{
    Agent, Body, Proxy,
    http::{Response, StatusCode, Uri},
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::{
    env::HubEnv,
    error::{Error, Result},
    headers,
    retry::{Failure, MAX_TRIES},
};

const REDIRECTS: usize = 10;
/// The variables that ureq reads, in its order.
const PROXIES: [&str; 6] = [
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
];

/// A client for one hub.
#[derive(Debug)]
pub struct HttpClient {
    agent: Agent,
    endpoint: String,
    token: Option<String>,
}

/// The subject of a request, for messages.
#[derive(Clone, Copy)]
pub struct RequestContext<'a> {
    pub repository: &'a str,
    pub revision: &'a str,
    pub file: Option<&'a str>,
}

impl HttpClient {
    pub fn new(settings: &HubEnv) -> Result<Self> {
        // ureq ignores an invalid proxy and would connect directly.
        for name in PROXIES {
            let value = std::env::var(name).unwrap_or_default();
            if !value.is_empty() && Proxy::new(&value).is_err() {
                let expected = "a URL such as http://proxy:3128";
                return Err(Error::Variable { name, value, expected });
            }
        }
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&system_certificates(&settings.endpoint)?))
            .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .proxy(Proxy::try_from_env())
            // Redirects are followed here: the token must only be sent to the hub, and the hub's own headers are needed.
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_connect(Some(settings.timeout))
            .timeout_recv_response(Some(settings.timeout))
            .timeout_per_read(Some(settings.timeout))
            .user_agent(concat!("nemostt/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            endpoint: settings.endpoint.clone(),
            token: settings.token.clone(),
        })
    }

    /// The base URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// A HEAD request. Redirects to other hosts are not followed.
    pub fn head(&self, url: &str, about: RequestContext<'_>) -> Result<Response<Body>, Failure> {
        self.send(true, url, None, about)
    }

    /// A GET request, from byte `start` on if given.
    pub fn get(&self, url: &str, start: Option<u64>, about: RequestContext<'_>) -> Result<Response<Body>, Failure> {
        self.send(false, url, start, about)
    }

    /// Sends a request, follows redirects, and checks the status.
    fn send(
        &self,
        head: bool,
        url: &str,
        start: Option<u64>,
        about: RequestContext<'_>,
    ) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..REDIRECTS {
            let is_hub = same_origin(&url, &self.endpoint);
            let mut request = if head {
                self.agent.head(&url)
            } else {
                self.agent.get(&url)
            };
            // Lengths and ranges must be those of the uncompressed file.
            request = request.header("accept-encoding", "identity");
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            let response = request.call().map_err(|error| no_response(&url, &error))?;
            if !response.status().is_redirection() {
                return self.check_status(response, &url, about);
            }
            let next = headers::text(&response, "location").and_then(|location| joined(&url, location));
            let no_hub = |fault: &str| Error::NoHub {
                host: host(&url),
                url: url.clone(),
                fault: fault.into(),
            };
            let next = next.ok_or_else(|| no_hub("is a redirect without a valid location"))?;
            if url.starts_with("https://") && !next.starts_with("https://") {
                return Err(no_hub("redirects from https to http").into());
            }
            if head && !same_origin(&next, &self.endpoint) {
                // The redirect leads to the storage. The hub's own response has the metadata.
                return Ok(response);
            }
            url = next;
        }
        let fault = "has too many redirects".into();
        Err(Error::NoHub {
            host: host(&url),
            url,
            fault,
        }
        .into())
    }

    fn check_status(
        &self,
        response: Response<Body>,
        url: &str,
        about: RequestContext<'_>,
    ) -> Result<Response<Body>, Failure> {
        let status = response.status();
        // The downloader handles 416: the file may be complete.
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        let host = host(url);
        let repository = about.repository.to_owned();
        let revision = about.revision.to_owned();
        let file = about.file.map(str::to_owned);
        let page = format!("{}/{repository}", self.endpoint);
        let pause = headers::retry_after(&response);
        let code = headers::text(&response, "x-error-code").unwrap_or_default();
        let permanent = match (status.as_u16(), code, file) {
            (429, _, _) => {
                let error = Error::TooMany { host, tries: MAX_TRIES };
                return Err(Failure::Transient { error, pause });
            }
            (status @ (408 | 500..), _, _) => {
                let error = Error::ServerFails {
                    host,
                    status,
                    tries: MAX_TRIES,
                };
                return Err(Failure::Transient { error, pause });
            }
            (_, "GatedRepo", _) => Error::Gated { repository, page },
            (_, "RepoNotFound", _) => Error::NoRepository { host, repository },
            (_, "RevisionNotFound", _) => Error::NoRevision { repository, revision },
            (404, _, Some(file)) => Error::NoFile {
                repository,
                file,
                revision,
            },
            (404, _, None) => Error::NoRepository { host, repository },
            (401 | 403, _, _) if same_origin(url, &self.endpoint) => match self.token {
                Some(_) => Error::BadToken { host, repository },
                None => Error::NeedsToken { host, repository, page },
            },
            (status, _, _) => Error::Status {
                host,
                url: url.into(),
                status,
            },
        };
        Err(permanent.into())
    }
}

/// The failure of a request without a response.
pub fn no_response(url: &str, error: &ureq::Error) -> Failure {
    let host = host(url);
    let is_tls = match error {
        ureq::Error::Rustls(_) | ureq::Error::Tls(_) => true,
        ureq::Error::Io(error) => error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()),
        _ => false,
    };
    let reason = error.to_string();
    if is_tls {
        return Error::Untrusted { host, reason }.into();
    }
    let error = Error::Unreachable { host, reason };
    Failure::Transient { error, pause: None }
}

/// The system's certificates, so that private authorities are trusted. `SSL_CERT_FILE` and `SSL_CERT_DIR` override them.
fn system_certificates(endpoint: &str) -> Result<Vec<Certificate<'static>>> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() && endpoint.starts_with("https://") {
        let reason = found
            .errors
            .first()
            .map_or_else(|| "none installed".into(), ToString::to_string);
        return Err(Error::NoCertificates(reason));
    }
    Ok(found
        .certs
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect())
}

/// The host of a URL, for messages.
pub fn host(url: &str) -> String {
    let host = url
        .parse::<Uri>()
        .ok()
        .and_then(|uri| Some(uri.authority()?.host().to_owned()));
    host.unwrap_or_else(|| url.to_owned())
}

fn same_origin(one: &str, other: &str) -> bool {
    let origin = |url: &str| {
        let uri: Uri = url.parse().ok()?;
        Some((uri.scheme_str()?.to_owned(), uri.authority()?.to_string()))
    };
    origin(one).is_some_and(|one| Some(one) == origin(other))
}

/// Resolves the `Location` header of a response from `url`: an absolute URL, or a path on the same host.
fn joined(url: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.into());
    }
    let uri: Uri = url.parse().ok()?;
    let path = location.starts_with('/') && !location.starts_with("//");
    path.then(|| Some(format!("{}://{}{location}", uri.scheme_str()?, uri.authority()?)))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_joined() {
        let url = "https://hub:1/a/b?c";
        assert_eq!(joined(url, "/x/y?z").as_deref(), Some("https://hub:1/x/y?z"));
        assert_eq!(joined(url, "http://other/x").as_deref(), Some("http://other/x"));
        assert_eq!(joined(url, "//other/x"), None);
        assert_eq!(joined(url, "ftp://other/x"), None);
    }

    #[test]
    fn ports_and_schemes_make_origins() {
        assert!(same_origin("https://hub/a", "https://hub"));
        assert!(!same_origin("https://hub/a", "http://hub"));
        assert!(!same_origin("http://hub:1/a", "http://hub:2"));
    }
}

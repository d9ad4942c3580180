// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of the server.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

/// Environment variable with the token, which, unlike an argument, other users do not see in the list of processes.
const TOKEN_VARIABLE: &str = "NEMOSTT_TOKEN";
/// Random bytes of a token.
const TOKEN_BYTES: usize = 16;

/// Where and to whom captions are served.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct ServeArguments {
    /// Serve a page with the captions at this address, such as 127.0.0.1:8080 (or only the port): for browsers, and for OBS as
    /// browser source. If other machines can reach it, a token is needed, which is printed with the address
    #[arg(long = "serve", value_name = "ADDRESS", value_parser = address)]
    pub address: Option<SocketAddr>,

    /// Name under which the server is reached, besides its address and localhost, for example behind a proxy; can be repeated.
    /// As others then reach it, a token is needed
    #[arg(long, value_name = "NAME", requires = "address")]
    pub serve_host: Vec<String>,

    /// Token that clients need [default: NEMOSTT_TOKEN in the environment, where it is not seen in the list of processes; else a
    /// random one, if other machines can reach the server]
    #[arg(long, value_name = "TOKEN", requires = "address")]
    token: Option<String>,

    /// Serve captions to everyone who can reach the server, without a token
    #[arg(long, requires = "address", conflicts_with = "token")]
    no_token: bool,

    /// Title of the page [default: the name of a file, else "Live captions"]
    #[arg(long, value_name = "TEXT", requires = "address")]
    pub title: Option<String>,
}

impl ServeArguments {
    /// Those of a server for tests, at a free port.
    #[cfg(test)]
    pub fn local() -> Self {
        Self {
            address: Some((Ipv4Addr::LOCALHOST, 0).into()),
            serve_host: Vec::new(),
            token: None,
            no_token: false,
            title: None,
        }
    }

    /// The token that clients of a server at `address` need.
    ///
    /// # Errors
    /// If it cannot be part of an address, or the system has no random numbers.
    pub fn token_for(&self, address: SocketAddr) -> Result<Option<String>, String> {
        let environment = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty());
        self.choose_token(address, environment)
    }

    fn choose_token(&self, address: SocketAddr, environment: Option<String>) -> Result<Option<String>, String> {
        if self.no_token {
            return Ok(None);
        }
        let option = self.token.clone().map(|token| ("--token", token));
        if let Some((origin, token)) = option.or(environment.map(|token| (TOKEN_VARIABLE, token))) {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            return match !token.is_empty() && token.bytes().all(is_plain) {
                true => Ok(Some(token)),
                false => Err(format!("{origin}: expected letters, digits, and - . _ ~")),
            };
        }
        // A proxy reaches a loopback address for others.
        match address.ip().is_loopback() && self.serve_host.is_empty() {
            true => Ok(None),
            false => random_hex::<TOKEN_BYTES>().map(Some),
        }
    }
}

/// `N` random bytes as hexadecimal digits.
///
/// # Errors
/// If the system has none.
pub fn random_hex<const N: usize>() -> Result<String, String> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system has no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let numeric = match text.rsplit_once(':') {
        Some((host, port)) if host.eq_ignore_ascii_case("localhost") => format!("{}:{port}", Ipv4Addr::LOCALHOST),
        _ => text.into(),
    };
    numeric
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The token of a server at `at`, after the options of `line`.
    fn choose(line: &[&str], at: &str, environment: Option<&str>) -> Result<Option<String>, String> {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            serve: ServeArguments,
        }
        let line = [&["x", "--serve", at], line].concat();
        let Line { serve } = clap::Parser::try_parse_from(line).map_err(|error| error.to_string())?;
        serve.choose_token(at.parse().unwrap(), environment.map(Into::into))
    }

    fn token(given: Option<&str>, at: &str) -> Result<Option<String>, String> {
        choose(&given.map_or(Vec::new(), |given| vec!["--token", given]), at, None)
    }

    #[test]
    fn addresses_are_read() {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("8080"), Ok("127.0.0.1:8080".into()));
        assert_eq!(read("localhost:80"), Ok("127.0.0.1:80".into()));
        assert_eq!(read("LocalHost:0"), Ok("127.0.0.1:0".into()));
        assert_eq!(read("[::]:80"), Ok("[::]:80".into()));
        for text in ["", "example.org:80", "127.0.0.1", ":80", "99999", "notlocalhost:80"] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn others_need_a_token() {
        assert_eq!(token(None, "127.0.0.1:80"), Ok(None));
        assert_eq!(token(None, "[::1]:80"), Ok(None));
        assert_eq!(token(Some("abc"), "127.0.0.1:80"), Ok(Some("abc".into())));
        let random = token(None, "0.0.0.0:80").unwrap().unwrap();
        assert_eq!(random.len(), 2 * TOKEN_BYTES);
        assert_ne!(token(None, "0.0.0.0:80"), Ok(Some(random)));
        assert!(token(Some("a&b"), "127.0.0.1:80").is_err());
        assert!(token(Some(""), "127.0.0.1:80").is_err());
    }

    #[test]
    fn a_name_of_a_proxy_needs_a_token() {
        let host = "--serve-host=captions.example";
        let random = choose(&[host], "127.0.0.1:80", None).unwrap().unwrap();
        assert_eq!(random.len(), 2 * TOKEN_BYTES);
        for at in ["127.0.0.1:80", "0.0.0.0:80"] {
            assert_eq!(choose(&[host, "--no-token"], at, Some("abc")), Ok(None));
        }
        assert!(choose(&["--no-token", "--token=abc"], "127.0.0.1:80", None).is_err());
    }

    #[test]
    fn the_environment_has_a_token() {
        let at = "127.0.0.1:80";
        assert_eq!(choose(&[], at, Some("abc")), Ok(Some("abc".into())));
        assert_eq!(choose(&["--token=x"], at, Some("abc")), Ok(Some("x".into())));
        assert!(choose(&[], at, Some("a&b")).unwrap_err().starts_with(TOKEN_VARIABLE));
    }
}

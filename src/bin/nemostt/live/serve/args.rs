// SPDX-License-Identifier: MIT OR Apache-2.0

//! The options of the server.

use std::net::{Ipv4Addr, SocketAddr};

use clap::Args;

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

    /// Name under which the server is reached, besides its address and localhost, for example behind a proxy; can be repeated
    #[arg(long, value_name = "NAME", requires = "address")]
    pub serve_host: Vec<String>,

    /// Token that clients need [default: a random one, if other machines can reach the server]
    #[arg(long, value_name = "TOKEN", requires = "address")]
    token: Option<String>,
}

impl ServeArguments {
    /// Those of a server for tests, at a free port.
    #[cfg(test)]
    pub fn local() -> Self {
        Self {
            address: Some((Ipv4Addr::LOCALHOST, 0).into()),
            serve_host: Vec::new(),
            token: None,
        }
    }

    /// The token that clients of a server at `address` need.
    ///
    /// # Errors
    /// If it cannot be part of an address, or the system has no random numbers.
    pub fn token_for(&self, address: SocketAddr) -> Result<Option<String>, String> {
        if let Some(token) = &self.token {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            return match !token.is_empty() && token.bytes().all(is_plain) {
                true => Ok(Some(token.clone())),
                false => Err("--token: expected letters, digits, and - . _ ~".into()),
            };
        }
        if address.ip().is_loopback() {
            return Ok(None);
        }
        random_hex::<TOKEN_BYTES>().map(Some)
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
    let numeric = text.replace("localhost:", "127.0.0.1:");
    numeric
        .parse()
        .map_err(|_| "expected an IP address and a port, such as 127.0.0.1:8080, 0.0.0.0:8080 or [::1]:8080".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(given: Option<&str>, at: &str) -> Result<Option<String>, String> {
        let arguments = ServeArguments {
            address: None,
            serve_host: Vec::new(),
            token: given.map(Into::into),
        };
        arguments.token_for(at.parse().unwrap())
    }

    #[test]
    fn addresses_are_read() {
        let read = |text| address(text).map(|address| address.to_string());
        assert_eq!(read("8080"), Ok("127.0.0.1:8080".into()));
        assert_eq!(read("localhost:80"), Ok("127.0.0.1:80".into()));
        assert_eq!(read("[::]:80"), Ok("[::]:80".into()));
        for text in ["", "example.org:80", "127.0.0.1", ":80", "99999"] {
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
}

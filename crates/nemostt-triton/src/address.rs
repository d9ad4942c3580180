// SPDX-License-Identifier: MIT OR Apache-2.0

//! Where a model is served: `triton://host:port/model[,host2:port2…]`.

use std::{fmt, str::FromStr};

/// Triton's default port for gRPC.
const DEFAULT_PORT: u16 = 8001;
const NO_SCHEME: &str = "it starts with neither triton:// nor tritons://";

/// The address of a model on one or more servers: `triton://host:port/model`, with further servers as in
/// `triton://a:8001/model,b:8001`. `tritons://` uses TLS. Without a port, it is 8001; an IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// The servers, in the order in which they are tried; at least one.
    pub servers: Vec<Server>,
    /// Name of the model on all of them.
    pub model: String,
    /// Whether connections use TLS.
    pub tls: bool,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Its name or address, an IPv6 address in brackets.
    pub host: String,
    /// Its gRPC port.
    pub port: u16,
}

/// A text is not the address of a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not the address of a model on Triton: {reason}. Expected triton://HOST:PORT/MODEL, for TLS tritons://…, and \
     further servers as in triton://a:8001/model,b:8001"
)]
pub struct AddressError {
    /// The text.
    pub text: String,
    /// What is wrong.
    pub reason: String,
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text).map_err(|reason| AddressError {
            text: text.into(),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<Address, String> {
    let (scheme, rest) = text.trim().split_once("://").ok_or(NO_SCHEME)?;
    // RFC 3986, section 3.1: schemes are case-insensitive.
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "triton" => false,
        "tritons" => true,
        _ => return Err(NO_SCHEME.into()),
    };
    let (first, rest) = rest.split_once('/').ok_or("the name of the model is missing")?;
    let mut parts = rest.split(',').map(str::trim);
    let model = parts.next().unwrap_or_default();
    if model.is_empty() {
        return Err("the name of the model is missing".into());
    }
    // Names are directories there. There are no queries, fragments and escapes, so their characters are mistakes.
    let is_bad = |c: &char| c.is_whitespace() || c.is_control() || "/\\?#%".contains(*c);
    if let Some(bad) = model.chars().find(is_bad) {
        return Err(format!("the name of the model contains {bad:?}"));
    }
    let servers: Vec<Server> = std::iter::once(first)
        .chain(parts)
        .map(server)
        .collect::<Result<_, _>>()?;
    Ok(Address {
        servers,
        model: model.into(),
        tls,
    })
}

fn server(text: &str) -> Result<Server, String> {
    if text.contains('/') {
        return Err(format!(
            "\"{text}\": scheme and model are only written for the first server"
        ));
    }
    // The colon of a port comes after the bracket of an IPv6 address.
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (text, None),
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(format!("\"{port}\" is not a port (1 to 65535)")),
            Ok(port) => port,
        },
    };
    let is_ipv6 = host.starts_with('[') && host.ends_with(']');
    let is_name = !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    match is_name || is_ipv6 && host[1..host.len() - 1].parse::<std::net::Ipv6Addr>().is_ok() {
        true => Ok(Server {
            host: host.into(),
            port,
        }),
        false if host.is_empty() => Err("a host is missing".into()),
        false => Err(format!("\"{host}\" is no host")),
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tritons" } else { "triton" };
        let mut servers = self.servers.iter();
        if let Some(first) = servers.next() {
            write!(f, "{scheme}://{first}/{}", self.model)?;
        }
        servers.try_for_each(|server| write!(f, ",{server}"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_printed() {
        for (text, printed) in [
            ("triton://gpu:9001/encoder", "triton://gpu:9001/encoder"),
            ("triton://gpu/encoder", "triton://gpu:8001/encoder"),
            (
                "tritons://a.b-c/m_1,10.0.0.2:1,[::1]:2",
                "tritons://a.b-c:8001/m_1,10.0.0.2:1,[::1]:2",
            ),
            ("triton://[fe80::1]/m", "triton://[fe80::1]:8001/m"),
            (" TRITONS://a/m, b:1 ", "tritons://a:8001/m,b:1"),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse::<Address>().unwrap(), address);
        }
    }

    #[test]
    fn error_names_the_text_and_what_was_expected() {
        for (text, reason) in [
            ("", "neither triton:// nor"),
            ("http://gpu:8000/encoder", "neither triton:// nor"),
            ("triton://gpu:8001", "name of the model is missing"),
            ("triton://gpu:8001/", "name of the model is missing"),
            ("triton://gpu:8001/,b", "name of the model is missing"),
            ("triton:///encoder", "a host is missing"),
            ("triton://gpu:0/encoder", "\"0\" is not a port"),
            ("triton://gpu:70000/encoder", "\"70000\" is not a port"),
            ("triton://gpu/encoder,", "a host is missing"),
            ("triton://user@gpu/encoder", "\"user@gpu\" is no host"),
            ("triton://::1/encoder", "\":\" is no host"),
            ("triton://[::1/encoder", "is no host"),
            ("triton://gpu/a/b", "contains '/'"),
            ("gpu:8001/encoder", "neither triton:// nor"),
            ("triton://gpu/a b", "contains ' '"),
            ("triton://gpu/a?x=1", "contains '?'"),
            ("triton://gpu/a%2D", "contains '%'"),
            (
                "triton://a/m,b/m",
                "\"b/m\": scheme and model are only written for the first server",
            ),
            (
                "triton://a/m,triton://b/m",
                "scheme and model are only written for the first",
            ),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            let message = error.to_string();
            assert!(message.contains(reason), "{message}");
            assert!(
                message.contains(&format!("\"{text}\"")) && message.contains("Expected triton://HOST"),
                "{message}"
            );
        }
    }
}

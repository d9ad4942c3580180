// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options for an encoder on NVIDIA Triton.

use std::{fmt, time::Duration};

use clap::{Args, ValueEnum};
use gst::prelude::*;
use nemostt::{RemoteAddress, RemoteFallback, RemoteOptions};

/// Where the encoder runs, if not here.
#[derive(Debug, Clone, Args)]
pub struct RemoteArguments {
    /// Encoder on NVIDIA Triton, triton://HOST:PORT/MODEL (tritons:// with TLS), further servers as in
    /// triton://a:8001/model,b:8001. Decoding stays here
    #[arg(long, value_name = "URL")]
    remote: Option<RemoteAddress>,

    /// What is done while no server can be used
    #[arg(long, default_value = "cpu", requires = "remote")]
    remote_fallback: Fallback,

    /// Time in ms that a server may take for a chunk; after it, the next server is tried
    #[arg(long, value_name = "MS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(10..=600_000), requires = "remote")]
    remote_timeout: u32,

    /// Header of each request, for a proxy that authenticates; may be repeated. Other users of this machine can see it in the list
    /// of processes
    #[arg(long, value_name = "NAME=VALUE", value_parser = header, requires = "remote")]
    remote_header: Vec<Header>,
}

/// A header, whose value may be a password: `Debug` does not have it.
#[derive(Clone)]
struct Header {
    name: String,
    value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn header(text: &str) -> Result<Header, &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(Header {
            name: name.into(),
            value: value.into(),
        }),
        _ => Err("expected NAME=VALUE, such as \"authorization=Bearer …\""),
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Fallback {
    /// The encoder runs here, until a server is back
    Cpu,
    /// Audio waits for a server
    None,
}

impl RemoteArguments {
    pub fn options(&self) -> Option<RemoteOptions> {
        let address = self.remote.clone()?;
        Some(RemoteOptions {
            fallback: match self.remote_fallback {
                Fallback::Cpu => RemoteFallback::Cpu,
                Fallback::None => RemoteFallback::None,
            },
            timeout: Duration::from_millis(self.remote_timeout.into()),
            headers: self
                .remote_header
                .iter()
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
            ..RemoteOptions::new(address)
        })
    }

    /// Sets the properties of the element `nemostt`.
    pub fn configure(&self, element: &gst::Element) {
        let Some(address) = &self.remote else { return };
        element.set_property("remote", address.to_string());
        let fallback = match self.remote_fallback {
            Fallback::Cpu => "cpu",
            Fallback::None => "none",
        };
        element.set_property_from_str("remote-fallback", fallback);
        element.set_property("remote-timeout", self.remote_timeout);
        if !self.remote_header.is_empty() {
            let mut headers = gst::Structure::new_empty("headers");
            for header in &self.remote_header {
                headers.set(&*header.name, &header.value);
            }
            element.set_property("remote-headers", headers);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        remote: RemoteArguments,
    }

    #[test]
    fn flags_become_options() {
        let options = |line: &str| Line::try_parse_from(line.split(' ')).map(|line| line.remote.options());
        let line = "x --remote triton://a/m,b:9 --remote-fallback none --remote-timeout 250 --remote-header x-a=b=c --remote-header n=";
        let found = options(line).unwrap().unwrap();
        assert_eq!(found.address.to_string(), "triton://a:8001/m,b:9");
        assert_eq!(found.fallback, RemoteFallback::None);
        assert_eq!(found.timeout, Duration::from_millis(250));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(found.headers, [header("x-a", "b=c"), header("n", "")]);
        assert_eq!(options("x").unwrap(), None);
        for bad in ["x-a", "=b"] {
            let error = options(&format!("x --remote triton://a/m --remote-header {bad}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("expected NAME=VALUE"), "{error}");
        }
        assert!(options("x --remote-header a=b").is_err());
        let error = options("x --remote http://a").unwrap_err().to_string();
        assert!(error.contains("Expected triton://HOST:PORT/MODEL"), "{error}");
        assert!(options("x --remote-fallback none").is_err());
    }
}

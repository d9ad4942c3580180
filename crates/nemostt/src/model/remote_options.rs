// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options for an encoder on an inference server.

use std::{fmt, time::Duration};

use nemostt_triton::{Address, AddressError};

/// An encoder that NVIDIA Triton runs. Everything else of the model runs here: the front end, decoding, and what is done to words.
#[derive(Clone, PartialEq)]
pub struct RemoteOptions {
    /// The servers, and the name of the encoder there.
    pub address: Address,
    /// What streams do while no server can be used.
    pub fallback: RemoteFallback,
    /// What a step may take on a server, with the way there and back.
    pub timeout: Duration,
    /// Headers of each request, for proxies that authenticate, for example.
    pub headers: Vec<(String, String)>,
    /// How often servers that cannot be used are tried.
    pub delays: RetryDelays,
}

impl RemoteOptions {
    /// The encoder at `address`, with defaults for the rest.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            fallback: RemoteFallback::default(),
            timeout: Duration::from_secs(1),
            headers: Vec::new(),
            delays: RetryDelays::default(),
        }
    }

    /// The address that is written as `triton://HOST:PORT/MODEL`: see [`Address`].
    ///
    /// # Errors
    /// [`Error::Remote`](crate::Error::Remote), which says what was expected.
    pub fn parse_address(text: &str) -> crate::Result<Address> {
        let address: Result<Address, AddressError> = text.parse();
        address.map_err(|error| crate::Error::Remote(error.into()))
    }
}

/// Without the values of headers, which may be passwords.
impl fmt::Debug for RemoteOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("RemoteOptions")
            .field("address", &self.address.to_string())
            .field("fallback", &self.fallback)
            .field("timeout", &self.timeout)
            .field("headers", &headers)
            .field("delays", &self.delays)
            .finish()
    }
}

/// What streams do while no server can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoteFallback {
    /// They run on the CPU. The first stream that does loads the encoder, which takes seconds if it is large.
    #[default]
    Cpu,
    /// They wait. No audio is lost, but words are late.
    None,
}

/// Times between attempts to reach servers; each is chosen at random from its second half, so that streams do not all come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDelays {
    /// Before the second attempt of a stream that waits. It doubles with each attempt.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// After a stream has moved to the CPU, until it looks for a server for the first time. It doubles each time that a stream does
    /// not stay on the server for as long as `longest_return`.
    pub first_return: Duration,
    /// The longest of these.
    pub longest_return: Duration,
}

impl Default for RetryDelays {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(100),
            longest: Duration::from_secs(5),
            first_return: Duration::from_secs(5),
            longest_return: Duration::from_secs(120),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    #[test]
    fn values_of_headers_are_not_printed() {
        let options = RemoteOptions {
            headers: vec![("authorization".into(), "secret".into())],
            ..RemoteOptions::new("triton://gpu/encoder".parse().unwrap())
        };
        let text = format!("{options:?}");
        assert!(
            text.contains("authorization") && text.contains("triton://gpu:8001/encoder"),
            "{text}"
        );
        assert!(!text.contains("secret"), "{text}");
    }
}

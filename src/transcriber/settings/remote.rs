// SPDX-License-Identifier: MIT OR Apache-2.0

//! The properties of an encoder on an inference server.

use std::time::Duration;

use gst::{glib, prelude::*};
use nemostt::{RemoteOptions, Result};

use super::properties::read;
use crate::transcriber::enums::NemoSttRemoteFallback;

const NAMES: [&str; 5] = [
    "remote",
    "remote-fallback",
    "remote-timeout",
    "remote-latency",
    "remote-headers",
];

/// The values of the properties.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::transcriber) struct RemoteSettings {
    /// The address. `None`: the encoder runs here.
    address: Option<String>,
    fallback: NemoSttRemoteFallback,
    /// What a request may take, in milliseconds.
    timeout: u32,
    /// What requests add to the latency, in milliseconds.
    latency: u32,
    headers: Option<gst::Structure>,
}

impl Default for RemoteSettings {
    fn default() -> Self {
        Self {
            address: None,
            fallback: NemoSttRemoteFallback::default(),
            timeout: 1000,
            latency: 100,
            headers: None,
        }
    }
}

impl RemoteSettings {
    /// Whether a property is one of these.
    pub(super) fn has(name: &str) -> bool {
        NAMES.contains(&name)
    }

    /// Options for the recognizer; `None` if the encoder runs here.
    ///
    /// # Errors
    /// If the address cannot be used.
    pub(super) fn options(&self) -> Result<Option<RemoteOptions>> {
        let Some(address) = &self.address else {
            return Ok(None);
        };
        Ok(Some(RemoteOptions {
            fallback: self.fallback.into(),
            timeout: Duration::from_millis(self.timeout.into()),
            headers: self.headers(),
            ..RemoteOptions::new(RemoteOptions::parse_address(address)?)
        }))
    }

    /// What requests add to the latency, in milliseconds.
    pub(super) fn latency(&self) -> u32 {
        match self.address {
            Some(_) => self.latency,
            None => 0,
        }
    }

    /// Whether the encoder is meant to run on a server.
    pub(super) fn is_used(&self) -> bool {
        self.address.is_some()
    }

    fn headers(&self) -> Vec<(String, String)> {
        let fields = self.headers.iter().flat_map(|headers| headers.iter());
        let text = |value: &glib::SendValue| match value.get::<&str>() {
            Ok(text) => text.to_owned(),
            Err(_) => value.serialize().map_or_else(|_| String::new(), Into::into),
        };
        fields.map(|(name, value)| (name.to_string(), text(value))).collect()
    }

    /// The descriptions of the properties.
    pub(super) fn param_specs() -> Vec<glib::ParamSpec> {
        let default = Self::default();
        vec![
            glib::ParamSpecString::builder("remote")
                .nick("Remote Encoder")
                .blurb(
                    "Address of the encoder on NVIDIA Triton, triton://HOST:PORT/MODEL (tritons:// with TLS), further servers \
                     after commas: triton://a:8001/model,b:8001. Decoding stays here, with the model of model-path. Unset: the \
                     encoder runs here",
                )
                .mutable_ready()
                .build(),
            glib::ParamSpecEnum::builder_with_default("remote-fallback", default.fallback)
                .nick("Remote Fallback")
                .blurb("What is done while no server of remote can be used")
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("remote-timeout")
                .nick("Remote Timeout")
                .blurb("Time in milliseconds that a server may take for a chunk; after it, the next server is tried")
                .minimum(10)
                .maximum(600_000)
                .default_value(default.timeout)
                .mutable_ready()
                .build(),
            glib::ParamSpecUInt::builder("remote-latency")
                .nick("Remote Latency")
                .blurb(
                    "Time in milliseconds that a chunk may take to a server and back, besides latency, which is for computing; the \
                     reported latency has both if remote is set",
                )
                .maximum(60_000)
                .default_value(default.latency)
                .mutable_playing()
                .build(),
            glib::ParamSpecBoxed::builder::<gst::Structure>("remote-headers")
                .nick("Remote Headers")
                .blurb("Headers of requests to servers of remote, such as headers,authorization=\"Bearer …\"")
                .mutable_ready()
                .build(),
        ]
    }

    /// Sets the property `name`.
    pub(super) fn set(&mut self, name: &str, value: &glib::Value) {
        match name {
            "remote" => self.address = read::<Option<String>>(value).filter(|address| !address.is_empty()),
            "remote-fallback" => self.fallback = read(value),
            "remote-timeout" => self.timeout = read(value),
            "remote-latency" => self.latency = read(value),
            _ => self.headers = read(value),
        }
    }

    /// The value of the property `name`.
    pub(super) fn get(&self, name: &str) -> glib::Value {
        match name {
            "remote" => self.address.to_value(),
            "remote-fallback" => self.fallback.to_value(),
            "remote-timeout" => self.timeout.to_value(),
            "remote-latency" => self.latency.to_value(),
            _ => self.headers.to_value(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use nemostt::RemoteFallback;

    use super::*;

    #[test]
    fn properties_become_options() {
        gst::init().unwrap();
        let mut settings = RemoteSettings::default();
        assert_eq!(settings.options().unwrap(), None);
        assert_eq!(settings.latency(), 0);
        settings.set("remote", &"triton://a/m,b:9".to_value());
        settings.set("remote-timeout", &250_u32.to_value());
        settings.set("remote-fallback", &NemoSttRemoteFallback::None.to_value());
        let headers = gst::Structure::builder("headers")
            .field("x-a", "b c")
            .field("x-n", 7)
            .build();
        settings.set("remote-headers", &headers.to_value());
        let options = settings.options().unwrap().unwrap();
        assert_eq!(options.address.to_string(), "triton://a:8001/m,b:9");
        assert_eq!(options.timeout, Duration::from_millis(250));
        assert_eq!(options.fallback, RemoteFallback::None);
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(options.headers, [header("x-a", "b c"), header("x-n", "7")]);
        assert_eq!(settings.latency(), 100);

        settings.set("remote", &"http://a".to_value());
        let error = settings.options().unwrap_err().to_string();
        assert!(
            error.contains("\"http://a\"") && error.contains("triton://HOST:PORT/MODEL"),
            "{error}"
        );
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Settings from the environment variables of the Python package `huggingface_hub`.

use std::{fs, path::PathBuf, time::Duration};

use super::error::{Error, Result};

const ENDPOINT: &str = "https://huggingface.co";
/// Timeout of a request without data.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Locations of the hub and its cache.
#[derive(Debug)]
pub struct HubEnv {
    /// `HF_ENDPOINT`, without a trailing slash.
    pub endpoint: String,
    /// `HF_TOKEN`, or the token file of `hf auth login`.
    pub token: Option<String>,
    /// `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub cache: PathBuf,
    /// `HF_HUB_OFFLINE`: use the cache only, without requests.
    pub offline: bool,
    /// `HF_HUB_DOWNLOAD_TIMEOUT`, in seconds.
    pub timeout: Duration,
}

impl HubEnv {
    pub fn from_env() -> Result<Self> {
        Self::from(|name| std::env::var(name).ok())
    }

    fn from(get: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let set = |name: &str| {
            get(name)
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.into());
        if !endpoint.starts_with("https://") && !endpoint.starts_with("http://") {
            return Err(Error::Variable {
                name: "HF_ENDPOINT",
                value: endpoint,
                expected: "a URL such as https://huggingface.co",
            });
        }
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
            Some(cache.join("huggingface"))
        });
        let cache = set("HF_HUB_CACHE").or_else(|| set("HUGGINGFACE_HUB_CACHE"));
        let cache = cache.map(PathBuf::from).or_else(|| Some(home.clone()?.join("hub")));
        let token = set("HF_TOKEN").or_else(|| {
            let path = set("HF_TOKEN_PATH")
                .map(PathBuf::from)
                .or_else(|| Some(home?.join("token")))?;
            Some(fs::read_to_string(path).ok()?.trim().to_owned()).filter(|token| !token.is_empty())
        });
        let timeout = match set("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => TIMEOUT,
            Some(value) => match value.parse() {
                Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
                _ => {
                    return Err(Error::Variable {
                        name: "HF_HUB_DOWNLOAD_TIMEOUT",
                        value,
                        expected: "a number of seconds",
                    });
                }
            },
        };
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').into(),
            token,
            cache: cache.ok_or(Error::NoHome)?,
            offline: set("HF_HUB_OFFLINE").is_some_and(|value| is_true(&value)),
            timeout,
        })
    }
}

/// As `huggingface_hub` parses booleans.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubEnv> {
        HubEnv::from(|name| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        for (variables, cache) in [
            (&[("HOME", "/home/a")][..], "/home/a/.cache/huggingface/hub"),
            (&[("HOME", "/home/a"), ("XDG_CACHE_HOME", "/x")], "/x/huggingface/hub"),
            (&[("HOME", "/home/a"), ("HF_HOME", "/h")], "/h/hub"),
            (&[("HF_HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/old")], "/old"),
            (&[("HUGGINGFACE_HUB_CACHE", "/old"), ("HF_HUB_CACHE", "/c")], "/c"),
        ] {
            assert_eq!(
                settings(variables).unwrap().cache,
                PathBuf::from(cache),
                "{variables:?}"
            );
        }
        assert!(settings(&[]).unwrap_err().to_string().contains("HF_HOME"));
    }

    #[test]
    fn booleans_and_urls_are_parsed_as_huggingface_hub_does() {
        let found = settings(&[
            ("HF_HOME", "/h"),
            ("HF_HUB_OFFLINE", "True"),
            ("HF_ENDPOINT", "http://mirror/"),
        ])
        .unwrap();
        assert!(found.offline);
        assert_eq!(found.endpoint, "http://mirror");
        let found = settings(&[("HF_HOME", "/h"), ("HF_HUB_OFFLINE", "0"), ("HF_ENDPOINT", " ")]).unwrap();
        assert!(!found.offline);
        assert_eq!(found.endpoint, ENDPOINT);
    }

    #[test]
    fn invalid_values_are_named() {
        for (name, value) in [
            ("HF_ENDPOINT", "mirror"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "soon"),
            ("HF_HUB_DOWNLOAD_TIMEOUT", "0"),
        ] {
            let message = settings(&[("HF_HOME", "/h"), (name, value)]).unwrap_err().to_string();
            assert!(message.contains(name) && message.contains(value), "{message}");
        }
    }

    #[test]
    fn the_token_may_be_in_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path().to_str().unwrap();
        assert_eq!(settings(&[("HF_HOME", home)]).unwrap().token, None);
        fs::write(directory.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(
            settings(&[("HF_HOME", home)]).unwrap().token.as_deref(),
            Some("hf_file")
        );
        let both = settings(&[("HF_HOME", home), ("HF_TOKEN", "hf_variable")]).unwrap();
        assert_eq!(both.token.as_deref(), Some("hf_variable"));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What a model on an inference server must have in common with the local one, whose front end makes its input and whose
//! decoder reads its output.

use std::{collections::BTreeMap, fmt, io};

use bytes::Bytes;

use crate::{
    error::{Error, Result},
    features::FrontEndConfig,
    model::{
        compiled_cache::{hash_of_bytes, hash_of_file},
        directory::{NamedEncoder, SourceFile},
    },
};
use nemostt_compiler::StreamingConfig;

/// The version of the [tensors](super::ServedTensors) and parameters.
const FORMAT: u32 = 1;

/// What the names of all parameters begin with.
const PREFIX: &str = "nemostt.";

/// Parameters of a served encoder, which the server keeps with it (Triton: `parameters` of `config.pbtxt`). If all of them
/// are equal, an encoder on a server is that of the local model for the same windows; its frames agree up to rounding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelIdentity {
    parameters: BTreeMap<String, String>,
}

/// A parameter in which a served encoder differs from the local model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name.
    pub name: String,
    /// Its value here.
    pub local: String,
    /// Its value on the server, if it has one.
    pub remote: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, local, remote } = self;
        match remote {
            Some(remote) => write!(f, "{name} is {remote} there and {local} here"),
            None => write!(f, "{name} is missing there and {local} here"),
        }
    }
}

/// What an identity is made of.
pub(in crate::model) struct IdentityParts<'a> {
    pub(in crate::model) encoder: &'a NamedEncoder,
    pub(in crate::model) streaming: &'a StreamingConfig,
    pub(in crate::model) front_end: &'a FrontEndConfig,
    /// In encoder frames.
    pub(in crate::model) lookahead: usize,
    pub(in crate::model) vocabulary: &'a SourceFile,
}

impl ModelIdentity {
    /// The identity of a local model. Reads all files of its encoder once, to hash them.
    ///
    /// # Errors
    /// [`Error::Read`] if they cannot be read.
    pub(in crate::model) fn of(parts: &IdentityParts<'_>) -> Result<Self> {
        let IdentityParts {
            encoder,
            streaming,
            front_end,
            lookahead,
            vocabulary,
        } = parts;
        let contract = encoder.part.contract;
        let prompts = match contract.prompt {
            None => "none".into(),
            Some(None) => "any".into(),
            Some(Some(prompts)) => prompts.to_string(),
        };
        let decoder = if contract.ctc { "ctc" } else { "rnnt" };
        let values: [(&str, String); 16] = [
            ("format", FORMAT.to_string()),
            ("decoder", decoder.into()),
            ("lookahead", lookahead.to_string()),
            ("sample_rate", front_end.sample_rate.to_string()),
            ("window", front_end.window.to_string()),
            ("hop", front_end.hop.to_string()),
            ("fft", front_end.fft.to_string()),
            ("mels", front_end.mels.to_string()),
            ("preemphasis", front_end.preemphasis.to_string()),
            ("layers", streaming.layers.to_string()),
            ("d_model", streaming.d_model.to_string()),
            ("left_context", streaming.left_context.to_string()),
            ("conv_context", streaming.conv_context.to_string()),
            ("prompts", prompts),
            ("vocabulary", blake3::hash(&vocabulary.bytes).to_hex().to_string()),
            ("encoder", encoder_hash(encoder)?),
        ];
        let named = values.map(|(name, value)| (format!("{PREFIX}{name}"), value));
        Ok(Self {
            parameters: named.into(),
        })
    }

    /// All parameters, by name.
    pub fn parameters(&self) -> &BTreeMap<String, String> {
        &self.parameters
    }

    /// In what `remote`, the parameters of a model on a server, differ. What else it has does not matter.
    pub fn differences(&self, remote: &BTreeMap<String, String>) -> Vec<Difference> {
        let differs = |(name, local): (&String, &String)| {
            let remote = remote.get(name);
            (remote != Some(local)).then(|| Difference {
                name: name.clone(),
                local: local.clone(),
                remote: remote.cloned(),
            })
        };
        self.parameters.iter().filter_map(differs).collect()
    }
}

/// A hash of the files of an encoder: graph, then weights.
fn encoder_hash(encoder: &NamedEncoder) -> Result<String> {
    let part = &encoder.part;
    let hashes: io::Result<Vec<_>> = match &part.unread {
        Some(unread) => unread.files.iter().map(|path| hash_of_file(path)).collect(),
        None if part.embedded.is_empty() => Ok(part.graph.files().iter().map(|file| hash_of_bytes(file)).collect()),
        None => Ok(part.embedded.iter().map(|file: &Bytes| hash_of_bytes(file)).collect()),
    };
    let hashes = hashes.map_err(|source| Error::Read {
        path: encoder.name.clone().into(),
        source,
    })?;
    let mut hasher = blake3::Hasher::new();
    for hash in hashes {
        hasher.update(hash.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    fn identity(values: &[(&str, &str)]) -> ModelIdentity {
        let parameters = values.iter().map(|&(name, value)| (name.into(), value.into()));
        ModelIdentity {
            parameters: parameters.collect(),
        }
    }

    #[test]
    fn differences_name_both_values() {
        let local = identity(&[
            ("nemostt.hop", "160"),
            ("nemostt.lookahead", "6"),
            ("nemostt.mels", "80"),
        ]);
        let mut remote = local.parameters().clone();
        remote.insert("execution_mode".into(), "1".into());
        assert_eq!(local.differences(&remote), []);
        remote.insert("nemostt.lookahead".into(), "13".into());
        remote.remove("nemostt.mels");
        let lines: Vec<String> = local.differences(&remote).iter().map(Difference::to_string).collect();
        assert_eq!(
            lines,
            [
                "nemostt.lookahead is 13 there and 6 here",
                "nemostt.mels is missing there and 80 here"
            ]
        );
    }
}

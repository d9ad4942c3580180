// SPDX-License-Identifier: MIT OR Apache-2.0

//! `nemostt triton-repository`: writes a model for NVIDIA Triton.

mod config;
mod readme;
mod store;
mod text_format;

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use config::{Settings, config};
use nemostt::{DecoderKind, Options, PrecisionChoice, ServedEncoder};
use readme::readme;
use store::{Files, check_repository, exists, store};

use crate::{
    Result,
    model_args::{EMBEDDED, decoder},
};

/// Streams in a batch if no option says otherwise, on a GPU and on processors.
const BATCH: [usize; 2] = [64, 8];

/// Streams for each slot of a batch, if no option says otherwise. A stream sends a request per chunk, so several share one.
const STREAMS_PER_BATCH_SLOT: usize = 8;

/// More streams or a larger batch are typing errors.
const MAX_STREAMS: usize = 1 << 16;

/// Longest name of a directory, on Linux's file systems.
const MAX_NAME: usize = 255;

/// Write a model for NVIDIA Triton, which then runs the encoders of many machines' streams
///
/// Writes OUT/NAME with the encoder as one ONNX file, its config.pbtxt, and a README with the command that serves it, what it
/// needs, and what to watch. Streams are sequences, whose caches stay on the server.
#[derive(Debug, Args)]
pub struct TritonRepository {
    /// Model directory, one encoder or CTC graph of several in it, or "embedded" for the built-in demo model
    #[arg(value_name = "MODEL")]
    model: PathBuf,

    /// The model repository: a directory, which is made if there is none. A model of the same name in it is not replaced
    #[arg(value_name = "OUT", value_parser = crate::directory())]
    out: PathBuf,

    /// Right context in milliseconds that the encoder sees before a frame is decoded; each lookahead is a model of its own
    /// [default: the model's own]
    #[arg(long, value_name = "MS")]
    lookahead: Option<u32>,

    /// Decoder that the clients use: the CTC head runs on the server
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "rnnt", "ctc"]).map(decoder))]
    decoder: DecoderKind,

    /// For a server with a GPU [default]
    #[arg(long, conflicts_with = "cpu")]
    gpu: bool,

    /// For a server without one
    #[arg(long)]
    cpu: bool,

    /// Streams that are computed together at most [default: 64 on a GPU, 8 on processors]
    #[arg(long, value_name = "N")]
    batch: Option<NonZeroUsize>,

    /// Streams at the same time at most, on each GPU; their caches take memory [default: 8 for each slot of a batch]
    #[arg(long, value_name = "N")]
    streams: Option<NonZeroUsize>,

    /// Convert weights in fp16 to fp32; for processors they always are
    #[arg(long)]
    fp32: bool,

    /// Name of the model on the server [default: that of MODEL, the lookahead, and -ctc for a CTC head]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

impl TritonRepository {
    pub fn run(&self) -> Result<()> {
        let (batch, streams) = self.sizes()?;
        if let Some(name) = &self.name {
            check_name(name)?;
        }
        check_repository(&self.out)?;
        let options = Options {
            lookahead: self.lookahead,
            decoder: self.decoder,
            precision: if self.fp32 {
                PrecisionChoice::Fp32
            } else {
                PrecisionChoice::Auto
            },
            ..Default::default()
        };
        let encoder = compile(&self.model, &options, !self.cpu)?;
        let settings = Settings {
            name: self.name.clone().unwrap_or_else(|| self.default_name(&encoder)),
            gpu: !self.cpu,
            batch,
            streams,
        };
        check_name(&settings.name)?;
        let target = self.out.join(&settings.name);
        if fs::symlink_metadata(&target).is_ok() {
            return Err(exists(&target).into());
        }
        let text = |name: &str, text: String| (name.into(), vec![text.into_bytes().into()]);
        let mut files: Files<'_> = vec![
            text("config.pbtxt", config(&encoder, &settings)),
            text("README.md", readme(&encoder, &settings)),
        ];
        let model = encoder.files()?;
        files.extend(
            model
                .into_iter()
                .map(|(name, parts)| (Path::new("1").join(name), parts)),
        );
        store(&self.out, &settings.name, &files)?;
        println!("{}", target.display());
        Ok(())
    }

    /// Sizes of a batch, and of all streams.
    fn sizes(&self) -> std::result::Result<(usize, usize), String> {
        let batch = self.batch.map_or(BATCH[usize::from(self.cpu)], NonZeroUsize::get);
        let streams = self
            .streams
            .map_or(batch.saturating_mul(STREAMS_PER_BATCH_SLOT), NonZeroUsize::get);
        for (option, value) in [("--batch", batch), ("--streams", streams)] {
            if value > MAX_STREAMS {
                return Err(format!("{option} is {value}, but must be 1 to {MAX_STREAMS}"));
            }
        }
        match streams < batch {
            true => Err(format!(
                "--streams {streams} is less than --batch {batch}: a batch would never be full. Raise --streams, or pass \
                 --batch {streams}"
            )),
            false => Ok((batch, streams)),
        }
    }

    /// The name of the model directory with what distinguishes its models, in characters that need no escapes in addresses.
    fn default_name(&self, encoder: &ServedEncoder) -> String {
        let path = self.model.canonicalize().unwrap_or_else(|_| self.model.clone());
        // The dots of a directory are not those of an extension: nemotron-0.6b.
        let stem = if path.is_dir() {
            path.file_name()
        } else {
            path.file_stem()
        };
        let stem = stem.map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let plain: String = stem.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let plain = plain.trim_start_matches(['.', '-']);
        let is_ctc = encoder.tensors.outputs.iter().any(|output| output.name == "logprobs");
        let head = if is_ctc { "-ctc" } else { "" };
        format!(
            "{}-{}ms{head}",
            if plain.is_empty() { "model" } else { plain },
            encoder.lookahead_ms
        )
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

/// A name is part of a path here, and of an address for clients.
fn check_name(name: &str) -> std::result::Result<(), String> {
    if name.len() > MAX_NAME {
        return Err(format!(
            "the name of the model has {} characters, but a directory has {MAX_NAME} at most: choose a shorter one with --name",
            name.len()
        ));
    }
    match !name.is_empty() && !name.starts_with(['.', '-']) && name.chars().all(is_plain) {
        true => Ok(()),
        false => Err(format!(
            "--name {name:?}: expected ASCII letters, digits, dots, hyphens and underscores, and a letter, digit or underscore at the start"
        )),
    }
}

fn compile(path: &Path, options: &Options, gpu: bool) -> nemostt::Result<ServedEncoder> {
    #[cfg(feature = "embedded-model")]
    if path.as_os_str() == EMBEDDED && !path.exists() {
        return ServedEncoder::compile_embedded(options, gpu);
    }
    ServedEncoder::compile(path, options, gpu)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: TritonRepository,
    }

    fn parse(line: &str) -> TritonRepository {
        Line::try_parse_from(line.split(' ')).unwrap().arguments
    }

    #[test]
    fn sizes_have_defaults_and_limits() {
        assert_eq!(parse("x m o").sizes(), Ok((64, 512)));
        assert_eq!(parse("x m o --cpu").sizes(), Ok((8, 64)));
        assert_eq!(parse("x m o --batch 3 --streams 3").sizes(), Ok((3, 3)));
        let error = parse("x m o --batch 16 --streams 8").sizes().unwrap_err();
        assert!(error.contains("--batch 8"), "{error}");
        let error = parse("x m o --streams 70000").sizes().unwrap_err();
        assert_eq!(error, "--streams is 70000, but must be 1 to 65536");
        assert!(Line::try_parse_from(["x", "m", "o", "--gpu", "--cpu"]).is_err());
    }

    #[test]
    fn names_are_parts_of_addresses() {
        for name in ["en", "large-480ms_v1.2"] {
            assert_eq!(check_name(name), Ok(()));
        }
        for name in ["", ".hidden", "..", "-x", "a/b", "a b", "é"] {
            assert!(check_name(name).unwrap_err().starts_with("--name"), "{name}");
        }
        assert_eq!(check_name(&"n".repeat(MAX_NAME)), Ok(()));
        let error = check_name(&"n".repeat(MAX_NAME + 1)).unwrap_err();
        assert!(
            error.contains("has 256 characters") && error.contains("--name"),
            "{error}"
        );
    }
}

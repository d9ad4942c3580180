// SPDX-License-Identifier: MIT OR Apache-2.0

//! Options that several subcommands share: which model to use, and how to run it.

use std::{
    env,
    ffi::OsString,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

#[cfg(feature = "triton")]
use crate::remote_args::RemoteArguments;
use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser},
};
use gst::prelude::*;
use gstnemostt::runtime_directories;
use nemostt::{Cache, CacheDirectory, DecoderKind, Device, GraphOptimization, Options, PrecisionChoice, Recognizer};

/// Names the model directory if no option does. The element reads it, too.
const VARIABLE: &str = "NEMOSTT_MODEL";
/// Name of the demo model in reports.
pub const EMBEDDED: &str = "embedded";
/// Printed when the demo model transcribes: on real speech it writes nonsense with high confidence.
const DEMO_NOTICE: &str = "this is the built-in demo model: trained on synthetic speech, about 100 words, for demonstration \
     only. For real speech, list models with `nemostt models`, download one with `nemostt fetch NAME`, and pass its \
     directory with --model or NEMOSTT_MODEL";

/// A model and how to run it.
#[derive(Debug, Clone, Args)]
pub struct ModelArguments {
    /// Model directory [default: $NEMOSTT_MODEL, else the built-in demo model]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,

    /// Decoder
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "rnnt", "ctc"]).map(decoder))]
    decoder: DecoderKind,

    /// Where the model runs: auto, cpu, cuda, tensorrt, openvino, openvino:gpu, openvino:npu, coreml or directml. cuda:1,
    /// tensorrt:1, openvino:gpu.1 and directml:1 are the second ones
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    device: Device,

    /// Precision of the encoder: that of the file, or int8 (faster, a few words differ)
    #[arg(long, default_value = "auto", value_parser = PossibleValuesParser::new(["auto", "fp32", "int8"]).map(precision))]
    precision: PrecisionChoice,

    /// Threads per model, at most one per available processor; 0: one for a small model, one per physical core for a large
    /// one
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    /// Streams whose chunks are computed together at most [default: as many as take little longer than one]
    #[arg(long, value_name = "N")]
    max_batch: Option<NonZeroUsize>,

    /// Streams that there may be at the same time on a GPU, which gets memory for all of them [default: as many as fit in
    /// 512 MiB]
    #[arg(long, value_name = "N")]
    max_streams: Option<NonZeroUsize>,

    /// Launch the kernels of each step one by one on a GPU, to measure what CUDA graphs are worth
    #[arg(long, hide = true)]
    no_cuda_graphs: bool,

    /// Rewrite the encoder's graph for speed when it is loaded, or run it as exported; the text is the same
    #[arg(long, default_value = "all", value_parser = PossibleValuesParser::new(["all", "none"]).map(optimization))]
    graph_optimization: GraphOptimization,

    #[cfg(feature = "triton")]
    #[command(flatten)]
    remote: RemoteArguments,

    /// Cache for optimized graphs of large models; "" disables it [default: nemostt/graphs in $XDG_CACHE_HOME or ~/.cache]
    #[arg(long, value_name = "DIR")]
    cache_directory: Option<OsString>,
}

impl ModelArguments {
    /// The name of the model in reports.
    pub fn name(&self) -> String {
        self.path().map_or(EMBEDDED.into(), |path| path.display().to_string())
    }

    /// Loads the model with `lookahead` in milliseconds, or with its default.
    pub fn load(&self, lookahead: Option<u32>) -> nemostt::Result<Recognizer> {
        self.load_with_threads(lookahead, self.threads)
    }

    /// As [`load`](Self::load), without the cache; the encoder's graph after each pass goes into `dump_graphs`.
    pub fn compile(&self, lookahead: Option<u32>, dump_graphs: Option<PathBuf>) -> nemostt::Result<Recognizer> {
        let mut options = self.options(lookahead);
        options.cache.directory = CacheDirectory::Off;
        options.dump_graphs = dump_graphs;
        load(self.path().as_deref(), &options)
    }

    /// As [`load`](Self::load), with another number of threads.
    pub fn load_with_threads(&self, lookahead: Option<u32>, threads: usize) -> nemostt::Result<Recognizer> {
        let options = Options {
            threads,
            ..self.options(lookahead)
        };
        load(self.path().as_deref(), &options)
    }

    /// A notice about the demo model, once per process.
    pub fn notice(&self) -> Option<&'static str> {
        static IS_GIVEN: AtomicBool = AtomicBool::new(false);
        let is_demo = self.path().is_none();
        (is_demo && !IS_GIVEN.swap(true, Ordering::Relaxed)).then_some(DEMO_NOTICE)
    }

    /// The model directory, if one is named by the option or the environment.
    fn path(&self) -> Option<PathBuf> {
        let environment = || env::var_os(VARIABLE).filter(|path| !path.is_empty());
        self.model.clone().or_else(|| environment().map(PathBuf::from))
    }

    /// Sets the properties of the element `nemostt`, so that it loads the same model in the same way.
    ///
    /// # Errors
    /// If an option has a value that the property of the same name cannot have.
    pub fn configure(&self, element: &gst::Element) -> Result<(), String> {
        if let Some(path) = self.path() {
            let path = path.to_str().ok_or_else(|| not_utf8("--model", &path))?;
            element.set_property("model-path", path);
        }
        element.set_property_from_str(
            "decoder",
            match self.decoder {
                DecoderKind::Rnnt => "rnnt",
                DecoderKind::Ctc => "ctc",
                _ => "auto",
            },
        );
        element.set_property_from_str(
            "graph-optimization",
            match self.graph_optimization {
                GraphOptimization::None => "none",
                _ => "all",
            },
        );
        element.set_property_from_str(
            "precision",
            match self.precision {
                PrecisionChoice::Fp32 => "fp32",
                PrecisionChoice::Int8 => "int8",
                _ => "auto",
            },
        );
        element.set_property("device", self.device.to_string());
        #[cfg(feature = "triton")]
        self.remote.configure(element);
        set_number(element, "threads", self.threads)?;
        set_number(element, "max-batch", self.max_batch.map_or(0, NonZeroUsize::get))?;
        set_number(element, "max-streams", self.max_streams.map_or(0, NonZeroUsize::get))?;
        if let Some(path) = &self.cache_directory {
            let path = path
                .to_str()
                .ok_or_else(|| not_utf8("--cache-directory", Path::new(path)))?;
            element.set_property("cache-directory", path);
        }
        Ok(())
    }

    fn options(&self, lookahead: Option<u32>) -> Options {
        Options {
            lookahead,
            decoder: self.decoder,
            device: self.device,
            threads: self.threads,
            max_batch: self.max_batch.map(NonZeroUsize::get),
            max_streams: self.max_streams.map(NonZeroUsize::get),
            cuda_graphs: !self.no_cuda_graphs,
            graph_optimization: self.graph_optimization,
            precision: self.precision,
            #[cfg(feature = "triton")]
            remote: self.remote.options(),
            cache: Cache {
                directory: match &self.cache_directory {
                    None => CacheDirectory::Standard,
                    Some(path) if path.is_empty() => CacheDirectory::Off,
                    Some(path) => CacheDirectory::At(path.into()),
                },
                ..Default::default()
            },
            runtime_directories: runtime_directories(),
            ..Default::default()
        }
    }
}

fn not_utf8(option: &str, path: &Path) -> String {
    format!(
        "{option} {}: expected a path in UTF-8; rename the directory",
        path.display()
    )
}

/// Sets a property to a number that the command line gave.
///
/// # Errors
/// If it is not in the property's range: one line that names the option and the range.
pub fn set_number(element: &gst::Element, property: &str, value: usize) -> Result<(), String> {
    let spec = element.find_property(property);
    let range = spec
        .as_ref()
        .and_then(|spec| spec.downcast_ref::<gst::glib::ParamSpecUInt>());
    let (least, most) = range.map_or((0, u32::MAX), |range| (range.minimum(), range.maximum()));
    match u32::try_from(value) {
        Ok(value) if (least..=most).contains(&value) => {
            element.set_property(property, value);
            Ok(())
        }
        _ => Err(format!("--{property} is {value}, but must be {least} to {most}")),
    }
}

#[cfg(feature = "embedded-model")]
fn load(path: Option<&Path>, options: &Options) -> nemostt::Result<Recognizer> {
    match path {
        Some(path) => Recognizer::load(path, options),
        None => Recognizer::embedded(options),
    }
}

#[cfg(not(feature = "embedded-model"))]
fn load(path: Option<&Path>, options: &Options) -> nemostt::Result<Recognizer> {
    let missing = || nemostt::Error::NoModel {
        path: "this build of nemostt".into(),
        missing: "built-in model: name a model directory with --model or NEMOSTT_MODEL",
    };
    Recognizer::load(path.ok_or_else(missing)?, options)
}

/// Parses the name of a decoder.
pub fn decoder(name: String) -> DecoderKind {
    match name.as_str() {
        "rnnt" => DecoderKind::Rnnt,
        "ctc" => DecoderKind::Ctc,
        _ => DecoderKind::Auto,
    }
}

fn precision(name: String) -> PrecisionChoice {
    match name.as_str() {
        "fp32" => PrecisionChoice::Fp32,
        "int8" => PrecisionChoice::Int8,
        _ => PrecisionChoice::Auto,
    }
}

fn optimization(name: String) -> GraphOptimization {
    match name.as_str() {
        "none" => GraphOptimization::None,
        _ => GraphOptimization::All,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        model: ModelArguments,
    }

    #[test]
    fn flags_become_options() {
        let line = "x --decoder ctc --device cuda:1 --threads 2 --max-batch 3 --graph-optimization none --precision int8 --cache-directory kept \
             --model directory";
        let arguments = Line::try_parse_from(line.split(' ')).unwrap().model;
        let expected = Options {
            lookahead: Some(80),
            decoder: DecoderKind::Ctc,
            device: Device::Cuda(1),
            threads: 2,
            max_batch: Some(3),
            graph_optimization: GraphOptimization::None,
            precision: PrecisionChoice::Int8,
            cache: Cache {
                directory: CacheDirectory::At("kept".into()),
                ..Default::default()
            },
            runtime_directories: runtime_directories(),
            ..Default::default()
        };
        assert_eq!(arguments.options(Some(80)), expected);
        assert_eq!(arguments.name(), "directory");
        let unknown = Line::try_parse_from(["x", "--device", "gpu"])
            .err()
            .map(|error| error.to_string());
        assert!(unknown.is_some_and(|message| message.contains("device \"gpu\" is unknown")));
        let of = |line: &[&str]| Line::try_parse_from(line).unwrap().model.options(None).cache.directory;
        assert_eq!(of(&["x"]), CacheDirectory::Standard);
        assert_eq!(of(&["x", "--cache-directory", ""]), CacheDirectory::Off);
    }
}

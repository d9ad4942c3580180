// SPDX-License-Identifier: MIT OR Apache-2.0

//! The result of `nemostt check`, as text and as JSON.

use std::{fmt::Display, fs, path::Path, time::Duration};

use comfy_table::{Table, presets};
use nemostt::{DecoderKind, GraphFile, GraphPasses, PassReport, Recognizer, TensorInfo};
use serde::Serialize;

use crate::model_args::EMBEDDED;

/// A model, as `--json` writes it. Times are in milliseconds where the name says so, else in seconds. `weights` counts
/// parameters, `labels` the tokens of the vocabulary: the names of the keys are kept for programs that read them.
#[derive(Debug, Serialize)]
pub struct Report {
    model: String,
    usable: bool,
    layout: &'static str,
    precision: &'static str,
    decoder: &'static str,
    weights: u64,
    encoder: Encoder,
    lookaheads_ms: Vec<u64>,
    lookahead_ms: u64,
    labels: usize,
    languages: Vec<String>,
    device: String,
    /// 0: one per physical core.
    threads: usize,
    loading: f64,
    /// Empty if the encoder runs here.
    servers: Vec<Server>,
    self_test: SelfTest,
    graphs: Vec<Graph>,
    passes: Vec<Passes>,
}

#[derive(Debug, Serialize)]
struct Encoder {
    layers: usize,
    width: usize,
    mels: usize,
    left_ms: u64,
    window_frames: Option<usize>,
}

/// The transcription of two seconds of speech.
#[derive(Debug, Serialize)]
pub struct SelfTest {
    pub seconds: f64,
    pub computing: f64,
    pub text: String,
}

/// A server for the encoder.
#[cfg_attr(not(feature = "triton"), allow(dead_code))] // without it, there are none
#[derive(Debug, Serialize)]
pub struct Server {
    pub server: String,
    /// The encoder's name there.
    pub model: String,
    /// Its versions that are loaded.
    pub versions: Vec<String>,
    /// Whether it is ready and the encoder of this model.
    pub usable: bool,
    /// Why not.
    pub reason: Option<String>,
}

#[derive(Debug, Serialize)]
struct Graph {
    file: String,
    bytes: Option<u64>,
    role: &'static str,
    precision: &'static str,
    weights: u64,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
}

/// The passes over one graph.
#[derive(Debug, Serialize)]
struct Passes {
    graph: &'static str,
    passes: Vec<Pass>,
}

#[derive(Debug, Serialize)]
struct Pass {
    pass: String,
    applied: bool,
    /// What was rewritten, or why nothing.
    result: String,
    nodes_before: usize,
    nodes_after: usize,
}

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    element: String,
    /// `null`: any size.
    shape: Vec<Option<usize>>,
}

impl Report {
    pub fn new(
        model: &str,
        recognizer: &Recognizer,
        loading: Duration,
        self_test: SelfTest,
        servers: Vec<Server>,
    ) -> Self {
        let config = recognizer.config();
        let frame_ms = config.frame_samples() * 1000 / u64::from(config.front_end.sample_rate);
        Self {
            model: model.into(),
            usable: true,
            layout: config.contract.layout,
            precision: config.precision.name(),
            decoder: match config.decoder {
                DecoderKind::Ctc => "ctc",
                _ => "rnnt",
            },
            weights: in_use(recognizer).map(|graph| graph.weights).sum(),
            encoder: Encoder {
                layers: config.streaming.layers,
                width: config.streaming.d_model,
                mels: config.streaming.mels,
                left_ms: config.streaming.left_context as u64 * frame_ms,
                window_frames: config.contract.fixed_frames,
            },
            lookaheads_ms: config
                .lookaheads
                .iter()
                .map(|&frames| frames as u64 * frame_ms)
                .collect(),
            lookahead_ms: config.lookahead_ms(),
            labels: config.vocabulary_size,
            languages: config
                .languages
                .as_ref()
                .map(|languages| languages.codes())
                .unwrap_or_default(),
            device: config.device.to_string(),
            threads: config.threads,
            loading: loading.as_secs_f64(),
            servers,
            self_test,
            graphs: recognizer.graphs().iter().map(Graph::new).collect(),
            passes: recognizer.passes().into_iter().map(Passes::new).collect(),
        }
    }
}

impl Graph {
    fn new(graph: &GraphFile) -> Self {
        let tensors = |list: &[TensorInfo]| list.iter().map(Tensor::new).collect();
        Self {
            file: graph.name.clone(),
            bytes: fs::metadata(&graph.name).ok().map(|file| file.len()),
            role: graph.role,
            precision: graph.precision.name(),
            weights: graph.weights,
            inputs: tensors(&graph.inputs),
            outputs: tensors(&graph.outputs),
        }
    }
}

impl Server {
    /// Where the model is, and whether it can be used, in one line.
    fn description(&self) -> String {
        let Self { server, model, .. } = self;
        let versions = match self.versions.is_empty() {
            true => String::new(),
            false => format!(" (version {})", list(&self.versions)),
        };
        match &self.reason {
            None => format!("{server}, {model}{versions}: ready, and the encoder of this model"),
            Some(reason) => format!("{server}, {model}{versions}: cannot be used: {reason}"),
        }
    }
}

impl Graph {
    /// Name, part of the model, precision and size in one line.
    fn description(&self) -> String {
        let name = Path::new(&self.file).file_name();
        let name = name.map_or(self.file.as_str().into(), |name| name.to_string_lossy());
        let size = self
            .bytes
            .map_or(String::new(), |bytes| format!(", {:.1} MB", bytes as f64 / 1e6));
        format!("{name}: {}, {}{size}", self.role, self.precision)
    }

    /// A table of inputs and outputs below the file's path.
    fn tensors(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for tensor in &self.inputs {
            table.add_row(tensor.row("input"));
        }
        for tensor in &self.outputs {
            table.add_row(tensor.row("output"));
        }
        format!("\n{}\n{}\n", self.file, table.trim_fmt())
    }
}

impl Passes {
    fn new(graph: GraphPasses<'_>) -> Self {
        Self {
            graph: graph.graph,
            passes: graph.passes.iter().map(Pass::new).collect(),
        }
    }

    /// A table: the pass, the nodes that it saved, and what it did.
    fn text(&self) -> String {
        if self.passes.is_empty() {
            return format!("\nPasses over the {}: none, it runs as exported\n", self.graph);
        }
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for pass in &self.passes {
            let nodes = match pass.nodes_before == pass.nodes_after {
                true => String::new(),
                false => format!("{} → {} nodes", pass.nodes_before, pass.nodes_after),
            };
            let mark = if pass.applied { "" } else { "not applied: " };
            table.add_row([pass.pass.clone(), format!("{mark}{}", pass.result), nodes]);
        }
        format!("\nPasses over the {}:\n{}\n", self.graph, table.trim_fmt())
    }
}

impl Pass {
    fn new(report: &PassReport) -> Self {
        Self {
            pass: report.pass.clone(),
            applied: report.outcome.is_ok(),
            result: match &report.outcome {
                Ok(applied) => applied.to_string(),
                Err(reason) => reason.to_string(),
            },
            nodes_before: report.nodes[0],
            nodes_after: report.nodes[1],
        }
    }
}

impl Tensor {
    fn new(info: &TensorInfo) -> Self {
        Self {
            name: info.name.clone(),
            element: info.element.to_string(),
            shape: info.dims.clone(),
        }
    }

    /// Direction, name, type and shape.
    fn row(&self, direction: &str) -> [String; 4] {
        let size = |size: &Option<usize>| size.map_or("any".into(), |size| size.to_string());
        let sizes: Vec<String> = self.shape.iter().map(size).collect();
        [
            direction.into(),
            self.name.clone(),
            self.element.clone(),
            sizes.join(" × "),
        ]
    }
}

/// The graphs of the active decoder: a directory may hold those of both.
fn in_use(recognizer: &Recognizer) -> impl Iterator<Item = &GraphFile> {
    let ctc = recognizer.config().contract.ctc;
    let graphs = recognizer.graphs().iter();
    graphs.filter(move |graph| (graph.role == "encoder with CTC head") == ctc)
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

impl Report {
    /// The report as text: the verdict, a summary and, if `verbose`, the inputs and outputs of each graph; if `passes`, what was
    /// done to them.
    pub fn text(&self, verbose: bool, passes: bool) -> String {
        let model = match self.model.as_str() {
            EMBEDDED => "The built-in demo model",
            path => path,
        };
        let mut text = format!("{model} works on this machine.\n\n{}\n", self.summary());
        if passes {
            self.passes.iter().for_each(|graph| text.push_str(&graph.text()));
        }
        match verbose {
            true => self.graphs.iter().for_each(|graph| text.push_str(&graph.tensors())),
            false => text.push_str("\n--verbose lists the inputs and outputs of each graph.\n"),
        }
        text
    }

    fn summary(&self) -> String {
        let Self { encoder, self_test, .. } = self;
        let decoder = match self.decoder {
            "ctc" => "CTC",
            _ => "RNN-T",
        };
        let threads = match self.threads {
            0 => "one thread per core".into(),
            1 => "1 thread".into(),
            threads => format!("{threads} threads"),
        };
        let mut facts = Table::new();
        facts.load_style(presets::NOTHING);
        let mut fact = |name: &str, value: String| {
            facts.add_row([name.to_owned(), value]);
        };
        fact(
            "model",
            format!(
                "{decoder}, {}, {:.1} million parameters",
                self.precision,
                self.weights as f64 / 1e6
            ),
        );
        fact("layout", self.layout.into());
        fact(
            "encoder",
            format!(
                "{} layers of width {}, {} mel bands, {:.1} s of left context",
                encoder.layers,
                encoder.width,
                encoder.mels,
                encoder.left_ms as f64 / 1000.0
            ),
        );
        fact(
            "lookahead",
            format!("{} ms (supported: {} ms)", self.lookahead_ms, list(&self.lookaheads_ms)),
        );
        fact("vocabulary", format!("{} tokens", self.labels));
        if !self.languages.is_empty() {
            fact("languages", list(&self.languages));
        }
        fact("device", format!("{}, {threads}", self.device));
        for server in &self.servers {
            fact("server", server.description());
        }
        fact("load time", format!("{:.2} s", self.loading));
        fact(
            "self-test",
            format!(
                "{:.1} s of speech in {:.2} s: \"{}\"",
                self_test.seconds, self_test.computing, self_test.text
            ),
        );
        for graph in &self.graphs {
            fact("graph", graph.description());
        }
        facts.trim_fmt()
    }
}

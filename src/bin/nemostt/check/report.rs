// SPDX-License-Identifier: MIT OR Apache-2.0

//! What `nemostt check` found out.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    time::Duration,
};

use comfy_table::{Table, presets};
use nemostt::{DecoderKind, Device, GraphFile, Recognizer, TensorInfo};
use serde::Serialize;

/// A model, as `--json` writes it. Times are in milliseconds where the name says so, else in seconds.
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
    device: &'static str,
    /// 0: one for each physical core.
    threads: usize,
    loading: f64,
    self_test: SelfTest,
    graphs: Vec<Graph>,
}

#[derive(Debug, Serialize)]
struct Encoder {
    layers: usize,
    width: usize,
    mels: usize,
    left_ms: u64,
    window_frames: Option<usize>,
}

/// How two seconds of speech went.
#[derive(Debug, Serialize)]
pub struct SelfTest {
    pub seconds: f64,
    pub computing: f64,
    pub text: String,
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

#[derive(Debug, Serialize)]
struct Tensor {
    name: String,
    #[serde(rename = "type")]
    element: String,
    /// `null`: any size.
    shape: Vec<Option<usize>>,
}

impl Report {
    pub fn new(model: &str, recognizer: &Recognizer, loading: Duration, self_test: SelfTest) -> Self {
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
            labels: config.labels,
            languages: config
                .languages
                .as_ref()
                .map(|languages| languages.codes())
                .unwrap_or_default(),
            device: match config.device {
                Device::Cuda => "cuda",
                _ => "cpu",
            },
            threads: config.threads,
            loading: loading.as_secs_f64(),
            self_test,
            graphs: recognizer.graphs().iter().map(Graph::new).collect(),
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

impl Tensor {
    fn new(info: &TensorInfo) -> Self {
        Self {
            name: info.name.clone(),
            element: info.element.to_string(),
            shape: info.dims.clone(),
        }
    }

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

/// The graphs that the decoder in use needs: a directory may hold those of both.
fn in_use(recognizer: &Recognizer) -> impl Iterator<Item = &GraphFile> {
    let ctc = recognizer.config().contract.ctc;
    let graphs = recognizer.graphs().iter();
    graphs.filter(move |graph| (graph.role == "encoder with CTC head") == ctc)
}

/// A number of weights, as people say it.
fn millions(count: u64) -> String {
    format!("{:.1} million weights", count as f64 / 1e6)
}

fn list<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { encoder, self_test, .. } = self;
        writeln!(f, "{} can be used here.\n", self.model)?;
        let mut facts = Table::new();
        facts.load_style(presets::NOTHING);
        let mut fact = |name: &str, value: String| {
            facts.add_row([name.to_owned(), value]);
        };
        let decoder = self.decoder.to_uppercase();
        fact(
            "model",
            format!("{decoder}, {}, {}", self.precision, millions(self.weights)),
        );
        fact("layout", self.layout.into());
        fact(
            "encoder",
            format!(
                "{} layers of {}, {} mel bands, {:.1} s of left context",
                encoder.layers,
                encoder.width,
                encoder.mels,
                encoder.left_ms as f64 / 1000.0
            ),
        );
        fact(
            "lookahead",
            format!("{} ms, of {} ms", self.lookahead_ms, list(&self.lookaheads_ms)),
        );
        fact("labels", self.labels.to_string());
        if !self.languages.is_empty() {
            fact("languages", list(&self.languages));
        }
        let threads = match self.threads {
            0 => "one thread for each core".into(),
            1 => "1 thread".into(),
            threads => format!("{threads} threads"),
        };
        fact("runs on", format!("{}, {threads}", self.device));
        fact("loading", format!("{:.2} s", self.loading));
        fact(
            "self test",
            format!(
                "{:.1} s of speech in {:.2} s: \"{}\"",
                self_test.seconds, self_test.computing, self_test.text
            ),
        );
        writeln!(f, "{}", facts.trim_fmt())?;
        for graph in &self.graphs {
            let size = graph
                .bytes
                .map_or(String::new(), |bytes| format!(", {:.1} MB", bytes as f64 / 1e6));
            writeln!(f, "\n{}\n{}, {}{size}", graph.file, graph.role, graph.precision)?;
            let mut table = Table::new();
            table.load_style(presets::NOTHING);
            for tensor in &graph.inputs {
                table.add_row(tensor.row("takes"));
            }
            for tensor in &graph.outputs {
                table.add_row(tensor.row("gives"));
            }
            writeln!(f, "{}", table.trim_fmt())?;
        }
        Ok(())
    }
}

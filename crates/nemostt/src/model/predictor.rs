// SPDX-License-Identifier: MIT OR Apache-2.0

//! The prediction network: its session, and the LSTM state between tokens.

use super::{
    compile::out_of_memory,
    runtime::{LogLevel, Session, Tensor, log},
    target::Target,
};
use crate::{
    device::Device,
    error::{Error, Result},
    memory_guard,
};
use nemostt_compiler::{
    Graph, Precision, TransducerShape, compose,
    ops::JOINT_ADD_RELU,
    pipeline::{Applied, FUSE_SUBGRAPH, NotApplied, PassReport, Recorder, some},
    specialize_predictor,
};

/// A loaded prediction network.
pub(super) struct Predictor {
    pub(super) session: Session,
    /// Shape of a prediction.
    pub(super) sizes: Vec<usize>,
    /// Whether a run also scores a few frames: see [`merge_scoring`](Self::merge_scoring).
    pub(super) scores_frames: bool,
    /// The outcome of each pass over its graph.
    pub(super) passes: Vec<PassReport>,
}

impl Predictor {
    /// Loads the prediction network, compiled for `target`. Also returns the graph that it runs.
    pub(super) fn load(graph: Graph, name: &str, shape: &TransducerShape, target: &Target) -> Result<(Self, Graph)> {
        let mut recorder = Recorder::default();
        if !target.specialize || target.device != Device::Cpu {
            return Self::start(graph, name, shape, target);
        }
        memory_guard::check(format!("rewrite {name}"))?;
        if let Some(mut specialized) = specialize(name, &graph, shape, target, &mut recorder) {
            let packed = recorder.prepack(&mut specialized, &target.passes);
            packed.map_err(|error| out_of_memory(name, error))?;
            match Self::start(specialized, name, shape, target) {
                Err(error @ (Error::BadModel { .. } | Error::Runtime { .. } | Error::Shape { .. })) => {
                    let message =
                        format!("the prediction network of {name} runs unmodified, its compiled graph fails: {error}");
                    log(LogLevel::Warning, &message);
                }
                result => {
                    return result.map(|(mut predictor, graph)| {
                        predictor.passes = recorder.reports;
                        (predictor, graph)
                    });
                }
            }
        }
        Self::start(graph, name, shape, target)
    }

    fn start(graph: Graph, name: &str, shape: &TransducerShape, target: &Target) -> Result<(Self, Graph)> {
        let session = Session::load(graph.clone(), name, target)?;
        let loaded = Self {
            sizes: predicted_sizes(&session, shape, None)?,
            session,
            scores_frames: false,
            passes: Vec::new(),
        };
        Ok((loaded, graph))
    }

    /// Lets each run also score a few frames, by appending graph `scoring`: a token then takes one run instead of two,
    /// each of which wakes threads. The merged graph has the additional input `projected`, of the given shape, and the
    /// output `outputs`.
    pub(super) fn merge_scoring(
        &mut self,
        mut graph: Graph,
        scoring: &Graph,
        name: &str,
        (shape, projected): (&TransducerShape, &[usize]),
        target: &Target,
    ) {
        // `JointAddRelu` accepts predictions of any shape.
        if scoring.operations().any(|operation| operation == JOINT_ADD_RELU.name) {
            graph.output_row("prediction");
        }
        let load = || {
            let mut merged = compose(&graph, scoring, "prediction")?;
            let mut recorder = Recorder::default();
            recorder.note(
                "merge-scoring",
                some(1, "joints"),
                [graph.operations().count(), merged.operations().count()],
            );
            recorder.step(FUSE_SUBGRAPH, &mut merged, |merged| {
                some(merged.fuse_subgraphs(), "operations")
            });
            let session = Session::load(merged, name, target);
            let loaded = session.and_then(|session| Ok((predicted_sizes(&session, shape, Some(projected))?, session)));
            let (sizes, session) = loaded.map_err(|error| error.to_string())?;
            Ok::<_, String>((sizes, session, recorder.reports))
        };
        match load() {
            Ok((sizes, session, mut reports)) => {
                self.passes.append(&mut reports);
                *self = Self {
                    session,
                    sizes,
                    scores_frames: true,
                    passes: std::mem::take(&mut self.passes),
                };
            }
            Err(reason) => {
                let nodes = [graph.operations().count(); 2];
                let mut recorder = Recorder::default();
                recorder.note("merge-scoring", Err(NotApplied::Unsupported(reason.clone())), nodes);
                self.passes.append(&mut recorder.reports);
                let message = format!("prediction network and joint of {name} are not merged: {reason}");
                log(LogLevel::Info, &message);
            }
        }
    }
}

/// Specializes the graph for one token per run. If that fails, logs why and returns `None`.
fn specialize(
    name: &str,
    graph: &Graph,
    shape: &TransducerShape,
    target: &Target,
    recorder: &mut Recorder<'_>,
) -> Option<Graph> {
    let precision = graph.precision();
    let mut graph = graph.clone();
    recorder.step("unfold-lstm", &mut graph, |graph| match precision {
        Precision::Fp32 => match specialize_predictor(graph, shape, target.passes.custom_ops) {
            Ok(left) => Ok(Applied {
                count: shape.layers.saturating_sub(left.len()),
                expected: Some(shape.layers),
                what: "LSTM layers".into(),
            }),
            Err(reason) => Err(NotApplied::Unsupported(reason)),
        },
        _ => Err(NotApplied::Unsupported(format!("its weights are {}", precision.name()))),
    });
    let report = recorder.reports.last()?;
    let log_info = |what: &str| log(LogLevel::Info, &format!("the prediction network of {name} {what}"));
    match &report.outcome {
        Ok(_) => {
            if let Some(line) = report.diagnostic() {
                log_info(&format!("has layers that were not rewritten: {line}"));
            }
            Some(graph)
        }
        Err(reason) => {
            log_info(&format!("runs unmodified: {reason}"));
            None
        }
    }
}

/// Shape of the predictions, from a run: if prediction network and joint were one graph, the file does not contain it.
/// `projected`: shape of the frames that the run also scores, if it does.
fn predicted_sizes(prediction: &Session, shape: &TransducerShape, projected: Option<&[usize]>) -> Result<Vec<usize>> {
    let token: Tensor<i32> = Tensor::zeros(&[1, 1])?;
    let mut binding = prediction.bind()?;
    binding.input("targets", &token)?;
    let memory = StatePair::empty(shape)?;
    binding.input("input_states_1", &memory.0)?;
    binding.input("input_states_2", &memory.1)?;
    let frames: Option<Tensor<f32>> = projected.map(Tensor::zeros).transpose()?;
    if let Some(frames) = &frames {
        binding.input("projected", frames)?;
    }
    prediction.sizes_of(&mut binding, "prediction")
}

/// LSTM state: two tensors \[layers, 1, hidden\].
pub(super) struct StatePair(pub(super) Tensor<f32>, pub(super) Tensor<f32>);

impl StatePair {
    /// The state at the start of a stream.
    pub(super) fn empty(shape: &TransducerShape) -> Result<Self> {
        let dims = [shape.layers, 1, shape.hidden];
        Ok(Self(Tensor::zeros(&dims)?, Tensor::zeros(&dims)?))
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::model::runtime::Binding;
    use crate::model::{GraphOptimization, Options};
    use nemostt_compiler::{Component, import, read_file};

    /// All ONNX files below `directory`.
    fn graphs_in(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                graphs_in(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "onnx") {
                found.push(path);
            }
        }
    }

    /// The prediction network in a file, if there is one.
    fn prediction_in(path: &Path) -> Option<Graph> {
        let mut graph = Graph::decode_file(read_file(path).unwrap()).ok()?;
        graph.attach(|name| read_file(&path.with_file_name(name))).ok()?;
        match import(graph).ok()?.1 {
            Component::Transducer(graphs) => Some(graphs.prediction),
            Component::Prediction(graph) => Some(graph),
            _ => None,
        }
    }

    fn shape_of(graph: &Graph) -> TransducerShape {
        let dims = graph.input("input_states_1").unwrap().dims;
        TransducerShape {
            width: 1,
            layers: dims[0].unwrap(),
            hidden: dims[2].unwrap(),
            classes: 2,
            logits_axes: 4,
            one_frame: false,
        }
    }

    /// This machine, with or without custom operators.
    fn target(custom_ops: bool) -> Target {
        let mut target = Target::resolve(&Options::default()).unwrap();
        target.passes.custom_ops = custom_ops;
        target
    }

    fn specialize_for(graph: &Graph, custom_ops: bool) -> Option<Graph> {
        let mut recorder = Recorder::default();
        specialize("it", graph, &shape_of(graph), &target(custom_ops), &mut recorder)
    }

    /// A loaded prediction network with its tensors.
    struct Network {
        session: Session,
        binding: Binding,
        token: Tensor<i32>,
        before: StatePair,
        prediction: Tensor<f32>,
        after: StatePair,
    }

    impl Network {
        fn load(graph: &Graph, graph_optimization: GraphOptimization) -> Self {
            let options = Options {
                threads: 1,
                graph_optimization,
                ..Default::default()
            };
            let target = Target::resolve(&options).unwrap();
            let (loaded, _) = Predictor::load(graph.clone(), "it", &shape_of(graph), &target).unwrap();
            Self::new(graph, loaded.session, &loaded.sizes)
        }

        /// The specialized graph without custom operators.
        fn load_plain(graph: &Graph) -> Self {
            let shape = shape_of(graph);
            let specialized = specialize_for(graph, false).unwrap();
            let session = Session::load(specialized, "it", &target(false)).unwrap();
            let sizes = predicted_sizes(&session, &shape, None).unwrap();
            Self::new(graph, session, &sizes)
        }

        fn new(graph: &Graph, session: Session, sizes: &[usize]) -> Self {
            let shape = shape_of(graph);
            let mut network = Self {
                binding: session.bind().unwrap(),
                token: Tensor::zeros(&[1, 1]).unwrap(),
                before: StatePair::empty(&shape).unwrap(),
                prediction: Tensor::zeros(sizes).unwrap(),
                after: StatePair::empty(&shape).unwrap(),
                session,
            };
            let binding = &mut network.binding;
            binding.input("targets", &network.token).unwrap();
            binding.input("input_states_1", &network.before.0).unwrap();
            binding.input("input_states_2", &network.before.1).unwrap();
            binding.output("prediction", &mut network.prediction).unwrap();
            binding.output("output_states_1", &mut network.after.0).unwrap();
            binding.output("output_states_2", &mut network.after.1).unwrap();
            network
        }

        /// Runs one step from `states`, or from the initial state. Returns the prediction and the next states.
        fn step(&mut self, token: i32, states: Option<&[Vec<f32>; 3]>) -> [Vec<f32>; 3] {
            self.token.data_mut()[0] = token;
            if let Some([_, state, cells]) = states {
                self.before.0.data_mut().copy_from_slice(state);
                self.before.1.data_mut().copy_from_slice(cells);
            }
            self.session.run(&self.binding, "run the prediction network").unwrap();
            [&self.prediction, &self.after.0, &self.after.1].map(|tensor| tensor.data().to_vec())
        }
    }

    #[test]
    fn specialized_predictor_matches_export() {
        let mut files = Vec::new();
        let directories =
            ["kinds", "layouts", "nemotron_shape", "tiny_random"].map(|name| format!("../../tests/data/{name}"));
        for directory in directories.iter().map(String::as_str).chain(["assets"]) {
            graphs_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
        }
        // All of them have 128 tokens. Blank first, as at the start of a stream, then each of them in a mixed order.
        let tokens: Vec<i32> = (0..129).map(|step| (128 + 50 * step) % 129).collect();
        let (mut compared, mut multi_layer) = (0, 0);
        for path in files {
            let Some(graph) = prediction_in(&path) else { continue };
            if graph.precision() != Precision::Fp32 {
                assert!(specialize_for(&graph, true).is_none(), "{path:?}");
                continue;
            }
            let layers = shape_of(&graph).layers;
            let lstms = |graph: &Graph| graph.operations().filter(|&operation| operation == "LSTM").count();
            let after = specialize_for(&graph, true).unwrap();
            assert_eq!((lstms(&graph), lstms(&after)), (layers, layers - 1), "{path:?}");

            let [mut export, specialized] =
                [GraphOptimization::None, GraphOptimization::All].map(|kind| Network::load(&graph, kind));
            let mut specialized = [specialized, Network::load_plain(&graph)];
            let mut states: Option<[Vec<f32>; 3]> = None;
            for &token in &tokens {
                // All from the same states, because an LSTM amplifies differences from step to step.
                let specialized = specialized
                    .each_mut()
                    .map(|network| network.step(token, states.as_ref()));
                let exported = states.insert(export.step(token, states.clone().as_ref()));
                for (exported, specialized) in specialized
                    .iter()
                    .flat_map(|specialized| exported.iter().zip(specialized))
                {
                    assert_eq!(exported.len(), specialized.len(), "{path:?}");
                    assert!(
                        exported.iter().any(|value| value.abs() > 0.01),
                        "{path:?}: token {token}"
                    );
                    // Rounding differences: both are equally far from double precision, 5e-6 in the demo model, whose
                    // cell states reach 38.
                    let tolerance = 2e-6 * exported.iter().fold(1.0, |most: f32, value| most.max(value.abs()));
                    for (a, b) in exported.iter().zip(specialized) {
                        assert!((a - b).abs() <= tolerance, "{path:?}: token {token}: {a} and {b}");
                    }
                }
            }
            compared += 1;
            multi_layer += usize::from(layers > 1);
        }
        assert!(
            compared >= 14 && multi_layer >= 3,
            "{compared} were found, {multi_layer} of them with several layers"
        );
    }
}

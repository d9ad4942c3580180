// SPDX-License-Identifier: MIT OR Apache-2.0

//! The prediction network: its session, and the state that goes from one label to the next.

use super::{
    custom_op_policy::{prepack_matmuls, use_custom_ops},
    options::{Device, GraphOptimization, Options},
    runtime::{LogLevel, Session, Tensor, device_of, log},
};
use crate::{
    error::{Error, Result},
    memory_guard,
};
use nemostt_compiler::{Graph, JOINT_ADD_RELU, Precision, TransducerShape, compose, specialize_predictor};

/// The prediction network, loaded.
pub(super) struct Predictor {
    pub(super) session: Session,
    /// Sizes of the predictions.
    pub(super) sizes: Vec<usize>,
    /// Whether a run scores a few frames as well: see [`merge_scoring`](Self::merge_scoring).
    pub(super) scores_few: bool,
}

impl Predictor {
    /// Loads the prediction network, rewritten as `options` ask. Gives the graph that it runs, too.
    pub(super) fn load(graph: Graph, name: &str, shape: &TransducerShape, options: &Options) -> Result<(Self, Graph)> {
        if options.graph_optimization == GraphOptimization::None || device_of(options)? != Device::Cpu {
            return Self::start(graph, name, shape, options);
        }
        memory_guard::check(format!("rewrite {name}"))?;
        if let Some(mut specialized) = specialized(name, &graph, shape, use_custom_ops(options)?) {
            prepack_matmuls(&mut specialized, name, options)?;
            match Self::start(specialized, name, shape, options) {
                Err(error @ (Error::BadModel { .. } | Error::Runtime { .. } | Error::Shape { .. })) => {
                    let message = format!("the prediction network of {name} is run as it is: its plan fails: {error}");
                    log(LogLevel::Warning, &message);
                }
                done => return done,
            }
        }
        Self::start(graph, name, shape, options)
    }

    fn start(graph: Graph, name: &str, shape: &TransducerShape, options: &Options) -> Result<(Self, Graph)> {
        let session = Session::load(graph.clone(), name, options)?;
        let loaded = Self {
            sizes: predicted_sizes(&session, shape, None)?,
            session,
            scores_few: false,
        };
        Ok((loaded, graph))
    }

    /// Lets each run score a few frames as well, with graph `scoring` behind the network's own: a label is then one run in
    /// place of two, each of which has threads to wake. A run takes the `projected` frames too, of such sizes, and gives `outputs`.
    pub(super) fn merge_scoring(
        &mut self,
        mut graph: Graph,
        scoring: &Graph,
        name: &str,
        (shape, projected): (&TransducerShape, &[usize]),
        options: &Options,
    ) {
        // Who meets a prediction does not ask for its axes.
        if scoring.operations().any(|operation| operation == JOINT_ADD_RELU) {
            graph.output_row("prediction");
        }
        let load = || {
            let mut merged = compose(&graph, scoring, "prediction")?;
            merged.fuse_subgraphs();
            let session = Session::load(merged, name, options);
            let loaded = session.and_then(|session| Ok((predicted_sizes(&session, shape, Some(projected))?, session)));
            loaded.map_err(|error| error.to_string())
        };
        match load() {
            Ok((sizes, session)) => {
                *self = Self {
                    session,
                    sizes,
                    scores_few: true,
                };
            }
            Err(reason) => {
                let message = format!("prediction network and joint of {name} are run apart: {reason}");
                log(LogLevel::Info, &message);
            }
        }
    }
}

/// The graph rewritten, with operations of our own or without; `None`, with a line in the log, where that cannot be done.
fn specialized(name: &str, graph: &Graph, shape: &TransducerShape, ours: bool) -> Option<Graph> {
    let say = |reason: &str| {
        log(LogLevel::Info, &format!("the prediction network of {name}: {reason}"));
    };
    let held = graph.precision();
    if held != Precision::Fp32 {
        say(&format!("it is run as it is: it holds {}", held.name()));
        return None;
    }
    let mut graph = graph.clone();
    match specialize_predictor(&mut graph, shape, ours) {
        Ok(diagnostics) => {
            diagnostics.iter().for_each(|reason| say(reason));
            Some(graph)
        }
        Err(reason) => {
            say(&format!("it is run as it is: {reason}"));
            None
        }
    }
}

/// What goes from the prediction network to the joint has no size in the file where the two were one graph: a run tells.
/// `projected`: sizes of the frames that the run scores, if it does.
fn predicted_sizes(prediction: &Session, shape: &TransducerShape, projected: Option<&[usize]>) -> Result<Vec<usize>> {
    let label: Tensor<i32> = Tensor::zeros(&[1, 1])?;
    let mut binding = prediction.bind()?;
    binding.input("targets", &label)?;
    let memory = StatePair::empty(shape)?;
    binding.input("input_states_1", &memory.0)?;
    binding.input("input_states_2", &memory.1)?;
    let frames: Option<Tensor<f32>> = projected.map(Tensor::zeros).transpose()?;
    if let Some(frames) = &frames {
        binding.input("projected", frames)?;
    }
    prediction.sizes_of(&mut binding, "prediction")
}

/// LSTM state after one label: two tensors \[layers, 1, hidden\].
pub(super) struct StatePair(pub(super) Tensor<f32>, pub(super) Tensor<f32>);

impl StatePair {
    /// That of the start of a stream.
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
    use nemostt_compiler::{Component, import, read_file};

    /// All files of graphs beneath `directory`.
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

    /// A loaded prediction network with its tensors.
    struct Network {
        session: Session,
        binding: Binding,
        label: Tensor<i32>,
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
            let (loaded, _) = Predictor::load(graph.clone(), "it", &shape_of(graph), &options).unwrap();
            Self::new(graph, loaded.session, &loaded.sizes)
        }

        /// The plan without operations of our own.
        fn load_plain(graph: &Graph) -> Self {
            let shape = shape_of(graph);
            let plan = specialized("it", graph, &shape, false).unwrap();
            let session = Session::load(plan, "it", &Options::default()).unwrap();
            let sizes = predicted_sizes(&session, &shape, None).unwrap();
            Self::new(graph, session, &sizes)
        }

        fn new(graph: &Graph, session: Session, sizes: &[usize]) -> Self {
            let shape = shape_of(graph);
            let mut network = Self {
                binding: session.bind().unwrap(),
                label: Tensor::zeros(&[1, 1]).unwrap(),
                before: StatePair::empty(&shape).unwrap(),
                prediction: Tensor::zeros(sizes).unwrap(),
                after: StatePair::empty(&shape).unwrap(),
                session,
            };
            let binding = &mut network.binding;
            binding.input("targets", &network.label).unwrap();
            binding.input("input_states_1", &network.before.0).unwrap();
            binding.input("input_states_2", &network.before.1).unwrap();
            binding.output("prediction", &mut network.prediction).unwrap();
            binding.output("output_states_1", &mut network.after.0).unwrap();
            binding.output("output_states_2", &mut network.after.1).unwrap();
            network
        }

        /// Goes on from `states`, or from its start. Gives the prediction and the next states.
        fn step(&mut self, label: i32, states: Option<&[Vec<f32>; 3]>) -> [Vec<f32>; 3] {
            self.label.data_mut()[0] = label;
            if let Some([_, state, cells]) = states {
                self.before.0.data_mut().copy_from_slice(state);
                self.before.1.data_mut().copy_from_slice(cells);
            }
            self.session.run(&self.binding, "run the prediction network").unwrap();
            [&self.prediction, &self.after.0, &self.after.1].map(|tensor| tensor.data().to_vec())
        }
    }

    #[test]
    fn a_planned_prediction_network_predicts_what_the_export_does() {
        let mut files = Vec::new();
        let directories =
            ["kinds", "layouts", "nemotron_shape", "tiny_random"].map(|name| format!("../../tests/data/{name}"));
        for directory in directories.iter().map(String::as_str).chain(["assets"]) {
            graphs_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut files);
        }
        // All have 128 labels. Blank first, as at the start of a stream, and then each of them, in an order that mixes them.
        let labels: Vec<i32> = (0..129).map(|step| (128 + 50 * step) % 129).collect();
        let (mut compared, mut deep) = (0, 0);
        for path in files {
            let Some(graph) = prediction_in(&path) else { continue };
            if graph.precision() != Precision::Fp32 {
                assert!(specialized("it", &graph, &shape_of(&graph), true).is_none(), "{path:?}");
                continue;
            }
            let layers = shape_of(&graph).layers;
            let lstms = |graph: &Graph| graph.operations().filter(|&operation| operation == "LSTM").count();
            let after = specialized("it", &graph, &shape_of(&graph), true).unwrap();
            assert_eq!((lstms(&graph), lstms(&after)), (layers, layers - 1), "{path:?}");

            let [mut export, plan] =
                [GraphOptimization::None, GraphOptimization::All].map(|kind| Network::load(&graph, kind));
            let mut plans = [plan, Network::load_plain(&graph)];
            let mut given: Option<[Vec<f32>; 3]> = None;
            for &label in &labels {
                // All from the same states: an LSTM makes more of what differs at each step.
                let specialized = plans.each_mut().map(|plan| plan.step(label, given.as_ref()));
                let exported = given.insert(export.step(label, given.clone().as_ref()));
                for (exported, specialized) in specialized
                    .iter()
                    .flat_map(|specialized| exported.iter().zip(specialized))
                {
                    assert_eq!(exported.len(), specialized.len(), "{path:?}");
                    assert!(
                        exported.iter().any(|value| value.abs() > 0.01),
                        "{path:?}: label {label}"
                    );
                    // Rounding: from double precision both are equally far, 5e-6 in the demonstration model, whose cells
                    // hold up to 38.
                    let most = 2e-6 * exported.iter().fold(1.0, |most: f32, value| most.max(value.abs()));
                    for (a, b) in exported.iter().zip(specialized) {
                        assert!((a - b).abs() <= most, "{path:?}: label {label}: {a} and {b}");
                    }
                }
            }
            compared += 1;
            deep += usize::from(layers > 1);
        }
        assert!(
            compared >= 14 && deep >= 3,
            "{compared} were found, {deep} of them with several layers"
        );
    }
}

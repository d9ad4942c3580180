// SPDX-License-Identifier: MIT OR Apache-2.0

//! An encoder as a program, which runs without ONNX Runtime and for several streams at a time: what its inputs and outputs
//! are, and the lanes that run it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use super::super::{
    compile::CompiledEncoder,
    joint_head::JointHead,
    length_graph::{LengthGraph, LengthValues},
    processors,
    runtime::{LinkedProgram, threads_of},
    target::Target,
    worker_pool::WorkerPool,
};
use crate::{
    error::{Error, Result},
    lane::{Executor, Lane, LaneMetrics, Limits, Submitter},
    sync::lock,
};
use nemostt_compiler::{RING_HEAD_INPUT, SCORES, StateSpec, lowering::LoweredGraph};
use nemostt_kernels::{
    executor::{Program, StreamIo},
    fused_op::ProgramError,
};

/// Rows of a batch beyond which a step takes longer in proportion: the weights are then read as fast as they are multiplied
/// (`docs/performance-design.md`).
const MAX_ROWS: usize = 28;

/// More streams than a process will have.
const MAX_STREAMS: usize = 1 << 16;

/// Numbers of inputs and indices of outputs of the program.
#[derive(Debug)]
pub(super) struct Ports {
    /// \[width, mels\].
    pub(super) audio: usize,
    pub(super) ring_head: Option<usize>,
    /// In the order of [`LengthValues::boundary`].
    pub(super) lengths: Vec<usize>,
    /// The states between steps, and whether they are updated in place.
    pub(super) states: Vec<StatePorts>,
    /// \[chunk, d_model\], or \[chunk, tokens + 1\].
    pub(super) outputs: usize,
    /// Frames of a step, if outputs are needed as \[d_model, chunk\].
    pub(super) transposed_frames: Option<usize>,
    pub(super) head: Option<HeadPorts>,
}

#[derive(Debug)]
pub(super) struct StatePorts {
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) is_ring: bool,
    /// Rows, and new rows of a step.
    pub(super) rows: [usize; 2],
}

/// Those of a joint's head.
#[derive(Debug)]
pub(super) struct HeadPorts {
    pub(super) prediction: usize,
    pub(super) projected: usize,
    pub(super) scores: usize,
}

/// See the [module](self).
pub(super) struct EncoderProgram {
    pub(super) ports: Ports,
    lanes: Vec<EncoderLane>,
    /// Inputs and outputs of streams that have ended, for those to come.
    free: Mutex<Vec<StreamIo>>,
    /// Creates inputs and outputs.
    template: Mutex<Program>,
    linked: LinkedProgram,
    lengths: LengthGraph,
    /// What depends on lengths only.
    length_values: Mutex<HashMap<[i64; 3], Arc<LengthValues>>>,
    threads: usize,
    max_batch: usize,
    bytes_per_stream: usize,
}

struct EncoderLane {
    lane: Lane<BatchExecutor>,
    streams: AtomicUsize,
}

/// Runs batches in a lane.
pub(super) struct BatchExecutor {
    program: Program,
    workers: WorkerPool,
}

impl Executor for BatchExecutor {
    type Job = StreamIo;
    type Output = std::result::Result<(), ProgramError>;

    fn run(&mut self, jobs: &mut [StreamIo], results: &mut Vec<Self::Output>) {
        let Self { program, workers } = self;
        let mut run = |jobs: &mut [StreamIo]| {
            let mut streams: Vec<&mut StreamIo> = jobs.iter_mut().collect();
            program.run_streams(&mut streams, |count, work| workers.parallel_for(count, work))
        };
        match run(jobs) {
            // Found before anything was computed: it is the fault of one stream, which does not concern the others.
            Err(_) if jobs.len() > 1 => {
                results.extend(jobs.iter_mut().map(|job| run(std::slice::from_mut(job))));
            }
            result => results.extend(jobs.iter().map(|_| result)),
        }
    }
}

impl EncoderProgram {
    /// Lowers `encoder`, the graph of file `name`, whose masks `lengths` computes. The reason if that is not possible.
    pub(super) fn new(
        encoder: &CompiledEncoder,
        lengths: LengthGraph,
        (name, chunk, head): (&str, usize, Option<&JointHead>),
        target: &Target,
    ) -> std::result::Result<Self, (String, LengthGraph)> {
        let build = || {
            let mut lowered = encoder.encoded.lower()?;
            // The graph of the joint does not say how large a prediction is.
            let prediction = lowered.inputs.iter_mut().find(|input| input.name == "prediction");
            if let (Some(input), Some(head)) = (prediction, head) {
                input.dims.clone_from(&head.prediction);
            }
            let ports = Ports::find(&lowered, &encoder.states, &lengths, chunk)?;
            let linked = LinkedProgram::new(lowered, &encoder.encoded, name, target);
            let linked = linked.map_err(|error| error.to_string())?;
            let threads = threads_of(target, name, encoder.encoded.weights);
            let invalid = |error: ProgramError| error.to_string();
            let limits = Limits {
                max_batch: target.max_batch.unwrap_or(MAX_ROWS / chunk).max(1),
                max_submitters: MAX_STREAMS,
            };
            let lane = |processors: Option<Vec<usize>>| {
                let executor = BatchExecutor {
                    program: linked.program(threads).map_err(invalid)?,
                    workers: WorkerPool::new(threads, processors).map_err(|error| error.to_string())?,
                };
                Ok::<_, String>(EncoderLane {
                    lane: Lane::new(executor, limits),
                    streams: AtomicUsize::new(0),
                })
            };
            let lanes: Vec<EncoderLane> = lane_processors(threads, target.lanes)
                .into_iter()
                .map(lane)
                .collect::<std::result::Result<_, _>>()?;
            let mut template = linked.program(1).map_err(invalid)?;
            // Sizes are checked here, and not when a stream is created.
            let io = template.stream_io(linked.inputs()).map_err(invalid)?;
            Ok::<_, String>((
                ports,
                lanes,
                (template, io.bytes()),
                linked,
                (threads, limits.max_batch),
            ))
        };
        match build() {
            Err(reason) => Err((reason, lengths)),
            Ok((ports, lanes, (template, bytes_per_stream), linked, (threads, max_batch))) => Ok(Self {
                ports,
                lanes,
                free: Mutex::default(),
                template: Mutex::new(template),
                linked,
                lengths,
                length_values: Mutex::default(),
                threads,
                max_batch,
                bytes_per_stream,
            }),
        }
    }

    /// Threads of a step.
    pub(super) fn threads(&self) -> usize {
        self.threads
    }

    /// Inputs and outputs for a stream, at its start, and where it submits them.
    pub(super) fn stream(&self) -> Result<(StreamIo, LaneHandle)> {
        // Not while another stream is created, which may be at the same time.
        let reused = lock(&self.free).pop();
        let mut io = match reused {
            Some(io) => io,
            None => {
                let created = lock(&self.template).stream_io(self.linked.inputs());
                created.map_err(|error| invalid(&error))?
            }
        };
        // Also of a new one, so that its pages are not faulted in by the first steps.
        io.clear();
        let streams = |lane: &EncoderLane| lane.streams.load(Ordering::Relaxed);
        let index = (0..self.lanes.len())
            .min_by_key(|&index| streams(&self.lanes[index]))
            .unwrap_or(0);
        let submitter = self.lanes[index].lane.submitter();
        let submitter = submitter.ok_or_else(|| Error::OutOfMemory {
            doing: "create a stream".into(),
            reason: format!("there are already {MAX_STREAMS}"),
        })?;
        self.lanes[index].streams.fetch_add(1, Ordering::Relaxed);
        Ok((io, LaneHandle { index, submitter }))
    }

    /// Takes inputs and outputs of a stream that has ended back.
    pub(super) fn release(&self, io: StreamIo, handle: &LaneHandle) {
        self.lanes[handle.index].streams.fetch_sub(1, Ordering::Relaxed);
        lock(&self.free).push(io);
    }

    /// What depends on the lengths of a step only.
    pub(super) fn length_values(&self, lengths: [i64; 3]) -> Result<Arc<LengthValues>> {
        /// Until the caches are full, each step of a stream has other ones; of those at the end of streams there are more.
        const MAX_KNOWN: usize = 1024;
        let mut known = lock(&self.length_values);
        if let Some(values) = known.get(&lengths) {
            return Ok(values.clone());
        }
        let values = Arc::new(self.lengths.compute(lengths)?);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(lengths, values.clone());
        Ok(values)
    }

    /// Streams whose steps are computed at the same time at most.
    pub(super) fn parallel_streams(&self) -> usize {
        self.lanes.len() * self.max_batch
    }

    pub(super) fn metrics(&self) -> EngineMetrics {
        let streams = self.lanes.iter().map(|lane| lane.streams.load(Ordering::Relaxed));
        EngineMetrics {
            streams: streams.sum(),
            bytes_per_stream: self.bytes_per_stream,
            lanes: self.lanes.iter().map(|lane| lane.lane.metrics()).collect(),
        }
    }
}

/// What the streams of a model have done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EngineMetrics {
    /// Streams at the moment.
    pub streams: usize,
    /// Bytes of the encoder's caches, inputs and outputs of each stream.
    pub bytes_per_stream: usize,
    /// The steps of the encoder, by lane: a team of threads that computes the steps of a share of the streams.
    pub lanes: Vec<LaneMetrics>,
}

/// Where a stream submits its steps.
pub(super) struct LaneHandle {
    index: usize,
    pub(super) submitter: Submitter<BatchExecutor>,
}

pub(super) fn invalid(error: &ProgramError) -> Error {
    Error::Runtime {
        doing: "run the encoder".into(),
        reason: error.to_string(),
    }
}

/// The processors of each lane; `None`: any. `requested` is an option.
///
/// A step of a large graph is a team's: it has a lane for each group of processors that share a cache, because a team that
/// spans several spends its time on moving data between them. A small graph runs on one thread, with a lane for each core.
fn lane_processors(threads: usize, requested: Option<usize>) -> Vec<Option<Vec<usize>>> {
    if let Some(count) = requested {
        return vec![None; count.max(1)];
    }
    if threads == 1 {
        return vec![None; processors::cores()];
    }
    match processors::cache_groups() {
        groups if groups.len() > 1 => groups.into_iter().map(Some).collect(),
        _ => vec![None],
    }
}

impl Ports {
    fn find(
        lowered: &LoweredGraph,
        states: &[StateSpec],
        lengths: &LengthGraph,
        chunk: usize,
    ) -> std::result::Result<Self, String> {
        let input = |name: &str| lowered.inputs.iter().position(|input| input.name == name);
        let output = |name: &str| lowered.outputs.iter().position(|output| output.name == name);
        let needed = |port: Option<usize>, name: &str| port.ok_or_else(|| format!("it has no {name}"));
        let is_transposed = |name: &str| {
            lowered
                .outputs
                .iter()
                .any(|output| output.name == name && output.is_transposed)
        };
        let audio = needed(input("audio_signal"), "audio_signal")?;
        if !lowered.inputs[audio].is_transposed {
            return Err("its mel frames are not read as rows".into());
        }
        let outputs = match (output("outputs"), output("logprobs")) {
            (Some(outputs), None) if is_transposed("outputs") => outputs,
            (None, Some(log_probs)) if !is_transposed("logprobs") => log_probs,
            _ => return Err("its outputs are not computed as rows".into()),
        };
        let state = |state: &StateSpec| {
            let rows = state.dims.iter().rev().nth(1).copied().unwrap_or_default();
            Ok(StatePorts {
                input: needed(input(&state.input), &state.input)?,
                output: needed(output(&state.output), &state.output)?,
                is_ring: state.is_ring,
                rows: [rows, state.new_rows.unwrap_or_default()],
            })
        };
        if states.iter().any(|state| state.new_rows.is_some() && !state.is_ring) {
            return Err("it has caches that are shifted".into());
        }
        let head = match (input("prediction"), output("projected"), output(SCORES)) {
            (Some(prediction), Some(projected), Some(scores)) => Some(HeadPorts {
                prediction,
                projected,
                scores,
            }),
            (None, None, None) => None,
            _ => return Err("the head of its joint is incomplete".into()),
        };
        let boundary = lengths.boundary().map(|name| needed(input(name), name));
        let ports = Self {
            audio,
            ring_head: input(RING_HEAD_INPUT),
            lengths: boundary.collect::<std::result::Result<_, _>>()?,
            states: states.iter().map(state).collect::<std::result::Result<_, String>>()?,
            outputs,
            transposed_frames: output("outputs").map(|_| chunk),
            head,
        };
        // Each input is one of these.
        let known = 1
            + usize::from(ports.ring_head.is_some())
            + ports.lengths.len()
            + ports.states.len()
            + usize::from(ports.head.is_some());
        match known == lowered.inputs.len() {
            true => Ok(ports),
            false => Err("it has further inputs".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Runner;
    use super::*;
    use crate::model::{GraphOptimization, Model, Options, PrecisionChoice};
    use nemostt_kernels::gemm;

    /// Whether the encoder of a model in the repository runs as a program.
    fn is_program(model: &str, options: Options) -> bool {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(model);
        let model = Model::load(&path, &options).unwrap();
        matches!(model.encoder.runner, Runner::Program(_))
    }

    #[test]
    fn encoders_run_as_programs() {
        if !gemm::is_supported() {
            eprintln!("NOT TESTED on this processor: encoders as programs");
            return;
        }
        // Rows of the other models are too short for the kernels.
        let models = ["tests/data/tiny_random", "tests/data/nemotron_shape"];
        let models = models.map(|model| format!("../../{model}"));
        for lookahead in [Some(0), Some(80), None] {
            for model in models.iter().map(String::as_str).chain(["assets/demo-model"]) {
                let options = Options {
                    lookahead,
                    ..Default::default()
                };
                assert!(is_program(model, options), "{model}, {lookahead:?}");
            }
        }
        let int8 = Options {
            precision: PrecisionChoice::Int8,
            ..Default::default()
        };
        let exported = Options {
            graph_optimization: GraphOptimization::None,
            ..Default::default()
        };
        for options in [int8, exported] {
            assert!(!is_program("assets/demo-model", options));
        }
    }

    #[test]
    fn invalid_stream_does_not_fail_others() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        let model = Model::load(&path, &Options::default()).unwrap();
        let Runner::Program(program) = &model.encoder.runner else {
            eprintln!("NOT TESTED on this processor: encoders as programs");
            return;
        };
        let mut executor = BatchExecutor {
            program: program.linked.program(2).unwrap(),
            workers: WorkerPool::new(2, None).unwrap(),
        };
        let mut batch = |ring_heads: &[usize]| {
            let slot = |&ring_head: &usize| {
                let (mut io, handle) = program.stream().unwrap();
                io.input_mut(program.ports.audio).fill(0.25);
                io.set_scalar(program.ports.ring_head.unwrap(), ring_head);
                program.lanes[handle.index].streams.fetch_sub(1, Ordering::Relaxed);
                io
            };
            let mut slots: Vec<StreamIo> = ring_heads.iter().map(slot).collect();
            let mut results = Vec::new();
            executor.run(&mut slots, &mut results);
            let outputs = slots.iter().map(|slot| slot.output(program.ports.outputs).to_vec());
            (results, outputs.collect::<Vec<_>>())
        };
        let (alone, expected) = batch(&[3]);
        assert!(alone == [Ok(())] && expected[0].iter().any(|value| *value != 0.0));
        let (results, outputs) = batch(&[3, 70, 3, usize::MAX]);
        let invalid = Err(ProgramError::ShapeMismatch);
        assert_eq!(results, [Ok(()), invalid, Ok(()), invalid]);
        assert!(outputs[0] == expected[0] && outputs[2] == expected[0]);
        assert!(outputs[1].iter().all(|value| *value == 0.0));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The cache-aware encoder: consumes one window of mel frames per step, and returns the encoder frames of one chunk.

mod device_batch;
mod program;
mod program_state;
#[cfg(feature = "triton")]
mod remote;
mod session_meter;
mod session_state;
mod state;

#[cfg(feature = "triton")]
use super::{ModelIdentity, RemoteOptions, ServedTensors};
use super::{
    compile::{CompiledEncoder, compile_export, compile_specialized, specialize},
    compiled_cache::CacheEntry,
    directory::NamedEncoder,
    joint_head::{JointHead, JointHeadState},
    length_graph::LengthGraph,
    runtime::{LogLevel, Session, Tensor, log},
    target::Target,
};
use crate::{
    chunker::{Window, first_width, full_width},
    device::Device,
    error::{Error, Result},
    memory_guard,
    metrics::EncoderMetrics,
};
use nemostt_compiler::{Precision, StateSpec, StreamingConfig, make_drop_an_input, pipeline::PassReport};
use std::sync::Arc;

#[cfg(feature = "triton")]
pub use self::remote::ServerStatus;
#[cfg(all(feature = "triton", any(test, feature = "fuzzing")))]
pub(crate) use self::remote::twin;
#[cfg(feature = "triton")]
pub(crate) use self::remote::{RemoteEncoder, RemoteProbe};
pub(crate) use self::state::{EncoderSnapshot, EncoderState, HeadTensors};
use self::{
    device_batch::DeviceBatch,
    program::{EncoderParts, EncoderProgram},
    session_meter::SessionMeter,
};

/// Streams that gain from running at the same time on a server, which computes them together: as many as a batch there has by
/// default.
#[cfg(feature = "triton")]
const REMOTE_STREAMS: usize = 64;

/// The encoder graph (with its CTC head, if it has one), shared by all streams.
pub(crate) struct Encoder {
    runner: Runner,
    device: Device,
    streaming: StreamingConfig,
    lookahead: usize,
    /// Tokens of the CTC head, without blank; `None` if the outputs are encoder frames.
    ctc_tokens: Option<usize>,
    /// Whether it takes a language prompt.
    has_prompt: bool,
    /// Whether its output length excludes the padding of the last window.
    masks_length: bool,
    /// The state of a stream between windows, besides the length of the attention cache.
    states: Vec<StateSpec>,
    /// Window width, if all windows must have the same.
    width: Option<usize>,
    precision: Precision,
    /// The part of the joint that was appended to its graph.
    head: Option<JointHead>,
    passes: Vec<PassReport>,
}

/// What runs the graph.
enum Runner {
    Session {
        session: Session,
        /// Computes inputs of the session that depend on lengths only; `None` if the session computes them itself.
        lengths: Option<Arc<LengthGraph>>,
        meter: Arc<SessionMeter>,
    },
    /// On a device, if its batch could be opened.
    Batched(Arc<DeviceBatch>),
    /// On the CPU, if all of it are our own operations.
    Program(Arc<EncoderProgram>),
    /// On an inference server.
    #[cfg(feature = "triton")]
    Remote(Arc<RemoteEncoder>),
}

/// What a compiled encoder was prepared for.
enum Linked {
    Batched,
    /// With the part of the graph that was split off, or why there is none.
    Single(std::result::Result<LengthGraph, &'static str>),
}

impl Runner {
    fn new(encoder: CompiledEncoder, linked: Linked, parts: &EncoderParts<'_>, target: &Target) -> Result<Self> {
        let lengths = match linked {
            Linked::Batched => return Ok(Self::Batched(Arc::new(DeviceBatch::new(encoder, parts, target)?))),
            Linked::Single(lengths) => lengths.map(Arc::new),
        };
        let program = match &lengths {
            Ok(lengths) => EncoderProgram::new(&encoder, lengths.clone(), parts, target)?,
            Err(reason) => Err((*reason).into()),
        };
        match program {
            Ok(program) => return Ok(Self::Program(Arc::new(program))),
            // Otherwise it was tried to batch them in sessions, and the log says why that failed.
            Err(reason) if !target.batch_sessions => {
                let line = format!("{}: streams are not batched: {reason}", parts.name);
                log(LogLevel::Info, &line);
            }
            Err(_) => {}
        }
        Ok(Self::Session {
            session: Session::load_encoded(encoder.encoded, parts.name, target)?,
            lengths: lengths.ok(),
            meter: Arc::default(),
        })
    }
}

impl Encoder {
    /// Compiles the graph for `target`, or reads it from the compiled cache, and loads it. `head` is appended to it if
    /// possible: see [`has_head`](Self::has_head).
    pub(crate) fn load(
        part: NamedEncoder,
        streaming: StreamingConfig,
        lookahead: usize,
        ctc_tokens: Option<usize>,
        head: Option<&JointHead>,
        target: &Target,
    ) -> Result<Self> {
        memory_guard::check(format!("rewrite {}", part.name))?;
        let NamedEncoder { name, part, .. } = part;
        let contract = part.contract;
        let start = |mut compiled: CompiledEncoder, is_specialized: bool| {
            let mut linked = Linked::Single(Err("its graph runs as exported"));
            let mut appended_head = None;
            if is_specialized && target.batch_sessions && compiled.batch_streams(&name) {
                linked = Linked::Batched;
            } else if is_specialized {
                let here = head.filter(|_| target.device == Device::Cpu);
                appended_head = here.filter(|head| head.append_to(&mut compiled, &name)).cloned();
                compiled.fuse_subgraphs(&name);
                let lengths = LengthGraph::split_off(&mut compiled, &name, target)?;
                linked = Linked::Single(lengths.ok_or("its masks are computed in each step"));
            }
            let (states, passes) = (compiled.states.clone(), std::mem::take(&mut compiled.passes));
            let (width, precision) = (compiled.width, compiled.precision);
            let parts = EncoderParts {
                name: &name,
                streaming,
                chunk: lookahead + 1,
                ctc_tokens,
                head: appended_head.as_ref(),
                has_prompt: contract.prompt.is_some(),
            };
            let encoder = Self {
                runner: Runner::new(compiled, linked, &parts, target)?,
                device: target.device,
                streaming,
                lookahead,
                ctc_tokens,
                has_prompt: contract.prompt.is_some(),
                masks_length: contract.masks_length,
                states,
                width,
                precision,
                head: appended_head,
                passes,
            };
            memory_guard::check("run the encoder")?;
            encoder.warm_up()?;
            Ok(encoder)
        };
        let mut graph = part.graph;
        let mut entry = None;
        if let Some(unread) = part.unread {
            target.cancellation.check()?;
            entry = CacheEntry::of(&name, &graph, &unread, lookahead, target);
            if let Some(entry) = &entry
                && let Some(compiled) = entry.read(full_width(lookahead))
            {
                match start(compiled, true) {
                    // Neither is the entry's fault.
                    Err(error) if !(Error::is_end(&error) || matches!(error, Error::OutOfMemory { .. })) => {
                        entry.discard(&error)
                    }
                    result => return result,
                }
            }
            graph = unread.read()?;
            // It may have been overwritten in the meantime.
            entry = entry.filter(|entry| entry.is_of(&graph));
        }
        let specialized = target
            .specialize
            .then(|| specialize(&graph, &streaming, lookahead, target));
        if let Some(Err(reason)) = &specialized {
            log(LogLevel::Warning, &format!("{name} runs unmodified: {reason}"));
        }
        if let Some(Ok(specialized)) = specialized {
            let exported_precision = graph.precision();
            let started = compile_specialized(specialized, &name, &streaming, target).and_then(|compiled| {
                let entry = entry.filter(|_| compiled.is_worth_caching(exported_precision));
                let pending = entry.and_then(|entry| entry.write(&compiled));
                let encoder = start(compiled, true)?;
                if let Some(pending) = pending {
                    pending.commit();
                }
                Ok(encoder)
            });
            match started {
                Err(error @ (Error::BadModel { .. } | Error::Runtime { .. } | Error::Shape { .. })) => {
                    log(
                        LogLevel::Warning,
                        &format!("{name} runs unmodified, its compiled graph fails: {error}"),
                    );
                }
                result => return result,
            }
        }
        // A graph with a fixed width keeps it.
        let fixed = contract.fixed_frames;
        match make_drop_an_input(&mut graph, fixed.map(|_| lookahead + 1)) {
            Ok(()) => start(compile_export(graph, &name, &streaming, fixed, target)?, false),
            Err(fault) => Err(Error::BadModel { path: name, fault }),
        }
    }

    /// The encoder on the server that `remote` names. Of the local one, only what describes it is read. Without a server,
    /// that is an error if `needs_server`.
    ///
    /// # Errors
    /// As [`RemoteEncoder::connect`].
    #[cfg(feature = "triton")]
    pub(crate) fn remote(
        part: &NamedEncoder,
        (streaming, lookahead, ctc_tokens): (StreamingConfig, usize, Option<usize>),
        served: (ModelIdentity, ServedTensors),
        (remote, needs_server): (&RemoteOptions, bool),
        target: &Target,
    ) -> Result<Self> {
        let contract = part.part.contract;
        let encoder = RemoteEncoder::connect(remote, &part.name, served, needs_server, &target.cancellation)?;
        Ok(Self {
            runner: Runner::Remote(Arc::new(encoder)),
            device: Device::Cpu,
            streaming,
            lookahead,
            ctc_tokens,
            has_prompt: contract.prompt.is_some(),
            masks_length: contract.masks_length,
            states: Vec::new(),
            width: Some(full_width(lookahead)),
            precision: part.part.graph.precision(),
            head: None,
            passes: Vec::new(),
        })
    }

    /// The server that runs it, if one does.
    #[cfg(feature = "triton")]
    pub(crate) fn on_server(&self) -> Option<&RemoteEncoder> {
        match &self.runner {
            Runner::Remote(remote) => Some(remote),
            Runner::Session { .. } | Runner::Batched(_) | Runner::Program(_) => None,
        }
    }

    /// Whether a server runs it.
    pub(crate) fn is_remote(&self) -> bool {
        #[cfg(feature = "triton")]
        return self.on_server().is_some();
        #[cfg(not(feature = "triton"))]
        false
    }

    /// Runs silence once, because ONNX Runtime allocates memory in its first run, and a stream should not wait for
    /// that.
    fn warm_up(&self) -> Result<()> {
        let frames = vec![0.0; self.streaming.mels * first_width(self.lookahead)];
        let window = Window {
            frames: &frames,
            len: first_width(self.lookahead),
            width: first_width(self.lookahead),
            drop_frames: 0,
            outputs: self.lookahead + 1,
        };
        let mut state = EncoderState::new(self)?;
        let mut tensors = self.head.as_ref().map(JointHeadState::new).transpose()?;
        if let Some(tensors) = &mut tensors {
            state.bind(|run| tensors.bind_all(run))?;
        }
        state.step(self, &window, tensors.as_mut().map(JointHeadState::tensors))?;
        Ok(())
    }

    /// A tensor for the outputs of a step: encoder frames \[1, d_model, chunk\], or log-probabilities \[1, chunk, tokens +
    /// 1\].
    fn output_tensor(&self) -> Result<Tensor<f32>> {
        let chunk = self.lookahead + 1;
        match self.ctc_tokens {
            Some(tokens) => Tensor::zeros(&[1, chunk, tokens + 1]),
            None => Tensor::zeros(&[1, self.streaming.d_model, chunk]),
        }
    }

    /// See [`Recognizer::parallel_streams`](crate::Recognizer::parallel_streams).
    pub(crate) fn parallel_streams(&self) -> usize {
        match &self.runner {
            Runner::Session { .. } => 1,
            Runner::Batched(batch) => batch.parallel_streams(),
            Runner::Program(program) => program.parallel_streams(),
            #[cfg(feature = "triton")]
            Runner::Remote(_) => REMOTE_STREAMS,
        }
    }

    /// See [`Recognizer::metrics`](crate::Recognizer::metrics).
    pub(crate) fn metrics(&self) -> EncoderMetrics {
        match &self.runner {
            Runner::Session { meter, .. } => meter.metrics(),
            Runner::Batched(batch) => batch.metrics(),
            Runner::Program(program) => program.metrics(),
            #[cfg(feature = "triton")]
            Runner::Remote(remote) => remote.metrics(),
        }
    }

    /// Whether each step also projects and scores its frames: see [`EncoderState::bind`].
    pub(crate) fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// The outcome of each pass over its graph.
    pub(crate) fn passes(&self) -> &[PassReport] {
        &self.passes
    }

    /// The device it runs on.
    pub(crate) fn device(&self) -> Device {
        self.device
    }

    /// Precision of most of its weights.
    pub(crate) fn precision(&self) -> Precision {
        self.precision
    }

    /// Intra-op threads; 0: one per physical core.
    pub(crate) fn threads(&self) -> usize {
        match &self.runner {
            Runner::Session { session, .. } => session.threads(),
            Runner::Batched(batch) => batch.threads(),
            Runner::Program(program) => program.threads(),
            #[cfg(feature = "triton")]
            Runner::Remote(_) => 0,
        }
    }
}

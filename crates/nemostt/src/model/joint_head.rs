// SPDX-License-Identifier: MIT OR Apache-2.0

//! The part of the joint in the encoder's run: the frames of a chunk are projected and scored with the latest
//! prediction as soon as they are computed. Frames after a token are scored again by [`joint`](super::joint).

use super::{
    HeadTensors,
    compile::CompiledEncoder,
    runtime::{Binding, LogLevel, Tensor, log},
};
use crate::error::Result;
use nemostt_compiler::{
    Graph, SCORES,
    pipeline::{APPEND_JOINT_HEAD, NotApplied, some},
};

/// The graph that projects and scores frames as rows, and the shapes of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct JointHead {
    /// See [`Encoded::append_head`](nemostt_compiler::Encoded::append_head).
    pub(super) graph: Graph,
    /// Shape of a prediction.
    pub(super) prediction: Vec<usize>,
    /// Shape of a chunk's projected frames: \[frames, width\].
    pub(super) projected: Vec<usize>,
    /// Tokens and blank.
    pub(super) classes: usize,
    /// Threads, if it is run on its own.
    pub(super) threads: usize,
}

impl JointHead {
    /// Appends it to the encoder of file `name`. If that fails, logs why.
    pub(super) fn append_to(&self, encoder: &mut CompiledEncoder, name: &str) -> bool {
        let result = encoder.encoded.append_head(&self.graph);
        if let Err(reason) = &result {
            let line = format!("{name}: frames are projected and scored in a separate run: {reason}");
            log(LogLevel::Info, &line);
        }
        let is_appended = result.is_ok();
        encoder.note_link(
            APPEND_JOINT_HEAD,
            result.map_err(NotApplied::Unsupported).and_then(|()| some(1, "joints")),
        );
        is_appended
    }
}

/// Inputs and outputs of an encoder with a head, for warm-up; streams have [their own](super::TransducerState).
pub(super) struct JointHeadState {
    prediction: Tensor<f32>,
    projected: Tensor<f32>,
    scores: Tensor<f32>,
}

impl JointHeadState {
    pub(super) fn new(head: &JointHead) -> Result<Self> {
        Ok(Self {
            prediction: Tensor::zeros(&head.prediction)?,
            projected: Tensor::zeros(&head.projected)?,
            scores: Tensor::zeros(&[head.projected[0], head.classes])?,
        })
    }

    pub(super) fn tensors(&mut self) -> HeadTensors<'_> {
        HeadTensors {
            prediction: self.prediction.data(),
            projected: self.projected.data_mut(),
            scores: self.scores.data_mut(),
        }
    }

    pub(super) fn bind_all(&mut self, run: &mut Binding) -> Result<()> {
        bind(run, &self.prediction, &mut self.projected, &mut self.scores)
    }
}

/// Binds the head in a run of the encoder: it reads `prediction`, and writes the chunk's projected frames, \[frames,
/// width\], and their raw logits, `scores` \[frames, tokens + 1\].
pub(super) fn bind(
    run: &mut Binding,
    prediction: &Tensor<f32>,
    projected: &mut Tensor<f32>,
    scores: &mut Tensor<f32>,
) -> Result<()> {
    run.input("prediction", prediction)?;
    run.output("projected", projected)?;
    run.output(SCORES, scores)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::model::tests::transducer_in;
    use crate::{
        chunker::{Window, first_width, full_width},
        model::{
            EncoderState, Model, Options, PrecisionChoice, Transducer, TransducerState,
            directory::{Named, TransducerParts},
            target::Target,
        },
    };
    use nemostt_kernels::gemm;

    /// The demo model's transducer, with its head run on its own.
    fn standalone_transducer(width: usize, chunk: usize, target: &Target) -> Transducer {
        let parts = TransducerParts::Joined(Named {
            name: "demo".into(),
            part: Box::new(transducer_in("assets/demo-model/decoder_joint-model.onnx")),
        });
        let (mut transducer, head) = Transducer::load(parts, width, chunk, target).unwrap();
        if let Some(head) = head {
            transducer.run_head_standalone(head, target).unwrap();
        }
        transducer
    }

    #[test]
    fn head_in_encoder_matches_standalone_head() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo-model");
        for (lookahead, precision) in [
            (0, PrecisionChoice::Fp32),
            (80, PrecisionChoice::Fp32),
            (1040, PrecisionChoice::Fp32),
            (80, PrecisionChoice::Int8),
        ] {
            let options = Options {
                lookahead: Some(lookahead),
                precision,
                ..Default::default()
            };
            let model = Model::load(&path, &options).unwrap();
            if !gemm::is_supported() {
                // Without kernels no head is appended, so there is nothing to compare.
                assert!(!model.encoder.has_head());
                eprintln!("NOT TESTED on this processor: the joint's head in the encoder");
                continue;
            }
            assert!(model.encoder.has_head(), "{lookahead} ms, {precision:?}");
            let (appended, streaming) = (model.transducer.as_ref().unwrap(), model.config.streaming);
            let (mels, chunk) = (streaming.mels, model.config.lookahead + 1);
            let standalone = standalone_transducer(streaming.d_model, chunk, &Target::resolve(&options).unwrap());

            let mut encoder = EncoderState::new(&model.encoder).unwrap();
            let mut states = [appended, &standalone]
                .map(|transducer| TransducerState::new(transducer, encoder.outputs(), chunk).unwrap());
            encoder.bind(|run| states[0].bind_head(run)).unwrap();
            for step in 0..6 {
                // The stream is reset after the fourth step.
                let is_first = step % 4 == 0;
                if is_first {
                    encoder.reset();
                    states.iter_mut().for_each(TransducerState::reset);
                }
                let width = if is_first { first_width } else { full_width }(chunk - 1);
                let frames: Vec<f32> = (0..width * mels)
                    .map(|index| ((index * 7 + step * 31) % 41) as f32 / 20.0 - 1.0)
                    .collect();
                let window = Window {
                    frames: &frames,
                    len: width,
                    width,
                    drop_frames: if is_first { 0 } else { 2 },
                    outputs: chunk,
                };
                states[0].prepare(appended).unwrap();
                encoder.step(&model.encoder, &window, states[0].head_tensors()).unwrap();
                states.iter_mut().for_each(TransducerState::start_chunk);
                // Two tokens in frames that all chunks have, and one at the end, after which the prediction is only
                // computed for the next step.
                for (frame, token) in [(0, 5), (0, 17 + step), (chunk - 1, 3)] {
                    let [first, second] = &mut states;
                    let scored = first.score(appended, encoder.outputs(), frame).unwrap();
                    assert_eq!(scored, second.score(&standalone, encoder.outputs(), frame).unwrap());
                    for frame in frame..scored.min(chunk) {
                        let (first, second) = (first.logits(frame), second.logits(frame));
                        for (a, b) in first.iter().zip(second) {
                            assert!(
                                (a - b).abs() < 1e-5,
                                "{lookahead} ms, step {step}, frame {frame}: {a} and {b}"
                            );
                        }
                        assert!(first.iter().any(|value| value.abs() > 0.01));
                    }
                    states.iter_mut().for_each(|state| state.accept_token(token));
                }
            }
        }
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The joint's part in the encoder's run: each chunk's frames are projected and scored against the last prediction as soon as
//! they are there. What is scored again behind a label is [`joint`](super::joint)'s.

use super::{
    compile::CompiledEncoder,
    runtime::{Binding, LogLevel, Tensor, log},
};
use crate::error::Result;
use nemostt_compiler::{
    Graph, SCORES,
    pipeline::{NotApplied, some},
};

/// Projection and scores for rows, as a graph and with the sizes of its tensors.
#[derive(Debug, Clone)]
pub(crate) struct JointHead {
    /// See [`Encoded::append_head`](nemostt_compiler::Encoded::append_head).
    pub(super) graph: Graph,
    /// Those of a prediction.
    pub(super) prediction: Vec<usize>,
    /// Those of the chunk's frames, projected: \[frames, width\].
    pub(super) projected: Vec<usize>,
    /// Labels and blank.
    pub(super) classes: usize,
    /// Threads for a run of its own, where it is not in the encoder's.
    pub(super) threads: usize,
}

impl JointHead {
    /// Puts it behind the encoder of file `name`; says why not, in the log, where it cannot be.
    pub(super) fn append_to(&self, encoder: &mut CompiledEncoder, name: &str) -> bool {
        let joined = encoder.encoded.append_head(&self.graph);
        if let Err(reason) = &joined {
            let line = format!("{name}: frames are projected and scored in a run of its own: {reason}");
            log(LogLevel::Info, &line);
        }
        let is_joined = joined.is_ok();
        encoder.note_link(
            0,
            joined.map_err(NotApplied::Unsupported).and_then(|()| some(1, "joints")),
        );
        is_joined
    }
}

/// What an encoder with a head reads and writes, for a run that nobody needs; streams have [their own](super::TransducerState).
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

    pub(super) fn bind_all(&mut self, run: &mut Binding) -> Result<()> {
        bind(run, &self.prediction, &mut self.projected, &mut self.scores)
    }
}

/// Lets a run of the encoder read `prediction`, and write the chunk's frames, `projected` \[frames, width\], and their raw logits,
/// `scores` \[frames, labels + 1\].
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

    /// The demonstration model's, which runs its head by itself.
    fn transducer_apart(width: usize, chunk: usize, target: &Target) -> Transducer {
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
    fn a_head_in_the_encoder_gives_what_it_gives_by_itself() {
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
                // Without kernels there are no rows that a head could take: nothing is compared then.
                assert!(!model.encoder.has_head());
                eprintln!("NOT TESTED on this processor: the joint's head in the encoder");
                continue;
            }
            assert!(model.encoder.has_head(), "{lookahead} ms, {precision:?}");
            let (joined, streaming) = (model.transducer.as_ref().unwrap(), model.config.streaming);
            let (mels, chunk) = (streaming.mels, model.config.lookahead + 1);
            let apart = transducer_apart(streaming.d_model, chunk, &Target::resolve(&options).unwrap());

            let mut encoder = EncoderState::new(&model.encoder).unwrap();
            let mut states =
                [joined, &apart].map(|transducer| TransducerState::new(transducer, encoder.outputs(), chunk).unwrap());
            encoder.bind(|run| states[0].bind_head(run)).unwrap();
            for step in 0..6 {
                // A stream ends after the fourth step.
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
                states[0].prepare(joined).unwrap();
                encoder.step(&model.encoder, &window).unwrap();
                states.iter_mut().for_each(TransducerState::start_chunk);
                // Two labels in frames that all chunks have, and one at the end, whose prediction waits for the next step.
                for (frame, label) in [(0, 5), (0, 17 + step), (chunk - 1, 3)] {
                    let [first, second] = &mut states;
                    let scored = first.score(joined, encoder.outputs(), frame).unwrap();
                    assert_eq!(scored, second.score(&apart, encoder.outputs(), frame).unwrap());
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
                    states.iter_mut().for_each(|state| state.accept_label(label));
                }
            }
        }
    }
}

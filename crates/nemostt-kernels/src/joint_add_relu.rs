// SPDX-License-Identifier: MIT OR Apache-2.0

//! The addition and ReLU of a joint network between its projections and its output layer: `max(0, frame + prediction)`
//! for each frame (NeMo's `RNNTJoint.joint_after_projection` with `activation: relu`, which all published models have).

use pulp::Arch;

use super::fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task};

/// [`add_relu`] of each frame and one prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JointAddRelu {
    /// Values per frame.
    pub width: usize,
}

/// Inputs: frames \[frames, width\], prediction \[1, width\]. Output: \[frames, width\].
impl FusedOp for JointAddRelu {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width); 2], [self.width])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let width = self.width;
        let rows = lengths[0] / width;
        match lengths[1] == width {
            true => Ok(vec![OutputShape::Rows { rows, width }]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn split(&self, lengths: &[usize], workers: usize) -> Split {
        let rows = lengths[0] / self.width;
        Split::by_rows(rows, workers)
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, width) = (task.range(), self.width);
        let (frames, prediction) = (&task.input(0)[rows.start * width..], task.input(1));
        for (frame, output) in frames.chunks_exact(width).zip(task.rows_mut().chunks_exact_mut(width)) {
            add_relu(frame, prediction, output);
        }
    }

    fn is_parallel(&self) -> bool {
        false
    }
}

/// Writes `max(0, frame + prediction)`, element-wise, to `output`.
///
/// # Panics
/// If the lengths differ.
pub fn add_relu(frame: &[f32], prediction: &[f32], output: &mut [f32]) {
    assert!(frame.len() == output.len() && prediction.len() == output.len());
    // Vectorized for this processor.
    Arch::new().dispatch(|| {
        for ((out, frame), prediction) in output.iter_mut().zip(frame).zip(prediction) {
            let sum = frame + prediction;
            // NaN propagates.
            *out = if sum < 0.0 { 0.0 } else { sum };
        }
    });
}

#[cfg(test)]
mod tests {
    use super::{super::noise, *};

    #[test]
    fn add_relu_clamps_negative_sums() {
        for width in [0, 1, 7, 16, 33, 640] {
            let (frame, prediction) = (noise(width, 1), noise(width, 2));
            let mut output = vec![f32::NAN; width];
            add_relu(&frame, &prediction, &mut output);
            for index in 0..width {
                assert_eq!(output[index], (frame[index] + prediction[index]).max(0.0));
            }
            assert!(width < 16 || output.contains(&0.0) && output.iter().any(|&value| value > 0.0));
        }
    }

    #[test]
    fn nan_propagates() {
        let mut output = [0.0; 3];
        add_relu(
            &[f32::NAN, 1.0, f32::INFINITY],
            &[1.0, f32::NAN, f32::NEG_INFINITY],
            &mut output,
        );
        assert!(output.iter().all(|value| value.is_nan()));
    }
}

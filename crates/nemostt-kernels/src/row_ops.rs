// SPDX-License-Identifier: MIT OR Apache-2.0

//! Small operations on rows between the large ones of an encoder: what ONNX has as `Gather`, `Mul` with a mask, `Relu`,
//! and `LogSoftmax`. In a program, they need neither a session nor a thread of their own.

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task},
    logits::log_softmax_row,
};

/// Selects rows by index: those of the encoder's frames that the chunk keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SelectRows {
    /// Values per row.
    pub width: usize,
}

/// Inputs: rows \[rows, width\]; indices \[count\], as float32 (exact up to 2^24 rows), negative ones counted from the end, as
/// in ONNX's `Gather`. Output: rows \[count, width\]. A row that does not exist is all NaN, so that the step fails.
impl FusedOp for SelectRows {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width), None], [self.width])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let (rows, width) = (lengths[1], self.width);
        Ok(vec![OutputShape::Rows { rows, width }])
    }

    fn split(&self, lengths: &[usize], _: usize) -> Split {
        all_rows(lengths[1])
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, indices, width) = (task.input(0), task.input(1), self.width);
        let count = (rows.len() / width) as f32;
        for (dst, &index) in task.rows_mut().chunks_exact_mut(width).zip(indices) {
            let index = if index < 0.0 { index + count } else { index };
            match (0.0..count).contains(&index) {
                true => dst.copy_from_slice(&rows[index as usize * width..][..width]),
                false => dst.fill(f32::NAN),
            }
        }
    }
}

/// Multiplies each row by a factor: a mask of valid frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScaleRows {
    /// Values per row.
    pub width: usize,
}

/// Inputs: rows \[rows, width\], factors \[rows\]. Output: rows \[rows, width\].
impl FusedOp for ScaleRows {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width), None], [self.width])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let (rows, width) = (lengths[0] / self.width, self.width);
        match lengths[1] == rows {
            true => Ok(vec![OutputShape::Rows { rows, width }]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn split(&self, lengths: &[usize], _: usize) -> Split {
        all_rows(lengths[1])
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, factors, width) = (task.input(0), task.input(1), self.width);
        let rows = rows.chunks_exact(width).zip(factors);
        for (dst, (row, factor)) in task.rows_mut().chunks_exact_mut(width).zip(rows) {
            for (dst, value) in dst.iter_mut().zip(row) {
                *dst = value * factor;
            }
        }
    }
}

/// `max(x, 0)` of each value. NaN stays, so that the step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReluRows {
    /// Values per row.
    pub width: usize,
}

/// Input and output: rows \[rows, width\].
impl FusedOp for ReluRows {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width)], [self.width])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let (rows, width) = (lengths[0] / self.width, self.width);
        Ok(vec![OutputShape::Rows { rows, width }])
    }

    fn split(&self, lengths: &[usize], workers: usize) -> Split {
        let rows = lengths[0] / self.width;
        Split::by_rows(rows, workers)
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, width) = (task.range(), self.width);
        let input = &task.input(0)[rows.start * width..];
        for (dst, &value) in task.rows_mut().iter_mut().zip(input) {
            *dst = if value < 0.0 { 0.0 } else { value };
        }
    }
}

/// Log-probabilities of each row's logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSoftmax {
    /// Values per row.
    pub width: usize,
}

/// Input and output: rows \[rows, width\].
impl FusedOp for LogSoftmax {
    fn signature(&self) -> Signature {
        Signature::new([Some(self.width)], [self.width])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        let (rows, width) = (lengths[0] / self.width, self.width);
        Ok(vec![OutputShape::Rows { rows, width }])
    }

    fn split(&self, lengths: &[usize], workers: usize) -> Split {
        let rows = lengths[0] / self.width;
        Split::by_rows(rows, workers)
    }

    fn is_row_wise(&self) -> bool {
        true
    }

    fn run(&self, task: &mut Task<'_>) {
        let (rows, width) = (task.range(), self.width);
        let input = &task.input(0)[rows.start * width..];
        let output = task.rows_mut().chunks_exact_mut(width);
        for (logits, log_probs) in input.chunks_exact(width).zip(output) {
            log_softmax_row(logits, log_probs);
        }
    }
}

/// One task for all rows, which are too few to be divided.
fn all_rows(rows: usize) -> Split {
    Split::by_rows(rows, 1)
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! The element-wise part of an LSTM layer: from the gates' pre-activations to the next cell and hidden state.
//!
//! One step is a few thousand values. As ten separate nodes, ONNX Runtime would spend more time between them than in
//! them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::{
    fused_op::{FusedOp, OutputShape, ProgramError, Signature, Split, Task, VECTOR_BLOCK},
    simd_math::{sigmoid, tanh},
};

/// Gates of each unit, in ONNX's order: input, output, forget, cell.
pub const GATES: usize = 4;

/// The gates of an LSTM layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LstmCell {
    /// Values of the hidden state, and of the cell state.
    pub units: usize,
}

/// Inputs: pre-activations from the input and from the hidden state, \[1, 4 · units\] each, and the cell state \[1,
/// units\]. Outputs: next hidden state, next cell state.
impl FusedOp for LstmCell {
    fn signature(&self) -> Signature {
        let gates = self.units.saturating_mul(GATES);
        Signature::new([Some(gates), Some(gates), Some(self.units)], [self.units; 2])
    }

    fn infer(&self, lengths: &[usize]) -> Result<Vec<OutputShape>, ProgramError> {
        match lengths_match([lengths[0], lengths[1]], lengths[2]) && lengths[2] == self.units {
            true => Ok(vec![OutputShape::Like(2); 2]),
            false => Err(ProgramError::ShapeMismatch),
        }
    }

    fn split(&self, _: &[usize], workers: usize) -> Split {
        Split::Columns {
            block: VECTOR_BLOCK,
            tasks: (self.units / VECTOR_BLOCK).clamp(1, workers),
        }
    }

    fn run(&self, task: &mut Task<'_>) {
        let units = task.range();
        let step = LstmStep {
            sums: [task.input(0), task.input(1)],
            cells: task.input(2),
        };
        let [mut state, mut cells] = task.columns_mut();
        step.apply(
            units.clone(),
            state.row_from(0, units.start),
            cells.row_from(0, units.start),
        );
    }

    fn is_parallel(&self) -> bool {
        false
    }
}

/// One step of an LSTM layer.
pub struct LstmStep<'a> {
    /// Pre-activations \[4 · units\], from the input and from the hidden state, which are added.
    pub sums: [&'a [f32]; 2],
    /// \[units\], the cell state before the step.
    pub cells: &'a [f32],
}

impl LstmStep<'_> {
    /// Whether the lengths match.
    pub fn is_consistent(&self) -> bool {
        lengths_match(self.sums.map(<[f32]>::len), self.cells.len())
    }

    /// Writes the next hidden state and cell state of these units.
    ///
    /// # Panics
    /// If the units are out of range, `state` or `cells` has another length, or the step is not
    /// [consistent](Self::is_consistent).
    pub fn apply(&self, units: Range<usize>, state: &mut [f32], cells: &mut [f32]) {
        assert!(self.is_consistent() && state.len() == units.len() && cells.len() == units.len());
        Arch::new().dispatch(Apply {
            step: self,
            units,
            state,
            cells,
        });
    }
}

/// See [`LstmStep::is_consistent`].
pub(super) fn lengths_match(sums: [usize; 2], cells: usize) -> bool {
    let fits = |&sums: &usize| sums.is_multiple_of(GATES) && sums / GATES == cells;
    sums.iter().all(fits)
}

struct Apply<'a> {
    step: &'a LstmStep<'a>,
    units: Range<usize>,
    state: &'a mut [f32],
    cells: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let LstmStep { sums, cells } = *self.step;
        let (all, units) = (cells.len(), self.units);
        let gate = |gate: usize| sums.map(|sums| S::as_simd_f32s(&sums[gate * all..][units.clone()]));
        let [input, output, forget, new] = [gate(0), gate(1), gate(2), gate(3)];
        let previous = S::as_simd_f32s(&cells[units.clone()]);
        let (state, state_rest) = S::as_mut_simd_f32s(self.state);
        let (cells, cells_rest) = S::as_mut_simd_f32s(self.cells);
        for index in 0..previous.0.len() {
            let sum = |[a, b]: [(&[S::f32s], &[f32]); 2]| simd.add_f32s(a.0[index], b.0[index]);
            let retained = simd.mul_f32s(sigmoid(simd, sum(forget)), previous.0[index]);
            let added = simd.mul_f32s(sigmoid(simd, sum(input)), tanh(simd, sum(new)));
            cells[index] = simd.add_f32s(retained, added);
            state[index] = simd.mul_f32s(sigmoid(simd, sum(output)), tanh(simd, cells[index]));
        }
        for index in 0..previous.1.len() {
            let sum = |[a, b]: [(&[S::f32s], &[f32]); 2]| a.1[index] + b.1[index];
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            cells_rest[index] = sigmoid(sum(forget)) * previous.1[index] + sigmoid(sum(input)) * sum(new).tanh();
            state_rest[index] = sigmoid(sum(output)) * cells_rest[index].tanh();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::noise, *};

    /// Compares a step of `units` units with float64.
    fn check(units: usize, scale: f32) {
        let inputs: Vec<Vec<f32>> = [(GATES * units, 1), (GATES * units, 2), (units, 3)]
            .map(|(count, seed)| noise(count, seed).iter().map(|value| value * scale).collect())
            .into();
        let step = LstmStep {
            sums: [&inputs[0], &inputs[1]],
            cells: &inputs[2],
        };
        assert!(step.is_consistent());
        let (mut state, mut cells) = (vec![f32::NAN; units], vec![f32::NAN; units]);
        // In two parts.
        let split = units / 3;
        step.apply(0..split, &mut state[..split], &mut cells[..split]);
        step.apply(split..units, &mut state[split..], &mut cells[split..]);
        for unit in 0..units {
            let sum = |gate: usize| f64::from(inputs[0][gate * units + unit] + inputs[1][gate * units + unit]);
            let gate = |gate: usize| 1.0 / (1.0 + (-sum(gate)).exp());
            let next = gate(2) * f64::from(inputs[2][unit]) + gate(0) * sum(3).tanh();
            let hidden = gate(1) * next.tanh();
            for (name, expected, got) in [("cell", next, cells[unit]), ("state", hidden, state[unit])] {
                let error = (f64::from(got) - expected).abs() / expected.abs().max(1.0);
                assert!(error < 5e-7, "{name} {unit} is {expected}, not {got}");
            }
        }
    }

    #[test]
    fn lstm_cell_matches_f64() {
        for units in [0, 1, 7, 16, 33, 128, 640] {
            for scale in [0.01, 1.0, 8.0, 60.0] {
                check(units, scale);
            }
        }
    }

    #[test]
    fn mismatched_inputs_are_detected() {
        let values = [0.0; 16];
        let fits = |a: usize, b: usize, cells: usize| {
            LstmStep {
                sums: [&values[..a], &values[..b]],
                cells: &values[..cells],
            }
            .is_consistent()
        };
        assert!(fits(16, 16, 4));
        assert!(!fits(16, 12, 4) && !fits(16, 16, 3) && !fits(15, 15, 3));
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! What the gates of an LSTM layer make of its sums: the next cells and the next state.
//!
//! One label is a few thousand values. As single operations ONNX Runtime takes longer to go from one to the next of its ten
//! nodes than to do them.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::simd_math::{sigmoid, tanh};

/// Gates of each unit: for input, output and forgetting, and what goes into the cells; in this order, as ONNX has them.
pub const GATES: usize = 4;

/// One step of a layer.
pub struct LstmStep<'a> {
    /// What the input and what the state give the gates: the sum of both counts.
    pub sums: [&'a [f32]; 2],
    /// The cell state before the step.
    pub cells: &'a [f32],
}

impl LstmStep<'_> {
    /// Whether its inputs fit each other.
    pub fn is_consistent(&self) -> bool {
        are_whole(self.sums.map(<[f32]>::len), self.cells.len())
    }

    /// Writes the next state and the next cells of these units.
    ///
    /// # Panics
    /// If there are no such units or not as many places for them, or the step is not [whole](Self::is_consistent).
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

/// Whether so many sums and cells are those of a step: see [`LstmStep::is_consistent`].
pub(super) fn are_whole(sums: [usize; 2], cells: usize) -> bool {
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
        let before = S::as_simd_f32s(&cells[units.clone()]);
        let (state, state_rest) = S::as_mut_simd_f32s(self.state);
        let (cells, cells_rest) = S::as_mut_simd_f32s(self.cells);
        for index in 0..before.0.len() {
            let sum = |[a, b]: [(&[S::f32s], &[f32]); 2]| simd.add_f32s(a.0[index], b.0[index]);
            let kept = simd.mul_f32s(sigmoid(simd, sum(forget)), before.0[index]);
            let taken = simd.mul_f32s(sigmoid(simd, sum(input)), tanh(simd, sum(new)));
            cells[index] = simd.add_f32s(kept, taken);
            state[index] = simd.mul_f32s(sigmoid(simd, sum(output)), tanh(simd, cells[index]));
        }
        for index in 0..before.1.len() {
            let sum = |[a, b]: [(&[S::f32s], &[f32]); 2]| a.1[index] + b.1[index];
            let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
            cells_rest[index] = sigmoid(sum(forget)) * before.1[index] + sigmoid(sum(input)) * sum(new).tanh();
            state_rest[index] = sigmoid(sum(output)) * cells_rest[index].tanh();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::noise, *};

    /// Compares a step of `units` units with one in double precision.
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
        let cut = units / 3;
        step.apply(0..cut, &mut state[..cut], &mut cells[..cut]);
        step.apply(cut..units, &mut state[cut..], &mut cells[cut..]);
        for unit in 0..units {
            let sum = |gate: usize| f64::from(inputs[0][gate * units + unit] + inputs[1][gate * units + unit]);
            let gate = |gate: usize| 1.0 / (1.0 + (-sum(gate)).exp());
            let next = gate(2) * f64::from(inputs[2][unit]) + gate(0) * sum(3).tanh();
            let given = gate(1) * next.tanh();
            for (name, exact, got) in [("cell", next, cells[unit]), ("state", given, state[unit])] {
                let error = (f64::from(got) - exact).abs() / exact.abs().max(1.0);
                assert!(error < 5e-7, "{name} {unit} is {exact}, not {got}");
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

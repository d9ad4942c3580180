// SPDX-License-Identifier: MIT OR Apache-2.0

//! Left-hand sides that a thread packs for itself.

use super::FusedOp;
use crate::gemm::PackedLhsMut;

/// The output of the last [prologue](crate::fused_op::Prologue) that a thread has run. Several GEMMs may read it.
#[derive(Default)]
pub(super) struct ThreadLocalLhs {
    values: Vec<f32>,
    /// Which value it is.
    value: Option<usize>,
}

impl ThreadLocalLhs {
    pub(super) fn resize(&mut self, length: usize) {
        self.values.resize(length, 0.0);
    }

    pub(super) fn invalidate(&mut self) {
        self.value = None;
    }

    /// Value `value`, the output of `prologue` for `rows` of `width` values, in packed layout.
    ///
    /// # Panics
    /// If the operation is no prologue.
    pub(super) fn packed(&mut self, value: usize, prologue: &dyn FusedOp, rows: &[f32], width: usize) -> &[f32] {
        let packed = &mut self.values[..rows.len()];
        if self.value != Some(value) {
            let Some(prologue) = prologue.as_prologue() else {
                panic!("{prologue:?} is no prologue");
            };
            prologue.run_packed(rows, PackedLhsMut::all(packed, width));
            self.value = Some(value);
        }
        packed
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Left-hand sides that a thread packs for itself.

use std::sync::Arc;

use super::FusedOp;
use crate::gemm::PackedLhsMut;

/// The output of the last [prologue](crate::fused_op::Prologue) that a thread has run. Several GEMMs may read it.
#[derive(Default)]
pub(super) struct ThreadLocalLhs {
    values: Vec<f32>,
    /// Address of the operation that computed the values.
    source: Option<usize>,
}

impl ThreadLocalLhs {
    pub(super) fn resize(&mut self, length: usize) {
        self.values.resize(length, 0.0);
    }

    pub(super) fn invalidate(&mut self) {
        self.source = None;
    }

    /// The output of `prologue` for `rows` of `width` values, in packed layout.
    pub(super) fn packed(&mut self, prologue: &Arc<dyn FusedOp>, rows: &[f32], width: usize) -> &[f32] {
        let address = Arc::as_ptr(prologue).addr();
        let packed = &mut self.values[..rows.len()];
        if self.source != Some(address)
            && let Some(prologue) = prologue.as_prologue()
        {
            prologue.run_packed(rows, PackedLhsMut::all(packed, width));
            self.source = Some(address);
        }
        packed
    }
}

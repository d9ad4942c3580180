// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention with relative positions.

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
};
use nemostt_compiler::ops::{OpSchema, REL_POS_ATTENTION, SCALE};
use nemostt_kernels::rel_pos_attention::{AttentionDims, RelPosAttention};

impl CustomOp for RelPosAttention {
    const SCHEMA: OpSchema = REL_POS_ATTENTION;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        let ((bias_shape, bias_u), (_, bias_v)) = (attributes.floats(6)?, attributes.floats(7)?);
        let ((_, positions), (index_shape, indices)) = (attributes.floats(8)?, attributes.numbers(9)?);
        let (&[heads, head_dim], &[frames, keys]) = (&bias_shape[..], &index_shape[..]) else {
            return Err(ort::Error::new("the constants of an attention have a wrong rank"));
        };
        let dims = AttentionDims {
            heads,
            head_dim,
            frames,
            left_context: keys.saturating_sub(frames),
        };
        let scale = attributes.float(SCALE).unwrap_or(1.0);
        Self::new(dims, scale, [bias_u, bias_v], &positions, &indices)
            .ok_or_else(|| ort::Error::new("the shapes of an attention's constants do not match"))
    }
}

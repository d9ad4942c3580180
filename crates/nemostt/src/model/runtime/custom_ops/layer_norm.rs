// SPDX-License-Identifier: MIT OR Apache-2.0

//! Layer normalization.

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
};
use nemostt_compiler::ops::{EPSILON, LAYER_NORM, OpSchema, SILU};
use nemostt_kernels::layer_norm::LayerNorm;

impl CustomOp for LayerNorm {
    const SCHEMA: OpSchema = LAYER_NORM;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        let ((_, scale), (_, bias)) = (attributes.floats(1)?, attributes.floats(2)?);
        let layer_norm = Self {
            scale,
            bias,
            epsilon: attributes.float(EPSILON).unwrap_or_default(),
            silu: attributes.flag(SILU),
        };
        match layer_norm.is_consistent() {
            true => Ok(layer_norm),
            false => Err(ort::Error::new(
                "scale and bias of a layer normalization differ in length",
            )),
        }
    }
}

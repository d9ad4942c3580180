// SPDX-License-Identifier: MIT OR Apache-2.0

//! One layer normalisation.

use super::{
    super::kernel_io::Tensors,
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{EPSILON, LAYER_NORM, OpSchema, SILU};
use nemostt_kernels::executor::Op;
use nemostt_kernels::layer_norm::LayerNorm;

/// One normalisation.
pub(super) struct LayerNormKernel(LayerNorm);

impl CustomOp for LayerNormKernel {
    const SCHEMA: OpSchema = LAYER_NORM;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        let kernel = || -> ort::Result<LayerNorm> {
            let ((_, scale), (_, bias)) = (source.floats(1)?, source.floats(2)?);
            let normalization = LayerNorm {
                scale,
                bias,
                epsilon: source.float(EPSILON).unwrap_or_default(),
                silu: source.flag(SILU),
            };
            match normalization.is_consistent() {
                true => Ok(normalization),
                false => Err(ort::Error::new(
                    "scale and bias of a normalisation do not fit each other",
                )),
            }
        };
        kernel().map(Self)
    }

    fn into_op(self) -> Op {
        Op::LayerNorm(self.0)
    }
}

impl Compute for LayerNormKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let (mut sizes, rows) = tensors.input(0)?;
        if sizes.last_mut().is_none_or(|last| *last != self.0.width() as i64) {
            return Err(ort::Error::new(
                "rows of a normalisation are of another width than its scale",
            ));
        }
        self.0.normalize(rows, tensors.output(0, sizes)?);
        Ok(())
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! One layer normalisation.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::kernel_io::Tensors,
    attributes::Attributes,
    panic_guard::{Compute, PanicGuard},
    shape_fns,
};
use nemostt_compiler::{EPSILON, LAYER_NORM, SILU};
use nemostt_kernels::layer_norm::LayerNorm;

/// Our own operation for layer normalisation: see [`LAYER_NORM`] for its inputs.
pub(super) struct LayerNormOp;

impl Operator for LayerNormOp {
    type Kernel<'attr> = PanicGuard<LayerNormKernel>;

    fn name(&self) -> &str {
        LAYER_NORM
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..3).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<LayerNormKernel>> {
        from_attributes(context).map(LayerNormKernel).map(PanicGuard)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        shape_fns::like_first_input(context, None)
    }
}

/// The normalisation that `source` describes.
pub(super) fn from_attributes(source: &impl Attributes) -> ort::Result<LayerNorm> {
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
}

/// One normalisation.
pub(super) struct LayerNormKernel(LayerNorm);

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

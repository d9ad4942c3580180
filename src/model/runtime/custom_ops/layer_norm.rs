// SPDX-License-Identifier: MIT OR Apache-2.0

//! One layer normalisation.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::kernel_io::Tensors,
    attributes::Source,
    panic_guard::{Caught, Compute},
    shape_fns,
};
use crate::{
    graph::{EPSILON, GATES, NORMALISATION},
    kernels::layer_norm::LayerNorm,
};

/// Our own operation for layer normalisation: see [`NORMALISATION`] for its inputs.
pub(super) struct Normalise;

impl Operator for Normalise {
    type Kernel<'attr> = Caught<NormaliseKernel>;

    fn name(&self) -> &str {
        NORMALISATION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..3).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<Caught<NormaliseKernel>> {
        made(context).map(NormaliseKernel).map(Caught)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        shape_fns::like_first_input(context, None)
    }
}

/// The normalisation that `source` describes.
pub(super) fn made(source: &impl Source) -> ort::Result<LayerNorm> {
    let ((_, scale), (_, bias)) = (source.floats(1)?, source.floats(2)?);
    let normalisation = LayerNorm {
        scale,
        bias,
        epsilon: source.float(EPSILON).unwrap_or_default(),
        silu: source.flag(GATES),
    };
    match normalisation.is_consistent() {
        true => Ok(normalisation),
        false => Err(ort::Error::new(
            "scale and bias of a normalisation do not fit each other",
        )),
    }
}

/// One normalisation.
pub(super) struct NormaliseKernel(LayerNorm);

impl Compute for NormaliseKernel {
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

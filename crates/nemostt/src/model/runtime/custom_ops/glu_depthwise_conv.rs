// SPDX-License-Identifier: MIT OR Apache-2.0

//! The middle of one convolution module.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::kernel_io::{TensorShape, Tensors},
    attributes::Attributes,
    panic_guard::{Compute, PanicGuard},
    shape_fns,
};
use nemostt_compiler::GLU_DEPTHWISE_CONV;
use nemostt_kernels::{gemm::Output, glu_depthwise_conv::GluDepthwiseConv};

/// Our own operation for the middle of a convolution module: see [`GLU_DEPTHWISE_CONV`] for its inputs.
pub(super) struct GluDepthwiseConvOp;

impl Operator for GluDepthwiseConvOp {
    type Kernel<'attr> = PanicGuard<GluDepthwiseConvKernel>;

    fn name(&self) -> &str {
        GLU_DEPTHWISE_CONV
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..4).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..2).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<GluDepthwiseConvKernel>> {
        from_attributes(context).map(GluDepthwiseConvKernel).map(PanicGuard)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        let inputs = shape_fns::of_inputs(context);
        if let Some(cache) = inputs.get(1).filter(|sizes| !sizes.is_empty()) {
            shape_fns::set(context, 1, cache)?;
        }
        let channels = inputs.first().and_then(|rows| rows.last()).filter(|&&width| width > 0);
        shape_fns::like_first_input(context, channels.map(|width| width / 2))
    }
}

/// The convolution that `source` describes.
pub(super) fn from_attributes(source: &impl Attributes) -> ort::Result<GluDepthwiseConv> {
    let ((_, weights), (_, bias)) = (source.floats(2)?, source.floats(3)?);
    GluDepthwiseConv::new(&weights, bias)
        .ok_or_else(|| ort::Error::new("the weights of a convolution do not fit its bias"))
}

/// One layer's convolution.
pub(super) struct GluDepthwiseConvKernel(GluDepthwiseConv);

impl Compute for GluDepthwiseConvKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let convolution = &self.0;
        let (_, rows) = tensors.input(0)?;
        let (cache_sizes, cache) = tensors.input(1)?;
        if !convolution.accepts(rows, cache) {
            return Err(ort::Error::new("the inputs of a convolution do not fit its weights"));
        }
        let channels = convolution.channels();
        let frames = rows.len() / (2 * channels);
        let output = tensors.output(0, TensorShape::of_rows(frames, channels))?;
        let next = tensors.output(1, cache_sizes)?;
        let (output, next) = (Output::new(output, channels), Output::new(next, channels));
        tensors.parallel_for(convolution.task_count(), |task| {
            let columns = convolution.columns_of(task);
            // SAFETY: each piece is done once.
            #[allow(unsafe_code)]
            let columns = unsafe { (output.columns(columns.clone()), next.columns(columns)) };
            convolution.convolve(task, (rows, cache), columns);
        })
    }
}

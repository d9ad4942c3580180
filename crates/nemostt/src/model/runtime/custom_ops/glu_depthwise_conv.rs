// SPDX-License-Identifier: MIT OR Apache-2.0

//! The middle of one convolution module.

use ort::operator::ShapeInferenceContext;

use super::{
    super::kernel_io::{TensorShape, Tensors},
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
    shape_fns,
};
use nemostt_compiler::ops::{GLU_DEPTHWISE_CONV, OpSchema};
use nemostt_kernels::executor::Op;
use nemostt_kernels::{gemm::Output, glu_depthwise_conv::GluDepthwiseConv};

/// One layer's convolution.
pub(super) struct GluDepthwiseConvKernel(GluDepthwiseConv);

impl CustomOp for GluDepthwiseConvKernel {
    const SCHEMA: OpSchema = GLU_DEPTHWISE_CONV;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        let kernel = || -> ort::Result<GluDepthwiseConv> {
            let ((_, weights), (_, bias)) = (source.floats(2)?, source.floats(3)?);
            GluDepthwiseConv::new(&weights, bias)
                .ok_or_else(|| ort::Error::new("the weights of a convolution do not fit its bias"))
        };
        kernel().map(Self)
    }

    fn into_op(self) -> Op {
        Op::GluDepthwiseConv(self.0)
    }

    fn infer_shape(context: &mut ShapeInferenceContext, _: &Products) -> ort::Result<()> {
        let inputs = shape_fns::of_inputs(context);
        if let Some(cache) = inputs.get(1).filter(|sizes| !sizes.is_empty()) {
            shape_fns::set(context, 1, cache)?;
        }
        let channels = inputs.first().and_then(|rows| rows.last()).filter(|&&width| width > 0);
        shape_fns::like_first_input(context, channels.map(|width| width / 2))
    }
}

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

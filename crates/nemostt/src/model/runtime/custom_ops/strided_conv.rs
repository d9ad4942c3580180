// SPDX-License-Identifier: MIT OR Apache-2.0

//! One strided convolution of the subsampling.

use ort::operator::ShapeInferenceContext;

use super::{
    super::kernel_io::{TensorShape, Tensors},
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{OpSchema, PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES};
use nemostt_kernels::executor::Op;
use nemostt_kernels::{
    gemm::Output,
    strided_conv::{self, StridedConv},
};

/// One strided convolution.
pub(super) struct StridedConvKernel(StridedConv);

impl CustomOp for StridedConvKernel {
    const SCHEMA: OpSchema = STRIDED_CONV;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        let kernel = || -> ort::Result<StridedConv> {
            let ((sizes, weights), (_, bias)) = (source.floats(2)?, source.floats(3)?);
            let from_attributes = || {
                let &[_, _, rows, columns] = &sizes[..] else {
                    return None;
                };
                let (strides, pads) = (source.sizes(STRIDES)?, source.sizes(PADS)?);
                let shape = strided_conv::ConvGeometry {
                    kernel: [rows, columns],
                    strides: strides.try_into().ok()?,
                    pads: pads.as_chunks().0.try_into().ok()?,
                };
                StridedConv::new(shape, &weights, bias, source.flag(SHARED_INPUT), source.flag(RELU))
            };
            from_attributes()
                .ok_or_else(|| ort::Error::new("the weights of a strided convolution do not fit its attributes"))
        };
        kernel().map(Self)
    }

    fn into_op(self) -> Op {
        Op::StridedConv(self.0)
    }

    /// The sizes of the output follow from those of the input and the mask in a run.
    fn infer_shape(_: &mut ShapeInferenceContext, _: &Products) -> ort::Result<()> {
        Ok(())
    }
}

impl Compute for StridedConvKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let convolution = &self.0;
        let ((_, input), (_, mask)) = (tensors.input(0)?, tensors.input(1)?);
        let Some(sizes) = convolution.sizes(input.len(), mask.len()) else {
            return Err(ort::Error::new(
                "the inputs of a strided convolution do not fit its weights",
            ));
        };
        let ([frames, bins], channels) = (sizes.output, convolution.channels());
        let output = tensors.output(0, TensorShape::of_rows(frames * bins, channels))?;
        let output = Output::new(output, bins * channels);
        tensors.parallel_for(frames, |frame| {
            // SAFETY: each frame is computed once.
            #[allow(unsafe_code)]
            let row = unsafe { output.row(frame) };
            convolution.convolve(frame, (input, mask), row);
        })
    }
}

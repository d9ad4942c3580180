// SPDX-License-Identifier: MIT OR Apache-2.0

//! One strided convolution of the subsampling.

use ort::{
    operator::{KernelContext, Operator, OperatorInput, OperatorOutput},
    value::TensorElementType,
};

use super::{
    super::kernel_io::{TensorShape, Tensors},
    attributes::Attributes,
    panic_guard::{Compute, PanicGuard},
};
use nemostt_compiler::{PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES};
use nemostt_kernels::{
    gemm::Output,
    strided_conv::{self, StridedConv},
};

/// Our own operation for strided convolutions: see [`STRIDED_CONV`] for its inputs.
pub(super) struct StridedConvOp;

impl Operator for StridedConvOp {
    type Kernel<'attr> = PanicGuard<StridedConvKernel>;

    fn name(&self) -> &str {
        STRIDED_CONV
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        (0..4).map(|_| OperatorInput::required(TensorElementType::Float32))
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        [OperatorOutput::required(TensorElementType::Float32)]
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<PanicGuard<StridedConvKernel>> {
        from_attributes(context).map(StridedConvKernel).map(PanicGuard)
    }
}

/// The convolution that `source` describes.
pub(super) fn from_attributes(source: &impl Attributes) -> ort::Result<StridedConv> {
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
    from_attributes().ok_or_else(|| ort::Error::new("the weights of a strided convolution do not fit its attributes"))
}

/// One strided convolution.
pub(super) struct StridedConvKernel(StridedConv);

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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Strided convolutions of the subsampling.

use ort::operator::ShapeInferenceContext;

use super::{
    attributes::Attributes,
    declaration::{CustomOp, Weights},
};
use nemostt_compiler::ops::{OpSchema, PADS, RELU, SHARED_INPUT, STRIDED_CONV, STRIDES};
use nemostt_kernels::strided_conv::{ConvGeometry, StridedConv};

impl CustomOp for StridedConv {
    const SCHEMA: OpSchema = STRIDED_CONV;

    fn new(attributes: &impl Attributes, _: &Weights) -> ort::Result<Self> {
        let ((shape, weights), (_, bias)) = (attributes.floats(2)?, attributes.floats(3)?);
        let conv = || {
            let &[_, _, rows, columns] = &shape[..] else {
                return None;
            };
            let (strides, pads) = (attributes.sizes(STRIDES)?, attributes.sizes(PADS)?);
            let geometry = ConvGeometry {
                kernel: [rows, columns],
                strides: strides.try_into().ok()?,
                pads: pads.as_chunks().0.try_into().ok()?,
            };
            let (shared_input, relu) = (attributes.flag(SHARED_INPUT), attributes.flag(RELU));
            Self::new(geometry, &weights, bias, shared_input, relu)
        };
        conv().ok_or_else(|| ort::Error::new("weights and attributes of a strided convolution do not match"))
    }

    /// Depends on the length of the mask, which is known only in a run.
    fn infer_shape(_: &mut ShapeInferenceContext, _: &Weights) -> ort::Result<()> {
        Ok(())
    }
}

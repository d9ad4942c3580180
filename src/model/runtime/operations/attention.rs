// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention of one layer.

use ort::{
    operator::{ComputeContext, Kernel, KernelContext, Operator, OperatorInput, OperatorOutput, ShapeInferenceContext},
    value::TensorElementType,
};

use super::{
    super::tensors::{self, Sizes},
    shapes,
    source::Source,
};
use crate::{
    graph::{ATTENTION, SCALE},
    kernels::{
        attention::{self, Attention, Cache, Step},
        matrix::{Output, Target},
    },
};

/// Our own operation for attention: see [`ATTENTION`] for its inputs.
pub(super) struct Attend;

impl Operator for Attend {
    type Kernel<'attr> = AttendKernel;

    fn name(&self) -> &str {
        ATTENTION
    }

    fn inputs(&self) -> impl IntoIterator<Item = OperatorInput> {
        let float = || OperatorInput::required(TensorElementType::Float32);
        let number = || OperatorInput::required(TensorElementType::Int64);
        (0..9).map(move |_| float()).chain([number(), number()])
    }

    fn outputs(&self) -> impl IntoIterator<Item = OperatorOutput> {
        (0..3).map(|_| OperatorOutput::required(TensorElementType::Float32))
    }

    fn create_kernel<'attr>(&self, context: &KernelContext<'attr>) -> ort::Result<AttendKernel> {
        made(context).map(AttendKernel)
    }

    fn infer_shape(&self, context: &mut ShapeInferenceContext) -> ort::Result<()> {
        shapes::like_first_input(context, None)
    }
}

/// The attention that `source` describes.
pub(super) fn made(source: &impl Source) -> ort::Result<Attention> {
    let ((sizes, bias_u), (_, bias_v)) = (source.floats(6)?, source.floats(7)?);
    let ((_, positions), (table, places)) = (source.floats(8)?, source.numbers(9)?);
    let (&[heads, width], &[frames, keys]) = (&sizes[..], &table[..]) else {
        return Err(ort::Error::new("the tables of an attention have other axes"));
    };
    let sizes = attention::Sizes {
        heads,
        width,
        frames,
        left: keys.saturating_sub(frames),
    };
    let scale = source.float(SCALE).unwrap_or(1.0);
    Attention::new(sizes, scale, [bias_u, bias_v], &positions, &places)
        .ok_or_else(|| ort::Error::new("the tables of an attention do not fit each other"))
}

/// One layer's attention.
pub(super) struct AttendKernel(Attention);

impl Kernel for AttendKernel {
    fn compute(&mut self, context: &ComputeContext) -> ort::Result<()> {
        let attention = &self.0;
        let input = |index: usize| tensors::input(context, index).map(|(_, values)| values);
        let cache = |index: usize, output: usize| {
            let (sizes, now) = tensors::input(context, index)?;
            let (now, length) = (now.as_ptr(), now.len());
            let next = tensors::output(context, output, sizes)?;
            // SAFETY: the output is of the same size, and the same tensor or another one.
            #[allow(unsafe_code)]
            Ok::<_, ort::Error>(unsafe { Cache::new(now, next.as_mut_ptr(), length) })
        };
        let step = Step {
            queries: input(0)?,
            keys: (cache(1, 1)?, input(2)?),
            values: (cache(3, 2)?, input(4)?),
            mask: input(5)?,
            // As with places: a negative one is refused.
            oldest: tensors::number(context, 10)? as usize,
        };
        if !attention.takes(&step) {
            return Err(ort::Error::new("the inputs of an attention do not fit its tables"));
        }
        let (sizes, width) = (attention.sizes, attention.sizes.all());
        let output = Output::new(tensors::output(context, 0, Sizes::of_rows(sizes.frames, width))?, width);
        tensors::for_each_piece(context, sizes.heads, |head| {
            // SAFETY: each head is done once.
            #[allow(unsafe_code)]
            unsafe {
                attention.attend(head, &step, Target::Rows(&output));
            }
        })
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Attention of one layer.

use super::{
    super::kernel_io::{TensorShape, Tensors},
    attributes::Attributes,
    declaration::{CustomOp, Products},
    panic_guard::Compute,
};
use nemostt_compiler::ops::{OpSchema, REL_POS_ATTENTION, SCALE};
use nemostt_kernels::executor::Op;
use nemostt_kernels::{
    gemm::{Output, Target},
    rel_pos_attention::{self, AttentionInputs, KvRing, RelPosAttention},
};

/// One layer's attention.
pub(super) struct RelPosAttentionKernel(RelPosAttention);

impl CustomOp for RelPosAttentionKernel {
    const SCHEMA: OpSchema = REL_POS_ATTENTION;

    fn new(source: &impl Attributes, _: &Products) -> ort::Result<Self> {
        let kernel = || -> ort::Result<RelPosAttention> {
            let ((sizes, bias_u), (_, bias_v)) = (source.floats(6)?, source.floats(7)?);
            let ((_, positions), (table, places)) = (source.floats(8)?, source.numbers(9)?);
            let (&[heads, width], &[frames, keys]) = (&sizes[..], &table[..]) else {
                return Err(ort::Error::new("the tables of an attention have other axes"));
            };
            let sizes = rel_pos_attention::AttentionDims {
                heads,
                head_dim: width,
                frames,
                left_context: keys.saturating_sub(frames),
            };
            let scale = source.float(SCALE).unwrap_or(1.0);
            RelPosAttention::new(sizes, scale, [bias_u, bias_v], &positions, &places)
                .ok_or_else(|| ort::Error::new("the tables of an attention do not fit each other"))
        };
        kernel().map(Self)
    }

    fn into_op(self) -> Op {
        Op::RelPosAttention(self.0.into())
    }
}

impl Compute for RelPosAttentionKernel {
    fn compute(&mut self, tensors: &Tensors<'_>) -> ort::Result<()> {
        let attention = &self.0;
        let (sizes, width) = (attention.dims, attention.dims.d_model());
        let output = Output::new(tensors.output(0, TensorShape::of_rows(sizes.frames, width))?, width);
        let input = |index: usize| tensors.input(index).map(|(_, values)| values);
        let cache = |index: usize, output: usize| {
            let (sizes, now) = tensors.input_place(index)?;
            let next = tensors.output_place(output, sizes)?;
            // SAFETY: both last as long as the run and are of the same size, and the same tensor or two.
            #[allow(unsafe_code)]
            Ok::<_, ort::Error>(unsafe { KvRing::new(now.cast(), next.cast(), now.len()) })
        };
        let step = AttentionInputs {
            queries: input(0)?,
            keys: (cache(1, 1)?, input(2)?),
            values: (cache(3, 2)?, input(4)?),
            mask: input(5)?,
            // As with places: a negative one is refused.
            ring_head: tensors.scalar(10)? as usize,
        };
        if !attention.accepts(&step) {
            return Err(ort::Error::new("the inputs of an attention do not fit its tables"));
        }
        tensors.parallel_for(sizes.heads, |head| {
            // SAFETY: each head is done once.
            #[allow(unsafe_code)]
            let (cached, columns) = unsafe {
                let columns = output.columns(attention.columns_of(head));
                (attention.cached(head, &step), columns)
            };
            attention.attend(head, &step, cached, Target::RowMajor(columns));
        })
    }
}

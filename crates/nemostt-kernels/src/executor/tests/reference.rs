// SPDX-License-Identifier: MIT OR Apache-2.0

//! The same operations without the executor: one after the other, on one thread.

use super::*;
use crate::{
    gemm::{ColumnsMut, Target},
    joint_add_relu::add_relu,
    lstm_cell,
    rel_pos_attention::{self, CachedHead},
};

/// An operation, in a form that this module can run, too.
#[derive(Debug, Clone)]
pub(super) enum TestOp {
    PackedMatMul(Arc<PackedWeights>),
    RelPosAttention(Box<RelPosAttention>),
    GluDepthwiseConv(GluDepthwiseConv),
    LayerNorm(LayerNorm),
    StridedConv(StridedConv),
    JointAddRelu(usize),
    LstmCell(usize),
    Reshape(usize),
}

impl TestOp {
    pub(super) fn build(self) -> Op {
        match self {
            Self::PackedMatMul(weights) => PackedMatMul::new(weights).into(),
            Self::RelPosAttention(attention) => (*attention).into(),
            Self::GluDepthwiseConv(conv) => conv.into(),
            Self::LayerNorm(layer_norm) => layer_norm.into(),
            Self::StridedConv(conv) => conv.into(),
            Self::JointAddRelu(width) => JointAddRelu { width }.into(),
            Self::LstmCell(units) => LstmCell { units }.into(),
            Self::Reshape(width) => Op::Reshape(width),
        }
    }

    pub(super) fn output_count(&self) -> usize {
        match self.clone().build() {
            Op::Fused(op) => op.signature().outputs.len(),
            Op::Reshape(_) => 1,
        }
    }
}

/// All values of a program of `calls`.
pub(super) fn run_reference(calls: &[TestCall], inputs: &[TestInput]) -> Vec<Vec<f32>> {
    let tensor = |input: &TestInput| match input {
        TestInput::Tensor(values, _) => values.clone(),
        TestInput::Scalar(_) => Vec::new(),
    };
    let mut values: Vec<Vec<f32>> = inputs.iter().map(tensor).collect();
    for call in calls {
        let input = |index: usize| &values[call.inputs[index]][..];
        let outputs = match &call.op {
            TestOp::PackedMatMul(weights) => {
                vec![matmul(weights, input(0), call.inputs.get(1).map(|_| input(1)))]
            }
            TestOp::RelPosAttention(op) => {
                let TestInput::Scalar(ring_head) = inputs[call.inputs[6]] else {
                    panic!("the head of the ring is a scalar");
                };
                attention(op, &std::array::from_fn(input), ring_head)
            }
            TestOp::GluDepthwiseConv(op) => glu_depthwise_conv(op, input(0), input(1)),
            TestOp::LayerNorm(layer_norm) => {
                let mut output = vec![f32::NAN; input(0).len()];
                layer_norm.normalize(input(0), &mut output);
                vec![output]
            }
            TestOp::StridedConv(op) => vec![strided_conv(op, input(0), input(1))],
            TestOp::JointAddRelu(width) => {
                let mut output = vec![f32::NAN; input(0).len()];
                for (frame, output) in input(0).chunks(*width).zip(output.chunks_mut(*width)) {
                    add_relu(frame, input(1), output);
                }
                vec![output]
            }
            TestOp::LstmCell(units) => {
                let (mut state, mut cells) = (vec![f32::NAN; *units], vec![f32::NAN; *units]);
                let step = lstm_cell::LstmStep {
                    sums: [input(0), input(1)],
                    cells: input(2),
                };
                step.apply(0..*units, &mut state, &mut cells);
                vec![state, cells]
            }
            TestOp::Reshape(_) => vec![input(0).to_vec()],
        };
        for (&number, output) in call.outputs.iter().zip(outputs) {
            values.resize(values.len().max(number + 1), Vec::new());
            values[number] = output;
        }
    }
    values
}

fn matmul(weights: &PackedWeights, lhs: &[f32], residual: Option<&[f32]>) -> Vec<f32> {
    let mut output = vec![f32::NAN; lhs.len() / weights.k() * weights.n()];
    weights.multiply(lhs, residual, &mut output);
    output
}

fn attention(op: &RelPosAttention, input: &[&[f32]; 6], ring_head: usize) -> Vec<Vec<f32>> {
    let d_model = op.dims.d_model();
    let mut rows = vec![f32::NAN; op.dims.frames * d_model];
    let [mut next_keys, mut next_values] = [1, 3].map(|cache| vec![f32::NAN; input[cache].len()]);
    let inputs = rel_pos_attention::AttentionInputs {
        queries: input[0],
        new_keys: input[2],
        new_values: input[4],
        mask: input[5],
        ring_head,
    };
    let size = input[1].len() / op.dims.heads;
    for head in 0..op.dims.heads {
        let part = head * size..(head + 1) * size;
        let cached = [(input[1], &mut next_keys), (input[3], &mut next_values)];
        let cached = cached.map(|(old, next)| CachedHead::new(Some(&old[part.clone()]), &mut next[part.clone()]));
        op.attend(
            head,
            &inputs,
            cached,
            Target::RowMajor(ColumnsMut::all(&mut rows, d_model)),
        );
    }
    vec![rows, next_keys, next_values]
}

fn glu_depthwise_conv(op: &GluDepthwiseConv, input: &[f32], cache: &[f32]) -> Vec<Vec<f32>> {
    let (mut output, mut next) = (vec![f32::NAN; input.len() / 2], vec![f32::NAN; cache.len()]);
    for task in 0..op.task_count() {
        let columns = [&mut output, &mut next].map(|values| ColumnsMut::all(values, op.channels()));
        op.convolve(task, (input, cache), columns.into());
    }
    vec![output, next]
}

fn strided_conv(op: &StridedConv, input: &[f32], mask: &[f32]) -> Vec<f32> {
    let [frames, bins] = op.sizes(input.len(), mask.len()).unwrap().output;
    let mut output = vec![f32::NAN; frames * bins * op.channels()];
    for (frame, row) in output.chunks_exact_mut(bins * op.channels()).enumerate() {
        op.convolve(frame, (input, mask), row);
    }
    output
}

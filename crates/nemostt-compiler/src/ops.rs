// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operations of domain [`DOMAIN`], which `nemostt-kernels` computes: one row each. Fusions put them into graphs; what ONNX Runtime
//! is told of their inputs and outputs, what is checked of those, which of them a fused subgraph may hold and what it reads
//! in a run all follow from the row.
//!
//! To add one: its kernel in `nemostt-kernels`, its fusion and its row here, its attributes in the recognizer's `custom_ops`.

/// The domain of the operations.
pub const DOMAIN: &str = "nemostt";

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpSchema {
    /// Its name in graphs.
    pub name: &'static str,
    /// Its inputs in order.
    pub inputs: &'static [OpInput],
    /// Number of outputs; all are float32.
    pub outputs: usize,
    /// When its first output is a matrix of rows, and not a tensor of more axes.
    pub rows: Rows,
    /// When it may be a call of a fused subgraph.
    pub fuses: Rows,
}

/// An input of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpInput {
    /// Float32, read in each run.
    Tensor,
    /// The same, and may be missing.
    Optional,
    /// One int64, read in each run.
    Scalar,
    /// Constant float32, read when the kernel is made.
    Weights,
    /// Constant int64, read when the kernel is made.
    Indices,
}

impl OpInput {
    /// Whether it is read in each run.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Tensor | Self::Optional | Self::Scalar)
    }
}

/// A condition on the first input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Whatever it is.
    Always,
    /// If it is a matrix of rows.
    IfInput,
    /// Not known.
    Never,
}

use OpInput::{Indices, Optional, Scalar, Tensor, Weights};

/// Inputs: \[…, k\]; if there is a second one, it is as large as the output and added to it. Output: \[…, n\]. Attribute
/// [`WEIGHTS_INDEX`] says with which weights.
pub const PACKED_MATMUL: OpSchema = OpSchema {
    name: "PackedMatMul",
    inputs: &[Tensor, Optional],
    outputs: 1,
    rows: Rows::IfInput,
    fuses: Rows::IfInput,
};

/// Inputs: queries \[frames, d_model\], cached keys \[1, heads, left, head_dim\], new keys \[frames, d_model\], cached and new values,
/// mask \[1, 1, frames, keys\]; the two biases \[heads, head_dim\], positions \[1, heads, head_dim, positions\], position indices
/// \[frames, keys\]; and the graph's input [`RING_HEAD_INPUT`](crate::RING_HEAD_INPUT). Outputs: \[frames, d_model\]; the caches of keys
/// and of values for the next step, as large as those of this one, which may be the same tensors. Attribute [`SCALE`].
pub const REL_POS_ATTENTION: OpSchema = OpSchema {
    name: "RelPosAttention",
    inputs: &[
        Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Weights, Weights, Weights, Indices, Scalar,
    ],
    outputs: 3,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// Inputs: values and gates \[frames, 2 · channels\], cache \[1, channels, left\]; weights \[channels, 1, 1, left + 1\], bias \[channels\].
/// Outputs: \[frames, channels\], and the next cache.
pub const GLU_DEPTHWISE_CONV: OpSchema = OpSchema {
    name: "GluDepthwiseConv",
    inputs: &[Tensor, Tensor, Weights, Weights],
    outputs: 2,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// Inputs: \[…, width\]; scale and bias \[width\]. Output: as the input. Attributes [`EPSILON`] and [`SILU`].
pub const LAYER_NORM: OpSchema = OpSchema {
    name: "LayerNorm",
    inputs: &[Tensor, Weights, Weights],
    outputs: 1,
    rows: Rows::IfInput,
    fuses: Rows::IfInput,
};

/// Inputs: values \[frames, frequencies, channels\] with any axes; mask, one for each frame, where frames with 0 count as zeros;
/// weights \[channels, 1, kernel, kernel\], bias \[channels\]. Output: \[frames · frequencies, channels\]. Attributes [`STRIDES`],
/// [`PADS`], [`SHARED_INPUT`] and [`RELU`].
pub const STRIDED_CONV: OpSchema = OpSchema {
    name: "StridedConv",
    inputs: &[Tensor, Tensor, Weights, Weights],
    outputs: 1,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// Inputs: what the token and what the state contribute to the gates \[…, 4 · hidden\], in ONNX's order of gates; the cells
/// \[…, hidden\]. Outputs: next state and cells, as large as the cells. Attribute [`WIDTH`]: `hidden`.
pub const LSTM_CELL: OpSchema = OpSchema {
    name: "LstmCell",
    inputs: &[Tensor, Tensor, Tensor],
    outputs: 2,
    rows: Rows::Never,
    fuses: Rows::Always,
};

/// Inputs: projected encoder frames \[T, width\], a prediction of `width` values. Output: as the frames, the sum of each with the
/// prediction, or zero where that is negative. Attribute [`WIDTH`].
pub const JOINT_ADD_RELU: OpSchema = OpSchema {
    name: "JointAddRelu",
    inputs: &[Tensor, Tensor],
    outputs: 1,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// All of them.
pub const OPS: [OpSchema; 7] = [
    PACKED_MATMUL,
    REL_POS_ATTENTION,
    GLU_DEPTHWISE_CONV,
    LAYER_NORM,
    STRIDED_CONV,
    LSTM_CELL,
    JOINT_ADD_RELU,
];

/// The operation that has this name.
pub fn schema(name: &str) -> Option<&'static OpSchema> {
    OPS.iter().find(|op| op.name == name)
}

/// Of [`PACKED_MATMUL`]: index into [`Encoded::products`](crate::Encoded::products).
pub const WEIGHTS_INDEX: &str = "weights_index";
/// Of [`REL_POS_ATTENTION`]: what scores are divided by.
pub const SCALE: &str = "scale";
/// Of [`LAYER_NORM`]: added to the variance.
pub const EPSILON: &str = "epsilon";
/// Of [`LAYER_NORM`]: 1 where `x · sigmoid(x)` follows.
pub const SILU: &str = "silu";
/// Of [`STRIDED_CONV`]: over frames and frequencies.
pub const STRIDES: &str = "strides";
/// Of [`STRIDED_CONV`], as ONNX has them: before the first frame and frequency, behind the last ones.
pub const PADS: &str = "pads";
/// Of [`STRIDED_CONV`]: 1 where all channels read the one that the input has, else each its own.
pub const SHARED_INPUT: &str = "shared_input";
/// Of [`STRIDED_CONV`]: 1 where negative values become zero.
pub const RELU: &str = "relu";
/// Of [`LSTM_CELL`], [`JOINT_ADD_RELU`] and [`RESHAPE`](crate::RESHAPE): values of a row.
pub const WIDTH: &str = "width";

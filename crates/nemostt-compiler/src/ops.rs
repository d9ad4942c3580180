// SPDX-License-Identifier: MIT OR Apache-2.0

//! The operations that `nemostt-kernels` computes.
//!
//! Custom operations have one schema each. Fusions put them into graphs. The declaration to ONNX Runtime, the checks of
//! inputs and outputs, rank inference, and what a fused subgraph may contain and reads in each run are all derived from
//! the schemas. A new one needs a kernel in `nemostt-kernels`, a fusion, a schema here, and an adapter in `custom_ops` of
//! `nemostt`.
//!
//! [`SELECT_ROWS`], [`SCALE_ROWS`], [`RELU_ROWS`] and [`LOG_SOFTMAX`] have no schema, because they are in no graph: they are what
//! [lowering](crate::lowering) makes of ONNX's own operators.

/// Domain of the operations.
pub const DOMAIN: &str = "nemostt";

/// The schema of a custom operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpSchema {
    /// Operator name in graphs.
    pub name: &'static str,
    /// Inputs, in order.
    pub inputs: &'static [OpInput],
    /// Number of outputs, all float32.
    pub outputs: usize,
    /// When its first output is 2-D.
    pub rows: Rows,
    /// When it may be part of a fused subgraph.
    pub fuses: Rows,
}

/// An input of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpInput {
    /// Float32, read in each run.
    Tensor,
    /// Float32, read in each run; may be omitted.
    Optional,
    /// One int64, read in each run.
    Scalar,
    /// Constant float32, read when the kernel is created.
    Weights,
    /// Constant int64, read when the kernel is created.
    Indices,
}

impl OpInput {
    /// Whether it is read in each run.
    pub fn is_read(self) -> bool {
        matches!(self, Self::Tensor | Self::Optional | Self::Scalar)
    }
}

/// Whether a tensor is known to be 2-D: rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// Always.
    Always,
    /// If the first input is 2-D.
    IfInput,
    /// Never.
    Never,
}

use OpInput::{Indices, Optional, Scalar, Tensor, Weights};

/// Matrix product with packed weights. Inputs: lhs \[…, k\]; optionally a residual of the output's shape, which is
/// added. Output: \[…, n\]. Attribute [`WEIGHTS_INDEX`].
pub const PACKED_MATMUL: OpSchema = OpSchema {
    name: "PackedMatMul",
    inputs: &[Tensor, Optional],
    outputs: 1,
    rows: Rows::IfInput,
    fuses: Rows::IfInput,
};

/// Relative position attention over cached and new frames. Inputs: queries \[frames, d_model\]; cached keys \[1, heads,
/// left, head_dim\], new keys \[frames, d_model\]; cached and new values, likewise; additive mask \[1, 1, frames,
/// keys\]; biases u and v \[heads, head_dim\]; position table \[1, heads, head_dim, positions\], position indices
/// \[frames, keys\]; ring head ([`RING_HEAD_INPUT`](crate::RING_HEAD_INPUT)). Outputs: \[frames, d_model\]; the caches
/// of keys and values for the next step, which may share memory with the cached inputs. Attribute [`SCALE`].
pub const REL_POS_ATTENTION: OpSchema = OpSchema {
    name: "RelPosAttention",
    inputs: &[
        Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Weights, Weights, Weights, Indices, Scalar,
    ],
    outputs: 3,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// GLU and causal depthwise convolution. Inputs: values and gates \[frames, 2 · channels\]; cache \[1, channels,
/// left\]; weights \[channels, 1, 1, left + 1\], bias \[channels\]. Outputs: \[frames, channels\], and the next cache
/// \[1, channels, left\].
pub const GLU_DEPTHWISE_CONV: OpSchema = OpSchema {
    name: "GluDepthwiseConv",
    inputs: &[Tensor, Tensor, Weights, Weights],
    outputs: 2,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// Layer normalization over the last axis. Inputs: \[…, width\]; scale and bias \[width\]. Output: \[…, width\].
/// Attributes [`EPSILON`] and [`SILU`].
pub const LAYER_NORM: OpSchema = OpSchema {
    name: "LayerNorm",
    inputs: &[Tensor, Weights, Weights],
    outputs: 1,
    rows: Rows::IfInput,
    fuses: Rows::IfInput,
};

/// Strided depthwise convolution over frames and frequencies, channels last. Inputs: \[frames, frequencies, channels\],
/// of any rank; mask, one value per frame: frames with mask 0 are read as zeros; weights \[channels, 1, kernel,
/// kernel\], bias \[channels\]. Output: \[frames · frequencies, channels\]. Attributes [`STRIDES`], [`PADS`],
/// [`SHARED_INPUT`] and [`RELU`].
pub const STRIDED_CONV: OpSchema = OpSchema {
    name: "StridedConv",
    inputs: &[Tensor, Tensor, Weights, Weights],
    outputs: 1,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// LSTM cell: gates and state update. Inputs: the two terms of the gates' pre-activations, from the token and from the
/// hidden state \[…, 4 · hidden\], in ONNX's order (input, output, forget, cell); cell state \[…, hidden\]. Outputs:
/// next hidden and cell state \[…, hidden\]. Attribute [`WIDTH`]: `hidden`.
pub const LSTM_CELL: OpSchema = OpSchema {
    name: "LstmCell",
    inputs: &[Tensor, Tensor, Tensor],
    outputs: 2,
    rows: Rows::Never,
    fuses: Rows::Always,
};

/// The joint's `relu(frame + prediction)`. Inputs: projected encoder frames \[T, width\]; a prediction of `width`
/// values. Output: \[T, width\]. Attribute [`WIDTH`].
pub const JOINT_ADD_RELU: OpSchema = OpSchema {
    name: "JointAddRelu",
    inputs: &[Tensor, Tensor],
    outputs: 1,
    rows: Rows::Always,
    fuses: Rows::Always,
};

/// All custom operations.
pub const OPS: [OpSchema; 7] = [
    PACKED_MATMUL,
    REL_POS_ATTENTION,
    GLU_DEPTHWISE_CONV,
    LAYER_NORM,
    STRIDED_CONV,
    LSTM_CELL,
    JOINT_ADD_RELU,
];

/// Operation of a [lowered graph](crate::lowering) alone: selects rows by index. Inputs: rows \[rows, width\], indices
/// \[count\]. Output: \[count, width\]. Attribute [`WIDTH`].
pub const SELECT_ROWS: &str = "SelectRows";

/// Operation of a [lowered graph](crate::lowering) alone: multiplies rows \[rows, width\] by factors \[rows\]. Attribute
/// [`WIDTH`].
pub const SCALE_ROWS: &str = "ScaleRows";

/// Operation of a [lowered graph](crate::lowering) alone: `max(x, 0)` of rows \[rows, width\]. Attribute [`WIDTH`].
pub const RELU_ROWS: &str = "ReluRows";

/// Operation of a [lowered graph](crate::lowering) alone: log-probabilities of rows \[rows, width\]. Attribute [`WIDTH`].
pub const LOG_SOFTMAX: &str = "LogSoftmax";

/// The schema of custom operation `name`.
pub fn schema(name: &str) -> Option<&'static OpSchema> {
    OPS.iter().find(|op| op.name == name)
}

/// Attribute of [`PACKED_MATMUL`]: index of its weights in [`Encoded::packed_weights`](crate::Encoded::packed_weights).
pub const WEIGHTS_INDEX: &str = "weights_index";
/// Attribute of [`REL_POS_ATTENTION`]: divisor of the scores.
pub const SCALE: &str = "scale";
/// Attribute of [`LAYER_NORM`]: added to the variance.
pub const EPSILON: &str = "epsilon";
/// Attribute of [`LAYER_NORM`]: 1 if SiLU, `x · sigmoid(x)`, is applied to the result.
pub const SILU: &str = "silu";
/// Attribute of [`STRIDED_CONV`]: strides over frames and frequencies.
pub const STRIDES: &str = "strides";
/// Attribute of [`STRIDED_CONV`]: padding in ONNX's order, before the first frame and frequency, then after the last
/// ones.
pub const PADS: &str = "pads";
/// Attribute of [`STRIDED_CONV`]: 1 if the input has one channel, which all output channels read; 0 if each reads its
/// own.
pub const SHARED_INPUT: &str = "shared_input";
/// Attribute of [`STRIDED_CONV`]: 1 if ReLU is applied to the result.
pub const RELU: &str = "relu";
/// Attribute of [`LSTM_CELL`], [`JOINT_ADD_RELU`], [`RESHAPE`](crate::RESHAPE), [`SELECT_ROWS`], [`SCALE_ROWS`],
/// [`RELU_ROWS`] and [`LOG_SOFTMAX`]: the width of a row.
pub const WIDTH: &str = "width";

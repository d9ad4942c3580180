// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rejects unknown attributes and attribute values that no operator accepts.

use std::ops::RangeInclusive;

use crate::{
    NodeProto,
    onnx::{AttributeProto, tensor_proto::DataType},
};

/// Kernels, steps and paddings of these models are below 100; sizes of weights below 2^20.
const LARGEST: i64 = 1 << 20;
/// More axes than any tensor has.
const MOST_AXES: i64 = 64;

/// Checks the attributes of `node`. The error is the end of a sentence about the node.
pub(crate) fn check(node: &NodeProto, opset: i64) -> Result<(), String> {
    for (index, attribute) in node.attribute.iter().enumerate() {
        let name = attribute.name();
        if node.attribute[..index].iter().any(|other| other.name() == name) {
            return Err(format!("has two attributes {}", crate::files::validate::shown(name)));
        }
        if matches!(node.domain(), "" | "ai.onnx") && !is_known(node.op_type(), name, opset) {
            return Err(format!(
                "has an attribute {}, which {} does not have in opset {opset}",
                crate::files::validate::shown(name),
                node.op_type()
            ));
        }
        if !is_sane(node.op_type(), attribute) {
            let values = match attribute.i {
                Some(value) => value.to_string(),
                None => format!("{:?}", attribute.ints.iter().take(16).collect::<Vec<_>>()),
            };
            return Err(format!("has {name} {values}, which is not valid"));
        }
    }
    Ok(())
}

/// Attributes of the operators that passes fold, move or fuse, with the opsets that have them (ONNX's
/// `docs/Operators.md` and `docs/Changelog.md`). ONNX Runtime rejects all others. Without this check a pass could
/// remove the node that it would reject, and a corrupt graph would run.
const ATTRIBUTES: &[(&[&str], &str, RangeInclusive<i64>)] = &[
    (&["Add", "Div", "Mul", "Pow", "Sub"], "axis broadcast", 0..=6),
    (&["And", "Equal", "Greater", "Less", "Or"], "axis broadcast", 0..=6),
    (
        &[
            "Add", "Ceil", "Clip", "Div", "Floor", "Max", "Min", "Mul", "Neg", "Relu", "Sigmoid", "Sub", "Tanh",
        ],
        "consumed_inputs",
        0..=5,
    ),
    (&["Cast"], "to", ALWAYS),
    (&["Cast"], "saturate", 19..=NEWEST),
    (&["Cast"], "round_mode", 24..=NEWEST),
    (&["Clip"], "max min", 0..=10),
    (&["Concat"], "axis", ALWAYS),
    (&["Constant"], "value", ALWAYS),
    (&["Constant"], "sparse_value", 11..=NEWEST),
    (
        &["Constant"],
        "value_float value_floats value_int value_ints value_string value_strings",
        12..=NEWEST,
    ),
    (&["ConstantOfShape"], "value", ALWAYS),
    (&["Conv"], "auto_pad dilations group kernel_shape pads strides", ALWAYS),
    (&["Gather"], "axis", ALWAYS),
    (&["Gemm"], "alpha beta transA transB", ALWAYS),
    (&["Gemm"], "broadcast", 0..=6),
    (
        &["LSTM"],
        "activation_alpha activation_beta activations clip direction hidden_size input_forget",
        ALWAYS,
    ),
    (&["LSTM"], "output_sequence", 0..=6),
    (&["LSTM"], "layout", 14..=NEWEST),
    (&["LayerNormalization"], "axis epsilon stash_type", ALWAYS),
    (&["Pad"], "mode", ALWAYS),
    (&["Pad"], "paddings pads value", 0..=10),
    (&["Reshape"], "consumed_inputs shape", 0..=4),
    (&["Reshape"], "allowzero", 14..=NEWEST),
    (&["ScatterElements"], "axis", ALWAYS),
    (&["ScatterElements"], "reduction", 16..=NEWEST),
    (&["Shape"], "end start", 15..=NEWEST),
    (&["Slice"], "axes ends starts", 0..=9),
    (&["LogSoftmax", "Softmax"], "axis", ALWAYS),
    (&["Split"], "axis", ALWAYS),
    (&["Split"], "split", 0..=12),
    (&["Split"], "num_outputs", 18..=NEWEST),
    (&["Squeeze", "Unsqueeze"], "axes", 0..=12),
    (&["Transpose"], "perm", ALWAYS),
    (
        &[
            "Expand",
            "GreaterOrEqual",
            "Identity",
            "LessOrEqual",
            "MatMul",
            "Not",
            "Range",
            "Tile",
            "Where",
        ],
        "",
        ALWAYS,
    ),
];

const NEWEST: i64 = i64::MAX;
const ALWAYS: RangeInclusive<i64> = 0..=NEWEST;

/// Whether `operator` has an attribute of this name. Operators that no pass rewrites are left to ONNX Runtime.
fn is_known(operator: &str, attribute: &str, opset: i64) -> bool {
    let mut rows = ATTRIBUTES
        .iter()
        .filter(|(operators, ..)| operators.contains(&operator))
        .peekable();
    let is_checked = rows.peek().is_some();
    let fits = |names: &str, opsets: &RangeInclusive<i64>| {
        opsets.contains(&opset) && names.split(' ').any(|name| name == attribute && !name.is_empty())
    };
    // ONNX ignores attributes with this prefix (`OpSchema::Verify`).
    !is_checked || attribute.starts_with("__") || rows.any(|(_, names, opsets)| fits(names, opsets))
}

fn is_sane(operator: &str, attribute: &AttributeProto) -> bool {
    let ints = &attribute.ints;
    let positive = |value: i64| (1..=LARGEST).contains(&value);
    let is_axis = |value: i64| (-MOST_AXES..MOST_AXES).contains(&value);
    match (operator, attribute.name()) {
        (_, "kernel_shape" | "strides" | "dilations") => ints.iter().all(|&value| positive(value)),
        (_, "pads") => ints.iter().all(|value| (-LARGEST..=LARGEST).contains(value)),
        (_, "group" | "hidden_size") => attribute.i.is_none_or(positive),
        (_, "axis") => attribute.i.is_none_or(is_axis),
        (_, "axes") => ints.iter().all(|&axis| is_axis(axis)),
        ("Split", "split") => ints.iter().all(|size| (0..=LARGEST).contains(size)),
        ("Transpose", "perm") => {
            let mut sorted = ints.clone();
            sorted.sort_unstable();
            sorted.iter().copied().eq(0..ints.len() as i64)
        }
        ("Cast", "to") => {
            let kind = i32::try_from(attribute.i())
                .ok()
                .and_then(|code| DataType::try_from(code).ok());
            kind.is_some_and(|kind| kind != DataType::Undefined)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_of_another_operator_or_opset_is_rejected() {
        for (operator, attribute, opset, is_fine) in [
            ("Shape", "value", 17, false),
            ("Shape", "start", 17, true),
            ("Shape", "start", 14, false),
            ("Unsqueeze", "axes", 12, true),
            ("Unsqueeze", "axes", 13, false),
            ("Cast", "saturate", 17, false),
            ("Cast", "saturate", 19, true),
            ("MatMul", "alpha", 17, false),
            ("Where", "axis", 17, false),
            ("Relu", "alpha", 17, false),
            ("Relu", "__note", 17, true),
            // No pass removes it: ONNX Runtime sees it.
            ("GridSample", "anything", 17, true),
        ] {
            let node = NodeProto {
                op_type: Some(operator.into()),
                attribute: vec![AttributeProto {
                    name: Some(attribute.into()),
                    ..Default::default()
                }],
                ..Default::default()
            };
            assert_eq!(check(&node, opset).is_ok(), is_fine, "{operator} {attribute} {opset}");
        }
        let axis = |operator: &str, opset: i64| is_known(operator, "axis", opset);
        assert!(axis("Add", 6) && !axis("Add", 7));
    }
}

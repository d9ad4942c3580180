// SPDX-License-Identifier: MIT OR Apache-2.0

//! Rejects attribute values that no operator accepts.

use crate::{
    NodeProto,
    onnx::{AttributeProto, tensor_proto::DataType},
};

/// Kernels, steps and paddings of these models are below 100; sizes of weights below 2^20.
const LARGEST: i64 = 1 << 20;
/// More axes than any tensor has.
const MOST_AXES: i64 = 64;

/// Checks the attributes of `node`. The error is the end of a sentence about the node.
pub(crate) fn check(node: &NodeProto) -> Result<(), String> {
    for (index, attribute) in node.attribute.iter().enumerate() {
        let name = attribute.name();
        if node.attribute[..index].iter().any(|other| other.name() == name) {
            return Err(format!("has two attributes {}", crate::files::validate::shown(name)));
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

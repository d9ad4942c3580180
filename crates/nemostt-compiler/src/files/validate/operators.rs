// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks nodes against the schemas of ONNX's operators: whether the opset has the operator, the number of inputs and
//! outputs, and names and types of attributes.
//!
//! ONNX Runtime checks the same when it loads a graph (`OpSchema::Verify` in ONNX's `schema.cc`), but only nodes that passes
//! have left in the graph. Without this check, a pass could remove an invalid node, and a corrupt graph would run.

use super::{schemas::SCHEMAS, shown};
use crate::{
    NodeProto,
    ir::graph::is_onnx_domain,
    onnx::{AttributeProto, attribute_proto::AttributeType},
};

/// Maximum of a variadic operator.
pub(super) const VARIADIC: usize = usize::MAX;

/// Minimum, maximum, and how many must have a name: an empty one stands for an input or output that is omitted.
type Count = (usize, usize, usize);

/// An operator from an opset on, until the next schema of the same name.
pub(super) struct Schema {
    name: &'static str,
    since: i64,
    inputs: Count,
    outputs: Count,
    attributes: &'static [Attr],
}

/// An attribute of an operator.
pub(super) struct Attr {
    name: &'static str,
    kind: AttributeType,
    is_required: bool,
}

pub(super) const fn schema(
    name: &'static str,
    since: i64,
    inputs: Count,
    outputs: Count,
    attributes: &'static [Attr],
) -> Schema {
    Schema {
        name,
        since,
        inputs,
        outputs,
        attributes,
    }
}

pub(super) const fn required(name: &'static str, kind: AttributeType) -> Attr {
    Attr {
        name,
        kind,
        is_required: true,
    }
}

pub(super) const fn optional(name: &'static str, kind: AttributeType) -> Attr {
    Attr {
        name,
        kind,
        is_required: false,
    }
}

/// Operators of ONNX Runtime's own domain that have the names of ONNX's, so that passes may take them for those, with the
/// number of required inputs.
const CONTRIB_OPERATORS: [(&str, usize); 3] = [("DequantizeLinear", 2), ("Pad", 2), ("Range", 2)];

/// Checks `node`. The error is the end of a sentence about the node.
pub(super) fn check(node: &NodeProto, opset: i64) -> Result<(), String> {
    if !is_onnx_domain(node.domain()) {
        let contrib = CONTRIB_OPERATORS.iter().find(|(name, _)| *name == node.op_type());
        return contrib.map_or(Ok(()), |&(_, min)| {
            check_names("inputs", &node.input, (min, VARIADIC, min))
        });
    }
    let mut versions = SCHEMAS.iter().filter(|schema| schema.name == node.op_type()).peekable();
    if versions.peek().is_none() {
        return Ok(());
    }
    let schema = versions.take_while(|schema| schema.since <= opset).last();
    let schema = schema.ok_or_else(|| format!("is an operator that opset {opset} does not have"))?;
    check_names("inputs", &node.input, schema.inputs)?;
    check_names("outputs", &node.output, schema.outputs)?;
    for attribute in &node.attribute {
        check_attribute(attribute, schema).map_err(|what| match what {
            Mismatch::Unknown => format!(
                "has an attribute {}, which {} does not have in opset {opset}",
                shown(attribute.name()),
                schema.name
            ),
            Mismatch::Type(expected) => format!(
                "has an attribute {} that is not of type {}",
                shown(attribute.name()),
                expected.as_str_name()
            ),
        })?;
    }
    let has = |name: &str| node.attribute.iter().any(|attribute| attribute.name() == name);
    let mut required = schema.attributes.iter().filter(|attr| attr.is_required);
    if let Some(missing) = required.find(|attr| !has(attr.name)) {
        return Err(format!("lacks the attribute {}", missing.name));
    }
    check_rules(node, schema, has)
}

/// Rules that schemas cannot express.
fn check_rules(node: &NodeProto, schema: &Schema, has: impl Fn(&str) -> bool) -> Result<(), String> {
    match schema.name {
        "Constant" if schema.attributes.iter().filter(|attr| has(attr.name)).count() != 1 => {
            Err("does not have exactly one value".into())
        }
        // ONNX calls it optional, ONNX Runtime does not (`lstm_base.h`).
        "LSTM" if !has("hidden_size") => Err("lacks the attribute hidden_size".into()),
        "Split" if schema.attributes.iter().any(|attr| attr.name == "num_outputs") => {
            let has_sizes = node.input.get(1).is_some_and(|name| !name.is_empty());
            match has_sizes == has("num_outputs") {
                true => Err("must have either the input split or the attribute num_outputs".into()),
                false => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn check_names(kind: &str, names: &[String], (min, max, required): Count) -> Result<(), String> {
    if names.len() < min || names.iter().take(required).any(String::is_empty) {
        return Err(format!("has fewer than {} {kind}", min.max(required)));
    }
    match names.len() > max {
        true => Err(format!("has more than {max} {kind}")),
        false => Ok(()),
    }
}

enum Mismatch {
    Unknown,
    Type(AttributeType),
}

fn check_attribute(attribute: &AttributeProto, schema: &Schema) -> Result<(), Mismatch> {
    // ONNX allows all attributes with such names.
    if attribute.name().starts_with("__") {
        return Ok(());
    }
    let attr = schema.attributes.iter().find(|attr| attr.name == attribute.name());
    let expected = attr.ok_or(Mismatch::Unknown)?.kind;
    let has_value = match expected {
        AttributeType::Tensor => attribute.t.is_some(),
        AttributeType::SparseTensor => attribute.sparse_tensor.is_some(),
        AttributeType::Graph => attribute.g.is_some(),
        AttributeType::TypeProto => attribute.tp.is_some(),
        // A missing number is 0; strings and lists may be empty.
        _ => true,
    };
    match attribute.r#type() == expected && has_value {
        true => Ok(()),
        false => Err(Mismatch::Type(expected)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: &str, kind: AttributeType) -> AttributeProto {
        AttributeProto {
            name: Some(name.into()),
            r#type: Some(kind as i32),
            ints: vec![1],
            floats: vec![1.0],
            ..Default::default()
        }
    }

    fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[AttributeProto]) -> NodeProto {
        let names = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        NodeProto {
            op_type: Some(operator.into()),
            input: names(inputs),
            output: names(outputs),
            attribute: attributes.to_vec(),
            ..Default::default()
        }
    }

    #[test]
    fn attribute_of_another_operator_opset_or_type_is_rejected() {
        use AttributeType::{Float, Int, Ints, Undefined};
        for (operator, name, kind, opset, is_valid) in [
            ("Shape", "value", Int, 17, false),
            ("Shape", "start", Int, 17, true),
            ("Shape", "start", Int, 14, false),
            ("Unsqueeze", "axes", Ints, 12, true),
            ("Relu", "alpha", Float, 17, false),
            ("Relu", "__note", Float, 17, true),
            ("Softmax", "axis", Int, 17, true),
            ("Softmax", "axis", Ints, 17, false),
            ("Softmax", "axis", Float, 17, false),
            ("Softmax", "axis", Undefined, 17, false),
            ("GridSample", "anything", Int, 17, false),
            // An operator that ONNX does not have.
            ("Affine", "anything", Int, 17, true),
        ] {
            let node = node(operator, &["x"], &["y"], &[attribute(name, kind)]);
            let result = check(&node, opset);
            assert_eq!(result.is_ok(), is_valid, "{operator} {name} {opset}: {result:?}");
        }
    }

    #[test]
    fn missing_attribute_is_rejected() {
        let to = attribute("to", AttributeType::Int);
        assert!(check(&node("Cast", &["x"], &["y"], &[to]), 17).is_ok());
        assert!(check(&node("Cast", &["x"], &["y"], &[]), 17).is_err());
        assert!(check(&node("LSTM", &["x", "w", "r"], &["y"], &[]), 17).is_err());
        let value = |name: &str| attribute(name, AttributeType::Int);
        let no_elements = AttributeProto {
            ints: Vec::new(),
            ..attribute("value_ints", AttributeType::Ints)
        };
        assert!(check(&node("Constant", &[], &["y"], &[no_elements]), 17).is_ok());
        assert!(check(&node("Constant", &[], &["y"], &[value("value_int")]), 17).is_ok());
        assert!(check(&node("Constant", &[], &["y"], &[]), 17).is_err());
        assert!(check(&node("Split", &["x"], &["y"], &[value("num_outputs")]), 18).is_ok());
        assert!(check(&node("Split", &["x", "sizes"], &["y"], &[value("num_outputs")]), 18).is_err());
    }

    #[test]
    fn wrong_number_of_inputs_or_outputs_is_rejected() {
        for (operator, inputs, outputs, is_valid) in [
            ("Add", &["a", "b"][..], &["c"][..], true),
            ("Add", &["a"], &["c"], false),
            ("Add", &["a", ""], &["c"], false),
            ("Add", &["a", "b", "c"], &["d"], false),
            ("Add", &["a", "b"], &["c", "d"], false),
            ("Add", &["a", "b"], &[""], false),
            ("Split", &["a"], &["b", "c", "d"], true),
            ("Where", &["a", "b", "c"], &["d"], true),
            ("Clip", &["a", "", "c"], &["d"], true),
        ] {
            let result = check(&node(operator, inputs, outputs, &[]), 17);
            assert_eq!(
                result.is_ok(),
                is_valid,
                "{operator} {inputs:?} {outputs:?}: {result:?}"
            );
        }
        let body = AttributeProto {
            g: Some(Default::default()),
            ..attribute("body", AttributeType::Graph)
        };
        let loops = |inputs: &[&str]| check(&node("Loop", inputs, &["y"], std::slice::from_ref(&body)), 17);
        assert!(loops(&["m", "", "x"]).is_ok() && loops(&["", "c", "x"]).is_ok() && loops(&["m"]).is_err());
        let mut contrib = node("Range", &["a", "b"], &["c"], &[]);
        assert!(check(&contrib, 17).is_err());
        contrib.domain = Some("com.microsoft".into());
        assert!(check(&contrib, 17).is_ok());
        contrib.input.pop();
        assert!(check(&contrib, 17).is_err());
        // `Where` exists from opset 9 on.
        assert!(check(&node("Where", &["a", "b", "c"], &["d"], &[]), 8).is_err());
    }
}

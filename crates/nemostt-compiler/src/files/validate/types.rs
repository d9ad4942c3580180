// SPDX-License-Identifier: MIT OR Apache-2.0

//! Checks the element types of inputs.
//!
//! ONNX Runtime checks the nodes that it is given, but not those that passes fuse, fold or remove. So all are checked
//! here, according to ONNX's `docs/Operators.md` for opsets 7 to 26, combined over all versions of an operator:
//! everything that ONNX Runtime accepts is accepted. Outputs of operators that are not listed have unknown types, which
//! are not checked.

use std::collections::HashMap;

use crate::{
    NodeProto, TensorProto, ValueInfoProto,
    ir::graph::is_onnx_domain,
    onnx::{AttributeProto, tensor_proto::DataType, type_proto},
};

/// Known element types.
pub(crate) type Types<'a> = HashMap<&'a str, DataType>;

/// Type constraint of an input or output.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// The type variable `T`: the same type wherever it occurs, one of these, or any if there are none.
    T(&'static [DataType]),
    /// A second type variable, for scales of quantized values.
    Scale,
    /// A third type variable, for indices.
    Index,
    /// One of these, independently of other inputs.
    One(&'static [DataType]),
    Unchecked,
}

const FLOATS: &[DataType] = {
    use DataType as D;
    &[D::Float, D::Float16, D::Double, D::Bfloat16]
};

/// Integers of at least 32 bits, and floating-point numbers.
const WIDE: &[DataType] = {
    use DataType as D;
    &[
        D::Float,
        D::Float16,
        D::Double,
        D::Bfloat16,
        D::Int32,
        D::Int64,
        D::Uint32,
        D::Uint64,
    ]
};

const SIGNED: &[DataType] = {
    use DataType as D;
    &[
        D::Float,
        D::Float16,
        D::Double,
        D::Bfloat16,
        D::Int8,
        D::Int16,
        D::Int32,
        D::Int64,
    ]
};

const NUMBERS: &[DataType] = {
    use DataType as D;
    &[
        D::Float,
        D::Float16,
        D::Double,
        D::Bfloat16,
        D::Int8,
        D::Int16,
        D::Int32,
        D::Int64,
        D::Uint8,
        D::Uint16,
        D::Uint32,
        D::Uint64,
    ]
};

struct Signature {
    /// Constraints of the inputs; the last one applies to all further inputs, too.
    inputs: &'static [Kind],
    /// Constraints of the outputs; likewise.
    outputs: &'static [Kind],
}

/// The signature of a standard operator; `None` if it is not listed.
fn signature(operator: &str) -> Option<Signature> {
    use DataType as D;
    use Kind::{Index, One, Scale, T, Unchecked};
    const ANY: Kind = T(&[]);
    const BOOL: Kind = One(&[D::Bool]);
    const BYTE: Kind = One(&[D::Int8, D::Uint8]);
    const FLOAT: Kind = One(&[D::Float]);
    const INT32: Kind = One(&[D::Int32]);
    const INT64: Kind = One(&[D::Int64]);
    const UINT8: Kind = One(&[D::Uint8]);
    let (inputs, outputs): (&[Kind], &[Kind]) = match operator {
        "Abs" | "Add" | "Clip" | "Div" | "Erf" | "Max" | "Min" | "Mod" | "Mul" | "Sign" | "Sub" => {
            (&[T(NUMBERS)], &[ANY])
        }
        "Neg" | "Relu" => (&[T(SIGNED)], &[ANY]),
        "Gemm" | "MatMul" => (&[T(WIDE)], &[ANY]),
        "Pow" => (&[T(WIDE), Unchecked], &[ANY]),
        "CumSum" => (&[T(WIDE), Index], &[ANY]),
        "ReduceL2" | "ReduceMean" | "ReduceProd" | "ReduceSum" => (&[T(WIDE), INT64], &[ANY]),
        "ReduceMax" | "ReduceMin" => (&[ANY, INT64], &[ANY]),
        "Range" => (&[T(&[D::Float, D::Double, D::Int16, D::Int32, D::Int64])], &[ANY]),
        "Ceil"
        | "Conv"
        | "Cos"
        | "Elu"
        | "Exp"
        | "Floor"
        | "Gelu"
        | "GlobalAveragePool"
        | "HardSigmoid"
        | "InstanceNormalization"
        | "LeakyRelu"
        | "Log"
        | "LogSoftmax"
        | "Mean"
        | "Reciprocal"
        | "Round"
        | "Sigmoid"
        | "Sin"
        | "Softmax"
        | "Softplus"
        | "Sqrt"
        | "Sum"
        | "Tanh" => (&[T(FLOATS)], &[ANY]),
        "LayerNormalization" => (&[T(FLOATS)], &[ANY, Unchecked]),
        "LSTM" => (&[T(FLOATS), T(FLOATS), T(FLOATS), T(FLOATS), INT32, T(FLOATS)], &[ANY]),
        "And" | "Not" | "Or" | "Xor" => (&[BOOL], &[BOOL]),
        "Equal" => (&[ANY], &[BOOL]),
        "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => (&[T(NUMBERS)], &[BOOL]),
        "Where" => (&[BOOL, ANY], &[ANY]),
        "Concat" | "Flatten" | "Identity" | "Transpose" => (&[ANY], &[ANY]),
        "Expand" | "Reshape" | "Split" | "Squeeze" | "Tile" | "Trilu" | "Unsqueeze" => (&[ANY, INT64], &[ANY]),
        "Pad" => (&[ANY, INT64, ANY, Index], &[ANY]),
        "Gather" | "GatherElements" | "GatherND" | "Slice" => (&[ANY, Index], &[ANY]),
        "ScatterElements" | "ScatterND" => (&[ANY, Index, ANY], &[ANY]),
        "ArgMax" | "ArgMin" | "NonZero" | "Shape" | "Size" => (&[Unchecked], &[INT64]),
        "ConvInteger" | "MatMulInteger" => (&[BYTE], &[INT32]),
        "DynamicQuantizeLinear" => (&[FLOAT], &[UINT8, FLOAT, UINT8]),
        "DequantizeLinear" => (&[ANY, Scale, ANY], &[Scale]),
        // The output type is an attribute: see `attribute_type`.
        "ConstantOfShape" => (&[INT64], &[Unchecked]),
        _ => return None,
    };
    Some(Signature { inputs, outputs })
}

/// Checks the input types of a node, and records its output types. The error is the end of a sentence about the node.
pub(crate) fn check<'a>(node: &'a NodeProto, types: &mut Types<'a>) -> Result<(), String> {
    let is_onnx = is_onnx_domain(node.domain());
    let signature = signature(node.op_type()).filter(|_| is_onnx).unwrap_or(Signature {
        inputs: &[],
        outputs: &[],
    });
    let mut variables = Variables::default();
    for (index, name) in node.input.iter().enumerate() {
        let Some(&found) = types.get(name.as_str()) else {
            continue;
        };
        let kind = at(signature.inputs, index);
        variables.bind(kind, found).map_err(|expected| {
            format!(
                "has input {} of type {}, expected {expected}",
                crate::files::validate::shown(name),
                type_name(found)
            )
        })?;
    }
    for (index, name) in node.output.iter().enumerate() {
        record(
            name,
            attribute_type(node).or_else(|| variables.value(at(signature.outputs, index))),
            types,
        );
    }
    Ok(())
}

/// Records the declared type of an input of the graph.
pub(crate) fn record_input<'a>(input: &'a ValueInfoProto, types: &mut Types<'a>) {
    record(input.name(), declared(input), types);
}

/// Records the type of a weight.
pub(crate) fn record_weight<'a>(weight: &'a TensorProto, types: &mut Types<'a>) {
    record(weight.name(), of_tensor(weight), types);
}

/// In a subgraph, the name may shadow a tensor of the graph around it.
fn record<'a>(name: &'a str, found: Option<DataType>, types: &mut Types<'a>) {
    match found {
        Some(found) if !name.is_empty() => types.insert(name, found),
        _ => types.remove(name),
    };
}

/// Checks a declared type against the inferred one. The error is the end of a sentence about the tensor.
pub(crate) fn check_declared(value: &ValueInfoProto, types: &Types<'_>) -> Result<(), String> {
    match (declared(value), types.get(value.name())) {
        (Some(declared), Some(&found)) if declared != found => Err(format!(
            "is declared as {}, but its type is {}",
            type_name(declared),
            type_name(found)
        )),
        _ => Ok(()),
    }
}

/// The last of `kinds` applies to all further ones.
fn at(kinds: &[Kind], index: usize) -> Kind {
    let kind = kinds.get(index).or(kinds.last());
    kind.copied().unwrap_or(Kind::Unchecked)
}

/// Values of a signature's type variables at one node.
#[derive(Default)]
struct Variables {
    t: Option<DataType>,
    scale: Option<DataType>,
    index: Option<DataType>,
}

impl Variables {
    /// Returns what was expected if `found` does not satisfy `kind`.
    fn bind(&mut self, kind: Kind, found: DataType) -> Result<(), String> {
        let (variable, allowed) = match kind {
            Kind::Unchecked => return Ok(()),
            Kind::One(allowed) => (None, allowed),
            Kind::T(allowed) => (Some(&mut self.t), allowed),
            Kind::Scale => (Some(&mut self.scale), FLOATS),
            Kind::Index => (Some(&mut self.index), &[DataType::Int32, DataType::Int64][..]),
        };
        if !allowed.is_empty() && !allowed.contains(&found) {
            let allowed: Vec<String> = allowed.iter().map(|&kind| type_name(kind)).collect();
            return Err(allowed.join(" or "));
        }
        match variable.map(|variable| *variable.get_or_insert(found)) {
            Some(expected) if expected != found => Err(format!("{} as its other inputs", type_name(expected))),
            _ => Ok(()),
        }
    }

    fn value(&self, kind: Kind) -> Option<DataType> {
        match kind {
            Kind::T(_) => self.t,
            Kind::Scale => self.scale,
            Kind::Index => self.index,
            Kind::One(&[kind]) => Some(kind),
            Kind::One(_) | Kind::Unchecked => None,
        }
    }
}

/// The output type of a node, if it is determined by attributes.
fn attribute_type(node: &NodeProto) -> Option<DataType> {
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name() == name);
    // `output_dtype` 0 means the type of the scale.
    let number = |attribute: &AttributeProto| {
        let kind = DataType::try_from(i32::try_from(attribute.i()).ok()?).ok();
        kind.filter(|&kind| kind != DataType::Undefined)
    };
    let value = || of_tensor(attribute("value")?.t.as_ref()?);
    match node.op_type() {
        "Cast" => number(attribute("to")?),
        "ConstantOfShape" => Some(value().unwrap_or(DataType::Float)),
        "Constant" => node.attribute.iter().find_map(|attribute| match attribute.name() {
            "value" => value(),
            "value_float" | "value_floats" => Some(DataType::Float),
            "value_int" | "value_ints" => Some(DataType::Int64),
            "value_string" | "value_strings" => Some(DataType::String),
            _ => None,
        }),
        "DequantizeLinear" => number(attribute("output_dtype")?),
        _ => None,
    }
}

fn of_tensor(tensor: &TensorProto) -> Option<DataType> {
    DataType::try_from(tensor.data_type()).ok()
}

/// The declared element type of an input or output of a graph.
fn declared(value: &ValueInfoProto) -> Option<DataType> {
    match value.r#type.as_ref()?.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => {
            let declared = DataType::try_from(tensor.elem_type()).ok();
            declared.filter(|&declared| declared != DataType::Undefined)
        }
        _ => None,
    }
}

/// The name in ONNX's documentation.
fn type_name(kind: DataType) -> String {
    kind.as_str_name().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(operator: &str, inputs: &[&str]) -> NodeProto {
        NodeProto {
            op_type: Some(operator.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec!["out".into(), "more".into()],
            ..Default::default()
        }
    }

    /// The type of the first output of `operator`. Tensors are named after their types.
    fn output(operator: &str, inputs: &[&str]) -> Result<Option<DataType>, String> {
        use DataType as D;
        let all = [
            D::Float,
            D::Double,
            D::Float16,
            D::Int32,
            D::Int64,
            D::Uint8,
            D::Int8,
            D::Bool,
            D::String,
        ];
        let names: Vec<String> = all.iter().map(|&kind| type_name(kind)).collect();
        let mut types: Types<'_> = names.iter().map(String::as_str).zip(all).collect();
        let node = node(operator, inputs);
        check(&node, &mut types)?;
        Ok(types.get("out").copied())
    }

    #[test]
    fn output_types_are_inferred() {
        use DataType as D;
        for (operator, inputs, expected) in [
            ("Mul", &["float", "float"][..], Some(D::Float)),
            ("Mul", &["int64", "unknown"], Some(D::Int64)),
            ("Where", &["bool", "float16", "float16"], Some(D::Float16)),
            ("Shape", &["string"], Some(D::Int64)),
            ("Gather", &["uint8", "int32"], Some(D::Uint8)),
            ("Clip", &["float", "", "float"], Some(D::Float)),
            ("LessOrEqual", &["int64", "int64"], Some(D::Bool)),
            ("MatMulInteger", &["uint8", "int8", "uint8", "int8"], Some(D::Int32)),
            ("DynamicQuantizeLinear", &["float"], Some(D::Uint8)),
            ("DequantizeLinear", &["int8", "float", "int8"], Some(D::Float)),
            (
                "LSTM",
                &["float", "float", "float", "float", "int32", "float"],
                Some(D::Float),
            ),
            ("ConstantOfShape", &["int64"], Some(D::Float)),
            ("Loop", &["bool", "float"], None),
        ] {
            assert_eq!(output(operator, inputs), Ok(expected), "{operator} {inputs:?}");
        }
    }

    #[test]
    fn invalid_input_types_are_rejected() {
        for (operator, inputs, expected) in [
            (
                "Mul",
                &["uint8", "float"][..],
                "has input float of type float, expected uint8 as its other inputs",
            ),
            (
                "Mul",
                &["bool", "bool"],
                "has input bool of type bool, expected float or float16 or",
            ),
            (
                "Conv",
                &["int32", "int32"],
                "expected float or float16 or double or bfloat16",
            ),
            ("Where", &["float", "float", "float"], "expected bool"),
            (
                "Where",
                &["bool", "float", "double"],
                "expected float as its other inputs",
            ),
            ("Reshape", &["float", "int32"], "expected int64"),
            (
                "Slice",
                &["float", "int64", "int32"],
                "expected int64 as its other inputs",
            ),
            ("Gather", &["float", "float"], "expected int32 or int64"),
            (
                "MatMulInteger",
                &["float", "int8"],
                "has input float of type float, expected int8 or uint8",
            ),
            ("LSTM", &["float", "float", "float", "float", "int64"], "expected int32"),
            ("ConstantOfShape", &["int32"], "expected int64"),
            (
                "Range",
                &["float16", "float16", "float16"],
                "expected float or double or int16",
            ),
        ] {
            let error = output(operator, inputs).unwrap_err();
            assert!(error.contains(expected), "{operator} {inputs:?}: {error}");
        }
    }

    #[test]
    fn dequantize_linear_output_type() {
        use DataType as D;
        for (output_dtype, expected) in [(0, D::Float16), (D::Float as i64, D::Float)] {
            let mut node = node("DequantizeLinear", &["bytes", "scale"]);
            node.attribute.push(AttributeProto {
                name: Some("output_dtype".into()),
                i: Some(output_dtype),
                ..Default::default()
            });
            let mut types = Types::from([("bytes", D::Int8), ("scale", D::Float16)]);
            check(&node, &mut types).unwrap();
            assert_eq!(types["out"], expected);
        }
    }

    #[test]
    fn subgraph_output_shadows_outer_type() {
        let mut types = Types::from([("out", DataType::Bool)]);
        let loop_node = node("Loop", &[]);
        check(&loop_node, &mut types).unwrap();
        assert!(types.is_empty());
    }
}

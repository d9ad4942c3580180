// SPDX-License-Identifier: MIT OR Apache-2.0

//! Evaluates operators on constants: shapes, limits, positions and the parts of masks that depend on them.
//!
//! Only for small tensors. Arithmetic on weights is left to ONNX Runtime, which folds it with the kernels that it would
//! run it with.

use crate::ir::{
    constant::{Constant, attribute, axis_of, checked_dims, size_of},
    data_movement::{DataMovement, PAD_ELEMENT, broadcast},
};
use crate::{NodeProto, onnx::tensor_proto::DataType};

/// Maximum elements of a tensor that is moved (the position table is one), and of one that is computed.
const MAX_MOVED_ELEMENTS: usize = 1 << 18;
const MAX_COMPUTED_ELEMENTS: usize = 1 << 16;

/// The output of `node` with these inputs (`None` if missing). `None` if it cannot be evaluated here.
pub(crate) fn evaluate(node: &NodeProto, inputs: &[Option<&Constant>]) -> Option<Constant> {
    let input = |index: usize| inputs.get(index).copied().flatten();
    let operation = node.op_type();
    match operation {
        "ConstantOfShape" => eval_constant_of_shape(node, input(0)?),
        "Range" => eval_range(input(0)?, input(1)?, input(2)?),
        "Concat" => eval_concat(node, inputs),
        "Cast" => eval_cast(input(0)?, attribute(node, "to")?),
        "Neg" | "Not" => eval_unary(operation, input(0)?),
        "Where" => eval_where(input(0)?, input(1)?, input(2)?),
        "Clip" => eval_clip(input(0)?, [input(1), input(2)]),
        "Add" | "Sub" | "Mul" | "Div" | "And" | "Or" | "Equal" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" => eval_binary(operation, input(0)?, input(1)?),
        _ => {
            let data = input(0)?;
            eval_movement(data, &DataMovement::of(node, &data.dims, input)?)
        }
    }
}

/// Applies `movement` to `data`.
pub(crate) fn eval_movement(data: &Constant, movement: &DataMovement) -> Option<Constant> {
    let size = size_of(data.element)?;
    let dims = movement.dims.clone();
    if dims.iter().product::<usize>() > MAX_MOVED_ELEMENTS {
        return None;
    }
    let mut raw = Vec::with_capacity(MAX_MOVED_ELEMENTS.min(dims.iter().product()) * size);
    for from in movement.map() {
        match from {
            PAD_ELEMENT => raw.resize(raw.len() + size, 0),
            from => raw.extend_from_slice(data.raw.get(from * size..(from + 1) * size)?),
        }
    }
    Some(Constant {
        element: data.element,
        dims,
        raw: raw.into(),
    })
}

fn eval_constant_of_shape(node: &NodeProto, shape: &Constant) -> Option<Constant> {
    let one = node
        .attribute
        .iter()
        .find(|a| a.name() == "value")
        .and_then(|a| a.t.as_ref());
    let one = match one {
        Some(tensor) => Constant::from_tensor(tensor).filter(|value| value.len() == 1)?,
        None => Constant::from_floats(vec![1], &[0.0]),
    };
    let dims: Vec<usize> = shape
        .ints()?
        .into_iter()
        .map(|dim| usize::try_from(dim).ok())
        .collect::<Option<_>>()?;
    let dims = checked_dims(dims)?;
    let count: usize = dims.iter().product();
    (count <= MAX_COMPUTED_ELEMENTS).then(|| Constant {
        element: one.element,
        dims,
        raw: one.raw.repeat(count).into(),
    })
}

fn eval_range(start: &Constant, limit: &Constant, step: &Constant) -> Option<Constant> {
    let element = start.element;
    let (start, limit, step) = (start.int()?, limit.int()?, step.int()?);
    let span = limit.checked_sub(start)?;
    let length = usize::try_from(span.checked_div(step)? + i64::from(span % step != 0)).ok()?;
    let value = |index: usize| start.checked_add(step.checked_mul(index as i64)?);
    let values: Vec<i64> = (0..length.min(MAX_COMPUTED_ELEMENTS))
        .map(value)
        .collect::<Option<_>>()?;
    (length <= MAX_COMPUTED_ELEMENTS).then(|| Constant::from_ints(element, vec![length], &values))
}

fn eval_concat(node: &NodeProto, inputs: &[Option<&Constant>]) -> Option<Constant> {
    let parts: Vec<&Constant> = inputs.iter().copied().collect::<Option<_>>()?;
    let first = *parts.first()?;
    let axis = axis_of(attribute(node, "axis")?, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims.get(axis)).sum::<Option<usize>>()?;
    let dims = checked_dims(dims)?;
    let size = size_of(first.element)?;
    let same = |part: &&Constant| part.element == first.element && part.dims.len() == dims.len();
    if !parts.iter().all(same) || dims.iter().product::<usize>() > MAX_MOVED_ELEMENTS {
        return None;
    }
    let mut raw = Vec::new();
    for row in 0..dims[..axis].iter().product() {
        for part in &parts {
            let length = part.dims[axis..].iter().product::<usize>() * size;
            raw.extend_from_slice(part.raw.get(row * length..(row + 1) * length)?);
        }
    }
    Some(Constant {
        element: first.element,
        dims,
        raw: raw.into(),
    })
}

fn eval_cast(value: &Constant, to: i64) -> Option<Constant> {
    let to = DataType::try_from(i32::try_from(to).ok()?).ok()?;
    if value.element == to {
        return Some(value.clone());
    }
    if value.len() > MAX_COMPUTED_ELEMENTS {
        return None;
    }
    let dims = value.dims.clone();
    match (value.ints(), to) {
        (Some(ints), DataType::Float) => {
            let floats: Vec<f32> = ints.into_iter().map(|v| v as f32).collect();
            Some(Constant::from_floats(dims, &floats))
        }
        (Some(ints), DataType::Int64 | DataType::Int32 | DataType::Bool) => Some(Constant::from_ints(to, dims, &ints)),
        (None, DataType::Int64 | DataType::Int32) => {
            let ints: Vec<i64> = value.floats()?.into_iter().map(|v| v as i64).collect();
            Some(Constant::from_ints(to, dims, &ints))
        }
        _ => None,
    }
}

fn eval_unary(operation: &str, value: &Constant) -> Option<Constant> {
    let dims = value.dims.clone();
    match (operation, value.ints()) {
        ("Neg", Some(ints)) if value.element != DataType::Bool => {
            let ints: Vec<i64> = ints.into_iter().map(i64::wrapping_neg).collect();
            Some(Constant::from_ints(value.element, dims, &ints))
        }
        ("Not", Some(bits)) if value.element == DataType::Bool => {
            let bits: Vec<i64> = bits.into_iter().map(|v| 1 - v).collect();
            Some(Constant::from_ints(value.element, dims, &bits))
        }
        ("Neg", None) => {
            let floats: Vec<f32> = value.floats()?.into_iter().map(|v| -v).collect();
            Some(Constant::from_floats(dims, &floats))
        }
        _ => None,
    }
}

fn eval_where(condition: &Constant, yes: &Constant, no: &Constant) -> Option<Constant> {
    let dims = broadcast(&condition.dims, &broadcast(&yes.dims, &no.dims)?)?;
    let (condition, yes, no) = (
        eval_expand(condition, &dims)?,
        eval_expand(yes, &dims)?,
        eval_expand(no, &dims)?,
    );
    let types_match = condition.element == DataType::Bool && yes.element == no.element;
    let size = types_match.then(|| size_of(yes.element)).flatten()?;
    let pick = |(index, &is_true): (usize, &u8)| {
        let from = if is_true != 0 { &yes.raw } else { &no.raw };
        from.get(index * size..(index + 1) * size).unwrap_or_default().to_vec()
    };
    Some(Constant {
        element: yes.element,
        dims,
        raw: condition.raw.iter().enumerate().flat_map(pick).collect(),
    })
}

fn eval_clip(value: &Constant, limits: [Option<&Constant>; 2]) -> Option<Constant> {
    let ints = value.ints()?;
    let limit = |limit: Option<&Constant>, none| limit.map_or(Some(none), Constant::int);
    let (low, high) = (limit(limits[0], i64::MIN)?, limit(limits[1], i64::MAX)?);
    let ints: Vec<i64> = ints.into_iter().map(|v| v.max(low).min(high)).collect();
    Some(Constant::from_ints(value.element, value.dims.clone(), &ints))
}

/// Broadcasts `value` to shape `dims`.
fn eval_expand(value: &Constant, dims: &[usize]) -> Option<Constant> {
    if value.dims == dims {
        return Some(value.clone());
    }
    if dims.iter().product::<usize>() > MAX_COMPUTED_ELEMENTS {
        return None;
    }
    let shape: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
    let shape = Constant::of_ints(vec![shape.len()], &shape);
    let expand = NodeProto {
        op_type: Some("Expand".into()),
        ..Default::default()
    };
    eval_movement(value, &DataMovement::of(&expand, &value.dims, |_| Some(&shape))?)
}

fn eval_binary(operation: &str, a: &Constant, b: &Constant) -> Option<Constant> {
    if a.element != b.element {
        return None;
    }
    let dims = broadcast(&a.dims, &b.dims)?;
    let (a, b) = (eval_expand(a, &dims)?, eval_expand(b, &dims)?);
    if a.len() > MAX_COMPUTED_ELEMENTS {
        return None;
    }
    let bools = |bools: Vec<bool>| {
        let bits: Vec<i64> = bools.into_iter().map(i64::from).collect();
        Constant::from_ints(DataType::Bool, dims.clone(), &bits)
    };
    if let (Some(x), Some(y)) = (a.floats(), b.floats()) {
        let pairs = x.iter().zip(&y);
        if let Some(compare) = comparison(operation) {
            return Some(bools(pairs.map(|(x, y)| compare(x, y)).collect()));
        }
        let compute: fn(f32, f32) -> f32 = match operation {
            "Add" => |x, y| x + y,
            "Sub" => |x, y| x - y,
            "Mul" => |x, y| x * y,
            "Div" => |x, y| x / y,
            _ => return None,
        };
        let floats: Vec<f32> = pairs.map(|(&x, &y)| compute(x, y)).collect();
        return Some(Constant::from_floats(dims, &floats));
    }
    let (x, y) = (a.ints()?, b.ints()?);
    let pairs = x.iter().zip(&y);
    let compared: Option<fn(&i64, &i64) -> bool> = match operation {
        "And" => Some(|&x, &y| x != 0 && y != 0),
        "Or" => Some(|&x, &y| x != 0 || y != 0),
        _ => comparison(operation),
    };
    if let Some(compare) = compared {
        return Some(bools(pairs.map(|(x, y)| compare(x, y)).collect()));
    }
    let compute: fn(i64, i64) -> Option<i64> = match operation {
        "Add" => i64::checked_add,
        "Sub" => i64::checked_sub,
        "Mul" => i64::checked_mul,
        "Div" => i64::checked_div,
        _ => return None,
    };
    let ints: Vec<i64> = pairs.map(|(&x, &y)| compute(x, y)).collect::<Option<_>>()?;
    Some(Constant::from_ints(a.element, dims, &ints))
}

/// The comparison that an operator computes.
fn comparison<T: PartialOrd>(operation: &str) -> Option<fn(&T, &T) -> bool> {
    match operation {
        "Equal" => Some(|x, y| x == y),
        "Less" => Some(|x, y| x < y),
        "LessOrEqual" => Some(|x, y| x <= y),
        "Greater" => Some(|x, y| x > y),
        "GreaterOrEqual" => Some(|x, y| x >= y),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;

    fn node(op: &str, attribute: Option<(&str, i64)>) -> NodeProto {
        let attribute = attribute.map(|(name, value)| AttributeProto {
            name: Some(name.into()),
            i: Some(value),
            ..Default::default()
        });
        NodeProto {
            op_type: Some(op.into()),
            input: vec!["x".into(); 5],
            attribute: attribute.into_iter().collect(),
            ..Default::default()
        }
    }

    fn run(op: &str, attribute: Option<(&str, i64)>, inputs: &[Constant]) -> Option<Vec<i64>> {
        let inputs: Vec<Option<&Constant>> = inputs.iter().map(Some).collect();
        evaluate(&node(op, attribute), &inputs)?.ints()
    }

    fn ints(values: &[i64]) -> Constant {
        Constant::of_ints(vec![values.len()], values)
    }

    #[test]
    fn chunk_mask_folds() {
        let scalar = |value| Constant::of_ints(vec![], &[value]);
        let positions = run("Range", None, &[scalar(0), scalar(6), scalar(1)]).unwrap();
        assert_eq!(positions, [0, 1, 2, 3, 4, 5]);
        let chunks = run("Div", None, &[ints(&positions), ints(&[2])]).unwrap();
        assert_eq!(chunks, [0, 0, 1, 1, 2, 2]);
        assert_eq!(
            run("LessOrEqual", None, &[ints(&chunks), ints(&[1])]).unwrap(),
            [1, 1, 1, 1, 0, 0]
        );
    }

    #[test]
    fn div_truncates_toward_zero() {
        assert_eq!(run("Div", None, &[ints(&[-3, 3]), ints(&[2])]).unwrap(), [-1, 1]);
        assert_eq!(run("Div", None, &[ints(&[1]), ints(&[0])]), None);
    }

    #[test]
    fn concat_and_where_fold() {
        let rows = Constant::of_ints(vec![2, 1], &[1, 2]);
        let more = Constant::of_ints(vec![2, 2], &[3, 4, 5, 6]);
        assert_eq!(
            run("Concat", Some(("axis", -1)), &[rows, more]).unwrap(),
            [1, 3, 4, 2, 5, 6]
        );
        let condition = Constant::from_ints(DataType::Bool, vec![2, 1], &[1, 0]);
        assert_eq!(
            run("Where", None, &[condition, ints(&[7, 8]), ints(&[9])]).unwrap(),
            [7, 8, 9, 9]
        );
    }

    #[test]
    fn cast_converts_dtype() {
        let floats = Constant::from_floats(vec![2], &[1.9, -1.9]);
        assert_eq!(run("Cast", Some(("to", 7)), &[floats]).unwrap(), [1, -1]);
        assert_eq!(run("Neg", None, &[ints(&[2])]).unwrap(), [-2]);
        assert_eq!(
            run("Clip", None, &[ints(&[-5, 5]), ints(&[0]), ints(&[2])]).unwrap(),
            [0, 2]
        );
        assert_eq!(run("Exp", None, &[ints(&[1])]), None);
    }
}

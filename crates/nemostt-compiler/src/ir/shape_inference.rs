// SPDX-License-Identifier: MIT OR Apache-2.0

//! Shape inference for the operators in NeMo's encoders.

use crate::NodeProto;
use crate::ir::{
    constant::{Constant, attribute, attribute_list, axis_of, checked_dims},
    data_movement::{DataMovement, broadcast},
};

/// Shapes of the outputs of `node`. The shape of each input is in `shapes` (`None` if missing or unknown), and its
/// value is `constant(index)` if it is constant. Empty if the shapes cannot be inferred.
pub(crate) fn infer<'a>(
    node: &NodeProto,
    shapes: &[Option<&[usize]>],
    constant: impl Fn(usize) -> Option<&'a Constant>,
) -> Vec<Vec<usize>> {
    let shape = |index: usize| shapes.get(index).copied().flatten();
    let shape_of_single_output = match node.op_type() {
        "Cast" | "Clip" | "LayerNormalization" | "LogSoftmax" | "Neg" | "Not" | "Relu" | "Sigmoid" | "Softmax"
        | "ScatterElements" | "Sqrt" | "Tanh" | "Exp" | "Erf" | "BatchNormalization" => shape(0).map(<[usize]>::to_vec),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "And" | "Or" | "Equal" | "Less" | "LessOrEqual" | "Greater"
        | "GreaterOrEqual" => shape(0).zip(shape(1)).and_then(|(a, b)| broadcast(a, b)),
        "Where" => (|| broadcast(shape(0)?, &broadcast(shape(1)?, shape(2)?)?))(),
        "MatMul" => shape(0).zip(shape(1)).and_then(|(a, b)| infer_matmul(a, b)),
        "Gemm" => shape(0).zip(shape(1)).and_then(|(a, b)| infer_gemm(node, a, b)),
        "Conv" => shape(0)
            .zip(shape(1))
            .and_then(|(data, kernel)| infer_conv(node, data, kernel, shape(2))),
        "Concat" => infer_concat(node, shapes),
        "OneHot" => shape(0).and_then(|indices| infer_one_hot(node, indices, constant(1))),
        "Gather" if constant(1).is_none() => infer_gather(node, shape(0), shape(1)),
        "Split" => return infer_split(node, shape(0), constant(1)).unwrap_or_default(),
        _ => shape(0).and_then(|from| Some(DataMovement::of(node, from, constant)?.dims)),
    };
    shape_of_single_output.and_then(checked_dims).into_iter().collect()
}

fn infer_matmul(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let ([outer_a @ .., rows, inner_a], [outer_b @ .., inner_b, columns]) = (a, b) else {
        return None;
    };
    let outer = broadcast(outer_a, outer_b)?;
    (inner_a == inner_b).then(|| [&outer[..], &[*rows, *columns]].concat())
}

fn infer_gemm(node: &NodeProto, a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let swapped = |name: &str, dims: &[usize]| match (attribute(node, name).unwrap_or(0), dims) {
        (0, &[rows, columns]) | (_, &[columns, rows]) => Some([rows, columns]),
        _ => None,
    };
    infer_matmul(&swapped("transA", a)?, &swapped("transB", b)?)
}

/// `None` also for shapes that ONNX Runtime rejects in a run (`conv.cc`, `conv_attributes.h`), so that no pass replaces such a
/// convolution.
fn infer_conv(node: &NodeProto, data: &[usize], kernel: &[usize], bias: Option<&[usize]>) -> Option<Vec<usize>> {
    let axes = data.len().checked_sub(2)?;
    let has_auto_pad = node
        .attribute
        .iter()
        .any(|a| a.name() == "auto_pad" && a.s.as_deref() != Some(b"NOTSET"));
    if has_auto_pad || kernel.len() != data.len() {
        return None;
    }
    let group = usize::try_from(attribute(node, "group").unwrap_or(1)).ok()?;
    let has_bias = node.input.get(2).is_some_and(|name| !name.is_empty());
    let has_length = |name: &str, length: usize| attribute_list(node, name).is_none_or(|list| list.len() == length);
    let is_kernel_shape = |list: &[i64]| list.iter().copied().eq(kernel[2..].iter().map(|&size| size as i64));
    let is_valid = group > 0
        && kernel[0].is_multiple_of(group)
        && kernel[1].checked_mul(group) == Some(data[1])
        && has_bias == bias.is_some()
        && bias.is_none_or(|bias| bias == [kernel[0]])
        && attribute_list(node, "kernel_shape").is_none_or(is_kernel_shape)
        && has_length("strides", axes)
        && has_length("dilations", axes)
        && has_length("pads", 2 * axes);
    if !is_valid {
        return None;
    }
    let at = |name: &str, index: usize, default: usize| match attribute_list(node, name) {
        Some(list) => usize::try_from(*list.get(index)?).ok(),
        None => Some(default),
    };
    let mut dims = vec![data[0], kernel[0]];
    for axis in 0..axes {
        let pads = at("pads", axis, 0)?.checked_add(at("pads", axes + axis, 0)?)?;
        let padded = data[2 + axis].checked_add(pads)?;
        let reach = kernel[2 + axis]
            .checked_sub(1)?
            .checked_mul(at("dilations", axis, 1)?)?
            .checked_add(1)?;
        dims.push(padded.checked_sub(reach)?.checked_div(at("strides", axis, 1)?)? + 1);
    }
    Some(dims)
}

fn infer_concat(node: &NodeProto, shapes: &[Option<&[usize]>]) -> Option<Vec<usize>> {
    let parts: Vec<&[usize]> = shapes.iter().copied().collect::<Option<_>>()?;
    let mut dims = parts.first()?.to_vec();
    let axis = axis_of(attribute(node, "axis")?, dims.len())?;
    let fits = |part: &&[usize]| {
        let mut axes = 0..dims.len();
        part.len() == dims.len() && axes.all(|other| other == axis || part[other] == dims[other])
    };
    if !parts.iter().all(fits) {
        return None;
    }
    dims[axis] = parts
        .iter()
        .try_fold(0_usize, |sum, part| sum.checked_add(part[axis]))?;
    Some(dims)
}

fn infer_one_hot(node: &NodeProto, indices: &[usize], depth: Option<&Constant>) -> Option<Vec<usize>> {
    let depth = usize::try_from(depth?.int()?).ok()?;
    let axis = axis_of(attribute(node, "axis").unwrap_or(-1), indices.len() + 1)?;
    Some([&indices[..axis], &[depth], &indices[axis..]].concat())
}

fn infer_gather(node: &NodeProto, data: Option<&[usize]>, indices: Option<&[usize]>) -> Option<Vec<usize>> {
    let (data, indices) = (data?, indices?);
    let axis = axis_of(attribute(node, "axis").unwrap_or(0), data.len())?;
    Some([&data[..axis], indices, &data[axis + 1..]].concat())
}

fn infer_split(node: &NodeProto, data: Option<&[usize]>, sizes: Option<&Constant>) -> Option<Vec<Vec<usize>>> {
    let data = data?;
    let axis = axis_of(attribute(node, "axis").unwrap_or(0), data.len())?;
    let parts = node.output.len();
    // An input since opset 13, an attribute before.
    let has_sizes = node.input.get(1).is_some_and(|name| !name.is_empty()) || attribute_list(node, "split").is_some();
    let sizes: Vec<usize> = match sizes {
        Some(sizes) => sizes
            .ints()?
            .into_iter()
            .map(|size| usize::try_from(size).ok())
            .collect::<Option<_>>()?,
        None if has_sizes || !data[axis].is_multiple_of(parts) => return None,
        None => vec![data[axis] / parts; parts],
    };
    let sum = sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size));
    if sizes.len() != parts || sum != Some(data[axis]) {
        return None;
    }
    let part = |size: usize| {
        let mut dims = data.to_vec();
        dims[axis] = size;
        dims
    };
    sizes.into_iter().map(|size| checked_dims(part(size))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::AttributeProto;

    fn node(op: &str, lists: &[(&str, &[i64])], number: Option<(&str, i64)>) -> NodeProto {
        let list = |(name, ints): &(&str, &[i64])| AttributeProto {
            name: Some((*name).into()),
            ints: ints.to_vec(),
            ..Default::default()
        };
        let number = number.map(|(name, value)| AttributeProto {
            name: Some(name.into()),
            i: Some(value),
            ..Default::default()
        });
        NodeProto {
            op_type: Some(op.into()),
            output: vec!["a".into(), "b".into()],
            attribute: lists.iter().map(list).chain(number).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn conv_shape() {
        let conv = node("Conv", &[("strides", &[2, 2]), ("pads", &[0, 0, 0, 0])], None);
        let shapes = infer(&conv, &[Some(&[1, 1, 28, 83]), Some(&[64, 1, 3, 3])], |_| None);
        assert_eq!(shapes, [[1, 64, 13, 41]]);
    }

    #[test]
    fn inconsistent_conv_has_no_shape() {
        let (data, kernel): (&[usize], &[usize]) = (&[1, 8, 20], &[16, 4, 3]);
        let conv = |lists: &[(&str, &[i64])], group: i64, data, kernel, bias: Option<&[usize]>| {
            let mut conv = node("Conv", lists, Some(("group", group)));
            conv.input = ["x", "w"].map(String::from).to_vec();
            conv.input.extend(bias.map(|_| "b".into()));
            infer(&conv, &[Some(data), Some(kernel), bias], |_| None)
        };
        assert_eq!(conv(&[], 2, data, kernel, Some(&[16])), [[1, 16, 18]]);
        assert_eq!(conv(&[("kernel_shape", &[3])], 2, data, kernel, None), [[1, 16, 18]]);
        for (lists, group, bias) in [
            (&[][..], 1, None),
            (&[], 0, None),
            (&[], 3, None),
            (&[], 2, Some(&[1, 16][..])),
            (&[], 2, Some(&[8])),
            (&[("kernel_shape", &[5][..])], 2, None),
            (&[("kernel_shape", &[3, 1])], 2, None),
            (&[("strides", &[1, 1])], 2, None),
            (&[("dilations", &[1, 1])], 2, None),
            (&[("pads", &[1])], 2, None),
        ] {
            assert!(
                conv(lists, group, data, kernel, bias).is_empty(),
                "{lists:?} {group} {bias:?}"
            );
        }
    }

    #[test]
    fn one_hot_inserts_an_axis() {
        let infer = |axis: Option<i64>, depth: Option<&Constant>| {
            let one_hot = node("OneHot", &[], axis.map(|axis| ("axis", axis)));
            infer(&one_hot, &[Some(&[2, 3]), Some(&[1])], |index| {
                depth.filter(|_| index == 1)
            })
        };
        let depth = Constant::of_ints(vec![1], &[128]);
        assert_eq!(infer(None, Some(&depth)), [[2, 3, 128]]);
        assert_eq!(infer(Some(0), Some(&depth)), [[128, 2, 3]]);
        assert_eq!(infer(Some(-2), Some(&depth)), [[2, 128, 3]]);
        let negative = Constant::of_ints(vec![1], &[-1]);
        for (axis, depth) in [(None, None), (Some(3), Some(&depth)), (None, Some(&negative))] {
            assert!(infer(axis, depth).is_empty());
        }
    }

    #[test]
    fn matmul_split_and_concat_shapes() {
        let matmul = node("MatMul", &[], None);
        assert_eq!(
            infer(&matmul, &[Some(&[1, 4, 2, 8]), Some(&[1, 4, 8, 3])], |_| None),
            [[1, 4, 2, 3]]
        );
        assert!(infer(&matmul, &[Some(&[2, 8]), Some(&[7, 3])], |_| None).is_empty());
        let split = node("Split", &[], Some(("axis", 1)));
        assert_eq!(infer(&split, &[Some(&[1, 6, 2])], |_| None), [[1, 3, 2], [1, 3, 2]]);
        let sizes = |sizes: &[i64]| {
            let mut split = node("Split", &[], Some(("axis", 1)));
            split.input = vec!["x".into(), "sizes".into()];
            let sizes = Constant::of_ints(vec![sizes.len()], sizes);
            infer(&split, &[Some(&[1, 6, 2])], |index| (index == 1).then_some(&sizes))
        };
        assert_eq!(sizes(&[4, 2]), [[1, 4, 2], [1, 2, 2]]);
        assert!(sizes(&[4, 3]).is_empty() && sizes(&[6]).is_empty() && sizes(&[2, 2, 2]).is_empty());
        let concat = node("Concat", &[], Some(("axis", -1)));
        assert_eq!(infer(&concat, &[Some(&[1, 6]), Some(&[1, 2])], |_| None), [[1, 8]]);
        assert!(infer(&concat, &[Some(&[1, 6]), Some(&[2, 2])], |_| None).is_empty());
        assert!(infer(&concat, &[Some(&[1, 6]), Some(&[1, 2, 1])], |_| None).is_empty());
        let gather = node("Gather", &[], Some(("axis", 1)));
        assert_eq!(infer(&gather, &[Some(&[1, 6, 4]), Some(&[2])], |_| None), [[1, 2, 4]]);
    }
}

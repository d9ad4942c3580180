// SPDX-License-Identifier: MIT OR Apache-2.0

//! Mutations of the numbers in a graph: attributes, sizes, types, constants.

use nemostt::fuzzing::onnx::{
    GraphProto, NodeProto, TensorProto, tensor_proto::DataLocation, tensor_shape_proto::dimension::Value as Size,
    type_proto::Value as Kind,
};

use super::ELEMENTS;
use crate::random::Random;

pub(super) fn change_attribute(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let with = graph.node.iter_mut().filter(|node| !node.attribute.is_empty());
    let mut with: Vec<&mut NodeProto> = with.collect();
    let node = random.pick_mut(&mut with)?;
    if random.one_in(8) {
        let index = random.below(node.attribute.len());
        node.attribute.remove(index);
        return Some(());
    }
    let attribute = random.pick_mut(&mut node.attribute)?;
    if let Some(tensor) = &mut attribute.t {
        return change_values(tensor, random);
    }
    if let Some(value) = attribute.f {
        attribute.f = Some(odd_float(random, value));
    }
    if let Some(value) = attribute.i {
        attribute.i = Some(random.odd(value));
    }
    match random.below(6) {
        0 => attribute.ints.push(random.odd(1)),
        1 => drop(attribute.ints.pop()),
        2 => attribute.ints.reverse(),
        _ => {
            if let Some(value) = random.pick_mut(&mut attribute.ints) {
                *value = random.odd(*value);
            }
        }
    }
    Some(())
}

/// Copies an attribute from one node to another.
pub(super) fn give_attribute(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let with: Vec<&NodeProto> = graph.node.iter().filter(|node| !node.attribute.is_empty()).collect();
    let giver = random.pick(&with)?;
    let attribute = random.pick(&giver.attribute)?.clone();
    let node = random.pick_mut(&mut graph.node)?;
    node.attribute.retain(|other| other.name != attribute.name);
    node.attribute.push(attribute);
    Some(())
}

pub(super) fn change_value_info(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let infos = match random.below(2) {
        0 => &mut graph.input,
        _ => &mut graph.output,
    };
    let info = random.pick_mut(infos)?;
    let Kind::TensorType(tensor) = info.r#type.as_mut()?.value.as_mut()? else {
        return None;
    };
    if random.one_in(4) {
        tensor.elem_type = Some(ELEMENTS[random.below(ELEMENTS.len())]);
        return Some(());
    }
    let shape = tensor.shape.as_mut()?;
    match random.below(8) {
        0 => drop(shape.dim.pop()),
        1 => shape.dim.push(random.pick(&shape.dim)?.clone()),
        2 => shape.dim.reverse(),
        _ => {
            let dim = random.pick_mut(&mut shape.dim)?;
            dim.value = match (&dim.value, random.below(4)) {
                (Some(Size::DimValue(_)), 0) => None,
                (Some(Size::DimValue(size)), _) => Some(Size::DimValue(random.odd(*size))),
                _ => Some(Size::DimValue(random.odd(64))),
            };
        }
    }
    Some(())
}

/// Changes the shape of a weight, mostly together with the number of its values.
pub(super) fn resize_weight(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let weight = random.pick_mut(&mut graph.initializer)?;
    let values = |dims: &[i64]| dims.iter().try_fold(1_i64, |all, size| all.checked_mul(*size));
    let before = values(&weight.dims)?;
    match random.below(6) {
        0 => weight.dims.reverse(),
        1 => weight.dims.push(1),
        2 => weight.dims.insert(0, 1),
        3 => weight.dims = vec![before],
        _ => {
            let size = random.pick_mut(&mut weight.dims)?;
            *size = random.odd(*size);
        }
    }
    let after = values(&weight.dims)?;
    if before <= 0 || !(0..1 << 18).contains(&after) || random.one_in(8) {
        return Some(());
    }
    let scaled = |length: usize| (length / before as usize).saturating_mul(after as usize);
    if let Some(raw) = &weight.raw_data {
        let length = scaled(raw.len());
        weight.raw_data = Some(raw.iter().copied().cycle().take(length).collect());
    }
    let of_length = weight.external_data.iter_mut().find(|entry| entry.key() == "length");
    if let Some(entry) = of_length {
        entry.value = Some(scaled(entry.value().parse().ok()?).to_string());
    }
    Some(())
}

pub(super) fn retype_weight(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let weight = random.pick_mut(&mut graph.initializer)?;
    weight.data_type = Some(ELEMENTS[random.below(ELEMENTS.len())]);
    Some(())
}

pub(super) fn change_numbers(graph: &mut GraphProto, random: &mut Random) -> Option<()> {
    let small = |tensor: &&mut TensorProto| tensor.data_location() != DataLocation::External;
    let mut small: Vec<&mut TensorProto> = graph.initializer.iter_mut().filter(small).collect();
    change_values(random.pick_mut(&mut small)?, random)
}

fn change_values(tensor: &mut TensorProto, random: &mut Random) -> Option<()> {
    let mut raw = tensor.raw_data.as_ref()?.to_vec();
    match tensor.data_type() {
        7 => {
            let (values, _) = raw.as_chunks_mut::<8>();
            let value = random.pick_mut(values)?;
            *value = random.odd(i64::from_le_bytes(*value)).to_le_bytes();
        }
        1 => {
            let (values, _) = raw.as_chunks_mut::<4>();
            let value = random.pick_mut(values)?;
            *value = odd_float(random, f32::from_le_bytes(*value)).to_le_bytes();
        }
        _ => {
            let byte = random.pick_mut(&mut raw)?;
            *byte ^= 1 << random.below(8);
        }
    }
    tensor.raw_data = Some(raw.into());
    Some(())
}

fn odd_float(random: &mut Random, instead_of: f32) -> f32 {
    const FAR: [f32; 8] = [0.0, -0.0, 1.0, -1.0, f32::NAN, f32::INFINITY, f32::MAX, 1e-40];
    match random.below(4) {
        0 => instead_of * 2.0,
        1 => -instead_of,
        _ => FAR[random.below(FAR.len())],
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Damage to weights, shapes and attributes.

use super::{
    super::wire::{Message, Value},
    Files, Random,
    field::*,
    in_field, in_graph, odd,
};

/// Flips bits of a weight's metadata, not of its values.
pub(super) fn flip_in_header(files: &mut Files, random: &mut Random) {
    in_field(files, random, INITIALIZER, |tensor, random| {
        let metadata = [TENSOR_DIMS, TENSOR_TYPE, TENSOR_NAME, TENSOR_EXTERNAL];
        let is_metadata = |place: &usize| metadata.contains(&tensor.0[*place].number);
        let places: Vec<usize> = (0..tensor.0.len()).filter(is_metadata).collect();
        match &mut tensor.0[random.pick(&places)].value {
            Value::Varint(value) => *value ^= 1 << random.below(64),
            Value::Bytes(bytes) if !bytes.is_empty() => {
                let byte = random.below(bytes.len());
                bytes[byte] ^= 1 << random.below(8);
            }
            _ => (),
        }
    });
}

/// Swaps field `number` of two weights.
pub(super) fn swap(files: &mut Files, random: &mut Random, number: u64) {
    in_graph(files, random, |graph, random| {
        let places = graph.places(INITIALIZER);
        let pair = [random.pick(&places), random.pick(&places)];
        let [one, other] = pair.map(|place| graph.inner(place));
        let (Some(&a), Some(&b)) = (one.places(number).first(), other.places(number).first()) else {
            return;
        };
        let (first, second) = (one.bytes(a).to_vec(), other.bytes(b).to_vec());
        graph.change(pair[0], |tensor| tensor.set(a, second));
        if pair[0] != pair[1] {
            graph.change(pair[1], |tensor| tensor.set(b, first));
        }
    });
}

pub(super) fn wrong_sizes(message: &mut Message, number: u64, random: &mut Random) {
    let mut sizes = message.integers(number);
    match random.below(4) {
        0 => sizes.push(odd(random, 1)),
        1 => drop(sizes.pop()),
        2 => sizes.reverse(),
        _ => (),
    }
    if !sizes.is_empty() && random.below(4) != 0 {
        let axis = random.below(sizes.len());
        sizes[axis] = odd(random, sizes[axis]);
    }
    message.set_integers(number, &sizes);
}

pub(super) fn wrong_shape(files: &mut Files, random: &mut Random, number: u64) {
    in_field(files, random, number, |value, random| {
        let Some(&place) = value.places(VALUE_TYPE).first() else {
            return;
        };
        value.change(place, |kind| {
            let Some(&place) = kind.places(TYPE_TENSOR).first() else {
                return;
            };
            kind.change(place, |tensor| {
                if random.below(4) == 0 {
                    tensor.set_integers(TENSOR_TYPE_ELEMENT, &[random.next() % 26]);
                }
                let Some(&place) = tensor.places(TENSOR_TYPE_SHAPE).first() else {
                    return;
                };
                tensor.change(place, |shape| match shape.places(SHAPE_DIM).as_slice() {
                    [] => shape.push(SHAPE_DIM, Value::Bytes(Vec::new())),
                    places if random.below(4) == 0 => {
                        shape.0.remove(random.pick(places));
                    }
                    places => {
                        let mut dim = Message(Vec::new());
                        dim.set_integers(DIM_VALUE, &[odd(random, 64)]);
                        shape.set(random.pick(places), dim.encode());
                    }
                });
            });
        });
    });
}

pub(super) fn wrong_attribute(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let has_numbers = |attribute: &Message| {
            !attribute.places(ATTRIBUTE_INT).is_empty() || !attribute.places(ATTRIBUTE_INTS).is_empty()
        };
        let mut found = Vec::new();
        for node in graph.places(NODE) {
            let inner = graph.inner(node);
            let attributes = inner.places(NODE_ATTRIBUTE);
            found.extend(
                attributes
                    .into_iter()
                    .filter(|&a| has_numbers(&inner.inner(a)))
                    .map(|a| (node, a)),
            );
        }
        if found.is_empty() {
            return;
        }
        let (node, attribute) = random.pick(&found);
        graph.change(node, |node| {
            node.change(attribute, |attribute| {
                match attribute.places(ATTRIBUTE_INTS).is_empty() {
                    true => {
                        let value = attribute.integers(ATTRIBUTE_INT)[0];
                        attribute.set_integers(ATTRIBUTE_INT, &[odd(random, value)]);
                    }
                    false => wrong_sizes(attribute, ATTRIBUTE_INTS, random),
                }
            });
        });
    });
}

/// Changes values of small integer tensors: shapes, axes, limits.
pub(super) fn wrong_constants(files: &mut Files, random: &mut Random) {
    let change = |tensor: &mut Message, random: &mut Random| {
        if let Some(&place) = tensor.places(TENSOR_RAW).first() {
            let mut raw = tensor.bytes(place).to_vec();
            if let (numbers @ [_, ..], _) = raw.as_chunks_mut::<8>() {
                let number = random.below(numbers.len());
                numbers[number] = odd(random, u64::from_le_bytes(numbers[number])).to_le_bytes();
            }
            tensor.set(place, raw);
        }
    };
    in_graph(files, random, |graph, random| {
        let is_small = |tensor: &Message| {
            tensor.integers(TENSOR_TYPE) == [7] && tensor.integers(TENSOR_DIMS).iter().product::<u64>() < 16
        };
        let initializers = graph.places(INITIALIZER).into_iter();
        let mut found: Vec<_> = initializers
            .filter(|&place| is_small(&graph.inner(place)))
            .map(|place| (place, None))
            .collect();
        for place in graph.places(NODE) {
            let node = graph.inner(place);
            for attribute in node.places(NODE_ATTRIBUTE) {
                let inner = node.inner(attribute);
                let tensors = inner.places(ATTRIBUTE_TENSOR).into_iter();
                let small = tensors.filter(|&tensor| is_small(&inner.inner(tensor)));
                found.extend(small.map(|tensor| (place, Some((attribute, tensor)))));
            }
        }
        for _ in 0..=random.below(3) {
            if found.is_empty() {
                return;
            }
            let (place, inside) = random.pick(&found);
            graph.change(place, |message| match inside {
                None => change(message, random),
                Some((attribute, tensor)) => message.change(attribute, |attribute| {
                    attribute.change(tensor, |tensor| change(tensor, random));
                }),
            });
        }
    });
}

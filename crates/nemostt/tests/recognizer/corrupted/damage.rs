// SPDX-License-Identifier: MIT OR Apache-2.0

//! Corrupts models: each seed gives one model and the kind of damage.

use std::collections::BTreeMap;

use super::{
    random::Random,
    wire::{Message, Value},
};

/// The files of a model, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// Field numbers of ONNX's messages (`onnx.proto`).
pub mod field {
    pub const MODEL_GRAPH: u64 = 7;
    pub const MODEL_OPSET: u64 = 8;
    pub const OPSET_DOMAIN: u64 = 1;
    pub const OPSET_VERSION: u64 = 2;
    pub const NODE: u64 = 1;
    pub const INITIALIZER: u64 = 5;
    pub const GRAPH_INPUT: u64 = 11;
    pub const GRAPH_OUTPUT: u64 = 12;
    pub const VALUE_INFO: u64 = 13;
    pub const NODE_INPUT: u64 = 1;
    pub const NODE_OUTPUT: u64 = 2;
    pub const NODE_NAME: u64 = 3;
    pub const NODE_OPERATOR: u64 = 4;
    pub const NODE_ATTRIBUTE: u64 = 5;
    pub const NODE_DOMAIN: u64 = 7;
    pub const ATTRIBUTE_NAME: u64 = 1;
    pub const ATTRIBUTE_INT: u64 = 3;
    pub const ATTRIBUTE_TENSOR: u64 = 5;
    pub const ATTRIBUTE_GRAPH: u64 = 6;
    pub const ATTRIBUTE_INTS: u64 = 8;
    pub const ATTRIBUTE_TYPE: u64 = 20;
    pub const TENSOR_DIMS: u64 = 1;
    pub const TENSOR_TYPE: u64 = 2;
    pub const TENSOR_NAME: u64 = 8;
    pub const TENSOR_RAW: u64 = 9;
    pub const TENSOR_EXTERNAL: u64 = 13;
    pub const ENTRY_VALUE: u64 = 2;
    pub const VALUE_TYPE: u64 = 2;
    pub const TYPE_TENSOR: u64 = 1;
    pub const TENSOR_TYPE_ELEMENT: u64 = 1;
    pub const TENSOR_TYPE_SHAPE: u64 = 2;
    pub const SHAPE_DIM: u64 = 1;
    pub const DIM_VALUE: u64 = 1;
}
use field::*;

type Damage = fn(&mut Files, &mut Random);

/// All kinds of damage.
pub const KINDS: [(&str, Damage); 24] = [
    ("flipped bits", |files, random| {
        damage_bytes(files, random, |bytes, random| flip(bytes, random))
    }),
    ("overwritten bytes", |files, random| {
        damage_bytes(files, random, |bytes, random| overwrite(bytes, random))
    }),
    ("a truncated file", |files, random| {
        damage_bytes(files, random, |bytes, random| bytes.truncate(random.below(bytes.len())));
    }),
    ("flipped bits in a node", |files, random| flip_in(files, random, NODE)),
    ("flipped bits in an input", |files, random| {
        flip_in(files, random, GRAPH_INPUT)
    }),
    ("flipped bits in a weight's header", flip_in_header),
    ("swapped weight data", |files, random| swap(files, random, TENSOR_RAW)),
    ("swapped weight names", |files, random| swap(files, random, TENSOR_NAME)),
    ("wrong shape of a weight", |files, random| {
        in_field(files, random, INITIALIZER, |tensor, random| {
            wrong_sizes(tensor, TENSOR_DIMS, random)
        });
    }),
    ("wrong element type of a weight", |files, random| {
        in_field(files, random, INITIALIZER, |tensor, random| {
            tensor.set_integers(TENSOR_TYPE, &[random.next() % 26]);
        });
    }),
    ("wrong shape of an input", |files, random| {
        wrong_shape(files, random, GRAPH_INPUT)
    }),
    ("wrong shape of an output", |files, random| {
        wrong_shape(files, random, GRAPH_OUTPUT)
    }),
    ("wrong shape of an inner value", |files, random| {
        wrong_shape(files, random, VALUE_INFO)
    }),
    ("a wrong attribute", wrong_attribute),
    ("wrong constants", wrong_constants),
    ("shuffled nodes", shuffle),
    ("a duplicated name", duplicate_name),
    ("a rewired input", rewire),
    ("another operator", other_operator),
    ("a removed field", remove_field),
    ("other operator sets", other_opsets),
    ("nested graphs", nest),
    ("swapped files", swap_files),
    ("corrupt settings or vocabulary", damage_text),
];

/// Model `number` of the corpus: the name of the damage, and the corrupt `files`.
pub fn corrupt(mut files: Files, number: u64, kind: usize) -> (&'static str, Files) {
    let mut random = Random(number.wrapping_mul(0x2545_f491_4f6c_dd1d));
    let (name, damage) = KINDS[kind];
    damage(&mut files, &mut random);
    (name, files)
}

fn graphs(files: &Files) -> Vec<String> {
    files.keys().filter(|name| name.ends_with(".onnx")).cloned().collect()
}

fn damage_bytes(files: &mut Files, random: &mut Random, damage: fn(&mut Vec<u8>, &mut Random)) {
    let names: Vec<String> = files.keys().filter(|name| name.contains(".onnx")).cloned().collect();
    let name = random.pick(&names);
    damage(files.get_mut(&name).unwrap(), random);
}

fn flip(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(16) {
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(8);
    }
}

fn overwrite(bytes: &mut [u8], random: &mut Random) {
    let start = random.below(bytes.len());
    let length = 1 + random.below(256);
    let fill = random.pick(&[None, Some(0), Some(0xff)]);
    for byte in bytes.iter_mut().skip(start).take(length) {
        *byte = fill.unwrap_or_else(|| random.next() as u8);
    }
}

/// Changes one graph.
fn in_graph(files: &mut Files, random: &mut Random, damage: impl FnOnce(&mut Message, &mut Random)) {
    in_model(files, random, |model, random| {
        let place = model.places(MODEL_GRAPH)[0];
        model.change(place, |graph| damage(graph, random));
    });
}

fn in_model(files: &mut Files, random: &mut Random, damage: impl FnOnce(&mut Message, &mut Random)) {
    let name = random.pick(&graphs(files));
    let file = files.get_mut(&name).unwrap();
    let mut model = Message::decode(file);
    damage(&mut model, random);
    *file = model.encode();
}

/// Changes one field `number` of one graph.
fn in_field(files: &mut Files, random: &mut Random, number: u64, damage: impl FnOnce(&mut Message, &mut Random)) {
    in_graph(files, random, |graph, random| {
        let places = graph.places(number);
        if !places.is_empty() {
            let place = random.pick(&places);
            graph.change(place, |message| damage(message, random));
        }
    });
}

fn flip_in(files: &mut Files, random: &mut Random, number: u64) {
    in_graph(files, random, |graph, random| {
        let place = random.pick(&graph.places(number));
        let mut bytes = graph.bytes(place).to_vec();
        for _ in 0..=random.below(3) {
            let byte = random.below(bytes.len());
            bytes[byte] ^= 1 << random.below(8);
        }
        graph.set(place, bytes);
    });
}

/// Flips bits of a weight's metadata, not of its values.
fn flip_in_header(files: &mut Files, random: &mut Random) {
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
fn swap(files: &mut Files, random: &mut Random, number: u64) {
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

/// An unexpected number.
fn odd(random: &mut Random, instead_of: u64) -> u64 {
    let near = [
        instead_of.wrapping_add(1),
        instead_of.wrapping_sub(1),
        instead_of << 1,
        instead_of >> 1,
    ];
    let far = [
        0,
        1,
        u64::MAX,
        1 << 31,
        1 << 40,
        i64::MAX as u64,
        i64::MIN as u64,
        3,
        1_000_003,
    ];
    match random.below(3) {
        0 => random.pick(&near),
        1 => random.pick(&far),
        _ => random.next() >> random.below(64),
    }
}

fn wrong_sizes(message: &mut Message, number: u64, random: &mut Random) {
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

fn wrong_shape(files: &mut Files, random: &mut Random, number: u64) {
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

fn wrong_attribute(files: &mut Files, random: &mut Random) {
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
fn wrong_constants(files: &mut Files, random: &mut Random) {
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

fn shuffle(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let places = graph.places(NODE);
        let count = random.pick(&[1, 4, places.len()]);
        for _ in 0..count {
            graph.0.swap(random.pick(&places), random.pick(&places));
        }
    });
}

fn duplicate_name(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let kinds = [
            (NODE, NODE_OUTPUT),
            (INITIALIZER, TENSOR_NAME),
            (GRAPH_INPUT, 1),
            (GRAPH_OUTPUT, 1),
        ];
        let [from, to] = [random.pick(&kinds), random.pick(&kinds)];
        let (sources, targets) = (graph.places(from.0), graph.places(to.0));
        if sources.is_empty() || targets.is_empty() {
            return;
        }
        let Some(name) = graph.inner(random.pick(&sources)).text(from.1) else {
            return;
        };
        graph.change(random.pick(&targets), |message| {
            if let Some(&place) = message.places(to.1).first() {
                message.set(place, name.into_bytes());
            }
        });
    });
}

fn rewire(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let nodes = graph.places(NODE);
        let Some(name) = graph.inner(random.pick(&nodes)).text(NODE_OUTPUT) else {
            return;
        };
        let name = random.pick(&[name, String::new(), "undefined".into()]);
        graph.change(random.pick(&nodes), |node| {
            let inputs = node.places(NODE_INPUT);
            match inputs.is_empty() {
                true => node.push(NODE_INPUT, Value::Bytes(name.into_bytes())),
                false => node.set(random.pick(&inputs), name.into_bytes()),
            }
        });
    });
}

fn other_operator(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let nodes = graph.places(NODE);
        let existing = graph.inner(random.pick(&nodes)).text(NODE_OPERATOR).unwrap_or_default();
        let others = [
            "Loop",
            "If",
            "Scan",
            "LSTM",
            "Conv",
            "Resize",
            "Nothing",
            "MatMulInteger",
            "Attention",
            "STFT",
        ];
        let operator = match random.below(2) {
            0 => existing,
            _ => random.pick(&others).to_owned(),
        };
        graph.change(random.pick(&nodes), |node| match random.below(8) {
            0 => {
                node.0.retain(|field| field.number != NODE_DOMAIN);
                let domain = random.pick(&["com.microsoft", "ai.onnx.ml", "com.example", "\u{fffd}"]);
                node.push(NODE_DOMAIN, Value::Bytes(domain.into()));
            }
            _ => {
                let place = node.places(NODE_OPERATOR)[0];
                node.set(place, operator.into_bytes());
            }
        });
    });
}

fn remove_field(files: &mut Files, random: &mut Random) {
    in_graph(files, random, |graph, random| {
        let place = match random.below(3) {
            0 => random.below(graph.0.len()),
            1 => random.pick(&graph.places(NODE)),
            _ => {
                let place = random.pick(&graph.places(NODE));
                graph.change(place, |node| {
                    let removed = random.below(node.0.len());
                    node.0.remove(removed);
                });
                return;
            }
        };
        graph.0.remove(place);
    });
}

fn other_opsets(files: &mut Files, random: &mut Random) {
    in_model(files, random, |model, random| {
        let places = model.places(MODEL_OPSET);
        let place = random.pick(&places);
        match random.below(4) {
            0 => drop(model.0.remove(place)),
            1 => {
                let duplicate = model.0[place].clone();
                model.0.push(duplicate);
            }
            2 => model.change(place, |opset| {
                opset.0.retain(|field| field.number != OPSET_DOMAIN);
                opset.push(OPSET_DOMAIN, Value::Bytes(b"com.example".to_vec()));
            }),
            _ => model.change(place, |opset| {
                let version = odd(random, 17);
                opset.set_integers(OPSET_VERSION, &[version]);
            }),
        }
    });
}

/// Inserts a node with an attribute that holds a graph with a node with a graph and so on.
fn nest(files: &mut Files, random: &mut Random) {
    let depth = random.pick(&[1, 8, 40, 90, 2_000]);
    let mut graph = Message(Vec::new());
    for _ in 0..depth {
        let mut attribute = Message(Vec::new());
        attribute.push(ATTRIBUTE_NAME, Value::Bytes(b"body".to_vec()));
        attribute.push(ATTRIBUTE_GRAPH, Value::Bytes(graph.encode()));
        attribute.push(ATTRIBUTE_TYPE, Value::Varint(5));
        let mut node = Message(Vec::new());
        node.push(NODE_OPERATOR, Value::Bytes(b"Loop".to_vec()));
        node.push(NODE_ATTRIBUTE, Value::Bytes(attribute.encode()));
        graph = Message(Vec::new());
        graph.push(NODE, Value::Bytes(node.encode()));
    }
    in_graph(files, random, |whole, random| {
        let node = graph.bytes(0).to_vec();
        let place = random.pick(&whole.places(NODE));
        whole.0.insert(
            place,
            super::wire::Field {
                number: NODE,
                value: Value::Bytes(node),
            },
        );
    });
}

fn swap_files(files: &mut Files, random: &mut Random) {
    let names: Vec<String> = files.keys().cloned().collect();
    let [one, other] = [random.pick(&names), random.pick(&names)];
    let (first, second) = (files[&one].clone(), files[&other].clone());
    files.insert(one, second);
    files.insert(other, first);
}

/// Corrupts a file that is not a graph, or the location of external weights.
fn damage_text(files: &mut Files, random: &mut Random) {
    if random.below(3) == 0 {
        return in_field(files, random, INITIALIZER, |tensor, random| {
            if let Some(&place) = tensor.places(TENSOR_EXTERNAL).get(1) {
                let number = odd(random, 4096).to_string();
                tensor.change(place, |entry| {
                    let place = entry.places(ENTRY_VALUE)[0];
                    entry.set(place, number.into_bytes());
                });
            }
        });
    }
    let names: Vec<String> = files.keys().filter(|name| !name.contains(".onnx")).cloned().collect();
    let name = random.pick(&names);
    damage_file(files.get_mut(&name).unwrap(), random);
}

/// Corrupts a text file.
pub fn damage_file(file: &mut Vec<u8>, random: &mut Random) {
    match random.below(4) {
        0 => file.truncate(random.below(file.len())),
        1 => flip(file, random),
        2 => overwrite(file, random),
        _ => {
            // Replace a digit by another number.
            let digits: Vec<usize> = (0..file.len()).filter(|&place| file[place].is_ascii_digit()).collect();
            if !digits.is_empty() {
                let place = random.pick(&digits);
                let number = odd(random, 7) as i64;
                file.splice(place..=place, number.to_string().into_bytes());
            }
        }
    }
}

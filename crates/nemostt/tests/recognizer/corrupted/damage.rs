// SPDX-License-Identifier: MIT OR Apache-2.0

//! Corrupts models: each seed gives one model and the kind of damage.

pub mod field;
mod structure;
mod values;

use std::collections::BTreeMap;

use self::{field::*, structure::*, values::*};
use super::{random::Random, wire::Message};

/// The files of a model, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

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

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Cache entries corrupted at random, some of them with valid hashes.

use std::fs;

use nemostt::{Options, Recognizer};
use serde_json::Value;

use super::{caching_options, damage::Entry, entry, transcribe};
use crate::common::{clip, data};
use crate::corrupted::random::Random;

fn flip(bytes: &mut [u8], random: &mut Random) {
    for _ in 0..=random.below(8) {
        let place = random.below(bytes.len());
        bytes[place] ^= 1 << random.below(8);
    }
}

/// Corruption as by a disk: flipped bits, inverted bytes, a wrong length.
fn corrupt(valid: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    match random.below(4) {
        0 => bytes.truncate(random.below(bytes.len())),
        1 => bytes.extend(std::iter::repeat_n(0xa5, 1 + random.below(5000))),
        2 => {
            let start = random.below(bytes.len());
            let run = bytes.iter_mut().skip(start).take(1 + random.below(4096));
            run.for_each(|byte| *byte = !*byte);
        }
        _ => flip(&mut bytes, random),
    }
    bytes
}

/// A different entry with valid hashes.
fn resealed(valid: &[u8], random: &mut Random) -> Vec<u8> {
    let mut entry = Entry::of(valid);
    if random.below(2) == 0 {
        let numbers = numbers(&mut entry.header);
        let index = random.below(numbers.len());
        let far = [0, 1, 2, 3, 1 << 20, 1 << 31, 1 << 40, u64::MAX / 2, u64::MAX];
        if let Some(number) = numbers.into_iter().nth(index) {
            let near = number
                .as_u64()
                .unwrap_or_default()
                .wrapping_add(random.pick(&[1, u64::MAX]));
            let far = random.pick(&far);
            *number = random.pick(&[near, far]).into();
        }
    } else {
        let names = ["graph", "graph_weights", "columns", "panels"];
        let chosen = random.below(names.len());
        let mut start = 0;
        for (index, name) in names.iter().enumerate() {
            for chunk in entry.header[name].as_array_mut().unwrap() {
                let length = chunk[0].as_u64().unwrap() as usize;
                let part = &mut entry.sections[start..start + length];
                if index == chosen && !part.is_empty() {
                    flip(part, random);
                    chunk[1] = blake3::hash(part).to_hex().to_string().into();
                }
                start += length;
            }
        }
    }
    entry.bytes()
}

/// All numbers in `value`.
fn numbers(value: &mut Value) -> Vec<&mut Value> {
    match value {
        Value::Number(_) => vec![value],
        Value::Array(all) => all.iter_mut().flat_map(numbers).collect(),
        Value::Object(all) => all.values_mut().flat_map(numbers).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn randomly_damaged_entries_are_harmless() {
    // Can be set to try more of them.
    let count = std::env::var("NEMOSTT_ENTRIES").map_or(40, |count| count.parse().unwrap());
    let directory = tempfile::tempdir().unwrap();
    let (model, options) = (data("layouts/nemo"), caching_options(directory.path()));
    let expected = transcribe(&model, &options);
    let path = entry(directory.path());
    let valid = fs::read(&path).unwrap();
    for number in 0..count {
        let mut random = Random(number);
        if number % 2 == 0 {
            fs::write(&path, corrupt(&valid, &mut random)).unwrap();
            assert!(transcribe(&model, &options) == expected, "{number}");
            assert!(fs::read(entry(directory.path())).unwrap() == valid, "{number}");
        } else {
            // It is rejected, or is a different encoder.
            fs::write(&path, resealed(&valid, &mut random)).unwrap();
            assert_loads_and_runs(&options, &format!("{number}"));
            fs::write(&path, &valid).unwrap();
        }
    }
}

fn assert_loads_and_runs(options: &Options, name: &str) {
    let recognizer = Recognizer::load(data("layouts/nemo"), options);
    let mut stream = recognizer
        .unwrap_or_else(|error| panic!("{name}: {error}"))
        .stream()
        .unwrap();
    // Weights may have become NaN.
    let result = stream
        .accept(&clip("u2_digits")[..16_000])
        .and_then(|()| stream.finish(0));
    if let Err(error) = result {
        assert!(error.to_string().contains("number"), "{name}: {error}");
    }
}

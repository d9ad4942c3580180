// SPDX-License-Identifier: MIT OR Apache-2.0

//! Valid ranges of the numbers in `nemostt.json`.

use std::ops::RangeInclusive;

use serde_json::{Number, Value};

use nemostt_compiler::GraphError;

/// Keys and their valid ranges; `*` stands for each member of an object or element of an array. docs/export.md has the
/// same table.
const BOUNDS: [(&str, RangeInclusive<f64>); 11] = [
    ("preprocessor.sample_rate", 8_000.0..=192_000.0),
    ("preprocessor.window_size", 0.001..=1.0),
    ("preprocessor.window_stride", 0.001..=1.0),
    ("preprocessor.n_fft", 2.0..=65_536.0),
    ("preprocessor.features", 1.0..=1_024.0),
    ("preprocessor.preemph", 0.0..=1.0),
    ("lookaheads.*", 0.0..=1_023.0),
    ("special.end_of_utterance", 0.0..=1_048_575.0),
    ("special.end_of_backchannel", 0.0..=1_048_575.0),
    ("prompt.dictionary.*", 0.0..=65_535.0),
    ("prompt.auto", 0.0..=65_535.0),
];

/// Rejects `file` if a number in it is out of range. Values of other types are left to deserialization.
pub(super) fn check(file: &Value) -> Result<(), GraphError> {
    BOUNDS.iter().try_for_each(|(key, bounds)| {
        let path: Vec<&str> = key.split('.').collect();
        check_at(file, &path, String::new(), bounds)
    })
}

fn check_at(value: &Value, path: &[&str], key: String, bounds: &RangeInclusive<f64>) -> Result<(), GraphError> {
    let below = |name: &str| match key.as_str() {
        "" => name.to_owned(),
        key => format!("{key}.{name}"),
    };
    match (path, value) {
        ([], Value::Number(number)) => match number.as_f64() {
            Some(number) if bounds.contains(&number) => Ok(()),
            _ => Err(GraphError::Bounds {
                key,
                value: format_number(number),
                expected: format!("{} to {}", bounds.start(), bounds.end()),
            }),
        },
        (["*", rest @ ..], Value::Object(members)) => members
            .iter()
            .try_for_each(|(name, member)| check_at(member, rest, below(name), bounds)),
        (["*", rest @ ..], Value::Array(members)) => members
            .iter()
            .enumerate()
            .try_for_each(|(index, member)| check_at(member, rest, below(&index.to_string()), bounds)),
        ([name, rest @ ..], Value::Object(members)) => match members.get(*name) {
            Some(member) => check_at(member, rest, below(name), bounds),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Without exponents.
fn format_number(number: &Number) -> String {
    match number.as_f64().filter(|_| number.is_f64()) {
        Some(value) => value.to_string(),
        None => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A file with this value at `key`; a `*` in it becomes an arbitrary name or index.
    fn file_with(key: &str, value: &Value) -> Value {
        key.rsplit('.').fold(value.clone(), |inner, name| match name {
            "*" if key.starts_with("lookaheads") => json!([0, inner]),
            "*" => json!({ "de-DE": inner }),
            name => json!({ name: inner }),
        })
    }

    #[test]
    fn out_of_range_numbers_are_rejected() {
        for (key, bounds) in BOUNDS {
            for value in [bounds.start(), bounds.end()] {
                assert_eq!(check(&file_with(key, &json!(value))), Ok(()), "{key} {value}");
            }
            let beyond = [
                json!(bounds.start() - 0.0001),
                json!(bounds.end() * 1.01),
                json!(-1),
                json!(1e300),
            ];
            for value in beyond.into_iter().chain([json!(u64::MAX), json!(i64::MIN)]) {
                let error = check(&file_with(key, &value)).unwrap_err().to_string();
                let Value::Number(number) = &value else { unreachable!() };
                let name = key.replace("dictionary.*", "dictionary.de-DE").replace('*', "1");
                for part in [
                    &name,
                    &format_number(number),
                    &format!("{} to {}", bounds.start(), bounds.end()),
                ] {
                    assert!(error.contains(part), "\"{part}\" is not in: {error}");
                }
            }
        }
        assert_eq!(
            check(&json!([1, "two"])),
            Ok(()),
            "other types are left to deserialization"
        );
    }
}

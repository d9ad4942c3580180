// SPDX-License-Identifier: MIT OR Apache-2.0

//! Variants of a graph in several precisions, distinguished by file name: `encoder.onnx`, `encoder.int8.onnx`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Parts of a file name that denote a precision, the most precise first. A name without such a part is preferred to all
/// of them: it is fp32.
const TAGS: [&str; 9] = [
    "fp32", "bf16", "fp16", "float16", "int8", "uint8", "quant", "int4", "q4",
];

/// The file to read for each graph in `files`: with the precision of `chosen`, if that is given and there is such a
/// variant, else the most precise one. `chosen` itself and its variants are omitted.
pub(super) fn choose(files: &[PathBuf], chosen: Option<&Path>) -> Vec<PathBuf> {
    let chosen_parts = chosen.map(name_and_tag);
    let mut groups: BTreeMap<String, Vec<(Option<usize>, &PathBuf)>> = BTreeMap::new();
    for file in files {
        let (name, tag) = name_and_tag(file);
        groups.entry(name).or_default().push((tag, file));
    }
    let preferred = chosen_parts.as_ref().and_then(|(_, tag)| *tag);
    let others = groups
        .into_iter()
        .filter(|(name, _)| chosen_parts.as_ref().is_none_or(|(chosen, _)| chosen != name));
    let best = others.filter_map(|(_, mut variants)| {
        variants.sort_by_key(|(tag, _)| (*tag != preferred, *tag));
        variants.first().map(|(_, file)| (*file).clone())
    });
    best.collect()
}

/// A file's name without the part that denotes its precision, and the index of that part in [`TAGS`].
fn name_and_tag(path: &Path) -> (String, Option<usize>) {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let mut tag = None;
    let parts = stem.split(['.', '-', '_']).filter(|part| {
        let found = TAGS.iter().position(|tag| part.eq_ignore_ascii_case(tag));
        tag = tag.or(found);
        found.is_none()
    });
    let name: Vec<&str> = parts.collect();
    (name.join("."), tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(files: &[&str], chosen: Option<&str>) -> Vec<String> {
        let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
        let found = choose(&files, chosen.map(Path::new));
        found.iter().map(|path| path.display().to_string()).collect()
    }

    const SHERPA: [&str; 5] = [
        "d/decoder.onnx",
        "d/encoder.int8.onnx",
        "d/encoder.onnx",
        "d/joiner.int8.onnx",
        "d/joiner.onnx",
    ];

    #[test]
    fn most_precise_variant_is_chosen() {
        assert_eq!(
            chosen(&SHERPA, None),
            ["d/decoder.onnx", "d/encoder.onnx", "d/joiner.onnx"]
        );
        assert_eq!(chosen(&["e.int8.onnx", "e-fp16.onnx"], None), ["e-fp16.onnx"]);
    }

    #[test]
    fn precision_of_the_chosen_file_is_preferred() {
        assert_eq!(
            chosen(&SHERPA, Some("d/encoder.int8.onnx")),
            ["d/decoder.onnx", "d/joiner.int8.onnx"]
        );
        assert_eq!(
            chosen(&SHERPA, Some("d/encoder.onnx")),
            ["d/decoder.onnx", "d/joiner.onnx"]
        );
    }

    #[test]
    fn files_with_other_names_are_other_graphs() {
        assert_eq!(
            chosen(&["ctc.onnx", "decoder_joint-model.onnx", "encoder-model.onnx"], None).len(),
            3
        );
    }
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Writes the seeds of the targets that read graphs. They are made from the test data, with the shared weights of the
//! corpus and short names.
//!
//! RUSTFLAGS="--cfg fuzzing" cargo +nightly run --manifest-path fuzz/Cargo.toml --example seeds

use std::{collections::HashMap, error::Error, fs, path::Path};

use nemostt::fuzzing::{
    cache_entry_of,
    onnx::{ModelProto, StringStringEntryProto, TensorProto, tensor_proto::DataLocation},
    weights,
};
use prost::Message;

/// Weights with fewer bytes are kept.
const SMALL: usize = 256;

const GRAPHS: [(&str, &str); 15] = [
    ("nemo-encoder", "faults/tdt/encoder-model.onnx"),
    ("nemo-ctc", "plan/one_head/ctc.onnx"),
    ("nemo-decoder_joint", "faults/lookahead3/decoder_joint-model.onnx"),
    ("nemo-decoder_joint-64", "tiny_random/decoder_joint-rnnt_la13.onnx"),
    ("nemo-with_rc", "faults/with_rc/encoder-model.onnx"),
    ("sherpa-encoder", "layouts/sherpa/encoder.onnx"),
    ("sherpa-decoder", "layouts/sherpa/decoder.onnx"),
    ("sherpa-joiner", "layouts/sherpa/joiner.onnx"),
    ("sherpa_int8-encoder", "layouts/sherpa_int8/encoder.int8.onnx"),
    ("parakeet_rs-encoder", "layouts/parakeet_rs/encoder.onnx"),
    ("genai-encoder", "layouts/genai/encoder.onnx"),
    ("genai-decoder", "layouts/genai/decoder.onnx"),
    ("genai-joint", "layouts/genai/joint.onnx"),
    ("eou6-encoder", "layouts/eou6/encoder.onnx"),
    ("fp16-decoder_joint", "layouts/fp16/decoder_joint-model.onnx"),
];

fn main() -> Result<(), Box<dyn Error>> {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = fuzz.join("../tests/data");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let directory = fuzz.join("corpus").join(target);
        fs::create_dir_all(&directory)?;
        println!("{target}/{name}: {} bytes", bytes.len());
        fs::write(directory.join(name), bytes)
    };
    for (name, path) in GRAPHS {
        let graph = short(&fs::read(data.join(path))?)?;
        write("onnx_graph", name, &graph)?;
        if ["nemo-encoder", "nemo-ctc", "nemo-decoder_joint"].contains(&name) {
            write("plan_against_export", name, &graph)?;
        }
        if ["nemo-encoder", "nemo-decoder_joint-64"].contains(&name) {
            let entry = cache_entry_of(&graph).ok_or("neither an encoder nor a joint")?;
            write("cache_entry", name, &entry)?;
        }
    }
    Ok(())
}

/// The same graph with short names and external weights.
fn short(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut model = ModelProto::decode(bytes)?;
    let graph = model.graph.as_mut().ok_or("no graph")?;
    // Joints are split at tensors whose types are known. Encoders do not need the types.
    graph.value_info.retain(|_| graph.node.len() < 100);
    graph.doc_string = None;
    let mut place = 0;
    let constants = graph
        .node
        .iter_mut()
        .flat_map(|node| &mut node.attribute)
        .filter_map(|attribute| attribute.t.as_mut());
    for tensor in graph.initializer.iter_mut().chain(constants) {
        put_elsewhere(tensor, &mut place);
    }

    let kept: Vec<String> = graph
        .input
        .iter()
        .chain(&graph.output)
        .map(|info| info.name().to_owned())
        .collect();
    let mut names: HashMap<String, String> = kept.into_iter().map(|name| (name.clone(), name)).collect();
    names.insert(String::new(), String::new());
    let mut shorten = |name: &mut String| {
        let number = names.len();
        *name = names
            .entry(name.clone())
            .or_insert_with(|| format!("t{number:x}"))
            .clone();
    };
    for weight in &mut graph.initializer {
        shorten(weight.name.get_or_insert_default());
    }
    for info in &mut graph.value_info {
        shorten(info.name.get_or_insert_default());
    }
    for node in &mut graph.node {
        node.name = None;
        node.doc_string = None;
        node.input.iter_mut().chain(&mut node.output).for_each(&mut shorten);
    }
    Ok(model.encode_to_vec())
}

/// Makes a tensor external, with a different part of the shared weights for each tensor, so that mixing up two tensors
/// changes the result.
fn put_elsewhere(tensor: &mut TensorProto, place: &mut usize) {
    let outside = || {
        let length = tensor.external_data.iter().find(|entry| entry.key() == "length")?;
        length.value().parse().ok()
    };
    let length: usize = tensor
        .raw_data
        .as_ref()
        .map(|raw| raw.len())
        .or_else(outside)
        .unwrap_or(0);
    // Integer tensors contain sizes and axes.
    if length < SMALL || tensor.data_type() == 7 {
        return;
    }
    let offset = *place % (weights().len().saturating_sub(length) / 4).max(1) * 4;
    *place += length / 4 + 61;
    let entry = |key: &str, value: String| StringStringEntryProto {
        key: Some(key.into()),
        value: Some(value),
    };
    tensor.raw_data = None;
    tensor.data_location = Some(DataLocation::External as i32);
    tensor.external_data = vec![
        entry("location", "weights".into()),
        entry("offset", offset.to_string()),
        entry("length", length.to_string()),
    ];
}

// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entry points for fuzz targets: each takes the bytes of a file, and runs everything that loading does before ONNX
//! Runtime gets the graph. A graph is either rejected with an error, or the result must be valid.

use std::{path::Path, sync::LazyLock};

use bytes::Bytes;
use prost::Message;

use crate::{
    Bits, Component, Contract, Encoded, FileBytes, Graph, Joint, Precision, ProjectedJoint, StreamingConfig,
    TransducerGraphs, compose,
    files::validate::validate,
    import, lazy_load, make_drop_an_input,
    pipeline::{Recorder, Target},
    read_file, specialize, specialize_predictor, split_joint,
};

pub use crate::fusions::match_matmul::with_small_matmuls;

/// The ONNX protobuf messages, for tests that modify graphs.
pub mod onnx {
    pub use crate::onnx::*;
}

/// The external data file of all graphs, whatever its name: small weights on both sides of zero.
pub fn weights() -> FileBytes {
    static WEIGHTS: LazyLock<FileBytes> = LazyLock::new(|| {
        let mut state = 1_u32;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            0.2 * (f32::from((state >> 16) as u16) / 65_536.0 - 0.5)
        };
        std::iter::repeat_with(next)
            .take(1 << 18)
            .flat_map(f32::to_le_bytes)
            .collect()
    });
    WEIGHTS.clone()
}

/// Loads an ONNX file, up to where ONNX Runtime would get the graph.
pub fn onnx_graph(bytes: &[u8]) {
    let whole = read(bytes.into());
    let lazy = lazy(bytes);
    let Some(graph) = whole else { return };
    // A lazily loaded graph must agree with the whole one.
    if let Some(lazy) = lazy {
        assert_eq!(lazy.is_encoder(), graph.is_encoder());
        assert_eq!(lazy.inputs(), graph.inputs());
        assert_eq!(lazy.outputs(), graph.outputs());
        assert_eq!(lazy.weights(), graph.weights());
        assert_eq!(lazy.precision(), graph.precision());
    }
    match import(graph) {
        Err(fault) => assert!(!fault.to_string().is_empty()),
        Ok((_, Component::EncoderWithoutCaches)) => (),
        Ok((_, Component::Encoder(graph, contract))) => encoder(&graph, contract),
        Ok((_, Component::Transducer(graphs))) => transducer(*graphs),
        Ok((_, Component::Prediction(graph))) => {
            if let Component::Joint(joint) = partner("joiner.onnx") {
                joined(joint, graph);
            }
        }
        Ok((_, Component::Joint(joint))) => {
            if let Component::Prediction(graph) = partner("decoder.onnx") {
                joined(joint, graph);
            }
        }
    }
}

pub fn read(file: FileBytes) -> Option<Graph> {
    let mut graph = Graph::decode_file(file).ok()?;
    graph.attach(|_| Ok(weights())).ok()?;
    Some(graph)
}

/// The graph, loaded lazily from a file.
fn lazy(bytes: &[u8]) -> Option<Graph> {
    thread_local! {
        static DIRECTORY: tempfile::TempDir = {
            let directory = tempfile::tempdir().expect("a directory for temporary files");
            std::fs::write(directory.path().join("weights"), &*weights()).expect("room for weights");
            directory
        };
    }
    DIRECTORY.with(|directory| {
        let path = directory.path().join("graph.onnx");
        std::fs::write(&path, bytes).expect("room for a graph");
        Some(lazy_load(&path).ok()?.graph)
    })
}

/// The valid counterpart of a prediction network or joint from a separate file.
fn partner(name: &str) -> Component {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/layouts/sherpa")
        .join(name);
    let graph = read(read_file(&path).expect("it is in the repository")).expect("it is valid");
    import(graph).expect("it is valid").1
}

/// Compiles an encoder in the canonical layout.
fn encoder(graph: &Graph, contract: Contract) {
    let Ok(streaming) = StreamingConfig::read(graph) else {
        return;
    };
    let mut export = graph.clone();
    if make_drop_an_input(&mut export, contract.fixed_frames.map(|_| streaming.chunk_frames)).is_ok() {
        started(export);
    }
    // The smallest one: simplifying masks evaluates them for all window lengths, which takes longer than everything
    // else.
    let Some(&lookahead) = streaming.lookaheads().first() else {
        return;
    };
    let mut specialized = graph.clone();
    let Ok((encoder, _)) = specialize(&mut specialized, &streaming, lookahead) else {
        return;
    };
    let values = encoder.states.iter().map(|state| state.dims.iter().product::<usize>());
    assert!(values.sum::<usize>() < 1 << 40);
    valid(&specialized);
    started(specialized.clone());
    for is_int8 in [false, true] {
        let (mut graph, mut encoder) = (specialized.clone(), encoder.clone());
        let target = Target {
            custom_ops: true,
            int8: is_int8.then_some(Bits::Seven),
            convert_fp16: true,
            clip_to_min_max: false,
        };
        let mut recorder = Recorder::default();
        recorder.fuse(&mut graph, &mut encoder, &streaming, &target);
        assert!(graph.ring_caches().len() <= encoder.states.len());
        let precision = recorder.weights(&mut graph, &target).expect("there is enough memory");
        if !is_int8 || precision == Precision::Int8 {
            finish(started(graph));
        }
    }
}

/// Links an encoder, as each start does, whether it was compiled now or comes from the cache.
pub fn finish(mut encoded: Encoded) {
    static HEAD: LazyLock<Graph> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        let graph = read(read_file(&path).expect("it is in the repository")).expect("it is valid");
        let Ok((_, Component::Transducer(graphs))) = import(graph) else {
            unreachable!("it is prediction network and joint")
        };
        let (_, head) = halves(&graphs.joint).expect("it can be split");
        head.expect("it can be rewritten to 2-D")
    });
    let before = encoded.model.clone();
    if encoded.append_head(&HEAD).is_err() {
        assert!(encoded.model == before, "a failure leaves the encoder unchanged");
    }
    let joined = encoded.packed_weights.len();
    let _ = encoded.fuse_subgraphs();
    assert_eq!(encoded.packed_weights.len(), joined);
    kept(&encoded);
    if let Ok(split) = encoded.split_length_graph() {
        kept(&split.lengths);
        encoded.model = split.rest;
        kept(&encoded);
    }
}

/// Compiles prediction network and joint.
fn transducer(graphs: TransducerGraphs) {
    let Ok(shape) = graphs.shape() else { return };
    let split = halves(&graphs.joint);
    started(graphs.joint);
    for custom_ops in [false, true] {
        let mut graph = graphs.prediction.clone();
        if graph.precision() != Precision::Fp32 || specialize_predictor(&mut graph, &shape, custom_ops).is_err() {
            continue;
        }
        valid(&graph);
        graph.prepack_matmuls().expect("there is enough memory");
        if let Some((halves, head)) = &split {
            if head.is_some() {
                graph.output_row("prediction");
            }
            if let Ok(mut both) = compose(&graph, &halves.scoring, "prediction") {
                both.fuse_subgraphs();
                started(both);
            }
        }
        started(graph);
    }
    started(graphs.prediction);
}

fn joined(joint: Joint, prediction: Graph) {
    // The encoder width of the counterpart.
    const WIDTH: usize = 64;
    if let Ok(graphs) = joint.with(prediction, WIDTH) {
        transducer(graphs);
    }
}

/// The halves of a joint, packed and, if possible, in 2-D; then also both as one graph.
pub fn halves(joint: &Graph) -> Option<(ProjectedJoint, Option<Graph>)> {
    let mut halves = split_joint(joint).ok()?;
    for half in [&mut halves.projection, &mut halves.scoring] {
        if half.precision() == Precision::Fp32 {
            half.prepack_matmuls().expect("there is enough memory");
        }
        started(half.clone());
    }
    let rows = halves.to_2d();
    let halves = match &rows {
        Some(rows) => rows.clone(),
        None => halves,
    };
    let both = compose(&halves.projection, &halves.scoring, "projected").ok();
    Some((halves, both.filter(|_| rows.is_some())))
}

/// Encodes the graph for ONNX Runtime.
fn started(mut graph: Graph) -> Encoded {
    if graph.precision() == Precision::Fp16 {
        graph.fp16_to_fp32().expect("there is enough memory");
    }
    let encoded = graph.encode();
    kept(&encoded);
    encoded
}

/// A rewritten graph must still be valid.
fn valid(graph: &Graph) {
    if let Err(fault) = validate(graph, true) {
        panic!("{fault}");
    }
}

/// An encoded graph must be valid when it is compacted and read again.
fn kept(encoded: &Encoded) {
    let compact = encoded.compact().expect("its weights are in its files");
    let weights: FileBytes = compact.weights.concat().into();
    if let Err(fault) = Graph::check_kept(&compact.model, &weights) {
        let graph = onnx::ModelProto::decode(&compact.model[..]).map(|model| model.graph);
        panic!("{fault}: {:?}", graph.map(|graph| graph.map(|graph| graph.node.len())));
    }
    assert!(Graph::decode(Bytes::from(compact.model)).is_ok());
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed unwrap is how a test fails
mod tests {
    use super::*;

    #[test]
    fn corpus_is_rejected_or_valid() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/onnx_graph");
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            // Printed only if the test fails.
            println!("{}", path.display());
            onnx_graph(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}

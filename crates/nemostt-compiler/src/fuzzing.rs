// SPDX-License-Identifier: MIT OR Apache-2.0

//! Entry points for fuzz targets: each takes bytes as a file would hold them and takes them through everything that a load does
//! before ONNX Runtime gets the graph. What is refused is refused with an error, and what is accepted must be usable.

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

/// The ONNX protobuf messages, for whoever changes graphs.
pub mod onnx {
    pub use crate::onnx::*;
}

/// The file of weights that graphs of the corpus name, whatever they call it: small ones on both sides of zero.
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

/// An ONNX file; all that a load does to a graph before ONNX Runtime gets it.
pub fn onnx_graph(bytes: &[u8]) {
    let whole = read(bytes.into());
    let skimmed = skimmed(bytes);
    let Some(graph) = whole else { return };
    // What is read of a large file must be what is in it.
    if let Some(skimmed) = skimmed {
        assert_eq!(skimmed.is_encoder(), graph.is_encoder());
        assert_eq!(skimmed.inputs(), graph.inputs());
        assert_eq!(skimmed.outputs(), graph.outputs());
        assert_eq!(skimmed.weights(), graph.weights());
        assert_eq!(skimmed.precision(), graph.precision());
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

/// The graph without its weights, from a file.
fn skimmed(bytes: &[u8]) -> Option<Graph> {
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

/// What belongs to a prediction network or joint in a file of its own.
fn partner(name: &str) -> Component {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data/layouts/sherpa")
        .join(name);
    let graph = read(read_file(&path).expect("it is in the sources")).expect("it is sound");
    import(graph).expect("it is sound").1
}

/// An encoder that keeps the contract.
fn encoder(graph: &Graph, contract: Contract) {
    let Ok(streaming) = StreamingConfig::read(graph) else {
        return;
    };
    let mut export = graph.clone();
    if make_drop_an_input(&mut export, contract.fixed_frames.map(|_| streaming.chunk_frames)).is_ok() {
        started(export);
    }
    // The smallest: masks are tried out for all lengths that a cache can have, and that takes longer than all else.
    let Some(&lookahead) = streaming.lookaheads().first() else {
        return;
    };
    let mut planned = graph.clone();
    let Ok((plan, _)) = specialize(&mut planned, &streaming, lookahead) else {
        return;
    };
    let values = plan.states.iter().map(|state| state.dims.iter().product::<usize>());
    assert!(values.sum::<usize>() < 1 << 40);
    valid(&planned);
    started(planned.clone());
    for is_int8 in [false, true] {
        let (mut graph, mut plan) = (planned.clone(), plan.clone());
        let target = Target {
            custom_ops: true,
            int8: is_int8.then_some(Bits::Seven),
            widen_fp16: true,
        };
        let mut recorder = Recorder::default();
        recorder.fuse(&mut graph, &mut plan, &streaming, &target);
        assert!(graph.ring_caches().len() <= plan.states.len());
        let precision = recorder.weights(&mut graph, &target).expect("there is memory");
        if !is_int8 || precision == Precision::Int8 {
            finish(started(graph));
        }
    }
}

/// What is done to an encoder that was prepared, whether now or before.
pub fn finish(mut encoded: Encoded) {
    static HEAD: LazyLock<Graph> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nemostt/assets/demo-model/decoder_joint-model.onnx");
        let graph = read(read_file(&path).expect("it is in the sources")).expect("it is sound");
        let Ok((_, Component::Transducer(graphs))) = import(graph) else {
            unreachable!("it is prediction network and joint")
        };
        let (_, head) = halves(&graphs.joint).expect("it can be cut");
        head.expect("its halves can be for rows")
    });
    let before = encoded.model.clone();
    if encoded.append_head(&HEAD).is_err() {
        assert!(encoded.model == before, "what fails leaves all as it was");
    }
    let joined = encoded.products.len();
    let _ = encoded.fuse_subgraphs();
    assert_eq!(encoded.products.len(), joined);
    kept(&encoded);
    if let Ok(parted) = encoded.split_length_graph() {
        kept(&parted.lengths);
        encoded.model = parted.rest;
        kept(&encoded);
    }
}

/// A transducer's two graphs.
fn transducer(graphs: TransducerGraphs) {
    let Ok(shape) = graphs.shape() else { return };
    let cut = halves(&graphs.joint);
    started(graphs.joint);
    for ours in [false, true] {
        let mut graph = graphs.prediction.clone();
        if graph.precision() != Precision::Fp32 || specialize_predictor(&mut graph, &shape, ours).is_err() {
            continue;
        }
        valid(&graph);
        graph.prepack_matmuls().expect("there is memory");
        if let Some((halves, head)) = &cut {
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
    // That of the partner.
    const WIDTH: usize = 64;
    if let Ok(graphs) = joint.with(prediction, WIDTH) {
        transducer(graphs);
    }
}

/// The halves of a joint, packed and if possible for rows, and then both in one.
pub fn halves(joint: &Graph) -> Option<(ProjectedJoint, Option<Graph>)> {
    let mut halves = split_joint(joint).ok()?;
    for half in [&mut halves.projection, &mut halves.scoring] {
        if half.precision() == Precision::Fp32 {
            half.prepack_matmuls().expect("there is memory");
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

/// The graph as ONNX Runtime would get it.
fn started(mut graph: Graph) -> Encoded {
    if graph.precision() == Precision::Fp16 {
        graph.fp16_to_fp32().expect("there is memory");
    }
    let encoded = graph.encode();
    kept(&encoded);
    encoded
}

/// A graph that was sound stays so.
fn valid(graph: &Graph) {
    if let Err(fault) = validate(graph, true) {
        panic!("{fault}");
    }
}

/// A graph that was sound can be read again, and kept.
fn kept(encoded: &Encoded) {
    let compact = encoded.compact().expect("all its weights are in its files");
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
    fn corpus_is_refused_or_usable() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/onnx_graph");
        let mut count = 0;
        for entry in std::fs::read_dir(&corpus).unwrap() {
            let path = entry.unwrap().path();
            // Captured, and shown with the panic that it led to.
            println!("{}", path.display());
            onnx_graph(&std::fs::read(&path).unwrap());
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}

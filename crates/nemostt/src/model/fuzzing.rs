// SPDX-License-Identifier: MIT OR Apache-2.0

//! See [`crate::fuzzing`].

use prost::Message;
use serde_json::Value;

pub use super::compiled_cache::fuzzing::{cache_entry, cache_entry_of};
use super::{
    directory::SourceFile,
    latency_samples,
    load::{allowed_lookaheads, languages, pick_lookahead},
    sidecar::Sidecar,
};
use crate::{
    chunker::full_width,
    features::{FrontEnd, FrontEndConfig},
};
use nemostt_compiler::{Contract, Graph, ModelProto, StreamingConfig, fuzzing::onnx};

/// A `nemostt.json`, whose member `metadata` becomes the graph's metadata.
pub fn sidecar(bytes: &[u8]) {
    let source = SourceFile {
        name: "nemostt.json".into(),
        bytes: bytes.to_vec().into(),
    };
    let Ok(mut sidecar) = Sidecar::read(Some(&source)) else {
        return;
    };
    if sidecar.complete(&graph_with_metadata(bytes)).is_err() {
        return;
    }
    let streaming = StreamingConfig {
        mels: sidecar.preprocessor.features.unwrap_or(80),
        layers: 2,
        d_model: 64,
        left_context: 70,
        conv_context: 8,
        chunk_frames: 14,
        drop_extra_pre_encoded: 2,
    };
    if let Ok(config) = FrontEndConfig::new(&sidecar.preprocessor, streaming.mels) {
        run_front_end(config);
        for fixed_frames in [None, Some(full_width(6))] {
            let contract = contract(None, fixed_frames);
            windows(&streaming, &config, &contract, sidecar.lookaheads.as_deref());
        }
    }
    for prompts in [None, Some(128)] {
        let known = languages(&contract(Some(prompts), None), sidecar.prompt.clone());
        let Ok(Some(known)) = known else { continue };
        let id = known.default_prompt();
        assert!(prompts.is_none_or(|prompts| (0..prompts as i64).contains(&id)));
        for code in known.codes() {
            let id = known.prompt(&code).expect("it was listed");
            assert!(prompts.is_none_or(|prompts| (0..prompts as i64).contains(&id)));
        }
    }
}

/// A graph whose metadata is the member `metadata` of the JSON object in `bytes`.
fn graph_with_metadata(bytes: &[u8]) -> Graph {
    let file: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let metadata = file.get("metadata").and_then(Value::as_object);
    let entry = |(key, value): (&String, &Value)| onnx::StringStringEntryProto {
        key: Some(key.clone()),
        value: Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned)),
    };
    let model = ModelProto {
        graph: Some(onnx::GraphProto {
            node: vec![onnx::NodeProto::default()],
            ..Default::default()
        }),
        metadata_props: metadata.into_iter().flatten().map(entry).collect(),
        ..Default::default()
    };
    Graph::decode(model.encode_to_vec().into()).expect("it has a node")
}

fn contract(prompt: Option<Option<usize>>, fixed_frames: Option<usize>) -> Contract {
    Contract {
        layout: "NeMo",
        ctc: false,
        prompt,
        fixed_frames,
        masks_length: true,
    }
}

/// Each lookahead can be requested in milliseconds, and is then picked.
fn windows(streaming: &StreamingConfig, config: &FrontEndConfig, contract: &Contract, trained: Option<&[usize]>) {
    let allowed = allowed_lookaheads(streaming, contract, trained);
    let own = pick_lookahead(streaming, config, &allowed, None).expect("no lookahead is requested");
    assert!(own < streaming.chunk_frames);
    let frame_ms = (config.hop * super::SUBSAMPLING_FACTOR * 1000) as u32 / config.sample_rate;
    for &lookahead in &allowed {
        let picked = pick_lookahead(streaming, config, &allowed, Some(lookahead as u32 * frame_ms));
        assert_eq!(picked.expect("it is allowed"), lookahead);
        assert!(latency_samples(config, lookahead) >= (lookahead as u64 + 1) * config.hop as u64);
    }
}

/// One second of audio in chunks of odd sizes.
fn run_front_end(config: FrontEndConfig) {
    let mut front_end = FrontEnd::new(config);
    let samples = config.sample_rate as usize;
    let mut frames = 0;
    let mut count = |frame: &[f32]| {
        assert_eq!(frame.len(), config.mels);
        assert!(frame.iter().all(|value| value.is_finite()));
        frames += 1;
        Ok::<(), std::convert::Infallible>(())
    };
    let wave: Vec<f32> = (0..samples).map(|index| (index as f32 * 0.1).sin()).collect();
    for chunk in wave.chunks(997) {
        let Ok(()) = front_end.accept(chunk, &mut count);
    }
    let Ok(()) = front_end.finish(&mut count);
    assert_eq!(frames, config.frames(samples as u64));
}

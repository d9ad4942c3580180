// SPDX-License-Identifier: MIT OR Apache-2.0

//! The `config.pbtxt` of a model. `docs/triton.md` has the reasons for its settings; the fields are those of
//! `model_config.proto` (<https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto>).

use nemostt::{ElementType, ServedEncoder, ServedTensor};

use super::text_format::Message;

/// Microseconds that a sequence may be idle. Triton's default of one second ends the sequence of a stream that is muted, or
/// whose network stalls; a stream that died without an END holds its place for as long as this.
pub const MAX_IDLE_US: u64 = 60_000_000;

/// Microseconds that a request waits for others. Streams are not in step with each other, so without it those that arrive
/// while the server is idle run alone; it is small beside a chunk of at least 80 ms.
pub const QUEUE_DELAY_US: u64 = 5_000;

/// What a user chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    pub name: String,
    pub gpu: bool,
    /// Streams in a batch at most.
    pub batch: usize,
    /// Streams at the same time at most.
    pub streams: usize,
}

/// The text of `config.pbtxt`.
pub fn config(encoder: &ServedEncoder, settings: &Settings) -> String {
    let mut config = Message::default();
    config.comment(concat!(
        "Written by nemostt ",
        env!("CARGO_PKG_VERSION"),
        " triton-repository; docs/triton.md of nemostt says why each setting is as it is."
    ));
    config.string("name", &settings.name);
    config.string("platform", "onnxruntime_onnx");
    config.field("max_batch_size", settings.batch);
    config.message("version_policy", |policy| {
        policy.message("latest", |latest| latest.field("num_versions", 1));
    });
    for input in &encoder.tensors.inputs {
        config.message("input", |message| tensor(message, input));
    }
    for output in &encoder.tensors.outputs {
        config.message("output", |message| tensor(message, output));
    }
    config.message("sequence_batching", |batching| {
        sequence_batching(batching, encoder, settings)
    });
    config.message("instance_group", |group| {
        group.field("kind", if settings.gpu { "KIND_GPU" } else { "KIND_CPU" });
        group.field("count", 1);
    });
    let about = [
        ("nemostt.precision", encoder.precision.name()),
        ("nemostt.version", env!("CARGO_PKG_VERSION")),
    ];
    let identity = encoder.identity.parameters().iter();
    let identity = identity.map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in identity.chain(about) {
        config.entry("parameters", name, |message| message.string("string_value", value));
    }
    config.into_text()
}

fn tensor(message: &mut Message, tensor: &ServedTensor) {
    message.string("name", &tensor.name);
    message.field("data_type", data_type(tensor.element));
    match tensor.dims.is_empty() {
        // Triton has no tensors without axes, but can remove the one it has.
        true => {
            message.list("dims", &[1]);
            message.message("reshape", |reshape| reshape.list("shape", &[]));
        }
        false => message.list("dims", &tensor.dims),
    }
}

fn data_type(element: ElementType) -> &'static str {
    match element {
        ElementType::I64 => "TYPE_INT64",
        ElementType::I32 => "TYPE_INT32",
        ElementType::F16 => "TYPE_FP16",
        // What requests contain is one of these: see `ServedTensors`.
        ElementType::F32 | ElementType::Other(_) => "TYPE_FP32",
    }
}

fn sequence_batching(batching: &mut Message, encoder: &ServedEncoder, settings: &Settings) {
    batching.field("max_sequence_idle_microseconds", MAX_IDLE_US);
    batching.message("oldest", |oldest| {
        oldest.field("max_candidate_sequences", settings.streams);
        oldest.field("max_queue_delay_microseconds", QUEUE_DELAY_US);
        oldest.field("preserve_ordering", true);
    });
    // There is no `control_input`: Triton zeroes the states of a sequence that starts, and the graph needs no more.
    for state in &encoder.states {
        batching.message("state", |message| {
            message.string("input_name", &state.input);
            message.string("output_name", &state.output);
            message.field("data_type", "TYPE_FP32");
            message.list("dims", &state.dims);
            message.field("use_same_buffer_for_input_output", true);
            message.message("initial_state", |zeros| {
                zeros.string("name", "zeros");
                zeros.field("data_type", "TYPE_FP32");
                zeros.list("dims", &state.dims);
                zeros.field("zero_data", true);
            });
        });
    }
}

#[cfg(all(test, feature = "embedded-model"))]
mod tests {
    use nemostt::{DecoderKind, Options};

    use super::*;

    fn served(decoder: DecoderKind) -> ServedEncoder {
        let options = Options {
            decoder,
            lookahead: Some(80),
            ..Default::default()
        };
        ServedEncoder::compile_embedded(&options, false).unwrap()
    }

    #[test]
    fn config_describes_the_graph() {
        let settings = Settings {
            name: "demo".into(),
            gpu: true,
            batch: 16,
            streams: 100,
        };
        let encoder = served(DecoderKind::Rnnt);
        let text = config(&encoder, &settings);
        for line in [
            "name: \"demo\"",
            "platform: \"onnxruntime_onnx\"",
            "max_batch_size: 16",
            "    max_candidate_sequences: 100",
            "  kind: KIND_GPU",
            "  name: \"outputs\"",
            "    input_name: \"cache_last_time\"",
            "    output_name: \"cache_last_time_next\"",
            "  key: \"nemostt.lookahead\"",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        // Caches are states and no inputs; numbers have no axes in the graph.
        assert_eq!(text.matches("\ninput {").count(), encoder.tensors.inputs.len());
        assert_eq!(text.matches("  state {").count(), 2);
        assert_eq!(text.matches("shape: [ ]").count(), 5);
        assert!(!text.contains("control_input"));

        let cpu = Settings { gpu: false, ..settings };
        let text = config(&served(DecoderKind::Ctc), &cpu);
        assert!(text.contains("kind: KIND_CPU") && text.contains("name: \"logprobs\""));
    }
}

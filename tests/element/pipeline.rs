// SPDX-License-Identifier: MIT OR Apache-2.0

//! Real pipelines: errors of wrong settings, restarts after an error, leaks.

use std::{fs, path::Path, process::Output};

use gst::prelude::*;

use crate::{
    child::{is_child, run_in_child},
    common::{self, data, model_path},
    harness,
};

const TIMEOUT: gst::ClockTime = gst::ClockTime::from_seconds(30);

/// Tries to start `nemostt` with `properties` and returns the text of the single error that it posts.
fn start_error(properties: &str) -> String {
    harness::init();
    let line = format!("audiotestsrc num-buffers=50 ! nemostt name=stt {properties} ! fakesink");
    let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
    let bus = pipeline.bus().unwrap();
    // Some errors fail the state change at once, others are only found while loading.
    let _ = pipeline.set_state(gst::State::Paused);
    let first = bus.timed_pop_filtered(TIMEOUT, &[gst::MessageType::Error]);
    let Some(gst::MessageView::Error(error)) = first.as_ref().map(|message| message.view()) else {
        let _ = pipeline.set_state(gst::State::Null);
        panic!("{properties} was accepted");
    };
    let error = error.error().message().to_owned();
    // Give the source time to post a second error.
    let more = bus.timed_pop_filtered(100 * gst::ClockTime::MSECOND, &[gst::MessageType::Error]);
    assert!(more.is_none(), "more than one error: {more:?}");

    // A valid setting works afterwards.
    pipeline.set_state(gst::State::Null).unwrap();
    let element = pipeline.by_name("stt").unwrap();
    element.set_property("model-path", None::<&str>);
    element.set_property_from_str("decoder", "auto");
    element.set_property("device", "cpu");
    element.set_property("lookahead", -1);
    element.set_property("hotwords", None::<&str>);
    element.set_property("hotwords-file", None::<&str>);
    element.set_property("replacements-file", None::<&str>);
    element.set_property("profanity-file", None::<&str>);
    pipeline.set_state(gst::State::Playing).unwrap();
    let end = bus.timed_pop_filtered(TIMEOUT, &[gst::MessageType::Eos, gst::MessageType::Error]);
    assert_eq!(end.unwrap().type_(), gst::MessageType::Eos);
    pipeline.set_state(gst::State::Null).unwrap();
    error
}

fn model_error(path: &Path) -> String {
    start_error(&format!("model-path={}", path.display()))
}

fn assert_contains(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "\"{part}\" is not in: {message}");
    }
}

/// A copy of a model directory, to be modified.
pub(crate) fn copy_model(model: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(model_path(model)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

#[test]
fn export_without_caches_is_rejected_with_a_fix() {
    // The bug that started this project: "sh sh sh sh" forever.
    let message = model_error(&data("exports/encoder-without-caches.onnx"));
    assert_contains(
        &message,
        &["without cache tensors", "set_export_config({'cache_support': True})"],
    );
}

#[test]
fn missing_path_is_named() {
    assert_contains(
        &model_error(Path::new("/nowhere/model")),
        &["model-path", "/nowhere/model", "No such file"],
    );
}

#[test]
fn missing_encoder_lists_expected_files() {
    let empty = tempfile::tempdir().unwrap();
    assert_contains(
        &model_error(empty.path()),
        &["holds no encoder", "encoder-*.onnx", "tokens.txt"],
    );
}

#[test]
fn missing_vocabulary_is_reported() {
    let copy = copy_model("tiny_random");
    fs::remove_file(copy.path().join("tokens.txt")).unwrap();
    fs::remove_file(copy.path().join("tokenizer.model")).unwrap();
    assert_contains(&model_error(copy.path()), &["holds no vocabulary", "tokens.txt"]);
}

#[test]
fn truncated_files_are_named() {
    for file in ["encoder-rnnt_la13.onnx", "decoder_joint-rnnt_la13.onnx"] {
        let copy = copy_model("tiny_random");
        let path = copy.path().join(file);
        let bytes = fs::read(&path).unwrap();
        for keep in [0, 10, 1_000, bytes.len() / 2, bytes.len() - 1] {
            fs::write(&path, &bytes[..keep]).unwrap();
            assert_contains(&model_error(copy.path()), &[file]);
        }
    }
}

#[test]
fn files_mistaken_for_graphs_are_identified() {
    let copy = copy_model("tiny_random");
    let encoder = copy.path().join("encoder-rnnt_la13.onnx");
    fs::write(
        &encoder,
        "version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 4\n",
    )
    .unwrap();
    assert_contains(
        &model_error(copy.path()),
        &["encoder-rnnt_la13.onnx", "Git LFS pointer", "git lfs pull"],
    );
    fs::write(&encoder, "<!doctype html><title>404</title>").unwrap();
    assert_contains(&model_error(copy.path()), &["web page"]);
    let checkpoint = copy.path().join("model.nemo");
    let mut tar = vec![0_u8; 1024];
    tar[257..262].copy_from_slice(b"ustar");
    fs::write(&checkpoint, tar).unwrap();
    assert_contains(&model_error(&checkpoint), &["model.nemo", "export it to ONNX"]);
}

#[test]
fn nan_weights_end_the_stream_with_an_error() {
    let copy = copy_model("tiny_random");
    let encoder = copy.path().join("encoder-rnnt_la13.onnx");
    let mut bytes = fs::read(&encoder).unwrap();
    // Find the layer norm's 64 weights, which are all one.
    let ones: Vec<u8> = 1.0_f32.to_le_bytes().repeat(64);
    let at = bytes.windows(ones.len()).position(|window| window == ones).unwrap();
    bytes[at..at + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    fs::write(&encoder, bytes).unwrap();

    let harness = harness::Harness::play(&format!("decoder=rnnt model-path={}", copy.path().display()));
    for _ in 0..3 {
        let _ = harness.push(harness::buffer(&[1_000; 16_000], None));
    }
    let messages = harness.messages();
    let errors = messages.iter().filter_map(|message| match message.view() {
        gst::MessageView::Error(error) => Some(error.error().message().to_owned()),
        _ => None,
    });
    let errors: Vec<String> = errors.collect();
    assert_contains(&errors[0], &["not a number", "Export it again"]);
}

#[test]
fn single_ctc_graph_is_a_model() {
    let copy = copy_model("tiny_random");
    for file in ["encoder-rnnt_la13.onnx", "decoder_joint-rnnt_la13.onnx"] {
        fs::remove_file(copy.path().join(file)).unwrap();
    }
    let properties = "lookahead=480 word-hold=0 endpoint-silence=0";
    let harness = harness::Harness::play(&format!("{properties} model-path={}", copy.path().display()));
    harness.speak(&common::clip_s16("u1_command"), 1_600);
    harness.eos();
    let texts = common::Texts::open();
    let expected = texts.get("tiny_random", "u1_command", 6, nemostt::DecoderKind::Ctc);
    assert_eq!(harness.text(), expected);
}

#[test]
fn vocabulary_of_another_model_is_rejected() {
    let copy = copy_model("tiny_random");
    fs::write(copy.path().join("tokens.txt"), "a 0\nb 1\n").unwrap();
    assert_contains(
        &model_error(copy.path()),
        &["tokens.txt", "2 tokens", "128", "another model"],
    );
}

#[test]
fn decoder_of_another_model_is_rejected() {
    let copy = copy_model("tiny_random");
    let decoder = model_path("trained").join("decoder_joint-model.onnx");
    fs::copy(decoder, copy.path().join("decoder_joint-rnnt_la13.onnx")).unwrap();
    assert_contains(&model_error(copy.path()), &["width 96", "64", "another model"]);
}

#[test]
fn ambiguous_encoders_must_be_selected() {
    let copy = copy_model("tiny_random");
    let other = copy.path().join("encoder-rnnt_la1.onnx");
    fs::copy(data("exports/encoder-rnnt_la1.onnx"), &other).unwrap();
    assert_contains(
        &model_error(copy.path()),
        &["more than one encoder", "encoder-rnnt_la1.onnx"],
    );

    let properties = format!(
        "latency=0 word-hold=0 endpoint-silence=0 model-path={}",
        other.display()
    );
    let harness = harness::Harness::play(&properties);
    harness.speak(&[0; 160], 160); // waits for the model
    assert_eq!(harness.latency().1, gst::ClockTime::from_useconds(172_500));
}

#[test]
fn unsupported_lookahead_lists_supported_ones() {
    assert_contains(
        &start_error("lookahead=100"),
        &["lookahead 100 ms", "0 ms, 80 ms", "1040 ms"],
    );
    assert_contains(&start_error("lookahead=240"), &["lookahead 240 ms"]);
    assert_contains(&start_error("lookahead=2000"), &["lookahead 2000 ms"]);
}

#[test]
fn decoder_without_graph_is_rejected() {
    let copy = copy_model("tiny_random");
    fs::remove_file(copy.path().join("ctc_la13.onnx")).unwrap();
    let message = start_error(&format!("decoder=ctc model-path={}", copy.path().display()));
    assert_contains(&message, &["decoder \"ctc\"", "logprobs"]);
}

#[test]
fn per_feature_normalization_is_rejected() {
    let copy = copy_model("tiny_random");
    let sidecar = r#"{"preprocessor": {"normalize": "per_feature"}}"#;
    fs::write(copy.path().join("nemostt.json"), sidecar).unwrap();
    assert_contains(&model_error(copy.path()), &["per_feature", "whole recording"]);
}

#[test]
fn missing_gpu_is_an_error() {
    for device in ["cuda", "cuda:1", "tensorrt", "openvino"] {
        let error = start_error(&format!("device={device}"));
        assert_contains(
            &error,
            &[&format!("device \"{device}\""), "built without", "device=cpu"],
        );
    }
}

#[test]
fn unknown_device_is_an_error_that_lists_devices() {
    assert_contains(
        &start_error("device=gpu"),
        &["device \"gpu\" is unknown", "cpu, cuda", "cuda:1", "openvino"],
    );
}

#[test]
fn hotwords_that_cannot_be_read_are_an_error() {
    assert_contains(
        &start_error("hotwords=\"one, six:1000\""),
        &["hotwords: \"six\" has weight 1000", "at most 100"],
    );
    assert_contains(
        &start_error("hotwords-file=/no/such/list"),
        &["hotwords-file: cannot read /no/such/list"],
    );
    for name in ["replacements-file", "profanity-file"] {
        let error = start_error(&format!("{name}=/no/such/list"));
        assert_contains(&error, &[&format!("{name}: cannot read /no/such/list")]);
    }
}

#[test]
fn missing_onnx_runtime_is_an_error_with_a_fix() {
    // In a child process, because ONNX Runtime stays loaded.
    if is_child() {
        harness::init();
        let element = gst::parse::launch("nemostt").unwrap();
        let bus = gst::Bus::new();
        element.set_bus(Some(&bus));
        let _ = element.set_state(gst::State::Paused);
        let message = bus.timed_pop_filtered(TIMEOUT, &[gst::MessageType::Error]).unwrap();
        let gst::MessageView::Error(error) = message.view() else {
            unreachable!()
        };
        println!("error: {}", error.error().message());
        element.set_state(gst::State::Null).unwrap();
        bus.set_flushing(true);
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let not_a_library = directory.path().join("libonnxruntime.so");
    fs::write(&not_a_library, "not a library").unwrap();
    for path in ["/nowhere/libonnxruntime.so", not_a_library.to_str().unwrap()] {
        let output = run_in_child(
            "pipeline::missing_onnx_runtime_is_an_error_with_a_fix",
            &[("ORT_DYLIB_PATH", path)],
        );
        assert!(output.status.success(), "{output:?}");
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert_contains(
            &stdout,
            &["error: ONNX Runtime could not be loaded", path, "ORT_DYLIB_PATH"],
        );
    }
}

/// Runs a test under the leaks tracer. GStreamer is deinitialized at exit: see `harness::init`.
fn child_under_leaks_tracer(test: &str) -> (Output, String) {
    let tracer = [
        ("GST_TRACERS", "leaks(check-refs=true,stack-traces-flags=none)"),
        ("GST_DEBUG", "GST_TRACER:7"),
        ("GST_DEBUG_NO_COLOR", "1"),
        ("G_DEBUG", "fatal_warnings"),
    ];
    let output = run_in_child(test, &tracer);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    // The tracer first describes its record formats, then writes a record for each object that is alive.
    assert!(log.contains("new format string: object-alive"), "no tracer ran: {log}");
    (output, log)
}

#[test]
fn state_cycles_do_not_leak() {
    if is_child() {
        harness::init();
        let line = format!(
            "filesrc location={} ! wavparse ! nemostt threads=1 lookahead=80 ! fakesink",
            data("wav/e5_len112frames.wav").display()
        );
        let pipeline = gst::parse::launch(&line).unwrap().downcast::<gst::Pipeline>().unwrap();
        let bus = pipeline.bus().unwrap();
        for _ in 0..100 {
            pipeline.set_state(gst::State::Playing).unwrap();
            let wanted = [gst::MessageType::Eos, gst::MessageType::Error];
            let end = bus.timed_pop_filtered(TIMEOUT, &wanted).unwrap();
            assert_eq!(end.type_(), gst::MessageType::Eos);
            pipeline.set_state(gst::State::Null).unwrap();
        }
        return;
    }
    let (output, log) = child_under_leaks_tracer("pipeline::state_cycles_do_not_leak");
    assert!(output.status.success(), "{log}");
    let records = log.lines().filter(|line| line.contains("GST_TRACER :0::"));
    let leaks: Vec<&str> = records.filter(|line| line.contains("object-alive")).collect();
    assert!(
        leaks.is_empty() && !log.contains("Leaks detected"),
        "{}",
        leaks.join("\n")
    );
}

#[test]
fn leaks_tracer_detects_a_leak() {
    if is_child() {
        harness::init();
        std::mem::forget(gst::parse::launch("nemostt").unwrap());
        return;
    }
    let (output, log) = child_under_leaks_tracer("pipeline::leaks_tracer_detects_a_leak");
    assert!(!output.status.success() && log.contains("Leaks detected"), "{log}");
    assert!(log.contains("object-alive, type-name=(string)GstNemoStt"), "{log}");
}

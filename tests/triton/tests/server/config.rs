// SPDX-License-Identifier: MIT OR Apache-2.0

//! The server reads the `config.pbtxt` of `nemostt triton-repository`.

use std::fs;

use nemostt::{DecoderKind, Options, ServedEncoder, ServedTensor};
use nemostt_triton_tests::{Repository, Server};
use serde_json::{Value, json};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/nemostt/assets/demo-model");

/// A refusal of the server to load anything, after it has checked the configuration.
const NO_BACKEND: &str = "unable to find backend library for backend 'onnxruntime'";

/// What the server says of the models in a repository that it cannot serve.
fn refusal(repository: &Repository) -> String {
    // Else it completes configurations; what is written must be complete.
    let mut server = Server::start_without_waiting(repository.path(), &["--disable-auto-complete-config"]);
    server.wait_for_end();
    server.log()
}

/// The server reads the text, and finds nothing wrong with it before it looks for the backend.
#[test]
fn only_the_backend_is_missing() {
    for (decoder, batch) in [("rnnt", "16"), ("ctc", "1")] {
        let repository = Repository::new();
        let arguments = ["--lookahead", "80", "--decoder", decoder, "--batch", batch, "--cpu"];
        repository.add("embedded", &arguments);
        let log = refusal(&repository);
        assert!(log.contains(NO_BACKEND), "{log}");
    }
}

/// Shows that the test above can fail.
#[test]
fn faults_of_a_configuration_are_found_before_the_missing_backend() {
    let repository = Repository::new();
    let name = repository.add("embedded", &["--lookahead", "80", "--cpu"]);
    let path = repository.model(&name).join("config.pbtxt");
    let good = fs::read_to_string(&path).unwrap();
    for (old, new, reason) in [
        ("preserve_ordering", "keep_ordering", "no field named"),
        ("TYPE_INT64", "TYPE_LONG", "TYPE_LONG"),
        ("max_batch_size: 8", "max_batch_size: -1", "max_batch_size"),
        ("    zero_data: true", "    zero_data: yes", "zero_data"),
        ("dims: [ 1 ]", "dims: [ 2 ]", "reshape"),
        ("\"cache_last_time\"", "\"cache_last_time", "String"),
        ("KIND_CPU", "KIND_TPU", "KIND_TPU"),
    ] {
        assert!(good.contains(old), "{old}");
        fs::write(&path, good.replace(old, new)).unwrap();
        let log = refusal(&repository);
        assert!(!log.contains(NO_BACKEND), "{old} → {new} is not found:\n{log}");
        assert!(log.contains(reason), "{old} → {new}:\n{log}");
    }
}

/// The server understands it as it is meant: read back from the server, where only the backend differs.
#[test]
fn the_server_has_the_tensors_and_settings_that_were_written() {
    let repository = Repository::new();
    let arguments = [
        "--lookahead",
        "480",
        "--batch",
        "16",
        "--streams",
        "40",
        "--name",
        "large",
    ];
    let name = repository.add_python_model(DEMO, &arguments);
    assert_eq!(name, "large");
    let options = Options {
        decoder: DecoderKind::Rnnt,
        lookahead: Some(480),
        ..Default::default()
    };
    let served = ServedEncoder::compile(DEMO, &options, false).unwrap();
    let server = Server::start(repository.path(), &["--disable-auto-complete-config"]);
    let config = server.endpoint().model_config(&name);

    let tensors = |tensors: &[ServedTensor]| -> Vec<Value> {
        let shape = |tensor: &ServedTensor| match &tensor.dims[..] {
            [] => json!([tensor.name, [1], []]),
            dims => json!([tensor.name, dims, null]),
        };
        tensors.iter().map(shape).collect()
    };
    let read = |key: &str| -> Vec<Value> {
        let found = config[key].as_array().unwrap().iter();
        found
            .map(|tensor| json!([tensor["name"], tensor["dims"], tensor["reshape"]["shape"]]))
            .collect()
    };
    assert_eq!(read("input"), tensors(&served.tensors.inputs));
    assert_eq!(read("output"), tensors(&served.tensors.outputs));
    assert_eq!(config["max_batch_size"], 16);
    let batching = &config["sequence_batching"];
    assert_eq!(batching["max_sequence_idle_microseconds"], 60_000_000);
    assert_eq!(batching["control_input"], json!([]));
    let oldest = &batching["oldest"];
    assert_eq!(
        [
            &oldest["max_candidate_sequences"],
            &oldest["max_queue_delay_microseconds"]
        ],
        [&json!(40), &json!(5000)]
    );
    assert_eq!(oldest["preserve_ordering"], true);
    let states = served.states.iter().zip(batching["state"].as_array().unwrap());
    for (state, read) in states {
        assert_eq!(
            [&read["input_name"], &read["output_name"]],
            [&json!(state.input), &json!(state.output)]
        );
        assert_eq!(read["dims"], json!(state.dims));
        assert_eq!(read["use_same_buffer_for_input_output"], true);
        let dims: Vec<String> = state.dims.iter().map(usize::to_string).collect();
        let zeros = json!([{"name": "zeros", "data_type": "TYPE_FP32", "dims": dims, "zero_data": true}]);
        assert_eq!(read["initial_state"], zeros);
    }
    assert_eq!(batching["state"].as_array().unwrap().len(), 2);
    let groups = &config["instance_group"].as_array().unwrap()[0];
    assert_eq!([&groups["kind"], &groups["count"]], [&json!("KIND_CPU"), &json!(1)]);

    // What a client compares.
    let parameters = config["parameters"].as_object().unwrap().iter();
    let parameters = parameters.map(|(name, value)| (name.clone(), value["string_value"].as_str().unwrap().into()));
    assert_eq!(served.identity.differences(&parameters.collect()), []);
}

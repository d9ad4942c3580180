// SPDX-License-Identifier: MIT OR Apache-2.0

//! Requests over HTTP with JSON: slow, and independent of nemostt's client.

use std::time::Duration;

use nemostt_triton_tests::Endpoint;
use serde_json::{Value, json};

/// A value of the JSON encoding, which loses none of its bits.
pub fn floats(values: &[f32]) -> Value {
    values.iter().map(|&value| f64::from(value)).collect()
}

/// A request of a sequence, with inputs as \[name, type, shape, data\]. Returns the response, or the server's error.
pub fn infer(
    server: &Endpoint,
    model: &str,
    (sequence, is_start, is_end): (u64, bool, bool),
    inputs: Vec<Value>,
) -> Result<Value, String> {
    let request = json!({
        "inputs": inputs,
        "parameters": {"sequence_id": sequence, "sequence_start": is_start, "sequence_end": is_end},
    });
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent();
    let url = format!("{}/v2/models/{model}/infer", server.http);
    let mut response = agent.post(&url).send_json(request).map_err(|error| error.to_string())?;
    let body: Value = response
        .body_mut()
        .with_config()
        .limit(1 << 30)
        .read_json()
        .map_err(|error| error.to_string())?;
    match body["error"].as_str() {
        Some(error) => Err(error.into()),
        None => Ok(body),
    }
}

/// An output of a response.
pub fn output(response: &Value, name: &str) -> Vec<f32> {
    let outputs = response["outputs"].as_array().expect("there are outputs");
    let output = outputs
        .iter()
        .find(|output| output["name"] == name)
        .expect("there is an output of this name");
    let values = output["data"].as_array().expect("it has data").iter();
    values.map(|value| value.as_f64().expect("a number") as f32).collect()
}

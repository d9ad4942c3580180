// SPDX-License-Identifier: MIT OR Apache-2.0

//! The README of a model in the repository: how to serve it, how much it needs, and what to watch.

use nemostt::ServedEncoder;

use super::config::{MAX_IDLE_US, Settings};

/// The container that `tools/triton_container.sh` runs: Triton 2.51, the version of the server in the tests.
const IMAGE: &str = "nvcr.io/nvidia/tritonserver:24.10-py3";

/// Why the command sets a variable. nemostt turns TF32 off on its own GPUs, too.
const TF32: &str = " `NVIDIA_TF32_OVERRIDE=0` keeps matrix products exact: by
default ONNX Runtime computes those of fp32 with 10 bits of mantissa, and a few words differ.";

/// The text of `README.md`.
pub fn readme(encoder: &ServedEncoder, settings: &Settings) -> String {
    let Settings {
        name,
        gpu,
        batch,
        streams,
    } = settings;
    let sent = bytes(encoder, |encoder| &encoder.tensors.inputs);
    let received = bytes(encoder, |encoder| &encoder.tensors.outputs);
    let per_second = |bytes: usize| bytes as u64 * 1000 / encoder.chunk_ms / 1000;
    format!(
        "# {name}

The encoder of `{source}` for NVIDIA Triton, with a lookahead of {lookahead} ms and weights in {precision}. nemostt
{version} wrote it; its docs/triton.md explains the settings. Clients need the same model: they compute mel frames and turn
encoder frames into words, and refuse a server whose `parameters` differ.

## Serve it

```sh
docker run --rm {gpus}-p ADDRESS:8001:8001 -p ADDRESS:8002:8002 -v \"$PWD:/models:ro\" \\
  {image} tritonserver --model-repository=/models
```

from the directory that contains `{name}`; ADDRESS is that of this machine in a private network. Then, on a machine with the model:

```sh
gst-launch-1.0 … ! nemostt model-path=MODEL lookahead={lookahead} remote=triton://SERVER:8001/{name} ! …
```

The ports have neither encryption nor authentication unless you set them up (`--grpc-use-ssl`, or a proxy before them).{tf32}

## What it needs

| | |
|---|---|
| weights | {weights} |
| caches of a stream | {state} |
| caches of {streams} streams (`max_candidate_sequences`{per_gpu}) | {states} |
| a request, each {chunk} ms of a stream | {sent} bytes to the server, {received} bytes back, and about 500 bytes of headers |
| network per stream | {sent_rate} kB/s to the server, {received_rate} kB/s back |

Up to {batch} streams are computed in one run (`max_batch_size`). One more stream than `max_candidate_sequences` is not
refused: it waits until another one ends, and its requests time out. A stream that dies without an END keeps its place for
{idle} s. Keep `instance_group` at `count: 1`: each further instance loads the weights again, and splits the batches.

## What to watch

At `http://SERVER:8002/metrics`, each with `model=\"{name}\"`:

| metric | what it should be |
|---|---|
| `nv_inference_count` / `nv_inference_exec_count` | streams per run: it grows with load. 1 under load means that requests cannot be batched |
| `nv_inference_compute_infer_duration_us` / `nv_inference_exec_count` | duration of a run: below {chunk} ms, or the server is overloaded |
| `nv_inference_queue_duration_us` / `nv_inference_count` | waiting for a batch: less than a run and 5 ms. Half of {chunk} ms is overload, or more streams than places |
| `nv_inference_pending_request_count` | at most the number of streams; it grows while streams wait for a place |
| `nv_inference_request_failure` | 0; requests without a sequence after a restart count here |

The first requests after a start are slow, because ONNX Runtime and cuDNN prepare themselves then. Triton's `model_warmup`
cannot be used: its requests have no implicit state, and the model would fail to load. Send a sequence of a few requests
before real streams.
",
        source = encoder.source,
        lookahead = encoder.lookahead_ms,
        precision = encoder.precision.name(),
        version = env!("CARGO_PKG_VERSION"),
        gpus = if *gpu { "--gpus=all -e NVIDIA_TF32_OVERRIDE=0 " } else { "" },
        image = IMAGE,
        tf32 = if *gpu { TF32 } else { "" },
        per_gpu = if *gpu { ", on each GPU" } else { "" },
        weights = megabytes(encoder.weight_bytes),
        state = megabytes(encoder.state_bytes()),
        states = megabytes(encoder.state_bytes().saturating_mul(*streams)),
        chunk = encoder.chunk_ms,
        sent_rate = per_second(sent),
        received_rate = per_second(received),
        idle = MAX_IDLE_US / 1_000_000,
    )
}

/// Bytes of the tensors of a request or of a response.
fn bytes(encoder: &ServedEncoder, tensors: fn(&ServedEncoder) -> &Vec<nemostt::ServedTensor>) -> usize {
    tensors(encoder).iter().map(nemostt::ServedTensor::bytes).sum()
}

fn megabytes(bytes: usize) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Measures batches of streams on a GPU: how many live streams one holds, and how long a step takes for each batch size,
with CUDA graphs and without.

    tools/bench/gpu.py                              the 114M shape with random weights, in fp32 and fp16
    tools/bench/gpu.py --model 0.6B=DIR             a model directory, for example from `nemostt fetch`
    tools/bench/gpu.py --device cpu --smoke         checks this script on any machine, in a minute

Needs a release build of the command with an ONNX Runtime that has CUDA in ORT_DYLIB_PATH, and, without --model, the
packages in tools/bench/requirements.txt. Prints one Markdown table per model; --json keeps all numbers. Results are those
of `nemostt bench --streams` and `--paced`: `nemostt bench --help` says what they mean.

Not run on a GPU so far.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FRAME_MS = 80
CHUNKS = [80, 160, 560, 1120]
BUCKETS = [1, 2, 4, 8, 16, 32, 64]


def main() -> None:
    arguments = parse()
    models = dict(arguments.model) or ({"demo": None} if arguments.smoke else random_weights())
    results = []
    for name, directory in models.items():
        for chunk in arguments.chunks:
            for graphs in ([False] if arguments.device == "cpu" else [True, False]):
                results.append(measure(arguments, name, directory, chunk, graphs))
        print(table([result for result in results if result["model"] == name], arguments.delay_bound), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nemostt", type=Path, default=ROOT / "target/release/nemostt", help="the command")
    parser.add_argument("--device", default="cuda", help="default: cuda")
    parser.add_argument("--model", type=named, action="append", default=[], metavar="NAME=DIR")
    parser.add_argument("--chunks", type=numbers, default=CHUNKS, metavar="MS,…", help="default: 80,160,560,1120")
    parser.add_argument("--max-streams", type=int, default=2048, help="places for streams (default: 2048)")
    parser.add_argument("--delay-bound", type=int, default=80, help="in milliseconds (default: 80)")
    parser.add_argument("--smoke", action="store_true", help="a few streams, briefly; numbers mean nothing")
    parser.add_argument("--json", type=Path, help="file for all numbers")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.chunks, arguments.max_streams = arguments.chunks[:2], 8
    return arguments


def named(text: str) -> tuple[str, Path]:
    name, separator, directory = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text} is not NAME=DIR")
    return name, Path(directory)


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def random_weights() -> dict[str, Path]:
    """The directories of the 114M shape, by name; written below target/ unless they exist. RNN-T decodes nonsense."""
    sys.path[:0] = [str(Path(__file__).parent), str(ROOT / "tools")]
    import onnx
    import synthetic_model
    from export_nemo import fp16

    target = ROOT / "target/bench/gpu"
    directories = {"114M fp32": target / "fp32", "114M fp16": target / "fp16"}
    if all((directory / "tokens.txt").exists() for directory in directories.values()):
        return directories
    weights = synthetic_model.Weights()
    graphs = {name: weights.fill(name) for name in ("encoder-model.onnx", "decoder_joint-model.onnx")}
    for name, directory in directories.items():
        directory.mkdir(parents=True, exist_ok=True)
        for file in graphs:
            path = directory / file
            onnx.save(graphs[file], path)
            if name.endswith("fp16"):
                onnx.save(fp16.to_half(path), path)
        synthetic_model.write_tokens(directory / "tokens.txt")
    return directories


def measure(arguments: argparse.Namespace, name: str, directory: Path | None, chunk: int, graphs: bool) -> dict:
    """Step times of all buckets, and the number of live streams."""
    print(f"gpu: {name}, {chunk} ms, {'with' if graphs else 'without'} CUDA graphs", file=sys.stderr)
    buckets = BUCKETS[:3] if arguments.smoke else BUCKETS
    seconds = ["--seconds", "2"] if arguments.smoke else []

    def bench(*options: str) -> dict:
        command = [arguments.nemostt, "bench", "--json", "--device", arguments.device]
        command += ["--lookahead", str(chunk - FRAME_MS), "--max-streams", str(arguments.max_streams)]
        command += [] if directory is None else ["--model", directory]
        command += [] if graphs or arguments.device == "cpu" else ["--no-cuda-graphs"]
        output = subprocess.run([*command, *options, *seconds], check=True, stdout=subprocess.PIPE).stdout
        return json.loads(output)

    steps = {}
    for bucket in buckets:
        # Twice as many streams as places in a batch, so that each batch is full.
        streams = min(2 * bucket, arguments.max_streams)
        report = bench("--streams", str(streams), "--max-batch", str(bucket))
        steps[bucket] = bucket * chunk / report["measurements"][-1]["audio_seconds_per_second"]
    bound = ["--paced", "--delay-bound", str(arguments.delay_bound)]
    if arguments.smoke:
        bound += ["--streams", "2"]
    live = bench(*bound)
    return {"model": name, "chunk_ms": chunk, "graphs": graphs, "step_ms": steps, "live": live}


def table(results: list[dict], bound: int) -> str:
    buckets = list(results[0]["step_ms"])
    headers = ["model", "chunk", "CUDA graphs", "live streams", "p99", *(f"step of {bucket}" for bucket in buckets)]
    lines = [headers, ["---"] * len(headers)]
    for result in results:
        within = [row for row in result["live"]["measurements"] if row["kept_up"] and row["delay_p99_ms"] <= bound]
        best = max(within, key=lambda row: row["streams"], default=None)
        lines.append([
            result["model"],
            f"{result['chunk_ms']} ms",
            "yes" if result["graphs"] else "no",
            str(best["streams"]) if best else "0",
            f"{best['delay_p99_ms']:.1f} ms" if best else "",
            *(f"{result['step_ms'][bucket]:.2f} ms" for bucket in buckets),
        ])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    main()

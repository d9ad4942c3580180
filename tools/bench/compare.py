#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares nemostt with other programs on the same weights and the same clip, and writes a table and a chart.

Every program loads its model and transcribes the clip once as a warm-up. Then each transcribes it once per round, from
samples to text. The order rotates by one from round to round. tools/bench/run.sh prepares everything.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/run.sh", description=__doc__)
    parser.add_argument("--clip", type=Path, default=ROOT / "assets" / "demo.wav", metavar="WAV")
    parser.add_argument("--seconds", type=float, default=12.8, help="length of the clip to use [default: 12.8]")
    parser.add_argument("--rounds", type=int, default=7, help="[default: 7]")
    parser.add_argument("--lookahead", type=int, nargs="+", default=[80, 1040], metavar="MS")
    parser.add_argument("--threads", type=int, default=2, help="threads of each program [default: 2]")
    parser.add_argument(
        "--labels", type=float, default=3.0, help="tokens per second that the model emits, approximately [default: 3]"
    )
    parser.add_argument("--no-int8", action="store_true", help="skip the int8 models")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "benchmarks", metavar="DIRECTORY")
    parser.add_argument("--models", type=Path, default=ROOT / "target" / "bench" / "model", metavar="DIRECTORY")
    parser.add_argument("--nemostt", type=Path, required=True, help="the example bench_nemostt")
    parser.add_argument("--parakeet-rs", type=Path, help="the program of tools/bench/parakeet_rs")
    parser.add_argument("--runtime", type=Path, required=True, help="libonnxruntime.so for nemostt and parakeet-rs")
    parser.add_argument("--nemo-python", help="Python interpreter with NeMo installed, to measure NeMo as well")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    # Must be set before NumPy is imported: the peak is measured with its matrix multiplication.
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    sys.path.insert(0, str(HERE))
    import audio
    import roofline
    import models
    import report
    from engines import engines

    log("writing the models")
    clip = options.models.parent / "clip.wav"
    clip.parent.mkdir(parents=True, exist_ok=True)
    seconds = audio.cut(options.clip, options.seconds, clip)
    models.write(options.models, options.lookahead, clip, options.labels, not options.no_int8)
    found = {"about": about(options, seconds), "lookaheads": []}
    for lookahead in options.lookahead:
        programs = engines(options, lookahead, clip)
        try:
            for program in programs:
                log(f"{lookahead} ms: loading {program.name}, {program.precision}")
                program.start(options.models.parent / "logs")
                program.transcribe()
            for number in range(options.rounds):
                first = number % len(programs)
                for program in programs[first:] + programs[:first]:
                    program.seconds.append(program.transcribe())
                    taken = f"{program.seconds[-1]:6.2f} s  {program.name}, {program.precision}"
                    log(f"{lookahead} ms, round {number + 1}: {taken}")
        finally:
            for program in programs:
                program.stop()
        found["lookaheads"].append(
            {
                "lookahead_ms": lookahead,
                "multiply_adds": roofline.step_multiply_adds(lookahead // models.FRAME_MS + 1),
                "programs": [
                    {
                        "name": program.name,
                        "precision": program.precision,
                        "load_s": round(program.load, 2),
                        "rounds_s": [round(value, 4) for value in program.seconds],
                        "outside_s": [round(value, 4) for value in program.outside[1:] if not math.isnan(value)],
                        "words": len(program.text.split()),
                        "text": program.text,
                    }
                    for program in programs
                ],
            }
        )
    log("measuring the limits of the machine")
    found["limits"] = roofline.measure(options.models, options.threads)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "peers.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    report.write(found, options.output)


def about(options, seconds: float) -> dict:
    return {
        "clip": options.clip.name,
        "seconds": seconds,
        "rounds": options.rounds,
        "threads": options.threads,
        "processor": cpu_model(),
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[1],
        "system": platform.platform(),
        "versions": {
            "nemostt": git("describe", "--always", "--dirty"),
            "ONNX Runtime of nemostt and parakeet-rs": options.runtime.resolve().name.split(".so.")[-1],
            "sherpa-onnx": metadata.version("sherpa-onnx"),
            "parakeet-rs": "0.4.4" if options.parakeet_rs else "not run",
            "NeMo": nemo_version(options.nemo_python) if options.nemo_python else "not run",
        },
        "command": " ".join(["tools/bench/run.sh", *os.environ.get("BENCH_ARGUMENTS", "").split()]),
    }


def cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def git(*command: str) -> str:
    done = subprocess.run(["git", "-C", ROOT, *command], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def nemo_version(python: str) -> str:
    code = "from importlib.metadata import version as v; print(v('nemo_toolkit'), 'on PyTorch', v('torch'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip()


def log(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compares many streams of one model: nemostt, and sherpa-onnx's batch API.

    streams.py --models DIRECTORY --nemostt PROGRAM --runtime LIBRARY [--lookahead MS ...] [--streams N ...]

Both programs run the same weights in the same run, in turns, with the same number of threads. `--models` is what
`tools/bench/run.sh` leaves in target/bench/model, `--nemostt` the example bench_streams. Prints the median seconds of audio
per second of all streams together, and their ratio.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Worker:
    """A process that answers each line with a line of JSON."""

    def __init__(self, command: list[str], environment: dict[str, str]):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | environment,
        )
        if not self.process.stdout.readline():
            raise SystemExit(f"{command[0]} could not load the model")

    def measure(self, streams: int, seconds: float) -> float:
        self.process.stdin.write(f"{streams} {seconds}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["audio_per_second"]

    def stop(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--clip", type=Path, default=HERE.parents[1] / "assets" / "demo.wav")
    parser.add_argument("--nemostt", type=Path, required=True, help="the example bench_streams")
    parser.add_argument("--runtime", type=Path, required=True, help="libonnxruntime.so for nemostt")
    parser.add_argument("--lookahead", type=int, nargs="+", default=[80, 1040])
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=64, help="of audio, of all streams together")
    options = parser.parse_args()
    for lookahead in options.lookahead:
        threads, clip = str(options.threads), str(options.clip)
        workers = {
            "nemostt": Worker(
                [str(options.nemostt), f"{options.models}/nemo_{lookahead}", clip, str(lookahead), threads, "auto"],
                {"ORT_DYLIB_PATH": str(options.runtime)},
            ),
            "sherpa-onnx": Worker(
                [sys.executable, str(HERE / "run_sherpa_streams.py"), f"{options.models}/sherpa_{lookahead}", clip, threads],
                {},
            ),
        }
        for streams in options.streams:
            seconds = options.seconds / streams
            # The first round warms up.
            rounds = [
                {name: worker.measure(streams, seconds) for name, worker in workers.items()}
                for _ in range(options.rounds + 1)
            ][1:]
            medians = {name: statistics.median(found[name] for found in rounds) for name in workers}
            ratio = statistics.median(found["nemostt"] / found["sherpa-onnx"] for found in rounds)
            speeds = ", ".join(f"{name} {speed:.1f}" for name, speed in medians.items())
            print(f"{lookahead} ms, {streams} streams: {speeds} seconds of audio per second, ratio {ratio:.2f}", flush=True)
        for worker in workers.values():
            worker.stop()


if __name__ == "__main__":
    main()

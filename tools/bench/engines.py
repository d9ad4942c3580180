# SPDX-License-Identifier: MIT OR Apache-2.0
"""The programs under comparison. Each loads its model and then transcribes the clip on request."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# Seconds between the runs of two programs.
PAUSE = 0.5


@dataclass
class Engine:
    """One program with one model. All are loaded at the same time, but only one runs at a time."""

    name: str
    command: list
    precision: str = "fp32"
    environment: dict = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    """Time to transcribe the clip in each round."""
    outside: list[float] = field(default_factory=list)
    """The part of it spent outside the encoder, if the program reports it."""
    load: float = 0.0
    text: str = ""
    process: subprocess.Popen | None = None

    def start(self, logs: Path) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        self.log = logs / f"{self.name} {self.precision}.log".replace(" ", "_").replace("/", "_")
        self.process = subprocess.Popen(
            [str(part) for part in self.command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("w"),
            env=os.environ | self.environment,
            text=True,
        )
        self.load = self.read_result()["load"]

    def transcribe(self) -> float:
        """Seconds from the first sample to the last word."""
        # Threads of the previous program may still be spinning, which would slow this one down.
        time.sleep(PAUSE)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        result = self.read_result()
        self.text = result["text"]
        self.outside.append(result.get("outside", math.nan))
        return result["seconds"]

    def read_result(self) -> dict:
        # Some programs print other lines, too.
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        last = self.log.read_text().strip().splitlines()[-3:]
        raise RuntimeError(f"{self.name} exited with {self.process.wait()}: {' / '.join(last)}")

    def stop(self) -> None:
        if self.process:
            self.process.stdin.close()
            self.process.stdout.close()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
            self.process = None


def engines(options, lookahead: int, clip: Path) -> list[Engine]:
    """The programs to compare at one lookahead. The first one of each precision is the baseline for the others."""
    models, threads = options.models, options.threads
    runtime = {"ORT_DYLIB_PATH": str(options.runtime)}

    def nemostt(
        name: str, precision: str, model: str = "nemo", optimization: str = "all", choice: str = "auto"
    ) -> Engine:
        command = [options.nemostt, models / f"{model}_{lookahead}", clip, lookahead, threads, optimization, choice]
        return Engine(name, command, precision, runtime)

    def sherpa(model: str, precision: str) -> Engine:
        suffix = ["int8"] if precision == "int8" else []
        command = [sys.executable, HERE / "run_sherpa.py", models / f"{model}_{lookahead}", clip, threads, *suffix]
        return Engine("sherpa-onnx", command, precision)

    found = [
        nemostt("nemostt", "fp32"),
        nemostt("nemostt, graph as exported", "fp32", optimization="none"),
        sherpa("sherpa", "fp32"),
    ]
    if options.parakeet_rs:
        command = [options.parakeet_rs, models / f"parakeet_rs_{lookahead}", clip, threads]
        found.append(Engine("parakeet-rs", command, "fp32", runtime))
    if options.nemo_python:
        command = [options.nemo_python, HERE / "run_nemo.py", clip, lookahead, threads]
        # PyTorch's threads spin in libgomp while they wait for each other, 300000 iterations by default. When other
        # programs are running, spinning threads take CPU time from the threads they wait for: a step took 1 to 3 s
        # instead of 0.06. With 20000 it took 0.3 to 0.6 s, and on an idle machine the same as with the default.
        found.append(Engine("NeMo (PyTorch)", command, "fp32", {"GOMP_SPINCOUNT": "20000"}))
    if not options.no_int8:
        # Quantized at load from the fp32 file.
        found.append(nemostt("nemostt", "int8", choice="int8"))
        found.append(nemostt("nemostt, sherpa-onnx's int8 files", "int8", model="sherpa_int8"))
        found.append(sherpa("sherpa_int8", "int8"))
    return found

# SPDX-License-Identifier: MIT OR Apache-2.0
"""The programs that are compared. Each loads its model, then hears the clip whenever it is told to."""

import json
import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
# Seconds between two programs.
PAUSE = 0.5


@dataclass
class Engine:
    """One program with one model. All are there at once, and each waits while another one works."""

    name: str
    command: list
    precision: str = "fp32"
    environment: dict = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    """How long it took to hear the clip, a number for each round."""
    outside: list[float] = field(default_factory=list)
    """How much of that was spent outside of the encoder, where the program says it."""
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
        self.load = self.answer()["load"]

    def hear(self) -> float:
        """Seconds from the first sample to the last word."""
        # Threads of the program before may still wait in a loop for more to do, and nobody shall pay for that.
        time.sleep(PAUSE)
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer = self.answer()
        self.text = answer["text"]
        self.outside.append(answer.get("outside", math.nan))
        return answer["seconds"]

    def answer(self) -> dict:
        # Some print other things, too.
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        last = self.log.read_text().strip().splitlines()[-3:]
        raise RuntimeError(f"{self.name} ended with {self.process.wait()}: {' / '.join(last)}")

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
    """Those that are compared at one lookahead. The first of each precision is what its others are measured by."""
    models, threads = options.models, options.threads
    runtime = {"ORT_DYLIB_PATH": str(options.runtime)}

    def nemostt(name: str, held: str, model: str = "nemo", optimization: str = "all", choice: str = "auto") -> Engine:
        command = [options.nemostt, models / f"{model}_{lookahead}", clip, lookahead, threads, optimization, choice]
        return Engine(name, command, held, runtime)

    def sherpa(model: str, precision: str) -> Engine:
        mark = ["int8"] if precision == "int8" else []
        command = [sys.executable, HERE / "run_sherpa.py", models / f"{model}_{lookahead}", clip, threads, *mark]
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
        # PyTorch's threads wait for each other in a loop of libgomp, 300000 times round unless told otherwise. Beside
        # other programs they take the processor from those they wait for: a step took 1 to 3 s in place of 0.06. With
        # 20000 it took 0.3 to 0.6 s, and on a machine at rest as long as without.
        found.append(Engine("NeMo (PyTorch)", command, "fp32", {"GOMP_SPINCOUNT": "20000"}))
    if not options.no_int8:
        # Made at load, from the file of fp32.
        found.append(nemostt("nemostt", "int8", choice="int8"))
        found.append(nemostt("nemostt, sherpa-onnx's int8 files", "int8", model="sherpa_int8"))
        found.append(sherpa("sherpa_int8", "int8"))
    return found

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Instruction counts of each stage outside ONNX Runtime, from a callgrind file: instructions.py FILE SECONDS

Callgrind counts the instructions of every source line, including those of inlined functions, and the cost of every
call. Instructions are attributed to the stage that their source file belongs to. Those of the standard library, libc
and so on are attributed to the stages of the function they were inlined into or, if it has none, to those of its
callers, in proportion to their shares.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

RUNTIME, KERNELS = "ONNX Runtime", "nemostt's custom operators"
# Part of a path -> stage. The first match counts.
STAGES = (
    ("src/features/", "front end"),
    ("realfft", "front end"),
    ("rustfft", "front end"),
    ("src/chunker.rs", "chunker"),
    ("src/decode/", "decoding"),
    ("src/model/transducer.rs", "decoding"),
    ("src/model/joint/", "decoding"),
    ("src/text/", "text"),
    ("src/sample_time.rs", "text"),
    ("nemostt-kernels/src/", KERNELS),
    ("src/model/", "calls to ONNX Runtime"),
    ("/ort-", "calls to ONNX Runtime"),
    ("nemostt/src/stream", "stream"),
    ("bench/nemostt.rs", "stream"),
)
RECORD = re.compile(r"(c?(?:fl|fi|fe|fn|ob))=(?:\((\d+)\))?\s*(.*)")


def stage_of(file: str, library: str) -> str | None:
    if library:
        return RUNTIME if "onnxruntime" in library else None
    return next((stage for part, stage in STAGES if part in file), None)


class Profile:
    """A callgrind profile: the self cost of each function by stage, and the cost of each call."""

    def __init__(self, lines):
        self.own: dict[tuple, dict] = defaultdict(lambda: defaultdict(int))
        self.calls: dict[tuple, dict] = defaultdict(lambda: defaultdict(int))
        names: dict[tuple, str] = {}
        now = {"ob": "", "fl": "", "fn": ""}
        called = {}
        is_call = False
        for line in lines:
            line = line.rstrip("\n")
            found = RECORD.match(line)
            if found:
                kind, number, name = found.groups()
                base = {"fi": "fl", "fe": "fl"}.get(kind.removeprefix("c"), kind.removeprefix("c"))
                if number:
                    name = names.setdefault((base, number), name) if name else names[base, number]
                if kind.startswith("c"):
                    called[base] = name
                elif kind == "fn":
                    now["fn"] = name
                else:
                    now[base] = name
                    if kind == "ob":
                        now["fl"] = ""
            elif line.startswith("calls="):
                is_call = True
            elif line[:1] in "+-*0123456789" and line:
                # Callgrind leaves out a cost of 0.
                cost = int([*line.split(), "0"][1])
                if is_call:
                    other = {"ob": called.get("ob", now["ob"]), "fn": called["fn"]}
                    self.calls[self.key(other)][self.key(now)] += cost
                    called, is_call = {}, False
                else:
                    self.own[self.key(now)][stage_of(now["fl"], self.library(now["ob"]))] += cost

    @staticmethod
    def key(where: dict) -> tuple:
        return where["ob"], where["fn"]

    @staticmethod
    def library(path: str) -> str:
        return path if ".so" in path else ""

    def stages(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        shares: dict[tuple, dict] = {}

        def stages_of(function: tuple, above: frozenset) -> dict:
            """Stages that a function without a stage of its own works for, as shares of one."""
            if function in shares:
                return shares[function]
            own = {stage: cost for stage, cost in self.own[function].items() if stage}
            if own:
                return {stage: cost / sum(own.values()) for stage, cost in own.items()}
            share: dict = defaultdict(float)
            edges = {caller: cost for caller, cost in self.calls[function].items() if caller not in above}
            for caller, cost in edges.items():
                for stage, part in stages_of(caller, above | {function}).items():
                    share[stage] += part * cost / max(1, sum(edges.values()))
            shares[function] = share or {"other": 1.0}
            return shares[function]

        for function, costs in list(self.own.items()):
            for stage, cost in costs.items():
                for to, part in {stage: 1.0}.items() if stage else stages_of(function, frozenset({function})).items():
                    found[to] += part * cost
        return found


def main(file: Path, seconds: float) -> None:
    with file.open() as lines:
        found = Profile(lines).stages()
    models = {stage: found.pop(stage, 0) for stage in (RUNTIME, KERNELS)}
    outside = sum(found.values())
    print("| stage | million instructions per second of audio | share |")
    print("|---|---:|---:|")
    for stage, cost in sorted(found.items(), key=lambda item: -item[1]):
        print(f"| {stage} | {cost / seconds / 1e6:.3f} | {cost / outside:.1%} |")
    print(f"| all outside ONNX Runtime | {outside / seconds / 1e6:.3f} | |")
    for stage, cost in models.items():
        print(f"| {stage}, for comparison | {cost / seconds / 1e6:.1f} | |")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))

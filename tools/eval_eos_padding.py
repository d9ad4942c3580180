#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Evaluates padding at the end of the stream: cuts clips right after each word and checks whether it is recognized.

    cargo build --release --features cli
    python3 tools/eval_eos_padding.py [CLIP.wav ...]          (default: the speech clips of tests/data)

The reference for a cut is the text of the whole clip up to that word. For each lookahead and padding, prints the share
of cuts with exactly that text, and the share with all of its words (but possibly a spurious word at the end).
"""
import json
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "nemostt"
RUNTIME = ROOT / "target" / "onnxruntime" / "libonnxruntime.so"
LOOKAHEADS = (80, 1040)
PADDINGS = (0, 240, 1120)


def words(path, lookahead, padding):
    command = [PROGRAM, "transcribe", "--json", "--lookahead", lookahead, "--eos-padding", padding, path]
    output = subprocess.run(list(map(str, command)), env={"ORT_DYLIB_PATH": str(RUNTIME)}, capture_output=True, check=True)
    return json.loads(output.stdout)["words"]


def main(clips):
    print("| lookahead | " + " | ".join(f"{padding} ms" for padding in PADDINGS) + " | cuts |")
    print("|---|" + "---|" * (len(PADDINGS) + 1))
    for lookahead in LOOKAHEADS:
        exact, complete, cuts = dict.fromkeys(PADDINGS, 0), dict.fromkeys(PADDINGS, 0), 0
        for clip in clips:
            with wave.open(str(clip)) as file:
                samples = file.readframes(file.getnframes())
            reference = words(clip, lookahead, 0)
            for i, word in enumerate(reference):
                end = round(word["end"] * 16000)
                cuts += 1
                with tempfile.NamedTemporaryFile(suffix=".wav") as cut:
                    with wave.open(cut.name, "wb") as file:
                        file.setparams((1, 2, 16000, end, "NONE", ""))
                        file.writeframes(samples[: 2 * end])
                    for padding in PADDINGS:
                        actual = [w["text"] for w in words(cut.name, lookahead, padding)]
                        expected = [w["text"] for w in reference[: i + 1]]
                        exact[padding] += actual == expected
                        complete[padding] += actual[: i + 1] == expected
        cells = (f"{exact[p] / cuts:.0%}, {complete[p] / cuts:.0%}" for p in PADDINGS)
        print(f"| {lookahead} ms | " + " | ".join(cells) + f" | {cuts} |", flush=True)


if __name__ == "__main__":
    main([Path(arg) for arg in sys.argv[1:]] or sorted((ROOT / "tests" / "data" / "wav").glob("u[1-4]*.wav")))

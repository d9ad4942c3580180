#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Evaluates boosting: how many rare words are found with and without it, and how many are written that were not said.

    cargo build --release --features cli
    python3 tools/eval_boosting.py [PROGRAM]          (default: target/release/nemostt)

The built-in model knows about 100 words and recognizes all of them in clean clips, so noise is added to the clips of
tests/data. Rare words are those that occur once in all of them; all are boosted at the same time. For each level of noise
and weight (0: without boosting), prints the share of rare words that are found, and false ones per hour of audio.
"""
import array
import collections
import json
import os
import random
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RUNTIME = ROOT / "target" / "onnxruntime" / "libonnxruntime.so"
CLIPS = ("u1_command", "u3_long", "u4_heldvoice", "u5_eight_sentences")
SIGNAL_TO_NOISE = (20, 10, 5, 0)
WEIGHTS = (0, 0.5, 1, 2, 4)
# Noise of this many seeds.
SEEDS = 5


def read(clip):
    with wave.open(str(ROOT / "tests" / "data" / "wav" / f"{clip}.wav")) as file:
        return array.array("h", file.readframes(file.getnframes()))


def add_noise(samples, decibels, seed):
    """White noise, relative to the mean power of the clip."""
    draw = random.Random(seed)
    power = sum(sample * sample for sample in samples) / len(samples)
    deviation = (power / 10 ** (decibels / 10)) ** 0.5
    noisy = (round(sample + draw.gauss(0, deviation)) for sample in samples)
    return array.array("h", (max(-32768, min(32767, sample)) for sample in noisy))


def transcribe(program, path, phrases, weight):
    command = [program, "transcribe", "--json", "--lookahead", "80", path]
    if weight:
        command += ["--hotwords", ",".join(phrases), "--hotwords-weight", str(weight)]
    environment = {"ORT_DYLIB_PATH": str(RUNTIME)} | os.environ
    output = subprocess.run(command, env=environment, capture_output=True, check=True)
    return collections.Counter(word["text"] for word in json.loads(output.stdout)["words"])


def main(program):
    texts = json.loads((ROOT / "tests" / "data" / "texts.json").read_text(encoding="utf-8"))["trained"]
    said = {clip: collections.Counter(texts[clip]["k1"]["rnnt"].split()) for clip in CLIPS}
    total = sum(said.values(), collections.Counter())
    rare = sorted(word for word, count in total.items() if count == 1)
    print(f"{len(rare)} rare words: {', '.join(rare)}\n")
    print("| signal to noise | " + " | ".join(f"weight {weight}" if weight else "without" for weight in WEIGHTS) + " |")
    print("|---|" + "---|" * len(WEIGHTS))
    for decibels in SIGNAL_TO_NOISE:
        found, false, seconds = collections.Counter(), collections.Counter(), 0
        for clip in CLIPS:
            samples = read(clip)
            for seed in range(SEEDS):
                with tempfile.NamedTemporaryFile(suffix=".wav") as noisy:
                    with wave.open(noisy.name, "wb") as file:
                        file.setparams((1, 2, 16000, len(samples), "NONE", ""))
                        file.writeframes(add_noise(samples, decibels, seed).tobytes())
                    seconds += len(samples) / 16000
                    for weight in WEIGHTS:
                        heard = transcribe(program, noisy.name, rare, weight)
                        found[weight] += sum(min(heard[word], said[clip][word]) for word in rare)
                        false[weight] += sum(max(heard[word] - said[clip][word], 0) for word in rare)
        cells = (f"{found[w] / (len(rare) * SEEDS):.0%}, {false[w] / seconds * 3600:.0f} per hour" for w in WEIGHTS)
        print(f"| {decibels} dB | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target" / "release" / "nemostt"))

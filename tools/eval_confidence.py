#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Evaluates confidence: how often words of each confidence are right, and how well it tells right words from wrong ones.

    apt install espeak-ng
    cargo build --release --features cli
    pip install matplotlib
    python3 tools/eval_confidence.py [PROGRAM]          (default: target/release/nemostt)

Sentences of the built-in model's words, which are not in its training data, are spoken by voices of espeak-ng with other speeds and
pitches than there, without and with white noise, and transcribed with each method. Prints for each method the share of right words, their
mean confidence, the expected calibration error (ECE, ten bins) and the area under the ROC curve (AUC), and draws
docs/images/confidence.svg. Words are right if they are matched by the alignment with the fewest errors.
"""
import array
import difflib
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
PLOT = ROOT / "docs" / "images" / "confidence.svg"
METHODS = (
    ("probability", "geometric-mean"), ("probability", "min"), ("max-prob", "min"), ("entropy-gibbs-exp", "min"),
    ("entropy-tsallis-lin", "min"), ("entropy-tsallis-exp", "min"), ("entropy-tsallis-exp", "mean"),
    ("entropy-renyi-lin", "min"), ("entropy-renyi-exp", "min"),
)
DRAWN = (("probability", "geometric-mean"), ("max-prob", "min"), ("entropy-tsallis-exp", "min"))
SIGNAL_TO_NOISE = (None, 10, 5, 0)
SENTENCES = 48
BINS = 10
VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029", "en-us+f2", "en-us+m3", "en-gb+f4")
ROOMS = ("kitchen", "bedroom", "garage", "office")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def sentence(draw):
    room, digit, day = draw.choice(ROOMS), draw.choice(DIGITS), draw.choice(DAYS)
    return draw.choice((
        f"turn {draw.choice(('on', 'off'))} the {room} {draw.choice(('light', 'lamp'))}",
        f"set the {room} heater to twenty",
        f"the {draw.choice(('red', 'blue'))} {draw.choice(('bus', 'train'))} leaves on {day} at {digit}",
        f"a woman with the {draw.choice(('red', 'blue'))} {draw.choice(('bag', 'coat'))} sings near the "
        f"{draw.choice(('door', 'window'))}",
        f"lock the {room} {draw.choice(('door', 'window'))}",
        " ".join(draw.choice(DIGITS) for _ in range(6)),
        f"call {draw.choice(DIGITS)} {draw.choice(DIGITS)} {digit} on {day}",
    ))


def speak(text, voice, speed, pitch):
    """Samples at 16 kHz."""
    with tempfile.TemporaryDirectory() as directory:
        raw, path = f"{directory}/raw.wav", f"{directory}/16k.wav"
        subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", raw, text], check=True)
        convert = ["gst-launch-1.0", "-q", "filesrc", f"location={raw}", "!", "wavparse", "!", "audioconvert", "!",
                   "audioresample", "!", "audio/x-raw,format=S16LE,rate=16000,channels=1", "!", "wavenc", "!", "filesink",
                   f"location={path}"]
        subprocess.run(convert, check=True)
        with wave.open(path) as file:
            return array.array("h", file.readframes(file.getnframes()))


def add_noise(samples, decibels, draw):
    if decibels is None:
        return samples
    power = sum(sample * sample for sample in samples) / len(samples)
    deviation = (power / 10 ** (decibels / 10)) ** 0.5
    return array.array("h", (max(-32768, min(32767, round(sample + draw.gauss(0, deviation)))) for sample in samples))


def transcribe(program, directory, method, aggregation):
    """The words of each file with their confidences."""
    files = sorted(str(path) for path in Path(directory).glob("*.wav"))
    command = [program, "transcribe", "--json", "--lookahead", "480", "--confidence-method", method,
               "--confidence-aggregation", aggregation, *files]
    environment = {"ORT_DYLIB_PATH": str(RUNTIME)} | os.environ
    output = subprocess.run(command, env=environment, capture_output=True, check=True).stdout.decode()
    decoder, documents, at = json.JSONDecoder(), [], 0
    while at < len(output.rstrip()):
        document, at = decoder.raw_decode(output, at)
        documents.append([(word["text"], word["confidence"]) for word in document["words"]])
        at += len(output[at:]) - len(output[at:].lstrip())
    return documents


def judge(reference, words):
    """(confidence, whether it is right) of each word."""
    texts = [text for text, _ in words]
    right = set()
    for block in difflib.SequenceMatcher(None, reference, texts, autojunk=False).get_matching_blocks():
        right.update(range(block.b, block.b + block.size))
    return [(confidence, index in right) for index, (_, confidence) in enumerate(words)]


def bins_of(judged):
    """Mean confidence, share of right words and number of words of each bin that has words."""
    bins = [[] for _ in range(BINS)]
    for confidence, right in judged:
        bins[min(int(confidence * BINS), BINS - 1)].append((confidence, right))
    return [(sum(c for c, _ in words) / len(words), sum(r for _, r in words) / len(words), len(words))
            for words in bins if words]


def area(judged):
    """Probability that a right word has a higher confidence than a wrong one."""
    ranked = sorted(judged)
    right, wins = 0, 0.0
    at = 0
    while at < len(ranked):
        end = at
        while end < len(ranked) and ranked[end][0] == ranked[at][0]:
            end += 1
        wrong_here = sum(not r for _, r in ranked[at:end])
        right_here = end - at - wrong_here
        # Right words above all wrong ones so far, and half of those of the same confidence.
        wins += right_here * (at - right) + right_here * wrong_here / 2
        right += right_here
        at = end
    wrong = len(ranked) - right
    return wins / (right * wrong)


def draw(curves):
    import matplotlib
    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "nemostt"
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(5, 4.6), layout="constrained")
    axes.plot([0, 1], [0, 1], color="gray", linestyle="dotted", label="perfectly calibrated")
    for (method, aggregation), bins in curves.items():
        axes.plot([c for c, _, _ in bins], [r for _, r, _ in bins], marker="o", label=f"{method}, {aggregation}")
        for confidence, right, count in bins:
            axes.annotate(str(count), (confidence, right), textcoords="offset points", xytext=(4, -9), fontsize=7)
    axes.set(xlabel="confidence", ylabel="share of right words", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=2, fontsize=8)
    figure.savefig(PLOT, metadata={"Date": None})


def main(program):
    generator = random.Random(20261130)
    texts = [sentence(generator) for _ in range(SENTENCES)]
    with tempfile.TemporaryDirectory() as directory:
        references = []
        for index, text in enumerate(texts):
            samples = speak(text, VOICES[index % len(VOICES)], generator.randint(130, 190), generator.randint(30, 70))
            for level, decibels in enumerate(SIGNAL_TO_NOISE):
                with wave.open(f"{directory}/{index:03}-{level}.wav", "wb") as file:
                    file.setparams((1, 2, 16000, len(samples), "NONE", ""))
                    file.writeframes(add_noise(samples, decibels, generator).tobytes())
                references.append(text.split())
        print("| method | aggregation | words | right | mean confidence | ECE | AUC |\n|---|---|---|---|---|---|---|")
        curves = {}
        for method, aggregation in METHODS:
            documents = transcribe(program, directory, method, aggregation)
            judged = [word for pair in zip(references, documents, strict=True) for word in judge(*pair)]
            bins = bins_of(judged)
            right = sum(r for _, r in judged) / len(judged)
            mean = sum(c for c, _ in judged) / len(judged)
            error = sum(count * abs(c - r) for c, r, count in bins) / len(judged)
            print(f"| `{method}` | `{aggregation}` | {len(judged)} | {right:.1%} | {mean:.2f} | {error:.3f} | {area(judged):.3f} |",
                  flush=True)
            if (method, aggregation) in DRAWN:
                curves[method, aggregation] = bins
        draw(curves)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "target" / "release" / "nemostt"))

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Extract the part of the golden data that the tests read.

    python3 tools/test_data.py GOLDENS DEMO_MODEL        (needs numpy and onnx)

GOLDENS contains the outputs of NeMo 2.7.3 on the CPU in float32 for eleven clips and two models (folders `tiny_random`
and `trained`), DEMO_MODEL the graphs of the latter. Writes, below tests/data:

    wav/                 the clips
    mel.npz              CLIP/mel: NeMo's log-mel, [mels, T]
    tiny_random.npz      per CLIP and lookahead kR: enc (offline encoder, [width, T']), tokens, token_frames (RNN-T),
    trained.npz          ctc (best id per frame), cache_len (after each step of NeMo's streaming)
    texts.json           MODEL -> CLIP -> kR -> {rnnt, ctc}: texts decoded with NeMo's tokenizer
    tiny_random/         NeMo's exports of the first model (lookahead 1040 ms) with its vocabulary
    exports/             more exports: at lookahead 80 ms, and without caches

The table of sinusoidal positions has 9999 rows, of which only 167 are ever read. It is cut to its middle rows in every
graph. Nothing else is changed.
"""
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

OUT = Path(__file__).resolve().parent.parent / "tests" / "data"
KEEP_POSITIONS = 128
LOOKAHEADS = (0, 1, 6, 13)


def cut_positions(source, target):
    """Copy a graph with only the middle rows of its position table, and the center adjusted to that."""
    model = onnx.load(source)
    old_center = None
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "value" and list(attribute.t.dims)[:1] == [1] and len(attribute.t.dims) == 3:
                table = numpy_helper.to_array(attribute.t)
                old_center = (table.shape[1] + 1) // 2
                first = old_center - KEEP_POSITIONS
                cut = table[:, first : first + 2 * KEEP_POSITIONS - 1]
                attribute.t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(cut), attribute.t.name))
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.name == "value" and attribute.t.data_type == 7:
                value = numpy_helper.to_array(attribute.t)
                if value.size == 1 and value.item() == old_center:
                    moved = np.full(value.shape, KEEP_POSITIONS, np.int64)
                    attribute.t.CopyFrom(numpy_helper.from_array(moved, attribute.t.name))
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, target)


def pieces(path):
    return [line.rsplit(" ", 1)[0] for line in path.read_text(encoding="utf-8").splitlines()]


def text(ids, vocabulary):
    """Decodes like SentencePiece, for vocabularies without byte pieces."""
    joined = "".join(" \u2047 " if vocabulary[i] == "<unk>" else vocabulary[i] for i in ids)
    return joined.replace("\u2581", " ").removeprefix(" ")


def collapse(best, blank):
    return [int(i) for i, before in zip(best, [blank, *best]) if i not in (before, blank)]


def main(goldens, demo):
    OUT.mkdir(parents=True, exist_ok=True)
    mels, texts = {}, {}
    for name in ("tiny_random", "trained"):
        arrays, texts[name] = {}, {}
        vocabulary = pieces((goldens / name / "model" if name == "tiny_random" else demo) / "tokens.txt")
        summary = {clip["name"]: clip for clip in json.loads((goldens / name / "summary.json").read_text())}
        for path in sorted((goldens / name).glob("*.npz")):
            clip, data = path.stem, np.load(path)
            mel = mels.setdefault(f"{clip}/mel", data["mel"])
            assert np.array_equal(mel, data["mel"]), "the two models have different features"
            texts[name][clip] = {}
            for k in LOOKAHEADS:
                arrays[f"{clip}/k{k}/enc"] = data[f"k{k}/offline_enc"]
                arrays[f"{clip}/k{k}/tokens"] = data[f"k{k}/offline_tokens"].astype(np.int32)
                arrays[f"{clip}/k{k}/token_frames"] = data[f"k{k}/offline_token_frames"].astype(np.int32)
                arrays[f"{clip}/k{k}/ctc"] = data[f"k{k}/offline_ctc_frame_argmax"].astype(np.int32)
                arrays[f"{clip}/k{k}/cache_len"] = data[f"k{k}/nopad/cache_last_channel_len"].astype(np.int64)
                rnnt = text(data[f"k{k}/offline_tokens"], vocabulary)
                ctc = text(collapse(data[f"k{k}/offline_ctc_frame_argmax"], len(vocabulary) - 1), vocabulary)
                run = next(r for r in summary[clip]["runs"] if r["k"] == k and r["mode"] == "nopad")
                assert rnnt == run["offline_text"], (rnnt, run["offline_text"])
                texts[name][clip][f"k{k}"] = {"rnnt": rnnt, "ctc": ctc}
        np.savez(OUT / f"{name}.npz", **arrays)
    np.savez(OUT / "mel.npz", **mels)
    (OUT / "texts.json").write_text(json.dumps(texts, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")

    shutil.copytree(goldens / "trained" / "wav", OUT / "wav", dirs_exist_ok=True)
    model = goldens / "tiny_random" / "model"
    cut_positions(model / "encoder-rnnt_la13.onnx", OUT / "tiny_random" / "encoder-rnnt_la13.onnx")
    cut_positions(model / "ctc_la13.onnx", OUT / "tiny_random" / "ctc_la13.onnx")
    cut_positions(model / "encoder-rnnt_la1.onnx", OUT / "exports" / "encoder-rnnt_la1.onnx")
    cut_positions(model / "encoder-without-caches.onnx", OUT / "exports" / "encoder-without-caches.onnx")
    for file in ("decoder_joint-rnnt_la13.onnx", "tokens.txt", "tokenizer.model"):
        shutil.copyfile(model / file, OUT / "tiny_random" / file)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compute with NeMo and SentencePiece what boosting must reproduce.

    python3 tools/gen_boosting_goldens.py        (needs nemo_toolkit[asr]==2.7.3 and onnxruntime)

Writes, into tests/data/boosting:

* tree.json: scores of NeMo's GPUBoostingTreeModel for all tokens, at each step of random walks.
* ctc.json: NeMo's greedy CTC decoding with a boosting tree, of log-probabilities that both sides compute from a seed.
* rnnt.json: NeMo's greedy RNN-T decoding (label looping) with a boosting tree, of the models and encoder outputs that are
  in tests/data; prediction network and joint are the exported ones, run by ONNX Runtime.
* *.model, tokenize.json: small SentencePiece models, and the ids of SentencePiece for texts.
"""
import io
import json
import os
import random
from pathlib import Path

import numpy as np
import onnxruntime
import sentencepiece
import torch
from nemo.collections.asr.parts.context_biasing.boosting_graph_batched import GPUBoostingTreeModel
from nemo.collections.asr.parts.context_biasing.context_graph_universal import ContextGraph
from nemo.collections.asr.parts.submodules.ctc_greedy_decoding import GreedyBatchedCTCInfer
from nemo.collections.asr.parts.submodules.transducer_decoding.rnnt_label_looping import (
    GreedyBatchedRNNTLabelLoopingComputer,
)

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "data"
OUT = DATA / "boosting"
DEMO = ROOT / "crates" / "nemostt" / "assets" / "demo-model"


def boosting_tree(phrases, weights, vocabulary):
    """NeMo's tree with its defaults. The highest weight first: crates/nemostt/src/boosting/tree.rs says why."""
    order = sorted(range(len(phrases)), key=lambda index: -weights[index])
    graph = ContextGraph(context_score=1.0, depth_scaling=2.0)
    graph.build(
        token_ids=[phrases[index] for index in order], phrases=[str(index) for index in order],
        scores=[weights[index] for index in order], uniform_weights=False,
    )
    return GPUBoostingTreeModel.from_context_graph(
        graph, vocab_size=vocabulary, unk_score=0.0, final_eos_score=1.0, use_triton=False, uniform_weights=False,
    )


def trees():
    cases = []
    for seed, (vocabulary, count, longest, weighted) in enumerate(
        [(6, 1, 1, False), (8, 3, 4, False), (5, 12, 6, False), (5, 12, 6, True), (20, 30, 5, True), (4, 40, 7, True)]
    ):
        draw = random.Random(seed)
        phrases = [[draw.randrange(vocabulary) for _ in range(draw.randint(1, longest))] for _ in range(count)]
        weights = [draw.choice([0.5, 1.0, 2.25, 7.0]) if weighted else 1.0 for _ in phrases]
        model = boosting_tree(phrases, weights, vocabulary)
        tokens, rows = [], []
        state = model.get_init_states(batch_size=1, bos=True)
        while len(tokens) < 60:
            # Phrases, beginnings of phrases, and single tokens.
            phrase = draw.choice(phrases)
            for token in phrase[: draw.randint(1, len(phrase))] + [draw.randrange(vocabulary)] * draw.randint(0, 1):
                scores, states = model.advance(state)
                tokens.append(token)
                rows.append([round(float(score), 6) for score in scores[0]])
                state = states[:, token]
        cases.append(
            {"vocabulary": vocabulary, "phrases": phrases, "weights": weights, "tokens": tokens, "scores": rows}
        )
    return cases


def table(seed, frames, classes):
    """Values that are exact in f32: multiples of 1/64 from 0 to 16, of a linear congruential generator."""
    values = np.empty(frames * classes, dtype=np.float32)
    state = seed
    for index in range(values.size):
        state = (state * 1664525 + 1013904223) % 2**32
        values[index] = (state >> 22) / 64
    return torch.from_numpy(values.reshape(frames, classes))


def ctc():
    cases = []
    for seed, (tokens, frames, count, weight) in enumerate([(6, 80, 4, 1.0), (12, 200, 8, 1.0), (12, 200, 20, 3.0)]):
        draw = random.Random(100 + seed)
        phrases = [[draw.randrange(tokens) for _ in range(draw.randint(1, 4))] for _ in range(count)]
        weights = [weight] * count
        logits = table(seed + 1, frames, tokens + 1)
        decoder = GreedyBatchedCTCInfer(blank_id=tokens, preserve_alignments=False, compute_timestamps=False)
        decoder.fusion_models = [boosting_tree(phrases, weights, tokens)]
        decoder.fusion_models_alpha = [1.0]
        lengths = torch.tensor([frames])
        labels, _ = decoder._greedy_decode_logprobs_batched_fusion_models_torch(logits[None], lengths)
        labels = labels[0].tolist()
        plain = logits.argmax(-1).tolist()
        assert labels != plain, "boosting changed nothing"
        cases.append(
            {"seed": seed + 1, "tokens": tokens, "frames": frames, "phrases": phrases, "weights": weights,
             "labels": labels}
        )
    return cases


class Network:
    """An exported prediction network with joint, as the decoder and joint that NeMo's decoding calls; batch size 1.

    What is called decoder output is the last label and the state before it, from which the graph computes the rest.
    """

    def __init__(self, path):
        self.session = onnxruntime.InferenceSession(path)
        shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.layers, _, self.hidden = shapes["input_states_1"]
        self.width = shapes["encoder_outputs"][1]
        self.classes = self.session.get_outputs()[0].shape[-1]

    def run(self, frame, label, state):
        return self.session.run(
            None,
            {"encoder_outputs": frame.reshape(1, self.width, 1), "targets": np.array([[label]], np.int32),
             "target_length": np.array([1], np.int32), "input_states_1": state[0], "input_states_2": state[1]},
        )

    # The decoder.
    def initialize_state(self, _):
        return tuple(torch.zeros(self.layers, 1, self.hidden) for _ in range(2))

    def predict(self, labels, state, add_sos, batch_size):
        before = [part.numpy() for part in state]
        _, _, first, second = self.run(np.zeros(self.width, np.float32), int(labels), before)
        output = np.concatenate([[float(labels)], before[0].ravel(), before[1].ravel()]).astype(np.float32)
        return torch.from_numpy(output)[None, None], (torch.from_numpy(first), torch.from_numpy(second))

    def batch_replace_states_mask(self, src_states, dst_states, mask):
        if bool(mask[0]):
            for source, target in zip(src_states, dst_states):
                target.copy_(source)

    # The joint.
    @property
    def num_classes_with_blank(self):
        return self.classes

    def project_encoder(self, frames):
        return frames

    def project_prednet(self, output):
        return output

    def joint_after_projection(self, frame, output):
        output = output.ravel().numpy()
        states = output[1:].reshape(2, self.layers, 1, self.hidden)
        logits = self.run(frame.ravel().numpy(), int(output[0]), [states[0], states[1]])[0]
        return torch.from_numpy(logits.reshape(1, 1, 1, self.classes))


def transcribe(network, encoded, tree):
    computer = GreedyBatchedRNNTLabelLoopingComputer(
        decoder=network, joint=network, blank_index=network.classes - 1, max_symbols_per_step=10,
        allow_cuda_graphs=False, fusion_models=[tree] if tree else None, fusion_models_alpha=[1.0] if tree else None,
    )
    frames = torch.from_numpy(np.ascontiguousarray(encoded.T))[None]
    hypotheses, _, _ = computer.torch_impl(frames, torch.tensor([frames.shape[1]]))
    count = int(hypotheses.current_lengths[0])
    return hypotheses.transcript[0, :count].tolist(), hypotheses.timestamps[0, :count].tolist()


def rnnt():
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tiny_random" / "tokenizer.model"))
    lists = {
        "trained": [
            {"garden light": 1.0, "zero": 1.0},
            {"nine nine": 12.0, "kitchen": 12.0, "stop": 12.0},
            {"one eight": 6.0, "two three four": 6.0, "the bedroom door": 9.5, "six": 3.0},
        ],
        "tiny_random": [
            {"one two": 0.25, "the kitchen light": 0.5},
            {"garden": 1.0, "seven": 1.0, "bedroom": 1.0, "call": 1.0, "the": 1.0},
        ],
    }
    graphs = {
        "trained": DEMO / "decoder_joint-model.onnx", "tiny_random": DATA / "tiny_random/decoder_joint-rnnt_la13.onnx",
    }
    cases = []
    for model, phrases in lists.items():
        network = Network(graphs[model])
        goldens = np.load(DATA / f"{model}.npz")
        for hotwords in phrases:
            ids = [tokenizer.encode(phrase) for phrase in hotwords]
            tree = boosting_tree(ids, list(hotwords.values()), network.classes - 1)
            changed = 0
            for clip in ("u1_command", "u2_digits", "u3_long", "e4_noise3s"):
                for lookahead in (1, 13):
                    encoded = goldens[f"{clip}/k{lookahead}/enc"]
                    plain = transcribe(network, encoded, None)
                    assert plain[0] == goldens[f"{clip}/k{lookahead}/tokens"].tolist(), (model, clip, lookahead)
                    tokens, frames = transcribe(network, encoded, tree)
                    changed += tokens != plain[0]
                    cases.append(
                        {"model": model, "clip": clip, "lookahead": lookahead, "hotwords": hotwords, "phrases": ids,
                         "tokens": tokens, "frames": frames}
                    )
            print(f"{model}, {hotwords}: {changed} transcripts are others")
    return cases


SENTENCES = (
    "Kubernetes runs containers on many machines at once",
    "Ada Lovelace wrote the first program for a machine",
    "turn on the light in the kitchen and close the window",
    "the quick brown fox jumps over the lazy dog",
    "Grace Hopper found a moth in a relay of the machine",
    "what is the weather going to be like this afternoon",
    "containers and machines, programs and relays: they all need light",
)
TEXTS = (
    "Kubernetes", "Ada Lovelace", "the lazy machine", "  two  spaces ", "afternoon", "Q", "Hopper's", "", "a", "ﬁsh and ﬂy",
    "Ｆｕｌｌ ｗｉｄｔｈ", "ÄÖ ä", "naïve", "moth-eaten", "jumps over jumps over", "zzz", "ﬁ",
    "\u3000ideographic\u3000space", "日本",
)
# Replacements as in SentencePiece's rules: code points of a string, a tab, those of its replacement.
RULES = {"ﬁ": "fi", "ﬂ": "fl", "\u3000": " ", "ï": "i", "Ä": "A", "Ö": "O", "ä": "a", "aff": "af"} | {
    chr(0xFEE0 + ord(c)): c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
}


def train(name, rules, **options):
    points = lambda text: " ".join(f"{ord(c):X}" for c in text)
    # Its name becomes part of the model.
    table = Path("rules.tsv")
    table.write_text("".join(f"{points(old)}\t{points(new)}\n" for old, new in RULES.items()), encoding="utf-8")
    normalization = {"normalization_rule_tsv": str(table)} if rules else {"normalization_rule_name": "identity"}
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4), model_writer=trained, unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
        minloglevel=2, **normalization, **options,
    )
    table.unlink()
    model = trained.getvalue()
    (OUT / f"{name}.model").write_bytes(model)
    return sentencepiece.SentencePieceProcessor(model_proto=model)


def tokenize():
    models = {
        "bpe": train("bpe", rules=False, model_type="bpe", vocab_size=120),
        "bpe_rules": train(
            "bpe_rules", rules=True, model_type="bpe", vocab_size=380, byte_fallback=True, user_defined_symbols=["moth-"],
        ),
        "unigram": train("unigram", rules=False, model_type="unigram", vocab_size=80, hard_vocab_limit=False),
        "unigram_rules": train(
            "unigram_rules", rules=True, model_type="unigram", vocab_size=80, hard_vocab_limit=False, user_defined_symbols=["eaten", "jumps"],
            remove_extra_whitespaces=False,
        ),
        "char": train("char", rules=False, model_type="char", vocab_size=60, hard_vocab_limit=False),
        "word": train("word", rules=False, model_type="word", vocab_size=40, hard_vocab_limit=False),
        "../tiny_random/tokenizer": sentencepiece.SentencePieceProcessor(
            model_file=str(DATA / "tiny_random" / "tokenizer.model")
        ),
    }
    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    draw = random.Random(7)
    texts = list(TEXTS) + words + ["".join(draw.choice("abcdehilmnorst ") for _ in range(draw.randint(1, 30))) for _ in range(40)]
    return {
        name: {
            "pieces": [model.id_to_piece(id) for id in range(model.get_piece_size())],
            "ids": {text: model.encode(text) for text in texts},
        }
        for name, model in models.items()
    }


def write(name, value):
    (OUT / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


@torch.no_grad()
def main():
    OUT.mkdir(parents=True, exist_ok=True)
    os.chdir(OUT)
    write("tokenize.json", tokenize())
    write("tree.json", trees())
    write("ctc.json", ctc())
    write("rnnt.json", rnnt())


if __name__ == "__main__":
    main()

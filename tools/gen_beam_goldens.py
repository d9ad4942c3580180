#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compute with NeMo what beam search must reproduce.

    python3 tools/gen_beam_goldens.py        (needs nemo_toolkit[asr]==2.7.3, onnx and onnxruntime)

Writes, into tests/data/beam:

* rnnt_tables.json: NeMo's maes_batch over logits that both sides compute from a seed, alone, with a boosting tree and with a
  language model.
* rnnt.json: the same of the models and encoder outputs that are in tests/data; prediction network and joint are the exported
  ones, run by ONNX Runtime.
* ctc_tables.json, ctc.json: NeMo's batched beam search for CTC, likewise; the log-probabilities of models are those of their
  CTC head for the encoder outputs in tests/data.
* *.arpa, lm.json: language models over tokens, and the scores of NeMo's NGramGPULanguageModel along random walks.
"""
import json
import math
import random
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import sentencepiece
import torch
from gen_boosting_goldens import DATA, DEMO, Network, boosting_tree
from nemo.collections.asr.parts.submodules.ctc_batched_beam_decoding import BatchedBeamCTCComputer
from nemo.collections.asr.parts.submodules.ngram_lm import NGramGPULanguageModel
from nemo.collections.asr.parts.submodules.ngram_lm.constants import DEFAULT_TOKEN_OFFSET
from nemo.collections.asr.parts.submodules.rnnt_beam_decoding import BeamBatchedRNNTInfer, BeamRNNTInferConfig
from nemo.collections.asr.parts.submodules.rnnt_maes_batched_computer import ModifiedAESBatchedRNNTComputer
from nemo.collections.asr.parts.utils.batched_beam_decoding_utils import BatchedBeamHyps

OUT = DATA / "beam"
CLIPS = (
    "e1_clip300ms", "e2_clip20ms", "e3_silence2s", "e4_noise3s", "e5_len112frames", "e6_odd", "u1_command", "u2_digits",
    "u3_long", "u4_heldvoice", "u5_eight_sentences",
)
LOOKAHEADS = (0, 1, 6, 13)
BEAMS = (2, 4, 8)
# NeMo's defaults.
CONFIG = BeamRNNTInferConfig(beam_size=4)


def row(seed, classes):
    """Logits from 0 to 4 that are exact in f32, of a linear congruential generator. Of 24 bits, so that sums hardly tie."""
    values = np.empty(classes, dtype=np.float32)
    state = seed % 2**32
    for index in range(classes):
        state = (state * 1664525 + 1013904223) % 2**32
        values[index] = (state >> 8) / 2**22
    return torch.from_numpy(values)


class BatchedModel:
    """A decoder and joint as NeMo's batched beam search calls them. What is called decoder output is the last label and the
    state before it, from which the graph computes the rest."""

    num_extra_outputs = 0

    def project_encoder(self, frames):
        return frames

    def project_prednet(self, output):
        return output

    @property
    def num_classes_with_blank(self):
        return self.classes

    def predict(self, labels, state, add_sos, batch_size):
        labels = labels.ravel()
        if state is None:
            state = self.start(batch_size)
        outputs, following = [], []
        for index, label in enumerate(labels.tolist()):
            before = [part[:, index] for part in state]
            outputs.append(torch.cat([torch.tensor([float(label)])] + [part.ravel() for part in before]))
            following.append(self.step(label, before))
        states = tuple(torch.stack([one[part] for one in following], dim=1) for part in range(len(state)))
        return torch.stack(outputs)[:, None], states

    def batch_aggregate_states_beam(self, states, batch_size, beam_size, indices):
        assert batch_size == 1
        return tuple(part[:, indices.ravel()] for part in states)

    def batch_replace_states_mask(self, src_states, dst_states, mask):
        for source, target in zip(src_states, dst_states):
            target[:, mask] = source[:, mask]

    def joint_after_projection(self, frames, output):
        rows = [self.logits(frame.ravel(), one.ravel()) for frame, one in zip(frames, output)]
        return torch.stack(rows)[:, None, None]


class TableModel(BatchedModel):
    """Logits depend on the frame's number and the last two labels."""

    def __init__(self, classes, seed):
        self.classes, self.seed = classes, seed

    def start(self, batch_size):
        return (torch.full((1, batch_size, 1), float(self.classes)),)

    def step(self, label, before):
        return (torch.tensor([[float(label)]]),)

    def logits(self, frame, output):
        last, previous = (int(value) for value in output)
        blank = self.classes - 1
        previous = blank if previous == self.classes else previous
        logits = row(self.seed + 65537 * int(frame) + 257 * last + 17 * previous, self.classes)
        # Blank is the best about as often as it is in speech.
        logits[blank] += 2
        return logits


class OnnxModel(BatchedModel):
    def __init__(self, path):
        self.network = Network(path)
        self.classes, self.cache = self.network.classes, {}

    def start(self, batch_size):
        return tuple(torch.zeros(self.network.layers, batch_size, self.network.hidden) for _ in range(2))

    def run(self, frame, label, before):
        key = (frame.tobytes(), label, before[0].tobytes(), before[1].tobytes())
        if key not in self.cache:
            self.cache[key] = self.network.run(frame, label, before)
        return self.cache[key]

    def step(self, label, before):
        states = [part.numpy().reshape(self.network.layers, 1, -1) for part in before]
        _, _, first, second = self.run(np.zeros(self.network.width, np.float32), label, states)
        return torch.from_numpy(first[:, 0].copy()), torch.from_numpy(second[:, 0].copy())

    def logits(self, frame, output):
        values = output.numpy()
        states = values[1:].reshape(2, self.network.layers, 1, self.network.hidden)
        logits = self.run(frame.numpy(), int(values[0]), [states[0].copy(), states[1].copy()])[0]
        return torch.from_numpy(logits.reshape(self.classes).copy())


@torch.inference_mode()
def maes(model, frames, beam, fusion=None, alpha=0.0):
    """The hypotheses of maes_batch with NeMo's defaults, the best one first, and whether they depend on the order in which torch
    sorts equal scores."""
    infer = BeamBatchedRNNTInfer(
        decoder_model=model, joint_model=model, blank_index=model.classes - 1, beam_size=beam, search_type="maes_batch",
        score_norm=CONFIG.score_norm, maes_num_steps=CONFIG.maes_num_steps, maes_expansion_gamma=CONFIG.maes_expansion_gamma,
        maes_expansion_beta=CONFIG.maes_expansion_beta, fusion_models=[fusion] if fusion else None,
        fusion_models_alpha=[alpha] if fusion else None, blank_lm_score_mode=CONFIG.blank_lm_score_mode,
        pruning_mode=CONFIG.pruning_mode, allow_cuda_graphs=False,
    )
    assert isinstance(infer._decoding_computer, ModifiedAESBatchedRNNTComputer)
    run = lambda: infer._decoding_computer(x=frames[None], out_len=torch.tensor([len(frames)]))
    nbest = listed(run().to_nbest_hyps_list(score_norm=CONFIG.score_norm))
    with no_labels_without_hypothesis(model.classes - 1):
        other = listed(run().to_nbest_hyps_list(score_norm=CONFIG.score_norm))
    return nbest, nbest != other


@contextmanager
def no_labels_without_hypothesis(blank):
    """NeMo's beam has places without a hypothesis: with a score of minus infinity, and a label that depends on the order in which
    torch sorts equal scores. If it is blank, a hypothesis that takes the place in the same frame does not get the probability
    of blank. Here, it never is."""
    add = BatchedBeamHyps.add_results_

    def add_results(self, indices, labels, scores, *others):
        labels[(scores == float("-inf")) & (labels == blank)] = 0
        add(self, indices, labels, scores, *others)

    BatchedBeamHyps.add_results_ = add_results
    try:
        yield
    finally:
        BatchedBeamHyps.add_results_ = add


def listed(nbest):
    return [
        {"tokens": one.y_sequence.tolist(), "frames": one.timestamp.tolist(), "score": round(float(one.score), 5)}
        for one in nbest[0].n_best_hypotheses
    ]


def phrases_of(draw, tokens, count):
    return [[draw.randrange(tokens) for _ in range(draw.randint(1, 4))] for _ in range(count)]


def rnnt_tables():
    cases = []
    for seed, (tokens, frames, beam, fusion) in enumerate(
        (tokens, frames, beam, fusion)
        for tokens, frames in ((5, 30), (14, 60), (40, 40))
        for beam in (1, 2, 4, 8)
        for fusion in ("none", "boosting", "lm")
        if tokens + 1 >= beam + CONFIG.maes_expansion_beta
    ):
        draw = random.Random(300 + seed)
        case = {"seed": 1000 * seed, "tokens": tokens, "frames": frames, "beam": beam, "phrases": [], "weights": [], "lm": "",
                "alpha": 0.0}
        model, alpha = None, 0.0
        if fusion == "boosting":
            case["phrases"] = phrases_of(draw, tokens, 6)
            case["weights"] = [draw.choice([0.5, 1.0, 1.75]) for _ in case["phrases"]]
            model, alpha = boosting_tree(case["phrases"], case["weights"], tokens), 1.0
        elif fusion == "lm":
            case["lm"] = f"random_{tokens}.arpa"
            model, alpha = load_lm(case["lm"], tokens), draw.choice([0.25, 0.5, 1.0])
            case["alpha"] = alpha
        inputs = torch.arange(frames, dtype=torch.float32)[:, None]
        case["nbest"], depends = maes(TableModel(tokens + 1, case["seed"]), inputs, beam, model, alpha)
        assert not depends, case
        cases.append(case)
    return cases


def encoded(goldens, clip, lookahead):
    return torch.from_numpy(np.ascontiguousarray(goldens[f"{clip}/k{lookahead}/enc"].T))


BOOSTED = {
    "trained": [
        {"garden light": 1.0, "zero": 1.0},
        {"nine nine": 3.0, "kitchen": 3.0, "stop": 3.0},
    ],
    "tiny_random": [
        {"one two": 0.25, "the kitchen light": 0.5},
        {"garden": 1.0, "seven": 1.0, "bedroom": 1.0, "call": 1.0, "the": 1.0},
    ],
}


def cases_of(model, beams):
    """Clip, lookahead, beam, hotwords and whether all hypotheses are kept."""
    for clip in CLIPS:
        for lookahead in LOOKAHEADS:
            for beam in beams:
                yield clip, lookahead, beam, {}, "", clip in ("u1_command", "e4_noise3s") and lookahead in (1, 13)
    for clip in ("u1_command", "u2_digits", "u3_long"):
        for beam in beams:
            for hotwords in BOOSTED[model]:
                yield clip, 1, beam, hotwords, "", clip == "u1_command"
            yield clip, 13, beam, {}, "sentences.arpa", clip == "u1_command"


def rnnt():
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tiny_random" / "tokenizer.model"))
    graphs = {
        "trained": DEMO / "decoder_joint-model.onnx", "tiny_random": DATA / "tiny_random/decoder_joint-rnnt_la13.onnx",
    }
    cases = []
    for name, path in graphs.items():
        goldens, model, changed = np.load(DATA / f"{name}.npz"), OnnxModel(str(path)), 0
        for clip, lookahead, beam, hotwords, lm, keep in cases_of(name, BEAMS):
            fusion, alpha = None, 0.0
            if hotwords:
                ids = [tokenizer.encode(phrase) for phrase in hotwords]
                fusion, alpha = boosting_tree(ids, list(hotwords.values()), model.classes - 1), 1.0
            elif lm:
                fusion, alpha = load_lm(lm, model.classes - 1), 0.3
            nbest, depends = maes(model, encoded(goldens, clip, lookahead), beam, fusion, alpha)
            greedy = goldens[f"{clip}/k{lookahead}/tokens"].tolist()
            changed += nbest[0]["tokens"] != greedy
            cases.append(
                {"model": name, "clip": clip, "lookahead": lookahead, "beam": beam, "hotwords": hotwords, "lm": lm,
                 "alpha": alpha if lm else 0.0, "count": len(nbest), "depends_on_order": depends,
                 "nbest": nbest if keep else nbest[:1]}
            )
        print(f"{name}: {changed} of {len(cases)} transcripts are not greedy decoding's")
    return cases


@torch.inference_mode()
def beam_ctc(log_probs, beam, fusion=None, alpha=0.0):
    computer = BatchedBeamCTCComputer(
        blank_index=log_probs.shape[1] - 1, beam_size=beam, return_best_hypothesis=False, compute_timestamps=True,
        fusion_models=[fusion] if fusion else None, fusion_models_alpha=[alpha] if fusion else None, allow_cuda_graphs=False,
    )
    hypotheses = computer.batched_beam_search_torch(log_probs[None].clone(), torch.tensor([len(log_probs)]))
    return listed(hypotheses.to_nbest_hyps_list(score_norm=False))


def ctc_tables():
    cases = []
    for seed, (tokens, frames, beam, fusion) in enumerate(
        (tokens, frames, beam, fusion)
        for tokens, frames in ((5, 40), (14, 60), (40, 40))
        for beam in (1, 2, 4, 8)
        for fusion in ("none", "boosting", "lm")
    ):
        draw = random.Random(500 + seed)
        case = {"seed": 7000 * seed, "tokens": tokens, "frames": frames, "beam": beam, "phrases": [], "weights": [], "lm": "",
                "alpha": 0.0}
        model, alpha = None, 0.0
        if fusion == "boosting":
            case["phrases"] = phrases_of(draw, tokens, 6)
            case["weights"] = [draw.choice([0.5, 1.0, 1.75]) for _ in case["phrases"]]
            model, alpha = boosting_tree(case["phrases"], case["weights"], tokens), 1.0
        elif fusion == "lm":
            case["lm"] = f"random_{tokens}.arpa"
            model, alpha = load_lm(case["lm"], tokens), draw.choice([0.25, 0.5, 1.0])
            case["alpha"] = alpha
        log_probs = torch.stack([row(case["seed"] + frame, tokens + 1) for frame in range(frames)])
        log_probs[:, tokens] += 2
        case["nbest"] = beam_ctc(log_probs, beam, model, alpha)
        cases.append(case)
    return cases


def ctc_head(path):
    """Weights [classes, width] and bias of the convolution that ends a CTC graph."""
    graph = onnx.load(path).graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    head = [node for node in graph.node if node.op_type == "Conv"][-1]
    weights, bias = (constants[name] for name in head.input[1:])
    return torch.from_numpy(weights[..., 0].copy()), torch.from_numpy(bias.copy())


def ctc():
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tiny_random" / "tokenizer.model"))
    cases = []
    for name, path in {"trained": DEMO / "ctc.onnx", "tiny_random": DATA / "tiny_random/ctc_la13.onnx"}.items():
        goldens, (weights, bias), changed = np.load(DATA / f"{name}.npz"), ctc_head(str(path)), 0
        for clip, lookahead, beam, hotwords, lm, keep in cases_of(name, BEAMS):
            log_probs = torch.log_softmax(encoded(goldens, clip, lookahead) @ weights.T + bias, dim=-1)
            greedy = goldens[f"{clip}/k{lookahead}/ctc"]
            assert (log_probs.argmax(-1).numpy() == greedy).all(), (name, clip, lookahead)
            blank, fusion, alpha = len(bias) - 1, None, 0.0
            if hotwords:
                ids = [tokenizer.encode(phrase) for phrase in hotwords]
                fusion, alpha = boosting_tree(ids, list(hotwords.values()), blank), 1.0
            elif lm:
                fusion, alpha = load_lm(lm, blank), 0.3
            nbest = beam_ctc(log_probs, beam, fusion, alpha)
            plain = [int(id) for id, before in zip(greedy, [blank, *greedy]) if id not in (before, blank)]
            changed += nbest[0]["tokens"] != plain
            cases.append(
                {"model": name, "clip": clip, "lookahead": lookahead, "beam": beam, "hotwords": hotwords, "lm": lm,
                 "alpha": alpha if lm else 0.0, "count": len(nbest), "nbest": nbest if keep else nbest[:1]}
            )
        print(f"{name}, CTC: {changed} of {len(cases)} transcripts are not greedy decoding's")
    return cases


def write_lm(name, sentences, order):
    """An n-gram model with absolute discounting: not a good one, but one with back-off everywhere."""
    padded = [("<s>", *(chr(token + DEFAULT_TOKEN_OFFSET) for token in sentence), "</s>") for sentence in sentences]
    counts = [
        Counter(sentence[at : at + n] for sentence in padded for at in range(len(sentence) - n + 1)) for n in range(1, order + 1)
    ]
    counts[0][("<unk>",)] = 1
    lines = ["\\data\\", *(f"ngram {n}={len(table)}" for n, table in enumerate(counts, 1)), ""]
    for n, table in enumerate(counts, 1):
        contexts = Counter()
        for symbols, count in table.items():
            contexts[symbols[:-1]] += count
        lines.append(f"\\{n}-grams:")
        for symbols, count in sorted(table.items()):
            weight = -99 if symbols == ("<s>",) else math.log10(max(count - 0.4, 0.1) / contexts[symbols[:-1]])
            has_backoff = n < order and symbols[-1] != "</s>"
            backoff = f"\t{-0.15 * n - 0.02 * (len(table) % 7):.6g}" if has_backoff else ""
            lines.append(f"{weight:.6g}\t{' '.join(symbols)}{backoff}")
        lines.append("")
    lines.append("\\end\\\n")
    (OUT / name).write_text("\n".join(lines), encoding="utf-8")


def load_lm(name, tokens):
    return NGramGPULanguageModel.from_arpa(OUT / name, vocab_size=tokens, use_triton=False)


def language_models():
    for tokens in (5, 14, 40):
        draw = random.Random(tokens)
        # Not all tokens, so that some are unknown.
        sentences = [[draw.randrange(tokens * 4 // 5) for _ in range(draw.randint(1, 9))] for _ in range(12)]
        write_lm(f"random_{tokens}.arpa", sentences, 3)
    tokenizer = sentencepiece.SentencePieceProcessor(model_file=str(DATA / "tiny_random" / "tokenizer.model"))
    texts = json.loads((DATA / "texts.json").read_text(encoding="utf-8"))["trained"]
    lines = {text for clip in texts.values() for by_decoder in clip.values() for text in by_decoder.values() if text}
    lines |= {"turn on the kitchen light", "stop the music", "call the garden", "one two three four", "open the bedroom door"}
    write_lm("sentences.arpa", [tokenizer.encode(line) for line in sorted(lines)], 4)
    cases = []
    for name, tokens in (("random_5", 5), ("random_14", 14), ("random_40", 40), ("sentences", 128)):
        model, draw = load_lm(f"{name}.arpa", tokens), random.Random(9)
        state, walk, rows, finals = model.get_init_states(batch_size=1, bos=True), [], [], []
        for _ in range(12 if tokens > 100 else 40):
            scores, states = model.advance(state)
            finals.append(round(float(model.get_final(state)), 5))
            rows.append([round(float(score), 5) for score in scores[0]])
            # Likely tokens, so that contexts are long.
            best = scores[0].topk(3).indices.tolist()
            walk.append(draw.choice(best + [draw.randrange(tokens)]))
            state = states[:, walk[-1]]
        cases.append({"lm": f"{name}.arpa", "tokens": tokens, "walk": walk, "scores": rows, "finals": finals})
    return cases


def write(name, value):
    lines = ",\n".join(json.dumps(one, ensure_ascii=False, separators=(",", ":")) for one in value)
    (OUT / name).write_text(f"[\n{lines}\n]\n", encoding="utf-8")


@torch.no_grad()
def main():
    OUT.mkdir(parents=True, exist_ok=True)
    write("lm.json", language_models())
    write("rnnt_tables.json", rnnt_tables())
    write("ctc_tables.json", ctc_tables())
    write("ctc.json", ctc())
    write("rnnt.json", rnnt())


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Compute with NeMo the confidences that the recognizer must reproduce.

    python3 tools/gen_confidence_goldens.py        (needs nemo_toolkit[asr]==2.7.3)

Writes tests/data/confidence.json: for rows of logits, which both sides compute from a seed, the confidence of each measure of
NeMo's bank; and the confidences of the tokens of NeMo's greedy CTC decoding, where tokens last several frames.
"""
import json
from pathlib import Path

import torch
from nemo.collections.asr.parts.submodules.ctc_decoding import CTCDecoding, CTCDecodingConfig
from nemo.collections.asr.parts.utils.asr_confidence_utils import (
    ConfidenceConfig, ConfidenceMethodConfig, get_confidence_measure_bank,
)

from gen_boosting_goldens import table

OUT = Path(__file__).resolve().parents[1] / "tests" / "data" / "confidence.json"
ALPHAS = (0.33, 0.5, 1.0, 2.0)
VOCABULARY = ["a", "b", "c", "d", "e"]


def measures():
    cases = []
    for seed, classes in ((1, 5), (2, 129), (3, 1025)):
        rows = table(seed, 8, classes)
        # From nearly uniform to nearly certain.
        rows = rows * torch.tensor([0.01, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0])[:, None]
        log_probs = torch.log_softmax(rows.double(), dim=-1)
        for name, measure in get_confidence_measure_bank().items():
            for alpha in ALPHAS:
                values = measure(torch.nan_to_num(log_probs), v=classes, t=alpha)
                cases.append(
                    {"seed": seed, "classes": classes, "measure": name.replace("_", "-"), "alpha": alpha,
                     "confidences": [round(float(value), 6) for value in values]}
                )
    return cases


def ctc():
    cases = []
    for aggregation in ("mean", "min", "max", "prod"):
        for measure in ("max_prob", "tsallis", "renyi"):
            method = ConfidenceMethodConfig(
                name="max_prob" if measure == "max_prob" else "entropy",
                entropy_type="tsallis" if measure == "max_prob" else measure, alpha=0.33, entropy_norm="exp",
            )
            confidence = ConfidenceConfig(
                preserve_frame_confidence=True, preserve_token_confidence=True,
                exclude_blank=True, aggregation=aggregation, method_cfg=method,
            )
            decoding = CTCDecoding(CTCDecodingConfig(strategy="greedy", confidence_cfg=confidence), VOCABULARY)
            classes = len(VOCABULARY) + 1
            logits = table(7, 60, classes)
            # Tokens last for two frames or three.
            logits = logits.repeat_interleave(torch.tensor([2, 3] * 30), dim=0)[:120]
            log_probs = torch.log_softmax(logits, dim=-1)
            hypothesis = decoding.ctc_decoder_predictions_tensor(
                log_probs[None], torch.tensor([len(log_probs)]), return_hypotheses=True
            )[0]
            name = "max-prob" if measure == "max_prob" else f"entropy-{measure}-exp"
            cases.append(
                {"seed": 7, "frames": 60, "measure": name, "aggregation": aggregation,
                 "tokens": [round(float(value), 6) for value in hypothesis.token_confidence]}
            )
    return cases


if __name__ == "__main__":
    OUT.write_text(json.dumps({"measures": measures(), "ctc": ctc()}, separators=(",", ":")) + "\n")

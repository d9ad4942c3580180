#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Build a small model of Nemotron's shape with NeMo, export it, and write NeMo's reference output for a clip.

    python3 tools/gen_nemotron_fixture.py DEMO.nemo        (needs nemo_toolkit[asr]==2.7.3 and soundfile)

128 mels, 56 frames of left context with lookaheads 0, 1, 3, 6 and 13, and two LSTM layers in the prediction network, as
in nemotron-3.5-asr-streaming-0.6b, but 3 layers of width 64 instead of 24 of 1024, and random weights. DEMO.nemo is the
checkpoint of the built-in model; only its configuration and vocabulary are used. Writes, below
tests/data/nemotron_shape: the export (with a smaller position table, see test_data.py), tokens.txt, and goldens.npz
with enc, tokens and token_frames of u2_digits for each lookahead kR.
"""
import copy
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile
import torch
from nemo.collections.asr.models import ASRModel
from omegaconf import open_dict
from test_data import OUT, cut_positions

LOOKAHEADS = (0, 1, 3, 6, 13)
LEFT, MELS, WIDTH, HIDDEN = 56, 128, 64, 96


def build(checkpoint, tokenizer):
    demo = ASRModel.restore_from(checkpoint, map_location="cpu")
    config = copy.deepcopy(demo.cfg)
    pieces = demo.tokenizer.ids_to_tokens(list(range(demo.tokenizer.vocab_size)))
    # The two models of the test data share a tokenizer.
    shutil.copy(OUT / "tiny_random" / "tokenizer.model", tokenizer)
    (tokenizer / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
    with open_dict(config):
        config.preprocessor.features = config.encoder.feat_in = MELS
        config.encoder.update(d_model=WIDTH, n_layers=3, n_heads=4, att_context_probs=None)
        config.encoder.att_context_size = [[LEFT, r] for r in reversed(LOOKAHEADS)]
        config.decoder.prednet.update(pred_rnn_layers=2, pred_hidden=HIDDEN)
        config.joint.jointnet.update(encoder_hidden=WIDTH, pred_hidden=HIDDEN)
        config.model_defaults.update(enc_hidden=WIDTH, pred_hidden=HIDDEN)
        config.aux_ctc.decoder.feat_in = WIDTH
        config.tokenizer = {"dir": str(tokenizer), "type": "bpe"}
        for data in ("train_ds", "validation_ds", "test_ds"):
            config[data] = None
    torch.manual_seed(1)
    model = type(demo)(cfg=config).eval()
    with torch.no_grad():
        # Random weights emit the same token in every frame. Larger ones add variation, a likely blank adds pauses.
        model.joint.enc.weight.mul_(15)
        model.joint.pred.weight.mul_(20)
        model.joint.joint_net[-1].weight.mul_(5)
        model.joint.joint_net[-1].bias[-1] += 25
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    return model, pieces


def main(checkpoint):
    target = OUT / "nemotron_shape"
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        model, pieces = build(checkpoint, scratch)
        samples, _ = soundfile.read(OUT / "wav" / "u2_digits.wav", dtype="float32")
        signal, length = torch.tensor(samples)[None], torch.tensor([len(samples)])
        goldens = {}
        for lookahead in LOOKAHEADS:
            model.encoder.set_default_att_context_size([LEFT, lookahead])
            with torch.no_grad():
                mel, _ = model.preprocessor(input_signal=signal, length=length)
                encoded, frames = model.encoder(audio_signal=mel, length=torch.tensor([mel.shape[-1]]))
                decode = model.decoding.rnnt_decoder_predictions_tensor
                hypothesis = decode(encoded, frames, return_hypotheses=True)[0]
            goldens[f"u2_digits/k{lookahead}/enc"] = encoded[0].numpy()
            tokens = np.array([int(i) for i in hypothesis.y_sequence], np.int32)
            goldens[f"u2_digits/k{lookahead}/tokens"] = tokens
            goldens[f"u2_digits/k{lookahead}/token_frames"] = np.array([int(i) for i in hypothesis.timestamp], np.int32)
            print(lookahead, len(tokens), "tokens,", len(set(tokens)), "different")
        np.savez(target / "goldens.npz", **goldens)
        model.encoder.set_default_att_context_size([LEFT, LOOKAHEADS[-1]])
        model.set_export_config({"decoder_type": "rnnt", "cache_support": True})
        model.export(str(scratch / "model.onnx"))
        cut_positions(scratch / "encoder-model.onnx", target / "encoder-model.onnx")
        shutil.copy(scratch / "decoder_joint-model.onnx", target)
    lines = [f"{piece} {number}\n" for number, piece in enumerate(pieces)] + [f"<blk> {len(pieces)}\n"]
    (target / "tokens.txt").write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

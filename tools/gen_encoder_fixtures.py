#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Export small encoders with NeMo that differ in everything that the graph compiler must not assume.

    python3 tools/gen_encoder_fixtures.py DEMO.nemo        (needs nemo_toolkit[asr]==2.7.3)

Each has random weights, a CTC head and the vocabulary of tests/data/tiny_random. They differ in width, heads, layers,
kernel size, biases, left context and kind of normalization. DEMO.nemo is the checkpoint of the built-in model; only its
configuration and vocabulary are used. Writes, below tests/data/plan: NAME/ctc.onnx (with a smaller position table, see
test_data.py) and NAME/tokens.txt.
"""
import copy
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from nemo.collections.asr.models import ASRModel
from omegaconf import open_dict
from test_data import OUT, cut_positions

LOOKAHEADS = (13, 6, 1, 0)
COMMON = {"subsampling_conv_channels": 16, "att_context_probs": None}
VARIANTS = {
    "wide_kernel": dict(d_model=32, n_heads=2, n_layers=2, conv_kernel_size=31),
    "no_bias": dict(d_model=48, n_heads=4, n_layers=3, conv_kernel_size=9, use_bias=False),
    "one_head": dict(d_model=24, n_heads=1, n_layers=1, conv_kernel_size=5, xscaling=False),
    "batch_norm": dict(d_model=40, n_heads=5, n_layers=2, conv_kernel_size=7, conv_norm_type="batch_norm"),
    "short_context": dict(d_model=64, n_heads=8, n_layers=2, conv_kernel_size=3, ff_expansion_factor=2, left=42),
}


def build(demo, tokenizer, changes):
    config = copy.deepcopy(demo.cfg)
    left = changes.pop("left", 70)
    with open_dict(config):
        config.encoder.update(**COMMON, **changes)
        config.encoder.att_context_size = [[left, r] for r in LOOKAHEADS]
        width = changes["d_model"]
        config.decoder.prednet.update(pred_hidden=8)
        config.joint.jointnet.update(encoder_hidden=width, pred_hidden=8, joint_hidden=8)
        config.model_defaults.update(enc_hidden=width, pred_hidden=8)
        config.aux_ctc.decoder.feat_in = width
        config.tokenizer = {"dir": str(tokenizer), "type": "bpe"}
        for data in ("train_ds", "validation_ds", "test_ds"):
            config[data] = None
    model = type(demo)(cfg=config).eval()
    with torch.no_grad():
        for module in model.encoder.modules():
            # Initially a norm is the identity and a running mean is zero: tests would not notice if they were dropped.
            if isinstance(module, (torch.nn.LayerNorm, torch.nn.BatchNorm1d)):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_(std=0.1)
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.1)
                module.running_var.uniform_(0.5, 1.5)
        for layer in model.encoder.layers:
            layer.self_attn.pos_bias_u.normal_(std=0.3)
            layer.self_attn.pos_bias_v.normal_(std=0.3)
    model.encoder.set_default_att_context_size([left, LOOKAHEADS[0]])
    return model


def main(checkpoint):
    demo = ASRModel.restore_from(checkpoint, map_location="cpu")
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        pieces = demo.tokenizer.ids_to_tokens(list(range(demo.tokenizer.vocab_size)))
        shutil.copy(OUT / "tiny_random" / "tokenizer.model", scratch)
        (scratch / "vocab.txt").write_text("\n".join(pieces), encoding="utf-8")
        for name, changes in VARIANTS.items():
            target = OUT / "plan" / name
            target.mkdir(parents=True, exist_ok=True)
            model = build(demo, scratch, dict(changes))
            model.set_export_config({"decoder_type": "ctc", "cache_support": True})
            model.export(str(scratch / "ctc.onnx"))
            cut_positions(scratch / "ctc.onnx", target / "ctc.onnx")
            shutil.copy(OUT / "tiny_random" / "tokens.txt", target)
            print(name, (target / "ctc.onnx").stat().st_size, "bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Small models of the shape of each published checkpoint, exported in the same way, with NeMo's reference values."""
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import nemo as nemo_package
import numpy as np
import torch
from build import DATA, HIDDEN, LAYERS, PLAIN, PUNCTUATED, WIDTH, build, config, calibrate, tokenizer, scratch_directory
from export import CACHES, BatchFirst, LayersFirst, add_metadata, nemo, move_weights_out, parts, sherpa_metadata, trace
from export import write_tokens, zeros
from goldens import collect, encode, mel_of
from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel, EncDecRNNTBPEModel
from streaming import Graph, drop_input, exact, fused, greedy, split

OUT = DATA / "kinds"
# Some of the 128 prompts of nemotron-3.5-asr-streaming-0.6b. Several names can share an index.
PROMPTS = {"auto": 101, "de": 9, "de-DE": 9, "en": 0, "en-GB": 1, "en-US": 0, "es": 3, "es-ES": 2, "es-US": 3, "fr": 8,
           "fr-FR": 8, "ja-JP": 10}
TAGS = ("<en-US>", "<en-GB>", "<es-ES>", "<es-US>", "<fr-FR>", "<de-DE>", "<ja-JP>")


class Kind(NamedTuple):
    left: int
    lookaheads: tuple
    mels: int
    lstms: int
    sentences: tuple = PLAIN
    special: tuple = ()
    hybrid: bool = False
    seed: int = 1


KINDS = {
    # parakeet_realtime_eou_120m-v1: the last two tokens mark the end of a turn and a backchannel.
    "eou": Kind(70, (1,), 128, 1, special=("<EOU>", "<EOB>"), seed=3),
    # stt_en_fastconformer_hybrid_medium_streaming_80ms_pc
    "single_80ms_pc": Kind(70, (1,), 80, 1, sentences=PUNCTUATED, hybrid=True, seed=2),
    # nemotron-speech-streaming-en-0.6b
    "nemotron_en": Kind(70, (0, 1, 6, 13), 128, 2, sentences=PUNCTUATED, seed=4),
    # nemotron-3.5-asr-streaming-0.6b; its class was added in NeMo 3
    "nemotron_multi": Kind(56, (0, 1, 3, 6, 13), 128, 2, sentences=PUNCTUATED, special=TAGS),
}
TESTED_PROMPTS = (0, 9, 101)  # en-US, de-DE, auto


def write(checkpoints):
    """Write all kinds that this NeMo version can build, and CHECKPOINTS/NAME.nemo for each."""
    newer = int(nemo_package.__version__.split(".")[0]) >= 3
    for name, kind in KINDS.items():
        if newer == (name == "nemotron_multi"):
            with scratch_directory() as scratch:
                write_kind(name, kind, Path(scratch), checkpoints)


def write_kind(name, kind, tokens, checkpoints):
    pieces = tokenizer(tokens, kind.sentences, special=kind.special)
    contexts = [[kind.left, r] for r in reversed(kind.lookaheads)]
    settings = config(tokens, contexts, mels=kind.mels, lstms=kind.lstms, hybrid=kind.hybrid)
    prompts = (None,)
    if name == "nemotron_multi":
        from nemo.collections.asr.models.rnnt_bpe_models_prompt import EncDecRNNTBPEModelWithPrompt as cls

        prompts = TESTED_PROMPTS
        settings.model_defaults.update({
            "initialize_prompt_feature": True, "num_prompts": 128, "prompt_dictionary": PROMPTS,
        })
    else:
        cls = EncDecHybridRNNTCTCBPEModel if kind.hybrid else EncDecRNNTBPEModel
    model = build(cls, settings, kind.seed)
    mel = mel_of(model, "u2_digits")
    if prompts != (None,):
        with torch.no_grad():
            # With random weights the prompt hardly has an effect compared with the encoder.
            model.prompt_kernel[0].weight[:, WIDTH:].mul_(3)
    few = kind.lookaheads[-3:] if prompts == (None,) else kind.lookaheads[-1:]
    encoded = [encode(model, mel, kind.left, r, p)[0] for r in few for p in prompts]
    required = [pieces.index(token) for token in kind.special if token in ("<EOU>", "<EOB>", "<en-US>", "<de-DE>")]
    calibrate(model, torch.cat(encoded), 40, required)
    model.save_to(str(checkpoints / f"{name}.nemo"))

    found = collect(model, kind.left, kind.lookaheads, prompts=prompts)
    target = new_folder(name)
    found = {key: value for key, value in found.items() if not key.endswith(("mel", "ctc"))}
    np.savez(target / "goldens.npz", **found)
    if prompts == (None,):
        nemo(model, target, kind.left, kind.lookaheads[-1])
        write_tokens(target, pieces)
        check(name, kind, mel[0].numpy(), found, target)
    else:
        multilingual(model, kind, target, pieces, tokens)
        for folder in (target, parakeet_rs_folder(target)):
            for prompt in prompts:
                check(name, kind, mel[0].numpy(), found, folder, prompt)


def multilingual(model, kind, target, pieces, tokens):
    """Write the layout of sherpa-onnx's nemotron-3.5 script, and in a second folder that of parakeet-rs."""
    lookahead = kind.lookaheads[-1]
    parts(model, target, kind.left, lookahead)
    signal = zeros(model, 17 + 8 * lookahead)
    inputs = ["audio_signal", "length", *CACHES, "prompt_index"]
    outputs = ["outputs", "encoded_lengths", "cache_last_channel_next", "cache_last_time_next"]
    outputs.append("cache_last_channel_next_len")
    prompt = torch.tensor([PROMPTS["auto"]])
    dynamic = {name: {0: "batch"} for name in [*inputs, *outputs]}
    dynamic |= {name: {0: "batch", 2: "time"} for name in ("audio_signal", "outputs")}
    dynamic |= {f"cache_last_channel{end}": {0: "batch", 2: "cache_channel_time"} for end in ("", "_next")}
    dynamic |= {f"cache_last_time{end}": {0: "batch", 3: "cache_time_width"} for end in ("", "_next")}
    trace(BatchFirst(model), [*signal, prompt], target / "encoder.onnx", inputs, outputs, dynamic)
    prediction = {"pred_rnn_layers": kind.lstms, "pred_hidden": HIDDEN}
    more = {
        "feat_dim": kind.mels, "chunk_size_ms": 80 * (lookahead + 1), "auto_prompt_id": PROMPTS["auto"],
        "prompt_dictionary": json.dumps(PROMPTS, sort_keys=True),
    }
    add_metadata(target / "encoder.onnx", **sherpa_metadata(model, lookahead, **prediction), **more)
    write_tokens(target, pieces)

    second = new_folder(parakeet_rs_folder(target).name)
    names = ["processed_signal", "processed_signal_length", *CACHES, "prompt_index"]
    signal = zeros(model, 17 + 8 * lookahead, layers_first=True)
    trace(
        LayersFirst(model), [*signal, prompt], second / "encoder.onnx", names,
        ["encoded", "encoded_len", *(f"{name}_next" for name in CACHES)],
        {"processed_signal": {0: "batch", 2: "time"}, "processed_signal_length": {0: "batch"},
         "encoded": {0: "batch", 2: "time"}, "encoded_len": {0: "batch"}, "prompt_index": {0: "batch"}},
    )
    add_metadata(second / "encoder.onnx", chunk_size_output_frames=lookahead + 1, pre_encode_cache=9)
    move_weights_out(second / "encoder.onnx")
    with scratch_directory() as scratch:
        nemo(model, scratch, kind.left, lookahead)
        shutil.copy(Path(scratch) / "decoder_joint-model.onnx", second / "decoder_joint.onnx")
    shutil.copy(tokens / "tokenizer.model", second)


def parakeet_rs_folder(target):
    return target.parent / f"{target.name}_parakeet_rs"


def new_folder(name):
    target = OUT / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return target


def check(name, kind, mel, goldens, folder, prompt=None):
    """Compare ONNX Runtime on NeMo's windows with NeMo: encoder output, tokens and their frames."""
    channel = np.zeros((1, LAYERS, kind.left, WIDTH), np.float32)
    time = np.zeros((1, LAYERS, WIDTH, 8), np.float32)
    at = lambda file: str(folder / file)
    if (folder / "joiner.onnx").exists():
        encoder, step = "encoder.onnx", split(Graph(at("decoder.onnx")), Graph(at("joiner.onnx")))
    elif (folder / "decoder_joint.onnx").exists():
        encoder, step = "encoder.onnx", fused(Graph(at("decoder_joint.onnx")))
        channel, time = channel.swapaxes(0, 1), time.swapaxes(0, 1)
    else:
        encoder, step = "encoder-model.onnx", fused(Graph(at("decoder_joint-model.onnx")))
    graph = Graph(drop_input(folder / encoder))
    run = graph if prompt is None else lambda *values: graph(*values[:-1], [prompt], values[-1])
    for lookahead in kind.lookaheads:
        key = f"u2_digits/k{lookahead}" + ("" if prompt is None else f"/p{prompt}")
        frames = exact(mel, lookahead, run, [channel, time, [0]])
        tokens, at_frames, gap = greedy(frames, step, 128, kind.lstms, HIDDEN)
        off = np.abs(frames.T - goldens[f"{key}/enc"]).max()
        special = sum(token >= 128 - len(kind.special) for token in tokens)
        counts = f"{len(tokens)} tokens, {len(set(tokens))} different, {special} special"
        print(f"{folder.name} {key}: off by {off:.1e}, {counts}, gap {gap:.1e}", flush=True)
        assert off < 1e-4 and gap > 1e-3
        assert tokens == goldens[f"{key}/tokens"].tolist() and at_frames == goldens[f"{key}/token_frames"].tolist()

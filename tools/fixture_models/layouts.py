# SPDX-License-Identifier: MIT OR Apache-2.0
"""One model in every layout in use, and a check that each of them produces the same output as NeMo's."""
import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import torch
from build import DATA, HIDDEN, TOKENS, LAYERS, WIDTH, build, config, calibrate, tokenizer, scratch_directory
from export import CACHES, FramesFirst, Joint, LayersFirst, MelCache, Prediction, add_metadata, move_weights_out, nemo
from export import parts, sherpa_metadata, trace, write_tokens, zeros
from goldens import collect, encode, mel_of
from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel
from onnxconverter_common import float16
from onnxruntime.quantization import QuantType, quantize_dynamic
from streaming import Graph, drop_input, exact, fused, greedy, padded, split

OUT = DATA / "layouts"
LEFT, LOOKAHEADS, MELS = 70, (0, 1, 6, 13), 80
EOU, GENAI = 1, 6  # lookaheads of the layouts with fixed shapes


def sherpa(model, pieces):
    target = new_folder("sherpa")
    parts(model, target, LEFT, 13)
    prediction = {"pred_rnn_layers": model.decoder.pred_rnn_layers, "pred_hidden": model.decoder.pred_hidden}
    add_metadata(target / "encoder.onnx", **sherpa_metadata(model, 13, **prediction))
    write_tokens(target, pieces)

    ctc = new_folder("sherpa_ctc")
    model.change_decoding_strategy(decoder_type="ctc")
    nemo(model, ctc, LEFT, 13, "ctc")
    model.change_decoding_strategy(decoder_type="rnnt")
    add_metadata(ctc / "model.onnx", **sherpa_metadata(model, 13))
    write_tokens(ctc, pieces)

    small = new_folder("sherpa_int8")
    for name in ("encoder", "decoder", "joiner"):
        quantize_dynamic(target / f"{name}.onnx", small / f"{name}.int8.onnx", weight_type=QuantType.QUInt8)
    write_tokens(small, pieces)


def fp16(pieces):
    for name, keep in (("fp16", False), ("fp16_io32", True)):
        target = new_folder(name)
        for file in ("encoder-model.onnx", "decoder_joint-model.onnx"):
            graph = onnx.load(OUT / "nemo" / file)
            casts = {node.name for node in graph.graph.node if node.op_type == "Cast"}
            half = float16.convert_float_to_float16(graph, keep_io_types=keep)
            for node in half.graph.node:
                # The converter does not change casts to float that were in the graph before.
                if node.name in casts and node.attribute[0].i == onnx.TensorProto.FLOAT:
                    node.attribute[0].i = onnx.TensorProto.FLOAT16
            onnx.save(half, target / file)
        write_tokens(target, pieces)


def external(pieces):
    target = new_folder("external")
    for file in ("encoder-model.onnx", "decoder_joint-model.onnx"):
        shutil.copy(OUT / "nemo" / file, target)
    move_weights_out(target / "encoder-model.onnx")
    move_weights_out(target / "decoder_joint-model.onnx", single=False)
    write_tokens(target, pieces)


def parakeet_rs(model, tokens):
    target = new_folder("parakeet_rs")
    encoder = target / "encoder.onnx"
    model.encoder.set_default_att_context_size([LEFT, 13])
    trace(
        LayersFirst(model), zeros(model, 121, layers_first=True), encoder,
        ["processed_signal", "processed_signal_length", *CACHES],
        ["encoded", "encoded_len", *(f"{name}_next" for name in CACHES)],
        {"processed_signal": {0: "batch", 2: "time"}, "processed_signal_length": {0: "batch"},
         "encoded": {0: "batch", 1: "time"}, "encoded_len": {0: "batch"}},
    )
    add_metadata(encoder, chunk_size_output_frames=14, pre_encode_cache=9)
    move_weights_out(encoder)
    shutil.copy(OUT / "nemo" / "decoder_joint-model.onnx", target / "decoder_joint.onnx")
    shutil.copy(tokens / "tokenizer.model", target)


def genai(model, pieces):
    target = new_folder("genai")
    width, hidden, lstms = model.encoder.d_model, model.decoder.pred_hidden, model.decoder.pred_rnn_layers
    frames = 17 + 8 * GENAI
    model.encoder.set_default_att_context_size([LEFT, GENAI])
    signal, *rest = zeros(model, frames)
    outs = ["outputs", "encoded_lengths", *(f"{name}_next" for name in CACHES)]
    trace(FramesFirst(model.encoder), [signal.transpose(1, 2), *rest], target / "encoder.onnx",
          ["audio_signal", "length", *CACHES], outs)
    move_weights_out(target / "encoder.onnx")
    state = [torch.zeros(lstms, 1, hidden)] * 2
    trace(Prediction(model.decoder, False), [torch.zeros(1, 1, dtype=torch.int64), *state], target / "decoder.onnx",
          ["targets", "h_in", "c_in"], ["decoder_output", "h_out", "c_out"])
    trace(Joint(model.joint), [torch.zeros(1, 1, width), torch.zeros(1, 1, hidden)], target / "joint.onnx",
          ["encoder_output", "decoder_output"], ["joint_output"])
    same = lambda *of: {name: name for name in of}
    described = {
        "type": "nemotron_speech", "vocab_size": len(pieces) + 1, "num_mels": MELS, "fft_size": 512, "hop_length": 160,
        "win_length": 400, "preemph": 0.97, "log_eps": 5.96046448e-08, "subsampling_factor": 8, "left_context": LEFT,
        "conv_context": 8, "pre_encode_cache_size": 9, "sample_rate": 16000, "chunk_samples": 1280 * (GENAI + 1),
        "blank_id": len(pieces), "max_symbols_per_step": 10,
        "encoder": {
            "filename": "encoder.onnx", "hidden_size": width, "num_hidden_layers": len(model.encoder.layers),
            "inputs": {"audio_features": "audio_signal", "input_lengths": "length", **same(*CACHES)},
            "outputs": {"encoder_outputs": "outputs", "output_lengths": "encoded_lengths", **same(*outs[2:])},
        },
        "decoder": {
            "filename": "decoder.onnx", "hidden_size": hidden, "num_hidden_layers": lstms,
            "inputs": {"targets": "targets", "lstm_hidden_state": "h_in", "lstm_cell_state": "c_in"},
            "outputs": {"outputs": "decoder_output", "lstm_hidden_state": "h_out", "lstm_cell_state": "c_out"},
        },
        "joiner": {
            "filename": "joint.onnx",
            "inputs": {"encoder_outputs": "encoder_output", "decoder_outputs": "decoder_output"},
            "outputs": {"logits": "joint_output"},
        },
    }
    write_json(target / "genai_config.json", {"model": described})
    write_json(target / "audio_processor_config.json", {"model_type": "speech_features", "audio_params": {
        "sample_rate": 16000, "n_fft": 512, "hop_length": 160, "n_mels": MELS, "window_length": 400,
        "window_type": "hann", "fmin": 0, "fmax": 8000, "dither": 0.0, "preemphasis": 0.97,
        "log_zero_guard_type": "add", "log_zero_guard_value": 1e-10, "normalize": "NA", "center": True,
        "mag_power": 2.0,
    }})
    (target / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def eou6(model, pieces):
    target = new_folder("eou6")
    width, hidden, lstms = model.encoder.d_model, model.decoder.pred_hidden, model.decoder.pred_rnn_layers
    frames = 8 + 8 * EOU
    model.encoder.set_default_att_context_size([LEFT, EOU])
    signal, length, channel, time, channel_len = zeros(model, frames, layers_first=True)
    names = ["pre_cache", *CACHES]
    trace(
        MelCache(model.encoder), [signal, length.int(), torch.zeros(1, MELS, 9), channel, time, channel_len.int()],
        target / "encoder.onnx", ["audio_signal", "audio_length", *names],
        ["encoded_output", "encoded_length", *(f"new_{name}" for name in names)],
    )
    state = [torch.zeros(lstms, 1, hidden)] * 2
    trace(Prediction(model.decoder, True), [torch.zeros(1, 1, dtype=torch.int64), *state], target / "decoder.onnx",
          ["token", "h", "c"], ["decoder_output", "h_out", "c_out"])
    trace(Joint(model.joint), [torch.zeros(1, 1, width), torch.zeros(1, 1, hidden)], target / "joint.onnx",
          ["encoder_output", "decoder_output"], ["logits"])
    write_json(target / "vocab.json", {str(number): piece for number, piece in enumerate(pieces)})
    write_json(target / "config.json", {
        "sampleRate": 16000, "melBins": MELS, "preCacheSize": 9, "subsamplingFactor": 8, "blankId": len(pieces),
    })


def new_folder(name):
    target = OUT / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    return target


def write_json(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write(checkpoints):
    """Write all layouts, goldens.npz, and CHECKPOINTS/layouts.nemo."""
    with scratch_directory() as scratch:
        tokens = Path(scratch)
        pieces = tokenizer(tokens)
        contexts = [[LEFT, r] for r in reversed(LOOKAHEADS)]
        model = build(EncDecHybridRNNTCTCBPEModel, config(tokens, contexts, mels=MELS, hybrid=True))
        mel = mel_of(model, "u2_digits")
        calibrate(model, torch.cat([encode(model, mel, LEFT, r)[0] for r in LOOKAHEADS]), 40)
        model.save_to(str(checkpoints / "layouts.nemo"))
        found = collect(model, LEFT, LOOKAHEADS)
        found = {key: value for key, value in found.items() if not key.endswith("mel")}
        nemo(model, new_folder("nemo"), LEFT, 13)
        write_tokens(OUT / "nemo", pieces)
        np.savez(OUT / "goldens.npz", **found)
        sherpa(model, pieces)
        fp16(pieces)
        external(pieces)
        parakeet_rs(model, tokens)
        genai(model, pieces)
        eou6(model, pieces)
        check(mel[0].numpy(), found)


def check(mel, goldens):
    """Compare NeMo's layout with NeMo's reference values, and every other layout with NeMo's."""
    base, blank = OUT / "nemo", TOKENS
    channel = np.zeros((1, LAYERS, LEFT, WIDTH), np.float32)
    time, length = np.zeros((1, LAYERS, WIDTH, 8), np.float32), [0]
    first = [channel.swapaxes(0, 1), time.swapaxes(0, 1), length]
    decode = lambda frames, step: greedy(frames, step, blank, 1, HIDDEN)
    decoder = fused(Graph(str(base / "decoder_joint-model.onnx")))
    encoder = Graph(drop_input(base / "encoder-model.onnx"))
    for lookahead in LOOKAHEADS:
        key = f"u2_digits/k{lookahead}"
        frames = exact(mel, lookahead, encoder, [channel, time, length])
        tokens, at_frames, gap = decode(frames, decoder)
        off = np.abs(frames.T - goldens[f"{key}/enc"]).max()
        print(f"nemo k{lookahead}: {frames.shape[0]} frames off by {off:.1e}, {len(tokens)} tokens, gap {gap:.1e}")
        assert off < 1e-4 and tokens == goldens[f"{key}/tokens"].tolist() and gap > 1e-3
        assert at_frames == goldens[f"{key}/token_frames"].tolist()

    whole = Graph(str(base / "encoder-model.onnx"))
    from_channels_first = lambda found: np.concatenate([e[0][:, :n].T for e, n in found])
    from_frames_first = lambda found: np.concatenate([e[0][:n] for e, n in found])
    plain = [channel, time, length]

    def compare(name, frames, step, lookahead, limit=1e-4):
        reference = from_channels_first(padded(mel, lookahead, whole_at(lookahead), plain))
        tokens, expected = decode(frames, step)[0], decode(reference, decoder)[0]
        off, same = np.abs(frames - reference).max(), tokens == expected
        verdict = "as expected" if same else f"not the {len(expected)} expected ones"
        print(f"{name} k{lookahead}: off by {off:.1e}, {len(tokens)} tokens, {verdict}")
        assert off < limit and (same or limit > 1e-3)

    def whole_at(lookahead):
        # A smaller lookahead fills less of the window: the graph also outputs frames without their full right context.
        return lambda *values: cut(whole(*values), lookahead)

    def cut(outputs, lookahead):
        return [outputs[0][:, :, : lookahead + 1], np.minimum(outputs[1], lookahead + 1), *outputs[2:]]

    at = lambda name, file: str(OUT / name / file)
    separate = split(Graph(at("sherpa", "decoder.onnx")), Graph(at("sherpa", "joiner.onnx")))
    compare("sherpa", from_channels_first(padded(mel, 13, Graph(at("sherpa", "encoder.onnx")), plain)), separate, 13)
    int8 = split(Graph(at("sherpa_int8", "decoder.int8.onnx")), Graph(at("sherpa_int8", "joiner.int8.onnx")))
    encoder = Graph(at("sherpa_int8", "encoder.int8.onnx"))
    compare("sherpa_int8", from_channels_first(padded(mel, 13, encoder, plain)), int8, 13, 2)
    for name, limit in (("external", 1e-6), ("fp16", 0.1), ("fp16_io32", 0.1)):
        graphs = [Graph(at(name, file)) for file in ("encoder-model.onnx", "decoder_joint-model.onnx")]
        frames = from_channels_first(padded(mel, 13, graphs[0], plain)).astype(np.float32)
        compare(name, frames, fused(graphs[1]), 13, limit)
    encoder, step = Graph(at("parakeet_rs", "encoder.onnx")), fused(Graph(at("parakeet_rs", "decoder_joint.onnx")))
    compare("parakeet_rs", from_channels_first(padded(mel, 13, encoder, first)), step, 13)
    encoder = Graph(at("genai", "encoder.onnx"))
    transposed = lambda window, *rest: encoder(window.swapaxes(1, 2), *rest)
    step = split(Graph(at("genai", "decoder.onnx")), Graph(at("genai", "joint.onnx")), frames_first=True)
    compare("genai", from_frames_first(padded(mel, GENAI, transposed, plain)), step, GENAI)
    step = split(Graph(at("eou6", "decoder.onnx")), Graph(at("eou6", "joint.onnx")), frames_first=True)
    found = padded(mel, EOU, Graph(at("eou6", "encoder.onnx")), first, carry_inside=True)
    compare("eou6", from_frames_first(found), step, EOU)
    ctc = padded(mel, 13, Graph(at("sherpa_ctc", "model.onnx")), plain)
    print("sherpa_ctc:", len(from_frames_first(ctc)), "frames of", from_frames_first(ctc).shape[1], "logits")

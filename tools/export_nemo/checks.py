# SPDX-License-Identifier: MIT OR Apache-2.0
"""Decides which checkpoints can be exported, from their configuration alone."""

from dataclasses import dataclass, field

from .errors import ExportError

STREAMING = "a cache-aware streaming one, such as stt_en_fastconformer_hybrid_large_streaming_multi"

# Model class -> its decoders, the more accurate first.
CLASSES = {
    "EncDecHybridRNNTCTCBPEModel": ("rnnt", "ctc"),
    "EncDecHybridRNNTCTCBPEModelWithPrompt": ("rnnt", "ctc"),
    "EncDecRNNTBPEModel": ("rnnt",),
    "EncDecRNNTBPEModelWithPrompt": ("rnnt",),
    "EncDecCTCModelBPE": ("ctc",),
}

# Settings of NeMo's preprocessor that no published streaming model changes, and that no reader of exports supports.
FRONT_END = {
    "lowfreq": 0,
    "highfreq": None,
    "log": True,
    "log_zero_guard_type": "add",
    "log_zero_guard_value": 2**-24,
    "mag_power": 2.0,
    "frame_splicing": 1,
    "exact_pad": False,
    "window": "hann",
}


@dataclass
class Kind:
    """Properties of a checkpoint that can be exported."""

    name: str
    """NeMo's class."""
    decoders: tuple[str, ...]
    mels: int
    left: int
    """Left context of attention, in encoder frames."""
    lookaheads: list[int]
    """Lookaheads that it was trained with, in encoder frames."""
    frame_ms: int
    """Length of an encoder frame."""
    prompts: dict[str, int] = field(default_factory=dict)
    """Language -> prompt index; empty for models without a prompt."""
    prompt_size: int = 0


def kind_of(config: dict) -> Kind:
    """Returns the kind of a checkpoint, or raises ExportError if it is not supported."""
    name = str(config.get("target") or "").rpartition(".")[2]
    check_class(name)
    check_head(config, CLASSES[name])
    check_front_end(config.get("preprocessor") or {})
    encoder = config.get("encoder") or {}
    check_encoder(encoder)
    left, lookaheads = contexts(encoder)
    preprocessor = config["preprocessor"]
    stride_ms = float(preprocessor.get("window_stride", 0.01)) * 1000 * int(encoder.get("subsampling_factor", 8))
    kind = Kind(name, CLASSES[name], int(encoder["feat_in"]), left, lookaheads, round(stride_ms))
    defaults = config.get("model_defaults") or {}
    if name.endswith("WithPrompt") and defaults.get("initialize_prompt_feature", False):
        prompts = defaults.get("prompt_dictionary") or {}
        kind.prompts = {str(language): int(index) for language, index in prompts.items()}
        kind.prompt_size = int(defaults.get("num_prompts") or 128)
        check_prompts(kind)
    return kind


def check_class(name: str) -> None:
    if "MultiTalker" in name:
        raise ExportError(
            "this is a multitalker model: it transcribes one speaker at a time, selected by a separate Sortformer "
            f"model, which nemostt does not run; use a single-speaker model, {STREAMING}"
        )
    if not name:
        raise ExportError("its configuration names no model class (target): save it again with NeMo's save_to")
    if name not in CLASSES:
        hint = ""
        if name in ("EncDecRNNTModel", "EncDecCTCModel", "EncDecHybridRNNTCTCModel"):
            hint = " (its tokens are characters, not SentencePiece tokens)"
        raise ExportError(f"this is an {name}{hint}; supported are {', '.join(CLASSES)}: use {STREAMING}")


def check_head(config: dict, decoders: tuple[str, ...]) -> None:
    if "rnnt" not in decoders:
        return
    joint, decoder = config.get("joint") or {}, config.get("decoder") or {}
    loss = (config.get("loss") or {}).get("loss_name")
    model_type = (config.get("decoding") or {}).get("model_type")
    durations = (config.get("model_defaults") or {}).get("tdt_durations")
    if joint.get("num_extra_outputs") or loss in ("tdt", "multiblank_rnnt") or model_type == "tdt" or durations:
        what = "multi-blank" if loss == "multiblank_rnnt" else "TDT"
        raise ExportError(
            f"this is a {what} model: its joint also predicts how many frames to skip, which no streaming decoder here "
            f"supports; use an RNN-T or hybrid model, {STREAMING}"
        )
    target = str(decoder.get("_target_", "RNNTDecoder")).rpartition(".")[2]
    if target != "RNNTDecoder":
        raise ExportError(f"its prediction network is a {target}, not the LSTM RNNTDecoder: use {STREAMING}")


def check_front_end(preprocessor: dict) -> None:
    normalize = preprocessor.get("normalize", "per_feature")
    if normalize not in (None, "NA", "None", ""):
        raise ExportError(
            f"this is an offline model: its features are normalized over the whole recording (normalize: {normalize}), "
            f"which a stream does not have; use {STREAMING}"
        )
    for key, default in FRONT_END.items():
        value = preprocessor.get(key, default)
        if value not in (default, None):
            raise ExportError(
                f"its features are computed with {key}: {value}, but nemostt supports only {default}: use {STREAMING}"
            )


def check_encoder(encoder: dict) -> None:
    target = str(encoder.get("_target_", "")).rpartition(".")[2]
    if target != "ConformerEncoder":
        raise ExportError(f"its encoder is {target or 'unnamed'}, not ConformerEncoder: use {STREAMING}")
    style = encoder.get("att_context_style", "regular")
    if style != "chunked_limited":
        raise ExportError(
            f"its attention is of style {style}; only chunked_limited gives the same results in chunks with caches: "
            f"use {STREAMING}"
        )
    attention = encoder.get("self_attention_model", "rel_pos")
    if attention != "rel_pos":
        raise ExportError(
            f"its attention uses {attention} positions, which nemostt does not support: use a model with rel_pos"
        )
    causal = encoder.get("conv_context_size") == "causal" and encoder.get("causal_downsampling")
    if not causal:
        raise ExportError(
            "this is an offline model: its convolutions look ahead (conv_context_size and causal_downsampling are not "
            f"causal); use {STREAMING}"
        )
    subsampling = encoder.get("subsampling", "striding"), encoder.get("subsampling_factor", 4)
    if subsampling[1] != 8:
        raise ExportError(
            f"its subsampling factor is {subsampling[1]} mel frames, but nemostt supports only 8: use {STREAMING}"
        )
    if subsampling[0] not in ("dw_striding", "striding"):
        raise ExportError(
            f"its subsampling is {subsampling[0]}, but nemostt supports only dw_striding and striding: use {STREAMING}"
        )


def contexts(encoder: dict) -> tuple[int, list[int]]:
    """Left context and trained lookaheads from att_context_size, which is [left, R] or a list of these."""
    sizes = encoder.get("att_context_size") or [[-1, -1]]
    if isinstance(sizes[0], int):
        sizes = [sizes]
    for left, lookahead in sizes:
        if left < 0 or lookahead < 0:
            raise ExportError(
                f"this is an offline model: its attention is unlimited (att_context_size [{left}, {lookahead}]); "
                f"use {STREAMING}"
            )
        check_alignment(left, lookahead)
    left = sizes[0][0]
    if any(other != left for other, _ in sizes):
        raise ExportError(
            f"its contexts {sizes} differ in their left side, so one graph cannot serve all: use {STREAMING}"
        )
    return left, sorted({lookahead for _, lookahead in sizes})


def check_alignment(left: int, lookahead: int) -> None:
    if left % (lookahead + 1):
        raise ExportError(
            f"a left context of {left} frames is not a multiple of the chunk of {lookahead + 1} frames for a lookahead "
            f"of {lookahead} frames: NeMo's mask would split the chunk and silently halve the lookahead; "
            "use another one"
        )


def check_prompts(kind: Kind) -> None:
    if not kind.prompts:
        raise ExportError(
            "this is a prompt model without a prompt_dictionary: save it again with one in model_defaults"
        )
    bad = {name: index for name, index in kind.prompts.items() if not 0 <= index < kind.prompt_size}
    if bad:
        raise ExportError(f"its prompt_dictionary points outside its {kind.prompt_size} prompts: {bad}")


def pick_lookaheads(kind: Kind, asked_ms: list[int] | None) -> list[int]:
    """The lookaheads to export, in encoder frames: the requested ones, or all that the model was trained with."""
    if asked_ms is None:
        return kind.lookaheads
    chosen = []
    for ms in asked_ms:
        lookahead, rest = divmod(ms, kind.frame_ms)
        if rest or ms < 0:
            raise ExportError(f"a lookahead of {ms} ms is not a multiple of the {kind.frame_ms} ms of an encoder frame")
        check_alignment(kind.left, lookahead)
        if lookahead not in kind.lookaheads:
            trained = ", ".join(str(known * kind.frame_ms) for known in kind.lookaheads)
            raise ExportError(f"it was not trained with a lookahead of {ms} ms: use {trained} ms")
        chosen.append(lookahead)
    return sorted(set(chosen))

# SPDX-License-Identifier: MIT OR Apache-2.0
"""NeMo's output for the clips, which exports are compared with.

Two references per lookahead. Offline: the encoder on the whole clip, with attention masked as in streaming; nemostt
promises exactly that, for every frame. Streaming: NeMo's own loop over its own windows (CacheAwareStreamingAudioBuffer,
first window without cached frames and without drop), which differs from offline at lookahead 0 and in the tail that it
discards.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from .audio import Clip
from .checks import Kind
from .loading import set_context


@dataclass
class Step:
    """One window of NeMo's streaming and its outputs."""

    mel: np.ndarray
    """[mels, T], cached frames first."""
    length: int
    drop: int
    outputs: dict[str, np.ndarray]
    """encoder -> [T', width], ctc -> log-probabilities [T', labels]."""


@dataclass
class Golden:
    """NeMo's output for one clip at one lookahead."""

    offline: dict[str, np.ndarray]
    """encoder -> [T', width], ctc -> log-probabilities [T', labels]."""
    offline_labels: dict[str, list[int]] = field(default_factory=dict)
    """Decoder -> tokens without blanks."""
    steps: list[Step] = field(default_factory=list)
    streaming_labels: dict[str, list[int]] = field(default_factory=dict)


@dataclass
class Reference:
    """NeMo's output for all clips."""

    mels: dict[str, np.ndarray]
    """Clip -> log-mel [mels, T]."""
    goldens: dict[tuple[str, int], Golden]
    """Clip and lookahead -> NeMo's output."""


@torch.inference_mode()
def compute(model, kind: Kind, clips: list[Clip], lookaheads: list[int], decoders, prompt: int | None) -> Reference:
    """Runs NeMo. This changes the model's attention context."""
    reference = Reference({}, {})
    for clip in clips:
        signal, length = torch.tensor(clip.samples)[None], torch.tensor([clip.samples.size])
        mel, _ = model.preprocessor(input_signal=signal, length=length)
        reference.mels[clip.name] = mel[0].numpy()
        for lookahead in lookaheads:
            set_context(model, kind.left, lookahead)
            golden = offline(model, mel, decoders, prompt)
            stream(model, mel, decoders, prompt, golden)
            reference.goldens[clip.name, lookahead] = golden
    return reference


def offline(model, mel, decoders, prompt) -> Golden:
    encoded, frames = model.encoder(audio_signal=mel, length=torch.tensor([mel.shape[-1]]))
    encoded = with_prompt(model, encoded, prompt)
    golden = Golden(outputs_of(model, encoded, decoders))
    if "rnnt" in decoders:
        golden.offline_labels["rnnt"] = rnnt(model, encoded, frames)[1]
    if "ctc" in decoders:
        golden.offline_labels["ctc"] = collapse(golden.offline["ctc"])
    return golden


def stream(model, mel, decoders, prompt, golden: Golden) -> None:
    from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer

    windows = CacheAwareStreamingAudioBuffer(model=model, online_normalization=False, pad_and_drop_preencoded=False)
    windows.append_processed_signal(mel)
    channel, time, channel_len = model.encoder.get_initial_cache_state(batch_size=1)
    hypotheses = None
    for number, (window, length) in enumerate(windows):
        drop = 0 if number == 0 else model.encoder.streaming_cfg.drop_extra_pre_encoded
        encoded, frames, channel, time, channel_len = model.encoder.cache_aware_stream_step(
            processed_signal=window,
            processed_signal_length=length,
            cache_last_channel=channel,
            cache_last_time=time,
            cache_last_channel_len=channel_len,
            keep_all_outputs=windows.is_buffer_empty(),
            drop_extra_pre_encoded=drop,
        )
        encoded = with_prompt(model, encoded[:, :, : int(frames[0])], prompt)
        outputs = outputs_of(model, encoded, decoders)
        golden.steps.append(Step(window[0].numpy().copy(), int(length[0]), drop, outputs))
        if "rnnt" in decoders:
            hypotheses, golden.streaming_labels["rnnt"] = rnnt(model, encoded, frames, hypotheses)
    if "ctc" in decoders:
        golden.streaming_labels["ctc"] = collapse(np.concatenate([step.outputs["ctc"] for step in golden.steps]))


def outputs_of(model, encoded, decoders) -> dict[str, np.ndarray]:
    """The outputs of the exported graphs: encoder frames, and log-probabilities of the CTC head."""
    outputs = {}
    if "rnnt" in decoders:
        outputs["encoder"] = encoded[0].T.numpy().copy()
    if "ctc" in decoders:
        head = getattr(model, "ctc_decoder", None) or model.decoder
        outputs["ctc"] = head(encoder_output=encoded)[0].numpy().copy()
    return outputs


def with_prompt(model, encoded, prompt: int | None):
    """Applies the prompt to the encoder's output [B, width, T] (like `forward` of NeMo's EncDec…WithPrompt)."""
    if prompt is None:
        return encoded
    frames = encoded.transpose(1, 2)
    one_hot = torch.zeros(*frames.shape[:2], model.num_prompts)
    one_hot[:, :, prompt] = 1.0
    return model.prompt_kernel(torch.cat([frames, one_hot], dim=-1)).transpose(1, 2)


def rnnt(model, encoded, frames, partial=None):
    """NeMo's greedy decoding: the hypotheses to continue with, and all tokens so far."""
    decode = model.decoding.rnnt_decoder_predictions_tensor
    found = decode(encoded, frames, return_hypotheses=True, partial_hypotheses=partial)
    return found, [int(label) for label in found[0].y_sequence]


def collapse(log_probabilities: np.ndarray) -> list[int]:
    """Greedy CTC: the best token of each frame, without repeats and blanks (the last id)."""
    best, blank = log_probabilities.argmax(-1).tolist(), log_probabilities.shape[-1] - 1
    return [label for label, before in zip(best, [blank, *best]) if label not in (before, blank)]

# SPDX-License-Identifier: MIT OR Apache-2.0
"""NeMo's reference values: offline encoder with the context mask of each lookahead, greedy tokens and their frames."""
import numpy as np
import soundfile
import torch
from build import DATA

CLIPS = ("u1_command", "u2_digits")


def mel_of(model, clip):
    samples, _ = soundfile.read(DATA / "wav" / f"{clip}.wav", dtype="float32")
    with torch.no_grad():
        mel, _ = model.preprocessor(input_signal=torch.tensor(samples)[None], length=torch.tensor([len(samples)]))
    return mel


def encode(model, mel, left, lookahead, prompt=None):
    """The offline encoder on all frames of `mel`, even the last, which is zeroed: NeMo's streaming feeds it, too."""
    model.encoder.set_default_att_context_size([left, lookahead])
    with torch.no_grad():
        encoded, frames = model.encoder(audio_signal=mel, length=torch.tensor([mel.shape[-1]]))
        if prompt is not None:
            model._inference_prompt_index = prompt
            encoded = model._apply_prompt_to_encoded(encoded)
    return encoded, frames


def greedy(model, encoded, frames):
    with torch.no_grad():
        hypothesis = model.decoding.rnnt_decoder_predictions_tensor(encoded, frames, return_hypotheses=True)[0]
    as_ints = lambda values: np.array([int(i) for i in values], np.int32)
    return as_ints(hypothesis.y_sequence), as_ints(hypothesis.timestamp)


def collect(model, left, lookaheads, clips=CLIPS, prompts=(None,)):
    """CLIP/kR/{enc,tokens,token_frames} and, for hybrid models, ctc; with prompts CLIP/kR/pP/..."""
    found = {}
    for clip in clips:
        mel = mel_of(model, clip)
        found[f"{clip}/mel"] = mel[0].numpy()
        for lookahead in lookaheads:
            for prompt in prompts:
                key = f"{clip}/k{lookahead}" + ("" if prompt is None else f"/p{prompt}")
                encoded, frames = encode(model, mel, left, lookahead, prompt)
                found[f"{key}/enc"] = encoded[0].numpy()
                found[f"{key}/tokens"], found[f"{key}/token_frames"] = greedy(model, encoded, frames)
                if hasattr(model, "ctc_decoder"):
                    with torch.no_grad():
                        best = model.ctc_decoder(encoder_output=encoded).argmax(-1)[0]
                    found[f"{key}/ctc"] = best.numpy().astype(np.int32)
    return found

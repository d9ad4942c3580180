# SPDX-License-Identifier: MIT OR Apache-2.0
"""Runs NeMo for tools/bench: run_nemo.py CLIP.wav LOOKAHEAD-MS THREADS

Builds a full-size model with its own random weights (all sizes are the same except the vocabulary's, 128). Streaming
and decoding follow NeMo's speech_to_text_cache_aware_streaming_infer.py: features of the whole clip at once, then one
step per chunk.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "fixture_models"))
import build  # noqa: E402
import torch  # noqa: E402
from worker_protocol import serve  # noqa: E402
from nemo.collections.asr.models import EncDecRNNTBPEModel  # noqa: E402
from nemo.collections.asr.parts.utils.streaming_utils import CacheAwareStreamingAudioBuffer  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

FRAME_MS, LEFT = 80, 70


def synthetic_model(lookahead: int, threads: int) -> EncDecRNNTBPEModel:
    with build.scratch_directory() as scratch:
        build.tokenizer(scratch)
        settings = build.config(scratch, [LEFT, lookahead], width=512, layers=17, hidden=640)
        OmegaConf.update(settings, "encoder.n_heads", 8)
        OmegaConf.update(settings, "encoder.ff_expansion_factor", 4)
        OmegaConf.update(settings, "encoder.subsampling_conv_channels", 256)
        OmegaConf.update(settings, "encoder.pos_emb_max_len", 5000)
        OmegaConf.update(settings, "decoding.strategy", "greedy_batch")
        model = build.build(EncDecRNNTBPEModel, settings)
    torch.set_num_threads(threads)
    # Without this, random weights emit up to ten tokens per frame, and decoding dominates the time.
    model.joint.joint_net[-1].bias.data[-1] += 30
    model.encoder.setup_streaming_params()
    return model


@torch.inference_mode()
def transcribe(model: EncDecRNNTBPEModel, clip: str) -> str:
    buffer = CacheAwareStreamingAudioBuffer(model=model)
    buffer.append_audio_file(clip)
    caches = model.encoder.get_initial_cache_state(batch_size=1)
    hypotheses, predicted = None, None
    for number, (chunk, lengths) in enumerate(buffer):
        drop = 0 if number == 0 else model.encoder.streaming_cfg.drop_extra_pre_encoded
        predicted, _, *caches, hypotheses = model.conformer_stream_step(
            processed_signal=chunk,
            processed_signal_length=lengths,
            cache_last_channel=caches[0],
            cache_last_time=caches[1],
            cache_last_channel_len=caches[2],
            keep_all_outputs=buffer.is_buffer_empty(),
            previous_hypotheses=hypotheses,
            previous_pred_out=predicted,
            drop_extra_pre_encoded=drop,
            return_transcription=True,
        )
    return str(getattr(hypotheses[0], "text", ""))


def main(clip: str, lookahead: int, threads: int) -> None:
    serve(lambda: synthetic_model(lookahead // FRAME_MS, threads), lambda model: transcribe(model, clip))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))

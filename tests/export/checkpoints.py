# SPDX-License-Identifier: MIT OR Apache-2.0
"""Small checkpoints of each kind that can be exported, built by NeMo with random weights that emit tokens."""

import copy
import io
from pathlib import Path

SENTENCES = (
    "turn on the light in the kitchen and close the window",
    "one two three four five six seven eight nine ten",
    "what is the weather going to be like this afternoon",
    "she sells sea shells by the sea shore while the sun is shining",
)
WIDTH, HIDDEN = 32, 24


def tokenizer(directory: Path, labels: int = 64, marks: tuple[str, ...] = ()) -> None:
    """Trains a SentencePiece model with `marks` among its tokens."""
    import sentencepiece

    directory.mkdir(parents=True)
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES * 4),
        model_writer=trained,
        vocab_size=labels,
        model_type="bpe",
        user_defined_symbols=list(marks),
        unk_id=0,
        bos_id=-1,
        eos_id=-1,
        pad_id=-1,
        minloglevel=2,
    )
    (directory / "tokenizer.model").write_bytes(trained.getvalue())
    pieces = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    lines = [pieces.id_to_piece(label) for label in range(pieces.get_piece_size())]
    (directory / "vocab.txt").write_text("\n".join(lines), encoding="utf-8")


def config(tokens: str = "", labels: int = 64, contexts=None, mels: int = 80, lstms: int = 1) -> dict:
    """The configuration of NVIDIA's streaming hybrids, except for sizes."""
    decoder = {"_target_": "nemo.collections.asr.modules.ConvASRDecoder", "feat_in": WIDTH, "num_classes": labels}
    return {
        "target": "nemo.collections.asr.models.EncDecHybridRNNTCTCBPEModel",
        "sample_rate": 16000,
        "compute_eval_loss": False,
        "log_prediction": False,
        "model_defaults": {"enc_hidden": WIDTH, "pred_hidden": HIDDEN, "joint_hidden": HIDDEN},
        "tokenizer": {"dir": tokens, "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "NA",
            "window_size": 0.025,
            "window_stride": 0.01,
            "window": "hann",
            "features": mels,
            "n_fft": 512,
            "frame_splicing": 1,
            "dither": 1e-5,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder",
            "feat_in": mels,
            "feat_out": -1,
            "n_layers": 2,
            "d_model": WIDTH,
            "n_heads": 4,
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": 16,
            "causal_downsampling": True,
            "ff_expansion_factor": 2,
            "self_attention_model": "rel_pos",
            "att_context_size": contexts or [[70, 13], [70, 6], [70, 1], [70, 0]],
            "att_context_style": "chunked_limited",
            "xscaling": False,
            "pos_emb_max_len": 256,
            "conv_kernel_size": 9,
            "conv_norm_type": "layer_norm",
            "conv_context_size": "causal",
            "dropout": 0.0,
            "dropout_pre_encoder": 0.0,
            "dropout_emb": 0.0,
            "dropout_att": 0.0,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "vocab_size": labels,
            "prednet": {"pred_hidden": HIDDEN, "pred_rnn_layers": lstms, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "num_classes": labels,
            "vocabulary": [],
            "jointnet": {
                "joint_hidden": HIDDEN,
                "activation": "relu",
                "dropout": 0.0,
                "encoder_hidden": WIDTH,
                "pred_hidden": HIDDEN,
            },
        },
        "aux_ctc": {
            "ctc_loss_weight": 0.3,
            "use_cer": False,
            "decoding": {"strategy": "greedy"},
            "decoder": {**decoder, "vocabulary": []},
        },
        "decoding": {"strategy": "greedy", "greedy": {"max_symbols": 10}},
        "loss": {"loss_name": "default"},
    }


def save(target: str, settings: dict, path: Path, clip) -> None:
    """Builds and saves a model of class `target`; the bias of blank is set so that there are tokens and pauses."""
    import torch
    from nemo.collections.asr import models
    from omegaconf import OmegaConf

    settings = copy.deepcopy(settings)
    torch.manual_seed(1)
    kind = getattr(models, target, None) or prompt_model(target)
    model = kind(cfg=OmegaConf.create(settings)).eval()
    model.preprocessor.featurizer.dither = 0.0
    with torch.no_grad():
        signal, length = torch.tensor(clip)[None], torch.tensor([len(clip)])
        mel, _ = model.preprocessor(input_signal=signal, length=length)
        encoded, frames = model.encoder(audio_signal=mel, length=torch.tensor([mel.shape[-1]]))
        heads = []
        if hasattr(model, "joint"):
            spread(model.joint.enc.weight, model.joint.enc.bias, encoded[0].T, 2.0)
            model.joint.pred.weight.mul_(20)
            model.joint.joint_net[-1].weight.mul_(5)
            decode = lambda: model.decoding.rnnt_decoder_predictions_tensor(encoded, frames, return_hypotheses=True)
            heads.append((model.joint.joint_net[-1].bias, lambda: len(decode()[0].y_sequence) / 2))
        ctc = getattr(model, "ctc_decoder", None) or (None if heads else model.decoder)
        if ctc is not None:
            layer = ctc.decoder_layers[0]
            spread(layer.weight, layer.bias, encoded[0].T, 3.0)
            labels = settings["aux_ctc" if hasattr(model, "joint") else "decoder"]
            blank = (labels.get("decoder") or labels)["num_classes"]
            heads.append((layer.bias, lambda: int((ctc(encoder_output=encoded)[0].argmax(-1) != blank).sum())))
        for bias, count in heads:
            bias[-1] = 40
            while count() < encoded.shape[-1] // 3:
                bias[-1] -= 0.5
    model.save_to(str(path))


def spread(weight, bias, inputs, deviation: float) -> None:
    """Scales a linear layer so that its outputs over `inputs` [N, width] have mean 0 and this deviation."""
    flat = weight.view(weight.shape[0], -1)
    outputs = inputs @ flat.T
    weight.mul_((deviation / outputs.std(0)).view(-1, *[1] * (weight.dim() - 1)))
    bias.copy_(-(inputs @ weight.view_as(flat).T).mean(0))


def prompt_model(target: str):
    from nemo.collections.asr.models import hybrid_rnnt_ctc_bpe_models_prompt

    return getattr(hybrid_rnnt_ctc_bpe_models_prompt, target)

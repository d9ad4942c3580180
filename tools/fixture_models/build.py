# SPDX-License-Identifier: MIT OR Apache-2.0
"""Small models of the architectures that NVIDIA publishes, built by NeMo with random weights.

They are created by NeMo's constructors, so their graphs, .nemo files and outputs are NeMo's. Only the sizes differ: 2
layers of width 48 instead of 17 of 512 or 24 of 1024, and a table of 128 positions instead of 5000.
"""
import io
import tempfile
from pathlib import Path

import sentencepiece
import torch
from nemo.core.classes.common import typecheck
from omegaconf import OmegaConf

DATA = Path(__file__).resolve().parents[2] / "tests" / "data"
WIDTH, LAYERS, HEADS, HIDDEN, CHANNELS, TOKENS = 48, 2, 4, 32, 16, 128

PLAIN = (
    "one two three four five six seven eight nine ten",
    "the quick brown fox jumps over the lazy dog",
    "turn on the light in the kitchen and close the window",
    "what is the weather going to be like this afternoon",
    "she sells sea shells by the sea shore while the sun is shining",
    "please call me back when you have got a minute to talk about it",
)
PUNCTUATED = (
    "One, two, three, four, five. Six, seven, eight: nine, ten!",
    "The quick brown fox jumps over the lazy dog. Does it?",
    "Turn on the light in the kitchen, please, and close the window.",
    "What is the weather going to be like in Berlin this afternoon? I don't know.",
    "She sells sea shells by the sea shore; the sun is shining!",
    "Mr. Smith said: \"Call me back when you've got a minute.\" That's all.",
)


def tokenizer(directory, sentences=PLAIN, vocab_size=TOKENS, special=()):
    """Train a SentencePiece model with `vocab_size` tokens in `directory`. `special` ones, such as <EOU>, are last."""
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences * 4), model_writer=trained, vocab_size=vocab_size - len(special),
        model_type="bpe", normalization_rule_name="identity", unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1, minloglevel=2,
    )
    # NeMo adds special tokens by appending pieces to the ModelProto. Serialized protobuf messages can be concatenated:
    # field 1 is the list of pieces, each with its text (1), score (2) and type (3; 4 is USER_DEFINED).
    model = trained.getvalue()
    for token in special:
        piece = b"\x0a" + bytes([len(token)]) + token.encode() + b"\x15\0\0\0\0" + b"\x18\x04"
        model += b"\x0a" + bytes([len(piece)]) + piece
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.model").write_bytes(model)
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [pieces.id_to_piece(i) for i in range(pieces.get_piece_size())]
    (directory / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return pieces


def config(
    tokens, contexts, mels=80, lstms=1, hybrid=False, width=WIDTH, layers=LAYERS, hidden=HIDDEN, style="chunked_limited"
):
    """Configuration of NVIDIA's cache-aware FastConformers with other sizes. `tokens`: the tokenizer's directory."""
    count = len((Path(tokens) / "vocab.txt").read_text(encoding="utf-8").splitlines())
    found = {
        "sample_rate": 16000,
        "compute_eval_loss": False,
        "log_prediction": False,
        "model_defaults": {"enc_hidden": width, "pred_hidden": hidden, "joint_hidden": hidden},
        "tokenizer": {"dir": str(tokens), "type": "bpe"},
        "preprocessor": {
            "_target_": "nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor", "sample_rate": 16000,
            "normalize": "NA", "window_size": 0.025, "window_stride": 0.01, "window": "hann", "features": mels,
            "n_fft": 512, "frame_splicing": 1, "dither": 1e-05, "pad_to": 0,
        },
        "encoder": {
            "_target_": "nemo.collections.asr.modules.ConformerEncoder", "feat_in": mels, "feat_out": -1,
            "n_layers": layers, "d_model": width, "use_bias": True, "subsampling": "dw_striding",
            "subsampling_factor": 8, "subsampling_conv_channels": CHANNELS, "causal_downsampling": True,
            "ff_expansion_factor": 1, "self_attention_model": "rel_pos", "n_heads": HEADS,
            "att_context_size": contexts, "att_context_style": style, "xscaling": False, "untie_biases": True,
            "pos_emb_max_len": 128, "conv_kernel_size": 9, "conv_norm_type": "layer_norm",
            "conv_context_size": "causal", "dropout": 0.0, "dropout_pre_encoder": 0.0, "dropout_emb": 0.0,
            "dropout_att": 0.0,
        },
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder", "normalization_mode": None,
            "random_state_sampling": False, "blank_as_pad": True, "vocab_size": count,
            "prednet": {"pred_hidden": hidden, "pred_rnn_layers": lstms, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint", "log_softmax": None, "preserve_memory": False,
            "fuse_loss_wer": False, "num_classes": count, "vocabulary": [],
            "jointnet": {
                "joint_hidden": hidden, "activation": "relu", "dropout": 0.0, "encoder_hidden": width,
                "pred_hidden": hidden,
            },
        },
        "decoding": {"strategy": "greedy", "greedy": {"max_symbols": 10}},
        "loss": {"loss_name": "default"},
    }
    if hybrid:
        found["aux_ctc"] = {
            "ctc_loss_weight": 0.3, "use_cer": False, "decoding": {"strategy": "greedy"},
            "decoder": {
                "_target_": "nemo.collections.asr.modules.ConvASRDecoder", "feat_in": width, "num_classes": count,
                "vocabulary": [],
            },
        }
    return OmegaConf.create(found)


def build(kind, settings, seed=1):
    """A model of NeMo class `kind` with the random weights of `seed`, without dither."""
    typecheck.set_typecheck_enabled(False)
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = kind(cfg=settings).eval()
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    return model


def calibrate(model, encoded, tokens, required=()):
    """Adjust random weights so that about `tokens` tokens are emitted for each of `encoded` [B, D, T], the `required`
    ids among them.

    Unadjusted, a random model emits the same token in every frame, because its outputs hardly vary between frames. So
    the inputs of the joint are standardized over the frames of `encoded` and over all tokens, and the biases of blank
    and of the `required` ids are set to reach the wanted counts.
    """
    rows = encoded.transpose(1, 2).reshape(-1, encoded.shape[1])
    count = model.joint.num_classes_with_blank
    frames = torch.full((len(encoded),), encoded.shape[-1])
    with torch.no_grad():
        predicted, _ = model.decoder.predict(torch.arange(count - 1)[:, None], state=None, add_sos=False)
        standardize(model.joint.enc, rows, 1.5)
        standardize(model.joint.pred, predicted[:, 0], 0.5)
        model.joint.joint_net[-1].weight.mul_(6)
        if hasattr(model, "ctc_decoder"):
            head = model.ctc_decoder.decoder_layers[0]
            standardize(head, rows, 3.0)
            head.bias[-1] += 4

    def emitted():
        with torch.no_grad():
            hypotheses = model.decoding.rnnt_decoder_predictions_tensor(encoded, frames, return_hypotheses=True)
        return [int(i) for hypothesis in hypotheses for i in hypothesis.y_sequence]

    bias = model.joint.joint_net[-1].bias
    with torch.no_grad():
        # Start high and lower the bias: below some value every token triggers the next, and decoding never stops.
        bias[-1], wanted = 30, tokens * len(encoded)
        while len(emitted()) < wanted:
            bias[-1] -= 0.5
        for _ in range(100):
            missing = [i for i in required if emitted().count(i) < max(2, len(encoded))]
            if not missing:
                break
            bias[missing] += 0.5
    return emitted()


def standardize(layer, inputs, deviation):
    """Scale and shift a linear layer or 1x1 convolution: its outputs for `inputs` get mean 0 and this deviation."""
    weight = layer.weight.view(layer.weight.shape[0], -1)
    outputs = inputs @ weight.T
    layer.weight.mul_((deviation / outputs.std(0)).view(-1, *[1] * (layer.weight.dim() - 1)))
    layer.bias.copy_(-(inputs @ layer.weight.view_as(weight).T).mean(0))


def scratch_directory():
    """A temporary directory, deleted together with the object."""
    return tempfile.TemporaryDirectory(prefix="model_kinds_")

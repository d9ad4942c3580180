# SPDX-License-Identifier: MIT OR Apache-2.0
"""Lets NeMo build the model of a checkpoint."""
from .checkpoint import Checkpoint
from .checks import Kind
from .refusal import Refusal


def load(checkpoint: Checkpoint, kind: Kind):
    """The model on the CPU, as it infers: no dropout, no dither, features not padded."""
    import torch
    from nemo.collections.asr.models import ASRModel

    torch.manual_seed(0)
    try:
        if checkpoint.path.is_dir():
            from nemo.core.connectors.save_restore_connector import SaveRestoreConnector

            connector = SaveRestoreConnector()
            connector.model_extracted_dir = str(checkpoint.path)
            model = ASRModel.restore_from(
                str(checkpoint.path), map_location="cpu", save_restore_connector=connector
            )
        else:
            model = ASRModel.restore_from(str(checkpoint.path), map_location="cpu")
    except (ImportError, AttributeError) as error:
        import nemo

        raise Refusal(
            f"NeMo {nemo.__version__} cannot build an {kind.name} ({error}): a newer checkpoint may need a newer NeMo, "
            "see tools/export_requirements.txt"
        ) from error
    except MemoryError as error:
        raise Refusal("there is not enough memory to load it: use a larger machine") from error
    model.eval()
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    return model


def set_context(model, left: int, lookahead: int) -> None:
    """Makes `lookahead` the model's own: its mask and its streaming sizes follow."""
    model.encoder.set_default_att_context_size([left, lookahead])

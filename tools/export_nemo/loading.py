# SPDX-License-Identifier: MIT OR Apache-2.0
"""Lets NeMo build the model of a checkpoint."""

from .checkpoint import Checkpoint
from .checks import Kind
from .errors import ExportError


def load(checkpoint: Checkpoint, kind: Kind):
    """The model on the CPU, set up for inference: no dropout, no dither, features not padded."""
    import nemo
    from nemo.collections.asr.models import ASRModel
    from nemo.core.connectors.save_restore_connector import SaveRestoreConnector
    from nemo.utils.model_utils import import_class_by_path

    target = checkpoint.config["target"]
    try:
        import_class_by_path(target)
    except (ImportError, AttributeError) as error:
        raise ExportError(
            f"NeMo {nemo.__version__} has no {kind.name}: run the export in an environment with a newer NeMo "
            "(tools/export_nemo.py, with that environment's python)"
        ) from error
    connector = SaveRestoreConnector()
    if checkpoint.path.is_dir():
        connector.model_extracted_dir = str(checkpoint.path)
    try:
        path = str(checkpoint.path)
        model = ASRModel.restore_from(path, map_location="cpu", save_restore_connector=connector)
    except MemoryError as error:
        raise ExportError("there is not enough memory to load it: use a larger machine") from error
    except Exception as error:  # NeMo, PyTorch and the tokenizer raise many kinds for a broken checkpoint
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ExportError(
            f"NeMo {nemo.__version__} cannot load it ({reason:.300}): it is corrupt or from another version "
            "of NeMo; --verbose shows NeMo's output"
        ) from error
    model.eval()
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    return model


def set_context(model, left: int, lookahead: int) -> None:
    """Sets the model's attention context, from which its mask and streaming sizes follow."""
    model.encoder.set_default_att_context_size([left, lookahead])

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks what an export needs: Python modules, memory, disk space."""

import importlib.util
import shutil
from pathlib import Path

from .errors import ExportError

MODULES = {"nemo": "nemo_toolkit[asr]", "torch": "torch", "onnx": "onnx", "onnxruntime": "onnxruntime"}

# Peak resident memory in bytes: NEMO for Python with NeMo and PyTorch (measured: 1.2 GB), and COPIES of the weights
# (the model, the traced graph, its serialized form, ONNX Runtime's). A model of 113 M parameters peaked at 3.2 GB,
# which is 4.4 copies.
NEMO = 2_000_000_000
COPIES = 5


def require_modules() -> None:
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(
            f"this Python has no {', '.join(missing)}: run tools/export_nemo.sh (or make export), which installs them, "
            "with the same arguments"
        )


def available_memory() -> int | None:
    """Bytes available without swapping."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return None


def require_memory(weight_bytes: int) -> None:
    needed, there = NEMO + COPIES * weight_bytes, available_memory()
    if there is not None and there < needed:
        raise ExportError(
            f"exporting {gigabytes(weight_bytes)} of weights takes about {gigabytes(needed)} of memory, but only "
            f"{gigabytes(there)} are available: close other programs, add swap, or use a larger machine "
            "(--ignore-memory skips this check)"
        )


def require_disk(target: Path, weight_bytes: int, sets: int, encoders: int) -> None:
    """`sets` directories of `encoders` graphs with all weights each, plus one set while exporting."""
    parent = next(path for path in (target, *target.parents) if path.exists())
    needed, there = (sets + 1) * encoders * weight_bytes + 50_000_000, shutil.disk_usage(parent).free
    if there < needed:
        raise ExportError(
            f"the export takes about {gigabytes(needed)} of disk space, but only {gigabytes(there)} are free in "
            f"{parent}: free some space, or write it elsewhere"
        )


def gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"

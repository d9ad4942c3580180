# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks what an export needs: valid arguments, Python modules, memory, disk space."""

import importlib.util
import os
import shutil
from argparse import Namespace
from pathlib import Path

from . import checkpoint
from .errors import ExportError

MODULES = {"nemo": "nemo_toolkit[asr]", "torch": "torch", "onnx": "onnx", "onnxruntime": "onnxruntime"}

# Peak resident memory in bytes: NEMO for Python with NeMo and PyTorch (measured: 1.2 GB), and COPIES of the weights
# (the model, the traced graph, its serialized form, ONNX Runtime's). A model of 113 M parameters peaked at 3.2 GB,
# which is 4.4 copies.
NEMO = 2_000_000_000
COPIES = 5


def require_arguments(args: Namespace) -> None:
    """Rejects arguments that cannot work. Needs the standard library only, so it runs before NeMo is installed."""
    path = checkpoint.locate(args.checkpoint)
    if path is not None:
        checkpoint.check(path)
    require_target(args.directory, args.force)
    for wav in args.wav:
        if not wav.is_file():
            raise ExportError(f"--wav {wav} does not exist or is not a file: give a WAV file")


def require_target(target: Path, force: bool) -> None:
    if target.exists() and not target.is_dir():
        raise ExportError(f"{target} is a file: give a directory")
    if target.is_dir() and any(target.iterdir()) and not force:
        raise ExportError(f"{target} is not empty: give another directory, or --force to replace its contents")
    # The finished export is moved there, so the parent must be writable, too.
    parent = next(path for path in target.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise ExportError(f"{target} cannot be created, {parent} is not a writable directory: give another directory")


def require_modules() -> None:
    missing = [package for module, package in MODULES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise ExportError(
            f"this Python has no {', '.join(missing)}: run tools/export_nemo.sh (or make export) with the same "
            "arguments, which installs them"
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

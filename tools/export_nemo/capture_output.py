# SPDX-License-Identifier: MIT OR Apache-2.0
"""Captures the output of NeMo and PyTorch, and shows it if something goes wrong."""

import contextlib
import os
import sys
import tempfile

from .errors import ExportError


def passthrough(step: str):
    """Does not capture anything."""
    print(f"export: {step}", file=sys.stderr, flush=True)
    return contextlib.nullcontext()


@contextlib.contextmanager
def captured(step: str):
    """Captures standard output and error, including the output of C++ code."""
    print(f"export: {step}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile(mode="w+", errors="replace") as log:
        saved = os.dup(1), os.dup(2)
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except ExportError:
            raise
        except BaseException:
            restore(saved)
            saved = None
            log.seek(0)
            sys.stderr.write(log.read()[-4000:])
            raise
        finally:
            if saved:
                restore(saved)


def restore(saved: tuple[int, int]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    for number, copy in zip((1, 2), saved):
        os.dup2(copy, number)
        os.close(copy)

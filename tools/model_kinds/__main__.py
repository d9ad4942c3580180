#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Write the test models that stand for other layouts, other checkpoints and wrong exports, and check them.

    python3 tools/model_kinds GROUP [CHECKPOINTS]

GROUP is layouts, kinds or faults: a folder below tests/data. CHECKPOINTS is a folder for the models as .nemo files,
which are not kept in the tree (a temporary one unless given). Needs nemo_toolkit[asr]==2.7.3, onnxruntime and
onnxconverter-common; the kind nemotron_multi and some faults need nemo_toolkit[asr]==3.0.0 and are left out under 2.7.3
(and the others under 3.0.0). Only the same versions of NeMo and PyTorch draw the same weights.
"""
import importlib
import sys
import tempfile
from pathlib import Path

GROUPS = ("layouts", "kinds", "faults")


def main():
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in GROUPS:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Path(sys.argv[2] if len(sys.argv) == 3 else scratch)
        checkpoints.mkdir(parents=True, exist_ok=True)
        importlib.import_module(sys.argv[1]).write(checkpoints)


if __name__ == "__main__":
    main()

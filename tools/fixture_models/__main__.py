#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Write the test models for other layouts, other checkpoints and unsupported exports, and check them.

    python3 tools/fixture_models GROUP [CHECKPOINTS]

GROUP is layouts, kinds or faults: a folder below tests/data. CHECKPOINTS is a folder for the models as .nemo files,
which are not part of the repository (default: a temporary one). Needs nemo_toolkit[asr]==2.7.3 (torch 2.8.0),
onnxruntime==1.31.1 and onnxconverter-common==1.16.0. The kind nemotron_multi and the fault with_rc need classes that
were added in nemo_toolkit[asr]==3.0.0 (torch 2.15.0): run the tool again with that version to write these two.
The weights depend on the versions. With the same versions the files are identical to the byte.
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

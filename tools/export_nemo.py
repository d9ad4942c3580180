#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Converts a NeMo streaming checkpoint to a verified model directory. tools/export_nemo.sh runs it and installs NeMo.

tools/export_nemo.sh CHECKPOINT DIRECTORY        (see --help for options, docs/export.md for details)
"""

import sys

# The package next to this file, which Python prefers to this file of the same name.
from export_nemo.cli import main

if __name__ == "__main__":
    sys.exit(main())

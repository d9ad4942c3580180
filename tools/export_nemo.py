#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""From a NeMo streaming checkpoint to a checked model directory. Run it with tools/export_nemo.sh, which brings NeMo.

tools/export_nemo.sh CHECKPOINT DIRECTORY        (--help says the rest, docs/export.md all of it)
"""

import sys

# The package beside this file, which Python prefers to this file of the same name.
from export_nemo.cli import main

if __name__ == "__main__":
    sys.exit(main())

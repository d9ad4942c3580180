# SPDX-License-Identifier: MIT OR Apache-2.0
"""What a Python program of tools/bench says, for `Engine` of engines.py to read.

A line of JSON when the model is there, and one for each line on standard input: the clip was heard once more.
"""

import json
import sys
import time
from collections.abc import Callable


def answer(load: Callable, hear: Callable) -> None:
    """`load` gives the model, `hear` the text that the model hears in the clip."""
    start = time.perf_counter()
    model = load()
    say(load=time.perf_counter() - start)
    for _ in sys.stdin:
        start = time.perf_counter()
        text = hear(model)
        say(seconds=time.perf_counter() - start, text=text)


def say(**values) -> None:
    print(json.dumps(values), flush=True)

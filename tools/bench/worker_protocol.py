# SPDX-License-Identifier: MIT OR Apache-2.0
"""The protocol of a worker process, as `Engine` in engines.py reads it.

A worker writes one line of JSON when the model is loaded. Then, for each line on standard input, it transcribes the
clip and writes another.
"""

import json
import sys
import time
from collections.abc import Callable


def serve(load: Callable, transcribe: Callable) -> None:
    """`load` returns the model, `transcribe` the model's text for the clip."""
    start = time.perf_counter()
    model = load()
    send(load=time.perf_counter() - start)
    for _ in sys.stdin:
        start = time.perf_counter()
        text = transcribe(model)
        send(seconds=time.perf_counter() - start, text=text)


def send(**values) -> None:
    print(json.dumps(values), flush=True)

# SPDX-License-Identifier: MIT OR Apache-2.0
"""The examples in Python, with their test source."""

import os
import subprocess
import sys

from harness import ROOT, TIMEOUT, check, diff, expected_words, normalize

# They play assets/demo.wav, which is the clip of the other checks.
SECONDS = 27
MISSING = "these elements are not installed: "


def run(name, *arguments, **env):
    """Runs an example. Returns its exit code, what it printed, and its error."""
    result = subprocess.run(
        [sys.executable, str(ROOT / "examples" / f"{name}.py"), *arguments],
        capture_output=True,
        text=True,
        timeout=SECONDS + 3 * TIMEOUT,
        env={**os.environ, **env},
    )
    return result.returncode, result.stdout, result.stderr.strip()


def words_of(output):
    """Words of the lines; one that is still on the screen when the next one rolls up is printed again."""
    lines = output.splitlines()
    return " ".join(line for before, line in zip([None, *lines], lines) if line != before).split()


def check_words(checks, name, lookahead, *arguments):
    code, output, error = run(name, "--test", *arguments)
    if code == 1 and MISSING in error:
        checks.not_run(name, error.partition(MISSING)[2])
        return
    expected = expected_words(lookahead)
    words = normalize(words_of(output))
    checks.check(code == 0, f"{name}: exit code {code}{f': {error}' if code else ''}")
    checks.check(words == normalize(expected), f"{name}: {diff(words, normalize(expected))}")


@check(seconds=90)
def example_rtsp_window(checks):
    check_words(checks, "rtsp_window", 480)


@check(seconds=90)
def example_cea608_stream(checks):
    check_words(checks, "cea608_stream", 1040)


@check(seconds=90)
def example_webrtc_captions(checks):
    check_words(checks, "webrtc_captions", 480)


@check(seconds=90)
def example_transcriberbin_window(checks):
    check_words(checks, "transcriberbin_window", 480)


@check(seconds=60)
def examples_name_what_is_missing(checks):
    """Without our plugin, each of them says so, and fails."""
    registry = str(ROOT / "target" / "examples-registry.bin")
    for name in ("rtsp_window", "cea608_stream", "webrtc_captions", "transcriberbin_window"):
        code, output, error = run(name, "--test", GST_PLUGIN_PATH="", GST_REGISTRY=registry)
        checks.check(
            code == 1 and not output and error.startswith(f"{name}: {MISSING}") and "nemostt (make install" in error,
            f"{name}: exit code {code}: {error}",
        )

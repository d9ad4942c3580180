# SPDX-License-Identifier: MIT OR Apache-2.0
"""The pipelines in README.md, with fake sinks and with sources that are always available."""

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from gi.repository import Gst

from harness import CLIP, TIMEOUT, ROOT, check, diff, expected_words, first_missing, normalize

TEXT = re.compile(r'nemostt, text=\(string\)(?:"([^"]*)"|([^,]*)), is-final=\(boolean\)true')


def readme_pipeline(containing):
    """The first gst-launch-1.0 command in the README that contains this text."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    block = next((block for block in blocks if block.startswith("gst-launch-1.0") and containing in block), None)
    if block is None:
        raise RuntimeError(f"README.md first_missing no pipeline with {containing}")
    return block


def launch(command, seconds, until_end=True):
    """Runs a shell command. Returns its words, whether it was PLAYING, whether it succeeded, and its output."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {command}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "GST_DEBUG_NO_COLOR": "1"},
    )
    try:
        output, _ = process.communicate(timeout=seconds)
        ended = process.returncode == 0
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL if until_end else signal.SIGINT)
        output, _ = process.communicate()
        ended = False
    words = " ".join(a or b for a, b in TEXT.findall(output)).split()
    return words, "New clock" in output or "PLAYING" in output, ended, output


@check(seconds=90)
def readme_file(checks):
    words, _, ended, output = launch(readme_pipeline("uridecodebin"), 40)
    checks.check(ended and words == expected_words(), f"a file: {diff(words, expected_words())}")


@check(seconds=60)
def readme_microphone(checks):
    command = readme_pipeline("pulsesrc").replace(
        "pulsesrc", "audiotestsrc is-live=true num-buffers=200 wave=silence samplesperbuffer=441"
    )
    since = time.monotonic()
    words, played, ended, output = launch(command, 30)
    checks.check(
        played and ended and not words, f"a silent microphone: ended after {time.monotonic() - since:.1f} s"
    )


@check(seconds=120)
def readme_rtsp(checks):
    from latency import serve

    try:
        location = serve()
    except ValueError:
        checks.not_run("RTSP", "gir1.2-gst-rtsp-server-1.0")
        return
    command = readme_pipeline("rtspsrc").replace("rtsp://camera.local/stream", location)
    words, _, ended, output = launch(command, 60)
    expected = expected_words(480)
    lost = next((n for n in range(4) if words == expected[n:]), None)
    checks.check(
        ended and lost is not None,
        f"RTSP: {'all but the first %d words' % lost if lost is not None else diff(words, expected)}",
    )


@check(seconds=180)
def readme_video(checks):
    command = readme_pipeline("textoverlay")
    if missing := first_missing("vp8enc", "vp8dec", "vorbisenc", "webmmux", "textoverlay"):
        checks.not_run("words over video", missing)
        return
    sinks = {"autovideosink": "fakesink name=video sync=true", "autoaudiosink": "fakesink sync=true"}
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "talk.webm"
        make = Gst.parse_launch(
            "videotestsrc num-buffers=630 ! video/x-raw,width=160,height=120,framerate=25/1 ! vp8enc deadline=1 "
            f'! webmmux name=m ! filesink location="{path}" '
            f'filesrc location="{CLIP}" ! wavparse ! audioconvert ! vorbisenc quality=0.8 ! queue ! m.'
        )
        make.set_state(Gst.State.PLAYING)
        make.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
        make.set_state(Gst.State.NULL)
        command = command.replace("talk.webm", str(path))
        for name, sink in sinks.items():
            command = command.replace(name, sink)
        command = command.replace("gst-launch-1.0 ", "gst-launch-1.0 -m ")
        # With a lookahead of 1040 ms it cannot preroll without the long queues.
        default = re.sub(r"queue max-size-buffers=0 max-size-bytes=0 max-size-time=\d+", "queue", command)
        default = default.replace("nemostt", "nemostt lookahead=480")
        for what, command, lookahead in (("unchanged", command, 1040), ("default queues", default, 480)):
            since = time.monotonic()
            words, played, ended, _ = launch(command, 60)
            elapsed = time.monotonic() - since
            what = f"words over video, {what}"
            expected = expected_words(lookahead)
            checks.check(played and ended and normalize(words) == expected, f"{what}: {diff(words, expected)}")
            # The last frame is at 25.2 s.
            checks.check(ended and 24.5 < elapsed < 25.2 + TIMEOUT, f"{what}: played for {elapsed:.1f} s")

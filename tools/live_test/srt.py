# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks that `nemostt live` captions SRT streams, as caller and as listener, and goes on after their sender was killed."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from harness import CLIP, check, diff, expected_words, first_missing, normalize
from live_command import COMMAND, LOOKAHEAD, recorded

# The clip in MPEG-TS, at the pace of a camera. With this bit rate, the built-in model writes the words of the file.
SEND = (
    "filesrc location={clip} ! wavparse ! clocksync ! audioconvert ! audioresample ! audio/x-raw,rate=48000 "
    "! opusenc bitrate=128000 ! mpegtsmux alignment=7 ! srtsink uri={uri} wait-for-connection=true"
)
ELEMENTS = ("srtsrc", "srtsink", "mpegtsmux", "tsdemux", "opusenc", "opusparse", "opusdec", "clocksync")
# Seconds that the first words may take; for which there is no sender; and of the clip.
FIRST_TIMEOUT, OUTAGE, CLIP_SECONDS = 20, 3, 25
# Seconds by which the times of words may differ from when they were sent, as a connection is set up faster or slower. An outage that
# is left out of the times would be more.
MAX_SHIFT = OUTAGE - 0.5
# Words that were said before the cut, at least.
MIN_WORDS = 12
# Words that may be missing where the second connection begins: those of the first sentence, while it is set up.
MAX_LOST_WORDS = 5
# As it is, and in an address.
PASSPHRASE = "correct horse battery"
ESCAPED = PASSPHRASE.replace(" ", "%20")


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def send(uri):
    line = SEND.format(clip=CLIP, uri=uri)
    return subprocess.Popen(["gst-launch-1.0", "-q", *line.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def until(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def stream(checks, what, receiver, sender, timeout, environment=None):
    """Sends the clip to nemostt, kills the sender, and sends the clip again. `timeout`: that of `--reconnect-timeout`.
    `environment`: variables that nemostt has."""
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "live.jsonl"
        process = subprocess.Popen(
            [COMMAND, "live", f"--lookahead={LOOKAHEAD}", f"--reconnect-timeout={timeout}", "--record", record, receiver],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        sending = None
        try:
            time.sleep(2)
            begun = [time.monotonic()]
            sending = send(sender)
            until(lambda: record.exists() and len(recorded(record)) >= MIN_WORDS, FIRST_TIMEOUT)
            sending.kill()
            sending.wait()
            before = len(recorded(record))
            time.sleep(OUTAGE)
            begun.append(time.monotonic())
            sending = send(sender)
            once = expected_words(LOOKAHEAD)
            until(lambda: len(recorded(record)) >= before + len(once) or process.poll() is not None, CLIP_SECONDS + 10)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=30)[1]
        finally:
            process.kill()
            if sending:
                sending.kill()
        words = recorded(record)
        texts = normalize([word["text"] for word in words])
        checks.check(process.returncode == 0, f"{what}: exit code {process.returncode}")
        if process.returncode:
            print(errors)
        times = [word["start"] for word in words]
        checks.check(times == sorted(times), f"{what}: the times of {len(words)} words go on")
        # The first connection has the beginning of the clip, and perhaps half of a word; the second one the clip to its end.
        expected = normalize(once)
        lost = next((n for n in range(MAX_LOST_WORDS + 1) if texts[n - len(once) :] == expected[n:]), None)
        again = texts[MAX_LOST_WORDS - len(once) :]
        found = f"{lost} words lost at its start" if lost is not None else diff(again, expected[MAX_LOST_WORDS:])
        checks.check(lost is not None, f"{what}: second connection: {found}")
        first = texts[:MIN_WORDS]
        checks.check(first == expected[:MIN_WORDS], f"{what}: first connection: {diff(first, expected[:MIN_WORDS])}")
        shown = [text for text in (PASSPHRASE, ESCAPED) if text in errors]
        checks.check(not shown, f"{what}: no passphrase is shown")
        if lost is not None and first == expected[:MIN_WORDS]:
            # The last of these words, in either connection.
            shift = (times[MIN_WORDS - 1 - len(once)] - times[MIN_WORDS - 1]) / 1000 - (begun[1] - begun[0])
            checks.check(abs(shift) < MAX_SHIFT, f"{what}: the second connection's words are {shift:+.2f} s from when they were sent")
        return errors


def is_possible(checks):
    if missing := first_missing(*ELEMENTS):
        checks.not_run("SRT", missing)
        return False
    if not COMMAND.exists():
        checks.check(False, f"{COMMAND} is missing: run 'make build', or set NEMOSTT")
        return False
    return True


@check(seconds=120)
def srt_caller(checks):
    """nemostt calls. It notices that nothing comes, and calls again."""
    if is_possible(checks):
        address = f"srt://127.0.0.1:{free_port()}"
        errors = stream(checks, "caller", address, f"{address}?mode=listener", timeout=2)
        checks.check("Connecting again" in errors, "caller: the loss was reported")


@check(seconds=120)
def srt_caller_short_outage(checks):
    """The sender is back before nemostt misses its audio. srtsrc must not call again by itself: the outage would not be reported."""
    if is_possible(checks):
        address = f"srt://127.0.0.1:{free_port()}"
        errors = stream(checks, "caller, short outage", address, f"{address}?mode=listener", timeout=10)
        checks.check("Connecting again" in errors, "caller, short outage: the loss was reported")


@check(seconds=120)
def srt_listener(checks):
    """nemostt listens, and the sender calls, encrypted."""
    if is_possible(checks):
        address = f"srt://127.0.0.1:{free_port()}"
        errors = stream(
            checks,
            "listener",
            f"{address}?mode=listener&passphrase={ESCAPED}&pbkeylen=16",
            f"{address}?mode=caller&passphrase={ESCAPED}&pbkeylen=16",
            timeout=10,
        )
        checks.check("passphrase=***" in errors, "listener: the loss was reported, without the passphrase")


@check(seconds=120)
def srt_passphrase_in_the_environment(checks):
    """The same with the passphrase in the environment, where the list of processes does not have it."""
    if is_possible(checks):
        address = f"srt://127.0.0.1:{free_port()}"
        stream(
            checks,
            "environment",
            f"{address}?mode=listener",
            f"{address}?mode=caller&passphrase={ESCAPED}&pbkeylen=16",
            timeout=10,
            environment={"NEMOSTT_SRT_PASSPHRASE": PASSPHRASE},
        )

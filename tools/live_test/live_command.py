# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks that `nemostt live` captions an RTSP stream for minutes, through lost connections, and that its memory stays flat."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import gi

from harness import RATE, ROOT, check, clip, diff, expected_words, normalize

# The command of "make build", unless NEMOSTT names another one.
COMMAND = Path(os.environ.get("NEMOSTT", ROOT / "target" / "release" / "nemostt"))
# Seconds of the whole run; NEMOSTT_LIVE_SECONDS shortens it.
SECONDS = int(os.environ.get("NEMOSTT_LIVE_SECONDS", 600))
# Seconds for which the server is gone.
OUTAGE = 3
# Lookahead in ms. With this one, the built-in model gives the clip's words wherever its chunks begin in it; with 80, one of 200 words
# depends on that.
LOOKAHEAD = 480
# Silence between two repetitions, in seconds: longer than the encoder's left context of 5.6 s, so that each begins as a file does.
PAUSE = 6
# Words that may be missing where a connection begins, while the session is set up, and where it is cut.
MAX_LOST_WORDS = 3
# Bytes by which memory may grow from the second minute on: pages that the allocator keeps.
MAX_GROWTH = 8 << 20


def looped(directory):
    """A file with the clip again and again, longer than the run."""
    path = Path(directory) / "looped.wav"
    audio = clip() + bytes(2 * RATE * PAUSE)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        for _ in range(SECONDS * RATE * 2 // len(audio) + 1):
            file.writeframes(audio)
    return path


class Server:
    """The RTSP server. It can be killed, and comes back at the same address."""

    def __init__(self, path):
        self.path = path
        self.url = self._start(0)

    def _start(self, port):
        program = Path(__file__).parent / "rtsp_server.py"
        self.process = subprocess.Popen(
            [sys.executable, str(program), str(self.path), str(port)], stdout=subprocess.PIPE, text=True
        )
        return self.process.stdout.readline().strip()

    def cut(self):
        self.process.kill()
        self.process.wait()
        time.sleep(OUTAGE)
        self._start(self.url.split(":")[2].split("/")[0])

    def stop(self):
        self.process.kill()
        self.process.wait()


def resident(process):
    """Bytes of memory of a process."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) << 10
    return 0


def recorded(record):
    """The words of all captions, with their times in ms."""
    captions = [json.loads(line) for line in record.read_text().splitlines()]
    return [word for caption in captions for word in caption["words"]]


def split(words):
    """The words of each connection. After an outage the file begins again: a pause that is neither one in the clip nor between
    two repetitions."""
    once = len(expected_words(LOOKAHEAD))
    longest = 1000 * PAUSE
    parts, count = [[]], 0
    for before, word in zip([None, *words], words):
        pause = word["start"] - before["end"] if before else 0
        is_repetition = count >= once - MAX_LOST_WORDS and abs(pause - longest) < longest / 2
        if pause > 1000 * OUTAGE and not is_repetition:
            parts.append([])
        if pause > 1000 * OUTAGE:
            count = 0
        parts[-1].append(word["text"])
        count += 1
    return parts


def check_connection(checks, name, words):
    """Checks the words of one connection: the clip's again and again, except for some at its ends."""
    once = expected_words(LOOKAHEAD)
    expected = normalize(once * (len(words) // len(once) + 2))
    # The last ones may have been cut in two.
    words = normalize(words)[:-MAX_LOST_WORDS]
    lost = next((n for n in range(MAX_LOST_WORDS + 1) if words == expected[n : n + len(words)]), None)
    correct = lost is not None and len(words) >= len(once)
    what = f"{len(words)} words, {lost} lost at the start" if correct else diff(words, expected[: len(words)])
    checks.check(correct, f"{name}: {what}")


@check(seconds=SECONDS + 120)
def live_command(checks):
    try:
        gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        checks.not_run("nemostt live", "gir1.2-gst-rtsp-server-1.0")
        return
    if not COMMAND.exists():
        checks.check(False, f"{COMMAND} is missing: run 'make build', or set NEMOSTT")
        return
    with tempfile.TemporaryDirectory() as directory:
        record = Path(directory) / "live.jsonl"
        server = Server(looped(directory))
        process = subprocess.Popen(
            [COMMAND, "live", f"--lookahead={LOOKAHEAD}", "--reconnect-timeout=5", "--record", record, server.url],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        cuts = [SECONDS / 3, 2 * SECONDS / 3]
        begun, memory = time.monotonic(), []
        try:
            while (now := time.monotonic() - begun) < SECONDS and process.poll() is None:
                if cuts and now > cuts[0]:
                    del cuts[0]
                    server.cut()
                memory.append((now, resident(process)))
                time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            errors = process.communicate(timeout=60)[1]
        finally:
            server.stop()
            process.kill()
        lost = errors.count("Connecting again")
        checks.check(process.returncode == 0 and lost >= 2, f"{lost} attempts to connect again, exit code {process.returncode}")
        words = recorded(record)
        times = [word["start"] for word in words]
        checks.check(times == sorted(times), f"{len(words)} words, whose times go on")
        parts = split(words)
        checks.check(len(parts) == 3, f"{len(parts)} connections")
        for number, part in enumerate(parts, 1):
            check_connection(checks, f"connection {number}", part)
        warm = [size for then, size in memory if SECONDS / 10 < then < SECONDS / 5]
        last = [size for then, size in memory if then > SECONDS - SECONDS / 10]
        growth = (max(last) - max(warm)) / (1 << 20) if warm and last else float("nan")
        checks.check(growth * (1 << 20) < MAX_GROWTH, f"memory: {max(last) >> 20} MiB, {growth:+.1f} MiB since the first minutes")

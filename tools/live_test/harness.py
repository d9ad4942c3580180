# SPDX-License-Identifier: MIT OR Apache-2.0
"""Shared by the checks: pipelines, sources that are late or silent, and recording of their output."""

import os
import sys
import threading
import time
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CLIP = ROOT / "tests" / "data" / "wav" / "u5_eight_sentences.wav"
TEXTS = ROOT / "tests" / "data" / "texts.json"

# Lookaheads in ms, with their names in texts.json.
LOOKAHEADS = {0: "k0", 80: "k1", 480: "k6", 1040: "k13"}
# Samples per buffer of a live source: 20 ms, like a sound card.
BLOCK = 320
RATE = 16_000
# Seconds that a run may take longer than its audio.
TIMEOUT = 10
# Milliseconds by which a thread may wake up late on a busy machine.
JITTER = 60

AUDIO = f"audio/x-raw,format=S16LE,rate={RATE},channels=1,layout=interleaved"

# The expected texts are those of the built-in model.
os.environ.pop("NEMOSTT_MODEL", None)
# Beside our plugin, those of gst-plugins-rs if "make interop" built them.
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target" / "plugin"))
if (built := ROOT / "target" / "interop" / "debug").is_dir():
    os.environ["GST_PLUGIN_PATH"] += os.pathsep + str(built)

try:
    import gi
except ImportError:
    sys.exit("live_test: PyGObject is missing: run 'apt install python3-gi', and this with /usr/bin/python3")
try:
    gi.require_version("Gst", "1.0")
    from gi.repository import Gst
except ValueError:
    sys.exit("live_test: GStreamer is missing: run 'apt install gir1.2-gstreamer-1.0'")

ALL = []


def check(alone=False, seconds=120):
    """Registers a check. `alone`: it measures, so no other check may run in parallel. Timeout: `seconds`."""

    def register(function):
        function.alone, function.seconds = alone, seconds
        function.group = function.__module__
        ALL.append(function)
        return function

    return register


class Checks:
    """Prints the result of each check. The parent process counts these lines."""

    def check(self, ok, what):
        print(f"  {'ok  ' if ok else 'FAIL'}  {what}", flush=True)
        return bool(ok)

    def not_run(self, what, missing):
        print(f"  not run: {what}: missing {missing}", flush=True)


def clip():
    """Samples of the clip: 49 words in eight sentences."""
    with wave.open(str(CLIP)) as file:
        return file.readframes(file.getnframes())


def expected_words(lookahead=1040):
    import json

    return json.loads(TEXTS.read_text())["trained"][CLIP.stem][LOOKAHEADS[lookahead]]["rnnt"].split()


def first_missing(*elements):
    """The first element that is not installed, or None."""
    return next((name for name in elements if Gst.ElementFactory.find(name) is None), None)


def first_of(*elements):
    return next((name for name in elements if Gst.ElementFactory.find(name.split()[0])), None)


def normalize(words):
    """Replaces "hat" by "coat": with different frame boundaries or a lossy codec the model confuses the two."""
    return ["coat" if word == "hat" else word for word in words]


def diff(actual, expected):
    """Describes how two lists of words differ."""
    if actual == expected:
        return f"all {len(expected)} words"
    import difflib

    changes = [
        f"{' '.join(expected[a:b]) or '-'} > {' '.join(actual[c:d]) or '-'}"
        for kind, a, b, c, d in difflib.SequenceMatcher(None, expected, actual, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    return f"{len(actual)} words, not the {len(expected)} of the file: {'; '.join(changes)}"


class Recorder:
    """Records nemostt's output and the running time at which it was pushed. All times are in ms."""

    def __init__(self, element):
        self.element = element
        self.words = []  # (text, start, end, time pushed)
        self.gaps = []  # (end, time pushed)
        self.has_ended = False
        self.backward = []  # where running time went backwards: (from, to)
        self.last = 0
        self.src = element.get_static_pad("src")
        kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM | Gst.PadProbeType.EVENT_FLUSH
        self.src.add_probe(kinds, self._probe)

    def now(self):
        return self.element.get_current_running_time() / Gst.MSECOND

    def _probe(self, pad, info):
        # First, because time spent before this would count as nemostt's delay.
        now = self.now()
        if info.type & Gst.PadProbeType.BUFFER:
            buffer = info.get_buffer()
            text = buffer.extract_dup(0, buffer.get_size()).decode()
            start, end = self._running(pad, buffer.pts), self._running(pad, buffer.pts + buffer.duration)
            self.words.append((text, start, end, now))
            self._advance(start, end)
        elif info.get_event().type == Gst.EventType.GAP:
            pts, duration = info.get_event().parse_gap()
            start, end = self._running(pad, pts), self._running(pad, pts + duration)
            self.gaps.append((end, now))
            self._advance(start, end)
        elif info.get_event().type == Gst.EventType.FLUSH_STOP:
            self.last = 0
        elif info.get_event().type == Gst.EventType.EOS:
            self.has_ended = True
        return Gst.PadProbeReturn.OK

    def _advance(self, start, end):
        # Converting times to running time can lose a nanosecond.
        if start < self.last - 0.001:
            self.backward.append((self.last, start))
        self.last = end

    @staticmethod
    def _running(pad, pts):
        event = pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        # During the change to NULL the pad loses its sticky events while the last buffer is still being pushed.
        return event.parse_segment().to_running_time(Gst.Format.TIME, pts) / Gst.MSECOND if event else float("nan")

    def latency(self):
        """Answers to LATENCY queries on the source pad and upstream: (live, min in ms, upstream's min in ms)."""
        own, upstream = Gst.Query.new_latency(), Gst.Query.new_latency()
        if not (self.src.query(own) and self.element.get_static_pad("sink").peer_query(upstream)):
            raise RuntimeError("a LATENCY query failed")
        live, latency, _ = own.parse_latency()
        return live, latency / Gst.MSECOND, upstream.parse_latency()[1] / Gst.MSECOND


class Player:
    """Runs a pipeline that contains one nemostt, named `stt`, and reads its bus."""

    def __init__(self, description):
        self.pipeline = Gst.parse_launch(description)
        self.stt = self.pipeline.get_by_name("stt")
        self.recorder = Recorder(self.stt)
        self.warnings = []
        self.messages = []  # texts of final results
        self.stalls = []  # `stalled` of each `nemostt-input` message

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def __getitem__(self, name):
        return self.pipeline.get_by_name(name)

    def stop(self):
        """Stops the pipeline and returns the seconds it took."""
        since = time.monotonic()
        self.pipeline.set_state(Gst.State.NULL)
        return time.monotonic() - since

    def play(self):
        # A live pipeline returns NO_PREROLL or ASYNC. If it fails, there is an error on the bus.
        self.pipeline.set_state(Gst.State.PLAYING)

    def play_when_loaded(self):
        """Loads the model before audio arrives; otherwise the first words would be late by the loading time."""
        self.pipeline.set_state(Gst.State.PAUSED)
        if not self.run(60, self._is_loaded):
            raise RuntimeError("the model was not loaded within a minute")
        self.play()

    def starts_within(self, seconds):
        """Plays and returns the seconds until PLAYING, or None if it takes longer."""
        since = time.monotonic()
        self.play()
        while time.monotonic() < since + seconds:
            self.run(0.02, lambda _: False)
            if self.pipeline.get_state(0)[:2] == (Gst.StateChangeReturn.SUCCESS, Gst.State.PLAYING):
                return time.monotonic() - since
        return None

    def _is_loaded(self, message):
        if message.type != Gst.MessageType.PROGRESS or message.src != self.stt:
            return False
        return message.parse_progress()[0] == Gst.ProgressType.COMPLETE

    def run(self, seconds, is_last=lambda message: message.type == Gst.MessageType.EOS):
        """Reads the bus until the last message (default: EOS) or the timeout. Returns whether it arrived."""
        end = time.monotonic() + seconds
        bus = self.pipeline.get_bus()
        while (left := end - time.monotonic()) > 0:
            message = bus.timed_pop(min(left, 0.1) * Gst.SECOND)
            if message is None:
                continue
            if is_last(message):
                return True
            if message.type == Gst.MessageType.ERROR:
                error, details = message.parse_error()
                raise RuntimeError(f"{message.src.get_name()}: {error.message} ({details})")
            if message.type == Gst.MessageType.WARNING:
                self.warnings.append(f"{message.src.get_name()}: {message.parse_warning()[0].message}")
            elif message.type == Gst.MessageType.LATENCY:
                self.pipeline.recalculate_latency()
            elif message.type == Gst.MessageType.ELEMENT and message.src == self.stt:
                structure = message.get_structure()
                if structure.get_name() == "nemostt" and structure.get_value("is-final"):
                    self.messages.append(structure.get_value("text"))
                elif structure.get_name() == "nemostt-input":
                    self.stalls.append(structure.get_value("stalled"))
        return False

    def latency(self):
        """The pipeline's latency in ms."""
        query = Gst.Query.new_latency()
        if not self.pipeline.query(query):
            raise RuntimeError("the pipeline's LATENCY query failed")
        return query.parse_latency()[1] / Gst.MSECOND

    def texts(self):
        return " ".join(text for text, *_ in self.recorder.words).split()

    def after(self, seconds, action):
        """Runs `action` in another thread."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()

    def feed(self, parts, name="source", ends=True):
        """Pushes `Part`s to an appsrc when they are due, counted from when it is PLAYING."""

        def run():
            source = self[name]
            is_live = source.get_property("is-live")
            # The pipeline itself is not PLAYING until its sink has a buffer. Files need not wait.
            while is_live and source.current_state != Gst.State.PLAYING:
                time.sleep(0.005)
            start = source.get_current_running_time() if is_live else 0
            for part in parts:
                wait = start + part.due - source.get_current_running_time() if is_live else 0
                if wait > 0:
                    time.sleep(wait / Gst.SECOND)
                if callable(part.data):
                    part.data()
                    continue
                buffer = Gst.Buffer.new_wrapped(part.data)
                buffer.duration = len(part.data) // 2 * Gst.SECOND // RATE
                if part.pts is not None:
                    buffer.pts = start + part.pts
                if part.discont:
                    buffer.set_flags(Gst.BufferFlags.DISCONT)
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            if ends:
                source.emit("end-of-stream")

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread


class Part:
    """Audio with an arrival time and a timestamp, both in ns since the start; or a function to call at that time."""

    def __init__(self, due, pts, data, discont=False):
        self.due, self.pts, self.data, self.discont = int(due), pts if pts is None else int(pts), data, discont


def parts(audio, *, arrival=lambda end: end, timestamp=lambda pts: pts, block=BLOCK, at=0):
    """Cuts audio like a sound card: a part is due at its end, in s, or at the time that `arrival` maps it to."""
    cut = []
    for n in range(0, len(audio), 2 * block):
        data = audio[n : n + 2 * block]
        pts = at + n / 2 / RATE
        end = pts + len(data) / 2 / RATE
        stamped = timestamp(pts)
        cut.append(Part(arrival(end) * Gst.SECOND, None if stamped is None else stamped * Gst.SECOND, data))
    return cut

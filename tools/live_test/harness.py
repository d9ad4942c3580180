# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the checks share: pipelines, sources that are late or silent, and what is noted of their output."""

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
# Samples in a buffer of a live source: 20 ms, as sound cards give them.
BLOCK = 320
RATE = 16_000
# Seconds that a run may take longer than its audio.
PATIENCE = 10
# Milliseconds by which a thread may wake up late on a busy machine.
JITTER = 60

AUDIO = f"audio/x-raw,format=S16LE,rate={RATE},channels=1,layout=interleaved"

# The texts to compare with are those of the compiled-in model.
os.environ.pop("NEMOSTT_MODEL", None)
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target" / "plugin"))

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
    """Registers a check. `alone`: it measures, so no other may run beside it. It is ended after `seconds`."""

    def register(function):
        function.alone, function.seconds = alone, seconds
        function.group = function.__module__
        ALL.append(function)
        return function

    return register


class Checks:
    """Says what became of each check. The program counts these lines."""

    def check(self, ok, what):
        print(f"  {'ok  ' if ok else 'FAIL'}  {what}", flush=True)
        return bool(ok)

    def not_run(self, what, missing):
        print(f"  not run: {what}: missing {missing}", flush=True)


def clip():
    """The clip's samples: 49 words in eight sentences."""
    with wave.open(str(CLIP)) as file:
        return file.readframes(file.getnframes())


def expected_words(lookahead=1040):
    import json

    return json.loads(TEXTS.read_text())["trained"][CLIP.stem][LOOKAHEADS[lookahead]]["rnnt"].split()


def has(*elements):
    """The first of the elements that is missing, or None."""
    return next((name for name in elements if Gst.ElementFactory.find(name) is None), None)


def first_of(*elements):
    return next((name for name in elements if Gst.ElementFactory.find(name.split()[0])), None)


def normal(words):
    """Where frames fall otherwise, or a codec takes something away, the model takes the clip's coat for a hat."""
    return ["coat" if word == "hat" else word for word in words]


def diff(heard, said):
    """In words: how two lists of words differ."""
    if heard == said:
        return f"all {len(said)} words"
    import difflib

    changes = [
        f"{' '.join(said[a:b]) or '-'} > {' '.join(heard[c:d]) or '-'}"
        for kind, a, b, c, d in difflib.SequenceMatcher(None, said, heard, autojunk=False).get_opcodes()
        if kind != "equal"
    ]
    return f"{len(heard)} words, not the {len(said)} of the file: {'; '.join(changes)}"


class Listener:
    """Notes what leaves nemostt, and at which running time. All times are in ms."""

    def __init__(self, element):
        self.element = element
        self.words = []  # (text, start, end, time it left)
        self.gaps = []  # (end, time it left)
        self.back = []  # where running time stepped back: (from, to)
        self.last = 0
        self.src = element.get_static_pad("src")
        kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM | Gst.PadProbeType.EVENT_FLUSH
        self.src.add_probe(kinds, self._see)

    def now(self):
        return self.element.get_current_running_time() / Gst.MSECOND

    def _see(self, pad, info):
        # First of all: whatever comes before it would count as nemostt's delay.
        now = self.now()
        if info.type & Gst.PadProbeType.BUFFER:
            buffer = info.get_buffer()
            text = buffer.extract_dup(0, buffer.get_size()).decode()
            start, end = self._running(pad, buffer.pts), self._running(pad, buffer.pts + buffer.duration)
            self.words.append((text, start, end, now))
            self._follow(start, end)
        elif info.get_event().type == Gst.EventType.GAP:
            pts, duration = info.get_event().parse_gap()
            start, end = self._running(pad, pts), self._running(pad, pts + duration)
            self.gaps.append((end, now))
            self._follow(start, end)
        elif info.get_event().type == Gst.EventType.FLUSH_STOP:
            self.last = 0
        return Gst.PadProbeReturn.OK

    def _follow(self, start, end):
        # A nanosecond may be lost where a segment's times are computed.
        if start < self.last - 0.001:
            self.back.append((self.last, start))
        self.last = end

    @staticmethod
    def _running(pad, pts):
        event = pad.get_sticky_event(Gst.EventType.SEGMENT, 0)
        # On the way to NULL the pad forgets its events while the last buffer is still on its way.
        return event.parse_segment().to_running_time(Gst.Format.TIME, pts) / Gst.MSECOND if event else float("nan")

    def latency(self):
        """What LATENCY queries on the source pad and upstream say: (live, min in ms, min upstream in ms)."""
        ours, upstream = Gst.Query.new_latency(), Gst.Query.new_latency()
        if not (self.src.query(ours) and self.element.get_static_pad("sink").peer_query(upstream)):
            raise RuntimeError("a LATENCY query failed")
        live, latency, _ = ours.parse_latency()
        return live, latency / Gst.MSECOND, upstream.parse_latency()[1] / Gst.MSECOND


class Player:
    """Plays a pipeline with one nemostt named `stt` in it, and reads its bus."""

    def __init__(self, description):
        self.pipeline = Gst.parse_launch(description)
        self.stt = self.pipeline.get_by_name("stt")
        self.listener = Listener(self.stt)
        self.warnings = []
        self.messages = []  # texts of the final ones
        self.stalls = []  # what `nemostt-input` said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def __getitem__(self, name):
        return self.pipeline.get_by_name(name)

    def stop(self):
        """Returns the seconds it took."""
        since = time.monotonic()
        self.pipeline.set_state(Gst.State.NULL)
        return time.monotonic() - since

    def play(self):
        # A live pipeline answers NO_PREROLL or ASYNC; if it fails, the bus says why.
        self.pipeline.set_state(Gst.State.PLAYING)

    def play_when_loaded(self):
        """Loads the model before any audio comes: else the first words are late by as long as that takes."""
        self.pipeline.set_state(Gst.State.PAUSED)
        if not self.run(60, self._is_loaded):
            raise RuntimeError("the model was not loaded within a minute")
        self.play()

    def starts_within(self, seconds):
        """Plays; gives the seconds until PLAYING, or None."""
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
        """Reads the bus until the last message, the end of the stream, or for so long. Says whether it came."""
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
        return " ".join(text for text, *_ in self.listener.words).split()

    def after(self, seconds, action):
        """Does something from another thread."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        timer.start()

    def feed(self, parts, name="source", ends=True):
        """Gives [`Part`]s to an appsrc when they are due, counted from when it plays."""

        def run():
            source = self[name]
            is_live = source.get_property("is-live")
            # The pipeline itself is not PLAYING before its sink has a word, and a file need not wait for it.
            while is_live and source.current_state != Gst.State.PLAYING:
                time.sleep(0.005)
            start = source.get_current_running_time() if is_live else 0
            for part in parts:
                wait = start + part.comes - source.get_current_running_time() if is_live else 0
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
    """Audio that comes at a time with a timestamp, both in ns since the start; or something to do at that time."""

    def __init__(self, comes, pts, data, discont=False):
        self.comes, self.pts, self.data, self.discont = int(comes), pts if pts is None else int(pts), data, discont


def parts(audio, *, arrival=lambda end: end, stamp=lambda pts: pts, block=BLOCK, at=0):
    """Cuts audio as a sound card would: a part comes when it is over, or at the time `arrival` makes of that, in s."""
    cut = []
    for n in range(0, len(audio), 2 * block):
        data = audio[n : n + 2 * block]
        pts = at + n / 2 / RATE
        end = pts + len(data) / 2 / RATE
        stamped = stamp(pts)
        cut.append(Part(arrival(end) * Gst.SECOND, None if stamped is None else stamped * Gst.SECOND, data))
    return cut

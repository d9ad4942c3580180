#!/usr/bin/python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Does nemostt keep the latency that it reports? Plays speech in real time and looks at the clock at every word.

    tools/live_test.py [live | rtsp | all]        (default: all; about two minutes)

    live    a live source gives silence, and another one a clip at the speed of speech
    rtsp    a server on 127.0.0.1 gives the clip as L16, rtspsrc fetches it

A word may come no later after its end than a LATENCY query on nemostt's source pad says, and the text must be NeMo's.
The plugin is that of "make build", unless GST_PLUGIN_PATH names another folder; it must not be replaced meanwhile. The
system's Python is needed: it is the one that has PyGObject. The exit code is 1 if something failed.
"""
import argparse
import json
import os
import platform
import statistics
import sys
import threading
import time
import wave
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CLIP = ROOT / "tests" / "data" / "wav" / "u5_eight_sentences.wav"
TEXTS = ROOT / "tests" / "data" / "texts.json"

# Lookaheads in ms, with their names in texts.json.
LOOKAHEADS = {80: "k1", 1040: "k13"}
# Samples in a buffer of the live source: 20 ms, as sound cards give them.
BLOCK = 320
RATE = 16_000
SILENCE_SECONDS = 10
# Words that may be lost at the start, while RTSP sets up.
MAY_BE_LOST = 3
# Seconds that a run may take longer than its audio.
PATIENCE = 10

AUDIO = f"audio/x-raw,format=S16LE,rate={RATE},channels=1,layout=interleaved"

# Where Debian and Ubuntu keep what the runs need.
ELEMENTS = {
    "appsrc": "gstreamer1.0-plugins-base",
    "audiotestsrc": "gstreamer1.0-plugins-base",
    "audioresample": "gstreamer1.0-plugins-base",
    "wavparse": "gstreamer1.0-plugins-good",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "rtpL16pay": "gstreamer1.0-plugins-good",
    "rtpjitterbuffer": "gstreamer1.0-plugins-good",
    "udpsrc": "gstreamer1.0-plugins-good",
}

# The texts to compare with are those of the compiled-in model.
os.environ.pop("NEMOSTT_MODEL", None)
os.environ.setdefault("GST_PLUGIN_PATH", str(ROOT / "target" / "plugin"))

try:
    import gi
except ImportError:
    sys.exit("live_test: PyGObject is missing: run 'apt install python3-gi', and this with /usr/bin/python3")
try:
    gi.require_version("Gst", "1.0")
    from gi.repository import GLib, Gst
except ValueError:
    sys.exit("live_test: GStreamer is missing: run 'apt install gir1.2-gstreamer-1.0'")


class Failures:
    """Counts checks, and says what became of each."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, ok, what):
        self.passed += bool(ok)
        self.failed += not ok
        print(f"  {'ok  ' if ok else 'FAIL'}  {what}", flush=True)


class Listener:
    """Notes what leaves nemostt, and at which running time. All times are in ms."""

    def __init__(self, element):
        self.element = element
        self.words = []  # (text, start, end, time it left)
        self.gaps = []  # (end, time it left)
        self.src = element.get_static_pad("src")
        kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.EVENT_DOWNSTREAM
        self.src.add_probe(kinds, self._see)

    def _see(self, pad, info):
        # First of all: whatever comes before it would count as nemostt's delay.
        now = self.element.get_current_running_time() / Gst.MSECOND
        if info.type & Gst.PadProbeType.BUFFER:
            buffer = info.get_buffer()
            text = buffer.extract_dup(0, buffer.get_size()).decode()
            start, end = self._running(pad, buffer.pts), self._running(pad, buffer.pts + buffer.duration)
            self.words.append((text, start, end, now))
        elif info.get_event().type == Gst.EventType.GAP:
            pts, duration = info.get_event().parse_gap()
            self.gaps.append((self._running(pad, pts + duration), now))
        return Gst.PadProbeReturn.OK

    @staticmethod
    def _running(pad, pts):
        segment = pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment()
        return segment.to_running_time(Gst.Format.TIME, pts) / Gst.MSECOND

    def latency(self):
        """What LATENCY queries say: whether it is live, the latency with upstream's, upstream's alone."""
        ours, upstream = Gst.Query.new_latency(), Gst.Query.new_latency()
        if not (self.src.query(ours) and self.element.get_static_pad("sink").peer_query(upstream)):
            raise RuntimeError("a LATENCY query failed")
        live, latency, _ = ours.parse_latency()
        return live, latency / Gst.MSECOND, upstream.parse_latency()[1] / Gst.MSECOND


class Player:
    """Plays a pipeline with one nemostt in it, and reads its bus."""

    def __init__(self, description):
        self.pipeline = Gst.parse_launch(description)
        self.stt = self.pipeline.get_by_name("stt")
        self.listener = Listener(self.stt)
        self.warnings = []
        self.messages = []  # texts of the final ones

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.pipeline.set_state(Gst.State.NULL)

    def play(self):
        # A live pipeline answers NO_PREROLL or ASYNC; if it fails, the bus says why.
        self.pipeline.set_state(Gst.State.PLAYING)

    def play_when_loaded(self):
        """Loads the model before any audio comes: else the first words are late by as long as that takes."""
        self.pipeline.set_state(Gst.State.PAUSED)
        if not self.run(60, self._is_loaded):
            raise RuntimeError("the model was not loaded within a minute")
        self.play()

    def _is_loaded(self, message):
        if message.type != Gst.MessageType.PROGRESS or message.src != self.stt:
            return False
        return message.parse_progress()[0] == Gst.ProgressType.COMPLETE

    def run(self, seconds, is_last=lambda message: message.type == Gst.MessageType.EOS):
        """Reads the bus until the last message, the end of the stream, or for so long. Says whether it came."""
        end = time.monotonic() + seconds
        bus = self.pipeline.get_bus()
        while time.monotonic() < end:
            message = bus.timed_pop(Gst.SECOND // 10)
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
        return False

    def feed(self, audio):
        """Plays audio through the appsrc `source` as a sound card would: a buffer comes when it is over."""

        def run():
            source = self.pipeline.get_by_name("source")
            # The pipeline itself is not PLAYING before its sink has a word.
            while source.current_state != Gst.State.PLAYING:
                time.sleep(0.01)
            duration = BLOCK * Gst.SECOND // RATE
            start = source.get_current_running_time()
            for n, at in enumerate(range(0, len(audio), 2 * BLOCK)):
                buffer = Gst.Buffer.new_wrapped(audio[at : at + 2 * BLOCK])
                buffer.pts, buffer.duration = start + n * duration, buffer.get_size() // 2 * Gst.SECOND // RATE
                wait = buffer.pts + buffer.duration - source.get_current_running_time()
                if wait > 0:
                    time.sleep(wait / Gst.SECOND)
                if source.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
                    return
            source.emit("end-of-stream")

        threading.Thread(target=run, daemon=True).start()


def check_latency(failures, player, lookahead):
    """The answer to a LATENCY query is the sum that the README gives. Returns it."""
    live, latency, upstream = player.listener.latency()
    hold, processing = (player.stt.get_property(name) for name in ("word-hold", "latency"))
    sum_of_parts = upstream + lookahead + 80 + 12.5 + hold + processing
    failures.check(
        live and abs(latency - sum_of_parts) < 0.001,
        f"latency reported: {latency:.1f} ms ({upstream:.1f} of it upstream's), {'live' if live else 'NOT live'}",
    )
    return latency


def check_words(failures, player, latency):
    """No word came too late."""
    words = player.listener.words
    late = [f"{text} ({now - end:.0f} ms)" for text, _, end, now in words if now - end > latency]
    delays = [now - end for _, _, end, now in words] or [float("nan")]
    failures.check(
        words and not late,
        f"{len(words)} words after their end: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms"
        + (f"; too late: {', '.join(late)}" if late else ""),
    )
    # A sink that synchronises shows a word at its start, so this is what decides whether it does so in time.
    delays = [now - start for _, start, _, now in words] or [float("nan")]
    over = sum(delay > latency for delay in delays)
    heard = player.stt.get_property("max-observed-delay")
    print(
        f"        after their start: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms, "
        f"{over} beyond the latency; audio heard at most {heard} ms late"
    )


def check_bus(failures, player):
    texts = [text for text, *_ in player.listener.words]
    failures.check(player.messages == texts, f"{len(player.messages)} messages, one for each word")
    warnings = [f"{len(player.warnings)} warnings", *player.warnings]
    failures.check(not player.warnings, "\n        ".join(warnings))


def expected_text(lookahead):
    return json.loads(TEXTS.read_text())["trained"][CLIP.stem][LOOKAHEADS[lookahead]]["rnnt"]


def live(failures):
    with wave.open(str(CLIP)) as file:
        audio = file.readframes(file.getnframes())
    for lookahead in LOOKAHEADS:
        print(f"live source, lookahead {lookahead} ms")
        block = BLOCK * Gst.SECOND // RATE
        player = Player(
            f"appsrc name=source is-live=true format=time min-latency={block} caps={AUDIO} ! queue "
            f"! nemostt name=stt lookahead={lookahead} ! appsink sync=false wait-on-eos=false"
        )
        with player:
            player.play_when_loaded()
            player.feed(audio)
            ended = player.run(len(audio) / 2 / RATE + PATIENCE)
            latency = check_latency(failures, player, lookahead)
            check_words(failures, player, latency)
        text = " ".join(text for text, *_ in player.listener.words)
        failures.check(ended, "the stream ended" if ended else "no end of stream came")
        right = text == expected_text(lookahead)
        failures.check(right, "the text is NeMo's" if right else f"the text is not NeMo's: {text}")
        check_bus(failures, player)


def silence(failures):
    for lookahead in LOOKAHEADS:
        print(f"live silence, started at once, lookahead {lookahead} ms")
        player = Player(
            f"audiotestsrc is-live=true wave=silence samplesperbuffer={BLOCK} ! {AUDIO} "
            f"! nemostt name=stt lookahead={lookahead} ! fakesink"
        )
        with player:
            # At once, as gst-launch does. Audio then waits for the model: no reason to warn of slow computing.
            player.play()
            # The sink is ready when it has something: a GAP event, there being no words.
            result, state, _ = player.pipeline.get_state(PATIENCE * Gst.SECOND)
            at = player.stt.get_current_running_time() / Gst.MSECOND
            playing = result == Gst.StateChangeReturn.SUCCESS and state == Gst.State.PLAYING
            failures.check(playing, f"PLAYING after {at:.0f} ms")
            player.run(SILENCE_SECONDS)
            latency = check_latency(failures, player, lookahead)
            now = player.stt.get_current_running_time() / Gst.MSECOND
        gaps = player.listener.gaps
        ends = [end for end, _ in gaps]
        failures.check(
            len(gaps) > 1 and ends == sorted(set(ends)) and not player.listener.words,
            f"{len(gaps)} GAP events, each beyond the one before, and no words",
        )
        # The output is furthest behind right before the next event comes. It begins at 0.
        lags = [then - end for end, then in zip([0, *ends], [*(then for _, then in gaps), now])]
        limit = latency + lookahead + 80
        failures.check(
            max(lags) <= limit,
            f"time is at most {max(lags):.0f} ms behind, at the first event {lags[0]:.0f} ms; {limit:.0f} ms may be",
        )
        check_bus(failures, player)


def serve():
    """Starts a server that gives the clip at the speed of speech; returns its address."""
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")  # any port that is free
    factory = GstRtspServer.RTSPMediaFactory()
    # L16 loses nothing, so the words must be those of the file.
    factory.set_launch(
        f'( filesrc location="{CLIP}" ! wavparse ! audioconvert '
        f"! rtpL16pay name=pay0 max-ptime={20 * Gst.MSECOND} )"
    )
    server.get_mount_points().add_factory("/clip", factory)
    server.attach(None)
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    # The server lives as long as the program.
    serve.server = server
    return f"rtsp://127.0.0.1:{server.get_bound_port()}/clip"


def rtsp(failures):
    location = serve()
    with wave.open(str(CLIP)) as file:
        seconds = file.getnframes() / RATE
    for lookahead in LOOKAHEADS:
        print(f"RTSP, lookahead {lookahead} ms")
        player = Player(
            f"rtspsrc location={location} latency=200 ! rtpL16depay ! audioconvert ! audioresample ! {AUDIO} ! queue "
            f"! nemostt name=stt lookahead={lookahead} ! appsink sync=false wait-on-eos=false"
        )
        with player:
            player.play_when_loaded()
            ended = player.run(seconds + PATIENCE)
            latency = check_latency(failures, player, lookahead)
            check_words(failures, player, latency)
        heard, said = [text for text, *_ in player.listener.words], expected_text(lookahead).split()
        lost = next((n for n in range(MAY_BE_LOST + 1) if heard == said[n:]), None)
        failures.check(ended, "the stream ended" if ended else "no end of stream came")
        right = lost is not None
        failures.check(right, f"the clip's words, {lost} lost at the start" if right else f"not its words: {heard}")
        check_bus(failures, player)


def describe():
    """The numbers are worth nothing without the machine's."""
    processor = platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    plugin = Gst.Registry.get().find_plugin("nemostt")
    load = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"{plugin.get_filename()}, version {plugin.get_version()}; {Gst.version_string()}")
    print(f"{processor}, {len(os.sched_getaffinity(0))} cores for us, load {load}\n")


def main():
    parser = argparse.ArgumentParser(description="Checks nemostt with live sources.")
    parser.add_argument("what", nargs="?", choices=("live", "rtsp", "all"), default="all")
    what = parser.parse_args().what
    Gst.init(None)
    missing = {package for name, package in ELEMENTS.items() if Gst.ElementFactory.find(name) is None}
    if missing:
        return f"live_test: elements are missing: run 'apt install {' '.join(sorted(missing))}'"
    if Gst.ElementFactory.find("nemostt") is None:
        path = os.environ["GST_PLUGIN_PATH"]
        return f"live_test: no nemostt in {path}: run 'make build', or set GST_PLUGIN_PATH"
    try:
        if what != "live":
            gi.require_version("GstRtspServer", "1.0")
    except ValueError:
        return "live_test: the RTSP server is missing: run 'apt install gir1.2-gst-rtsp-server-1.0'"
    describe()
    failures = Failures()
    for run in {"live": (silence, live), "rtsp": (rtsp,), "all": (silence, live, rtsp)}[what]:
        try:
            run(failures)
        except RuntimeError as error:
            failures.check(False, str(error))
    print(f"\n{failures.passed} passed, {failures.failed} failed")
    return int(failures.failed > 0)


if __name__ == "__main__":
    sys.exit(main())

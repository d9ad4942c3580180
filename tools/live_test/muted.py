# SPDX-License-Identifier: MIT OR Apache-2.0
"""Live video with text while its audio is muted: video frames must not wait for it."""

import tempfile
import time
from pathlib import Path

from gi.repository import GObject, Gst

from harness import AUDIO, BLOCK, JITTER, LOOKAHEADS, TIMEOUT, RATE, Player, check, clip, first_of, first_missing, parts

FPS = 25
SIZE = f"video/x-raw,width=160,height=120,framerate={FPS}/1"
LONG_QUEUE = "queue max-size-buffers=0 max-size-bytes=0 max-size-time=10000000000"
SECONDS = 12
# When audio is muted, and for how long: during "bedroom", and during the clip's third sentence.
MUTES = ((1.3, 4.0), (8.0, 1.5))


def microphone(valve="valve name=valve"):
    latency = BLOCK * Gst.SECOND // RATE
    return (
        f"appsrc name=source is-live=true format=time min-latency={latency} caps={AUDIO} ! {valve} ! queue "
        "! nemostt name=stt"
    )


class VideoFrames:
    """Records when each video frame is rendered."""

    def __init__(self, player, sink="video"):
        self.shown = []  # (running time of the frame, when it was rendered), in ms
        self.sink = player[sink]
        self.sink.set_property("signal-handoffs", True)
        self.sink.connect("handoff", self._shown)

    def _shown(self, sink, buffer, pad):
        now = sink.get_current_running_time() / Gst.MSECOND
        segment = pad.get_sticky_event(Gst.EventType.SEGMENT, 0).parse_segment()
        self.shown.append((segment.to_running_time(Gst.Format.TIME, buffer.pts) / Gst.MSECOND, now))

    def assess(self, checks, what, latency, seconds, fps=FPS):
        late = [(pts, now - pts) for pts, now in self.shown if now - pts > latency + JITTER]
        times = [pts for pts, _ in self.shown]
        step = 1000 / fps
        missing = sum(max(round((b - a) / step) - 1, 0) for a, b in zip(times, times[1:]))
        worst = max((now - pts for pts, now in self.shown), default=float("nan"))
        checks.check(
            self.shown and not late,
            f"{what}: frames are rendered at most {worst:.0f} ms after their time; latency {latency:.0f} ms"
            + (f"; {len(late)} late, the first at {late[0][0]:.0f} ms" if late else ""),
        )
        enough = len(times) >= (seconds - latency / 1000) * fps - 5
        checks.check(enough and missing == 0, f"{what}: {len(times)} frames, {missing} missing")


def mute(player, mutes=MUTES):
    def switch(drop):
        return lambda: player["valve"].set_property("drop", drop)

    for at, length in mutes:
        player.after(at, switch(True))
        player.after(at + length, switch(False))


def overlay(valve="valve name=valve", extra="", fps=FPS):
    size = SIZE.replace(f"={FPS}/1", f"={fps}/1")
    return (
        f"videotestsrc is-live=true ! {size} ! {LONG_QUEUE} ! textoverlay name=overlay ! fakesink name=video sync=true "
        f"{microphone(valve)} {extra} ! queue max-size-time=5000000000 ! overlay.text_sink"
    )


def check_video(checks, what, description, mutes=MUTES, seconds=SECONDS, fps=FPS):
    player = Player(description)
    with player:
        frames = VideoFrames(player)
        player.play()
        audio = clip()
        player.feed(parts(audio), ends=False)
        mute(player, mutes)
        player.run(seconds)
        latency = player.latency()
        frames.assess(checks, what, latency, seconds, fps)
        checks.check(
            not player.recorder.backward,
            f"{what}: running time never goes backwards {player.recorder.backward[:3] or ''}",
        )
        checks.check(bool(player.texts()) or not mutes, f"{what}: {len(player.texts())} words")
        checks.check(not player.warnings, f"{what}: {len(player.warnings)} warnings {player.warnings[:2] or ''}")


@check(seconds=120)
def overlay_while_muted(checks):
    for lookahead in LOOKAHEADS:
        check_video(checks, f"lookahead {lookahead}", overlay(extra=f"lookahead={lookahead}"))


@check(seconds=240)
def overlay_mute_variants(checks):
    check_video(checks, "muted from the start", overlay("valve name=valve drop=true", "lookahead=480"), mutes=())
    check_video(checks, "muted until 5 s", overlay("valve name=valve drop=true", "lookahead=480"), mutes=((0, 5.0),))
    check_video(checks, "utterances", overlay(extra="lookahead=80 output=utterances"))
    stay = "hold-until-next=true min-word-duration=400"
    check_video(checks, "held words", overlay(extra=f"lookahead=480 {stay}"))
    check_video(checks, "short utterances", overlay(extra=f"lookahead=80 output=utterances max-utterance=1500 {stay}"))
    check_video(checks, "lateness", overlay(extra="lookahead=480 lateness=1000"))
    check_video(checks, "50 frames per second", overlay(extra="lookahead=480", fps=50), fps=50)
    for mode in ("forward-sticky-events", "transform-to-gap"):
        valve = f"valve name=valve drop-mode={mode}"
        check_video(checks, mode, overlay(valve, "lookahead=480"))
        check_video(checks, f"{mode} from the start", overlay(f"{valve} drop=true", "lookahead=480"), mutes=())


@check(seconds=60)
def overlay_before_audio(checks):
    """The source starts, but its first buffer, and with it the segment, arrives after 5 s or never."""
    for at in (5, None):
        with Player(overlay(extra="lookahead=480")) as player:
            frames = VideoFrames(player)
            player.play()
            if at is not None:
                player.feed(parts(clip()[: 2 * RATE * 4], at=at), ends=False)
            player.run(10)
            what = "no audio" if at is None else f"audio from {at} s on"
            frames.assess(checks, what, player.latency(), 10)
            checks.check(
                at is None or player.texts()[:5] == "turn off the bedroom lamp".split(), f"{what}: {player.texts()}"
            )


@check(seconds=60)
def overlay_paused(checks):
    """The pipeline is paused for 5 s, with or without muted audio, or its clock is replaced during the pause."""
    for muted, clock in ((False, False), (True, False), (False, True)):
        with Player(overlay(extra="lookahead=480")) as player:
            frames = VideoFrames(player)
            player.play()
            player.feed(parts(clip()), ends=False)
            player.run(3)
            player["valve"].set_property("drop", muted)
            player.run(0.5)
            player.pipeline.set_state(Gst.State.PAUSED)
            player.run(5)
            if clock:
                other = GObject.new(GObject.type_from_name("GstSystemClock"), name="other")
                other.set_property("clock-type", 0)
                player.pipeline.use_clock(other)
            player.play()
            player.run(5)
            what = f"paused{', muted' if muted else ''}{', another clock' if clock else ''}"
            frames.assess(checks, what, player.latency(), 8)
            checks.check(not player.recorder.backward, f"{what}: running time never goes backwards")


class RecordedFile:
    """A file that was recorded: the buffers of each stream."""

    def __init__(self, path, demuxer):
        self.counts = {}
        pipeline = Gst.parse_launch(f'filesrc location="{path}" ! {demuxer} name=d')

        def added(_, pad):
            kind = (
                pad.get_current_caps().get_structure(0).get_name().split("/")[0]
                if pad.has_current_caps()
                else pad.get_name()
            )
            kind = {"application": "text", "subpicture": "text"}.get(kind, kind)
            self.counts.setdefault(kind, [])
            sink = Gst.ElementFactory.make("fakesink")
            queue = Gst.ElementFactory.make("queue")
            sink.set_property("sync", False)
            sink.set_property("async", False)
            for element in (queue, sink):
                pipeline.add(element)
                element.sync_state_with_parent()
            queue.link(sink)
            pad.link(queue.get_static_pad("sink"))

            def count(_, info):
                buffer = info.get_buffer()
                # MP4 stores the pause before a cue as an empty cue.
                data = buffer.extract_dup(0, buffer.get_size())
                if kind != "text" or data.strip(b"\0 "):
                    self.counts[kind].append(data)
                return Gst.PadProbeReturn.OK

            pad.add_probe(Gst.PadProbeType.BUFFER, count)

        pipeline.get_by_name("d").connect("pad-added", added)
        pipeline.set_state(Gst.State.PLAYING)
        message = pipeline.get_bus().timed_pop_filtered(20 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
        self.error = None
        if message is None:
            self.error = "no EOS"
        elif message.type == Gst.MessageType.ERROR:
            self.error = message.parse_error()[0].message
        pipeline.set_state(Gst.State.NULL)


def record(checks, what, muxer, encoder, demuxer, valve="valve name=valve", mutes=MUTES, text_pad="subtitle_0"):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file"
        player = Player(
            f"videotestsrc is-live=true ! {SIZE} ! {encoder} ! identity name=encoded ! {LONG_QUEUE} ! mux. "
            f"{microphone(valve)} lookahead=480 ! queue max-size-time=5000000000 ! mux.{text_pad} "
            f'{muxer} name=mux ! filesink location="{path}"'
        )
        encoded = []
        player["encoded"].get_static_pad("src").add_probe(
            Gst.PadProbeType.BUFFER, lambda *_: encoded.append(1) or Gst.PadProbeReturn.OK
        )
        sizes = []
        with player:
            player.play()
            player.feed(parts(clip()), ends=False)
            mute(player, mutes)
            player.run(SECONDS / 2)
            sizes.append(path.stat().st_size if path.exists() else 0)
            player.run(SECONDS / 2)
            # First the text: matroskamux does not wait for the last words when its other streams have ended.
            player["source"].emit("end-of-stream")
            due = time.monotonic() + TIMEOUT
            while not player.recorder.has_ended and time.monotonic() < due:
                player.run(0.05)
            player.pipeline.send_event(Gst.Event.new_eos())
            ended = player.run(TIMEOUT)
        checks.check(ended, f"{what}: the file was finished" if ended else f"{what}: no EOS")
        file = RecordedFile(path, demuxer)
        frames, cues = len(file.counts.get("video", [])), len(file.counts.get("text", []))
        checks.check(
            file.error is None and frames == len(encoded) > FPS * (SECONDS - 2),
            f"{what}: {frames} of {len(encoded)} frames are in the file, which had {sizes[0]} bytes halfway"
            + (f": {file.error}" if file.error else ""),
        )
        words = len(player.texts())
        checks.check(cues == words and (words > 0 or not mutes), f"{what}: {cues} cues, {words} words")


@check(seconds=240)
def files_while_muted(checks):
    h264 = first_of("openh264enc", "x264enc tune=zerolatency speed-preset=ultrafast", "avenc_mpeg4")
    vp8 = "vp8enc deadline=1"
    kinds = [
        ("Matroska", "matroskamux", vp8, "matroskademux"),
        ("Matroska, streamed", "matroskamux streamable=true", vp8, "matroskademux"),
    ]
    if h264 is None:
        checks.not_run("MP4", "openh264enc, x264enc or avenc_mpeg4")
    else:
        h264 = f"{h264} ! h264parse" if "264" in h264 else h264
        kinds += [
            ("MP4, fragmented", "mp4mux fragment-duration=1000", h264, "qtdemux"),
            ("MP4, faststart", "mp4mux faststart=true", h264, "qtdemux"),
        ]
    for what, muxer, encoder, demuxer in kinds:
        name, enc = muxer.split()[0], encoder.split()[0]
        if missing := first_missing(name, enc, demuxer):
            checks.not_run(what, missing)
            continue
        record(checks, what, muxer, encoder, demuxer)
        gap = "valve name=valve drop-mode=transform-to-gap"
        record(checks, f"{what}, muted from the start with gaps", muxer, encoder, demuxer, f"{gap} drop=true", mutes=())
    record(checks, "Matroska, muted from the start until 6 s", *kinds[0][1:], "valve name=valve drop=true", ((0, 6.0),))


@check(seconds=60)
def hls_while_muted(checks):
    if missing := first_missing("hlssink3", "webvttenc"):
        checks.not_run("HLS with WebVTT", missing)
    if missing := first_missing("mpegtsmux"):
        checks.not_run("MPEG-TS", missing)
    else:
        template = Gst.ElementFactory.find("mpegtsmux")
        text = [t for t in template.get_static_pad_templates() if "text/x-raw" in t.get_caps().to_string()]
        if not text:
            checks.not_run("MPEG-TS with text", "an element that converts text/x-raw to teletext or KLV")
    if missing := first_missing("webvttenc"):
        checks.not_run("WebVTT", missing)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "file.vtt"
        player = Player(f'{microphone()} lookahead=480 ! webvttenc ! filesink location="{path}"')
        with player:
            player.play()
            player.feed(parts(clip()), ends=False)
            mute(player)
            player.run(SECONDS)
            player["source"].emit("end-of-stream")
            ended = player.run(TIMEOUT)
        cues = path.read_text().count(" --> ")
        words = len(player.texts())
        checks.check(ended and cues == words > 0, f"WebVTT: {cues} cues, {words} words")

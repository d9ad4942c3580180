# SPDX-License-Identifier: MIT OR Apache-2.0
"""Files that are played and transcribed at the same time, with a tee and default queues, as in a player."""

import tempfile
import threading
import time
from pathlib import Path

from gi.repository import Gst

from harness import (
    AUDIO,
    CLIP,
    LOOKAHEADS,
    TIMEOUT,
    RATE,
    Player,
    check,
    clip,
    diff,
    expected_words,
    first_of,
    first_missing,
    normalize,
    parts,
)

START = 5
KINDS = {
    "wav": ("audioconvert ! wavenc", ("wavenc", "wavparse")),
    "mp3": (
        "audioconvert ! audioresample ! lamemp3enc target=bitrate bitrate=128 ! id3v2mux",
        ("lamemp3enc", "id3v2mux"),
    ),
    "ogg": ("audioconvert ! vorbisenc quality=0.8 ! oggmux", ("vorbisenc", "oggmux", "vorbisdec")),
    "opus": ("audioconvert ! audioresample ! opusenc bitrate=128000 ! oggmux", ("opusenc", "oggmux", "opusdec")),
    "flac": ("audioconvert ! flacenc", ("flacenc", "flacdec")),
    "mka": ("audioconvert ! vorbisenc quality=0.8 ! matroskamux", ("vorbisenc", "matroskamux", "vorbisdec")),
}


def encode(directory, kind, encoder):
    path = Path(directory) / f"speech.{kind}"
    pipeline = Gst.parse_launch(f'filesrc location="{CLIP}" ! wavparse ! {encoder} ! filesink location="{path}"')
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(60 * Gst.SECOND, Gst.MessageType.EOS | Gst.MessageType.ERROR)
    pipeline.set_state(Gst.State.NULL)
    if message is None or message.type == Gst.MessageType.ERROR:
        raise RuntimeError(f"{kind} could not be encoded: {message and message.parse_error()}")
    return path


def tee(path, lookahead, sync):
    resample = "audioconvert ! audioresample"
    return (
        f'filesrc location="{path}" ! decodebin ! tee name=t t. ! queue ! {resample} ! fakesink sync={sync} '
        f"t. ! queue ! {resample} ! nemostt name=stt lookahead={lookahead} ! fakesink sync={sync}"
    )


def play(checks, kind, encoder, elements):
    if missing := first_missing(*elements):
        checks.not_run(kind, missing)
        return
    with tempfile.TemporaryDirectory() as directory:
        path = encode(directory, kind, encoder)
        for lookahead in LOOKAHEADS:
            with Player(tee(path, lookahead, "true")) as player:
                elapsed = player.starts_within(START)
                player.run(1.5)
                state = f"PLAYING after {elapsed:.2f} s" if elapsed else f"not PLAYING after {START} s"
                checks.check(elapsed is not None, f"{kind}, lookahead {lookahead}: {state}")
                at = player.pipeline.query_position(Gst.Format.TIME)[1] / Gst.SECOND
                checks.check(at > 1, f"{kind}, lookahead {lookahead}: it plays, position {at:.2f} s")
            with Player(tee(path, lookahead, "false")) as player:
                player.play()
                ended = player.run(TIMEOUT * 3)
                actual, expected = normalize(player.texts()), expected_words(lookahead)
                checks.check(ended and actual == expected, f"{kind}, lookahead {lookahead}: {diff(actual, expected)}")


@check(seconds=240)
def formats(checks):
    kinds = dict(KINDS)
    aac = first_of("fdkaacenc", "avenc_aac bitrate=256000", "voaacenc bitrate=256000", "faac")
    if aac is None:
        checks.not_run("aac", "fdkaacenc, avenc_aac, voaacenc or faac")
    elif first_of("avdec_aac", "fdkaacdec", "faad") is None:
        checks.not_run("aac", "avdec_aac, fdkaacdec or faad")
    else:
        parse = " ! aacparse" if first_missing("aacparse") is None else ""
        # At 16 kHz, voaacenc takes so much away that some words become others.
        aac = f"audioconvert ! audioresample ! audio/x-raw,rate=48000 ! {aac}"
        kinds["m4a"] = (f"{aac}{parse} ! mp4mux", ("mp4mux", "qtdemux"))
        kinds["aac"] = (f"{aac}{parse} ! audio/mpeg,stream-format=adts", ("aacparse",))
    for kind, (encoder, elements) in kinds.items():
        play(checks, kind, encoder, elements)


@check(seconds=60)
def slow_file(checks):
    """A file that arrives slower than real time, as from a slow network: the times of its words do not change."""

    def transcribe(pause, block):
        with Player(
            f"appsrc name=source format=time caps={AUDIO} ! queue ! nemostt name=stt lookahead=480 ! fakesink"
        ) as player:
            player.play()

            def feed():
                for part in parts(clip()[: 2 * RATE * 6], block=block):
                    buffer = Gst.Buffer.new_wrapped(part.data)
                    buffer.pts = part.pts
                    player["source"].emit("push-buffer", buffer)
                    time.sleep(pause)
                player["source"].emit("end-of-stream")

            threading.Thread(target=feed, daemon=True).start()
            ended = player.run(30)
            return ended, [(text, round(start)) for text, start, *_ in player.recorder.words]

    _, expected = transcribe(0, RATE)
    for pause, seconds in ((1.5, 1), (0.3, 0.2), (3, 2)):
        ended, actual = transcribe(pause, int(RATE * seconds))
        same = ended and actual == expected
        checks.check(same, f"{seconds} s of audio every {pause} s: {'same words and times' if same else actual}")


@check(alone=True, seconds=60)
def playback_muted(checks):
    """A file is played, and a valve before nemostt closes: the video continues."""
    with Player(
        f'filesrc location="{CLIP}" ! wavparse ! tee name=t t. ! queue ! fakesink sync=true '
        "t. ! queue ! audioconvert ! audioresample ! valve name=valve ! nemostt name=stt lookahead=480 ! queue "
        "! o.text_sink "
        "videotestsrc num-buffers=250 ! video/x-raw,width=160,height=120,framerate=25/1 ! queue "
        "! textoverlay name=o ! fakesink name=video sync=true"
    ) as player:
        shown = []
        sink = player["video"]
        sink.get_static_pad("sink").add_probe(
            Gst.PadProbeType.BUFFER, lambda _, info: shown.append(info.get_buffer().pts) or Gst.PadProbeReturn.OK
        )
        checks.check(player.starts_within(START) is not None, "it plays")
        player.run(2)
        player["valve"].set_property("drop", True)
        player.run(5)
        last = max(shown, default=0) / Gst.SECOND
        checks.check(last > 6, f"7 s after the start the video is at {last:.1f} s")


@check(seconds=60)
def seeks(checks):
    """Seeks to various positions while text and sound are played."""
    resample = "audioconvert ! audioresample"
    with Player(
        f'filesrc location="{CLIP}" ! wavparse ! tee name=t t. ! queue ! {resample} ! fakesink sync=true '
        f"t. ! queue ! {resample} ! nemostt name=stt lookahead=1040 ! queue ! fakesink sync=true"
    ) as player:
        checks.check(player.starts_within(START) is not None, "it plays")
        flush = Gst.SeekFlags.FLUSH | Gst.SeekFlags.ACCURATE
        done = 0
        for n in range(20):
            player.run(0.02 + n % 7 * 0.1)
            rate, start = (1.0, 2.0, -1.0, 0.5)[n % 4], (n * 37 % 100) / 10
            player.pipeline.seek(
                rate,
                Gst.Format.TIME,
                flush,
                Gst.SeekType.SET,
                int(start * Gst.SECOND),
                Gst.SeekType.SET,
                20 * Gst.SECOND,
            )
            done += player.pipeline.get_state(3 * Gst.SECOND)[0] == Gst.StateChangeReturn.SUCCESS
        checks.check(done == 20, f"{done} of 20 seeks finished within 3 s each")
        player.pipeline.seek_simple(Gst.Format.TIME, flush, 0)
        player.recorder.words.clear()
        ended = player.run(25 + TIMEOUT)
        checks.check(
            ended and player.texts() == expected_words(), f"from the start: {diff(player.texts(), expected_words())}"
        )

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Shared by the examples in Python: makes a pipeline, or says what is missing, and plays it to its end."""

import signal
import sys
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

# A picture and the sound of a file (25 s) at the pace of a camera, for trying an example without one.
DEMO = Path(__file__).resolve().parent.parent / "assets" / "demo.wav"
TEST_VIDEO = "videotestsrc is-live=true num-buffers=800 ! video/x-raw,width=640,height=360,framerate=30/1"
TEST_AUDIO = f'filesrc location="{DEMO}" ! wavparse ! clocksync ! audioconvert ! audioresample'

# Where elements are that not every installation has.
PACKAGES = {
    "nemostt": "make install, or GST_PLUGIN_PATH",
    "textoverlay": "gstreamer1.0-x",
    "rtspsrc": "gstreamer1.0-plugins-good",
    "flvmux": "gstreamer1.0-plugins-good",
    "x264enc": "gstreamer1.0-plugins-ugly",
    **dict.fromkeys(("cea608overlay", "cea708overlay", "transcriberbin", "tttocea608", "tttocea708"), "gst-plugins-rs"),
    **dict.fromkeys(("textwrap", "webrtcsink"), "gst-plugins-rs"),
    "nicesink": "gstreamer1.0-nice",
}


def parts(source, video, audio):
    """The parts of a pipeline for the first argument of the program: `source` with it, and what plays its picture and sound; with
    --test, a test picture, the sound of a file, and no window."""
    if sys.argv[1] == "--test":
        sink = "fakesink sync=true"
        return {"source": "", "video": TEST_VIDEO, "audio": TEST_AUDIO, "window": sink, "speaker": sink}
    source = source.format(sys.argv[1])
    return {"source": source, "video": video, "audio": audio, "window": "autovideosink", "speaker": "autoaudiosink"}


def fail(message):
    """Ends the program with exit code 1."""
    sys.exit(f"{Path(sys.argv[0]).stem}: {message}")


def require(*elements):
    """Ends the program if one of these elements is not installed."""
    if missing := [name for name in elements if Gst.ElementFactory.find(name) is None]:
        names = (f"{name} ({PACKAGES.get(name, 'gstreamer1.0-plugins-bad')})" for name in missing)
        fail(f"these elements are not installed: {', '.join(names)}")


def make(description, *also):
    """A pipeline; the elements `also` are those that others make for themselves."""
    context = Gst.ParseContext.new()
    try:
        pipeline = Gst.parse_launch_full(description, context, Gst.ParseFlags.NONE)
    except GLib.Error as error:
        require(*(context.get_missing_elements() or []), *also)
        fail(error.message)
    require(*also)
    return pipeline


def play(pipeline, on_text=lambda text: print(text, flush=True)):
    """Plays the pipeline to its end, and calls `on_text` with each final text of nemostt."""
    # "example | head" ends quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    bus = pipeline.get_bus()
    # When this fails, the bus has a message that says why.
    pipeline.set_state(Gst.State.PLAYING)
    try:
        while True:
            # Between two looks at the bus Python can see Ctrl-C.
            message = bus.timed_pop(Gst.SECOND // 5)
            if message is None:
                continue
            if message.type == Gst.MessageType.ELEMENT:
                text = message.get_structure()
                if text is not None and text.get_name() == "nemostt" and text.get_value("is-final"):
                    on_text(text.get_value("text"))
            elif message.type == Gst.MessageType.LATENCY:
                pipeline.recalculate_latency()
            elif message.type == Gst.MessageType.EOS:
                return 0
            elif message.type == Gst.MessageType.ERROR:
                fail(f"{message.src.get_name()}: {message.parse_error()[0].message}")
    except KeyboardInterrupt:
        return 130
    finally:
        # Also after an error: an element must not be dropped while it plays.
        pipeline.set_state(Gst.State.NULL)

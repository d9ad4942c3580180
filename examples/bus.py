#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Prints the words of a media file as the element nemostt posts them on the bus.

    examples/bus.py [FILE]

The plugin must be installed ("make install"), or GST_PLUGIN_PATH must name its folder.
"""
import signal
import sys
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
from gi.repository import GLib, Gst  # noqa: E402

# Without "sync=false" the words of a file would come at the speed of speech.
PIPELINE = "filesrc name=source ! decodebin ! audioconvert ! audioresample ! nemostt ! fakesink sync=false"

DEFAULT_FILE = Path(__file__).resolve().parent.parent / "assets" / "demo.wav"

# Between two looks at the bus Python can see Ctrl-C.
PATIENCE = Gst.SECOND // 5


def print_word(word):
    start, end = (word.get_value(name) / Gst.SECOND for name in ("start-time", "end-time"))
    text, confidence = word.get_value("text"), word.get_value("confidence")
    print(f"{start:.2f}–{end:.2f}  {text}  {confidence:.2f}", flush=True)


def print_words(pipeline):
    """Plays the pipeline to its end; an error that an element posts is raised."""
    bus = pipeline.get_bus()
    # When this fails, the bus has a message that says why.
    pipeline.set_state(Gst.State.PLAYING)
    while True:
        message = bus.timed_pop(PATIENCE)
        if message is None:
            continue
        if message.type == Gst.MessageType.ELEMENT:
            word = message.get_structure()
            if word is not None and word.get_name() == "nemostt" and word.get_value("is-final"):
                print_word(word)
        elif message.type == Gst.MessageType.EOS:
            return
        elif message.type == Gst.MessageType.ERROR:
            raise RuntimeError(f"{message.src.get_name()}: {message.parse_error()[0].message}")


def main():
    file = sys.argv[1] if len(sys.argv) > 1 else str(DEFAULT_FILE)
    # "bus.py | head" ends quietly.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    Gst.init(None)
    pipeline = None
    try:
        pipeline = Gst.parse_launch(PIPELINE)
        pipeline.get_by_name("source").set_property("location", file)
        print_words(pipeline)
    except GLib.Error as error:
        return f"bus: {error.message}"
    except RuntimeError as error:
        return f"bus: {error}"
    except KeyboardInterrupt:
        return 130
    finally:
        # Also after an error: an element must not be dropped while it plays.
        if pipeline is not None:
            pipeline.set_state(Gst.State.NULL)
    return 0


if __name__ == "__main__":
    sys.exit(main())

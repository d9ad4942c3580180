#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""An application around transcriberbin: shows a file, a camera or any other URI in a window, and Enter turns its captions off
and on.

    examples/transcriberbin_window.py rtsp://camera.local/stream
    examples/transcriberbin_window.py --test            a test picture, the sound of assets/demo.wav, and no window

transcriberbin delays picture and sound until their words are known, and puts the captions into the picture as CEA-708.
cea708overlay draws them; an encoder in its place would send them.
"""
import sys
import threading

import player
from player import Gst

SOURCE = 'uridecodebin uri="{}" name=source'
SOURCE_VIDEO = "source. ! clocksync"
SOURCE_AUDIO = "source. ! clocksync ! audioconvert ! audioresample"

# Its other method, CEA-608 in CEA-708, needs the element cea608mux of GStreamer 1.24.
PIPELINE = """
transcriberbin name=captions mux-method=cea708 cc-caps="closedcaption/x-cea-708,format=cc_data"
{source}
{video} ! videoconvert ! queue ! captions.sink_video
{audio} ! queue ! captions.sink_audio
captions.src_video ! videoconvert ! cea708overlay ! videoconvert ! {window}
captions.src_audio ! audioconvert ! {speaker}
"""
# What transcriberbin makes for itself.
INSIDE = ("nemostt", "cccombiner", "ccconverter", "textwrap", "tttocea708")


def stand_in():
    """Without an awstranscriber, transcriberbin cannot be made, even if it gets another one afterwards (gst-plugins-rs 0.14)."""
    nemostt = Gst.ElementFactory.find("nemostt")
    if nemostt is not None and Gst.ElementFactory.find("awstranscriber") is None:
        Gst.Element.register(None, "awstranscriber", Gst.Rank.NONE, nemostt.load().get_element_type())


def turn_off_and_on(captions):
    for _ in sys.stdin:
        off = not captions.get_property("passthrough")
        captions.set_property("passthrough", off)
        print(f"captions {'off' if off else 'on'}", flush=True)


def main():
    if len(sys.argv) != 2:
        return __doc__
    Gst.init(None)
    stand_in()
    parts = player.parts(SOURCE, SOURCE_VIDEO, SOURCE_AUDIO)
    pipeline = player.make(PIPELINE.format(**parts), *INSIDE)
    captions = pipeline.get_by_name("captions")
    # The transcriber belongs to a pad: each track of sound may have another language.
    transcriber = Gst.ElementFactory.make("nemostt")
    transcriber.set_property("lookahead", 480)
    captions.get_static_pad("sink_audio").set_property("transcriber", transcriber)
    if sys.argv[1] != "--test":
        threading.Thread(target=turn_off_and_on, args=(captions,), daemon=True).start()
    return player.play(pipeline)


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Streams a file, a camera or any other URI with CEA-608 captions in its H.264 picture, to a server or into a file.

    examples/cea608_stream.py URI rtmp://server.example/live/key
    examples/cea608_stream.py URI srt://server.example:7001
    examples/cea608_stream.py URI captions.ts
    examples/cea608_stream.py --test [DESTINATION]      a test picture and the sound of assets/demo.wav

Players show these captions like those of television. A file is streamed at the pace of a camera.
"""
import sys

import player
from player import Gst

SOURCE = 'uridecodebin uri="{}" name=source'
SOURCE_VIDEO = "source. ! clocksync"
SOURCE_AUDIO = "source. ! clocksync ! audioconvert ! audioresample"

SINKS = {
    "rtmp": 'flvmux name=mux streamable=true ! rtmp2sink location="{}"',
    "srt": 'mpegtsmux name=mux alignment=7 ! srtsink uri="{}" wait-for-connection=false',
    "": 'mpegtsmux name=mux ! filesink location="{}"',
}

# A caption of one frame holds two characters, and NTSC's rate is what decoders expect: a cue of two lines takes a second.
RATE = "30000/1001"
# The queues hold what the latency asks for: 2.8 s of words and cues.
HOLD = "queue max-size-time=8000000000 max-size-bytes=0 max-size-buffers=0"

PIPELINE = """
{source}
{video} ! videoconvert ! videorate ! video/x-raw,framerate={rate} ! {hold} ! cccombiner name=captions
captions. ! x264enc tune=zerolatency speed-preset=veryfast key-int-max=60 ! h264parse ! queue ! mux.
{audio} ! tee name=sound
sound. ! {hold} ! audioconvert ! voaacenc ! aacparse ! queue ! mux.
sound. ! queue ! audioconvert ! audioresample ! nemostt output=cues cue-mode=roll-up cue-delay=1000 ! queue
  ! tttocea608 mode=roll-up2 ! closedcaption/x-cea-608,format=raw,framerate={rate}
  ! ccconverter ! closedcaption/x-cea-708,format=cc_data,framerate={rate} ! queue ! captions.caption
{sink}
"""


def main():
    is_test = sys.argv[1:2] == ["--test"]
    if not (2 <= len(sys.argv) <= 3 and (is_test or len(sys.argv) == 3)):
        return __doc__
    destination = sys.argv[2] if len(sys.argv) == 3 else "/dev/null"
    scheme = destination.partition("://")[0].removesuffix("s") if "://" in destination else ""
    if scheme not in SINKS:
        return f"cea608_stream: {destination} is neither rtmp://, srt:// nor a file"
    Gst.init(None)
    pipeline = player.make(
        PIPELINE.format(
            **player.parts(SOURCE, SOURCE_VIDEO, SOURCE_AUDIO),
            sink=SINKS[scheme].format(destination),
            rate=RATE,
            hold=HOLD,
        )
    )
    return player.play(pipeline)


if __name__ == "__main__":
    sys.exit(main())

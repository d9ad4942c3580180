#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Shows an RTSP camera in a window, with captions over the picture.

    examples/rtsp_window.py rtsp://camera.local/stream
    examples/rtsp_window.py --test          a test picture, the sound of assets/demo.wav, and no window

The picture waits for its captions: two lines that roll up, three seconds after they were spoken. A camera whose sound is AAC
needs gstreamer1.0-libav.
"""
import sys

import player
from player import Gst

# "latency" is what rtspsrc waits for late packets.
CAMERA = 'rtspsrc location="{}" latency=200 name=camera'
CAMERA_VIDEO = "camera. ! application/x-rtp,media=video ! decodebin"
CAMERA_AUDIO = "camera. ! application/x-rtp,media=audio ! decodebin ! audioconvert ! audioresample"

# The queues hold what the latency asks for: 1.5 s of words and 1.5 s of cues. A queue of the default length would stop there.
HOLD = "queue max-size-time=6000000000 max-size-bytes=0 max-size-buffers=0"

PIPELINE = """
{source}
{video} ! videoconvert ! {hold}
  ! textoverlay name=captions font-desc="Sans, 24" shaded-background=true wait-text=true ! videoconvert ! {window}
{audio} ! tee name=sound
sound. ! {hold} ! {speaker}
sound. ! queue ! nemostt lookahead=480 output=cues cue-mode=roll-up cue-delay=1500 ! queue ! captions.text_sink
"""


def main():
    if len(sys.argv) != 2:
        return __doc__
    Gst.init(None)
    parts = player.parts(CAMERA, CAMERA_VIDEO, CAMERA_AUDIO)
    return player.play(player.make(PIPELINE.format(**parts, hold=HOLD)))


if __name__ == "__main__":
    sys.exit(main())

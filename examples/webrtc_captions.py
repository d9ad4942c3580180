#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Sends a file, a camera or any other URI to browsers with WebRTC, and its captions beside it in a data channel.

    examples/webrtc_captions.py rtsp://camera.local/stream
    examples/webrtc_captions.py --test          a test picture and the sound of assets/demo.wav

The signalling server runs in the process, on port 8443; gstwebrtc-api of gst-plugins-rs is a page for it. In the browser:

    peer.ondatachannel = ({ channel }) => { channel.onmessage = ({ data }) => show(JSON.parse(data).text); };

Picture and sound do not wait for the captions: these come with each pause, and after five seconds at the latest.
"""
import json
import os
import sys

import player
from player import Gst

SOURCE = 'uridecodebin uri="{}" name=source'
SOURCE_VIDEO = "source. ! clocksync"
SOURCE_AUDIO = "source. ! clocksync ! audioconvert ! audioresample"

PIPELINE = """
webrtcsink name=peers run-signalling-server=true
{source}
{video} ! videoconvert ! queue ! peers.
{audio} ! tee name=sound
sound. ! queue ! audioconvert ! audioresample ! peers.
sound. ! queue ! audioconvert ! audioresample ! nemostt lookahead=480 output=utterances max-utterance=5000 ! fakesink sync=false
"""


class Captions:
    """A data channel for each peer, and the text that goes to all of them."""

    def __init__(self):
        self.channels = {}

    def add(self, _sink, peer, webrtcbin, *_):
        # Before the offer is made, so that it announces the channel.
        channel = webrtcbin.emit("create-data-channel", "captions", None)
        if channel is not None:
            channel.connect("on-open", lambda channel: self.channels.update({peer: channel}))

    def remove(self, _sink, peer, *_):
        self.channels.pop(peer, None)

    def send(self, text):
        print(text, flush=True)
        for channel in list(self.channels.values()):
            channel.emit("send-string", json.dumps({"text": text}))


def main():
    if len(sys.argv) != 2:
        return __doc__
    # Its log goes to standard output.
    os.environ.setdefault("WEBRTCSINK_SIGNALLING_SERVER_LOG", "error")
    Gst.init(None)
    pipeline = player.make(
        PIPELINE.format(**player.parts(SOURCE, SOURCE_VIDEO, SOURCE_AUDIO)),
        # webrtcsink takes them for each peer.
        "webrtcbin",
        "nicesink",
        "vp8enc",
        "opusenc",
    )
    captions = Captions()
    peers = pipeline.get_by_name("peers")
    # Its default is a server of Google. Peers in other networks need one: name your own.
    peers.set_property("stun-server", None)
    peers.connect("consumer-added", captions.add)
    peers.connect("consumer-removed", captions.remove)
    return player.play(pipeline, captions.send)


if __name__ == "__main__":
    sys.exit(main())

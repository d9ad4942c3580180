#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Receives what webrtc_captions.py sends, in place of a browser: prints the text of each caption that comes in the data channel, and
how many pictures and buffers of sound have come, at the end.

    webrtc_peer.py URI      that of the signalling server
"""

import json
import signal
import sys
from collections import Counter

import gi

gi.require_version("Gst", "1.0")
# The type of data channels.
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstWebRTC  # noqa: E402, F401


def main():
    Gst.init(None)
    loop = GLib.MainLoop()
    source = Gst.ElementFactory.make("webrtcsrc")
    source.set_property("connect-to-first-producer", True)
    source.set_property("stun-server", None)
    signaller = source.get_property("signaller")
    signaller.set_property("uri", sys.argv[1])
    received = Counter()
    # Nothing else keeps them.
    channels = []

    def ready(_signaller, _peer, webrtcbin):
        webrtcbin.connect("on-data-channel", opened)

    def opened(_webrtcbin, channel):
        channels.append(channel)
        channel.connect("on-message-string", lambda _, text: print(json.loads(text)["text"], flush=True))

    def added(_source, pad):
        sink = Gst.ElementFactory.make("fakesink")
        sink.set_property("sync", False)
        pipeline.add(sink)
        sink.sync_state_with_parent()
        pad.link(sink.get_static_pad("sink"))
        kind = pad.get_name().partition("_")[0]

        def count(*_):
            received[kind] += 1
            return Gst.PadProbeReturn.OK

        pad.add_probe(Gst.PadProbeType.BUFFER, count)

    signaller.connect("webrtcbin-ready", ready)
    source.connect("pad-added", added)
    pipeline = Gst.Pipeline()
    pipeline.add(source)
    bus = pipeline.get_bus()
    bus.add_signal_watch()
    bus.connect("message::error", lambda _, message: (print(message.parse_error(), file=sys.stderr), loop.quit()))
    bus.connect("message::eos", lambda *_: loop.quit())
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGINT, loop.quit)
    pipeline.set_state(Gst.State.PLAYING)
    loop.run()
    print(json.dumps(received), flush=True)
    pipeline.set_state(Gst.State.NULL)


if __name__ == "__main__":
    main()

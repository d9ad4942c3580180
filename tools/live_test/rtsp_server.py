# SPDX-License-Identifier: MIT OR Apache-2.0
"""An RTSP server as a process of its own, which can be killed: sends a WAV file in real time to each client, from its beginning.

    rtsp_server.py FILE PORT

Prints the URL once it listens; port 0 is any free one.
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402


def main():
    path, port = sys.argv[1:]
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    # L16 is lossless, so the words must be those of the file.
    factory.set_launch(
        f'( filesrc location="{path}" ! wavparse ! audioconvert ! rtpL16pay name=pay0 max-ptime={20 * Gst.MSECOND} )'
    )
    server.get_mount_points().add_factory("/clip", factory)
    server.attach(None)
    print(f"rtsp://127.0.0.1:{server.get_bound_port()}/clip", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: MIT OR Apache-2.0
"""The stream of `nemostt live --hls`, played with its captions by hls.js. A clip plays in real time."""

import functools
import json
import os
import shutil
import subprocess
import threading
import time
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CLIP = ROOT / "tests" / "data" / "wav" / "u5_eight_sentences.wav"
TEXTS = json.loads((ROOT / "tests" / "data" / "texts.json").read_text(encoding="utf-8"))
# Segments are as long: a key frame comes every second.
SEGMENT_SECONDS = 4

PAGE = """<!DOCTYPE html>
<video id="video" muted autoplay width="320" height="180"></video>
<script src="hls.min.js"></script>
<script>
const video = document.getElementById("video");
const shown = {};
// Captions are on without further ado: the playlist says so.
const hls = new Hls();
hls.loadSource("master.m3u8");
hls.attachMedia(video);
// What a viewer sees: each caption, with the time of the media at which it is shown.
setInterval(() => {
  const fragment = hls.levels[0]?.details?.fragments[0];
  if (!fragment) return;
  const begin = fragment.start - SEGMENT_SECONDS * fragment.sn;
  for (const track of video.textTracks)
    for (const cue of track.activeCues ?? [])
      shown[cue.text.replaceAll("\\n", " ")] = { start: cue.startTime - begin, seen: video.currentTime - begin };
}, 50);
</script>""".replace("SEGMENT_SECONDS", str(SEGMENT_SECONDS))


class Handler(SimpleHTTPRequestHandler):
    extensions_map = {".m3u8": "application/vnd.apple.mpegurl", ".ts": "video/mp2t", ".vtt": "text/vtt", ".html": "text/html",
                      ".js": "text/javascript"}

    def log_message(self, *_):
        pass


@pytest.fixture
def movie(tmp_path):
    """The clip with a picture."""
    path = tmp_path / "movie.mp4"
    pipeline = (
        f"mp4mux name=m ! filesink location={path} "
        "videotestsrc num-buffers=250 ! video/x-raw,width=320,height=180,framerate=10/1 ! openh264enc gop-size=10 ! h264parse "
        f"! queue ! m. filesrc location={CLIP} ! wavparse ! audioconvert ! audioresample ! voaacenc ! aacparse ! queue ! m."
    )
    subprocess.run(["gst-launch-1.0", "-q", *pipeline.split()], check=True)
    return path


@pytest.fixture
def stream(movie, tmp_path):
    """A web server for the stream of the clip, and the command that writes it."""
    directory = tmp_path / "hls"
    directory.mkdir()
    (directory / "index.html").write_text(PAGE, encoding="utf-8")
    shutil.copy(os.environ["HLS_JS"], directory / "hls.min.js")
    env = {name: value for name, value in os.environ.items() if name != "NEMOSTT_MODEL"}
    env["GST_PLUGIN_PATH"] = os.pathsep.join([env.get("GST_PLUGIN_PATH", ""), env["HLS_PLUGIN_PATH"]])
    command = subprocess.Popen(
        [os.environ["NEMOSTT"], "live", "--hls", directory, movie], env=env, stdout=subprocess.DEVNULL
    )
    handler = functools.partial(Handler, directory=directory)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield command, directory, f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()
    command.kill()
    command.wait()


def test_the_stream_plays_with_its_captions(page, stream):
    command, directory, url = stream
    deadline = time.monotonic() + 60
    while not (directory / "master.m3u8").exists():
        assert command.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    page.goto(url)
    # It plays to the end of a stream that is still being written.
    page.wait_for_function("video.currentTime > 1")
    assert command.poll() is None
    page.wait_for_function("video.ended", timeout=90_000)
    assert command.wait() == 0
    shown = page.evaluate("shown")
    # Players begin near the end of what is listed, so the first captions may have passed. AAC is lossy: one word is another one.
    words = TEXTS["trained"]["u5_eight_sentences"]["k13"]["rnnt"]
    assert len(shown) >= 4, shown
    unexpected = [text for text in shown if text not in words]
    assert unexpected in ([], ["call two nine eight on wednesday"]), shown
    for times in shown.values():
        assert times["start"] <= times["seen"], shown
    # Where the clip says so: the picture, the sound and the captions have one time.
    start = shown["lock the garage window"]["start"]
    assert abs(start - 15.1) < 0.25, shown

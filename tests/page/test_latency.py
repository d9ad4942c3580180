# SPDX-License-Identifier: MIT OR Apache-2.0
"""How long after its sound a word is on the page: at most the delay that docs/live.md states. A clip plays in real time, 25 seconds.

All times are of one clock, the page's. The session begins in it no later than the server's answer to "what time is it" says: the
time at which the page asked, minus the answer. So a server that answers or sends late only makes the delays larger. A word has been
spoken at its end, as `nemostt transcribe` gives it, whose times are NeMo's.

Beyond the stated delay a word may take BROWSER_MS, and as long as the page itself was once kept from running (the largest delay of a
timer of 20 ms, which nemostt has no part in). Half of the words must come without either, so that a busy machine does not fail the
test, and a delay of every word does.
"""

import contextlib
import json
import os
import queue
import socket
import statistics
import subprocess
import threading
import time

import pytest
from playwright.sync_api import expect

from test_command import CLIP, STATUS, start  # noqa: F401

LOOKAHEAD = 480
# docs/live.md, "Delay": a word is shown after lookahead, chunk, half a window, and the properties `latency` and, for what is final,
# `endpoint-silence` of the element. (What the element reports has 200 ms more, for late packets of a network.)
SHOWN_MS = LOOKAHEAD + 80 + 12.5 + 100
FINAL_MS = SHOWN_MS + 800
# The server's and the browser's threads, a rendered frame, and the resolution of a word's time, half of 80 ms.
BROWSER_MS = 250

# Asks for the time, and notes when each word is shown, and when it is final.
WATCH = """async () => {
  const words = (node) => node.textContent.split(/\\s+/).filter(Boolean);
  const texts = (selector) => [...document.querySelectorAll(selector)].flatMap(words);
  const watched = { shown: [], final: [], zeros: [], lag: 0, since: performance.now() };
  // After the frame in which it is drawn.
  const drawn = (act) => requestAnimationFrame(() => setTimeout(() => act(performance.now())));
  const note = () => {
    const finals = texts("#log .caption .text");
    const all = [...finals, ...texts("#partial .text")];
    drawn((now) => {
      all.forEach((word, n) => ((watched.shown[n] ??= {})[word] ??= now));
      finals.forEach((_, n) => (watched.final[n] ??= now));
    });
  };
  for (const id of ["log", "partial"])
    new MutationObserver(note).observe(document.getElementById(id), { childList: true, subtree: true, characterData: true });
  note();
  let last = performance.now();
  setInterval(() => {
    const now = performance.now();
    watched.lag = Math.max(watched.lag, now - last - 20);
    last = now;
  }, 20);
  window.watched = watched;
  window.ask = async () => {
    const asked = performance.now();
    const abort = new AbortController();
    const { body } = await fetch("events", { signal: abort.signal });
    const { value } = await body.getReader().read();
    const { now } = JSON.parse(new TextDecoder().decode(value).match(/^data: (.*)$/m)[1]);
    abort.abort();
    watched.zeros.push(asked - now);
  };
}"""


@pytest.fixture(scope="module")
def words():
    """Words of the clip, and when each of them ends, in ms."""
    env = {name: value for name, value in os.environ.items() if name != "NEMOSTT_MODEL"}
    command = [os.environ["NEMOSTT"], "transcribe", "--json", f"--lookahead={LOOKAHEAD}", CLIP]
    output = subprocess.run(command, env=env, check=True, capture_output=True, text=True).stdout
    return [(word["text"], 1000 * word["end"]) for word in json.loads(output)["words"]]


class SlowNetwork:
    """A proxy for a server of this machine, which holds all that it sends back for DELAY_SECONDS."""

    DELAY_SECONDS = 1

    def __init__(self, port):
        self.port = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.port))
            held = queue.Queue()
            for run, arguments in (
                (self.pass_on, (client, server)),
                (self.hold, (server, held)),
                (self.release, (held, client, server)),
            ):
                threading.Thread(target=run, args=arguments, daemon=True).start()

    def pass_on(self, client, server):
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def hold(self, server, held):
        data = b"x"
        while data:
            try:
                data = server.recv(65536)
            except OSError:
                data = b""
            held.put((time.monotonic() + self.DELAY_SECONDS, data))

    def release(self, held, client, server):
        with contextlib.suppress(OSError), client, server:
            while True:
                due, data = held.get()
                time.sleep(max(0, due - time.monotonic()))
                if not data:
                    return
                client.sendall(data)

    def stop(self):
        self.listener.close()


def watch(page, url):
    page.goto(url)
    expect(page.locator(STATUS)).to_have_text("Live")
    page.evaluate(WATCH)
    for _ in range(5):
        page.evaluate("ask()")


def assess(page, words):
    """Checks that no word is late on a page that has shown the clip to its end."""
    expect(page.locator(STATUS)).to_have_attribute("data-state", "ended", timeout=60_000)
    page.wait_for_timeout(200)
    watched = page.evaluate("watched")
    # The latest one is the closest, and none is too late.
    zero = max(watched["zeros"])
    assert len(watched["final"]) == len(words)
    # Words of the time before the page was there have come later.
    early = sum(zero + end < watched["since"] for _, end in words)
    assert early <= 18, "the page was there for less than two thirds of the words"
    spoken = list(enumerate(words))[early:]
    missing = [word for n, (word, _) in spoken if word not in watched["shown"][n]]
    assert not missing
    check("shown", [(watched["shown"][n][word] - zero - end, word) for n, (word, end) in spoken], SHOWN_MS, watched["lag"])
    # The last word of an utterance: those before it wait for it.
    times = [*watched["final"], None]
    last = [(times[n] - zero - end, word) for n, (word, end) in spoken if times[n] != times[n + 1]]
    assert len(last) >= 5
    check("final", last, FINAL_MS, watched["lag"])


def check(what, delays, limit, lag):
    """Checks the delays of words, with their texts."""
    median, (worst, word) = statistics.median(delay for delay, _ in delays), max(delays)
    report = f"{what}: median {median:.0f} ms, at most {worst:.0f} ms ({word}); {limit:.0f} ms are stated, lag {lag:.0f} ms"
    print(report)
    assert median <= limit and worst <= limit + BROWSER_MS + lag, f"{report}: {delays}"


def test_captions_are_there_within_the_stated_delay(page, browser, start, words):  # noqa: F811
    command = start(f"--lookahead={LOOKAHEAD}")
    watch(page, command.url)
    # Another page, for which each word comes a second later: that is too late.
    network = SlowNetwork(command.port)
    far = browser.new_page()
    watch(far, network.url)
    assess(page, words)
    with pytest.raises(AssertionError, match="are stated"):
        assess(far, words)
    far.close()
    network.stop()

# SPDX-License-Identifier: MIT OR Apache-2.0
"""A server that speaks the protocol of `nemostt live --serve` (docs/live.md), as a test tells it to."""

import json
import queue
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "src" / "bin" / "nemostt" / "live" / "page"
FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/captions.css": ("captions.css", "text/css; charset=utf-8"),
    "/captions.js": ("captions.js", "text/javascript; charset=utf-8"),
}
CUT = object()


class MockServer:
    """Listens on a loopback port until `stop`. `start` again takes the same port and begins a new session, as a command that
    was killed and started again does."""

    def __init__(self, title="A lecture"):
        self.title = title
        self.port = 0
        self.token = None
        # A status with which /events is refused, and the text of that answer.
        self.refusal = None
        # Without it a connection is silent, like one whose network cable was pulled.
        self.hello = True
        self.requests = []
        self.lock = threading.Lock()
        self.start()

    def start(self):
        self.session = secrets.token_hex(4)
        self.number = self.utterance = 0
        self.finals, self.clients = [], []
        self.partial_event = None
        # How the source is, which ends what a new client receives first; None: that has not arrived yet.
        self.state = "listening"
        handler = type("Handler", (Handler,), {"mock": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.cut()
        self.server.shutdown()
        self.server.server_close()

    def cut(self):
        """Closes the connections of all clients."""
        with self.lock:
            for client in self.clients:
                client.put(CUT)
            self.clients = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}/"

    def partial(self, text):
        self._caption(text, False)

    def final(self, *texts):
        for text in texts:
            self._caption(text, True)
            self.utterance += 1

    def status(self, state, message=""):
        self.state = state
        self.send("status", json.dumps({"state": state, "message": message}))

    def send(self, kind, data):
        """Sends an event to all clients, of any kind and with any data."""
        with self.lock:
            event = self._event(kind, data)
            for client in self.clients:
                client.put(event[1])
        return event

    def connected(self):
        with self.lock:
            return len(self.clients)

    def requests_for_events(self):
        return [headers for path, headers in self.requests if path.startswith("/events")]

    def _caption(self, text, final):
        start = 2000 * self.utterance
        caption = {
            "utterance": self.utterance,
            "text": text,
            "final": final,
            "start": start,
            "end": start + 1500,
            "words": [{"text": word, "start": start, "end": start + 100, "confidence": 0.9} for word in text.split()],
        }
        event = self.send("caption", json.dumps(caption))
        with self.lock:
            self.partial_event = None if final else event
            if final:
                self.finals.append(event)

    def _event(self, kind, data):
        self.number += 1
        return self.number, f"id: {self.session}-{self.number}\nevent: {kind}\ndata: {data}\n\n"

    def join(self, last_id):
        """A queue of a new client, which begins with what it missed."""
        events = queue.Queue()
        with self.lock:
            session, _, number = (last_id or "").rpartition("-")
            since = int(number) if session == self.session else 0
            hello = json.dumps({"session": self.session, "title": self.title, "now": 2000 * self.utterance})
            events.put(self._event("hello", hello)[1])
            for number, text in self.finals:
                if number > since:
                    events.put(text)
            if self.partial_event:
                events.put(self.partial_event[1])
            if self.state:
                events.put(self._event("status", json.dumps({"state": self.state, "message": ""}))[1])
            self.clients.append(events)
        return events


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mock: MockServer

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.mock.requests.append((self.path, dict(self.headers)))
        if path in FILES:
            name, kind = FILES[path]
            self.answer(200, kind, (PAGE / name).read_bytes())
        elif path == "/events":
            self.events()
        else:
            self.answer(404, "text/plain", b"not found")

    def answer(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Security-Policy", "default-src 'self'")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cache-Control", "no-store")
        # A connection that is kept would outlive `stop`.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def events(self):
        token = self.mock.token
        if self.mock.refusal:
            status, text = self.mock.refusal
            return self.answer(status, "text/plain", text.encode())
        if token and self.headers["Authorization"] != f"Bearer {token}":
            return self.answer(401, "text/plain", b"a token is needed")
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        events = self.mock.join(self.headers["Last-Event-ID"]) if self.mock.hello else queue.Queue()
        try:
            while (event := events.get()) is not CUT:
                self.wfile.write(event.encode())
        except OSError:
            pass

    def log_message(self, *_):
        pass

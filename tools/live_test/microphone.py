# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks `nemostt live` and pipelines with a microphone: the monitor of a virtual sound card, in a PulseAudio server of their own."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from harness import CLIP, TIMEOUT, Player, check, diff, expected_words, first_missing, normalize
from latency import check_latency
from live_command import COMMAND, LOOKAHEAD, recorded
from sources import words_in_time

CLIP_SECONDS = 25
# Words before the third sentence, and of the first three.
TWO_SENTENCES, THREE_SENTENCES = 10, 18
NAME = "Lectern"


class SoundServer:
    """A PulseAudio server for this process and those it starts, with a microphone that hears what is played."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        home = self.directory.name
        os.environ.update(
            {"HOME": home, "XDG_RUNTIME_DIR": home, "XDG_CONFIG_HOME": home, "PULSE_SERVER": f"unix:{home}/native"}
        )
        self.start()

    def start(self):
        modules = [f"module-native-protocol-unix socket={self.directory.name}/native auth-anonymous=1"]
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        self.process = subprocess.Popen(
            [*command, *(part for module in modules for part in ("-L", module))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + TIMEOUT
        while subprocess.run(["pactl", "info"], capture_output=True).returncode != 0:
            if time.monotonic() > end:
                self.stop()
                raise RuntimeError("PulseAudio did not start")
            time.sleep(0.1)
        self.plug_in()

    def plug_in(self):
        card = f"sink_name=card rate=16000 channels=1 sink_properties=device.description={NAME}"
        self.module = self.control("load-module", "module-null-sink", *card.split())

    def unplug(self):
        self.control("unload-module", self.module)

    def control(self, *arguments):
        return subprocess.run(["pactl", *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def play(self):
        """Plays the clip, which takes 25 s."""
        return subprocess.Popen(["paplay", "--device=card", str(CLIP)], stderr=subprocess.DEVNULL)

    def mute(self, on):
        self.control("set-source-mute", "card.monitor", str(int(on)))

    def stop(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()
        self.directory.cleanup()


class Captions:
    """`nemostt live` with the microphone."""

    def __init__(self, source="mic"):
        self.record = Path(tempfile.mkdtemp()) / "live.jsonl"
        self.process = subprocess.Popen(
            [COMMAND, "live", f"--lookahead={LOOKAHEAD}", "--reconnect-timeout=3", "--record", self.record, source],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        # It says "connected" only after a loss, so what PulseAudio knows is asked: a recording begins when the model is loaded.
        end = time.monotonic() + TIMEOUT
        while not self.is_recording():
            if time.monotonic() > end:
                self.__exit__()
                raise RuntimeError("nemostt live did not open the microphone")
            time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.record.parent, ignore_errors=True)

    @staticmethod
    def is_recording():
        outputs = subprocess.run(["pactl", "list", "short", "source-outputs"], capture_output=True, text=True)
        return bool(outputs.stdout.strip())

    def words(self):
        return normalize([word["text"] for word in recorded(self.record)]) if self.record.exists() else []

    def wait_for(self, count, seconds):
        """Waits until there are so many words."""
        end = time.monotonic() + seconds
        while len(self.words()) < count and time.monotonic() < end and self.process.poll() is None:
            time.sleep(0.05)

    def stop(self, checks, what):
        self.process.send_signal(signal.SIGINT)
        errors = self.process.communicate(timeout=TIMEOUT)[1]
        checks.check(self.process.returncode == 0, f"{what}: exit code {self.process.returncode}")
        return errors


def sound_server(checks):
    """A context with a sound server, or None if it cannot be had."""
    missing = first_missing("autoaudiosrc", "pulsesrc") or next(
        (name for name in ("pulseaudio", "pactl", "paplay") if shutil.which(name) is None), None
    )
    if missing:
        checks.not_run("microphone", f"{missing} (apt install pulseaudio pulseaudio-utils gstreamer1.0-pulseaudio)")
        return contextlib.nullcontext()
    return SoundServer()


def expected():
    return normalize(expected_words(LOOKAHEAD))


@check(seconds=180)
def microphone_live(checks):
    """The default microphone, and one by its name."""
    with sound_server(checks) as server:
        if server is None:
            return
        for source in ("mic", f"mic:{NAME.lower()}"):
            with Captions(source) as captions:
                server.play()
                captions.wait_for(len(expected()), CLIP_SECONDS + TIMEOUT)
                checks.check(captions.words() == expected(), f"{source}: {diff(captions.words(), expected())}")
                errors = captions.stop(checks, source)
            checks.check("Connecting again" not in errors, f"{source}: no connection was lost")


@check(seconds=90)
def microphone_live_muted(checks):
    """Muted during the third sentence: nothing is lost but what was said then."""
    with sound_server(checks) as server, contextlib.ExitStack() as stack:
        if server is None:
            return
        captions = stack.enter_context(Captions())
        server.play()
        captions.wait_for(TWO_SENTENCES, CLIP_SECONDS)
        server.mute(True)
        time.sleep(3)
        server.mute(False)
        after = expected()[-16:]
        captions.wait_for(len(expected()), 16)
        words = captions.words()
        checks.check(
            words[:TWO_SENTENCES] == expected()[:TWO_SENTENCES] and words[-len(after) :] == after,
            f"muted: {len(words)} words, those before and after it: {' '.join(words)}",
        )
        checks.check(len(words) < len(expected()), "muted: others are missing")
        errors = captions.stop(checks, "muted")
        checks.check("Connecting again" not in errors, "muted: no connection was lost")


@check(seconds=180)
def microphone_live_unplugged(checks):
    """The microphone is unplugged, and later the sound server is killed."""
    with sound_server(checks) as server, contextlib.ExitStack() as stack:
        if server is None:
            return
        captions = stack.enter_context(Captions())
        for what, lose, restore in (
            ("unplugged", server.unplug, server.plug_in),
            ("the server was killed", server.stop, server.start),
        ):
            before = len(captions.words())
            playing = server.play()
            captions.wait_for(before + THREE_SENTENCES, CLIP_SECONDS)
            lose()
            playing.kill()
            time.sleep(4)
            checks.check(captions.process.poll() is None, f"{what}: the session goes on")
            first = captions.words()[before:][:THREE_SENTENCES]
            checks.check(first == expected()[:THREE_SENTENCES], f"{what}: before: {diff(first, expected()[:THREE_SENTENCES])}")
            restore()
            # The pause between two attempts is 10 s at most.
            time.sleep(11)
            before = len(captions.words())
            server.play()
            captions.wait_for(before + len(expected()), CLIP_SECONDS + TIMEOUT)
            words = captions.words()[before:]
            checks.check(words == expected(), f"{what}: after: {diff(words, expected())}")
        errors = captions.stop(checks, "unplugged")
        checks.check(errors.count("connected again") >= 2, "unplugged: it was connected again twice")


@check(alone=True, seconds=120)
def microphone_pipeline(checks):
    """The README's pipeline, with either source: all words, within the latency, also around muting."""
    with sound_server(checks) as server:
        if server is None:
            return
        for source in ("pulsesrc", "autoaudiosrc"):
            with Player(
                f"{source} ! queue ! audioconvert ! audioresample ! nemostt name=stt lookahead={LOOKAHEAD} ! fakesink sync=false"
            ) as player:
                player.play_when_loaded()
                player.run(1)
                server.play()
                player.run(CLIP_SECONDS + 3)
                latency = check_latency(checks, player, LOOKAHEAD)
                words = normalize(player.texts())
                checks.check(words == expected(), f"{source}: {diff(words, expected())}")
                words_in_time(checks, source, player, latency)
                checks.check(not player.warnings, f"{source}: {len(player.warnings)} warnings {player.warnings[:1] or ''}")

# SPDX-License-Identifier: MIT OR Apache-2.0
"""Checks that nemostt keeps the latency it reports: plays speech in real time and measures the delay of every word."""

import statistics
import threading

import gi
from gi.repository import GLib, Gst

from harness import AUDIO, BLOCK, CLIP, TIMEOUT, RATE, Player, check, clip, diff, expected_words, parts

# Lookaheads in ms: the smallest common one and the largest.
MEASURED = (80, 1040)
SILENCE_SECONDS = 10
# Words that may be lost at the start, while the RTSP session is set up.
MAX_LOST_WORDS = 3


def check_latency(checks, player, lookahead):
    """Checks that the answer to a LATENCY query is the sum in docs/element.md#latency. Returns it."""
    live, latency, upstream = player.recorder.latency()
    hold, processing = (player.stt.get_property(name) for name in ("word-hold", "latency"))
    sum_of_parts = upstream + lookahead + 80 + 12.5 + hold + processing
    checks.check(
        live and abs(latency - sum_of_parts) < 0.001,
        f"latency reported: {latency:.1f} ms ({upstream:.1f} of it upstream's), {'live' if live else 'NOT live'}",
    )
    return latency


def check_words(checks, player, latency):
    """Checks that no word is late."""
    words = player.recorder.words
    late = [f"{text} ({now - end:.0f} ms)" for text, _, end, now in words if now - end > latency]
    delays = [now - end for _, _, end, now in words] or [float("nan")]
    checks.check(
        words and not late,
        f"{len(words)} words after their end: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms"
        + (f"; too late: {', '.join(late)}" if late else ""),
    )
    # A synchronizing sink renders a word at its start time, so this decides whether a word is rendered in time.
    delays = [now - start for _, start, _, now in words] or [float("nan")]
    over = sum(delay > latency for delay in delays)
    backlog = player.stt.get_property("max-observed-delay")
    print(
        f"        after their start: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms, "
        f"{over} beyond the latency; largest processing backlog {backlog} ms"
    )


def check_bus(checks, player):
    texts = [text for text, *_ in player.recorder.words]
    checks.check(player.messages == texts, f"{len(player.messages)} messages, one for each word")
    warnings = [f"{len(player.warnings)} warnings", *player.warnings]
    checks.check(not player.warnings, "\n        ".join(warnings))


@check(alone=True, seconds=180)
def live(checks):
    audio = clip()
    for lookahead in MEASURED:
        print(f"live source, lookahead {lookahead} ms")
        block = BLOCK * Gst.SECOND // RATE
        player = Player(
            f"appsrc name=source is-live=true format=time min-latency={block} caps={AUDIO} ! queue "
            f"! nemostt name=stt lookahead={lookahead} ! appsink sync=false wait-on-eos=false"
        )
        with player:
            player.play_when_loaded()
            player.feed(parts(audio))
            ended = player.run(len(audio) / 2 / RATE + TIMEOUT)
            latency = check_latency(checks, player, lookahead)
            check_words(checks, player, latency)
        checks.check(ended, "the stream ended" if ended else "no EOS")
        expected = expected_words(lookahead)
        checks.check(player.texts() == expected, diff(player.texts(), expected))
        check_bus(checks, player)


@check(alone=True)
def silence(checks):
    for lookahead in MEASURED:
        print(f"live silence, started before the model is loaded, lookahead {lookahead} ms")
        player = Player(
            f"audiotestsrc is-live=true wave=silence samplesperbuffer={BLOCK} ! {AUDIO} "
            f"! nemostt name=stt lookahead={lookahead} ! fakesink"
        )
        with player:
            # Without waiting, as gst-launch-1.0 does. The audio then waits for the model, which must not be reported as
            # an overload.
            player.play()
            # The sink prerolls with the first GAP event, as there are no words.
            result, state, _ = player.pipeline.get_state(TIMEOUT * Gst.SECOND)
            at = player.stt.get_current_running_time() / Gst.MSECOND
            playing = result == Gst.StateChangeReturn.SUCCESS and state == Gst.State.PLAYING
            checks.check(playing, f"PLAYING after {at:.0f} ms")
            player.run(SILENCE_SECONDS)
            latency = check_latency(checks, player, lookahead)
            now = player.stt.get_current_running_time() / Gst.MSECOND
        gaps = player.recorder.gaps
        ends = [end for end, _ in gaps]
        checks.check(
            len(gaps) > 1 and ends == sorted(set(ends)) and not player.recorder.words,
            f"{len(gaps)} GAP events, each later than the previous one, and no words",
        )
        # The output is furthest behind just before the next event. It begins at 0.
        lags = [then - end for end, then in zip([0, *ends], [*(then for _, then in gaps), now])]
        limit = latency + lookahead + 80
        checks.check(
            max(lags) <= limit,
            f"output is at most {max(lags):.0f} ms behind, {lags[0]:.0f} ms at the first event; limit {limit:.0f} ms",
        )
        check_bus(checks, player)


def serve():
    """Starts an RTSP server that sends the clip in real time. Returns its URL."""
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")  # any free port
    factory = GstRtspServer.RTSPMediaFactory()
    # L16 is lossless, so the words must be those of the file.
    factory.set_launch(
        f'( filesrc location="{CLIP}" ! wavparse ! audioconvert ! rtpL16pay name=pay0 max-ptime={20 * Gst.MSECOND} )'
    )
    server.get_mount_points().add_factory("/clip", factory)
    server.attach(None)
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    # Keeps the server alive until the process exits.
    serve.server = server
    return f"rtsp://127.0.0.1:{server.get_bound_port()}/clip"


@check(alone=True, seconds=180)
def rtsp(checks):
    try:
        location = serve()
    except ValueError:
        checks.not_run("RTSP", "gir1.2-gst-rtsp-server-1.0")
        return
    seconds = len(clip()) / 2 / RATE
    for lookahead in MEASURED:
        print(f"RTSP, lookahead {lookahead} ms")
        player = Player(
            f"rtspsrc location={location} latency=200 ! rtpL16depay ! audioconvert ! audioresample ! {AUDIO} ! queue "
            f"! nemostt name=stt lookahead={lookahead} ! appsink sync=false wait-on-eos=false"
        )
        with player:
            player.play_when_loaded()
            ended = player.run(seconds + TIMEOUT)
            latency = check_latency(checks, player, lookahead)
            check_words(checks, player, latency)
        actual, expected = [text for text, *_ in player.recorder.words], expected_words(lookahead)
        lost = next((n for n in range(MAX_LOST_WORDS + 1) if actual == expected[n:]), None)
        checks.check(ended, "the stream ended" if ended else "no EOS")
        correct = lost is not None
        checks.check(correct, f"the clip's words, {lost} lost at the start" if correct else f"wrong words: {actual}")
        check_bus(checks, player)

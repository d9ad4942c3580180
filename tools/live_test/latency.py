# SPDX-License-Identifier: MIT OR Apache-2.0
"""Does nemostt keep the latency that it reports? Plays speech in real time and looks at the clock at every word."""

import statistics
import threading

import gi
from gi.repository import GLib, Gst

from harness import AUDIO, BLOCK, CLIP, PATIENCE, RATE, Player, check, clip, diff, expected_words, parts

# Lookaheads in ms: the smallest that is usual, and the largest.
MEASURED = (80, 1040)
SILENCE_SECONDS = 10
# Words that may be lost at the start, while RTSP sets up.
MAY_BE_LOST = 3


def check_latency(checks, player, lookahead):
    """The answer to a LATENCY query is the sum that the README gives. Returns it."""
    live, latency, upstream = player.listener.latency()
    hold, processing = (player.stt.get_property(name) for name in ("word-hold", "latency"))
    sum_of_parts = upstream + lookahead + 80 + 12.5 + hold + processing
    checks.check(
        live and abs(latency - sum_of_parts) < 0.001,
        f"latency reported: {latency:.1f} ms ({upstream:.1f} of it upstream's), {'live' if live else 'NOT live'}",
    )
    return latency


def check_words(checks, player, latency):
    """No word came too late."""
    words = player.listener.words
    late = [f"{text} ({now - end:.0f} ms)" for text, _, end, now in words if now - end > latency]
    delays = [now - end for _, _, end, now in words] or [float("nan")]
    checks.check(
        words and not late,
        f"{len(words)} words after their end: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms"
        + (f"; too late: {', '.join(late)}" if late else ""),
    )
    # A sink that synchronises shows a word at its start, so this is what decides whether it does so in time.
    delays = [now - start for _, start, _, now in words] or [float("nan")]
    over = sum(delay > latency for delay in delays)
    heard = player.stt.get_property("max-observed-delay")
    print(
        f"        after their start: at most {max(delays):.0f} ms, median {statistics.median(delays):.0f} ms, "
        f"{over} beyond the latency; audio heard at most {heard} ms late"
    )


def check_bus(checks, player):
    texts = [text for text, *_ in player.listener.words]
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
            ended = player.run(len(audio) / 2 / RATE + PATIENCE)
            latency = check_latency(checks, player, lookahead)
            check_words(checks, player, latency)
        checks.check(ended, "the stream ended" if ended else "no end of stream came")
        said = expected_words(lookahead)
        checks.check(player.texts() == said, diff(player.texts(), said))
        check_bus(checks, player)


@check(alone=True)
def silence(checks):
    for lookahead in MEASURED:
        print(f"live silence, started at once, lookahead {lookahead} ms")
        player = Player(
            f"audiotestsrc is-live=true wave=silence samplesperbuffer={BLOCK} ! {AUDIO} "
            f"! nemostt name=stt lookahead={lookahead} ! fakesink"
        )
        with player:
            # At once, as gst-launch does. Audio then waits for the model: no reason to warn of slow computing.
            player.play()
            # The sink is ready when it has something: a GAP event, there being no words.
            result, state, _ = player.pipeline.get_state(PATIENCE * Gst.SECOND)
            at = player.stt.get_current_running_time() / Gst.MSECOND
            playing = result == Gst.StateChangeReturn.SUCCESS and state == Gst.State.PLAYING
            checks.check(playing, f"PLAYING after {at:.0f} ms")
            player.run(SILENCE_SECONDS)
            latency = check_latency(checks, player, lookahead)
            now = player.stt.get_current_running_time() / Gst.MSECOND
        gaps = player.listener.gaps
        ends = [end for end, _ in gaps]
        checks.check(
            len(gaps) > 1 and ends == sorted(set(ends)) and not player.listener.words,
            f"{len(gaps)} GAP events, each beyond the one before, and no words",
        )
        # The output is furthest behind right before the next event comes. It begins at 0.
        lags = [then - end for end, then in zip([0, *ends], [*(then for _, then in gaps), now])]
        limit = latency + lookahead + 80
        checks.check(
            max(lags) <= limit,
            f"time is at most {max(lags):.0f} ms behind, at the first event {lags[0]:.0f} ms; {limit:.0f} ms may be",
        )
        check_bus(checks, player)


def serve():
    """Starts a server that gives the clip at the speed of speech; returns its address."""
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GstRtspServer

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service("0")  # any port that is free
    factory = GstRtspServer.RTSPMediaFactory()
    # L16 loses nothing, so the words must be those of the file.
    factory.set_launch(
        f'( filesrc location="{CLIP}" ! wavparse ! audioconvert ! rtpL16pay name=pay0 max-ptime={20 * Gst.MSECOND} )'
    )
    server.get_mount_points().add_factory("/clip", factory)
    server.attach(None)
    threading.Thread(target=GLib.MainLoop().run, daemon=True).start()
    # The server lives as long as the program.
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
            ended = player.run(seconds + PATIENCE)
            latency = check_latency(checks, player, lookahead)
            check_words(checks, player, latency)
        heard, said = [text for text, *_ in player.listener.words], expected_words(lookahead)
        lost = next((n for n in range(MAY_BE_LOST + 1) if heard == said[n:]), None)
        checks.check(ended, "the stream ended" if ended else "no end of stream came")
        right = lost is not None
        checks.check(right, f"the clip's words, {lost} lost at the start" if right else f"not its words: {heard}")
        check_bus(checks, player)

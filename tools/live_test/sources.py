# SPDX-License-Identifier: MIT OR Apache-2.0
"""Sources that pause, stall, are late, repeat their segment or are switched; long buffers and long utterances."""

import threading
import time

from gi.repository import Gst

from harness import (
    AUDIO,
    BLOCK,
    JITTER,
    LOOKAHEADS,
    TIMEOUT,
    RATE,
    Part,
    Player,
    check,
    clip,
    diff,
    expected_words,
    first_missing,
    normalize,
    parts,
)

LATENCY = BLOCK * Gst.SECOND // RATE
LIVE = f"appsrc name=source is-live=true format=time min-latency={LATENCY} caps={AUDIO}"
FILE = f"appsrc name=source format=time max-bytes=0 caps={AUDIO}"
# In seconds: "turn off the bedroom lamp" ends before this, "seven" starts after 2.9 s.
FIRST_SENTENCE = 1.75


def samples(seconds):
    return int(seconds * RATE) * 2


def words_in_time(checks, what, player, latency):
    words = player.recorder.words
    late = [f"{text} ({now - end:.0f} ms)" for text, _, end, now in words if now - end > latency + JITTER]
    worst = max((now - end for _, _, end, now in words), default=float("nan"))
    checks.check(
        words and not late,
        f"{what}: {len(words)} words, at most {worst:.0f} ms after their end; latency {latency:.0f} ms"
        + (f"; too late: {', '.join(late)}" if late else ""),
    )


def never_goes_backwards(checks, what, player):
    backward = player.recorder.backward
    checks.check(not backward, f"{what}: running time never goes backwards {backward[:3] or ''}")


def all_words(checks, what, player, lookahead=1040):
    expected = expected_words(lookahead)
    return checks.check(player.texts() == expected, f"{what}: {diff(player.texts(), expected)}")


@check(seconds=240)
def source_pauses(checks):
    """Nothing arrives for 6 s after the first sentence, neither silence nor a GAP."""
    audio = clip()
    for lookahead in LOOKAHEADS:
        with Player(f"{LIVE} ! nemostt name=stt lookahead={lookahead} ! fakesink sync=false") as player:
            player.play_when_loaded()
            head = parts(audio[: samples(FIRST_SENTENCE)])
            tail = parts(audio[samples(FIRST_SENTENCE) :], at=FIRST_SENTENCE + 6)
            tail[0].discont = True
            player.feed(head + tail)
            player.run(FIRST_SENTENCE + 5.5)
            latency = player.recorder.latency()[1]
            what = f"lookahead {lookahead}, paused"
            checks.check(
                player.texts() == expected_words()[:5], f"{what}: {diff(player.texts(), expected_words()[:5])}"
            )
            words_in_time(checks, what, player, latency)
            ended = player.run(40)
            checks.check(ended, f"lookahead {lookahead}: the stream ended")
            words_in_time(checks, f"lookahead {lookahead}", player, latency)
            all_words(checks, f"lookahead {lookahead}", player, lookahead)
            never_goes_backwards(checks, f"lookahead {lookahead}", player)
            checks.check(
                player.stalls[:2] == [True, False], f"lookahead {lookahead}: reported stalls: {player.stalls}"
            )


def stalling(stall, period):
    """Maps the time, in s, at which audio is due to its arrival: none in the first `stall` of each `period`."""
    return lambda due: due - due % period + stall if due % period < stall else due


def check_stalls(checks, player, stall, period, **options):
    """Feeds the clip with such stalls and checks that nothing is lost."""
    player.feed(parts(clip(), arrival=stalling(stall, period), **options))
    ended = player.run(30 + TIMEOUT)
    what = f"{stall * 1000:.0f} ms every {period * 1000:.0f}"
    checks.check(ended, f"{what}: the stream ended")
    all_words(checks, what, player)
    never_goes_backwards(checks, what, player)


@check(seconds=400)
def stalls_with_arrival_timestamps(checks):
    """Buffers are timestamped on arrival, and the network stalls: then all buffers that were due arrive together."""
    for stall, period in ((0.2, 1.1), (0.4, 3.0), (0.6, 3.0), (0.8, 3.0), (1.2, 4.0), (1.5, 4.3), (2.0, 5.0)):
        description = f"appsrc name=source is-live=true do-timestamp=true format=time caps={AUDIO}"
        with Player(f"{description} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play_when_loaded()
            check_stalls(checks, player, stall, period, timestamp=lambda _: None)


@check(seconds=200)
def stalls_with_capture_timestamps(checks):
    """The same with capture timestamps, as from a jitter buffer or another machine."""
    for stall, period in ((0.3, 1.0), (0.8, 3.0), (2.0, 5.0), (4.0, 9.0)):
        with Player(f"{LIVE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play_when_loaded()
            check_stalls(checks, player, stall, period)


@check(seconds=200)
def constant_lateness(checks):
    """Timestamps are behind the clock by a constant that is not part of the LATENCY query's answer."""
    for late in (0.3, 1.0, 3.0):
        for overload in ("skip", "block"):
            with Player(f"{LIVE} ! nemostt name=stt lookahead=480 overload={overload} ! fakesink sync=false") as player:
                player.play_when_loaded()
                player.feed(parts(clip(), arrival=lambda end: end + late))
                ended = player.run(30 + TIMEOUT)
                what = f"{late * 1000:.0f} ms late, {overload}"
                checks.check(ended, f"{what}: the stream ended")
                all_words(checks, what, player)
                checks.check(
                    not player.warnings, f"{what}: {len(player.warnings)} warnings {player.warnings[:1] or ''}"
                )


@check(seconds=60)
def output_switched(checks):
    for before, after in (("words", "utterances"), ("utterances", "words")):
        for at in (0.5, 1.4, 1.9, 3.6):
            with Player(f"{FILE} ! nemostt name=stt output={before} lookahead=80 ! fakesink sync=false") as player:
                player.play()
                cut = parts(clip()[: samples(5)], arrival=lambda _: 0)
                n = int(at * RATE / BLOCK)
                switch = Part(0, 0, lambda: (time.sleep(0.4), player.stt.set_property("output", after)))
                player.feed(cut[:n] + [switch] + cut[n:])
                ended = player.run(TIMEOUT)
                expected = expected_words(80)[:10]
                actual = player.texts()
                checks.check(ended and actual == expected, f"{before} to {after} at {at} s: {diff(actual, expected)}")


@check(alone=True, seconds=60)
def one_long_buffer(checks):
    audio = clip() * 72
    for lookahead in (80, 1040):
        player = Player(f"{FILE} ! nemostt name=stt lookahead={lookahead} ! fakesink sync=false")
        player.play_when_loaded()
        since = time.monotonic()
        player.feed([Part(0, 0, audio)])
        while not player.recorder.words and time.monotonic() < since + 5:
            player.run(0.02)
        elapsed = time.monotonic() - since
        words = player.recorder.words
        checks.check(words and elapsed < 2, f"30 minutes in one buffer: first word after {elapsed:.2f} s")
        player.run(1)
        stopped = player.stop()
        checks.check(stopped < 0.5, f"30 minutes in one buffer: stopped within {stopped:.2f} s")


@check(seconds=60)
def repeated_segments(checks):
    def same(segment, at):
        pass

    def position(segment, at):
        segment.position = at

    def duration(segment, at):
        segment.duration = at + 400 * Gst.MSECOND

    def stop(segment, at):
        segment.stop = at + 800 * Gst.MSECOND

    def fragment(segment, at):
        segment.start = segment.time = segment.base = at

    def fragment_offset(segment, at):
        segment.start = segment.base = at
        segment.time = at + 7 * Gst.SECOND

    step = samples(0.4)
    for change in (same, position, duration, stop, fragment, fragment_offset):
        with Player(f"{FILE} ! nemostt name=stt ! fakesink sync=false") as player:
            source = player["source"]
            source.set_property("handle-segment-change", True)
            player.play()
            audio = clip()
            caps = Gst.Caps.from_string(AUDIO)
            for n in range(0, len(audio), step):
                at = n // 2 * Gst.SECOND // RATE
                segment = Gst.Segment()
                segment.init(Gst.Format.TIME)
                change(segment, at)
                buffer = Gst.Buffer.new_wrapped(audio[n : n + step])
                buffer.pts = at
                source.emit("push-sample", Gst.Sample.new(buffer, caps, segment, None))
            source.emit("end-of-stream")
            ended = player.run(TIMEOUT * 2)
            checks.check(ended, f"{change.__name__}: the stream ended")
            all_words(checks, change.__name__, player)
            never_goes_backwards(checks, change.__name__, player)


@check(seconds=60)
def input_switched(checks):
    """input-selector switches between speech and silence in the middle of words."""
    silence = f"audiotestsrc is-live=true wave=silence samplesperbuffer={BLOCK} ! {AUDIO}"
    with Player(
        f"input-selector name=selector sync-streams=true ! nemostt name=stt lookahead=480 ! fakesink sync=false "
        f"{LIVE} ! selector.sink_0 {silence} ! selector.sink_1"
    ) as player:
        selector = player["selector"]
        selector.set_property("active-pad", selector.get_static_pad("sink_0"))
        player.play_when_loaded()
        player.feed(parts(clip()), ends=False)
        for n in range(1, 9):
            pad = selector.get_static_pad(f"sink_{n % 2}")
            player.after(1.2 * n, lambda pad=pad: selector.set_property("active-pad", pad))
        player.run(18)
        checks.check(len(player.texts()) > 10, f"{len(player.texts())} words")
        never_goes_backwards(checks, "switched", player)


@check(seconds=60)
def synchronizing_sink_without_queue(checks):
    """No queue between nemostt and a sink that synchronizes to the clock, as appsink does by default."""
    for lookahead in (0, 1040):
        with Player(
            f"{LIVE} ! queue ! nemostt name=stt lookahead={lookahead} ! appsink sync=true wait-on-eos=false"
        ) as player:
            player.play_when_loaded()
            player.feed(parts(clip()[: samples(8)]))
            ended = player.run(8 + TIMEOUT)
            what = f"lookahead {lookahead}, no queue"
            checks.check(ended, f"{what}: the stream ended" if ended else f"{what}: no EOS after {8 + TIMEOUT} s")
            actual, expected = player.texts(), expected_words(lookahead)[:18]
            checks.check(actual == expected, f"{what}: {diff(actual, expected)}")


def is_quiet(part, limit):
    return max(abs(sample) for sample in memoryview(part.data).cast("h")) < limit


@check(seconds=200)
def discontinuous_transmission(checks):
    """Quiet buffers are not sent, as with DTX: the gaps are between 20 ms and seconds long."""
    for limit in (20, 50, 150):
        for flagged in (True, False):
            with Player(f"{LIVE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
                player.play_when_loaded()
                sent, skipped = [], False
                for part in parts(clip()):
                    if is_quiet(part, limit):
                        skipped = True
                        continue
                    part.discont = flagged and skipped
                    sent.append(part)
                    skipped = False
                player.feed(sent)
                ended = player.run(25 + TIMEOUT)
                what = f"buffers below {limit} not sent, {'with' if flagged else 'without'} DISCONT"
                checks.check(ended, f"{what}: the stream ended")
                actual = normalize(player.texts())
                checks.check(actual == expected_words(480), f"{what}: {diff(actual, expected_words(480))}")
                never_goes_backwards(checks, what, player)
                if flagged:
                    words_in_time(checks, what, player, player.recorder.latency()[1])


@check(seconds=60)
def discont_is_processed_immediately(checks):
    """Audio after a gap with DISCONT is processed without delay."""
    with Player(f"{LIVE} ! nemostt name=stt lookahead=80 ! fakesink sync=false") as player:
        player.play_when_loaded()
        audio = clip()
        head = parts(audio[: samples(FIRST_SENTENCE)])
        tail = parts(audio[samples(2.6) : samples(5)], at=2.6)
        tail[0].discont = True
        player.feed(head + tail)
        ended = player.run(5 + TIMEOUT)
        expected = expected_words(80)[:10]
        checks.check(ended and player.texts() == expected, f"a gap of 850 ms: {diff(player.texts(), expected)}")
        words_in_time(checks, "a gap of 850 ms", player, player.recorder.latency()[1])


@check(seconds=150)
def lost_packets(checks):
    """RTP with packet loss, reported by the jitter buffer."""
    l16 = "audioconvert ! rtpL16pay max-ptime=20000000", "rtpL16depay"
    opus = "audioresample ! opusenc bitrate=96000 dtx={dtx} ! rtpopuspay dtx={dtx}", "rtpopusdepay ! opusdec plc=true"
    kinds = [("L16", *l16)]
    if missing := first_missing("opusenc", "rtpopuspay", "rtpopusdepay", "opusdec"):
        checks.not_run("Opus over RTP", missing)
    else:
        kinds += [(f"Opus, dtx={dtx}", opus[0].format(dtx=dtx), opus[1]) for dtx in ("false", "true")]
    for kind, pay, depay in kinds:
        for loss in (0, 0.1):
            with Player(
                f"{LIVE} ! {pay} ! identity drop-probability={loss} ! rtpjitterbuffer do-lost=true latency=200 "
                f"! {depay} ! audioconvert ! audioresample ! nemostt name=stt lookahead=480 "
                "! queue ! fakesink sync=true"
            ) as player:
                player.play()
                player.feed(parts(clip()[: samples(14)]))
                ended = player.run(14 + TIMEOUT)
                what = f"{kind}, {loss * 100:.0f} % lost"
                checks.check(ended, f"{what}: the stream ended")
                expected = expected_words(480)[:25]
                actual = player.texts()
                ok = actual[:25] == expected if loss == 0 else len(actual) > 12
                checks.check(ok, f"{what}: {diff(actual[:25], expected)}")
                never_goes_backwards(checks, what, player)
                words_in_time(checks, what, player, player.recorder.latency()[1])


@check(seconds=60)
def drifting_clock(checks):
    """The source's clock runs slower or faster than its timestamps."""
    for ppm in (-2000, -300, 300, 2000):
        with Player(f"{FILE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play()
            scale = 1 + ppm * 1e-6
            player.feed(parts(clip() * 8, timestamp=lambda pts: pts * scale))
            ended = player.run(50)
            what = f"{ppm} ppm"
            actual = normalize(player.texts())
            checks.check(ended and actual == expected_words(480) * 8, f"{what}: {len(actual)} words")
            ends = [start for text, start, *_ in player.recorder.words if text == "wednesday"]
            off = [round(start - n * len(clip()) / 32 * scale - ends[0]) for n, start in enumerate(ends)]
            checks.check(all(abs(ms) < 150 for ms in off), f"{what}: words are off by {off} ms")
            never_goes_backwards(checks, what, player)


@check(alone=True, seconds=400)
def cost_of_partials(checks):
    """Without an endpoint utterances grow, but the CPU time for a minute of audio must not."""
    minute = clip()[samples(0.25) : samples(1.75)] * 40
    for extra in ("lookahead=1040", "lookahead=80", "lookahead=480 output=utterances"):
        with Player(
            f"{FILE} ! nemostt name=stt endpoint-silence=0 post-partials=true {extra} ! fakesink sync=false"
        ) as player:
            player.play_when_loaded()
            costs = []
            source = player["source"]
            stop = threading.Event()
            done = threading.Event()

            def drain():
                while not stop.is_set():
                    player.run(0.05)

            # Messages must be taken from the bus, otherwise they would dominate the cost.
            reader = threading.Thread(target=drain, daemon=True)
            reader.start()

            def probe(_, info):
                if info.get_event().type == Gst.EventType.CUSTOM_DOWNSTREAM:
                    done.set()
                return Gst.PadProbeReturn.OK

            player.stt.get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, probe)
            for n in range(40):
                before = time.process_time()
                done.clear()
                for k in range(10):
                    size = len(minute) // 10
                    buffer = Gst.Buffer.new_wrapped(minute[k * size : (k + 1) * size])
                    buffer.pts = n * 60 * Gst.SECOND + k * 6 * Gst.SECOND
                    source.emit("push-buffer", buffer)
                marker = Gst.Structure.new_empty("marker")
                source.send_event(Gst.Event.new_custom(Gst.EventType.CUSTOM_DOWNSTREAM, marker))
                done.wait(60)
                costs.append(time.process_time() - before)
            stop.set()
            reader.join()
            first, last = sorted(costs[:3])[1], sorted(costs[-3:])[1]
            checks.check(
                last < 2 * first, f"{extra}: {first:.2f} s of CPU time for the first minute, {last:.2f} s for the 40th"
            )

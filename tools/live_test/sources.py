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
    PATIENCE,
    RATE,
    Part,
    Player,
    check,
    clip,
    diff,
    expected_words,
    has,
    normal,
    parts,
)

LATENCY = BLOCK * Gst.SECOND // RATE
LIVE = f"appsrc name=source is-live=true format=time min-latency={LATENCY} caps={AUDIO}"
FILE = f"appsrc name=source format=time max-bytes=0 caps={AUDIO}"
# "turn off the bedroom lamp" ends before this, in s, and "seven" comes after 2.9 s.
FIRST_SENTENCE = 1.75


def samples(seconds):
    return int(seconds * RATE) * 2


def words_in_time(checks, what, player, latency):
    words = player.listener.words
    late = [f"{text} ({now - end:.0f} ms)" for text, _, end, now in words if now - end > latency + JITTER]
    worst = max((now - end for _, _, end, now in words), default=float("nan"))
    checks.check(
        words and not late,
        f"{what}: {len(words)} words, at most {worst:.0f} ms after their end, where the latency is {latency:.0f} ms"
        + (f"; too late: {', '.join(late)}" if late else ""),
    )


def never_steps_back(checks, what, player):
    checks.check(not player.listener.back, f"{what}: running time never steps back {player.listener.back[:3] or ''}")


def all_words(checks, what, player, lookahead=1040):
    said = expected_words(lookahead)
    return checks.check(player.texts() == said, f"{what}: {diff(player.texts(), said)}")


@check(seconds=240)
def source_pauses(checks):
    """Nothing comes for 6 s after the first sentence, neither silence nor a GAP."""
    audio = clip()
    for lookahead in LOOKAHEADS:
        with Player(f"{LIVE} ! nemostt name=stt lookahead={lookahead} ! fakesink sync=false") as player:
            player.play_when_loaded()
            head = parts(audio[: samples(FIRST_SENTENCE)])
            tail = parts(audio[samples(FIRST_SENTENCE) :], at=FIRST_SENTENCE + 6)
            tail[0].discont = True
            player.feed(head + tail)
            player.run(FIRST_SENTENCE + 5.5)
            latency = player.listener.latency()[1]
            what = f"lookahead {lookahead}, paused"
            checks.check(
                player.texts() == expected_words()[:5], f"{what}: {diff(player.texts(), expected_words()[:5])}"
            )
            words_in_time(checks, what, player, latency)
            ended = player.run(40)
            checks.check(ended, f"lookahead {lookahead}: the stream ended")
            words_in_time(checks, f"lookahead {lookahead}", player, latency)
            all_words(checks, f"lookahead {lookahead}", player, lookahead)
            never_steps_back(checks, f"lookahead {lookahead}", player)
            checks.check(
                player.stalls[:2] == [True, False], f"lookahead {lookahead}: stalls were told: {player.stalls}"
            )


def stalling(stall, period):
    """When audio comes that is due at a time, in s: nothing comes in the first `stall` of each `period`."""
    return lambda due: due - due % period + stall if due % period < stall else due


def stalled(checks, player, stall, period, **stamps):
    """Feeds the clip with such stalls, and checks that nothing is lost."""
    player.feed(parts(clip(), arrival=stalling(stall, period), **stamps))
    ended = player.run(30 + PATIENCE)
    what = f"{stall * 1000:.0f} ms every {period * 1000:.0f}"
    checks.check(ended, f"{what}: the stream ended")
    all_words(checks, what, player)
    never_steps_back(checks, what, player)


@check(seconds=400)
def stalls_of_stamped_arrival(checks):
    """A source stamps buffers as they come, and the network stalls: then all that was due comes at once."""
    for stall, period in ((0.2, 1.1), (0.4, 3.0), (0.6, 3.0), (0.8, 3.0), (1.2, 4.0), (1.5, 4.3), (2.0, 5.0)):
        description = f"appsrc name=source is-live=true do-timestamp=true format=time caps={AUDIO}"
        with Player(f"{description} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play_when_loaded()
            stalled(checks, player, stall, period, stamp=lambda _: None)


@check(seconds=200)
def stalls_of_right_stamps(checks):
    """The same, but the stamps are those of recording: as from a jitter buffer or another computer."""
    for stall, period in ((0.3, 1.0), (0.8, 3.0), (2.0, 5.0), (4.0, 9.0)):
        with Player(f"{LIVE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play_when_loaded()
            stalled(checks, player, stall, period)


@check(seconds=200)
def constant_lateness(checks):
    """Stamps are behind the clock by a constant that no LATENCY query tells of."""
    for late in (0.3, 1.0, 3.0):
        for overload in ("skip", "block"):
            with Player(f"{LIVE} ! nemostt name=stt lookahead=480 overload={overload} ! fakesink sync=false") as player:
                player.play_when_loaded()
                player.feed(parts(clip(), arrival=lambda end: end + late))
                ended = player.run(30 + PATIENCE)
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
                ended = player.run(PATIENCE)
                said = expected_words(80)[:10]
                heard = player.texts()
                checks.check(ended and heard == said, f"{before} to {after} at {at} s: {diff(heard, said)}")


@check(alone=True, seconds=60)
def one_long_buffer(checks):
    audio = clip() * 72
    for lookahead in (80, 1040):
        player = Player(f"{FILE} ! nemostt name=stt lookahead={lookahead} ! fakesink sync=false")
        player.play_when_loaded()
        since = time.monotonic()
        player.feed([Part(0, 0, audio)])
        while not player.listener.words and time.monotonic() < since + 5:
            player.run(0.02)
        took = time.monotonic() - since
        checks.check(player.listener.words and took < 2, f"30 minutes in one buffer: the first word after {took:.2f} s")
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
            ended = player.run(PATIENCE * 2)
            checks.check(ended, f"{change.__name__}: the stream ended")
            all_words(checks, change.__name__, player)
            never_steps_back(checks, change.__name__, player)


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
        never_steps_back(checks, "switched", player)


@check(seconds=60)
def sink_that_synchronises(checks):
    """No queue between nemostt and a sink that shows text at its time, as appsink does by default."""
    for lookahead in (0, 1040):
        with Player(
            f"{LIVE} ! queue ! nemostt name=stt lookahead={lookahead} ! appsink sync=true wait-on-eos=false"
        ) as player:
            player.play_when_loaded()
            player.feed(parts(clip()[: samples(8)]))
            ended = player.run(8 + PATIENCE)
            what = f"lookahead {lookahead}, no queue"
            checks.check(ended, f"{what}: the stream ended" if ended else f"{what}: no end after {8 + PATIENCE} s")
            heard, said = player.texts(), expected_words(lookahead)[:18]
            checks.check(heard == said, f"{what}: {diff(heard, said)}")


def is_quiet(part, limit):
    return max(abs(sample) for sample in memoryview(part.data).cast("h")) < limit


@check(seconds=200)
def silence_is_not_sent(checks):
    """Quiet buffers are left out, as with DTX: the holes are of 20 ms and of seconds."""
    for limit in (20, 50, 150):
        for flagged in (True, False):
            with Player(f"{LIVE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
                player.play_when_loaded()
                sent, left_out = [], False
                for part in parts(clip()):
                    if is_quiet(part, limit):
                        left_out = True
                        continue
                    part.discont = flagged and left_out
                    sent.append(part)
                    left_out = False
                player.feed(sent)
                ended = player.run(25 + PATIENCE)
                what = f"quieter than {limit} left out, {'with' if flagged else 'without'} DISCONT"
                checks.check(ended, f"{what}: the stream ended")
                heard = normal(player.texts())
                checks.check(heard == expected_words(480), f"{what}: {diff(heard, expected_words(480))}")
                never_steps_back(checks, what, player)
                if flagged:
                    words_in_time(checks, what, player, player.listener.latency()[1])


@check(seconds=60)
def discont_is_believed(checks):
    """What comes after a hole that is flagged is worked on at once."""
    with Player(f"{LIVE} ! nemostt name=stt lookahead=80 ! fakesink sync=false") as player:
        player.play_when_loaded()
        audio = clip()
        head = parts(audio[: samples(FIRST_SENTENCE)])
        tail = parts(audio[samples(2.6) : samples(5)], at=2.6)
        tail[0].discont = True
        player.feed(head + tail)
        ended = player.run(5 + PATIENCE)
        said = expected_words(80)[:10]
        checks.check(ended and player.texts() == said, f"a hole of 850 ms: {diff(player.texts(), said)}")
        words_in_time(checks, "a hole of 850 ms", player, player.listener.latency()[1])


@check(seconds=150)
def lost_packets(checks):
    """RTP with loss, of which the jitter buffer tells."""
    l16 = "audioconvert ! rtpL16pay max-ptime=20000000", "rtpL16depay"
    opus = "audioresample ! opusenc bitrate=96000 dtx={dtx} ! rtpopuspay dtx={dtx}", "rtpopusdepay ! opusdec plc=true"
    kinds = [("L16", *l16)]
    if missing := has("opusenc", "rtpopuspay", "rtpopusdepay", "opusdec"):
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
                ended = player.run(14 + PATIENCE)
                what = f"{kind}, {loss * 100:.0f} % lost"
                checks.check(ended, f"{what}: the stream ended")
                said = expected_words(480)[:25]
                heard = player.texts()
                checks.check(heard[:25] == said if loss == 0 else len(heard) > 12, f"{what}: {diff(heard[:25], said)}")
                never_steps_back(checks, what, player)
                words_in_time(checks, what, player, player.listener.latency()[1])


@check(seconds=60)
def drifting_clock(checks):
    """The source's clock runs slower or faster than its stamps say."""
    for ppm in (-2000, -300, 300, 2000):
        with Player(f"{FILE} ! nemostt name=stt lookahead=480 ! fakesink sync=false") as player:
            player.play()
            scale = 1 + ppm * 1e-6
            player.feed(parts(clip() * 8, stamp=lambda pts: pts * scale))
            ended = player.run(50)
            what = f"{ppm} ppm"
            heard = normal(player.texts())
            checks.check(ended and heard == expected_words(480) * 8, f"{what}: {len(heard)} words")
            ends = [start for text, start, *_ in player.listener.words if text == "wednesday"]
            off = [round(start - n * len(clip()) / 32 * scale - ends[0]) for n, start in enumerate(ends)]
            checks.check(all(abs(ms) < 150 for ms in off), f"{what}: words are off by {off} ms")
            never_steps_back(checks, what, player)


@check(alone=True, seconds=400)
def cost_of_partials(checks):
    """Without an endpoint utterances grow; computing for a minute of audio must not."""
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

            # Messages must be taken from the bus, or it is they that cost.
            reader = threading.Thread(target=drain, daemon=True)
            reader.start()

            def seen(_, info):
                if info.get_event().type == Gst.EventType.CUSTOM_DOWNSTREAM:
                    done.set()
                return Gst.PadProbeReturn.OK

            player.stt.get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, seen)
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
                last < 2 * first, f"{extra}: {first:.2f} s of computing for the first minute, {last:.2f} s for the 40th"
            )

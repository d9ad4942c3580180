# SPDX-License-Identifier: MIT OR Apache-2.0
"""Simulates live streams on a machine with many cores, from step costs that were measured on a small one.

    simulate_lanes.py --chunk-ms 160 --read-ms 9.4 --stream-ms 3.8 --decode-ms 0.6 [--machine CORES:CACHES:GB_S:GB_S ...]

Costs of a chunk, measured on two cores (docs/performance.md says how): the time to read all weights, and core-milliseconds
of arithmetic and of decoding per stream. A machine is its cores, the number of last-level caches that they share, and the
memory bandwidth that one of those groups and all together reach.

A lane takes the pending chunk with the earliest deadline, and with it up to `max-batch` others, as `src/lane.rs` does. A
batch takes as long as its arithmetic on the cores of the lane, or as reading the weights at the lane's share of the memory
bandwidth, whichever is longer. Decoding runs on the same cores. Streams start at random times and are late by up to
`--jitter-ms`. Prints how many streams have 99 % of their chunks done within `--bound-ms`.
"""

import argparse
import heapq
import random
from dataclasses import dataclass

# Rows of a batch beyond which a step takes longer in proportion: MAX_ROWS in crates/nemostt/src/model/encoder/program/lanes.rs.
MAX_ROWS = 28
FRAME_MS = 80
WEIGHTS_MB = 313
# Threads that share a lane do not divide its work evenly: the two that were measured are 1, eight are less.
EFFICIENCY = 0.85


@dataclass
class Machine:
    cores: int
    caches: int
    cache_gb_s: float
    gb_s: float

    @classmethod
    def parse(cls, text: str) -> "Machine":
        cores, caches, cache_gb_s, gb_s = text.split(":")
        return cls(int(cores), int(caches), float(cache_gb_s), float(gb_s))


@dataclass
class Costs:
    """Milliseconds of a chunk."""

    chunk: float
    read: float
    stream: float
    decode: float


@dataclass
class Lanes:
    """How a machine is used."""

    name: str
    count: int
    cores: int
    max_batch: int

    def batch_ms(self, size: int, costs: Costs, machine: Machine) -> float:
        bandwidth = min(machine.cache_gb_s, machine.gb_s / self.count)
        read = WEIGHTS_MB / bandwidth
        efficiency = 1 if self.cores <= 2 else EFFICIENCY
        arithmetic = size * costs.stream / (self.cores * efficiency)
        return max(read, arithmetic) + size * costs.decode / self.cores


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def delays(lanes: Lanes, streams: int, costs: Costs, machine: Machine, args: argparse.Namespace) -> list[float]:
    """Milliseconds from when each chunk was complete until its words."""
    random_numbers = random.Random(args.seed)
    found = []
    for lane in range(lanes.count):
        # The next stream goes to the lane with the fewest.
        members = (streams - lane + lanes.count - 1) // lanes.count
        found += lane_delays(lanes, members, costs, machine, args, random_numbers)
    return found


def lane_delays(lanes, members, costs, machine, args, random_numbers) -> list[float]:
    arrivals = []
    for _ in range(members):
        phase = random_numbers.uniform(0, costs.chunk)
        for chunk in range(int(args.seconds * 1000 / costs.chunk)):
            due = phase + chunk * costs.chunk
            arrivals.append((due + random_numbers.uniform(0, args.jitter_ms), due))
    arrivals.sort(reverse=True)
    pending: list[tuple[float, float]] = []
    now, found = 0.0, []
    while arrivals or pending:
        if not pending:
            now = max(now, arrivals[-1][0])
        while arrivals and arrivals[-1][0] <= now:
            arrived, due = arrivals.pop()
            heapq.heappush(pending, (due + costs.chunk, arrived))
        batch = [heapq.heappop(pending) for _ in range(min(lanes.max_batch, len(pending)))]
        now += lanes.batch_ms(len(batch), costs, machine)
        found += [now - arrived for _, arrived in batch]
    return found


def capacity(lanes: Lanes, costs: Costs, machine: Machine, args: argparse.Namespace) -> int:
    """The most streams whose delay stays within the bound."""

    def fits(streams: int) -> bool:
        return percentile(delays(lanes, streams, costs, machine, args), 0.99) <= args.bound_ms

    low, high = 0, 1
    while high <= 1 << 15 and fits(high):
        low, high = high, 2 * high
    while high - low > max(1, low // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def layouts(machine: Machine, batch: int) -> list[Lanes]:
    cores = machine.cores // machine.caches
    team = min(8, machine.cores)
    found = [
        Lanes("one team, one stream at a time", 1, team, 1),
        Lanes("one team, batches", 1, team, batch),
    ]
    if machine.caches > 1:
        found += [
            Lanes(f"{machine.caches} lanes, one stream at a time", machine.caches, cores, 1),
            Lanes(f"{machine.caches} lanes, batches", machine.caches, cores, batch),
        ]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunk-ms", type=float, default=160)
    parser.add_argument("--read-ms", type=float, required=True, help="to read all weights, on the measured machine")
    parser.add_argument("--stream-ms", type=float, required=True, help="core-milliseconds of arithmetic per stream")
    parser.add_argument("--decode-ms", type=float, required=True, help="core-milliseconds of decoding per stream")
    parser.add_argument(
        "--machine",
        type=Machine.parse,
        action="append",
        help="cores:caches:GB/s of a cache's cores:GB/s (default: the measured one, and 64 cores with 8 caches)",
    )
    parser.add_argument("--bound-ms", type=float, default=80)
    parser.add_argument("--jitter-ms", type=float, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    costs = Costs(args.chunk_ms, args.read_ms, args.stream_ms, args.decode_ms)
    measured = WEIGHTS_MB / args.read_ms
    batch = max(1, int(MAX_ROWS * FRAME_MS / args.chunk_ms))
    for machine in args.machine or [Machine(2, 1, measured, measured), Machine(64, 8, 60, 350)]:
        print(f"{machine.cores} cores, {machine.caches} last-level caches, {machine.gb_s:.0f} GB/s:")
        for lanes in layouts(machine, batch):
            print(f"  {lanes.name:36} {capacity(lanes, costs, machine, args):6} streams")


if __name__ == "__main__":
    main()

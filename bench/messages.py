"""Acknowledged, durable messages per second over TLS: ours, bare sinks and peers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.messagepeers import mosquitto, redis
from bench.peers import enter
from bench.turns import Case, Entry, Result, measure

LOADS = ((1, 100), (50, 10), (50, 1))
"""Connections, and messages in flight on each."""


def cases(seconds: float) -> list[Case]:
    """Return every load."""
    return [
        Case(
            f"{connections} x {window}",
            "bench.load",
            {"connections": connections, "window": window, "seconds": seconds},
        )
        for connections, window in LOADS
    ]


def run(
    folder: Path, ours: servers.Server, boxes: int, runs: int, seconds: float
) -> Iterator[Result]:
    """
    Run every case, on all in turn, and yield each when it is done.

    Args:
        folder: for what the others keep.
        ours: the server under test; boxes b0 … b<boxes - 1> exist.
        boxes: how many boxes the second of our rows writes to.
        runs: how many on each.
        seconds: the length of a run.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    with ExitStack() as stack:
        entries = [
            Entry("ours, 1 box", ours),
            Entry(f"ours, {boxes:,} boxes", ours, {"boxes": boxes}),
            Entry("sink, fdatasync", stack.enter_context(servers.durable_sink(folder))),
            Entry("sink, keeps nothing", stack.enter_context(servers.sink(folder))),
            enter(stack, "redis XADD, fsync always", redis(folder)),
            enter(stack, "mosquitto QoS 1, in memory", mosquitto(folder)),
        ]
        for case in cases(seconds):
            yield measure(case, entries, runs)

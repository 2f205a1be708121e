"""What comes in datagrams, per second: ours and bare loops in turn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.turns import Case, Entry, Result, measure

DTLS_LOADS = ((1, 100), (50, 10), (50, 1))
"""Peers, and messages in flight on each."""

SEALED_WINDOW = 200


def dtls_cases(seconds: float) -> list[Case]:
    """Return every load over DTLS."""
    return [
        Case(
            f"{peers} x {window}",
            "bench.dtlsload",
            {"peers": peers, "window": window, "seconds": seconds},
            "udp",
        )
        for peers, window in DTLS_LOADS
    ]


def sealed_case(key: bytes, seconds: float) -> Case:
    """Return the load of sealed datagrams under one ``enc``, for a sealing key."""
    options = {"key": key.hex(), "window": SEALED_WINDOW, "seconds": seconds}
    return Case(f"1 x {SEALED_WINDOW}", "bench.sealedload", options, "udp")


def fresh_case(key: bytes, seconds: float) -> Case:
    """Return the load of sealed datagrams with a fresh ``enc`` each."""
    options = {"key": key.hex(), "seconds": seconds}
    return Case("fresh enc", "bench.sealedload", options, "udp")


def run(
    folder: Path, kind: str, ours: servers.Server, cases: list[Case], runs: int
) -> Iterator[Result]:
    """
    Run cases on ours and on bare loops, and yield each when it is done.

    Args:
        folder: for the loops' logs.
        kind: of datagrams: ``dtls`` or ``sealed``.
        ours: the server under test.
        cases: what to run.
        runs: how many on each.

    Raises:
        ServerError: something did not start, or a run failed.
    """
    options = {"sink": True} if kind == "sealed" else {}
    with ExitStack() as stack:
        entries = [Entry("ours", ours)]
        for name, batched in (("loop", False), ("batched loop", True)):
            server = servers.datagram_sink(folder, kind, batched=batched)
            entries.append(Entry(name, stack.enter_context(server), options))
        for case in cases:
            yield measure(case, entries, runs)

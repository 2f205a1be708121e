"""Memory of idle connections: ours, a bare sink and a peer, each newly started."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from bench import peers, servers
from bench.boxes import make_boxes
from bench.turns import Case, Entry, Result, measure

CONNECTIONS = 1000
PEER = "mosquitto"


def run(folder: Path, runs: int) -> Result:
    """
    Open idle connections on each server, on a new one in each run.

    Args:
        folder: for what the servers keep.
        runs: how many on each.

    Raises:
        ServerError: something did not start, or a run failed.
        OperatorError: our data folder could not be made.
    """
    case = Case(
        f"{CONNECTIONS:,} idle",
        "bench.idle",
        {"connections": CONNECTIONS},
        rate="kib_each",
    )
    data = folder / "idle"
    make_boxes(data, 1, 0)
    result = Result(case, {})
    for _ in range(runs):
        for name, starting in _starts(folder, data).items():
            if name in result.absent:
                continue
            with ExitStack() as stack:
                if name == PEER:
                    entry = peers.enter(stack, name, starting)
                else:
                    entry = Entry(name, stack.enter_context(starting))
                result.add(measure(case, [entry], 1))
    return result


def _starts(
    folder: Path, data: Path
) -> Mapping[str, AbstractContextManager[servers.Server]]:
    return {
        "ours": servers.securerecv(data, "--scanner", "none"),
        "sink, keeps nothing": servers.sink(folder),
        PEER: peers.mosquitto(folder),
    }

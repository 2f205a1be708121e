"""Memory of idle connections: ours, a bare sink and a peer, each newly started."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from bench import peers, servers
from bench.boxes import make_boxes
from bench.turns import Case, Entry, Result, measure

CONNECTIONS = 1000


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
        for name, (start, options) in _starts(folder, data).items():
            with start as server:
                one = measure(case, [Entry(name, server, options)], 1)
            result.runs.setdefault(name, []).extend(one.runs[name])
    return result


def _starts(
    folder: Path, data: Path
) -> Mapping[
    str, tuple[AbstractContextManager[servers.Server | None], Mapping[str, object]]
]:
    return {
        "ours": (servers.securerecv(data, "--scanner", "none"), {}),
        "sink, keeps nothing": (servers.sink(folder), {}),
        "mosquitto": (peers.mosquitto(folder), {"dialect": "mqtt"}),
    }

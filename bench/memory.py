"""Memory of idle connections: ours, a bare sink and a peer, each newly started."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.boxes import make_boxes
from bench.messagepeers import mosquitto
from bench.peers import enter
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
        with servers.securerecv(data, "--scanner", "none") as server:
            result.add(measure(case, [Entry("ours", server)], 1))
        with servers.sink(folder) as server:
            result.add(measure(case, [Entry("sink, keeps nothing", server)], 1))
        if PEER not in result.absent:
            with ExitStack() as stack:
                peer = enter(stack, PEER, mosquitto(folder))
                result.add(measure(case, [peer], 1))
    return result

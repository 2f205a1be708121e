"""Acknowledged, durable messages per second over TLS, beside the bare sink."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from bench.load import Case
from bench.servers import Server, ServerError, run_json

ONE_CORE_BUSY = 0.9
LOADS = ((1, 100), (50, 10), (50, 1))
"""Connections, and messages in flight on each."""


@dataclass
class Result:
    """The runs of one case, ours and the sink's in pairs, as bench.load gave them."""

    case: Case
    ours: list[dict[str, Any]] = field(default_factory=list)
    sink: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """Our rate over the sink's in each pair of runs."""
        pairs = zip(self.ours, self.sink, strict=True)
        return [a["messages_per_s"] / b["messages_per_s"] for a, b in pairs]

    @property
    def limited_by_generator(self) -> bool:
        """Whether in some run the generator was busy and the server was not."""
        return any(
            run["generator_busy"] > ONE_CORE_BUSY > run["server_busy"]
            for run in self.ours + self.sink
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything measured."""
        return {
            "case": asdict(self.case),
            "ratio_median": round(median(self.ratios), 4),
            "ratios": [round(ratio, 4) for ratio in self.ratios],
            "limited_by_generator": self.limited_by_generator,
            "ours": self.ours,
            "sink": self.sink,
        }


def cases(many_boxes: int) -> list[Case]:
    """Return every load into one box and into many."""
    return [Case(*load, boxes) for load in LOADS for boxes in (1, many_boxes)]


def measure(
    ours: Server, sink: Server, many_boxes: int, runs: int, seconds: float
) -> Iterator[Result]:
    """
    Run every case, ours and the sink in turn, and yield each when it is done.

    Args:
        ours: the server under test; boxes b0 … b<many_boxes - 1> exist.
        sink: the ceiling.
        many_boxes: how many boxes the second variant of each case writes to.
        runs: pairs of runs for each case.
        seconds: the length of each run.

    Raises:
        ServerError: a run failed, with what the load said.
    """
    for case in cases(many_boxes):
        result = Result(case)
        for _ in range(runs):
            for server, figures in ((ours, result.ours), (sink, result.sink)):
                options: dict[str, float] = {
                    "port": server.ports["tcp"],
                    "server-pid": server.pid,
                }
                options |= asdict(case)
                options["seconds"] = seconds
                try:
                    figures.append(run_json("bench.load", options))
                except ServerError as error:
                    raise ServerError(f"{server.name}, {case}: {error}") from None
        yield result

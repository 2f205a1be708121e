"""Runs a load on several servers in turn, and keeps what came of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.servers import Server, ServerError, run_json

ONE_CORE_BUSY = 0.9


@dataclass(frozen=True)
class Case:
    """
    One shape of load.

    Attributes:
        name: for the table.
        module: the load process.
        options: of the load, beside where the server is.
        transport: ``tcp`` or ``udp``: which of the server's ports is loaded.
        rate: which figure of the load is its rate.
    """

    name: str
    module: str
    options: Mapping[str, object]
    transport: str = "tcp"
    rate: str = "messages_per_s"


@dataclass(frozen=True)
class Entry:
    """
    A server that takes its turns.

    Attributes:
        name: for the table.
        server: running; None where it is not installed.
        options: of the load, in addition or instead, on this server.
    """

    name: str
    server: Server | None
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass
class Result:
    """
    The runs of one case.

    Attributes:
        case: which.
        runs: by the entry's name, ours first, what the load printed for each run;
            nothing for what is not installed.
    """

    case: Case
    runs: dict[str, list[dict[str, Any]]]

    def ratios(self, name: str) -> list[float]:
        """Return our rate over another's, for each turn."""
        rate = self.case.rate
        ours = next(iter(self.runs.values()))
        turns = zip(ours, self.runs[name], strict=True)
        return [mine[rate] / other[rate] for mine, other in turns]

    def was_limited_by_generator(self, name: str) -> bool:
        """Tell whether in some run the generator was busy and the server was not."""
        return any(
            run["generator_busy"] > ONE_CORE_BUSY > run["server_busy"]
            for run in self.runs[name]
            if "generator_busy" in run
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything measured."""
        others = [name for name, runs in self.runs.items() if runs][1:]
        return {
            "case": self.case.name,
            "ratio_median": {o: round(median(self.ratios(o)), 4) for o in others},
            "ratios": {o: [round(r, 4) for r in self.ratios(o)] for o in others},
            "limited_by_generator": {
                name: self.was_limited_by_generator(name) for name in self.runs
            },
            "runs": self.runs,
        }


def measure(case: Case, entries: Sequence[Entry], runs: int) -> Result:
    """
    Run a case, on the servers in turn.

    Args:
        case: what to run.
        entries: the server under test, then what it is compared with.
        runs: how many on each.

    Raises:
        ServerError: a run failed, with what the load said.
    """
    result = Result(case, {entry.name: [] for entry in entries})
    for _ in range(runs):
        for entry in entries:
            if entry.server is None:
                continue
            options = {
                "port": entry.server.ports[case.transport],
                "server-pid": entry.server.pid,
                **case.options,
                **entry.options,
            }
            try:
                figures = run_json(case.module, options)
            except ServerError as error:
                raise ServerError(f"{entry.name}, {case.name}: {error}") from None
            result.runs[entry.name].append(figures)
    return result

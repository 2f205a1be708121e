"""Runs a load on several servers in turn, and keeps what came of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.absence import Absent, absence
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
        server: running, or why it is not.
        options: of the load, in addition or instead, on this server.
        is_peer: it is none of ours, and others go on without it.
    """

    name: str
    server: Server | Absent
    options: Mapping[str, object] = field(default_factory=dict)
    is_peer: bool = False


@dataclass
class Result:
    """
    The runs of one case.

    Attributes:
        case: which.
        runs: by the entry's name, ours first, what the load printed for each run;
            nothing for what is absent.
        absent: by the entry's name, those without figures.
    """

    case: Case
    runs: dict[str, list[dict[str, Any]]]
    absent: dict[str, Absent] = field(default_factory=dict)

    def add(self, more: Result) -> None:
        """Add runs of the same case."""
        for name, runs in more.runs.items():
            self.runs.setdefault(name, []).extend(runs)
        for name, why in more.absent.items():
            self.leave_out(name, why)

    def leave_out(self, name: str, why: Absent) -> None:
        """Go on without one, whose earlier runs do not count."""
        self.absent[name] = why
        self.runs[name] = []

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
            "absent": {name: why.words for name, why in self.absent.items()},
        }


def measure(case: Case, entries: Sequence[Entry], runs: int) -> Result:
    """
    Run a case, on the servers in turn.

    Args:
        case: what to run.
        entries: the server under test, then what it is compared with.
        runs: how many on each.

    Raises:
        ServerError: a run failed that is not a peer's, with what the load said.
    """
    result = Result(case, {entry.name: [] for entry in entries})
    for entry in entries:
        if isinstance(entry.server, Absent):
            result.leave_out(entry.name, entry.server)
    for _ in range(runs):
        for entry in entries:
            if isinstance(entry.server, Absent) or entry.name in result.absent:
                continue
            try:
                figures = _run(case, entry, entry.server)
            except ServerError as error:
                if not entry.is_peer:
                    raise
                result.leave_out(entry.name, absence(error))
            else:
                result.runs[entry.name].append(figures)
    return result


def _run(case: Case, entry: Entry, server: Server) -> dict[str, Any]:
    options = {
        "port": server.ports[case.transport],
        "server-pid": server.pid,
        **case.options,
        **server.options,
        **entry.options,
    }
    try:
        return run_json(case.module, options)
    except ServerError as error:
        raise ServerError(f"{entry.name}, {case.name}: {error}") from None

"""What comes in datagrams, per second: ours and bare loops in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.messages import ONE_CORE_BUSY
from bench.servers import Server, ServerError, run_json

DTLS_LOADS = ((1, 100), (50, 10), (50, 1))
"""Peers, and messages in flight on each."""

SEALED_WINDOW = 200


@dataclass(frozen=True)
class Case:
    """
    One shape of load.

    Attributes:
        name: for the table.
        module: the load process.
        options: of the load, beside where the server is.
        sink_options: of the load, in addition, when the server is a sink.
    """

    name: str
    module: str
    options: Mapping[str, object]
    sink_options: Mapping[str, object] = field(default_factory=dict)


def dtls_cases() -> list[Case]:
    """Return every load over DTLS."""
    return [
        Case(
            f"{peers} x {window}",
            "bench.dtlsload",
            {"peers": peers, "window": window},
        )
        for peers, window in DTLS_LOADS
    ]


def sealed_cases(key: bytes) -> list[Case]:
    """Return the load of sealed datagrams under one ``enc``, for a sealing key."""
    options = {"key": key.hex(), "window": SEALED_WINDOW}
    name = f"1 x {SEALED_WINDOW}"
    return [Case(name, "bench.sealedload", options, {"sink": True})]


def fresh_case(key: bytes) -> Case:
    """Return the load of sealed datagrams with a fresh ``enc`` each."""
    return Case("fresh enc", "bench.sealedload", {"key": key.hex()})


@dataclass
class Result:
    """
    The runs of one case.

    Attributes:
        case: which.
        runs: by the server's name, ours first, what the load printed for each run.
    """

    case: Case
    runs: dict[str, list[dict[str, Any]]]

    def ratios(self, name: str) -> list[float]:
        """Return our rate over another server's, for each turn."""
        ours = next(iter(self.runs.values()))
        turns = zip(ours, self.runs[name], strict=True)
        return [a["messages_per_s"] / b["messages_per_s"] for a, b in turns]

    def was_limited_by_generator(self, name: str) -> bool:
        """Tell whether in some run the generator was busy and the server was not."""
        return any(
            run["generator_busy"] > ONE_CORE_BUSY > run["server_busy"]
            for run in self.runs[name]
        )

    def as_json(self) -> dict[str, Any]:
        """Return everything measured."""
        _ours, *others = self.runs
        return {
            "case": self.case.name,
            "ratio_median": {o: round(median(self.ratios(o)), 4) for o in others},
            "ratios": {o: [round(r, 4) for r in self.ratios(o)] for o in others},
            "limited_by_generator": {
                name: self.was_limited_by_generator(name) for name in self.runs
            },
            "runs": self.runs,
        }


def measure(case: Case, servers: Sequence[Server], runs: int, seconds: float) -> Result:
    """
    Run a case, on the servers in turn.

    Args:
        case: what to run.
        servers: the server under test, then the ceilings.
        runs: how many on each.
        seconds: the length of each run.

    Raises:
        ServerError: a run failed, with what the load said.
    """
    result = Result(case, {server.name: [] for server in servers})
    for _ in range(runs):
        for server in servers:
            options = {
                "port": server.ports["udp"],
                "server-pid": server.pid,
                "seconds": seconds,
                **case.options,
            }
            if server is not servers[0]:
                options |= case.sink_options
            try:
                figures = run_json(case.module, options)
            except ServerError as error:
                words = f"{server.name}, {case.name}: {error}"
                raise ServerError(words) from None
            result.runs[server.name].append(figures)
    return result

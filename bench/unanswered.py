"""
How many datagrams a second are taken where nobody answers.

A sender that is not answered cannot slow down: what is too much gets lost. So there
are two figures for each program: how many a second it takes when more come than it
can take, and the highest rate of which it loses no more than one in a hundred.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from bench.absence import Absent, absence
from bench.blast import MOST_PER_S
from bench.collectors import Collector
from bench.servers import ServerError, run_json
from bench.sheets import Cell, Sheet, Spread
from bench.tables import column, how_many

MAX_LOSS = 0.01
TRIED = (1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)
"""Rates that are tried, as parts of what is taken under overload; the first that
does well is the highest."""

MIN_SENT = 0.95
"""A sender that falls further behind its rate has not tried it."""

Run = dict[str, Any]


class NothingTakenError(ServerError):
    """A program ran, but took none of what was sent."""

    words = "took nothing"


@dataclass
class Outcome:
    """
    What came of one program.

    Attributes:
        collector: it.
        overload: the runs in which as many were sent as go.
        clean_per_s: the highest rate that it takes; 0 if there is none.
        absent: why it has no figures, if so.
    """

    collector: Collector
    overload: list[Run] = field(default_factory=list)
    clean_per_s: float = 0.0
    absent: Absent | None = None

    def as_json(self) -> dict[str, Any]:
        """Return everything measured."""
        return {
            "server": self.collector.name,
            "clean_per_s": self.clean_per_s,
            "overload": self.overload,
            "absent": self.absent.words if self.absent else None,
        }


def run_once(collector: Collector, rate: float, seconds: float) -> Run:
    """
    Send to a program that is started for it; return the figures.

    Raises:
        NothingTakenError: there are no figures.
        ServerError: it did not start, or the load failed.
    """
    with collector.start() as server:
        figures = run_json(
            "bench.blast",
            {
                "port": server.ports["udp"],
                "server-pid": server.pid,
                "rate": rate,
                "seconds": seconds,
                **server.options,
                **collector.options,
            },
        )
    found_room = figures["messages"]
    taken = collector.taken() if collector.taken is not None else found_room
    if not taken:
        sent = figures["sent"]
        raise NothingTakenError(f"{collector.name} took none of {sent:,} datagrams")
    figures["messages"] = taken
    figures["messages_per_s"] = round(taken / figures["elapsed_s"], 1)
    figures["server_cpu_us"] = round(figures["server_cpu_us"] * found_room / taken, 2)
    figures["loss"] = round(1 - taken / figures["sent"], 5)
    return figures


def clean_rate(collector: Collector, most: float, runs: int, seconds: float) -> float:
    """
    Find the highest rate of which no more than MAX_LOSS is lost in most runs.

    Args:
        collector: on what.
        most: what it takes under overload.
        runs: how many of each rate.
        seconds: length of a run.

    Returns:
        The rate, a second; 0 if none did well.
    """
    for part in TRIED:
        rate = most * part
        tried = [run_once(collector, rate, seconds) for _ in range(runs)]
        good = [
            run
            for run in tried
            if run["loss"] <= MAX_LOSS and run["sent_per_s"] >= rate * MIN_SENT
        ]
        if len(good) * 2 > runs:
            return rate
    return 0.0


def run(programs: Sequence[Collector], runs: int, seconds: float) -> Iterator[Outcome]:
    """
    Measure ours and the others, and yield each when it is done.

    Args:
        programs: all of them, ours first.
        runs: how many of each case.
        seconds: length of a run.

    Raises:
        ServerError: ours did not start, or one of its runs failed.
    """
    outcomes = [Outcome(program) for program in programs]
    for _ in range(runs):
        for outcome in outcomes:
            if outcome.absent is None:
                with _excusing(outcome):
                    figures = run_once(outcome.collector, MOST_PER_S, seconds)
                    outcome.overload.append(figures)
    for outcome in outcomes:
        if outcome.absent is None:
            most = median(one["messages_per_s"] for one in outcome.overload)
            with _excusing(outcome):
                rate = clean_rate(outcome.collector, most, runs, seconds)
                outcome.clean_per_s = rate
        yield outcome


@contextmanager
def _excusing(outcome: Outcome) -> Iterator[None]:
    """Go on without a program that fails, unless it is ours."""
    try:
        yield
    except ServerError as error:
        if outcome.collector.is_ours:
            raise
        outcome.absent = absence(error)


def sheet(outcomes: Sequence[Outcome]) -> Sheet:
    """Return the table."""
    runs = outcomes[0].overload
    table = Sheet(
        "Datagrams with messages of 100 bytes, no answer wanted",
        (
            "server",
            "clean/s",
            "ours/it",
            "overload\ntaken/s",
            "ours/it",
            "CPU µs",
            "cores",
        ),
        (
            f"{how_many(len(runs))} under overload, in turn, each on a server newly",
            "started. Clean: the highest rate tried of which 1 % or less is lost.",
            "Taken: of ours what is durable, by its own count; of rsyslog what is in",
            "its file; of carbon-cache what its socket had room for. Ours are sealed",
            "under one enc; what the others get is plaintext. CPU: user and system",
            "time of the server for each that was taken under overload. Cores: what",
            "server and load generator used; (limit) where nothing was lost, so that",
            "the generator was the limit. Batches: 32 cut by the kernel.",
        ),
    )
    for outcome in outcomes:
        table.rows.append(_row(outcome, outcomes[0]))
    return table


def _row(outcome: Outcome, ours: Outcome) -> Sequence[Cell]:
    name, clean = outcome.collector.name, outcome.clean_per_s
    if outcome.absent is not None:
        return (name, outcome.absent.words, "", "", "", "", "")
    ratios: list[Cell] = ["", ""]
    if not outcome.collector.is_ours:
        pairs = zip(ours.overload, outcome.overload, strict=True)
        ratios = [
            f"{ours.clean_per_s / clean:.2f}" if clean else "",
            Spread(
                [a["messages_per_s"] / b["messages_per_s"] for a, b in pairs], ".2f"
            ),
        ]
    runs = outcome.overload
    busy = [
        median(run[f"{who}_busy"] for run in runs) for who in ("server", "generator")
    ]
    limit = " (limit)" if max(run["loss"] for run in runs) <= MAX_LOSS else ""
    return (
        name,
        f"{clean:,.0f}" if clean else "none",
        ratios[0],
        column(runs, "messages_per_s", ",.0f"),
        ratios[1],
        column(runs, "server_cpu_us", ".1f"),
        f"{busy[0]:.2f}/{busy[1]:.2f}{limit}",
    )

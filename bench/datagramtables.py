"""Prints the figures of what comes in datagrams."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from bench.datagrams import Result
from bench.sealedload import FRESH_PER_S
from bench.tables import column, how_many, middle, spread
from securerecv.wire.openings import MAX_SHARE, MAX_SHARE_PER_ADDRESS, OPENING_COST_S

TITLES = {
    "dtls": "Acknowledged, durable 100-byte messages over DTLS 1.2, AES-256-GCM",
    "sealed": "Acknowledged, durable 100-byte messages in sealed datagrams, one enc",
}
SHAPES = {"dtls": "peers x\nwindow", "sealed": "encs x\nwindow"}
MISSED = {"dtls": "resent", "sealed": "lost"}
WORDS = {
    "loop": "bare loop: one datagram received, one sent, at a time.",
    "batched": "batched: the same with UDP_GRO and UDP_SEGMENT.",
}


def datagrams_table(kind: str, results: Sequence[Result], seconds: float) -> Table:
    """
    Return the table of acknowledged messages per second.

    Args:
        kind: ``dtls`` or ``sealed``.
        results: a row for each and each of its servers.
        seconds: the length of a run.
    """
    every_run = [
        run for result in results for runs in result.runs.values() for run in runs
    ]
    others = spread([run["others_busy"] for run in every_run], ".2f").split()
    runs = len(next(iter(results[0].runs.values())))
    table = Table(
        title=TITLES[kind],
        caption=(
            f"{how_many(runs)} of {seconds:g} s, in turn; the loops keep nothing.\n"
            + "\n".join(WORDS.values())
            + "\nRatio: our rate over this one. CPU: user and system time a message.\n"
            f"All other programs used {others[0]} cores ({others[1 % len(others)]} "
            f"to {others[-1]})."
        ),
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column(SHAPES[kind], no_wrap=True)
    table.add_column("server")
    for title in ("msgs/s", "ratio", "CPU µs", "server\ncores", "generator\ncores"):
        table.add_column(title, justify="right")
    table.add_column(MISSED[kind], justify="right")
    for result in results:
        for index, (name, figures) in enumerate(result.runs.items()):
            limited = result.was_limited_by_generator(name)
            table.add_row(
                "" if index else result.case.name,
                name,
                column(figures, "messages_per_s", ",.0f"),
                spread(result.ratios(name), ".2f") if index else "",
                column(figures, "server_cpu_us", ".1f"),
                f"{middle(figures, 'server_busy'):.2f}",
                f"{middle(figures, 'generator_busy'):.2f}"
                + ("\nTHE LIMIT" if limited else ""),
                f"{sum(run[MISSED[kind]] for run in figures):,}",
            )
    return table


def openings_table(fresh: Result, costs: dict[str, Any], seconds: float) -> Table:
    """
    Return the table of sealed datagrams that each have an ``enc`` of their own.

    Args:
        fresh: our runs.
        costs: of one opening, as bench.openings gives them.
        seconds: the length of a run.
    """
    (runs,) = fresh.runs.values()
    sent = median(run["sent"] / run["elapsed_s"] for run in runs)
    one = MAX_SHARE_PER_ADDRESS / OPENING_COST_S
    every = MAX_SHARE / OPENING_COST_S
    table = Table(
        title="Sealed datagrams with a fresh enc each, from one address",
        caption=(
            f"{how_many(len(runs))} of {seconds:g} s, {FRESH_PER_S:,} sent a second.\n"
            f"The budget for public-key work lets one address open {one:,.0f} a\n"
            f"second (and a burst after a pause), all together {every:,.0f}.\n"
            "Bare: CPU of one opening, without network and store."
        ),
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    for title in ("sent/s", "acknowledged/s", "server\ncores"):
        table.add_column(title, justify="right")
    for title in ("bare µs\nfresh enc", "bare µs\nsame enc", "bare µs\nHPKE alone"):
        table.add_column(title, justify="right")
    table.add_row(
        f"{sent:,.0f}",
        column(runs, "messages_per_s", ",.0f"),
        f"{middle(runs, 'server_busy'):.2f}",
        f"{costs['fresh_enc_us']:,.0f}",
        f"{costs['same_enc_us']:.1f}",
        f"{costs['decapsulate_us']:,.0f}",
    )
    return table

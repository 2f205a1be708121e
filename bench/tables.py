"""Prints the figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from rich import box
from rich.table import Table

from bench.messages import Result


def spread(values: Sequence[float], form: str) -> str:
    """Return the median; if there are several, the lowest and highest under it."""
    middle = format(median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle}\n{min(values):{form}}\n{max(values):{form}}"


def column(runs: Sequence[dict[str, Any]], figure: str, form: str) -> str:
    """Return the spread of one figure of some runs."""
    return spread([run[figure] for run in runs], form)


def middle(runs: Sequence[dict[str, Any]], figure: str) -> float:
    """Return the median of one figure of some runs."""
    return float(median(run[figure] for run in runs))


def how_many(runs: int) -> str:
    """Return the words that say what the figures of so many runs are."""
    return f"Median, lowest and highest of {runs} runs" if runs > 1 else "One run"


def messages_table(results: Sequence[Result], seconds: float) -> Table:
    """Return the table of acknowledged messages per second."""
    every_run = [run for result in results for run in result.ours + result.sink]
    others = spread([run["others_busy"] for run in every_run], ".2f").split()
    runs = len(results[0].ours)
    table = Table(
        title="Acknowledged, durable 100-byte messages over TLS 1.3, AES-256-GCM",
        caption=(
            f"{how_many(runs)} of {seconds:g} s, ours and the sink in turn.\n"
            "The sink stores nothing. CPU: user and system time per message.\n"
            "Generator: cores it used, ours / sink; all other programs used\n"
            f"{others[0]} ({others[1]} to {others[-1]}). First: one "
            "message into each box, before the clock starts."
        ),
        box=box.SIMPLE_HEAD,
        collapse_padding=True,
        pad_edge=False,
    )
    table.add_column("conns x\nwindow", no_wrap=True)
    for title in ("boxes", "ours\nmsgs/s", "sink\nmsgs/s", "ratio", "ours\nCPU µs"):
        table.add_column(title, justify="right")
    for title in ("sink\nCPU µs", "generator\ncores", "first\nms"):
        table.add_column(title, justify="right")
    for result in results:
        case, ours, sink = result.case, result.ours, result.sink
        limited = "\nTHE LIMIT" if result.limited_by_generator else ""
        busy = [f"{middle(runs, 'generator_busy'):.2f}" for runs in (ours, sink)]
        table.add_row(
            f"{case.connections} x {case.window}",
            f"{case.boxes:,}",
            column(ours, "messages_per_s", ",.0f"),
            column(sink, "messages_per_s", ",.0f"),
            spread(result.ratios, ".2f"),
            column(ours, "server_cpu_us", ".1f"),
            column(sink, "server_cpu_us", ".1f"),
            "/".join(busy) + limited,
            f"{ours[0]['first_pass_s'] * 1000:,.0f}",
        )
    return table


def logins_table(figures: dict[str, Any]) -> Table:
    """Return the table of PING's answer times."""
    answered = ", ".join(f"{n} {what}" for what, n in figures["outcomes"].items())
    table = Table(
        title="Answer time of PING on one connection",
        caption=(
            f"The {figures['logins']} logins were answered ({answered}) within "
            f"{figures['queue_s']:.1f} s."
        ),
        box=box.SIMPLE_HEAD,
    )
    table.add_column("meanwhile")
    for title in ("PINGs", "median ms", "p99 ms", "max ms"):
        table.add_column(title, justify="right")
    rows = {"idle": "nothing else", "queued": f"{figures['logins']} logins queued"}
    for key, words in rows.items():
        row = figures[key]
        times = [f"{row[k]:.2f}" for k in ("median_ms", "p99_ms", "max_ms")]
        table.add_row(words, f"{row['pings']:,}", *times)
    return table

"""Makes tables of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from bench.sealedload import FRESH_PER_S
from bench.sheets import Cell, Sheet, Spread
from bench.turns import Result
from securerecv.wire.openings import MAX_SHARE, MAX_SHARE_PER_ADDRESS, OPENING_COST_S

Runs = Sequence[dict[str, Any]]

CPU_WORDS = "CPU: user and system time of the server for each message."
GENERATOR_WORDS = "Cores: how many the server and the load generator used."


def column(runs: Runs, figure: str, form: str) -> Spread:
    """Return one figure of some runs."""
    return Spread([run[figure] for run in runs], form)


def middle(runs: Runs, figure: str) -> float:
    """Return the median of one figure of some runs."""
    return float(median(run[figure] for run in runs))


def how_many(runs: int) -> str:
    """Return the words that say what the figures of so many runs are."""
    return f"Median, lowest and highest of {runs} runs" if runs > 1 else "One run"


def ratio(result: Result, name: str) -> Spread:
    """Return our rate over another's, for each turn."""
    return Spread(result.ratios(name), ".2f")


def others_busy(results: Sequence[Result]) -> str:
    """Return the words that say what else the machine did."""
    every_run = [
        run for result in results for runs in result.runs.values() for run in runs
    ]
    low, high = (f(run["others_busy"] for run in every_run) for f in (min, max))
    return f"All other programs used {low:.2f} to {high:.2f} cores meanwhile."


def runs_of(results: Sequence[Result]) -> int:
    """Return how many runs each server had."""
    return len(next(iter(results[0].runs.values())))


def messages_sheet(
    title: str, shape: str, results: Sequence[Result], notes: Sequence[str]
) -> Sheet:
    """
    Return the table of acknowledged messages per second.

    Args:
        title: what they are.
        shape: what the names of the cases say.
        results: a row for each and each of its servers.
        notes: on the servers.
    """
    sheet = Sheet(
        title,
        (shape, "server", "msgs/s", "ours/it", "CPU µs", "cores"),
        (
            f"{how_many(runs_of(results))}, all in turn. {CPU_WORDS}",
            GENERATOR_WORDS,
            *notes,
            others_busy(results),
        ),
        words=2,
    )
    for result in results:
        for index, (name, runs) in enumerate(result.runs.items()):
            case = "" if index else result.case.name
            if not runs:
                sheet.rows.append((case, name, result.absent[name].words, "", "", ""))
                continue
            busy = f"{middle(runs, 'server_busy'):.2f}/"
            busy += f"{middle(runs, 'generator_busy'):.2f}"
            limit = " (limit)" if result.was_limited_by_generator(name) else ""
            sheet.rows.append(
                (
                    case,
                    name,
                    column(runs, "messages_per_s", ",.0f"),
                    "" if name.startswith("ours") else ratio(result, name),
                    column(runs, "server_cpu_us", ".1f"),
                    busy + limit,
                )
            )
    return sheet


def tls_sheet(results: Sequence[Result]) -> Sheet:
    """Return the table of messages over TLS."""
    return messages_sheet(
        "Messages of 100 bytes over TLS 1.3, answered",
        "connections x\nin flight",
        results,
        (
            "Ours are durable, sealed to the owner, and in the box when answered.",
            "Sinks: bare servers on the same transport; one appends to a file, and has",
            "one fdatasync for all that came during the last; the other keeps nothing.",
        ),
    )


def dtls_sheet(results: Sequence[Result]) -> Sheet:
    """Return the table of messages over DTLS."""
    resent = sum(run["resent"] for r in results for run in next(iter(r.runs.values())))
    return messages_sheet(
        "Messages of 100 bytes over DTLS 1.2, answered when durable",
        "peers x\nin flight",
        results,
        (
            "Loops: bare sockets that decrypt, encrypt an answer and keep nothing; the",
            "batched one with UDP_GRO and UDP_SEGMENT.",
            f"{resent} of our requests were sent again.",
        ),
    )


def sealed_sheet(results: Sequence[Result]) -> Sheet:
    """Return the table of sealed datagrams under one ``enc``."""
    lost = sum(run["lost"] for r in results for run in next(iter(r.runs.values())))
    return messages_sheet(
        "Messages of 100 bytes in sealed datagrams, one enc, answered when durable",
        "encs x\nin flight",
        results,
        (
            "Loops: bare sockets that answer and neither open nor keep anything; the",
            "batched one with UDP_GRO and UDP_SEGMENT.",
            f"{lost} of our datagrams were lost.",
        ),
    )


def openings_sheet(fresh: Result, costs: dict[str, Any]) -> Sheet:
    """
    Return the table of sealed datagrams that each have an ``enc`` of their own.

    Args:
        fresh: our runs.
        costs: of one opening, as bench.openings gives them.
    """
    (runs,) = fresh.runs.values()
    sent = median(run["sent"] / run["elapsed_s"] for run in runs)
    one = MAX_SHARE_PER_ADDRESS / OPENING_COST_S
    every = MAX_SHARE / OPENING_COST_S
    return Sheet(
        "Sealed datagrams with a fresh enc each, from one address",
        (
            "sent/s",
            "answered/s",
            "server\ncores",
            "bare µs\nfresh enc",
            "bare µs\nsame enc",
            "bare µs\nHPKE alone",
        ),
        (
            f"{how_many(len(runs))}, {FRESH_PER_S:,} sent a second.",
            f"The budget for public-key work lets one address open {one:,.0f} a second",
            f"(and a burst after a pause), all together {every:,.0f}.",
            "Bare: CPU of one opening, without network and store.",
        ),
        words=0,
        rows=[
            (
                f"{sent:,.0f}",
                column(runs, "messages_per_s", ",.0f"),
                f"{middle(runs, 'server_busy'):.2f}",
                f"{costs['fresh_enc_us']:,.0f}",
                f"{costs['same_enc_us']:.1f}",
                f"{costs['decapsulate_us']:,.0f}",
            )
        ],
    )


def logins_sheets(runs: Runs) -> list[Sheet]:
    """Return the tables of logins, and of PING's answer times meanwhile."""
    logins = runs[0]["logins"]
    outcomes = {what for run in runs for what in run["outcomes"]}
    rates = Sheet(
        "Logins",
        ("", "a second", "logins/it", "CPU ms each"),
        (
            f"{how_many(len(runs))} of {logins} logins, all sent at once.",
            f"bcrypt: before and after, by itself in {runs[0]['threads']} threads, as",
            "many as the server's.",
            f"Answers were: {', '.join(sorted(outcomes))}.",
        ),
        rows=[
            (
                "logins",
                column(runs, "logins_per_s", ".2f"),
                "",
                column(runs, "cpu_ms_each", ".0f"),
            ),
            (
                "bcrypt alone",
                column(runs, "bcrypt_per_s", ".2f"),
                Spread(
                    [run["logins_per_s"] / run["bcrypt_per_s"] for run in runs], ".2f"
                ),
                column(runs, "bcrypt_cpu_ms", ".0f"),
            ),
        ],
    )
    pings = Sheet(
        "Answer time of PING on one connection, ms",
        ("meanwhile", "PINGs", "median", "p99", "longest"),
        ("PINGs leave every 5 ms, whether or not earlier ones were answered.",),
    )
    for key, words in (("idle", "nothing else"), ("queued", f"{logins} logins")):
        rows: Runs = [run[key] for run in runs]
        times: list[Cell] = [
            column(rows, f"{name}_ms", ".2f") for name in ("median", "p99", "max")
        ]
        pings.rows.append((words, f"{sum(row['pings'] for row in rows):,}", *times))
    return [rates, pings]


def memory_sheet(result: Result) -> Sheet:
    """Return the table of what idle connections keep in memory."""
    sheet = Sheet(
        "Memory of an idle TLS connection",
        ("server", "KiB each", "ours/it", "server alone\nKiB", "connects/s"),
        (
            f"{how_many(runs_of([result]))}, each on a server newly started.",
            f"Resident memory before and after {result.case.name} connections, each",
            "logged in (ours: with ANON) and with one message sent; opened one by one.",
        ),
    )
    for index, (name, runs) in enumerate(result.runs.items()):
        if not runs:
            sheet.rows.append((name, result.absent[name].words, "", "", ""))
            continue
        sheet.rows.append(
            (
                name,
                column(runs, "kib_each", ".1f"),
                ratio(result, name) if index else "",
                f"{middle(runs, 'kib_before'):,.0f}",
                column(runs, "connects_per_s", ",.0f"),
            )
        )
    return sheet

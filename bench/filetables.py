"""Makes tables of the figures of files."""

from __future__ import annotations

from collections.abc import Sequence

from bench.sheets import Sheet
from bench.tables import column, how_many, others_busy, ratio, runs_of
from bench.turns import Result

TCP_NOTES = (
    "Ours: sealed on disk, SHA-256 checked, durable; the scan comes after that.",
    "The same generator sends to the sink and to nginx, which hash and sync nothing.",
    "scp is a program of its own, with its login, aes256-gcm.",
)
UDP_NOTES = (
    "Ours: sealed on disk, SHA-256 checked, durable; the scan comes after that.",
    "Sent by the project's client. uftp: at a fixed rate without congestion control",
    "(the fastest of several), 1,300-byte blocks, aes256-gcm; the time that it says.",
    "srt: 1,456 bytes a packet, AES-256 in counter mode, nothing authenticated; with",
    "its start, its handshake and until its server has the whole file.",
)
PATH_NOTES = (
    "64 MiB at 800 Mbit/s, 32 MiB at 100.",
    "Through a relay that loses packets in both directions and has a queue of 20 ms;",
    "packets have 1,472 bytes at most. The relay uses the same cores",
    "and counts as another program.",
    "uftp: at the link's rate, without congestion control; the time that it says.",
)


def files_sheet(title: str, results: Sequence[Result], notes: Sequence[str]) -> Sheet:
    """
    Return the table of files that come in.

    Args:
        title: how they come.
        results: a row for each and each of its servers.
        notes: on the servers.
    """
    sheet = Sheet(
        title,
        ("", "server", "MB/s", "ours/it", "CPU s/GB"),
        (
            f"{how_many(runs_of(results))}, all in turn; content is random and new.",
            "CPU: user and system time of the server. MB = 10⁶ bytes, GB = 10⁹.",
            *notes,
            *_not_clean(results),
            others_busy(results),
        ),
        words=2,
    )
    for result in results:
        for index, (name, runs) in enumerate(result.runs.items()):
            case = "" if index else result.case.name
            if not runs:
                sheet.rows.append((case, name, result.absent[name].words, "", ""))
                continue
            sheet.rows.append(
                (
                    case,
                    name,
                    column(runs, "mb_per_s", ",.1f"),
                    "" if name.startswith("ours") else ratio(result, name),
                    column(runs, "server_cpu_s_per_gb", ".2f"),
                )
            )
    return sheet


def _not_clean(results: Sequence[Result]) -> list[str]:
    """Return the verdicts that are none to be expected of random content."""
    every_run = [run for one in results for runs in one.runs.values() for run in runs]
    states = {run.get("state", "clean") for run in every_run} - {"clean"}
    return [f"A file was {state}." for state in sorted(states)]


def clean_sheet(result: Result) -> Sheet:
    """Return the table of how long it takes until a file is clean."""
    ours, alone = result.runs.values()
    states = sorted({run["state"] for run in ours})
    return Sheet(
        f"From the last byte of {result.case.name} to the verdict",
        ("", "s", "ours/it"),
        (
            f"{how_many(len(ours))}, in turn; the content is random and new each time.",
            f"The verdict was: {', '.join(states)}.",
            "clamd alone: the same one, given a file in memory.",
        ),
        rows=[
            ("ours", column(ours, "verdict_s", ".3f"), ""),
            (
                "clamd alone",
                column(alone, "verdict_s", ".3f"),
                ratio(result, "clamd alone"),
            ),
        ],
    )

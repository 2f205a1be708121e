"""The lane alone, without server and store, beside a bare loop."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from bench.servers import Server, run_json, serving
from bench.sheets import Sheet, Spread
from bench.tables import column, how_many
from securerecv.wire.pathmtu import SIZES

LARGE_BYTES = 512 << 20
LENGTHS: tuple[int | None, ...] = (SIZES[0], None)
"""Of datagrams: the shortest, and what is found."""

Figures = dict[str, Any]
Runs = list[Figures]


def sink(folder: Path, kind: str, size: int) -> AbstractContextManager[Server]:
    """Run what receives; see `bench.lanesink`."""
    words = (kind, "--size", str(size))
    log = folder / f"{kind}.log"
    return serving("bench.lanesink", *words, transport="udp", log=log)


def send(
    kind: str, receiver: Server, port: int, size: int, longest: int | None
) -> Figures:
    """Send one file; see `bench.laneload`."""
    options = {
        "kind": kind,
        "port": port,
        "pid": receiver.pid,
        "size": size,
        "longest": longest,
    }
    return run_json("bench.laneload", options)


def beside_bare_loop(folder: Path, runs: int) -> dict[int | None, dict[str, Runs]]:
    """Return figures by the length of datagrams and by kind, taken in turn."""
    results: dict[int | None, dict[str, Runs]] = {}
    with (
        sink(folder, "lane", LARGE_BYTES) as lane,
        sink(folder, "bare", LARGE_BYTES) as bare,
    ):
        for longest in LENGTHS:
            results[longest] = {"lane": [], "bare": []}
            for _ in range(runs):
                for kind, server in (("lane", lane), ("bare", bare)):
                    port = server.ports["udp"]
                    figures = send(kind, server, port, LARGE_BYTES, longest)
                    results[longest][kind].append(figures)
    return results


def loop_sheet(results: dict[int | None, dict[str, Runs]]) -> Sheet:
    """Return the table of our lane beside a bare loop."""
    runs = len(next(iter(results.values()))["lane"])
    sheet = Sheet(
        f"A file of {LARGE_BYTES >> 20} MiB over UDP: the lane alone",
        (
            "datagram\nbytes",
            "kind",
            "MB/s",
            "lane/it",
            "sender\nCPU µs",
            "receiver\nCPU µs",
        ),
        (
            f"{how_many(runs)}, in turn; AES-256-GCM packets, nothing is stored.",
            "Bare: loops with UDP_GRO and UDP_SEGMENT that seal and open, and send",
            "nothing again. CPU: user and system time for each packet.",
        ),
        words=2,
    )
    for kinds in results.values():
        turns = zip(kinds["lane"], kinds["bare"], strict=True)
        ratios = [ours["mb_per_s"] / bare["mb_per_s"] for ours, bare in turns]
        for kind, figures in kinds.items():
            sheet.rows.append(
                (
                    f"{figures[0]['datagram_bytes']:,}",
                    kind,
                    column(figures, "mb_per_s", ",.0f"),
                    Spread(ratios, ".2f") if kind == "bare" else "",
                    column(figures, "generator_cpu_us", ".1f"),
                    column(figures, "server_cpu_us", ".1f"),
                )
            )
    return sheet


def as_json(loops: dict[int | None, dict[str, Runs]]) -> object:
    """Return all figures for the JSON file."""
    return {str(longest or "found"): kinds for longest, kinds in loops.items()}

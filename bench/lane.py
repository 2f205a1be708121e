"""Files over UDP: our lane beside a bare loop, and on paths that lose packets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.lanerelay import RATE_BYTES_PER_S
from bench.servers import REPOSITORY, Server, run_json, running
from bench.sheets import Sheet, Spread
from bench.tables import column, how_many
from securerecv.wire.pathmtu import SIZES

LARGE_BYTES = 512 << 20
ON_PATH_BYTES = 64 << 20
LOSSES = (0.0, 0.01, 0.05)
LENGTHS: tuple[int | None, ...] = (SIZES[0], None)
"""Of datagrams: the shortest, and what is found."""

Figures = dict[str, Any]
Runs = list[Figures]


@contextmanager
def sink(folder: Path, kind: str, size: int) -> Iterator[Server]:
    """Run what receives; see `bench.lanesink`."""
    command = [sys.executable, "-m", "bench.lanesink", kind, "--size", str(size)]
    with running(command, REPOSITORY, folder / f"{kind}.log", {"udp"}) as server:
        yield server


@contextmanager
def path(folder: Path, to: Server, loss: float) -> Iterator[int]:
    """Run what stands between; give its port."""
    command = [sys.executable, "-m", "bench.lanerelay"]
    command += ["--to", str(to.ports["udp"]), "--loss", str(loss)]
    with running(command, REPOSITORY, folder / "relay.log", {"udp"}) as relay:
        yield relay.ports["udp"]


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


def on_paths(folder: Path, runs: int) -> dict[float, Runs]:
    """Return figures by the share of packets that is lost."""
    results: dict[float, Runs] = {}
    with sink(folder, "lane", ON_PATH_BYTES) as lane:
        for loss in LOSSES:
            with path(folder, lane, loss) as port:
                results[loss] = [
                    send("lane", lane, port, ON_PATH_BYTES, None) for _ in range(runs)
                ]
            for figures in results[loss]:
                left = RATE_BYTES_PER_S * (1 - loss) / 1e6
                figures["share"] = round(figures["mb_per_s"] / left, 3)
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


def path_sheet(results: dict[float, Runs]) -> Sheet:
    """Return the table of our lane on paths that lose packets."""
    sheet = Sheet(
        f"{ON_PATH_BYTES >> 20} MiB through a relay: 100 Mbit/s, 20 ms round trip",
        ("lost by chance", "MB/s", "share"),
        (
            "The relay's queue holds 20 ms.",
            "Share: of what the link carries, less what it loses by chance.",
        ),
    )
    for loss, figures in results.items():
        sheet.rows.append(
            (
                f"{loss:.0%}",
                column(figures, "mb_per_s", ".1f"),
                column(figures, "share", ".2f"),
            )
        )
    return sheet


def as_json(
    loops: dict[int | None, dict[str, Runs]], paths: dict[float, Runs]
) -> object:
    """Return all figures for the JSON file."""
    return {
        "beside_bare_loop": {
            str(longest or "found"): kinds for longest, kinds in loops.items()
        },
        "on_paths": {str(loss): figures for loss, figures in paths.items()},
    }

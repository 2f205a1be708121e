"""
The benchmarks: ``python -m bench``.

Each class of load is measured on the real server, started as a user starts it and
with its defaults, and beside it, in turn, on a bare server that is the ceiling.
Compare ratios: absolute rates depend on the machine, and both ends share it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from ssl import OPENSSL_VERSION
from typing import Any, NoReturn

import attrs
from rich.console import Console

from bench import datagrams, lane, messages, servers
from bench.boxes import make_boxes
from bench.datagramtables import datagrams_table, openings_table
from bench.tables import logins_table, messages_table
from securerecv.errors import OperatorError
from securerecv.net import counters

MANY_BOXES = 1000
LOGINS = 50
RUNS, RUN_S = 3, 3.0
QUICK_RUNS, QUICK_RUN_S = 1, 1.0


@dataclass(frozen=True)
class Bench:
    """What every class of load is given: our server, the extent, where to print."""

    folder: Path
    ours: servers.Server
    sealing_key: bytes
    boxes: int
    runs: int
    seconds: float
    console: Console


def bench_messages(bench: Bench) -> object:
    """Measure messages per second; return the figures for the JSON file."""
    results = []
    with (
        servers.sink(bench.folder) as sink,
        bench.console.status("messages") as status,
    ):
        for result in messages.measure(
            bench.ours, sink, bench.boxes, bench.runs, bench.seconds
        ):
            results.append(result)
            status.update(f"messages: done {len(results)} rows")
    bench.console.print(messages_table(results, bench.seconds))
    return [result.as_json() for result in results]


def bench_logins(bench: Bench) -> object:
    """Measure PING while logins queue; return the figures for the JSON file."""
    with bench.console.status(f"PING while {LOGINS} logins are queued"):
        figures = servers.run_json(
            "bench.logins", {"port": bench.ours.ports["tcp"], "logins": LOGINS}
        )
    bench.console.print(logins_table(figures))
    return figures


def _beside_loops(bench: Bench, kind: str, cases: list[datagrams.Case]) -> object:
    results = []
    with (
        servers.datagram_sink(bench.folder, kind, batched=False) as loop,
        servers.datagram_sink(bench.folder, kind, batched=True) as batched,
        bench.console.status(kind) as status,
    ):
        line = [bench.ours, loop, batched]
        for case in cases:
            status.update(f"{kind}: {case.name}")
            results.append(datagrams.measure(case, line, bench.runs, bench.seconds))
    bench.console.print(datagrams_table(kind, results, bench.seconds))
    return [result.as_json() for result in results]


def bench_dtls(bench: Bench) -> object:
    """Measure messages per second over DTLS; return the figures for the JSON file."""
    return _beside_loops(bench, "dtls", datagrams.dtls_cases())


def bench_sealed(bench: Bench) -> object:
    """Measure sealed datagrams per second; return the figures for the JSON file."""
    key = bench.sealing_key
    one_enc = _beside_loops(bench, "sealed", datagrams.sealed_cases(key))
    with bench.console.status("sealed: a fresh enc each"):
        fresh = datagrams.measure(
            datagrams.fresh_case(key), [bench.ours], bench.runs, bench.seconds
        )
        openings = servers.run_json("bench.openings", {"runs": bench.runs})
    bench.console.print(openings_table(fresh, openings, bench.seconds))
    return {"one_enc": one_enc, "fresh_enc": fresh.as_json(), "openings": openings}


def bench_lane(bench: Bench) -> object:
    """Measure files over UDP; return the figures for the JSON file."""
    with bench.console.status("lane: beside a bare loop"):
        loops = lane.beside_bare_loop(bench.folder, bench.runs)
    bench.console.print(lane.loop_table(loops))
    with bench.console.status("lane: on paths that lose packets"):
        paths = lane.on_paths(bench.folder, bench.runs)
    bench.console.print(lane.path_table(paths))
    return lane.as_json(loops, paths)


CLASSES: dict[str, Callable[[Bench], object]] = {
    "messages": bench_messages,
    "dtls": bench_dtls,
    "sealed": bench_sealed,
    "lane": bench_lane,
    "logins": bench_logins,
}


def machine() -> dict[str, Any]:
    """Return what the figures depend on: cores, load, kernel and library versions."""
    return {
        "cores": os.cpu_count(),
        "load_average_1_min": round(os.getloadavg()[0], 2),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "twisted": version("twisted"),
        "pyopenssl": version("pyopenssl"),
        "openssl_of_the_generator": OPENSSL_VERSION,
    }


def parse_arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "classes", nargs="*", metavar="CLASS", help=f"{', '.join(CLASSES)} (all)"
    )
    parser.add_argument("--quick", action="store_true", help="one short run each")
    parser.add_argument("--runs", type=int, help=f"runs of each case ({RUNS})")
    parser.add_argument("--seconds", type=float, help=f"length of a run ({RUN_S:g})")
    parser.add_argument(
        "--boxes", type=int, default=MANY_BOXES, help="the larger number of boxes"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results")
    arguments = parser.parse_args()
    for name in arguments.classes:
        if name not in CLASSES:
            parser.error(f"no class {name!r}: there are {', '.join(CLASSES)}")
    if arguments.boxes < LOGINS:
        parser.error(f"--boxes must be {LOGINS} or more")
    if arguments.json is not None and not arguments.json.parent.is_dir():
        parser.error(f"there is no folder {arguments.json.parent}")
    if arguments.runs is None:
        arguments.runs = QUICK_RUNS if arguments.quick else RUNS
    if arguments.seconds is None:
        arguments.seconds = QUICK_RUN_S if arguments.quick else RUN_S
    if arguments.runs < 1 or arguments.seconds <= 0:
        parser.error("--runs and --seconds must be above zero")
    return arguments


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """
    Start our server, run the chosen classes, each beside its ceiling, end it.

    Raises:
        ServerError: something did not start, or a run failed.
        OperatorError: the boxes could not be made.
        OSError: the counters that the server left cannot be read.
    """
    classes = arguments.classes or list(CLASSES)
    results: dict[str, Any] = {"machine": machine()}
    console.print(", ".join(f"{k} {v}" for k, v in results["machine"].items()))
    with tempfile.TemporaryDirectory(prefix="bench-") as name_of_folder:
        folder = Path(name_of_folder)
        data = folder / "data"
        with console.status(f"making {arguments.boxes} boxes"):
            key = make_boxes(
                data, arguments.boxes, LOGINS if "logins" in classes else 0
            )
        with servers.securerecv(data) as ours:
            bench = Bench(
                folder=folder,
                ours=ours,
                sealing_key=key,
                boxes=arguments.boxes,
                runs=arguments.runs,
                seconds=arguments.seconds,
                console=console,
            )
            for name in classes:
                results[name] = CLASSES[name](bench)
        counted = counters.read(data)
        if counted is not None and counted.socket.received:
            console.print(f"The server's own count over UDP: {counted.words()}")
            results["server_counters"] = attrs.asdict(counted)
    return results


def end_on_signal(signum: int, _frame: object) -> NoReturn:
    """Turn a request to terminate into an exit that ends the servers too."""
    sys.exit(128 + signum)


def main() -> int:
    """Run the benchmarks; return 0, or 1 and say what failed."""
    arguments = parse_arguments()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end_on_signal)
    console = Console()
    try:
        results = run(arguments, console)
    except (servers.ServerError, OperatorError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

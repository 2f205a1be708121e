"""
The benchmarks: ``python -m bench``.

Each class of load is measured on the real server, started as a user starts it, and
beside it, in turn, on a bare server that is the ceiling, and on other programs where
they are installed. Compare ratios: absolute rates depend on the machine, and both
ends share it. What is measured, and what it means, is in docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from ssl import OPENSSL_VERSION
from typing import Any, NoReturn

import attrs
from rich.console import Console

from bench import datagrams, lane, memory, messages, servers
from bench.boxes import make_boxes
from bench.document import parts, write_into
from bench.sheets import Sheet
from bench.tables import (
    dtls_sheet,
    logins_sheets,
    memory_sheet,
    openings_sheet,
    sealed_sheet,
    tls_sheet,
)
from bench.turns import Entry, Result, measure
from securerecv.errors import OperatorError
from securerecv.net import counters

MANY_BOXES = 1000
LOGINS = 50
RUNS, RUN_S = 3, 2.0
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
    sheets: list[Sheet]

    def show(self, sheet: Sheet) -> None:
        """Print a table, and keep it."""
        self.console.print(sheet.terminal())
        self.sheets.append(sheet)

    def collect(self, what: str, results: Iterable[Result]) -> list[Result]:
        """Wait for results, and say how far it is."""
        done: list[Result] = []
        with self.console.status(what) as status:
            for result in results:
                done.append(result)
                status.update(f"{what}: done {', '.join(r.case.name for r in done)}")
        return done


def bench_messages(bench: Bench) -> object:
    """Measure messages per second; return the figures for the JSON file."""
    results = bench.collect(
        "messages",
        messages.run(bench.folder, bench.ours, bench.boxes, bench.runs, bench.seconds),
    )
    bench.show(tls_sheet(results))
    return [result.as_json() for result in results]


def bench_logins(bench: Bench) -> object:
    """Measure logins, and PING meanwhile; return the figures for the JSON file."""
    options = {
        "port": bench.ours.ports["tcp"],
        "server-pid": bench.ours.pid,
        "logins": LOGINS,
    }
    with bench.console.status(f"{LOGINS} logins"):
        runs = [servers.run_json("bench.logins", options) for _ in range(bench.runs)]
    for sheet in logins_sheets(runs):
        bench.show(sheet)
    return runs


def bench_dtls(bench: Bench) -> object:
    """Measure messages per second over DTLS; return the figures for the JSON file."""
    cases = datagrams.dtls_cases(bench.seconds)
    results = bench.collect(
        "dtls", datagrams.run(bench.folder, "dtls", bench.ours, cases, bench.runs)
    )
    bench.show(dtls_sheet(results))
    return [result.as_json() for result in results]


def bench_sealed(bench: Bench) -> object:
    """Measure sealed datagrams per second; return the figures for the JSON file."""
    cases = [datagrams.sealed_case(bench.sealing_key, bench.seconds)]
    results = bench.collect(
        "sealed", datagrams.run(bench.folder, "sealed", bench.ours, cases, bench.runs)
    )
    bench.show(sealed_sheet(results))
    with bench.console.status("sealed: a fresh enc each"):
        case = datagrams.fresh_case(bench.sealing_key, bench.seconds)
        fresh = measure(case, [Entry("ours", bench.ours)], bench.runs)
        openings = servers.run_json("bench.openings", {"runs": bench.runs})
    bench.show(openings_sheet(fresh, openings))
    return {
        "one_enc": [result.as_json() for result in results],
        "fresh_enc": fresh.as_json(),
        "openings": openings,
    }


def bench_lane(bench: Bench) -> object:
    """Measure files over UDP; return the figures for the JSON file."""
    with bench.console.status("lane: beside a bare loop"):
        loops = lane.beside_bare_loop(bench.folder, bench.runs)
    bench.show(lane.loop_sheet(loops))
    with bench.console.status("lane: on paths that lose packets"):
        paths = lane.on_paths(bench.folder, bench.runs)
    bench.show(lane.path_sheet(paths))
    return lane.as_json(loops, paths)


def bench_idle(bench: Bench) -> object:
    """Measure idle connections' memory; return the figures for the JSON file."""
    with bench.console.status(f"{memory.CONNECTIONS:,} idle connections"):
        result = memory.run(bench.folder, bench.runs)
    bench.show(memory_sheet(result))
    return result.as_json()


CLASSES: dict[str, Callable[[Bench], object]] = {
    "messages": bench_messages,
    "dtls": bench_dtls,
    "sealed": bench_sealed,
    "lane": bench_lane,
    "logins": bench_logins,
    "idle": bench_idle,
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
        "cryptography": version("cryptography"),
        "bcrypt": version("bcrypt"),
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
    parser.add_argument(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="write the tables; into a document, between its two marks",
    )
    arguments = parser.parse_args()
    check(parser, arguments)
    if arguments.runs is None:
        arguments.runs = QUICK_RUNS if arguments.quick else RUNS
    if arguments.seconds is None:
        arguments.seconds = QUICK_RUN_S if arguments.quick else RUN_S
    return arguments


def check(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> None:
    """End with the parser's words if something on the command line is wrong."""
    for name in arguments.classes:
        if name not in CLASSES:
            parser.error(f"no class {name!r}: there are {', '.join(CLASSES)}")
    if arguments.boxes < LOGINS:
        parser.error(f"--boxes must be {LOGINS} or more")
    for file in (arguments.json, arguments.markdown):
        if file is not None and not file.parent.is_dir():
            parser.error(f"there is no folder {file.parent}")
    if arguments.markdown is not None:
        try:
            parts(arguments.markdown)
        except (OSError, ValueError) as error:
            parser.error(str(error))
    for number in (arguments.runs, arguments.seconds):
        if number is not None and number <= 0:
            parser.error("--runs and --seconds must be above zero")


def run(arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """
    Start our server, run the chosen classes, each beside its ceiling, end it.

    Raises:
        ServerError: something did not start, or a run failed.
        OperatorError: the boxes could not be made.
        OSError: the counters that the server left cannot be read, or the document.
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
                sheets=[],
            )
            for name in classes:
                results[name] = CLASSES[name](bench)
        counted = counters.read(data)
        if counted is not None and counted.socket.received:
            console.print(f"The server's own count over UDP: {counted.words()}")
            results["server_counters"] = attrs.asdict(counted)
        if arguments.markdown is not None:
            write_into(arguments.markdown, results["machine"], bench.sheets)
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

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
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import attrs
from rich.console import Console

from bench import servers
from bench.boxes import make_boxes
from bench.classes import CLASSES, LOGINS, Bench
from bench.document import parts, write_into
from bench.machine import machine
from securerecv.errors import OperatorError
from securerecv.net import counters

MANY_BOXES = 1000
RUNS, RUN_S = 3, 1.5
QUICK_RUNS, QUICK_RUN_S = 1, 1.0


def parse_arguments(words: Sequence[str]) -> argparse.Namespace:
    """Return the options of a command line, its first word left out."""
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
    arguments = parser.parse_args(words)
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
    arguments = parse_arguments(sys.argv[1:])
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, end_on_signal)
    console = Console()
    try:
        results = run(arguments, console)
    except servers.ServerError as error:
        print(f"bench: {error}", *error.log, sep="\n", file=sys.stderr)
        return 1
    except (OperatorError, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

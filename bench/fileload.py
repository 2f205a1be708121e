"""
One file: how fast it comes in, and how long the scan then takes.

Run as a process of its own, ``python -m bench.fileload``, it prints one JSON line.
The content is random and new each time.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from pathlib import Path

from bench.fileways import WAYS
from bench.meter import Meter
from bench.tls import BenchError


def measure(given: argparse.Namespace) -> dict[str, float | int | str]:
    """Send one file and return its figures, as the JSON line shows them."""
    content = secrets.token_bytes(given.bytes)
    way = WAYS[given.way](given, content)
    meter = Meter(given.server_pid)
    own_s = way.send()
    figures = meter.figures(1)
    elapsed_s = own_s or float(figures["elapsed_s"])
    return {
        "bytes": given.bytes,
        "elapsed_s": round(elapsed_s, 4),
        "mb_per_s": round(given.bytes / 1e6 / elapsed_s, 2),
        "server_cpu_s_per_gb": round(
            float(figures["server_cpu_us"]) * 1e3 / given.bytes, 3
        ),
        "others_busy": figures["others_busy"],
        **way.figures(),
    }


def main() -> int:
    """Send one file, print one JSON line; return 1 and say why on failure."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fileload", description=__doc__
    )
    parser.add_argument("--way", choices=WAYS, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tcp-port", type=int, help="where the owner watches")
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--bytes", type=int, required=True)
    parser.add_argument("--longest", type=int, help="bytes of a datagram")
    parser.add_argument("--command", help="of a program that sends {file} to {port}")
    parser.add_argument("--kept", type=Path, help="where the file is then")
    try:
        print(json.dumps(measure(parser.parse_args())), flush=True)
    except (BenchError, OSError) as error:
        print(f"bench.fileload: {error}", file=sys.stderr)
        return 1
    # A reactor in a thread would keep the process.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())

"""
How long clamd by itself takes for a file.

Run as a process of its own, ``python -m bench.scanload``, it prints one JSON line.
The content is random and new each time.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time

from securerecv.errors import ScannerError
from securerecv.scanning.client import UnixClient

TIMEOUT_S = 300.0


def main() -> int:
    """Parse the command line, have a file scanned, print one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.scanload", description=__doc__
    )
    parser.add_argument("--socket", required=True)
    parser.add_argument("--bytes", type=int, required=True)
    given = parser.parse_args()
    descriptor = os.memfd_create("bench")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(secrets.token_bytes(given.bytes))
    from_s = time.perf_counter()
    try:
        answer = UnixClient(given.socket, TIMEOUT_S).scan(descriptor, given.bytes)
    except ScannerError as error:
        print(f"bench.scanload: {error}", file=sys.stderr)
        return 1
    scan_s = time.perf_counter() - from_s
    state = "clean" if answer.endswith(" OK") else answer
    figures = {"bytes": given.bytes, "verdict_s": round(scan_s, 4), "state": state}
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())

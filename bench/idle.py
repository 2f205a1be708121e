"""
What a server keeps in memory for each connection that is idle.

Run as a process of its own, ``python -m bench.idle``, it prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
import time

from bench.dialects import DIALECTS, Dialect
from bench.proc import resident_kib
from bench.tls import BenchError, client_context, connect_silently, read_some

SETTLE_S = 1.0


def open_one(context: ssl.SSLContext, port: int, dialect: Dialect) -> ssl.SSLSocket:
    """Open a connection, log in, and have one message answered."""
    sock = connect_silently(context, port)
    dialect.enter(sock)
    sock.sendall(dialect.request(0, 0))
    answers, rest = 0, b""
    while not answers:
        answers, rest = dialect.answers(rest + read_some(sock))
    return sock


def measure(given: argparse.Namespace) -> dict[str, float | int]:
    """Return the figures, as the JSON line shows them."""
    context, dialect = client_context(), DIALECTS[given.dialect]
    # What is only needed once is there after the first.
    open_one(context, given.port, dialect).close()
    time.sleep(SETTLE_S)
    before_kib = resident_kib(given.server_pid)
    from_s = time.perf_counter()
    socks = [open_one(context, given.port, dialect) for _ in range(given.connections)]
    elapsed_s = time.perf_counter() - from_s
    time.sleep(SETTLE_S)
    grown_kib = resident_kib(given.server_pid) - before_kib
    for sock in socks:
        sock.close()
    return {
        "connections": given.connections,
        "kib_each": round(grown_kib / given.connections, 2),
        "kib_before": before_kib,
        "connects_per_s": round(given.connections / elapsed_s, 1),
    }


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(prog="python -m bench.idle", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--server-pid", type=int, required=True)
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--dialect", choices=DIALECTS, default="securerecv")
    try:
        print(json.dumps(measure(parser.parse_args())))
    except (BenchError, OSError) as error:
        print(f"bench.idle: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

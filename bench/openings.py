"""
What one sealed datagram costs to open, in a bare loop without network or store.

Run as a process of its own, ``python -m bench.openings``, it prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import TypeVar

from bench.dtlsload import request
from securerecv.access.tokens import Token
from securerecv.wire.hpke import decapsulate, private_key_of, public_key_of
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.replay import ReplayMemory
from securerecv.wire.sealed import SealedReceiver
from securerecv.wire.sealing import SealedSender

FRESH = 300
UNDER_ONE_ENC = 20_000
ADDRESS = "127.0.0.1"

ItemT = TypeVar("ItemT")


def cost_us(do: Callable[[ItemT], object], items: Iterable[ItemT]) -> float:
    """Return the CPU time of one call, in microseconds, over many."""
    many = list(items)
    from_s = time.process_time()
    for item in many:
        do(item)
    return (time.process_time() - from_s) * 1e6 / len(many)


def measure_once() -> dict[str, float]:
    """Return microseconds for one opening of each kind."""
    private = secrets.token_bytes(32)
    key = private_key_of(private)
    public = public_key_of(key)

    def no_token(_: bytes) -> Token | None:
        return None

    def receiver() -> SealedReceiver[Token]:
        budget = OpeningBudget(cost_s=0.0)
        return SealedReceiver([private], no_token, ReplayMemory(), budget)

    senders = [SealedSender(public) for _ in range(FRESH)]
    fresh = [sender.seal(request(0), time.time()) for sender in senders]
    sender = SealedSender(public)
    same = [sender.seal(request(n), time.time()) for n in range(UNDER_ONE_ENC)]
    opens = receiver().open
    return {
        "decapsulate_us": cost_us(lambda sender: decapsulate(key, sender.enc), senders),
        "fresh_enc_us": cost_us(
            lambda datagram: opens(datagram, ADDRESS, time.time()), fresh
        ),
        "same_enc_us": cost_us(
            lambda datagram: opens(datagram, ADDRESS, time.time()), same
        ),
    }


def middle(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Return the median of each figure."""
    return {name: round(median(run[name] for run in runs), 2) for name in runs[0]}


def main() -> int:
    """Parse the command line, run, print one JSON line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.openings", description=__doc__
    )
    parser.add_argument("--runs", type=int, required=True)
    given = parser.parse_args()
    print(json.dumps(middle([measure_once() for _ in range(given.runs)])))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How many passwords a second bcrypt itself compares, in some threads."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import bcrypt

from securerecv.access.passwords import BCRYPT_ROUNDS

SECRET = b"a password that guards nothing"


def measure(threads: int, seconds: float) -> tuple[float, float]:
    """
    Compare passwords at the server's cost.

    Returns:
        How many a second, of all threads together; CPU time of one, in ms.
    """
    hashed = bcrypt.hashpw(SECRET, bcrypt.gensalt(BCRYPT_ROUNDS))

    def compare(until_s: float) -> tuple[int, float]:
        from_s = time.perf_counter()
        count = 0
        while time.perf_counter() < until_s:
            bcrypt.checkpw(SECRET, hashed)
            count += 1
        return count, time.perf_counter() - from_s

    cpu_from_s = time.process_time()
    until_s = time.perf_counter() + seconds
    with ThreadPoolExecutor(threads) as pool:
        done = list(pool.map(compare, [until_s] * threads))
    cpu_s = time.process_time() - cpu_from_s
    rate = sum(count / elapsed_s for count, elapsed_s in done)
    return rate, cpu_s * 1000 / sum(count for count, _ in done)

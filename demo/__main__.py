"""
Play the whole story: server, accounts, messages, files, and what is on disk.

Everything is real and on this machine alone, in a folder that is removed at the
end.  The exit status is 0 only if every step came out right.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence

from demo.stage import DemoError, Stage, stage
from demo.steps import STEPS, Step


def main() -> int:
    """Play all steps; give the exit status."""
    began = time.monotonic()
    print("securerecv, the whole story, on this machine alone:\n", flush=True)
    with stage() as built:
        is_well = play(built, STEPS)
    if is_well:
        print(f"\nAll {len(STEPS)} steps in {time.monotonic() - began:.0f} s.")
    return 0 if is_well else 1


def play(built: Stage, steps: Sequence[Step]) -> bool:
    """Play steps until one goes wrong; tell whether none did."""
    tick, cross = ("✓", "✗") if _can_tick() else ("ok", "NO")
    for words, step in steps:
        began = time.monotonic()
        try:
            step(built)
        except (DemoError, OSError, subprocess.TimeoutExpired) as error:
            print(f"  {cross} {words}\n\n{error}", flush=True)
            return False
        took = f"{time.monotonic() - began:.1f} s"
        print(f"  {tick} {words:<68} {took:>7}", flush=True)
    return True


def _can_tick() -> bool:
    encoding = sys.stdout.encoding or "ascii"
    return encoding.lower().replace("-", "") == "utf8"


if __name__ == "__main__":
    sys.exit(main())

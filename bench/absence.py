"""What a table says of a program that has no figures, and why it has none."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from bench.servers import NotInstalledError, ServerError


@dataclass(frozen=True)
class Absent:
    """What stands in the place of a server's figures: such as ``did not start``."""

    words: str


def absence(error: ServerError) -> Absent:
    """
    Give what stands for a server that failed.

    Why it has failed is said in a line on standard error, with the last that it said
    itself; but nothing of a program that is not installed.
    """
    if not isinstance(error, NotInstalledError):
        print("bench: " + ": ".join([str(error), *error.log[-1:]]), file=sys.stderr)
    return Absent(error.words)

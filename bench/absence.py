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
    """Say in one line on standard error what has happened, unless it is usual."""
    if not isinstance(error, NotInstalledError):
        said = [line for log in error.logs for line in log]
        print("bench: " + ": ".join([str(error), *said[-1:]]), file=sys.stderr)
    return Absent(error.words)

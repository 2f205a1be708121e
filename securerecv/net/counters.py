"""
What has become of datagrams: counted, written down, and put into words.

Numbers only: no names and no addresses.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from securerecv.net.outbox import DatagramCounters

_FILE = "counters.json"
_MODE = 0o600


@attrs.define
class Counters:
    """
    Counts since the start.

    Attributes:
        taken: datagrams that came in, by kind.
        dropped: those of which nothing came, by kind and reason.
        socket: what the socket has done.
    """

    taken: Counter[str] = attrs.field(factory=Counter)
    dropped: Counter[str] = attrs.field(factory=Counter)
    socket: DatagramCounters = attrs.field(factory=DatagramCounters)

    def words(self) -> str:
        """Say it in one line."""
        socket = self.socket
        parts = [
            f"{socket.received} datagrams received{_list(self.taken)}",
            f"{socket.sent} sent",
            f"{self.dropped.total()} came to nothing{_list(self.dropped)}",
            f"{socket.kernel_drops} lost in the kernel",
        ]
        unsent = socket.too_long + socket.dropped + socket.send_errors.total()
        if unsent:
            reasons = Counter({"too long": socket.too_long, "no room": socket.dropped})
            parts.append(f"{unsent} not sent{_list(+reasons + socket.send_errors)}")
        if socket.receive_errors:
            count = socket.receive_errors.total()
            parts.append(f"{count} network errors{_list(socket.receive_errors)}")
        return ", ".join(parts)


def write(folder: Path, counters: Counters) -> None:
    """
    Write counters into the data folder, as a whole or not at all.

    Raises:
        OSError: it cannot be done.
    """
    new = folder / f"{_FILE}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(attrs.asdict(counters), file, indent=1)
    new.replace(folder / _FILE)


def read(folder: Path) -> Counters | None:
    """
    Read what a server has written last; None if none has.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is damaged.
    """
    try:
        found = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        return Counters(
            Counter(found["taken"]),
            Counter(found["dropped"]),
            DatagramCounters(**_with_counters(found["socket"])),
        )
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / _FILE} is damaged: {error!r}") from None


def _with_counters(found: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: Counter(value) if isinstance(value, dict) else value
        for name, value in found.items()
    }


def _list(counts: Mapping[str, int]) -> str:
    """List counts behind what they add up to."""
    told = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    return f" ({told})" if told else ""

"""
Messages between their commit and the slots of their boxes.

Of each the bytes are held that were written: an entry of `schema.arrival`.
"""

import struct
from collections.abc import Iterator

from securerecv.vault.boxes import SealedMessage
from securerecv.vault.epochs import MESSAGE_ID_BYTES

_HEAD = struct.Struct(f">QQ{MESSAGE_ID_BYTES}sI")

Entries = dict[int, list[bytes]]
"""For each account its entries, oldest first."""


def entry_of(account_id: int, epoch_id: int, message_id: bytes, sealed: bytes) -> bytes:
    """
    Write a message down as one entry.

    Args:
        account_id: whose it is.
        epoch_id: the epoch whose key opens it.
        message_id: 8 bytes.
        sealed: from `securerecv.vault.epochs.Epoch.seal`.

    Returns:
        Both numbers (8 bytes each), the id, the size of what follows
        (4 bytes), and that.
    """
    return _HEAD.pack(account_id, epoch_id, message_id, len(sealed)) + sealed


def message_in(entry: bytes) -> SealedMessage:
    """Read the message of one entry."""
    _, epoch_id, message_id, _ = _HEAD.unpack_from(entry)
    return SealedMessage(message_id, epoch_id, entry[_HEAD.size :])


def split_entries(rows: bytes) -> Iterator[tuple[int, bytes]]:
    """Cut what is written one behind the other; give whose each is, and it."""
    at = 0
    while at < len(rows):
        account_id, _, _, size = _HEAD.unpack_from(rows, at)
        end = at + _HEAD.size + size
        yield account_id, rows[at:end]
        at = end


class Unsettled:
    """
    What is committed and not in slots yet, of each box no more than it keeps.

    One thread changes it; any may call `of`.

    Args:
        keep: how many messages a box keeps.

    Attributes:
        entries: what there is.
        settlings: how often it was forgotten, because it is in slots now.
    """

    def __init__(self, keep: int) -> None:
        self.entries: Entries = {}
        self.settlings = 0
        self._keep = keep

    def of(self, account_id: int) -> tuple[SealedMessage, ...]:
        """Give the messages of one box, oldest first."""
        # A copy, made in one step: another thread may be adding.
        entries = tuple(self.entries.get(account_id, ()))
        return tuple(map(message_in, entries))

    def add(self, entries: Entries) -> None:
        """Take new entries, newer than all before; the lists are kept."""
        keep = self._keep
        for account_id, new in entries.items():
            there = self.entries.setdefault(account_id, new)
            if there is not new:
                there += new
                if len(there) > keep:
                    del there[:-keep]

    def forget(self) -> None:
        """Forget everything: it is in slots now."""
        self.entries = {}
        self.settlings += 1

"""
Which sealed datagrams were taken: stored with their messages.

Functions on a connection.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, select

from securerecv.vault.database import put_rows
from securerecv.vault.schema import seen
from securerecv.wire.replay import ReplayRecord

KEPT_FOR_S = 3600
"""How long what has expired is kept, in case that the clock is set back."""


def put(connection: Connection, records: Iterable[ReplayRecord]) -> None:
    """
    Store records; of one digest the last one holds what the others do.

    Args:
        connection: with a `quick_transaction`.
        records: in the order in which they were made.
    """
    rows = {
        record.digest: (record.digest, record.expires_s, record.state)
        for record in records
    }
    if rows:
        put_rows(connection, seen, list(rows.values()))


def read(connection: Connection, now_s: float) -> tuple[list[ReplayRecord], int | None]:
    """
    Read what must be known after a restart.

    Returns:
        The records that have not expired.  Of the others, of which strangers can
        have had many stored, only when the last of them did; None without any.
    """
    columns = seen.c.digest, seen.c.expires_s, seen.c.state
    is_current = seen.c.expires_s >= int(now_s)
    rows = connection.execute(select(*columns).where(is_current))
    expired_s = connection.scalar(select(func.max(seen.c.expires_s)).where(~is_current))
    return [ReplayRecord(*row) for row in rows], expired_s


def forget_expired(connection: Connection, now_s: float) -> None:
    """Delete the records that no datagram can be a repeat of any more."""
    before = int(now_s) - KEPT_FOR_S
    connection.execute(delete(seen).where(seen.c.expires_s < before))

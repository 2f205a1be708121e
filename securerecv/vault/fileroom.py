"""Room for files in a box: who may fill how much of it, and who makes way."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, func, select

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_FILES_PER_BOX
from securerecv.vault.schema import file
from securerecv.wire.filelines import FileState


def make_room(
    connection: Connection,
    account_id: int,
    size: int,
    box_bytes: int,
    *,
    is_anonymous: bool,
    place: bytes,
    busy: Collection[bytes],
) -> list[bytes]:
    """
    See that a box has room for one more file.

    Anonymous senders may use half of it, so that they cannot shut out others.  What
    they began and do not go on with makes way, what has been idle for longest first:
    to announce much and send little of it costs nothing, and must not fill a box.

    Args:
        connection: with a transaction; to be rolled back if this fails.
        account_id: whose box.
        size: bytes of the file, as announced.
        box_bytes: how much a box may hold.
        is_anonymous: the sender has no account.
        place: of the disk whose unfinished files may make way.
        busy: what those are recognised by that somebody is just sending.

    Returns:
        The ids of files that made way.

    Raises:
        PeerError: ``full``; the box has no room for it.
    """
    waiting = _idle(connection, account_id, place, busy)
    gone: list[bytes] = []
    while lack := _lack(connection, account_id, size, box_bytes, is_anonymous):
        if not waiting:
            raise PeerError(ErrorCode.FULL, lack)
        gone.append(waiting.pop())
        connection.execute(delete(file).where(file.c.id == gone[-1]))
    return gone


def _idle(
    connection: Connection, account_id: int, place: bytes, busy: Collection[bytes]
) -> list[bytes]:
    """Find the anonymous files that nobody is sending, idle for longest last."""
    query = (
        select(file.c.id, file.c.identity)
        .where(file.c.account_id == account_id, file.c.place == place)
        .where(file.c.state == FileState.RECEIVING.value, file.c.is_anonymous)
        .order_by(file.c.changed_s.desc(), file.c.number.desc())
    )
    return [row.id for row in connection.execute(query) if row.identity not in busy]


def _lack(
    connection: Connection,
    account_id: int,
    size: int,
    box_bytes: int,
    is_anonymous: bool,
) -> str:
    """Say what a box lacks, or nothing."""
    there = file.c.account_id == account_id
    # Of an infected one nothing is kept but its description.
    held = func.sum(file.c.size).filter(file.c.state != FileState.INFECTED.value)
    query = select(func.count(), held).select_from(file).where(there)
    limits = [("that box", 1, query)]
    if is_anonymous:
        whose = "what is left for anonymous senders"
        limits.append((whose, 2, query.where(file.c.is_anonymous)))
    for whose, shares, counted in limits:
        count, total = connection.execute(counted).one()
        if count >= MAX_FILES_PER_BOX // shares:
            return f"{whose} holds {count} files; some must be dropped first"
        if int(total or 0) + size > box_bytes // shares:
            return f"{whose} has no room for {size} bytes more"
    return ""

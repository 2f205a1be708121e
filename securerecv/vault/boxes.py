"""
Boxes: the last few messages of each account, in slots.

Functions on a connection; the caller has the transaction.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from attrs import define, field
from sqlalchemy import Connection, delete, func, select

from securerecv.vault.database import chunks, put_rows
from securerecv.vault.schema import account, epoch, message


@define
class SealedMessage:
    """
    One message as it is stored.  Not frozen, because frozen ones take longer to make.

    Attributes:
        message_id: 8 bytes.
        epoch_id: the epoch whose key opens it.
        sealed: from `securerecv.vault.epochs.Epoch.seal`.
    """

    message_id: bytes
    epoch_id: int
    sealed: bytes = field(repr=False)


def existing(connection: Connection, account_ids: Iterable[int]) -> set[int]:
    """
    Tell which accounts are there, and keep them there until the commit.

    On PostgreSQL the rows are locked, so that two servers do not fill the
    slots of one box at the same time; on SQLite there is one writer anyway.
    """
    column = account.c.id
    return {
        row.id
        for ids in chunks(sorted(account_ids))
        for row in connection.execute(
            select(column).where(column.in_(ids)).order_by(column).with_for_update()
        )
    }


def put(
    connection: Connection,
    arrived: Mapping[int, Sequence[SealedMessage]],
    keep: int,
) -> None:
    """
    Put messages into the slots of their boxes; the oldest make room.

    Args:
        connection: with a `quick_transaction` that will be committed.
        arrived: for each existing account its new messages, oldest first.
        keep: how many messages a box keeps.
    """
    filled: list[tuple[Any, ...]] = []
    present = _slots(connection, arrived)
    for account_id, messages in arrived.items():
        by_age = sorted(present.get(account_id, ()))
        position = by_age[-1][0] if by_age else 0
        newest = messages[-keep:]
        free = _free_slots([slot for _, slot in by_age], keep)
        for sealed in newest:
            position += 1
            filled.append(
                (
                    account_id,
                    next(free),
                    position,
                    sealed.message_id,
                    sealed.epoch_id,
                    sealed.sealed,
                )
            )
    if filled:
        put_rows(connection, message, filled)


def _slots(
    connection: Connection, account_ids: Iterable[int]
) -> dict[int, list[tuple[int, int]]]:
    columns = message.c.account_id, message.c.position, message.c.slot
    found: dict[int, list[tuple[int, int]]] = {}
    for ids in chunks(list(account_ids)):
        query = select(*columns).where(message.c.account_id.in_(ids))
        for account_id, position, slot in connection.execute(query):
            found.setdefault(account_id, []).append((position, slot))
    return found


def _free_slots(used_by_age: Sequence[int], keep: int) -> Iterator[int]:
    """Give slots that may be written: the empty ones, then the oldest ones."""
    occupied = set(used_by_age)
    yield from (slot for slot in range(keep) if slot not in occupied)
    yield from used_by_age


def read(
    connection: Connection, account_id: int
) -> tuple[list[SealedMessage], dict[int, bytes]]:
    """
    Read a box.

    Args:
        connection: made by `securerecv.vault.database.for_reading`, or the writer's:
            messages and keys must be those of one moment.
        account_id: whose box.

    Returns:
        Its messages, oldest first, and the sealed keys of its epochs by id.
    """
    rows = connection.execute(
        select(message.c.message_id, message.c.epoch_id, message.c.sealed)
        .where(message.c.account_id == account_id)
        .order_by(message.c.position)
    )
    messages = [SealedMessage(*row) for row in rows]
    keys = connection.execute(
        select(epoch.c.id, epoch.c.sealed_key).where(epoch.c.account_id == account_id)
    )
    return messages, {row.id: row.sealed_key for row in keys}


def drop(connection: Connection, account_id: int, message_id: bytes) -> bool:
    """Delete one message; False if the box does not hold it."""
    done = connection.execute(
        delete(message).where(
            message.c.account_id == account_id, message.c.message_id == message_id
        )
    )
    return bool(done.rowcount)


def trim(connection: Connection, keep: int) -> None:
    """Empty what boxes hold beyond ``keep``, after the setting was lowered."""
    overfull = connection.execute(
        select(message.c.account_id)
        .group_by(message.c.account_id)
        .having((func.count() > keep) | (func.max(message.c.slot) >= keep))
    ).scalars()
    for account_id in overfull.all():
        messages, _ = read(connection, account_id)
        connection.execute(delete(message).where(message.c.account_id == account_id))
        put(connection, {account_id: messages}, keep)


def forget_unused_epochs(connection: Connection, hour: int) -> None:
    """
    Delete the sealed keys that no message needs any more.

    Args:
        connection: with nothing left in `schema.arrival`.
        hour: hours since 1970, now.  Epochs of this hour and the one before
            may still be in use, here or on another server.
    """
    in_use = select(message.c.slot).where(
        message.c.account_id == epoch.c.account_id, message.c.epoch_id == epoch.c.id
    )
    connection.execute(delete(epoch).where(epoch.c.hour < hour - 1, ~in_use.exists()))

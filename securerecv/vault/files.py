"""
The rows of files: which there are, in whose boxes, and how far they have come.

Functions on a connection; each is part of a transaction of the caller's.  Every
change of state says which state it was in before: what was removed or changed
meanwhile is left alone.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from attrs import field, frozen
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    insert,
    select,
    update,
)

from securerecv.vault.accounts import UnknownAccountError
from securerecv.vault.database import chunks
from securerecv.vault.fileroom import make_room
from securerecv.vault.mailboxkeys import MailboxPublicKey
from securerecv.vault.schema import account, file
from securerecv.wire.filelines import FileState

RECOGNISED_S = 24 * 3600
"""So long a file is known again, and an unfinished one without progress kept."""


@frozen
class StoredFile:
    """
    A file as it is stored, and the box that it is in.

    Attributes:
        id: 8 bytes.
        account_id: the owner's account.
        lookup: of that account, 32 bytes.
        public_key: seals to the owner.
        place: which server's disk its content is on, 16 bytes.
        state: how far it has come.
        size: bytes of the whole content.
        sealed_for_server: `securerecv.vault.filekeys.FileKeys.seal`, or None.
        sealed_for_owner: `securerecv.vault.filekeys.seal_to_owner`, or None.
        scanned_with: the signatures that it was found clean with, or None.
    """

    id: bytes
    account_id: int
    lookup: bytes = field(repr=False)
    public_key: MailboxPublicKey
    place: bytes
    state: FileState
    size: int
    sealed_for_server: bytes | None = field(repr=False)
    sealed_for_owner: bytes | None = field(repr=False)
    scanned_with: str | None


@frozen
class NewFile:
    """
    A file that is to be taken.

    Attributes:
        id: 8 random bytes.
        account_id: the owner's account.
        place: on which server's disk its content will be.
        size: bytes of the whole content, as announced.
        is_anonymous: the sender has no account.
        identity: `securerecv.vault.filekeys.FileKeys.identity`.
        sealed: `securerecv.vault.filekeys.FileKeys.seal`.
    """

    id: bytes
    account_id: int
    place: bytes
    size: int
    is_anonymous: bool
    identity: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


# -- taking them in -----------------------------------------------------------


def add(
    connection: Connection,
    new: NewFile,
    box_bytes: int,
    now_s: int,
    busy: Collection[bytes] = (),
) -> tuple[StoredFile, Sequence[bytes]]:
    """
    Store a new file of which nothing has come yet.

    Args:
        connection: with a transaction.
        new: the file.
        box_bytes: how much a box may hold, see `securerecv.vault.fileroom`.
        now_s: the time, seconds since 1970.
        busy: identities of the files that are just being sent.

    Returns:
        The file, and the ids of unfinished ones that made way for it.

    Raises:
        UnknownAccountError: there is no such account any more.
        PeerError: ``full``; the box has no room for it.
    """
    # Two servers may add to one box: the second waits for the first.
    owner = select(account.c.id).where(account.c.id == new.account_id)
    if connection.scalar(owner.with_for_update()) is None:
        raise UnknownAccountError
    gone = make_room(
        connection,
        new.account_id,
        new.size,
        box_bytes,
        is_anonymous=new.is_anonymous,
        place=new.place,
        busy=busy,
    )
    row = {
        "id": new.id,
        "account_id": new.account_id,
        "place": new.place,
        "state": FileState.RECEIVING.value,
        "size": new.size,
        "is_anonymous": new.is_anonymous,
        "changed_s": now_s,
        "identity": new.identity,
        "sealed_for_server": new.sealed,
    }
    connection.execute(insert(file).values(row))
    added = connection.execute(_files().where(file.c.id == new.id)).one()
    return _stored(added), gone


def find_again(
    connection: Connection, identity: bytes, place: bytes, now_s: int
) -> StoredFile | None:
    """
    Find a file that is announced again; if it is unfinished, it is kept on.

    Args:
        connection: with a transaction.
        identity: what it is recognised by.
        place: where its content must be.
        now_s: the time, seconds since 1970.
    """
    query = _files().where(file.c.identity == identity, file.c.place == place)
    query = query.where(file.c.changed_s > now_s - RECOGNISED_S)
    row = connection.execute(query.order_by(file.c.number.desc()).limit(1)).first()
    if row is None:
        return None
    found = _stored(row)
    touch(connection, found.id, now_s)
    return found


def touch(connection: Connection, file_id: bytes, now_s: int) -> None:
    """Note that an unfinished file went on."""
    receiving = _in(file_id, FileState.RECEIVING)
    connection.execute(update(file).where(*receiving).values(changed_s=now_s))


def received(connection: Connection, file_id: bytes, now_s: int) -> bool:
    """Note that all of a file is on disk; False if it was removed meanwhile."""
    receiving = _in(file_id, FileState.RECEIVING)
    values = {"state": FileState.SCANNING.value, "changed_s": now_s}
    return _changed(connection, receiving, values)


# -- what was found -----------------------------------------------------------


def found_clean(
    connection: Connection,
    file_id: bytes,
    sealed_for_owner: bytes,
    scanned_with: str | None,
    now_s: int,
) -> bool:
    """Hand a file to its owner, and forget what the server could open it with."""
    values = {
        "state": FileState.CLEAN.value,
        "sealed_for_server": None,
        "sealed_for_owner": sealed_for_owner,
        "scanned_with": scanned_with,
        "changed_s": now_s,
    }
    return _changed(connection, _in(file_id, *_SCANNED), values)


def found_infected(
    connection: Connection, file_id: bytes, sealed_for_owner: bytes, now_s: int
) -> bool:
    """Forget every key of a file; what it was is for its owner to know."""
    values = {
        "state": FileState.INFECTED.value,
        "sealed_for_server": None,
        "sealed_for_owner": sealed_for_owner,
        "scanned_with": None,
        "changed_s": now_s,
    }
    states = (*_SCANNED, FileState.CLEAN)
    return _changed(connection, _in(file_id, *states), values)


def held(connection: Connection, file_id: bytes, sealed_for_server: bytes) -> bool:
    """Keep a file of which nothing could be found out."""
    values = {"state": FileState.HELD.value, "sealed_for_server": sealed_for_server}
    return _changed(connection, _in(file_id, *_SCANNED), values)


def still_clean(
    connection: Connection, file_id: bytes, scanned_with: str | None
) -> bool:
    """Note the signatures with which a file was found clean once more."""
    values = {"scanned_with": scanned_with}
    return _changed(connection, _in(file_id, FileState.CLEAN), values)


_SCANNED = (FileState.SCANNING, FileState.HELD)


# -- finding and removing them ----------------------------------------------------


def load(connection: Connection, file_id: bytes) -> StoredFile | None:
    """Read a file."""
    row = connection.execute(_files().where(file.c.id == file_id)).first()
    return _stored(row) if row else None


def of_account(connection: Connection, account_id: int) -> list[StoredFile]:
    """Read the files of a box in the order in which they were announced."""
    query = _files().where(file.c.account_id == account_id).order_by(file.c.number)
    return [_stored(row) for row in connection.execute(query)]


def unscanned(connection: Connection, place: bytes) -> list[StoredFile]:
    """Give all files that wait for a verdict, oldest first."""
    waiting = file.c.state.in_([state.value for state in _SCANNED])
    query = _files().where(file.c.place == place, waiting)
    return [_stored(row) for row in connection.execute(query.order_by(file.c.number))]


def with_content(connection: Connection, place: bytes) -> dict[bytes, StoredFile]:
    """Give the files that should have content on a disk, by their ids."""
    query = _files().where(
        file.c.place == place, file.c.state != FileState.INFECTED.value
    )
    return {row.id: _stored(row) for row in connection.execute(query)}


def drop(connection: Connection, account_id: int, file_id: bytes) -> bool:
    """Delete a file of an account; False if its box does not hold that."""
    mine = (file.c.id == file_id, file.c.account_id == account_id)
    return bool(connection.execute(delete(file).where(*mine)).rowcount)


def remove(connection: Connection, file_ids: Iterable[bytes]) -> None:
    """Delete files, whosever they are."""
    for some in chunks(list(file_ids)):
        connection.execute(delete(file).where(file.c.id.in_(some)))


def expire(
    connection: Connection, now_s: int, retention_s: int, under_way: Collection[bytes]
) -> None:
    """
    Delete what was kept long enough; forget what files are recognised by.

    Args:
        connection: with a transaction.
        now_s: the time, seconds since 1970.
        retention_s: how long files are kept that are all there.
        under_way: ids of files that are being received.
    """
    is_receiving = file.c.state == FileState.RECEIVING.value
    forgotten = file.c.changed_s <= now_s - RECOGNISED_S
    idle = connection.scalars(select(file.c.id).where(is_receiving, forgotten))
    remove(connection, [file_id for file_id in idle if file_id not in under_way])
    old = file.c.changed_s <= now_s - retention_s
    connection.execute(delete(file).where(~is_receiving, old))
    connection.execute(
        update(file)
        .where(~is_receiving, forgotten, file.c.identity.is_not(None))
        .values(identity=None)
    )


def _files() -> Select[Any]:
    return select(file, account.c.lookup, account.c.public_key).join_from(file, account)


def _in(file_id: bytes, *states: FileState) -> Sequence[ColumnElement[bool]]:
    return file.c.id == file_id, file.c.state.in_([state.value for state in states])


def _changed(
    connection: Connection,
    which: Sequence[ColumnElement[bool]],
    values: dict[str, Any],
) -> bool:
    return bool(connection.execute(update(file).where(*which).values(values)).rowcount)


def _stored(row: Row[Any]) -> StoredFile:
    return StoredFile(
        id=row.id,
        account_id=row.account_id,
        lookup=row.lookup,
        public_key=MailboxPublicKey(row.public_key),
        place=row.place,
        state=FileState(row.state),
        size=row.size,
        sealed_for_server=row.sealed_for_server,
        sealed_for_owner=row.sealed_for_owner,
        scanned_with=row.scanned_with,
    )

"""
Accounts: who has a box, and what opens it.

Functions on a connection; each is one statement or one transaction of the
caller's.
"""

import hmac
from collections.abc import Sequence

from attrs import field, frozen
from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from securerecv.errors import ErrorCode, PeerError
from securerecv.vault.database import chunks
from securerecv.vault.mailboxkeys import MailboxPublicKey
from securerecv.vault.schema import account


class UnknownAccountError(PeerError):
    """There is no account of that name."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.NO_MAILBOX, "there is no such account")


class AccountExistsError(PeerError):
    """There is an account of that name already."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.NOT_ALLOWED, "there is an account of that name")


@frozen
class Account:
    """
    One account as it is stored.

    Attributes:
        id: its number.
        lookup: 32 bytes, from `lookup_of`.
        password_hash: a bcrypt string.
        public_key: seals to the box.
        wrapped_by_password: `mailboxkeys.wrap_with_password`.
        wrapped_by_code: `mailboxkeys.wrap_with_code`.
    """

    id: int
    lookup: bytes = field(repr=False)
    password_hash: bytes = field(repr=False)
    public_key: MailboxPublicKey
    wrapped_by_password: bytes = field(repr=False)
    wrapped_by_code: bytes = field(repr=False)


def lookup_of(name_key: bytes, name: str) -> bytes:
    """
    Give the 32 bytes under which a user is stored.

    Args:
        name_key: `securerecv.vault.keyring.Keyring.name_key`.
        name: normalised, `securerecv.names.normalise_user_name`.
    """
    return hmac.digest(name_key, name.encode(), "sha256")


def find(connection: Connection, lookup: bytes) -> Account | None:
    """Look an account up."""
    return find_many(connection, [lookup]).get(lookup)


def find_many(connection: Connection, lookups: Sequence[bytes]) -> dict[bytes, Account]:
    """Look many accounts up; those that there are, by their lookups."""
    found = {}
    for some in chunks(lookups):
        query = select(account).where(account.c.lookup.in_(some))
        for row in connection.execute(query):
            found[row.lookup] = Account(
                row.id,
                row.lookup,
                row.password_hash,
                MailboxPublicKey(row.public_key),
                row.wrapped_by_password,
                row.wrapped_by_code,
            )
    return found


def add(
    connection: Connection,
    *,
    lookup: bytes,
    password_hash: bytes,
    public_key: MailboxPublicKey,
    wrapped_by_password: bytes,
    wrapped_by_code: bytes,
) -> None:
    """
    Store a new account.

    Raises:
        AccountExistsError: the name is taken.
    """
    row = {
        "lookup": lookup,
        "password_hash": password_hash,
        "public_key": public_key.raw,
        "wrapped_by_password": wrapped_by_password,
        "wrapped_by_code": wrapped_by_code,
    }
    try:
        connection.execute(insert(account), row)
    except IntegrityError:
        raise AccountExistsError from None


def set_password(
    connection: Connection,
    account_id: int,
    *,
    before: bytes,
    password_hash: bytes,
    wrapped_by_password: bytes,
    wrapped_by_code: bytes | None = None,
) -> None:
    """
    Change what logs an account in and opens its box, both or neither.

    Args:
        connection: with a transaction.
        account_id: whose.
        before: the password hash that is to be replaced.
        password_hash: the new one.
        wrapped_by_password: the private key under the new password.
        wrapped_by_code: the same under a new recovery code, or None to keep
            the old one.

    Raises:
        UnknownAccountError: it was removed, or its password was changed,
            meanwhile.
    """
    values = {
        "password_hash": password_hash,
        "wrapped_by_password": wrapped_by_password,
    }
    if wrapped_by_code is not None:
        values["wrapped_by_code"] = wrapped_by_code
    done = connection.execute(
        update(account)
        .where(account.c.id == account_id, account.c.password_hash == before)
        .values(values)
    )
    if not done.rowcount:
        raise UnknownAccountError


def remove(connection: Connection, lookup: bytes) -> None:
    """
    Delete an account and all that its box holds.

    Raises:
        UnknownAccountError: there is none.
    """
    done = connection.execute(delete(account).where(account.c.lookup == lookup))
    if not done.rowcount:
        raise UnknownAccountError

"""
Tokens: with one, a device sends sealed datagrams in its owner's name.

A token's secret is worked out from its id and a key of the server's, so it is
stored in no form; a token whose row is deleted is gone.  Rows are added and
deleted and never changed.

Functions on a connection; each is part of a transaction of the caller's.
"""

import secrets
import struct
from collections.abc import Sequence
from typing import Any

from attrs import field, frozen
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from sqlalchemy import Connection, Row, delete, func, insert, select

from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.limits import MAX_TOKENS_PER_ACCOUNT
from securerecv.vault.accounts import UnknownAccountError
from securerecv.vault.database import chunks
from securerecv.vault.schema import account, token
from securerecv.wire.datagram import TOKEN_ID_BYTES

_KEY_BYTES = 32
_NONCE_BYTES = 12
_HEADER = struct.Struct(f">{TOKEN_ID_BYTES}sQH")
_ACCOUNT_ID = struct.Struct(">Q")


@frozen
class TokenDetails:
    """
    What is kept of a token, opened.

    Attributes:
        id: 16 random bytes.
        owner: the user name.
        label: what the owner calls it.
        when_ms: when it was made, milliseconds since 1970, the server's clock.
    """

    id: bytes = field(repr=False)
    owner: str = field(repr=False)
    label: str = field(repr=False)
    when_ms: int


@frozen
class SealedToken:
    """
    A token as it is stored.

    Attributes:
        number: its row; never given to another.
        account_id: the owner's account.
        lookup: 32 bytes, `TokenKeys.lookup`.
        sealed: `TokenKeys.seal`.
    """

    number: int
    account_id: int
    lookup: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


class TokenKeys:
    """
    What is made of the server's key for tokens.

    Secrets, lookups and the key of the rows are expanded (RFC 5869) from it
    under labels of their own: a stored lookup says nothing about the secret.

    Args:
        token_key: `securerecv.vault.keyring.Keyring.token_key`.
    """

    def __init__(self, token_key: bytes) -> None:
        self._token_key = token_key
        self._cipher = AESGCM(self._expand(b"row"))

    def secret(self, token_id: bytes) -> bytes:
        """Give the secret of a token: 32 bytes, ``psk`` of RFC 9180."""
        return self._expand(b"secret " + token_id)

    def lookup(self, token_id: bytes) -> bytes:
        """Give the 32 bytes under which a token is stored."""
        return self._expand(b"lookup " + token_id)

    def seal(self, account_id: int, details: TokenDetails) -> bytes:
        """
        Encrypt what is kept of a token.

        Returns:
            12 bytes nonce, then ciphertext and tag of: id (16 bytes), when
            (8 bytes), length of the owner's name (2 bytes), name, label.
        """
        name = details.owner.encode()
        header = _HEADER.pack(details.id, details.when_ms, len(name))
        # Random nonces do for 2**32 rows (NIST SP 800-38D section 8.3).
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(
            nonce,
            header + name + details.label.encode(),
            self.lookup(details.id) + _ACCOUNT_ID.pack(account_id),
        )

    def open(self, row: SealedToken) -> TokenDetails:
        """
        Decrypt what `seal` made.

        Raises:
            StorageError: it was changed on disk, or belongs elsewhere.
        """
        nonce, ciphertext = row.sealed[:_NONCE_BYTES], row.sealed[_NONCE_BYTES:]
        place = row.lookup + _ACCOUNT_ID.pack(row.account_id)
        try:
            plain = self._cipher.decrypt(nonce, ciphertext, place)
        except (InvalidTag, ValueError):  # a ValueError if the nonce is cut short
            raise StorageError("a token on disk is damaged") from None
        token_id, when_ms, length = _HEADER.unpack_from(plain)
        label = _HEADER.size + length
        owner = plain[_HEADER.size : label].decode()
        return TokenDetails(token_id, owner, plain[label:].decode(), when_ms)

    def _expand(self, purpose: bytes) -> bytes:
        label = b"securerecv/1 token " + purpose
        return HKDFExpand(SHA256(), _KEY_BYTES, label).derive(self._token_key)


def add(
    connection: Connection, keys: TokenKeys, account_id: int, details: TokenDetails
) -> int:
    """
    Store a new token.

    Returns:
        The number of its row.

    Raises:
        UnknownAccountError: there is no such account any more.
        PeerError: ``full``; it has as many as it may have.
    """
    # Two servers may add to one account: the second waits for the first.
    owner = select(account.c.id).where(account.c.id == account_id).with_for_update()
    if connection.scalar(owner) is None:
        raise UnknownAccountError
    mine = select(func.count()).where(token.c.account_id == account_id)
    if (connection.scalar(mine) or 0) >= MAX_TOKENS_PER_ACCOUNT:
        words = f"you have {MAX_TOKENS_PER_ACCOUNT} tokens; drop one first"
        raise PeerError(ErrorCode.FULL, words)
    row = {
        "account_id": account_id,
        "lookup": keys.lookup(details.id),
        "sealed": keys.seal(account_id, details),
    }
    done = connection.execute(insert(token).values(row))
    key: Any = done.inserted_primary_key
    return int(key[0])


def drop(connection: Connection, account_id: int, lookup: bytes) -> int | None:
    """
    Delete a token of an account.

    Returns:
        The number of its row; None if the account has no such token.
    """
    mine = (token.c.account_id == account_id, token.c.lookup == lookup)
    number = connection.scalar(select(token.c.id).where(*mine))
    done = connection.execute(delete(token).where(*mine))
    return number if done.rowcount else None


def of_account(connection: Connection, account_id: int) -> list[SealedToken]:
    """Read the tokens of an account in the order in which they were made."""
    query = select(token).where(token.c.account_id == account_id).order_by(token.c.id)
    return [_sealed(row) for row in connection.execute(query)]


def numbered(connection: Connection, numbers: Sequence[int]) -> list[SealedToken]:
    """Read the tokens of these rows, as far as they are there."""
    return [
        _sealed(row)
        for some in chunks(numbers)
        for row in connection.execute(select(token).where(token.c.id.in_(some)))
    ]


def numbers(connection: Connection) -> set[int]:
    """Give the rows of all tokens."""
    return set(connection.scalars(select(token.c.id)))


def summary(connection: Connection) -> tuple[int, int]:
    """
    Sum up quickly what tokens there are.

    Returns:
        How many, and what the numbers of their rows add up to.
    """
    query = select(func.count(), func.sum(token.c.id)).select_from(token)
    count, total = connection.execute(query).one()
    return count, int(total or 0)


def _sealed(row: Row[Any]) -> SealedToken:
    return SealedToken(row.id, row.account_id, row.lookup, row.sealed)

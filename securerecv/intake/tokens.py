"""Tokens: made, listed and dropped by their owners, found for each datagram."""

import secrets
import unicodedata
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from sqlalchemy import Connection
from twisted.internet.defer import inlineCallbacks
from twisted.logger import Logger

from securerecv.access.realm import Avatar
from securerecv.access.tokens import Token, TokenTable
from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.intake.mailboxes import Mailboxes
from securerecv.limits import MAX_LABEL_CHARACTERS
from securerecv.names import id_of
from securerecv.vault import tokens
from securerecv.vault.accounts import Account
from securerecv.vault.store import Store
from securerecv.vault.tokens import SealedToken, TokenDetails, TokenKeys
from securerecv.wire.datagram import TOKEN_ID_BYTES
from securerecv.wire.lines import Answer, information, rfc3339, usage
from securerecv.wire.verbs import VERBS

_UNFIT_FOR_A_LINE = frozenset({"Cc", "Zl", "Zp"})
"""Unicode's control characters, and what ends a line or a paragraph."""

_log = Logger()


class _Changes(NamedTuple):
    """What is in the store and not in memory, and the other way round."""

    new: list[Token]
    damaged: list[int]
    gone: set[int]


class Tokens:
    """
    The tokens of all users.

    A copy of them is in memory, because a datagram cannot wait for the store.
    It follows what is done here at once, and what is done beside the server
    (an account is removed, another server makes a token) with each `check`.

    Args:
        store: where they are kept.
        mailboxes: knows the accounts of those who are inside.
        keys: make secrets, and seal what is stored.
        seconds: the clock, seconds since 1970.
    """

    def __init__(
        self,
        store: Store,
        mailboxes: Mailboxes,
        keys: TokenKeys,
        seconds: Callable[[], float],
    ) -> None:
        self._store = store
        self._mailboxes = mailboxes
        self._keys = keys
        self._seconds = seconds
        self._table = TokenTable()
        # Rows that were deleted here while a check was reading.
        self._dropped_meanwhile: set[int] = set()

    def find(self, token_id: bytes) -> Token | None:
        """
        Look a token up, at once.

        Args:
            token_id: 16 bytes.
        """
        return self._table.find(token_id)

    def load(self) -> None:
        """
        Read all tokens; waits for the disk.

        Raises:
            StorageError: the store cannot be read.
        """
        self._apply(self._store.query_now(self._compare, frozenset()))

    @inlineCallbacks
    def check(self) -> Generator[Any, Any, None]:
        """Follow what was changed beside this server."""
        self._dropped_meanwhile.clear()
        try:
            stored = yield self._store.query(tokens.summary)
            if stored != self._table.summary:
                known = frozenset(self._table.numbers)
                changes = yield self._store.query(self._compare, known)
                self._apply(changes)
        except StorageError:
            # Commits will have said so; what was known goes on for now.
            return

    def _compare(self, connection: Connection, known: frozenset[int]) -> _Changes:
        """Find what is not as it is known; in a thread."""
        stored = tokens.numbers(connection)
        changes = _Changes([], [], set(known - stored))
        for row in tokens.numbered(connection, sorted(stored - known)):
            details = self._opened(row)
            if details is None:
                changes.damaged.append(row.number)
            else:
                changes.new.append(self._token(row.number, row.account_id, details))
        return changes

    def _apply(self, changes: _Changes) -> None:
        for number in changes.gone:
            self._table.remove(number)
        for number in changes.damaged:
            self._table.add_damaged(number)
        for token in changes.new:
            # The store may have been read before this one was deleted.
            if token.number not in self._dropped_meanwhile:
                self._table.add(token)

    def _opened(self, row: SealedToken) -> TokenDetails | None:
        try:
            return self._keys.open(row)
        except StorageError:
            _log.error(
                "token {number} on disk is damaged and of no use; make another",
                number=row.number,
            )
            return None

    def _token(self, number: int, account_id: int, details: TokenDetails) -> Token:
        secret = self._keys.secret(details.id)
        return Token(number, details.id, secret, details.owner, account_id)

    # -- what their owners ask for ----------------------------------------------

    @inlineCallbacks
    def make(self, avatar: Avatar, label: str) -> Generator[Any, Any, Answer]:
        """
        Answer ``TOKEN NEW``: a token that is in force from now on.

        Raises:
            PeerError: ``usage`` for what is no label, ``full``, or as
                `Mailboxes.account`.
        """
        if not _is_label(label):
            raise usage(VERBS["TOKEN NEW"].usage)
        account: Account = yield self._mailboxes.account(avatar)
        details = TokenDetails(
            secrets.token_bytes(TOKEN_ID_BYTES),
            avatar.name,
            label,
            int(self._seconds() * 1000),
        )

        def work(connection: Connection) -> int:
            return tokens.add(connection, self._keys, account.id, details)

        number = yield self._store.write(work)
        token = self._token(number, account.id, details)
        self._table.add(token)
        return Answer(f"{token.id.hex()} {token.secret.hex()}")

    @inlineCallbacks
    def show(self, avatar: Avatar) -> Generator[Any, Any, Answer]:
        """
        Answer ``TOKEN LIST``: a line for each, oldest first, without secrets.

        Raises:
            PeerError: as `Mailboxes.account`.
        """
        account: Account = yield self._mailboxes.account(avatar)
        rows = yield self._store.query(tokens.of_account, account.id)
        found = [details for details in map(self._opened, rows) if details is not None]
        lines = [f"TOKEN {t.id.hex()} {rfc3339(t.when_ms)} {t.label}" for t in found]
        return information(lines, f"{len(lines)} tokens")

    @inlineCallbacks
    def drop(self, avatar: Avatar, written: str) -> Generator[Any, Any, Answer]:
        """
        Answer ``TOKEN DROP``: from now on nothing is taken from that token.

        Args:
            avatar: whose.
            written: the id as it was typed.

        Raises:
            PeerError: ``no-such-id``, or as `Mailboxes.account`.
        """
        account: Account = yield self._mailboxes.account(avatar)
        lookup = self._keys.lookup(_id_bytes(written))

        def work(connection: Connection) -> int:
            number = tokens.drop(connection, account.id, lookup)
            if number is None:
                raise _no_such_token()
            return number

        number = yield self._store.write(work)
        self._dropped_meanwhile.add(number)
        self._table.remove(number)
        return Answer()


def _is_label(text: str) -> bool:
    return (
        len(text) <= MAX_LABEL_CHARACTERS
        and bool(text.strip())
        and all(
            unicodedata.category(letter) not in _UNFIT_FOR_A_LINE for letter in text
        )
    )


def _id_bytes(written: str) -> bytes:
    raw = id_of(written, TOKEN_ID_BYTES)
    if raw is None:
        raise _no_such_token()
    return raw


def _no_such_token() -> PeerError:
    return PeerError(ErrorCode.NO_SUCH_ID, "you have no such token")

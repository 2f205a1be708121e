"""
The store as the rest of the server sees it: Deferreds in front of threads.

Writing is done by one thread, which commits everything that waits at once;
reading by a few others.  The reactor never waits for the disk.
"""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from threading import Event
from typing import Any, Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.names import id_of
from securerecv.vault import accounts, boxes
from securerecv.vault.accounts import Account
from securerecv.vault.arrivals import Arrivals, Group, Refusals
from securerecv.vault.boxes import SealedMessage
from securerecv.vault.database import for_reading, storage_error
from securerecv.vault.epochs import MESSAGE_ID_BYTES, EpochReader
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.vault.writer import Writer
from securerecv.wire.lines import Message

_P = ParamSpec("_P")
_T = TypeVar("_T")

READERS = 2

GATHERING_TURNS = 2
"""
So many turns of the reactor a commit waits at the most, while more keeps coming.

Each costs the processor as much as twenty messages do.
"""

PAUSE_S = 0.005
"""
Between two commits, while nobody waits for an answer.

A commit costs as much as a hundred messages do.
"""

_log = Logger()

_Waiting = tuple[Group, "Deferred[Refusals]"]


class Store:
    """
    Boxes and accounts, durable.

    Args:
        engine: from `securerecv.vault.database.open_database`.
        name_key: finds accounts by name.
        keep: how many messages a box keeps.
        reactor: calls back in its thread, and tells the time.
    """

    def __init__(
        self, engine: Engine, name_key: bytes, keep: int, reactor: Any
    ) -> None:
        self._engine = engine
        self._name_key = name_key
        self._keep = keep
        self._reactor = reactor
        self._readers = ThreadPool(0, READERS, "securerecv-readers")
        self._waiting: list[_Waiting] = []
        self._committing = False
        # Set when somebody waits for what comes behind the commit under way.
        self._hurry = Event()

    def start(self) -> None:
        """
        Start the threads, and bring the boxes up to date after a crash.

        Raises:
            StorageError: the database cannot be read or written.
        """
        self._connection = self._engine.connect()
        self._arrivals = Arrivals(
            self._connection, self._name_key, self._keep, self._reactor.seconds
        )
        _translated(self._arrivals.recover)
        self._writer = Writer(self._arrivals.idle, self._arrivals.idle_after_s)
        self._writer.start()
        self._readers.start()

    def flush(self) -> None:
        """Begin to commit all that waits; in the reactor's thread, before `stop`."""
        groups, self._waiting = self._waiting, []
        self._hurry.clear()
        if groups:
            self._writer.submit(partial(self._commit, groups))

    def stop(self) -> None:
        """
        Finish all commits that were begun, settle, and close.

        Waits for the disk; in any thread.
        """
        self._hurry.set()
        self._writer.submit(self._arrivals.idle)
        self._writer.stop()
        self._readers.stop()
        self._connection.close()
        self._engine.dispose()

    # -- messages ---------------------------------------------------------------

    def keep(self, group: Group) -> "Deferred[Refusals]":
        """
        Make messages durable.

        Returns:
            Fires after the commit with those that could not be delivered
            (`PeerError` by index); fails with `StorageError` when none could.
        """
        done: Deferred[Refusals] = Deferred()
        self._waiting.append((group, done))
        if group.awaited and not self._hurry.is_set():
            self._hurry.set()
        if not self._committing:
            self._commit_soon()
        return done

    def _commit_soon(self) -> None:
        """Begin a commit in the reactor's next turn."""
        self._committing = True
        # Not at once: what is to be answered is sent and what has come is read
        # first, without the writer's thread in between for the interpreter; and
        # what has come shares the commit.  Not by callLater either, which waits
        # for a clock that somebody may set back.
        self._gather(GATHERING_TURNS)

    def _gather(self, turns: int) -> None:
        self._reactor.callFromThread(self._gathered, turns, len(self._waiting))

    def _gathered(self, turns: int, before: int) -> None:
        # One more may be the next of a sender who is alone.
        if turns and len(self._waiting) > before + 1:
            self._gather(turns - 1)
        else:
            self.flush()

    def _committed(
        self, groups: Sequence[_Waiting], results: Sequence[Refusals | Failure]
    ) -> None:
        if self._waiting:
            self._commit_soon()
        else:
            self._committing = False
        for (_, done), result in zip(groups, results, strict=True):
            done.callback(result)

    def _commit(self, groups: Sequence[_Waiting]) -> None:
        """Commit what was gathered; in the writer's thread."""
        try:
            results: Sequence[Refusals | Failure] = _translated(
                self._arrivals.commit, [group for group, _ in groups]
            )
        except Exception:  # noqa: BLE001 - whatever it was, it is passed on
            results = [Failure()] * len(groups)
        if not any(group.awaited for group, _ in groups):
            self._hurry.wait(PAUSE_S)
        self._reactor.callFromThread(self._committed, groups, results)
        self._arrivals.settle_if_due()

    def last(
        self, account: Account, key: MailboxPrivateKey, count: int
    ) -> "Deferred[list[Message]]":
        """Read the newest messages of a box, oldest first."""
        return self.query(self._open_last, account, key, count)

    def read(
        self, account: Account, key: MailboxPrivateKey, message_id: str
    ) -> "Deferred[Message]":
        """
        Read one message.

        Returns:
            The message; fails with `PeerError` ``no-such-id``.
        """
        return self.query(self._open_one, account, key, message_id)

    def drop(self, account: Account, message_id: str) -> "Deferred[None]":
        """
        Delete one message for good.

        Returns:
            Fires after the commit; fails with `PeerError` ``no-such-id``.
        """

        def work(connection: Connection) -> None:
            if not boxes.drop(connection, account.id, _id_bytes(message_id)):
                raise _no_such_id()

        return self.write(work)

    # -- accounts ---------------------------------------------------------------

    def find_account(self, name: str) -> "Deferred[Account | None]":
        """Look up the account of a normalised name."""
        lookup = accounts.lookup_of(self._name_key, name)
        return self.query(accounts.find, lookup)

    def find_accounts(
        self, names: Sequence[str]
    ) -> "Deferred[dict[str, Account | None]]":
        """Look up the accounts of many normalised names."""

        def work(connection: Connection) -> dict[str, Account | None]:
            lookups = {accounts.lookup_of(self._name_key, name): name for name in names}
            found = accounts.find_many(connection, list(lookups))
            return {name: found.get(lookup) for lookup, name in lookups.items()}

        return self.query(work)

    @inlineCallbacks
    def password_hash(self, name: str) -> "Generator[Any, Any, bytes | None]":
        """See `securerecv.interfaces.PasswordFile`."""
        account = yield self.find_account(name)
        return account.password_hash if account else None

    def write(self, work: Callable[[Connection], _T]) -> "Deferred[_T]":
        """
        Do something in a transaction of the writer's.

        Everything that was kept before has been settled when it begins.

        Returns:
            What ``work`` returns, after the commit.
        """
        done: Deferred[_T] = Deferred()

        def transaction() -> _T:
            self._arrivals.settle()
            self._arrivals.use_log()
            with self._connection.begin():
                return work(self._connection)

        def job() -> None:
            result: _T | Failure
            try:
                result = _translated(transaction)
            except Exception:  # noqa: BLE001 - whatever it was, it is passed on
                result = Failure()
            self._reactor.callFromThread(done.callback, result)

        self._writer.submit(job)
        self._hurry.set()
        return done

    def query(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> "Deferred[_T]":
        """
        Read something over a connection of a reader's.

        Returns:
            What ``work`` returns.
        """
        job = partial(self.query_now, work, *args, **kwargs)
        return deferToThreadPool(self._reactor, self._readers, job)

    def query_now(
        self,
        work: Callable[Concatenate[Connection, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """
        Read something in the thread of the caller, who waits for the disk.

        Raises:
            StorageError: the store cannot be read.
        """

        def job() -> _T:
            with self._engine.connect() as connection:
                return work(for_reading(connection), *args, **kwargs)

        return _translated(job)

    # -- in the threads of the readers ------------------------------------------

    def _open_last(
        self,
        connection: Connection,
        account: Account,
        key: MailboxPrivateKey,
        count: int,
    ) -> list[Message]:
        messages, keys = self._box(connection, account)
        newest = messages[-count:] if count else []
        return _open(newest, keys, account, key)

    def _open_one(
        self,
        connection: Connection,
        account: Account,
        key: MailboxPrivateKey,
        message_id: str,
    ) -> Message:
        wanted = _id_bytes(message_id)
        messages, keys = self._box(connection, account)
        found = [sealed for sealed in messages if sealed.message_id == wanted]
        if not found:
            raise _no_such_id()
        return _open(found, keys, account, key)[0]

    def _box(
        self, connection: Connection, account: Account
    ) -> tuple[list[SealedMessage], dict[int, bytes]]:
        """Read all of a box, wherever its messages are at the moment."""
        while True:
            settlings = self._arrivals.settlings()
            unsettled = self._arrivals.unsettled(account.id)
            with connection.begin():
                settled, keys = boxes.read(connection, account.id)
            if self._arrivals.settlings() == settlings:
                there = {sealed.message_id for sealed in settled}
                new = [m for m in unsettled if m.message_id not in there]
                return [*settled, *new][-self._keep :], keys


def _translated(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """Call something that uses the database; its errors become ours."""
    try:
        return work(*args, **kwargs)
    except SQLAlchemyError as error:
        raise storage_error(error) from error


def _open(
    messages: Sequence[SealedMessage],
    keys: dict[int, bytes],
    account: Account,
    key: MailboxPrivateKey,
) -> list[Message]:
    needed = {sealed.epoch_id for sealed in messages}
    if not needed <= keys.keys():
        raise StorageError("an epoch key is missing on disk")
    readers = {
        number: EpochReader(key, keys[number], account.lookup) for number in needed
    }
    return [readers[m.epoch_id].open(m.message_id, m.sealed) for m in messages]


def _id_bytes(message_id: str) -> bytes:
    raw = id_of(message_id, MESSAGE_ID_BYTES)
    if raw is None:
        raise _no_such_id()
    return raw


def _no_such_id() -> PeerError:
    return PeerError(ErrorCode.NO_SUCH_ID, "your box does not hold that")

"""
Taking messages in: sealed, committed in groups, settled in their boxes later.

A commit must be quick, because every sender waits for it.  On SQLite it is
therefore one row in `schema.arrival` with all its messages one behind the
other.  A little later they are settled: put into the slots of their boxes, all
in one transaction, and of each box only the newest.  Where several servers
share the database (PostgreSQL), messages are settled in the commit itself.

An `Arrivals` belongs to the writer thread, except where noted.
"""

from collections.abc import Callable, Sequence
from itertools import chain

from attrs import define
from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError
from twisted.logger import Logger

from securerecv.errors import PeerError, StorageError, StorageFullError
from securerecv.vault import boxes, epochs, seen
from securerecv.vault.boxcache import Box, BoxCache
from securerecv.vault.boxes import SealedMessage
from securerecv.vault.database import (
    driver_of,
    is_shared,
    quick_transaction,
    shrink_log,
    storage_error,
)
from securerecv.vault.schema import arrival, epoch
from securerecv.vault.unsettled import (
    Entries,
    Unsettled,
    entry_of,
    message_in,
    split_entries,
)
from securerecv.wire.lines import Message, Post
from securerecv.wire.replay import ReplayRecord

_log = Logger()

SETTLE_AFTER_BYTES = 32 * 1024 * 1024
SETTLE_AFTER_S = 3.0
IDLE_AFTER_S = 0.25
FORGET_AFTER_S = 60.0


@define
class Group:
    """
    Messages to users' boxes that one peer sent together.

    Attributes:
        sender: of all of them.
        when_ms: when they came in, milliseconds since 1970.
        ids: for each its id, `MESSAGE_ID_BYTES` bytes.
        posts: for each its recipient, as the sender wrote it, and its body.
        seen: what must be stored together with them.
        awaited: whether their sender waits to hear of it.
    """

    sender: str
    when_ms: int
    ids: list[bytes]
    posts: Sequence[Post]
    seen: Sequence[ReplayRecord] = ()
    awaited: bool = True

    def message(self, index: int) -> Message:
        """Give one of the messages."""
        return Message(
            self.ids[index].hex(), self.sender, self.when_ms, self.posts[index].body
        )

    def part(self, indices: Sequence[int]) -> "Group":
        """Give some of the messages as a group of their own."""
        return Group(
            self.sender,
            self.when_ms,
            [self.ids[index] for index in indices],
            [self.posts[index] for index in indices],
            self.seen,
            self.awaited,
        )


Refusals = dict[int, PeerError]
"""Which messages of a group could not be delivered, by their index."""


_New = tuple[bytes, bytes, bytes]
"""A message that will be sealed: its id, header and body."""

_Batch = dict[int, tuple[Box, list[_New]]]
"""What one commit will write: for each account what came, oldest first."""


class Arrivals:
    """
    Messages between their arrival and their slots.

    Args:
        connection: the writer's own, for as long as this lives.
        name_key: finds accounts by name.
        keep: how many messages a box keeps.
        seconds: the clock, seconds since 1970.
    """

    def __init__(
        self,
        connection: Connection,
        name_key: bytes,
        keep: int,
        seconds: Callable[[], float],
    ) -> None:
        self._connection = connection
        self._keep = keep
        self._seconds = seconds
        self._shared = is_shared(connection.engine)
        self._cache = BoxCache(connection, name_key)
        self._unsettled = Unsettled(keep)
        self._unsettled_bytes = 0
        self._unsettled_since = 0.0
        self._log_in_use = True
        self._tidied_in = self._hour()

    def _hour(self) -> int:
        """Hours since 1970."""
        return int(self._seconds() / 3600)

    # -- from any thread --------------------------------------------------------

    def settlings(self) -> int:
        """Count how often messages were settled; for `unsettled`."""
        return self._unsettled.settlings

    def unsettled(self, account_id: int) -> Sequence[SealedMessage]:
        """
        Give the messages of a box that are committed but not in slots yet.

        Whoever reads these first and the slots afterwards sees a whole box if
        `settlings` has not changed meanwhile.
        """
        return self._unsettled.of(account_id)

    # -- from the writer thread -----------------------------------------------

    def recover(self) -> None:
        """
        Settle what a crash left behind, and tidy up.

        On a full disk that may fail.  Then everything is left as it is: it can
        be read, and settled when there is room again.
        """
        with self._connection.begin():
            for (rows,) in self._connection.execute(
                select(arrival.c.rows).order_by(arrival.c.id)
            ):
                for account_id, entry in split_entries(rows):
                    self._unsettled.add({account_id: [entry]})
        try:
            with quick_transaction(self._connection):
                self._settle_in_transaction()
                boxes.trim(self._connection, self._keep)
                boxes.forget_unused_epochs(self._connection, self._hour())
        except (SQLAlchemyError, StorageError) as error:
            if not isinstance(storage_error(error), StorageFullError):
                raise
            _log.error("there is no room left: nothing can be received")
        else:
            self._forget_unsettled()

    def commit(self, groups: Sequence[Group]) -> list[Refusals]:
        """
        Make messages durable, in one transaction.

        Args:
            groups: messages, oldest first.

        Returns:
            For each group what could not be delivered; everything else is on
            disk.

        Raises:
            StorageError, SQLAlchemyError: nothing could be delivered.
        """
        try:
            with quick_transaction(self._connection):
                self.use_log()
                self._cache.notice_changes()
                refusals, batch = self._gather(groups)
                seen.put(self._connection, chain(*[group.seen for group in groups]))
                entries = self._seal(batch)
                if self._shared:
                    self._put(entries)
                else:
                    self._append(entries)
        except BaseException:
            # Epochs that this transaction began were never stored.
            self._cache.forget()
            raise
        if not self._shared:
            if not self._unsettled.entries:
                self._unsettled_since = self._seconds()
            self._unsettled.add(entries)
        return refusals

    def settle_if_due(self) -> None:
        """Settle when enough has gathered, or for long enough."""
        if (
            self._unsettled_bytes >= SETTLE_AFTER_BYTES
            or self._seconds() - self._unsettled_since >= SETTLE_AFTER_S
        ):
            self.settle()

    def settle(self) -> None:
        """Put everything that is committed into its slots."""
        if self._unsettled.entries:
            with quick_transaction(self._connection):
                self._settle_in_transaction()
            self._forget_unsettled()

    def use_log(self) -> None:
        """Have `idle` clear away what a transaction is going to delete."""
        self._log_in_use = True

    def idle(self) -> None:
        """Do what can wait until there is nothing else to do."""
        self.settle()
        self._cache.forget_old_epochs(self._seconds())
        if self._hour() > self._tidied_in:
            self._tidied_in = self._hour()
            self.use_log()
            with self._connection.begin():
                boxes.forget_unused_epochs(self._connection, self._tidied_in)
                seen.forget_expired(self._connection, self._seconds())
        if self._log_in_use:
            self._log_in_use = not shrink_log(self._connection)

    def idle_after_s(self) -> float | None:
        """Tell after how many seconds without a commit `idle` is wanted."""
        if self._unsettled.entries or self._log_in_use:
            return IDLE_AFTER_S
        return FORGET_AFTER_S if self._cache else None

    # -- gathering and sealing --------------------------------------------------

    def _gather(self, groups: Sequence[Group]) -> tuple[list[Refusals], _Batch]:
        """Find all boxes; they stay there until the commit."""
        while True:
            batch: _Batch = {}
            refusals = [self._sort(group, batch) for group in groups]
            # Other servers may have removed accounts that are remembered, and
            # may have added others of the same names.
            if not self._shared or self._cache.check(box for box, _ in batch.values()):
                return refusals, batch

    def _sort(self, group: Group, batch: _Batch) -> Refusals:
        refusals: Refusals = {}
        header = epochs.header_of(group.sender, group.when_ms)
        for index, post in enumerate(group.posts):
            box = self._cache.find(post.to)
            if isinstance(box, PeerError):
                refusals[index] = box
                continue
            there = batch.get(box.account_id)
            if there is None:
                there = batch[box.account_id] = (box, [])
            there[1].append((group.ids[index], header, post.body))
        return refusals

    def _seal(self, batch: _Batch) -> Entries:
        """Seal what will be kept: of each box only the newest messages."""
        now_s = self._seconds()
        new_epochs = []
        entries: Entries = {}
        for account_id, (box, messages) in batch.items():
            current = box.epoch
            if current is None or not current.lasts(now_s):
                current, key = epochs.begin(box.public_key, box.lookup, now_s)
                box.epoch = current
                new_epochs.append(
                    {
                        "id": current.id,
                        "account_id": account_id,
                        "hour": self._hour(),
                        "sealed_key": key,
                    }
                )
            entries[account_id] = [
                entry_of(account_id, current.id, new[0], current.seal(*new))
                for new in messages[-self._keep :]
            ]
        if new_epochs:
            self._connection.execute(insert(epoch), new_epochs)
        return entries

    # -- settling ---------------------------------------------------------------

    def _settle_in_transaction(self) -> None:
        waiting = self._unsettled.entries
        there = boxes.existing(self._connection, waiting)
        self._put({number: waiting[number] for number in waiting if number in there})
        self._connection.execute(delete(arrival))

    def _put(self, entries: Entries) -> None:
        arrived = {
            account_id: list(map(message_in, some))
            for account_id, some in entries.items()
        }
        boxes.put(self._connection, arrived, self._keep)

    def _append(self, entries: Entries) -> None:
        if entries:
            rows = b"".join(chain.from_iterable(entries.values()))
            self._unsettled_bytes += len(rows)
            # Runs in every commit; through SQLAlchemy it takes twice as long.
            driver_of(self._connection).execute(
                "INSERT INTO arrival (rows) VALUES (?)", (rows,)
            )

    def _forget_unsettled(self) -> None:
        self._unsettled.forget()
        self._unsettled_bytes = 0

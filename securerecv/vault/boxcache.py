"""What the writer remembers of boxes, so that it need not look each one up."""

from collections.abc import Iterable

from attrs import define
from sqlalchemy import Connection, select

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import (
    MAX_CACHED_BOXES,
    MAX_CACHED_UNKNOWN_NAMES,
    MAX_NAME_CHARACTERS,
)
from securerecv.names import normalise_user_name
from securerecv.vault import accounts, boxes
from securerecv.vault.database import changes_by_others, chunks, is_shared
from securerecv.vault.epochs import Epoch
from securerecv.vault.mailboxkeys import MailboxPublicKey
from securerecv.vault.schema import epoch


@define
class Box:
    """A box that messages have come to, and the epoch that they come under."""

    account_id: int
    lookup: bytes
    public_key: MailboxPublicKey
    epoch: Epoch | None = None


class BoxCache:
    """
    Boxes by the names that senders write.

    Args:
        connection: the writer's own.
        name_key: finds accounts by name.
    """

    def __init__(self, connection: Connection, name_key: bytes) -> None:
        self._connection = connection
        self._name_key = name_key
        self._shared = is_shared(connection.engine)
        self._changes = -1
        self._boxes: dict[str, Box] = {}
        self._unknown: dict[str, PeerError] = {}

    def __len__(self) -> int:
        """Count the names."""
        return len(self._boxes)

    def find(self, to: str) -> Box | PeerError:
        """Give the box of a user, or why there is none."""
        box = self._boxes.get(to)
        if box is not None:
            return box
        return self._unknown.get(to) or self._look_up(to)

    def notice_changes(self) -> None:
        """Forget what is remembered of accounts if somebody else changed them."""
        changes = changes_by_others(self._connection)
        if changes != self._changes:
            self._changes = changes
            self._unknown.clear()
            self.check(self._boxes.values())

    def check(self, some: Iterable[Box]) -> bool:
        """
        Forget boxes that are gone, and epochs whose sealed keys are.

        Args:
            some: which to look at; those that are there stay until the commit.

        Returns:
            Whether all of it is still there.
        """
        by_id = {box.account_id: box for box in some}
        removed = by_id.keys() - boxes.existing(self._connection, by_id)
        if removed:
            self._boxes = {
                name: box
                for name, box in self._boxes.items()
                if box.account_id not in removed
            }
        ids = {box.epoch.id for box in by_id.values() if box.epoch is not None}
        lost = ids - self._existing_epochs(ids)
        for box in by_id.values():
            if box.epoch is not None and box.epoch.id in lost:
                box.epoch = None
        return not removed

    def forget(self) -> None:
        """Forget everything."""
        self._boxes.clear()
        self._unknown.clear()

    def forget_old_epochs(self, now_s: float) -> None:
        """Forget the keys of epochs that have passed."""
        for box in self._boxes.values():
            if box.epoch is not None and not box.epoch.lasts(now_s):
                box.epoch = None

    def _look_up(self, to: str) -> Box | PeerError:
        try:
            name = normalise_user_name(to)
        except PeerError:
            name = ""
        box = self._boxes.get(name)
        if box is None:
            lookup = accounts.lookup_of(self._name_key, name)
            account = accounts.find(self._connection, lookup) if name else None
            if account is None:
                return self._refuse(to)
            if not account.public_key.is_whole():
                return PeerError(ErrorCode.INTERNAL, "that box is damaged")
            box = Box(account.id, lookup, account.public_key)
        for key in {to, name}:
            _make_room(self._boxes, MAX_CACHED_BOXES)
            self._boxes[key] = box
        return box

    def _refuse(self, to: str) -> PeerError:
        refusal = PeerError(ErrorCode.NO_MAILBOX, "there is no such user")
        # What other servers add would not be noticed.
        if not self._shared and len(to) <= MAX_NAME_CHARACTERS:
            _make_room(self._unknown, MAX_CACHED_UNKNOWN_NAMES)
            self._unknown[to] = refusal
        return refusal

    def _existing_epochs(self, ids: Iterable[int]) -> set[int]:
        return {
            row.id
            for some in chunks(sorted(ids))
            for row in self._connection.execute(
                select(epoch.c.id)
                .where(epoch.c.id.in_(some))
                .order_by(epoch.c.id)
                .with_for_update(read=True)
            )
        }


def _make_room(cache: dict[str, Box] | dict[str, PeerError], limit: int) -> None:
    """Drop the oldest entry of a full cache."""
    while len(cache) >= limit:
        del cache[next(iter(cache))]

"""The files of all boxes as this project keeps them: scanned, and sealed."""

import os
from collections.abc import Callable, Generator, Sequence
from functools import partial
from itertools import count
from typing import Any

from attrs import frozen
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.intake.announced import Announced, ArrivingFile
from securerecv.intake.fileshelf import FileShelf
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Boxes
from securerecv.intake.reception import Reception
from securerecv.intake.scans import Scans
from securerecv.intake.verdicts import Verdicts
from securerecv.interfaces import Download, Scanner, Upload
from securerecv.names import (
    ANONYMOUS,
    file_name,
    is_anonymous_address,
    normalise_user_name,
)
from securerecv.settings import Settings
from securerecv.vault import files
from securerecv.vault.accounts import Account, UnknownAccountError
from securerecv.vault.blobs import Blobs
from securerecv.vault.filekeys import FileDetails, FileKeys
from securerecv.vault.files import StoredFile
from securerecv.vault.segments import Layout, new_file_key
from securerecv.vault.store import Store
from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.lines import Answer
from securerecv.wire.verbs import Standing

CHECK_EVERY_S = 300.0
"""How often it is looked whether files are old enough to go."""

THREADS = max(2, min(4, os.cpu_count() or 1))
_DAY_S = 24 * 3600

_log = Logger()


@frozen
class FileRules:
    """
    What an operator decides about files.

    Attributes:
        max_file: bytes of the largest file taken.
        box_bytes: how much a box may hold.
        keep_free: how much room on the disk is left for everything else, bytes.
        retention_s: how long files are kept.
    """

    max_file: int
    box_bytes: int
    keep_free: int
    retention_s: int

    @classmethod
    def of(cls, settings: Settings) -> "FileRules":
        """Read them from the settings; the largest file always has room in a box."""
        return cls(
            max_file=settings.max_file,
            box_bytes=max(settings.box_bytes, settings.max_file),
            keep_free=settings.keep_free,
            retention_s=settings.file_retention * _DAY_S,
        )


class KeptFiles:
    """
    Keeps files in the data folder.

    See `securerecv.intake.files.Files`.

    Args:
        store: where they are kept.
        blobs: where their content is.
        keys: opens them for the scan.
        mailboxes: opens boxes for their owners.
        boxes: where messages are.
        scanner: says what may be had.
        announce: tells the owner, by user name, of a file.
        reactor: calls back in its thread, and tells the time.
        rules: what the operator decided.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        keys: FileKeys,
        mailboxes: Mailboxes,
        boxes: Boxes,
        scanner: Scanner,
        announce: Callable[[str, FileRecord], object],
        reactor: Any,
        rules: FileRules,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._scanner = scanner
        self._reactor = reactor
        self._rules = rules
        self._numbers = count()
        self._threads = ThreadPool(0, THREADS, "securerecv-files")
        verdicts = Verdicts(store, blobs, keys, self._run, announce, reactor.seconds)
        self._scans = Scans(store, blobs, keys, scanner, self._run, verdicts, reactor)
        self._reception = Reception(
            store,
            blobs,
            keys,
            self._scans,
            self._run,
            announce,
            reactor.seconds,
            rules.box_bytes,
            rules.keep_free,
        )
        self._shelf = FileShelf(
            store,
            blobs,
            keys,
            mailboxes,
            boxes,
            scanner,
            self._scans,
            self._run,
            self._reception.dropped,
        )

    def start(self) -> "Deferred[None]":
        """
        Start the threads, and bring rows and blobs together after a crash.

        Returns:
            Fires when every file that waits for its scan is in the queue again.

        Raises:
            StorageError: the disk or the store cannot be read.
        """
        self._threads.start()
        # Before anybody can announce one of them again.
        forgotten = self._store.write(partial(files.remove, file_ids=self._reconcile()))
        return forgotten.addCallback(lambda _: self._scans.start())

    def close(self) -> None:
        """Take no more bytes, and begin no more scans."""
        self._scans.stop()
        self._reception.stop()

    def stop(self) -> None:
        """Finish what the threads are doing.  Waits for the disk."""
        self._threads.stop()

    @inlineCallbacks
    def check(self) -> Generator[Any, Any, None]:
        """Delete what was kept long enough, and content that nobody knows of."""
        expire = partial(
            files.expire,
            now_s=int(self._reactor.seconds()),
            retention_s=self._rules.retention_s,
            under_way=self._reception.under_way,
        )
        try:
            yield self._store.write(expire)
            yield self._run(self._delete_orphans)
        except StorageError:
            # What is too old now is so the next time as well.
            _log.failure("old files could not be deleted; it will be tried again")

    # -- in ---------------------------------------------------------------------

    @inlineCallbacks
    def put(
        self,
        sender: Avatar,
        address: str,
        to: str,
        size: int,
        sha256: bytes,
        name: str,
    ) -> Generator[Any, Any, Upload]:
        """Begin to take a file, or go on with it."""
        if self._scanner.refusal:
            raise PeerError(ErrorCode.NO_SCANNER, self._scanner.refusal)
        if size > self._rules.max_file:
            words = f"a file has at most {self._rules.max_file} bytes here"
            raise PeerError(ErrorCode.TOO_LARGE, words)
        name = file_name(name)
        number = next(self._numbers)
        owner, account = yield self._recipient(to)
        is_user = sender.standing is Standing.USER
        details = FileDetails(
            key=new_file_key(),
            sha256=sha256,
            size=size,
            when_ms=int(self._reactor.seconds() * 1000),
            owner=owner,
            sender=sender.name if is_user else ANONYMOUS,
            name=name,
        )
        sent_by = f"user {sender.name}" if is_user else f"address {address}"
        announced = Announced(account, sent_by, address, not is_user, details, number)
        upload: Upload = yield self._reception.take(announced)
        return upload

    @inlineCallbacks
    def _recipient(self, to: str) -> Generator[Any, Any, tuple[str, Account]]:
        if is_anonymous_address(to):
            words = "an anonymous address keeps no files"
            raise PeerError(ErrorCode.NOT_ALLOWED, words)
        try:
            owner = normalise_user_name(to)
        except PeerError:
            raise UnknownAccountError from None
        account: Account | None = yield self._store.find_account(owner)
        if account is None:
            raise UnknownAccountError
        if not account.public_key.is_whole():
            raise StorageError("a box on disk is damaged")
        return owner, account

    def arriving(self) -> Sequence[ArrivingFile]:
        """Tell how far the files are that are just being received."""
        return self._reception.arriving()

    def list(self, avatar: Avatar, address: str) -> "Deferred[Answer]":
        """List every file of a box, oldest first."""
        return self._shelf.list(avatar, address)

    def get(
        self, avatar: Avatar, address: str, file_id: str, offset: int
    ) -> "Deferred[Download]":
        """Begin to give a clean file, or the body of a message."""
        return self._shelf.get(avatar, address, file_id, offset)

    def drop(self, avatar: Avatar, item_id: str) -> "Deferred[Answer]":
        """Delete a file, or a message."""
        return self._shelf.drop(avatar, item_id)

    # -- in threads -------------------------------------------------------------

    def _run(self, work: Callable[..., Any], *args: Any) -> "Deferred[Any]":
        return deferToThreadPool(self._reactor, self._threads, work, *args)

    def _delete_orphans(self) -> dict[bytes, StoredFile]:
        """Delete content without a row; give the rows that may have content."""
        # In this order: a row is there before its content is.
        there = self._blobs.ids()
        known = self._store.query_now(files.with_content, self._blobs.place)
        for orphan in there - known.keys():
            self._blobs.delete(orphan)
        return known

    def _reconcile(self) -> Sequence[bytes]:
        """
        Delete content that nobody knows of, and cut off torn ends.

        Returns:
            The ids of files of which nothing has come.
        """
        empty: list[bytes] = []
        missing = 0
        for stored in self._delete_orphans().values():
            layout = Layout(stored.size)
            size = self._blobs.size(stored.id)
            if stored.state is not FileState.RECEIVING:
                missing += size != layout.sealed_size
            elif layout.whole_segments(size) == 0:
                self._blobs.delete(stored.id)
                empty.append(stored.id)
            else:
                blob = self._blobs.open(stored.id, layout, make=True)
                blob.whole_segments()
                blob.close()
        if missing:
            _log.error("{missing} files are damaged on disk", missing=missing)
        return empty

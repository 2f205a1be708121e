"""The files in a box, for its owner: listed, fetched and dropped."""

from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import inlineCallbacks

from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.intake.downloads import FileDownload, MessageDownload
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Boxes
from securerecv.intake.scans import Scans
from securerecv.intake.turnstile import Turnstile
from securerecv.intake.uploads import Run
from securerecv.interfaces import Download, Scanner, Verdict, VerdictKind
from securerecv.limits import MAX_DOWNLOADS, MAX_DOWNLOADS_PER_ADDRESS
from securerecv.names import id_of
from securerecv.vault import files
from securerecv.vault.accounts import Account
from securerecv.vault.blobs import Blobs
from securerecv.vault.filekeys import FileDetails, FileKeys, open_as_owner
from securerecv.vault.filereader import FileReader
from securerecv.vault.files import StoredFile
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.vault.segments import FILE_ID_BYTES
from securerecv.vault.store import Store
from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.lines import Answer, Message, information
from securerecv.wire.verbs import Standing


class FileShelf:
    """
    What owners do with their files.

    See `securerecv.intake.files.Files`.

    Args:
        store: where files are kept.
        blobs: where their content is.
        keys: opens what was not scanned yet.
        mailboxes: opens boxes for their owners.
        boxes: where messages are.
        scanner: says which signatures it has now.
        scans: scans a file again.
        run: calls something in a thread.
        dropped: is told which file was dropped.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        keys: FileKeys,
        mailboxes: Mailboxes,
        boxes: Boxes,
        scanner: Scanner,
        scans: Scans,
        run: Run,
        dropped: Callable[[bytes], object],
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._keys = keys
        self._mailboxes = mailboxes
        self._boxes = boxes
        self._scanner = scanner
        self._scans = scans
        self._run = run
        self._dropped = dropped
        self._downloads = Turnstile(
            MAX_DOWNLOADS, MAX_DOWNLOADS_PER_ADDRESS, "downloads"
        )

    @inlineCallbacks
    def list(self, avatar: Avatar, address: str) -> Generator[Any, Any, Answer]:
        """List every file of a box, oldest first."""
        records: Sequence[FileRecord] = ()
        if avatar.standing is Standing.USER:
            account, key = yield self._mailboxes.open(avatar, address)
            records = yield self._store.query(self._open_all, account, key)
        lines = [line for record in records for line in record.lines()]
        return information(lines, f"{len(records)} files")

    @inlineCallbacks
    def get(
        self, avatar: Avatar, address: str, file_id: str, offset: int
    ) -> Generator[Any, Any, Download]:
        """Begin to give a clean file, or the body of a message."""
        stored: StoredFile | None = yield self._find(avatar, file_id)
        if stored is None:
            message: Message = yield self._boxes.read(avatar, address, file_id)
            _check_offset(offset, len(message.body))
            return MessageDownload(message)
        _, key = yield self._mailboxes.open(avatar, address)
        details = self._details(stored, key)
        self._check_had(stored, details)
        _check_offset(offset, stored.size)
        self._downloads.enter(address)
        try:
            yield self._scan_again(stored, details)
            reader = yield self._run(
                FileReader, self._blobs, stored.id, details.key, stored.size
            )
        except BaseException:
            self._downloads.leave(address)
            raise
        return FileDownload(
            stored.id.hex(),
            stored.size,
            details.sha256.hex(),
            details.name,
            reader,
            self._run,
            partial(self._downloads.leave, address),
        )

    @inlineCallbacks
    def drop(self, avatar: Avatar, item_id: str) -> Generator[Any, Any, Answer]:
        """Delete a file, or a message."""
        stored: StoredFile | None = yield self._find(avatar, item_id)
        if stored is None:
            yield self._boxes.drop(avatar, item_id)
            return Answer()
        owner = stored.account_id
        drop = partial(files.drop, account_id=owner, file_id=stored.id)
        yield self._store.write(drop)
        self._dropped(stored.id)
        self._scans.forget(stored.id)
        yield self._run(self._blobs.delete, stored.id)
        return Answer()

    @inlineCallbacks
    def _find(
        self, avatar: Avatar, item_id: str
    ) -> Generator[Any, Any, StoredFile | None]:
        """Look for a file in somebody's box; what else it is, is for the boxes."""
        raw = id_of(item_id, FILE_ID_BYTES)
        if raw is None or avatar.standing is not Standing.USER:
            return None
        found: StoredFile | None = yield self._store.query(files.load, raw)
        if found is None:
            return None
        account: Account = yield self._mailboxes.account(avatar)
        return found if found.account_id == account.id else None

    def _check_had(self, stored: StoredFile, details: FileDetails) -> None:
        """Refuse what may not be had."""
        if stored.state is FileState.INFECTED:
            words = f"it was destroyed: {details.why}"
            raise PeerError(ErrorCode.INFECTED, words)
        if stored.state is FileState.RECEIVING:
            raise PeerError(ErrorCode.NOT_CLEAN, "it is still being received")
        if stored.state is FileState.SCANNING:
            words = "it is being scanned; try again in a while"
            raise PeerError(ErrorCode.NOT_CLEAN, words)
        if stored.state is FileState.HELD:
            raise PeerError(ErrorCode.NOT_CLEAN, f"it is held: {details.why}")
        if stored.place != self._blobs.place:
            words = "another server of this store has that file: fetch it there"
            raise PeerError(ErrorCode.NOT_ALLOWED, words)

    @inlineCallbacks
    def _scan_again(
        self, stored: StoredFile, details: FileDetails
    ) -> Generator[Any, Any, None]:
        """See that a file is clean by the signatures of today."""
        if self._scanner.refusal:
            # Nothing is scanned here any more; it was found clean when it was.
            return
        version = yield self._scanner.database_version()
        if version is not None and version == stored.scanned_with:
            return
        verdict: Verdict = yield self._scans.again_for_owner(stored, details)
        if verdict.kind is VerdictKind.INFECTED:
            words = f"it was destroyed: {verdict.words}"
            raise PeerError(ErrorCode.INFECTED, words)
        if verdict.kind is VerdictKind.HELD:
            words = f"it must be scanned again first: {verdict.words}"
            raise PeerError(ErrorCode.NOT_CLEAN, words)

    def _open_all(
        self, connection: Connection, account: Account, key: MailboxPrivateKey
    ) -> Sequence[FileRecord]:
        return [
            self._details(stored, key).record(stored.id, stored.state)
            for stored in files.of_account(connection, account.id)
        ]

    def _details(self, stored: StoredFile, key: MailboxPrivateKey) -> FileDetails:
        if stored.sealed_for_owner is not None:
            return open_as_owner(key, stored.id, stored.lookup, stored.sealed_for_owner)
        if stored.sealed_for_server is None:
            raise StorageError("a file has lost its keys on disk")
        return self._keys.open(stored.id, stored.lookup, stored.sealed_for_server)


def _check_offset(offset: int, size: int) -> None:
    if offset > size:
        words = f"that has only {size} bytes"
        raise PeerError(ErrorCode.USAGE, words)

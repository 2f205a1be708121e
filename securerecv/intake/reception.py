"""
Taking files in: announced, sent in one go or in several, and then complete.

A file is known again by who sent it, to whom, and what was announced.  Of several
uploads of one file the newest goes on; those before it end.
"""

import os
from collections import OrderedDict
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection
from twisted.internet.defer import inlineCallbacks
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.errors import (
    ErrorCode,
    PeerError,
    StorageError,
    StorageFullError,
)
from securerecv.intake.announced import Announced, ArrivingFile, Place
from securerecv.intake.scans import Scans
from securerecv.intake.turns import Party
from securerecv.intake.turnstile import Turnstile
from securerecv.intake.uploads import FileUpload, FinishedUpload, Run
from securerecv.interfaces import Upload
from securerecv.limits import (
    MAX_REMEMBERED_DIGESTS,
    MAX_UPLOADS,
    MAX_UPLOADS_PER_ADDRESS,
    VERDICT_WAIT_S,
)
from securerecv.vault import files
from securerecv.vault.blobs import Blobs
from securerecv.vault.filekeys import FileDetails, FileKeys
from securerecv.vault.files import NewFile, StoredFile
from securerecv.vault.filewriter import FileWriter, Progress
from securerecv.vault.segments import FILE_ID_BYTES
from securerecv.vault.store import Store
from securerecv.wire.filelines import FileRecord, FileState

_log = Logger()


class Reception:
    """
    The files that are being received.

    Args:
        store: where files are kept.
        blobs: where their content is.
        keys: seal and open them until they were scanned.
        scans: what is complete goes there.
        run: calls something in a thread.
        announce: tells the owner, by user name, of a file.
        seconds: the clock, seconds since 1970.
        box_bytes: how much a box may hold.
        keep_free: how much room on the disk is left for everything else.
    """

    def __init__(
        self,
        store: Store,
        blobs: Blobs,
        keys: FileKeys,
        scans: Scans,
        run: Run,
        announce: Callable[[str, FileRecord], object],
        seconds: Callable[[], float],
        box_bytes: int,
        keep_free: int,
    ) -> None:
        self._store = store
        self._blobs = blobs
        self._keys = keys
        self._scans = scans
        self._run = run
        self._announce = announce
        self._seconds = seconds
        self._box_bytes = box_bytes
        self._keep_free = keep_free
        self._turnstile = Turnstile(MAX_UPLOADS, MAX_UPLOADS_PER_ADDRESS, "files")
        self._anonymous = Turnstile(
            MAX_UPLOADS // 2, MAX_UPLOADS_PER_ADDRESS // 2, "anonymous files"
        )
        self._places: set[Place] = set()
        self._newest: dict[bytes, Place] = {}
        self._digests: OrderedDict[bytes, Progress] = OrderedDict()

    @property
    def under_way(self) -> set[bytes]:
        """The ids of the files that are being received."""
        return set(self._newest)

    def arriving(self) -> list[ArrivingFile]:
        """Tell how far they are."""
        return [
            ArrivingFile(
                id=file_id.hex(),
                owner=place.details.owner,
                sender=place.details.sender,
                name=place.details.name,
                size=place.size,
                done=place.size - place.missing,
            )
            for file_id, place in self._newest.items()
            if place.details is not None
        ]

    @inlineCallbacks
    def take(self, announced: Announced) -> Generator[Any, Any, Upload]:
        """
        Begin to take a file, or go on with it.

        Raises:
            PeerError: ``full`` or ``busy``.
        """
        identity = self._keys.identity(
            announced.account.lookup, announced.sent_by, announced.details
        )
        place = Place(
            announced.address,
            identity,
            announced.details.size,
            announced.number,
            announced.is_anonymous,
        )
        self._enter(place)
        stored: StoredFile | None = None
        try:
            stored = yield self._find_or_add(announced, place)
            if stored.state is FileState.RECEIVING:
                yield self._attach(stored, place)
        finally:
            if place.upload is None:
                self._leave(stored.id if stored else None, place)
        if place.upload is not None:
            return place.upload
        # It is all there already, or about to be.
        return FinishedUpload(
            stored.id.hex(), stored.size, partial(self._state, stored.id)
        )

    def dropped(self, file_id: bytes) -> None:
        """End the upload of a file that its owner does not want."""
        self._end(file_id, PeerError(ErrorCode.NO_MAILBOX, _GONE))

    def stop(self) -> None:
        """End all uploads; they go on after the next start."""
        for file_id in self.under_way:
            self._end(file_id, PeerError(ErrorCode.BUSY, "the server is stopping"))

    # -- the announcement -------------------------------------------------------

    @inlineCallbacks
    def _find_or_add(
        self, announced: Announced, place: Place
    ) -> Generator[Any, Any, StoredFile]:
        """Find a file that was announced before, or store that it is to come."""
        account, details = announced.account, announced.details
        file_id = os.urandom(FILE_ID_BYTES)
        new = NewFile(
            id=file_id,
            account_id=account.id,
            place=self._blobs.place,
            size=details.size,
            is_anonymous=announced.is_anonymous,
            identity=place.identity,
            sealed=self._keys.seal(file_id, account.lookup, details),
        )
        promised = sum(other.missing for other in self._places if other is not place)
        # Who comes while the store works is not among them, and finds what it left.
        busy = {other.identity for other in self._places}
        now_s = int(self._seconds())

        def work(connection: Connection) -> tuple[StoredFile, Sequence[bytes]]:
            found = files.find_again(connection, new.identity, new.place, now_s)
            if found is not None and found.state is not FileState.RECEIVING:
                return found, ()
            there = 0 if found is None else self._blobs.size(found.id)
            self._check_disk(promised + max(0, new.size - there))
            if found is not None:
                return found, ()
            return files.add(connection, new, self._box_bytes, now_s, busy)

        stored: StoredFile
        stored, gone = yield self._store.write(work)
        for other in gone:
            self._digests.pop(other, None)
            # What stays behind is deleted as belonging to nobody.
            self._run(self._blobs.delete, other).addErrback(
                lambda failure: _log.failure("not deleted", failure=failure)
            )
        return stored

    def _check_disk(self, wanted: int) -> None:
        if self._blobs.free_bytes() - wanted < self._keep_free:
            words = "the server has no room left for a file of that size"
            raise PeerError(ErrorCode.FULL, words)

    @inlineCallbacks
    def _attach(self, stored: StoredFile, place: Place) -> Generator[Any, Any, None]:
        """Make a place's upload the one that goes on."""
        file_id = stored.id
        before = self._newest.get(file_id)
        if before is not None:
            if before.upload is not None and before.upload.is_finishing:
                return
            if before.number > place.number:
                # The store may answer in another order than it was asked.
                raise _superseded()
            self._newest[file_id] = place
            if before.upload is not None:
                before.upload.fail(_superseded())
            yield before.over()
        else:
            self._newest[file_id] = place
        if self._newest.get(file_id) is not place:
            raise _superseded()
        details = self._open(stored)
        writer = FileWriter(self._blobs, file_id, details.key, stored.size)
        yield self._run(writer.open, self._digests.pop(file_id, None))
        if self._newest.get(file_id) is not place:
            writer.close()
            raise _superseded()
        place.details = details
        place.upload = FileUpload(
            file_id.hex(),
            stored.size,
            writer,
            self._run,
            partial(self._complete, stored, place, writer, details),
            partial(self._incomplete, stored, place, writer),
        )

    def _open(self, stored: StoredFile) -> FileDetails:
        if stored.sealed_for_server is None:
            raise StorageError("an unfinished file has lost its key")
        return self._keys.open(stored.id, stored.lookup, stored.sealed_for_server)

    # -- the end ------------------------------------------------------------------

    @inlineCallbacks
    def _complete(
        self,
        stored: StoredFile,
        place: Place,
        writer: FileWriter,
        details: FileDetails,
    ) -> Generator[Any, Any, str]:
        """Have a file on disk of which all bytes were written, and scanned."""
        try:
            yield self._make_durable(stored, writer, details)
            record = details.record(stored.id, FileState.SCANNING)
            self._announce(details.owner, record)
            address = place.address if place.is_anonymous else ""
            self._scans.add(stored.id, Party(details.sender, address))
        finally:
            self._leave(stored.id, place)
        state: str = yield self._state(stored.id)
        return state

    @inlineCallbacks
    def _make_durable(
        self, stored: StoredFile, writer: FileWriter, details: FileDetails
    ) -> Generator[Any, Any, None]:
        try:
            is_right = yield self._run(writer.finish, details.sha256)
        except StorageError:
            # What the disk could not write may seem to be there, and is not.
            yield self._discard(stored.id)
            raise
        finally:
            writer.close()
        if not is_right:
            yield self._discard(stored.id)
            words = "size or SHA-256 is not what was announced; nothing is kept"
            raise PeerError(ErrorCode.MISMATCH, words)
        received = partial(
            files.received, file_id=stored.id, now_s=int(self._seconds())
        )
        there = yield self._store.write(received)
        if not there:
            yield self._run(self._blobs.delete, stored.id)
            raise PeerError(ErrorCode.NO_MAILBOX, _GONE)

    @inlineCallbacks
    def _incomplete(
        self, stored: StoredFile, place: Place, writer: FileWriter, failure: Failure
    ) -> Generator[Any, Any, None]:
        """Keep what is here of a file for the next time, if it is worth anything."""
        file_id = stored.id
        is_damaged = not failure.check(PeerError, StorageFullError)
        is_wanted = any(
            other is not place and other.identity == place.identity
            for other in self._places
        )
        try:
            if is_damaged or not (writer.progress.segments or is_wanted):
                yield self._discard(file_id)
            else:
                self._remember(file_id, writer.progress)
                now_s = int(self._seconds())
                touch = partial(files.touch, file_id=file_id, now_s=now_s)
                yield self._store.write(touch)
        except StorageError:
            _log.failure("an unfinished file could not be put away")
        finally:
            self._leave(file_id, place)

    @inlineCallbacks
    def _discard(self, file_id: bytes) -> Generator[Any, Any, None]:
        """Destroy a file: first the key, then what it opens."""
        yield self._store.write(partial(files.remove, file_ids=[file_id]))
        yield self._run(self._blobs.delete, file_id)

    def _remember(self, file_id: bytes, progress: Progress) -> None:
        self._digests[file_id] = progress
        if len(self._digests) > MAX_REMEMBERED_DIGESTS:
            self._digests.popitem(last=False)

    @inlineCallbacks
    def _state(self, file_id: bytes) -> Generator[Any, Any, str]:
        """Tell what became of a file; wait a little for a verdict."""
        under_way = self._newest.get(file_id)
        if under_way is not None:
            yield under_way.over()
        yield self._scans.wait(file_id, VERDICT_WAIT_S)
        stored: StoredFile | None = yield self._store.query(files.load, file_id)
        if stored is None or stored.state is FileState.RECEIVING:
            raise PeerError(ErrorCode.NO_MAILBOX, _GONE)
        state: str = stored.state.value
        return state

    def _end(self, file_id: bytes, error: PeerError) -> None:
        place = self._newest.get(file_id)
        if place is not None and place.upload is not None:
            place.upload.fail(error)

    def _enter(self, place: Place) -> None:
        """Count a place; anonymous senders cannot shut out those with accounts."""
        if place.is_anonymous:
            self._anonymous.enter(place.address)
        try:
            self._turnstile.enter(place.address)
        except PeerError:
            if place.is_anonymous:
                self._anonymous.leave(place.address)
            raise
        self._places.add(place)

    def _leave(self, file_id: bytes | None, place: Place) -> None:
        self._places.discard(place)
        self._turnstile.leave(place.address)
        if place.is_anonymous:
            self._anonymous.leave(place.address)
        if file_id is not None and self._newest.get(file_id) is place:
            del self._newest[file_id]
        place.end()


_GONE = "the file, or the box that it was for, was removed meanwhile"


def _superseded() -> PeerError:
    words = "the same file is being sent once more; that upload goes on"
    return PeerError(ErrorCode.BUSY, words)

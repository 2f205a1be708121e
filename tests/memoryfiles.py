"""Files that are kept in memory and not looked at: what a conversation needs."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed

from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError, StorageError
from securerecv.interfaces import Download, Upload
from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.lines import Answer, information

PIECE_BYTES = 1 << 20
WHEN_MS = 1_700_000_000_123


@define(eq=False)
class Kept:
    """
    One file.

    Attributes:
        record: what its owner is told.
        to: whose box it is in.
        content: as much as is there.
    """

    record: FileRecord
    to: str
    content: bytearray = field(factory=bytearray)


@define(eq=False)
class MemoryUpload:
    """
    See `securerecv.interfaces.Upload`.

    Attributes:
        writes: how many bytes came each time.
        is_over: it was finished or abandoned.
    """

    files: MemoryFiles
    kept: Kept
    id: str
    size: int
    offset: int
    writes: list[int] = field(factory=list)
    is_over: bool = False

    def write(self, data: bytes | bytearray | memoryview) -> Deferred[None] | None:
        """Take the next bytes."""
        assert not self.is_over
        assert self.files.writing is None
        self.kept.content += data
        assert len(self.kept.content) <= self.size
        self.writes.append(len(data))
        if self.files.is_slow:
            self.files.writing = Deferred()
        return self.files.writing

    def finish(self) -> Deferred[str]:
        """Compare, and find it as the test says."""
        assert not self.is_over
        self.is_over = True
        if self.files.failure is not None:
            raise_later: Deferred[str] = Deferred()
            raise_later.errback(self.files.failure)
            return raise_later
        digest = hashlib.sha256(self.kept.content).hexdigest()
        if digest != self.kept.record.sha256:
            del self.files.kept[self.id]
            mismatch: Deferred[str] = Deferred()
            words = "this is not what was announced"
            mismatch.errback(PeerError(ErrorCode.MISMATCH, words))
            return mismatch
        self.files.find(self.id, self.files.verdict)
        return succeed(self.files.verdict.value)

    def abandon(self) -> None:
        """Keep what is here."""
        self.is_over = True


@define(eq=False)
class MemoryDownload:
    """
    See `securerecv.interfaces.Download`.

    Attributes:
        reads: offset and size of each piece that was asked for.
        is_closed: it was let go of.
    """

    files: MemoryFiles
    id: str
    size: int
    sha256: str
    name: str
    content: bytes
    reads: list[tuple[int, int]] = field(factory=list)
    is_closed: bool = False

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        """Read a piece, when the test lets it."""
        assert not self.is_closed
        assert self.files.reading is None
        self.reads.append((offset, size))
        done: Deferred[bytes] = Deferred()
        if self.files.damaged_from <= offset:
            done.errback(StorageError("damaged"))
            return done
        piece = self.content[offset : offset + min(size, PIECE_BYTES)]
        if self.files.is_slow:
            self.files.reading = (done, piece)
        else:
            done.callback(piece)
        return done

    def close(self) -> None:
        """Let go of it."""
        assert not self.is_closed
        self.is_closed = True


@define(eq=False)
class MemoryFiles:
    """
    See `securerecv.intake.files.Files`.

    Attributes:
        kept: by id.
        uploads: all that were begun.
        downloads: the same.
        is_slow: each read and write waits until the test lets it go on.
        writing: the write that waits.
        reading: the read that waits.
        beginning: what uploads and downloads wait for before they begin.
        verdict: what becomes of files.
        failure: what `finish` fails with.
        damaged_from: where no more can be read.
    """

    kept: dict[str, Kept] = field(factory=dict)
    uploads: list[MemoryUpload] = field(factory=list)
    downloads: list[MemoryDownload] = field(factory=list)
    is_slow: bool = False
    writing: Deferred[None] | None = None
    reading: tuple[Deferred[bytes], bytes] | None = None
    beginning: Deferred[None] | None = None
    verdict: FileState = FileState.CLEAN
    failure: Exception | None = None
    damaged_from: int = 1 << 60
    _ids: count[int] = field(factory=lambda: count(1))

    def put(
        self,
        sender: Avatar,
        address: str,
        to: str,
        size: int,
        sha256: bytes,
        name: str,
    ) -> Deferred[Upload]:
        """Begin a file, or go on with it."""
        if to == "nobody":
            refused: Deferred[Upload] = Deferred()
            refused.errback(PeerError(ErrorCode.NO_MAILBOX, "there is no such user"))
            return refused
        same = (size, sha256.hex(), sender.name, name)
        for kept in self.kept.values():
            record = kept.record
            if (record.size, record.sha256, record.sender, record.name) == same:
                break
        else:
            number = f"{next(self._ids):016x}"
            record = FileRecord(
                number,
                FileState.RECEIVING,
                size,
                sha256.hex(),
                sender.name,
                WHEN_MS,
                name,
            )
            kept = self.kept[number] = Kept(record, to)
        upload = MemoryUpload(self, kept, kept.record.id, size, len(kept.content))
        self.uploads.append(upload)
        begun: Deferred[Upload] = Deferred()
        self._begin(begun, upload)
        return begun

    def _begin(self, begun: Deferred[Any], result: object) -> None:
        if self.beginning is None:
            begun.callback(result)
        else:
            self.beginning.addCallback(lambda _: begun.callback(result))

    def add(self, to: str, content: bytes, name: str) -> str:
        """Have a clean file in a box; its id is returned."""
        number = f"{next(self._ids):016x}"
        digest = hashlib.sha256(content).hexdigest()
        record = FileRecord(
            number, FileState.CLEAN, len(content), digest, "bob", WHEN_MS, name
        )
        self.kept[number] = Kept(record, to, bytearray(content))
        return number

    def find(self, number: str, state: FileState) -> None:
        """Say what became of a file."""
        record = self.kept[number].record
        self.kept[number].record = FileRecord(
            record.id,
            state,
            record.size,
            record.sha256,
            record.sender,
            record.when_ms,
            record.name,
            "Some-Signature" if state is FileState.INFECTED else "",
        )

    def list(self, avatar: Avatar, address: str) -> Deferred[Answer]:
        """List a box."""
        records = [k.record for k in self.kept.values() if k.to == avatar.name]
        lines = [line for record in records for line in record.lines()]
        return succeed(information(lines, f"{len(records)} files"))

    def get(
        self, avatar: Avatar, address: str, file_id: str, offset: int
    ) -> Deferred[Download]:
        """Give a file."""
        done: Deferred[Download] = Deferred()
        kept = self.kept.get(file_id)
        if kept is None or kept.to != avatar.name:
            done.errback(PeerError(ErrorCode.NO_SUCH_ID, "you have no such file"))
        elif kept.record.state is FileState.INFECTED:
            done.errback(PeerError(ErrorCode.INFECTED, "it is gone"))
        elif offset > kept.record.size:
            done.errback(PeerError(ErrorCode.USAGE, "it is not as long as that"))
        else:
            record = kept.record
            download = MemoryDownload(
                self,
                file_id,
                record.size,
                record.sha256,
                record.name,
                bytes(kept.content),
            )
            self.downloads.append(download)
            self._begin(done, download)
        return done

    def drop(self, avatar: Avatar, item_id: str) -> Deferred[Answer]:
        """Delete a file."""
        del self.kept[item_id]
        return succeed(Answer())

    def go_on(self) -> None:
        """Let the read or write that waits be done."""
        writing, self.writing = self.writing, None
        reading, self.reading = self.reading, None
        if writing is not None:
            writing.callback(None)
        if reading is not None:
            done, piece = reading
            done.callback(piece)

"""What the tests of files share: files that are kept, and a scanner led by hand."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from securerecv.access.passwords import HashingPool
from securerecv.access.realm import Avatar
from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.keptfiles import FileRules, KeptFiles
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.sealedboxes import SealedBoxes
from securerecv.interfaces import Download, Upload, Verdict, VerdictKind
from securerecv.vault.blobs import Blobs, open_blobs
from securerecv.vault.filekeys import FileKeys
from securerecv.vault.segments import SEGMENT_BYTES
from securerecv.vault.store import Store
from securerecv.wire.filelines import FileRecord
from securerecv.wire.verbs import Standing
from tests.vaults import NOON_S, PATIENCE_S, HandReactor, Owner, VaultTests

FILE_KEY = b"f" * 32
CONTENT = secrets.token_bytes(2 * SEGMENT_BYTES + 12_345)
SMALL = b"the heron lands at dawn"
ADDRESS = "192.0.2.1"
MAX_FILE = 16 * 1024 * 1024
DAY_S = 24 * 3600

CLEAN = Verdict(VerdictKind.CLEAN, database="v1")
INFECTED = Verdict(VerdictKind.INFECTED, "Some-Signature", database="v1")
HELD = Verdict(VerdictKind.HELD, "the scanner does not answer")
LASTING = Verdict(VerdictKind.HELD, "it is encrypted", "v1", is_lasting=True)


class ClockReactor(HandReactor):
    """Calls back in the thread that waits; its clock, and what is due, by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.clock.rightNow = NOON_S

    def seconds(self) -> float:
        """Tell the time."""
        return float(self.clock.seconds())

    def callLater(
        self, delay_s: float, what: Callable[..., object], *args: Any, **kwargs: Any
    ) -> Any:
        """Call something when it is time."""
        return self.clock.callLater(delay_s, what, *args, **kwargs)


@define
class Scan:
    """
    One scan that was asked for.

    Attributes:
        content: what was to be scanned.
        done: to be fired with the verdict.
    """

    content: bytes
    done: Deferred[Verdict] = field(factory=Deferred)


@define
class HandScanner:
    """
    A scanner whose verdicts the test gives.

    Attributes:
        verdict: what it says at once; None to wait for the test.
        version: of its signatures.
        scans: all that were asked for.
        back: what is to be called when it is back.
    """

    verdict: Verdict | None = CLEAN
    version: str | None = "v1"
    refusal: str = ""
    scans: list[Scan] = field(factory=list)
    back: list[Callable[[], None]] = field(factory=list)

    def scan(self, descriptor: int, size: int) -> Deferred[Verdict]:
        """Look at a file."""
        assert os.fstat(descriptor).st_size == size
        scan = Scan(os.pread(descriptor, size, 0))
        self.scans.append(scan)
        if self.verdict is not None:
            return succeed(self.verdict)
        return scan.done

    def database_version(self) -> Deferred[str | None]:
        """Tell which signatures it has."""
        return succeed(self.version)

    def when_back(self, call: Callable[[], None]) -> None:
        """Remember what is to be called."""
        self.back.append(call)

    def come_back(self) -> None:
        """Answer again."""
        for call in self.back:
            call()


def memory_files() -> set[int]:
    """Find which files this process has open in memory, by their inodes."""
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        # The one that lists them is gone by now.
        with suppress(FileNotFoundError):
            if str(descriptor.readlink()).startswith("/memfd:file"):
                found.add(descriptor.stat().st_ino)
    return found


class FileTests(VaultTests):
    """
    Files of a few owners.

    Attributes:
        alice: has a box.
        bob: the same.
        scanner: led by hand.
        told: what was announced, to whom.
    """

    reactor: ClockReactor

    def setUp(self) -> None:
        """Make boxes, and begin to keep files."""
        super().setUp()
        self.reactor = ClockReactor()
        self.alice = self.add_owner("alice")
        self.bob = self.add_owner("bob")
        self.scanner = HandScanner()
        self.told: list[tuple[str, FileRecord]] = []
        self.rules = FileRules(MAX_FILE, 4 * MAX_FILE, 0, 7 * DAY_S)
        self.store = self.open_store()
        self.files = self.open_files()
        self.addCleanup(self.stop_files)

    def stop_files(self) -> None:
        """Keep files no more."""
        self.files.close()
        self.files.stop()

    def open_files(self, store: Store | None = None) -> KeptFiles:
        """Begin to keep files, as after a start."""
        store = store or self.store
        self.blobs = self.open_blobs()
        mailboxes = Mailboxes(store, HashingPool(self.reactor))
        files = KeptFiles(
            store,
            self.blobs,
            FileKeys(FILE_KEY),
            mailboxes,
            SealedBoxes(store, mailboxes, 5),
            self.scanner,
            lambda to, record: self.told.append((to, record)),
            self.reactor,
            self.rules,
        )
        self.reactor.wait(files.start())
        return files

    def open_blobs(self) -> Blobs:
        """Open the folder of blobs."""
        return open_blobs(self.data)

    def restart(self) -> None:
        """Go on as after a crash: nothing that was in memory is there any more."""
        self.scanner = HandScanner(self.scanner.verdict, self.scanner.version)
        self.files.stop()
        self.files = self.open_files()

    def avatar(self, owner: Owner | None) -> Avatar:
        """Make the avatar of an owner, or of somebody without a name."""
        if owner is None:
            return Avatar(Standing.ANONYMOUS, "anon-abcdefgh23456789")
        return Avatar(Standing.USER, owner.name, mailbox=owner.key)

    def putting(
        self,
        content: bytes,
        *,
        sender: Owner | None = None,
        to: str = "alice",
        name: str = "report.pdf",
        address: str = ADDRESS,
        size: int | None = None,
        sha256: bytes | None = None,
    ) -> Deferred[Upload]:
        """Announce a content; without a sender anonymously."""
        return self.files.put(
            self.avatar(sender),
            address,
            to,
            len(content) if size is None else size,
            hashlib.sha256(content).digest() if sha256 is None else sha256,
            name,
        )

    def put(self, content: bytes, **how: Any) -> Upload:
        """The same, and wait for the upload."""
        return self.reactor.wait(self.putting(content, **how))

    def write(self, upload: Upload, content: bytes, piece: int = 100_000) -> None:
        """Write bytes in pieces, from a buffer that is used again."""
        room = bytearray(piece)
        for at in range(0, len(content), piece):
            part = content[at : at + piece]
            room[: len(part)] = part
            with memoryview(room) as view:
                busy = upload.write(view[: len(part)])
                if busy is not None:
                    self.reactor.wait(busy)
            room[:] = bytes(piece)

    def deliver(self, content: bytes, **how: Any) -> tuple[str, str]:
        """Send a whole file; its id and state are returned."""
        upload = self.put(content, **how)
        self.write(upload, content[upload.offset :])
        return upload.id, self.reactor.wait(upload.finish())

    def lines(self, owner: Owner | None) -> list[str]:
        """List a box."""
        listed = self.files.list(self.avatar(owner), ADDRESS)
        return [line for line, _ in self.reactor.wait(listed).lines]

    def states(self, owner: Owner) -> dict[str, str]:
        """Give the states of the files in a box by their ids."""
        listed = [line.split(" ") for line in self.lines(owner)]
        return {words[1]: words[2] for words in listed if words[0] == "FILE"}

    def getting(
        self, file_id: str, owner: Owner | None, offset: int = 0
    ) -> Deferred[Download]:
        """Ask for a file."""
        return self.files.get(self.avatar(owner), ADDRESS, file_id, offset)

    def fetch(self, file_id: str, owner: Owner) -> bytes:
        """Get the whole content of a file."""
        download = self.reactor.wait(self.getting(file_id, owner))
        content = b""
        while len(content) < download.size:
            piece = download.read(len(content), 300_000)
            content += self.reactor.wait(piece)
        download.close()
        self.assertEqual(hashlib.sha256(content).hexdigest(), download.sha256)
        return content

    def drop(self, file_id: str, owner: Owner | None) -> None:
        """Drop a file."""
        self.reactor.wait(self.files.drop(self.avatar(owner), file_id))

    def check(self) -> None:
        """Let old files go."""
        self.reactor.wait(self.files.check())

    def assert_refused(self, done: Deferred[Any], code: ErrorCode) -> PeerError:
        """See that something is refused; give the error."""
        error: PeerError = self.assertRaises(PeerError, self.reactor.wait, done)
        self.assertIs(error.code, code, error.words)
        return error

    def settle(self) -> None:
        """Wait until everything that was begun in threads is done."""
        for _ in range(10):
            self.reactor.wait(self.store.write(lambda _: None))
            self.reactor.wait(self.files._run(lambda: None))

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                self.fail("it did not come to that")
            self.settle()

    def blob_ids(self) -> set[str]:
        """Give the ids of what lies in the folder."""
        return {file_id.hex() for file_id in self.blobs.ids()}

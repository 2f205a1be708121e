"""What lies on the disk of files, and what can be made of it without a password."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import StorageError
from securerecv.interfaces import Upload, Verdict
from securerecv.vault import files
from securerecv.vault.filekeys import FileKeys, open_as_owner
from securerecv.vault.files import StoredFile
from securerecv.vault.mailboxkeys import MailboxPrivateKey
from securerecv.vault.segments import SALT_BYTES, SEALED_SEGMENT_BYTES, SEGMENT_BYTES
from tests.filekeeping import CLEAN, FILE_KEY, HELD, INFECTED, FileTests
from tests.test_at_rest import found
from tests.vaults import NAME_KEY, OnSqlite, contents_of

NAME = "ledger-of-the-north-tower-qx77.pdf"
SIGNATURE = "Some-Signature"
PATTERN = b"the heron lands at dawn, bring the ledger; "
RANDOM = secrets.token_bytes(SEGMENT_BYTES)
CONTENT = PATTERN * 40_000 + RANDOM
PATIENCE_S = 10.0


class DiskTests(OnSqlite, FileTests, SynchronousTestCase):
    """The data folder and the temporary folder while files come and go."""

    def setUp(self) -> None:
        """Have temporary files, if there were any, in a place that is known."""
        super().setUp()
        self.temporary = Path(self.mktemp()).absolute()
        self.temporary.mkdir()
        before = os.environ.get("TMPDIR", "")
        os.environ["TMPDIR"] = str(self.temporary)
        self.addCleanup(os.environ.__setitem__, "TMPDIR", before)
        self.patch(tempfile, "tempdir", None)
        self.scanner.verdict = None

    def on_disk(self) -> dict[str, bytes]:
        """Give all files that there are, by their paths."""
        temporary = [path for path in self.temporary.rglob("*") if path.is_file()]
        there = {str(path): path.read_bytes() for path in temporary}
        return contents_of(self.data) | there

    def assert_nothing(self, moment: str, key: bytes = b"") -> None:
        """See that nothing is on the disk that must not be."""
        there = self.on_disk()
        self.assertIn("store.sqlite3", there)
        needles = {
            "content": PATTERN,
            "random content": RANDOM[1000:1032],
            "end": RANDOM[-32:],
            "name": NAME.encode(),
            "signature": SIGNATURE.encode(),
        }
        if key:
            needles["key"] = key
        self.assertEqual(found(there, needles), set(), moment)
        self.assertFalse(any(NAME in path for path in there))

    def wait_for_scan(self, count: int) -> None:
        """Wait until so many scans were asked for."""
        self.until(lambda: len(self.scanner.scans) == count)

    def stored(self, upload: Upload) -> StoredFile:
        """Read the row of a file."""
        file_id = bytes.fromhex(upload.id)
        stored = self.reactor.wait(self.store.query(files.load, file_id))
        if stored is None:
            self.fail("it is gone")
        return stored

    def key_of(self, stored: StoredFile) -> bytes:
        """Open a file's key as the server does, before the scan."""
        sealed = stored.sealed_for_server or b""
        return FileKeys(FILE_KEY).open(stored.id, stored.lookup, sealed).key

    def test_received_and_scanned(self) -> None:
        """Nothing is in clear at any moment, whatever becomes of the file."""
        for verdict in (CLEAN, INFECTED, HELD):
            name = f"{verdict.kind.value}-{NAME}"
            upload = self.put(CONTENT, sender=self.bob, name=name)
            key = self.key_of(self.stored(upload))
            self.assert_nothing("when it is announced", key)
            self.write(upload, CONTENT[: 2 * SEGMENT_BYTES])
            self.settle()
            self.assert_nothing("while it is received", key)
            self.write(upload, CONTENT[2 * SEGMENT_BYTES :])
            scans = len(self.scanner.scans)
            finished = upload.finish()
            self.wait_for_scan(scans + 1)
            self.assertEqual(self.scanner.scans[-1].content, CONTENT)
            self.assert_nothing("while it is scanned", key)
            self.scanner.scans[-1].done.callback(verdict)
            self.assertEqual(self.reactor.wait(finished), verdict.kind.value)
            self.assert_nothing("when it was scanned", key)
        self.lines(self.alice)
        self.assert_nothing("when it was listed")

    # -- what the server forgets ------------------------------------------------

    def sealed_and_settled(self, verdict: Verdict) -> tuple[StoredFile, bytes, bytes]:
        """
        Have a file scanned.

        Returns:
            Its row from before, its key, and its first segment.
        """
        upload = self.put(CONTENT, sender=self.bob, name=NAME)
        self.write(upload, CONTENT)
        finished = upload.finish()
        self.wait_for_scan(1)
        before = self.stored(upload)
        blob = (self.data / "files" / upload.id).read_bytes()
        self.scanner.scans[-1].done.callback(verdict)
        self.reactor.wait(finished)
        return before, self.key_of(before), blob[:SEALED_SEGMENT_BYTES]

    def parts(self, stored: StoredFile) -> list[bytes]:
        """Give parts of what is sealed to the server."""
        sealed = stored.sealed_for_server or b""
        return [sealed[:32], sealed[len(sealed) // 2 :][:32], sealed[-32:]]

    def holds(self, parts: list[bytes]) -> bool:
        """Tell whether any of some bytes are on the disk."""
        there = self.on_disk().values()
        return any(part in content for part in parts for content in there)

    def assert_forgotten(self, stored: StoredFile) -> None:
        """See that what is sealed to the server is soon gone from the disk."""
        deadline = time.monotonic() + PATIENCE_S
        while self.holds(self.parts(stored)):
            if time.monotonic() > deadline:
                self.fail("what the server could open is still there")
            time.sleep(0.1)

    def candidates(self) -> Iterator[bytes]:
        """Give every 32 bytes of the folder, and the server's own keys."""
        yield FILE_KEY
        yield NAME_KEY
        for path, content in self.on_disk().items():
            if not path.startswith("files/"):
                stripped = content.replace(bytes(32), b"")
                for at in range(len(stripped) - 31):
                    yield stripped[at : at + 32]

    def opens(self, key: bytes, stored: StoredFile, segment: bytes) -> bool:
        """Try bytes as the file's key."""
        try:
            nonce = segment[:SALT_BYTES] + bytes(5)
            AESGCM(key).decrypt(nonce, segment[SALT_BYTES:], stored.id)
        except InvalidTag:
            return False
        return True

    def test_infected(self) -> None:
        """An infected file is destroyed: what was copied of it does not open."""
        stored, key, segment = self.sealed_and_settled(INFECTED)
        self.assertTrue(self.opens(key, stored, segment))
        self.assert_forgotten(stored)
        self.assertEqual(self.blob_ids(), set())
        tried = 0
        # Another that is sealed under the same key is quicker to try.
        small = bytes(SALT_BYTES) + AESGCM(key).encrypt(bytes(12), b"x", stored.id)
        self.assertTrue(self.opens(key, stored, small))
        for candidate in self.candidates():
            self.assertFalse(self.opens(candidate, stored, small))
            tried += 1
        self.assertGreater(tried, 5000)

    def test_clean(self) -> None:
        """A clean file is its owner's: the server cannot open it any more."""
        stored, key, segment = self.sealed_and_settled(CLEAN)
        self.assertTrue(self.opens(key, stored, segment))
        self.assert_forgotten(stored)
        after = self.reactor.wait(self.store.query(files.load, stored.id))
        if after is None or after.sealed_for_owner is None:
            self.fail("it is gone")
        self.assertIsNone(after.sealed_for_server)
        sealed = after.sealed_for_owner
        for raw in (FILE_KEY * 3, NAME_KEY * 3, self.bob.key.raw):
            self.assertRaises(
                StorageError,
                open_as_owner,
                MailboxPrivateKey(raw),
                stored.id,
                stored.lookup,
                sealed,
            )
        opened = open_as_owner(self.alice.key, stored.id, stored.lookup, sealed)
        self.assertEqual((opened.key, opened.name), (key, NAME))

    def test_dropped(self) -> None:
        """Of a file that is dropped nothing is left to be opened."""
        stored, _, _ = self.sealed_and_settled(HELD)
        held = self.reactor.wait(self.store.query(files.load, stored.id))
        if held is None:
            self.fail("it is gone")
        self.assertTrue(self.holds(self.parts(held)))
        self.drop(stored.id.hex(), self.alice)
        self.assert_forgotten(held)
        self.assertEqual(self.blob_ids(), set())

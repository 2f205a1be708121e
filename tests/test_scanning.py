"""What a real clamd says of files, and what is made of it and of wrong answers."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator

from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ScannerError
from securerecv.interfaces import Verdict, VerdictKind
from securerecv.scanning import proofs
from securerecv.scanning.contact import Contact
from securerecv.scanning.place import Place, place_of
from securerecv.scanning.proofs import EICAR
from securerecv.scanning.verdicts import MEMBER_TOO_LARGE, judge
from tests.clamd import Clamd, add_signature, clamd, descriptor_of, free_port

MIB = 1 << 20
NAME = "Eicar-Test-Signature.UNOFFICIAL"


def zip_of(*members: bytes) -> bytes:
    """Make a compressed ZIP file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"member-{number}", member)
    return file.getvalue()


def tar_gz_of(member: bytes) -> bytes:
    """Make a compressed tar file."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        entry = tarfile.TarInfo("member")
        entry.size = len(member)
        archive.addfile(entry, io.BytesIO(member))
    return file.getvalue()


def pdf_of(stream: bytes) -> bytes:
    """Make a PDF file that has another file embedded, compressed."""
    packed = zlib.compress(stream)
    parts = [
        b"<< /Type /Catalog /Names << /EmbeddedFiles << /Names [(a) 4 0 R] >> >> >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] >>",
        b"<< /Type /Filespec /F (a) /EF << /F 5 0 R >> >>",
        b"<< /Type /EmbeddedFile /Filter /FlateDecode /Length %d >>\nstream\n"
        % len(packed)
        + packed
        + b"\nendstream",
    ]
    text = b"%PDF-1.7\n"
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(text))
        text += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return text + (
        b"xref\n0 6\n0000000000 65535 f \n%strailer << /Size 6 /Root 1 0 R >>\n"
        b"startxref\n%d\n%%%%EOF\n" % (table, len(text))
    )


def scan(place: Place, content: bytes, max_file: int = 100 * MIB) -> Verdict:
    """Have bytes looked at."""
    descriptor = descriptor_of(content)
    try:
        return Contact(place, max_file).scan(descriptor, len(content))
    finally:
        os.close(descriptor)


class VerdictTests(SynchronousTestCase):
    """The table of answers."""

    def test_clean_and_infected(self) -> None:
        """Only an explicit OK is clean; what is found is infected, by its name."""
        for answer in ("fd[9]: OK", "stream: OK", "instream(127.0.0.1@5): OK"):
            self.assertEqual(judge(answer), Verdict(VerdictKind.CLEAN), answer)
        for name in ("Win.Trojan.A-1", "Eicar(44d8:68)", "Heuristics.Phishing.Email"):
            verdict = judge(f"stream: {name} FOUND")
            self.assertEqual(verdict, Verdict(VerdictKind.INFECTED, name))

    def test_held_for_good(self) -> None:
        """What could not be looked into is held, and would be each time."""
        for name in (
            "Heuristics.Limits.Exceeded.MaxScanSize",
            "Heuristics.Limits.Exceeded",
            "Heuristics.Encrypted.Zip",
            "Heuristics.Encrypted.PDF",
            f"{MEMBER_TOO_LARGE}.UNOFFICIAL",
        ):
            verdict = judge(f"fd[10]: {name} FOUND")
            self.assertIs(verdict.kind, VerdictKind.HELD, name)
            self.assertTrue(verdict.is_lasting)
            self.assertTrue(verdict.words)

    def test_held(self) -> None:
        """Everything else is held, with words, and may go well another time."""
        for answer in (
            "",
            "OK",
            "stream:OK",
            "stream: OK ",
            " stream: OK",
            "stream: ok",
            "stream: OK FOUND too",
            "stream:  FOUND",
            "xstream: OK",
            "fd[]: OK",
            "stream: OK\nstream: Eicar FOUND",
            "stream: Can't write to file ERROR",
            "stream: Can't allocate memory ERROR",
            "stream: OK ERROR",
            "INSTREAM size limit exceeded. ERROR",
            "UNKNOWN COMMAND",
            "COMMAND READ TIMED OUT",
            "\ufffd\ufffd",
        ):
            verdict = judge(answer)
            self.assertIs(verdict.kind, VerdictKind.HELD, answer)
            self.assertFalse(verdict.is_lasting, answer)
            self.assertTrue(verdict.words, answer)

    def test_name_is_one_line(self) -> None:
        """A signature's name that is meant to do something is only shown."""
        verdict = judge("stream: a\x1b[2J\u202eb" + "c" * 5000 + " FOUND")
        self.assertTrue(verdict.words.isprintable())
        self.assertLess(len(verdict.words), 300)


class RealTests(SynchronousTestCase):
    """Files in front of a clamd that is set up well."""

    def verdict(self, content: bytes) -> tuple[VerdictKind, str]:
        """Have bytes looked at."""
        found = scan(clamd().place, content)
        return found.kind, found.words

    def test_clean(self) -> None:
        """What has nothing in it is clean: nothing, text, noise, archives."""
        for content in (
            b"",
            b"hello",
            os.urandom(3 * MIB),
            zip_of(b"hello", os.urandom(MIB)),
            tar_gz_of(b"hello"),
            pdf_of(b"hello"),
        ):
            self.assertEqual(self.verdict(content), (VerdictKind.CLEAN, ""))

    def test_eicar(self) -> None:
        """The test string is found alone, and however it is wrapped up."""
        for content in (
            EICAR,
            zip_of(b"hello", EICAR),
            zip_of(zip_of(zip_of(EICAR))),
            tar_gz_of(EICAR),
            pdf_of(EICAR),
        ):
            self.assertEqual(self.verdict(content), (VerdictKind.INFECTED, NAME))

    def test_cannot_be_looked_into(self) -> None:
        """What is encrypted or nested too deep is held."""
        for content, word in (
            (proofs.encrypted(), "encrypted"),
            (proofs.nested(), "limit"),
        ):
            kind, words = self.verdict(content)
            self.assertIs(kind, VerdictKind.HELD)
            self.assertIn(word, words)

    def test_position(self) -> None:
        """The descriptor's position is neither used nor moved."""
        descriptor = descriptor_of(EICAR)
        self.addCleanup(os.close, descriptor)
        os.lseek(descriptor, 30, os.SEEK_SET)
        contact = Contact(clamd().place, MIB)
        for _ in range(2):
            verdict = contact.scan(descriptor, len(EICAR))
            self.assertIs(verdict.kind, VerdictKind.INFECTED)
            self.assertEqual(os.lseek(descriptor, 0, os.SEEK_CUR), 30)

    def test_other_size(self) -> None:
        """A file that is not as long as it should be is not looked at."""
        descriptor = descriptor_of(b"hello")
        self.addCleanup(os.close, descriptor)
        contact = Contact(clamd().place, MIB)
        self.assertRaises(ScannerError, contact.scan, descriptor, 6)


class LimitTests(SynchronousTestCase):
    """A clamd with small limits, which says so when they are reached, or not."""

    def start(self, *options: str) -> Clamd:
        """Start one."""
        started = Clamd("MaxFileSize 1M", "MaxScanSize 3M", *options)
        self.addCleanup(started.remove)
        return started

    def test_over_limits(self) -> None:
        """Over a limit is held: the file's size, its content's, their number."""
        own = self.start("MaxFiles 100")
        for content in (
            bytes(MIB + 1),
            zip_of(*[bytes([n]) + bytes(MIB - 100) for n in range(8)]),
            zip_of(*[b"%d" % number for number in range(200)]),
        ):
            verdict = scan(own.place, content)
            self.assertIs(verdict.kind, VerdictKind.HELD)
            self.assertIn("limit", verdict.words)
        self.assertIs(scan(own.place, bytes(MIB)).kind, VerdictKind.CLEAN)

    def test_keeps_quiet_about_limits(self) -> None:
        """Where OK may mean "not looked at", it counts up to a proven size only."""
        own = self.start("AlertExceedsMax no")
        contact = Contact(own.place, 100 * MIB)
        report = contact.look()
        self.assertFalse(report.reports_limits)
        self.assertTrue(report.reports_encrypted)
        self.assertLessEqual(report.believed_bytes, MIB)
        self.assertGreater(report.believed_bytes, MIB // 2)
        for size, kind in ((MIB // 2, VerdictKind.CLEAN), (2 * MIB, VerdictKind.HELD)):
            self.assertIs(scan(own.place, bytes(size)).kind, kind)
        self.assertIs(scan(own.place, EICAR).kind, VerdictKind.INFECTED)
        self.assertIs(scan(own.place, EICAR, 16).kind, VerdictKind.INFECTED)

    def test_lowered(self) -> None:
        """A file from before --max-file was lowered still gets its verdict."""
        self.assertIs(scan(clamd().place, bytes(MIB), 10).kind, VerdictKind.CLEAN)

    def test_knows_nothing(self) -> None:
        """One that keeps quiet and does not know the test string clears nothing."""
        own = self.start("AlertExceedsMax no", "AlertEncrypted no")
        (own.signatures / "test.ndb").write_text(f"Other:0:0:{b'other'.hex()}\n")
        own.reload()
        report = Contact(own.place, MIB).look()
        self.assertEqual(report.believed_bytes, 0)
        self.assertFalse(report.reports_encrypted)
        verdict = scan(own.place, b"hello")
        self.assertIs(verdict.kind, VerdictKind.HELD)

    def test_stream(self) -> None:
        """Over TCP too, and its own limit is told from a lost connection."""
        port = free_port()
        own = self.start("StreamMaxLength 1M", f"TCPSocket {port}", "TCPAddr 127.0.0.1")
        place = Place(host="127.0.0.1", port=port)
        self.assertIs(scan(place, EICAR).kind, VerdictKind.INFECTED)
        self.assertIs(scan(place, zip_of(b"", EICAR)).kind, VerdictKind.INFECTED)
        self.assertIs(scan(place, os.urandom(MIB - 1)).kind, VerdictKind.CLEAN)
        self.assertIs(scan(place, b"").kind, VerdictKind.CLEAN)
        verdict = scan(place, bytes(MIB + 1))
        self.assertIs(verdict.kind, VerdictKind.HELD)
        self.assertIn("larger", verdict.words)
        own.stop()
        self.assertRaises(ScannerError, scan, place, EICAR)


class ChangeTests(SynchronousTestCase):
    """A clamd that is changed or ended while it is used."""

    def setUp(self) -> None:
        """Start one."""
        self.own = Clamd()
        self.addCleanup(self.own.remove)
        self.contact = Contact(self.own.place, 100 * MIB)

    def kind(self, content: bytes) -> VerdictKind:
        """Have bytes looked at."""
        descriptor = descriptor_of(content)
        try:
            return self.contact.scan(descriptor, len(content)).kind
        finally:
            os.close(descriptor)

    def test_reload(self) -> None:
        """New signatures count as soon as they are loaded, and none is lost then."""
        self.assertIs(self.kind(b"a new worm"), VerdictKind.CLEAN)
        add_signature(self.own.signatures, "Worm", b"a new worm")
        kinds: list[VerdictKind] = []

        def look() -> None:
            kinds.extend(self.kind(os.urandom(MIB)) for _ in range(30))

        looking = threading.Thread(target=look)
        looking.start()
        self.own.reload()
        looking.join()
        self.assertEqual(kinds, [VerdictKind.CLEAN] * 30)
        self.assertIs(self.kind(b"a new worm"), VerdictKind.INFECTED)

    def test_stopped_before(self) -> None:
        """Without a clamd there is no verdict, and with the next one there is."""
        self.assertIs(self.kind(b"hello"), VerdictKind.CLEAN)
        self.own.stop()
        self.assertRaises(ScannerError, self.kind, b"hello")
        self.own.start()
        self.assertIs(self.kind(b"hello"), VerdictKind.CLEAN)

    def test_stopped_during(self) -> None:
        """Ended in the middle of a scan there is no verdict."""
        self.contact.look()
        ending = threading.Timer(0.2, self.own.stop)
        ending.start()
        self.addCleanup(ending.join)
        self.assertRaises(ScannerError, self.kind, os.urandom(100 * MIB))

    def test_aborted(self) -> None:
        """What is under way when the server stops is ended."""
        self.contact.look()
        ending = threading.Timer(0.2, self.contact.close)
        ending.start()
        self.addCleanup(ending.join)
        error = self.assertRaises(ScannerError, self.kind, os.urandom(100 * MIB))
        self.assertIn("stopping", str(error))
        self.assertRaises(ScannerError, self.contact.look)


class WrongTests(SynchronousTestCase):
    """Something that answers like clamd, up to a point."""

    @contextlib.contextmanager
    def saying(
        self, answer: Callable[[socket.socket, bytes], None]
    ) -> Iterator[Contact]:
        """Serve; `answer` is given the connection and the first bytes that came."""
        path = self.mktemp()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        answer(connection, connection.recv(100, socket.MSG_PEEK))

        serving = threading.Thread(target=serve)
        serving.start()
        try:
            yield Contact(Place(path=path), MIB, None, 0.5, 0.5)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            serving.join()
            listener.close()

    def words(self, answer: Callable[[socket.socket, bytes], None]) -> str:
        """Be asked for a verdict; the words of there being none."""

        def all_answers(connection: socket.socket, asked: bytes) -> None:
            if not asked.startswith(b"nFILDES"):
                connection.recv(100)
            if asked.startswith(b"nPING"):
                connection.sendall(b"PONG\n")
            elif asked.startswith(b"nVERSION"):
                connection.sendall(b"ClamAV 1.4.6/27000/then\n")
            else:
                descriptors: list[int] = []
                while not descriptors:
                    _, descriptors, *_ = socket.recv_fds(connection, 100, 4)
                size = os.fstat(descriptors[0]).st_size
                for descriptor in descriptors:
                    os.close(descriptor)
                if size == 5:
                    answer(connection, asked)
                else:
                    connection.sendall(
                        b"fd[1]: Heuristics.Limits.Exceeded.MaxRecursion FOUND\n"
                    )

        with self.saying(all_answers) as contact:
            descriptor = descriptor_of(b"hello")
            try:
                verdict = contact.scan(descriptor, 5)
            except ScannerError as error:
                return str(error)
            finally:
                os.close(descriptor)
        self.assertIsNot(verdict.kind, VerdictKind.INFECTED)
        return verdict.words if verdict.kind is VerdictKind.HELD else "clean"

    def test_right_answer(self) -> None:
        """What follows is told from an answer that is right."""

        def in_pieces(connection: socket.socket, _: bytes) -> None:
            for piece in (b"fd[", b"10]: O", b"K\n"):
                connection.sendall(piece)

        self.assertEqual(self.words(in_pieces), "clean")

    def test_wrong_answers(self) -> None:
        """Cut off, empty, too much, too long, nonsense: none of it is clean."""
        for said, word in (
            (b"", "without an answer"),
            (b"fd[10]: OK", "whole line"),
            (b"fd[10]: O", "whole line"),
            (b"fd[10]: OK\0", "whole line"),
            (b"fd[10]: OK\nfd[10]: Eicar FOUND\n", "whole line"),
            (b"fd[10]: OK\n\n", "whole line"),
            (b"\n", "no sense"),
            (b"\xff\xfe: OK\n", "no sense"),
            (b"fd[10]: failed ERROR\n", "failed"),
            (b"UNKNOWN COMMAND\n", "too old"),
            (b"x" * 100_000, "endless"),
        ):

            def say(connection: socket.socket, _: bytes, said: bytes = said) -> None:
                connection.sendall(said)

            self.assertIn(word, self.words(say), said)

    def test_time_out(self) -> None:
        """One that says nothing, or a letter now and then, is not waited for."""
        done = threading.Event()

        def nothing(_connection: socket.socket, _: bytes) -> None:
            done.wait(2)

        def slowly(connection: socket.socket, _: bytes) -> None:
            while not done.wait(0.1):
                connection.sendall(b"f")

        for answer in (nothing, slowly):
            self.assertIn("too long", self.words(answer))

    def test_other_program(self) -> None:
        """What does not answer PING as clamd does is never sent a file."""
        asked: list[bytes] = []

        def say(connection: socket.socket, question: bytes) -> None:
            asked.append(question)
            connection.recv(100)
            connection.sendall(b"220 mail ESMTP\n")

        with self.saying(say) as contact:
            self.assertRaises(ScannerError, contact.look)
        self.assertEqual(asked, [b"nPING\n"])

    def test_places(self) -> None:
        """A place is read from the setting."""
        self.assertEqual(place_of("unix:/a b:c"), Place(path="/a b:c"))
        self.assertEqual(place_of("tcp:[::1]:3310"), Place(host="::1", port=3310))
        self.assertEqual(str(place_of("tcp:scan:3310")), "tcp:scan:3310")
        self.assertIsNone(place_of("auto"))

"""Files within a conversation, over a pipe in memory and with a clock of the tests."""

from __future__ import annotations

import hashlib

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from securerecv import limits
from securerecv.errors import StorageError
from securerecv.net.transfers import PIECE_BYTES
from securerecv.wire.filelines import FileRecord, FileState
from tests.memoryfiles import MemoryFiles
from tests.test_conversation import TOTAL, House, Peer

ID = "0000000000000001"
HELLO = b"hello\r\nQUIT\n"


def put_line(content: bytes, to: str = "alice", name: str = "a b.txt") -> bytes:
    """Give the request that announces a file."""
    digest = hashlib.sha256(content).hexdigest()
    return f"PUT {to} {len(content)} {digest} {name}\n".encode()


class HouseTestCase(SynchronousTestCase):
    """What the cases here have in common."""

    def setUp(self) -> None:
        """Let bob come in."""
        self.house = House()
        self.files: MemoryFiles = self.house.files
        self.peer = self.house.enter_as("bob")

    def assert_nothing_left(self, peer: Peer) -> None:
        """A conversation that is over holds nothing of this one."""
        if not peer.is_aborted:
            peer.conversation.over()
        self.assertEqual(self.house.clock.getDelayedCalls(), [])
        self.assertEqual(self.house.budget.left, TOTAL)
        self.assertTrue(all(upload.is_over for upload in self.files.uploads))
        self.assertTrue(all(download.is_closed for download in self.files.downloads))


class UploadTests(HouseTestCase):
    """Files that come in."""

    def test_put(self) -> None:
        """A file is asked for, taken, and answered with what became of it."""
        self.assertEqual(self.peer.ask(put_line(HELLO)), f"+OK go {ID} 0\n")
        self.assertEqual(self.peer.ask(HELLO[:3]), "")
        self.assertEqual(
            self.peer.ask(HELLO[3:] + b"PING\n"),
            f"+OK received {ID} clean\n+OK pong\n",
        )
        self.assertEqual(bytes(self.files.kept[ID].content), HELLO)
        self.assertEqual(self.files.kept[ID].record.name, "a b.txt")
        self.assert_nothing_left(self.peer)

    def test_in_one_go(self) -> None:
        """Content may come together with its line, and the next file behind it."""
        self.peer.say(b"#1 " + put_line(HELLO) + HELLO + b"#2 " + put_line(b"") + b"\n")
        self.assertEqual(
            self.peer.hear(),
            f"#1 +OK go {ID} 0\n#1 +OK received {ID} clean\n"
            "#2 +OK go 0000000000000002 0\n#2 +OK received 0000000000000002 clean\n",
        )
        self.assert_nothing_left(self.peer)

    def test_backpressure(self) -> None:
        """While a write is under way nothing is read, and nobody is late."""
        self.files.is_slow = True
        self.peer.ask(put_line(HELLO))
        self.peer.say(HELLO[:3])
        self.assertFalse(self.peer.is_reading)
        self.house.clock.advance(10 * limits.REQUEST_TIMEOUT_S)
        self.peer.say(HELLO[3:])
        self.assertEqual(self.files.uploads[0].writes, [3])
        self.files.go_on()
        self.assertEqual(self.files.uploads[0].writes, [3, len(HELLO) - 3])
        self.assertEqual(self.peer.hear(), "")
        self.files.go_on()
        self.assertEqual(self.peer.hear(), f"+OK received {ID} clean\n")
        self.assertTrue(self.peer.is_reading)
        self.assert_nothing_left(self.peer)

    def test_mismatch(self) -> None:
        """Content that is not what was announced is refused; the talk goes on."""
        self.peer.ask(put_line(HELLO))
        heard = self.peer.ask(HELLO[::-1] + b"PING\n")
        self.assertRegex(heard, r"\A-ERR mismatch [^\n]+\n\+OK pong\n\Z")
        self.assertEqual(self.files.kept, {})

    def test_fails(self) -> None:
        """What fails at the end has its number, and the talk goes on."""
        self.files.failure = StorageError("no")
        self.peer.ask(put_line(HELLO))
        heard = self.peer.ask(HELLO + b"PING\n")
        self.assertRegex(heard, r"\A-ERR internal [^\n]+\n\+OK pong\n\Z")
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assert_nothing_left(self.peer)

    def test_refused(self) -> None:
        """A file that is not wanted is not sent; what follows are requests."""
        heard = self.peer.ask(put_line(HELLO, to="nobody") + b"PING\n")
        self.assertRegex(heard, r"\A-ERR no-mailbox [^\n]+\n\+OK pong\n\Z")

    def test_resume(self) -> None:
        """An upload that was cut off anywhere goes on where it stopped."""
        for at in range(len(HELLO) + 1):
            name = f"cut at {at}"
            self.peer.ask(put_line(HELLO, name=name))
            self.peer.say(HELLO[:at])
            if at == len(HELLO):
                break
            self.peer.conversation.over()
            self.peer = self.house.enter_as("bob")
            number = f"{at + 1:016x}"
            self.assertEqual(
                self.peer.ask(put_line(HELLO, name=name)), f"+OK go {number} {at}\n"
            )
            self.assertEqual(
                self.peer.ask(HELLO[at:]), f"+OK received {number} clean\n"
            )
        self.assert_nothing_left(self.peer)

    def test_complete_already(self) -> None:
        """A file that is there needs no bytes, and is answered as before."""
        self.peer.ask(put_line(HELLO) + HELLO)
        self.assertEqual(
            self.peer.ask(put_line(HELLO) + b"PING\n"),
            f"+OK go {ID} {len(HELLO)}\n+OK received {ID} clean\n+OK pong\n",
        )

    def test_lost_while_writing(self) -> None:
        """What is lost amid a write is abandoned, and the write may end later."""
        self.files.is_slow = True
        self.peer.ask(put_line(HELLO))
        self.peer.say(HELLO)
        self.peer.conversation.over()
        self.assertTrue(self.files.uploads[0].is_over)
        self.files.go_on()
        self.assertEqual(self.peer.hear(), "")
        self.assert_nothing_left(self.peer)

    def test_silent(self) -> None:
        """Who stops sending is told so and left, and the upload is let go."""
        self.peer.ask(put_line(HELLO))
        self.peer.say(HELLO[:3])
        self.house.clock.advance(limits.REQUEST_TIMEOUT_S - 1)
        self.assertFalse(self.files.uploads[0].is_over)
        self.house.clock.advance(1)
        self.assertTrue(self.peer.hear().startswith("-ERR timeout "))
        self.assertTrue(self.peer.is_closed)
        self.assertTrue(self.files.uploads[0].is_over)
        self.assert_nothing_left(self.peer)

    def test_server_stops(self) -> None:
        """A server that stops says so, and keeps what came."""
        self.peer.ask(put_line(HELLO))
        self.peer.say(HELLO[:3])
        self.peer.conversation.dismiss("good night")
        self.assertEqual(self.peer.hear(), "! CLOSING good night\n")
        self.assertTrue(self.peer.is_closed)
        self.assertTrue(self.files.uploads[0].is_over)
        self.assertEqual(bytes(self.files.kept[ID].content), HELLO[:3])

    def test_over_before_it_begins(self) -> None:
        """An upload that begins when the conversation is over is let go."""
        self.peer.conversation.over()
        for end in (lambda c: c.dismiss("good night"), lambda c: c.over()):
            peer = self.house.enter_as("bob")
            self.files.beginning = Deferred()
            peer.ask(put_line(HELLO))
            end(peer.conversation)
            self.files.beginning.callback(None)
            self.assertTrue(self.files.uploads[-1].is_over)
            self.assertIsNone(peer.session.next_event())
            self.assert_nothing_left(peer)

    def test_told_meanwhile(self) -> None:
        """Who sends a file is told meanwhile what comes in."""
        self.peer.ask("WATCH\n")
        self.peer.ask(put_line(HELLO, to="bob"))
        self.peer.say(HELLO[:3])
        record = FileRecord(ID, FileState.HELD, 0, "0" * 64, "anon", 0, "x", "no clamd")
        self.house.announcer.announce("bob", record)
        heard = self.peer.ask(HELLO[3:])
        self.assertEqual(
            heard,
            f"! FILE {ID} held 0 {'0' * 64} anon 1970-01-01T00:00:00.000Z x\n"
            f"! WHY {ID} no clamd\n+OK received {ID} clean\n",
        )


class DownloadTests(HouseTestCase):
    """Files that go out."""

    def setUp(self) -> None:
        """Have a file, of a few pieces."""
        super().setUp()
        self.content = bytes(range(256)) * (3 * PIECE_BYTES // 256) + b"end"
        self.number = self.files.add("bob", self.content, "big one")
        digest = hashlib.sha256(self.content).hexdigest()
        self.line = f"+OK {len(self.content)} {digest} big one\n".encode()

    def hear(self) -> bytes:
        """Read once what the server has sent."""
        heard = self.peer.heard
        self.peer.heard = b""
        if self.peer._is_full:
            self.peer._is_full = False
            self.peer.conversation.peer_reads()
        return heard

    def test_get(self) -> None:
        """A file follows its line, all of it, and then the talk goes on."""
        self.peer.say(f"GET {self.number}\nPING\n")
        self.assertEqual(self.hear(), self.line + self.content + b"+OK pong\n")
        self.assert_nothing_left(self.peer)

    def test_offset(self) -> None:
        """From any offset on the rest follows, also if that is nothing."""
        size = len(self.content)
        for offset in (0, 1, PIECE_BYTES - 1, PIECE_BYTES, size - 1, size):
            self.peer.say(f"GET {self.number} {offset}\n")
            self.assertEqual(self.hear(), self.line + self.content[offset:])
        self.assertTrue(self.peer.ask(f"GET {self.number} {size + 1}\n")[:10], "-ERR")
        reads = self.files.downloads[2].reads
        self.assertEqual(reads[:2], [(PIECE_BYTES - 1, 1), (PIECE_BYTES, PIECE_BYTES)])
        self.assert_nothing_left(self.peer)

    def test_slow_reader(self) -> None:
        """At most two pieces are in memory for a peer that does not read."""
        self.peer.capacity = 1000
        self.peer.say(f"GET {self.number}\n")
        heard = b""
        for _ in range(3):
            self.assertLessEqual(len(self.peer.heard), PIECE_BYTES + len(self.line))
            read = sum(size for _, size in self.files.downloads[0].reads)
            self.assertLessEqual(read - len(heard), 2 * PIECE_BYTES)
            heard += self.hear()
        heard += self.hear()
        self.assertEqual(heard, self.line + self.content)
        self.assert_nothing_left(self.peer)

    def test_unread_too_long(self) -> None:
        """Who does not read at all is cut off, and the file is let go."""
        self.peer.capacity = 1000
        self.peer.say(f"GET {self.number}\n")
        allowed_s = limits.UNREAD_TIMEOUT_S
        allowed_s += PIECE_BYTES / limits.MIN_PAYLOAD_BYTES_PER_S
        self.house.clock.advance(allowed_s - 1)
        self.assertFalse(self.peer.is_aborted)
        self.house.clock.advance(2)
        self.assertTrue(self.peer.is_aborted)
        self.assert_nothing_left(self.peer)

    def test_long_download(self) -> None:
        """Who has spent hours with a file is not taken for idle behind it."""
        self.peer.capacity = 1000
        self.peer.say(f"GET {self.number}\n")
        piece_s = PIECE_BYTES / limits.MIN_PAYLOAD_BYTES_PER_S
        for _ in range(3):
            self.house.clock.advance(limits.UNREAD_TIMEOUT_S + piece_s - 1)
            self.hear()
        self.house.clock.advance(limits.IDLE_TIMEOUT_S - 1)
        self.assertFalse(self.peer.is_closed)
        self.house.clock.advance(1)
        self.assertTrue(self.peer.is_closed)

    def test_lost_while_reading(self) -> None:
        """What is lost amid a read is closed, and the read may end later."""
        self.files.is_slow = True
        self.peer.say(f"GET {self.number}\n")
        self.assertEqual(self.hear(), self.line)
        self.peer.conversation.over()
        self.files.go_on()
        self.assertEqual(self.hear(), b"")
        self.assert_nothing_left(self.peer)

    def test_over_before_it_begins(self) -> None:
        """A download that begins when the conversation is over is refused."""
        self.peer.conversation.over()
        for end in (lambda c: c.dismiss("good night"), lambda c: c.over()):
            peer = self.house.enter_as("bob")
            self.files.beginning = Deferred()
            peer.say(f"GET {self.number}\n")
            end(peer.conversation)
            self.files.beginning.callback(None)
            self.assertTrue(self.files.downloads[-1].is_closed)
            self.assertNotIn(b"+OK", peer.heard)
            self.assert_nothing_left(peer)

    def test_damaged(self) -> None:
        """What cannot be read is cut off: no word can stand amid content."""
        self.files.damaged_from = PIECE_BYTES
        self.peer.say(f"GET {self.number}\n")
        self.assertTrue(self.peer.is_aborted)
        self.assertTrue((self.line + self.content).startswith(self.hear()))
        self.assertEqual(len(self.flushLoggedErrors(StorageError)), 1)
        self.assert_nothing_left(self.peer)

    def test_pushes_wait(self) -> None:
        """What comes in meanwhile is told behind the content."""
        self.peer.ask("WATCH\n")
        self.files.is_slow = True
        self.peer.say(f"GET {self.number}\n")
        record = FileRecord(ID, FileState.CLEAN, 0, "0" * 64, "anon", 0, "x")
        heard = b""
        for _ in range(4):
            self.house.announcer.announce("bob", record)
            self.files.go_on()
            heard += self.hear()
        line = f"! {record.line()}\n".encode()
        self.assertEqual(heard, self.line + self.content + 4 * line)
        self.assert_nothing_left(self.peer)

    def test_too_many_pushes(self) -> None:
        """A user who could not be told all is cut off rather than left with a gap."""
        self.peer.ask("WATCH\n")
        self.files.is_slow = True
        self.peer.say(f"GET {self.number}\n")
        sender = self.house.enter_as("alice")
        sent = 0
        while not self.peer.is_aborted:
            sender.say(b"SEND bob 100000\n%b\r\n" % bytes(100_000))
            self.house.slow_store.commit()
            self.assertTrue(sender.hear().startswith("+OK "))
            sent += 1
        self.assertEqual(sent, limits.MAX_UNREAD_PUSH_BYTES // 100_000 + 2)
        sender.conversation.over()
        self.assert_nothing_left(self.peer)

    def test_server_stops(self) -> None:
        """A server that stops amid a file says nothing: it would be content."""
        self.files.is_slow = True
        self.peer.say(f"GET {self.number}\n")
        self.peer.conversation.dismiss("good night")
        self.assertTrue(self.peer.is_aborted)
        self.assertEqual(self.hear(), self.line)
        self.assert_nothing_left(self.peer)

    def test_quit_waits(self) -> None:
        """Who asks for a file and says goodbye gets the file first."""
        self.peer.capacity = 1000
        self.peer.say(f"GET {self.number}\nQUIT\n")
        heard = b""
        while not self.peer.is_closed:
            heard += self.hear()
        heard += self.hear()
        self.assertEqual(heard, self.line + self.content + b"+OK goodbye\n")

    def test_refused(self) -> None:
        """What cannot be had is refused, and the talk goes on."""
        self.files.find(self.number, FileState.INFECTED)
        for number, code in ((self.number, "infected"), ("x", "no-such-id")):
            heard = self.peer.ask(f"#g GET {number}\nPING\n")
            self.assertRegex(heard, rf"\A#g -ERR {code} [^\n]+\n\+OK pong\n\Z")


class ListTests(HouseTestCase):
    """What else is asked about files."""

    def test_list_and_drop(self) -> None:
        """Files are listed, with why one is infected, until they are dropped."""
        first = self.files.add("bob", HELLO, "one")
        second = self.files.add("bob", HELLO, "two")
        self.files.find(second, FileState.INFECTED)
        lines = self.peer.ask("FILES\n").splitlines()
        self.assertEqual(lines[0][:28], f"* FILE {first} clea")
        self.assertEqual(lines[1].split(" ")[3], "infected")
        self.assertEqual(lines[2], f"* WHY {second} Some-Signature")
        self.assertEqual(lines[3], "+OK 2 files")
        self.assertEqual(self.peer.ask(f"DROP {second}\n"), "+OK\n")
        self.assertTrue(self.peer.ask("FILES\n").endswith("+OK 1 files\n"))

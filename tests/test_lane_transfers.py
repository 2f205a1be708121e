"""Files over UDP: real ends, real sockets, and bad ways between them."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from securerecv.client.client import Client
from securerecv.client.errors import DisconnectedError
from securerecv.errors import ErrorCode, PeerError
from securerecv.net import lanes
from securerecv.wire.filelines import FileState
from tests.clientends import failing
from tests.lanehouse import LaneHouse
from tests.relay import Relay
from tests.support import new_folder, pause

LARGE = Random(8).randbytes(3_000_017)  # noqa: S311 - so that a failure can be repeated
LANE = b"\xc3"

reactor: Any = _reactor


def move_after(relay: Relay, count: int) -> None:
    """Let the client have another address when so much of it has passed."""

    def lose(_from_server: bool, _data: bytes) -> bool:
        if not relay.moves and len(relay.passed) >= count:
            relay.move()
        return False

    relay.lose = lose


class LaneTestCase(TestCase):
    """What the cases here have in common."""

    timeout = 60

    def setUp(self) -> None:
        """Open a house, and a folder for files."""
        self.server = LaneHouse(self)
        self.files = self.server.house.files
        self.folder = new_folder(self)
        self.folder.mkdir()

    async def enter(self, name: str = "bob", port: int | None = None) -> Client:
        """Log in; it is ended with the test."""
        client = await self.server.enter(name, port)
        self.addCleanup(client._channel.close)
        return client

    def write(self, content: bytes) -> Path:
        """Make a file."""
        path = self.folder / "größe 1.txt"
        path.write_bytes(content)
        return path

    def dropped(self) -> dict[str, int]:
        """Count packets of lanes that the server has dropped."""
        counted = self.server.server.counters.dropped
        return {name: n for name, n in counted.items() if name.startswith("lane ")}


class PutTests(LaneTestCase):
    """Sending files."""

    async def test_sizes(self) -> None:
        """A file of any size arrives whole, and the answer is what became of it."""
        client = await self.enter()
        for content in (b"", b"x", bytes(1194), bytes(1195), bytes(1 << 20), LARGE):
            receipt = await client.put("alice", self.write(content))
            kept = self.files.kept[receipt.id]
            self.assertIs(receipt.state, FileState.CLEAN)
            self.assertEqual(kept.content, content)
            self.assertEqual(kept.record.name, "größe 1.txt")
        await client.ping()
        self.assertEqual(self.dropped(), {})

    async def test_bad_way(self) -> None:
        """Where packets and records get lost, double or late, it arrives as well."""
        relay = Relay(self, self.server.port, loss=0.1, seed=3)
        client = await self.enter(port=relay.port)
        for content in (b"hello", LARGE[:500_000]):
            receipt = await client.put("alice", self.write(content))
            self.assertEqual(self.files.kept[receipt.id].content, content)
            self.assertIs(receipt.state, FileState.CLEAN)
        self.assertEqual(len(self.files.uploads), 2)

    async def test_refused(self) -> None:
        """What is refused at once needs no lane, and the conversation goes on."""
        client = await self.enter()
        error = await failing(client.put("nobody", self.write(b"x")), PeerError)
        self.assertIs(error.code, ErrorCode.NO_MAILBOX)
        self.assertEqual(len(self.server.lanes._lanes), 0)
        await client.ping()

    async def test_refused_in_the_end(self) -> None:
        """What is refused when all is there is said under the same tag."""
        self.files.failure = PeerError(ErrorCode.FULL, "no room")
        client = await self.enter()
        error = await failing(client.put("alice", self.write(LARGE)), PeerError)
        self.assertIs(error.code, ErrorCode.FULL)
        await client.ping()

    async def test_too_many(self) -> None:
        """There is a most of lanes for one address; one more is refused."""
        self.patch(lanes, "MAX_LANES_PER_ADDRESS", 0)
        client = await self.enter()
        error = await failing(client.put("alice", self.write(b"x")), PeerError)
        self.assertIs(error.code, ErrorCode.BUSY)
        self.assertTrue(self.files.uploads[0].is_over)
        number = self.files.add("bob", b"x", "x")
        error = await failing(client.get(number, io.BytesIO()), PeerError)
        self.assertIs(error.code, ErrorCode.BUSY)
        self.assertTrue(self.files.downloads[0].is_closed)
        await client.ping()

    async def test_goes_on(self) -> None:
        """A transfer that was cut off goes on where it was, with another lane."""
        relay = Relay(self, self.server.port)
        client = await self.enter(port=relay.port)
        path = self.write(LARGE)
        relay.lose = lambda _from_server, _data: len(relay.passed) >= 150
        sending = client.put("alice", path)
        while len(relay.passed) < 150:
            await pause(0.01)
        client._channel.close()
        await failing(sending, DisconnectedError)
        again = await self.enter()
        receipt = await again.put("alice", path)
        self.assertEqual(self.files.kept[receipt.id].content, LARGE)
        self.assertGreater(self.files.uploads[1].offset, 0)

    async def test_source_that_fails(self) -> None:
        """A file that cannot be read ends the conversation with the reason."""
        client = await self.enter()
        path = self.write(LARGE)
        with path.open("rb") as file:
            broken = _Breaking(file.read(), 1 << 20)
            error = await failing(client.put("alice", broken, "x"), OSError)
        self.assertIn("broken", str(error))
        await failing(client.ping(), OSError)

    async def test_another_address(self) -> None:
        """Packets that come from another address all of a sudden are still taken."""
        relay = Relay(self, self.server.port)
        client = await self.enter(port=relay.port)
        move_after(relay, 80)
        receipt = await client.put("alice", self.write(LARGE))
        self.assertEqual(self.files.kept[receipt.id].content, LARGE)
        self.assertEqual(relay.moves, 1)


class _Breaking(io.BytesIO):
    """A file that cannot be read to its end, once it was read to know its SHA-256."""

    def __init__(self, content: bytes, end: int) -> None:
        super().__init__(content)
        self._end = end
        self._read = 0

    def read(self, size: int | None = -1) -> bytes:
        """Read, or fail."""
        data = super().read(size)
        self._read += len(data)
        if self._read > len(self.getvalue()) + self._end:
            raise OSError("broken")
        return data


class GetTests(LaneTestCase):
    """Fetching files."""

    async def test_sizes(self) -> None:
        """A file of any size comes whole, and is let go of by the server."""
        client = await self.enter("alice")
        for content in (b"", b"x", bytes(1194), bytes(1195), bytes(1 << 20), LARGE):
            number = self.files.add("alice", content, "x")
            into = io.BytesIO()
            found = await client.get(number, into)
            self.assertEqual(into.getvalue(), content)
            self.assertEqual(found.name, "x")
        await client.ping()
        client._channel.close()
        await pause(0.05)
        self.assertTrue(all(one.is_closed for one in self.files.downloads))
        self.assertEqual(len(self.server.lanes._lanes), 0)

    async def test_bad_way(self) -> None:
        """Where packets and records get lost, double or late, it comes as well."""
        relay = Relay(self, self.server.port, loss=0.1, seed=4)
        client = await self.enter("alice", port=relay.port)
        number = self.files.add("alice", LARGE[:500_000], "x")
        into = io.BytesIO()
        await client.get(number, into)
        self.assertEqual(into.getvalue(), LARGE[:500_000])

    async def test_goes_on(self) -> None:
        """What is there already does not come again."""
        client = await self.enter("alice")
        number = self.files.add("alice", LARGE, "x")
        (self.folder / f"{number}.part").write_bytes(LARGE[:2_000_000])
        await client.get(number, self.folder)
        self.assertEqual((self.folder / "x").read_bytes(), LARGE)
        self.assertEqual(self.files.downloads[0].reads[0][0], 2_000_000)

    async def test_no_such_file(self) -> None:
        """What there is not needs no lane."""
        client = await self.enter("alice")
        error = await failing(client.get("77", io.BytesIO()), PeerError)
        self.assertIs(error.code, ErrorCode.NO_SUCH_ID)
        await client.ping()

    async def test_damaged(self) -> None:
        """A file that cannot be read to its end is cut off, and let go of."""
        client = await self.enter("alice")
        number = self.files.add("alice", LARGE, "x")
        self.files.damaged_from = 1 << 20
        await failing(client.get(number, io.BytesIO()), DisconnectedError)
        self.assertTrue(self.files.downloads[0].is_closed)

    async def test_no_room_here(self) -> None:
        """What cannot be written here ends the conversation, and the lane."""
        client = await self.enter("alice")
        number = self.files.add("alice", LARGE, "x")
        path = self.write(b"in its place")
        await failing(client.get(number, path), FileExistsError)
        (self.folder / "x").write_bytes(b"in its place")
        await failing(client.get(number, self.folder), FileExistsError)
        await failing(client.ping(), FileExistsError)

    async def test_another_address(self) -> None:
        """A client whose address changes gets the rest at the new one."""
        relay = Relay(self, self.server.port)
        client = await self.enter("alice", port=relay.port)
        number = self.files.add("alice", LARGE, "x")
        move_after(relay, 15)
        into = io.BytesIO()
        await client.get(number, into)
        self.assertEqual(into.getvalue(), LARGE)
        self.assertEqual(relay.moves, 1)


class DismissedTests(LaneTestCase):
    """People who may not go on."""

    async def test_dismissed(self) -> None:
        """Whoever is thrown out gets no more of a file, and sends none."""
        self.files.is_slow = True
        client = await self.enter("alice")
        number = self.files.add("alice", LARGE, "x")
        coming = client.get(number, io.BytesIO())
        while self.files.reading is None:
            await pause(0.01)
        self.assertEqual(len(self.server.lanes._lanes), 1)
        self.server.gate.close("you are not who you were", reactor)
        self.assertEqual(len(self.server.lanes._lanes), 0)
        self.assertTrue(self.files.downloads[0].is_closed)
        await failing(coming, DisconnectedError)

    async def test_dismissed_sender(self) -> None:
        """The same of an upload."""
        self.files.is_slow = True
        client = await self.enter()
        sending = client.put("alice", self.write(LARGE))
        while not self.files.uploads or not self.files.uploads[0].writes:
            await pause(0.01)
        self.server.gate.close("you are not who you were", reactor)
        self.assertTrue(self.files.uploads[0].is_over)
        await failing(sending, DisconnectedError)


class StrangerTests(LaneTestCase):
    """What is of no lane."""

    async def test_unknown(self) -> None:
        """Packets for no lane are met with silence and a counter."""
        received = self.server.lanes.received
        address = ("127.0.0.1", 9)
        drops = received([LANE, LANE + bytes(60), LANE + bytes(9)], address)
        self.assertEqual([drop.value for drop in drops], ["unknown-lane"] * 3)

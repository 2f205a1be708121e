"""Peers over DTLS whose address is proven and who mean harm."""

from __future__ import annotations

import random
import struct
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.limits import HANDSHAKE_TIMEOUT_S, IDLE_TIMEOUT_S, LOGIN_TIMEOUT_S
from securerecv.net.dtlspeer import MAX_REPEATED_ENDS
from securerecv.net.outbox import Address
from securerecv.vault.keyring import open_keyring
from securerecv.wire.dtlsrecords import FINISHED_BYTES
from tests.dtlsnet import Client, Net
from tests.test_conversation import TOTAL

HONEST: Address = ("198.51.100.1", 5000)


class HostileTests(SynchronousTestCase):
    """Whatever they send, others go on, and nothing is left of them."""

    def setUp(self) -> None:
        """Make a server, and let somebody in."""
        self.rng = random.Random(6347)  # noqa: S311 - what happens must be repeatable
        self.net = Net(open_keyring(Path(self.mktemp()).absolute()))
        self.honest = self.net.enter(HONEST)
        self.honest.ask("ANON\n")

    def assert_nothing_is_left(self) -> None:
        """The honest one is answered as before, and is the only one."""
        self.assertEqual(self.honest.ask("#1 PING\n"), "#1 +OK pong\n")
        self.assertEqual(list(self.net.server._peers), [HONEST])
        self.assertEqual(self.net.server._shaking_hands, {})
        self.assertEqual(len(self.net.gate), 1)
        self.assertEqual(self.net.house.budget.left, TOTAL)
        self.assertEqual(len(self.net.house.clock.getDelayedCalls()), 1)

    def test_handshakes(self) -> None:
        """Handshakes that go wrong in every way end, and their answers stay small."""
        rng = self.rng
        for number in range(400):
            client = Client(self.net, ("192.0.2.1", number))
            hello = client.begin()
            client.deliver(hello)
            first = client.take()
            flight = client.step(first)
            sent = answered = 0
            for step in range(rng.randrange(40)):
                datagram = self._wrong(rng.choice(flight), step)
                client.deliver([datagram])
                sent += len(datagram)
                answered += sum(map(len, client.take()))
            # To what is damaged there is nothing to say but an alert.
            self.assertLessEqual(answered, sent + 100)
            self.net.house.clock.advance(HANDSHAKE_TIMEOUT_S)
            client.take()
            self.assertEqual(self.honest.ask("PING\n"), "+OK pong\n")
        self.assert_nothing_is_left()

    def _wrong(self, datagram: bytes, step: int) -> bytes:
        """Give a damaged datagram of a handshake, or one that is made up."""
        rng = self.rng
        if rng.random() < 0.5:
            damaged = bytearray(datagram)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            return bytes(damaged[: rng.randrange(1, 2 * len(damaged))])
        size = rng.choice((0, 1, 32, 1000))
        kind = rng.choice((0, 1, 2, 11, 14, 15, 16, 20, rng.randrange(256)))
        sizes = [rng.choice((size, rng.randrange(1 << 24))) for _ in range(3)]
        message = struct.pack(">B3xHxxxxxx", kind, rng.randrange(12)) + rng.randbytes(
            size
        )
        body = bytearray(message)
        for at, value in zip((1, 6, 9), sizes, strict=True):
            body[at : at + 3] = value.to_bytes(3)
        header = struct.pack(
            ">BHHHIH",
            rng.choice((20, 21, 22, 22, 22, 23, 24, 63)),
            0xFEFD,
            rng.choice((0, 0, 0, 1, 2)),
            0,
            rng.choice((0, step + 5, 1 << 31)),
            len(body),
        )
        return header + bytes(body)

    def test_own_records(self) -> None:
        """Whoever sends records that no client does cannot be written to, and goes."""
        length = b"\0\0\14"
        handshake = struct.pack(">B3sHxxx3s12x", 11, length, 5, length)
        for number, (kind, content, is_fatal) in enumerate(
            (
                (21, b"\2\50", True),
                (21, b"\2", True),
                (21, b"\1\132", False),
                (20, b"\1", False),
                (24, b"\1\0\20", True),
                (99, b"x", True),
                (22, handshake, True),
                (22, handshake[:12], False),
                (22, handshake + b"\0", False),
            )
        ):
            client = self.net.enter(("192.0.2.2", number))
            address = client.ask("ANON\n").removeprefix("+OK ").strip()
            client.ask("WATCH\n")
            client.deliver([client.forge(kind, content, 1000)])
            said = self.honest.ask(f"SAY {address} hello\n")
            self.assertRegex(said, r"-ERR (busy|no-mailbox)" if is_fatal else r"\+OK ")
            client.deliver([client.forge(23, b"PING\n", 1001)])
            self.net.house.clock.advance(IDLE_TIMEOUT_S - 1)
            self.honest.ask("PING\n")
            self.net.house.clock.advance(1)
            client.take()
            self.assert_nothing_is_left()
            # One record behind the other.
            client = self.net.enter(("192.0.2.3", number))
            both = client.forge(23, b"PING\n", 1000) + client.forge(kind, content, 1001)
            client.deliver([both])
            self.assertEqual(len(self.net.gate), 1 if is_fatal else 2)
            self.honest.ask("PING\n")
            self.net.house.clock.advance(IDLE_TIMEOUT_S - 1)
            self.honest.ask("PING\n")
            client.take()
            self.assert_nothing_is_left()

    def test_parts_of_handshakes(self) -> None:
        """Parts of large messages, of which OpenSSL would keep ten, reach it not."""
        client = self.net.enter(("192.0.2.2", 1))
        fed: list[bytes] = []
        peer = self.net.server._peers["192.0.2.2", 1]
        assert peer._connection is not None
        bio_write = peer._connection.bio_write

        def note(data: bytes) -> int:
            fed.append(data)
            return bio_write(data)

        self.patch(peer._connection, "bio_write", note)
        size = (100_000).to_bytes(3)
        for number in range(100):
            at = (1000 * number).to_bytes(3)
            part = b"\13" + size + b"\0\5" + at + b"\0\0\1" + b"x"
            end = b"\13" + size + b"\0\6" + at + b"\0\0\14" + bytes(12)
            datagram = client.forge(22, part, 1000 + 3 * number)
            datagram += client.forge(22, end, 1001 + 3 * number)
            client.deliver([datagram, client.forge(22, part, 1002 + 3 * number)])
        self.assertEqual(len(fed), MAX_REPEATED_ENDS)
        self.assertEqual(set(map(len, fed)), {FINISHED_BYTES})
        self.net.house.clock.advance(LOGIN_TIMEOUT_S)
        self.assert_nothing_is_left()

    def test_conversations(self) -> None:
        """Conversations full of nonsense and repeats are answered, and end."""
        rng, store = self.rng, self.net.house.slow_store
        for number in range(60):
            client = self.net.enter(("203.0.113.1", number))
            client.ask("#1 ANON\n")
            for _ in range(60):
                client.deliver(self._nonsense(client))
                if store.commits and rng.random() < 0.2:
                    store.commit()
            while store.commits:
                store.commit()
            self.assertIn("#pong +OK pong\n", client.ask("\n#pong PING\n"))
        for _ in range(4):
            # The honest one is never silent for too long.
            self.net.house.clock.advance(IDLE_TIMEOUT_S / 3)
            self.honest.ask("PING\n")
        self.assert_nothing_is_left()

    def _nonsense(self, client: Client) -> list[bytes]:
        """Give datagrams of somebody who is in."""
        rng = self.rng
        size = rng.choice((0, 1, 5, 10**9, 10**30))
        payload = rng.randbytes(rng.randrange(20))
        tag = rng.randrange(1, 30)
        match rng.randrange(6):
            case 0:
                return [client.seal(rng.randbytes(rng.randrange(1, 3000)))]
            case 1:
                return [
                    client.seal(b"#%d SEND bob %d\r\n%b\r\n" % (tag, size, payload))
                ]
            case 2:
                said = client.seal(f"#{tag} SAY bob {rng.randrange(3)}")
                return [said, said, said[:-1], said + said, said[:5]]
            case 3:
                return [client.seal(b"#a " * tag + b"\n" * tag + b"HELP\n" * tag)]
            case 4:
                return [client.seal(b"x" * 16_000)]
            case _:
                many = [client.seal(f"#{number} LAST\n") for number in range(tag)]
                return [b"".join(many)]

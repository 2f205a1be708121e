"""Conversations over DTLS: who gets one, who keeps it, and who gets nothing."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from OpenSSL import SSL
from twisted.trial.unittest import SynchronousTestCase

from securerecv.limits import HANDSHAKE_TIMEOUT_S, IDLE_TIMEOUT_S
from securerecv.net.dtls import DtlsDrop
from securerecv.net.dtlspeer import MAX_HANDSHAKE_DATAGRAMS
from securerecv.net.gate import Gate
from securerecv.net.outbox import Address
from securerecv.net.tls import COOKIE_PERIOD_S, DATAGRAM_BYTES
from securerecv.vault.keyring import open_keyring
from securerecv.wire.openings import (
    HANDSHAKE_COST_S,
    HANDSHAKE_SHARE_PER_ADDRESS,
    for_handshakes,
)
from tests.dtlsnet import Client, Net
from tests.test_conversation import TOTAL

HERE: Address = ("192.0.2.1", 5000)
THERE: Address = ("192.0.2.2", 5000)
SIX: Address = ("2001:db8::1", 5000, 0, 0)


class DtlsTests(SynchronousTestCase):
    """What all tests begin with."""

    def setUp(self) -> None:
        """Make keys and a server."""
        self.keyring = open_keyring(Path(self.mktemp()).absolute())
        self.gate = Gate()
        self.net = Net(self.keyring, self.gate)
        self.clock = self.net.house.clock

    def assert_nobody_is_there(self) -> None:
        """The server keeps nothing of anybody."""
        self.assertEqual(self.net.server._peers, {})
        self.assertEqual(self.net.server._shaking_hands, {})
        self.assertEqual(len(self.gate), 0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.net.house.budget.left, TOTAL)


class TalkTests(DtlsTests):
    """A conversation, from the hello to the goodbye."""

    def test_talk(self) -> None:
        """The same is said as over TCP."""
        client = Client(self.net, HERE)
        client.shake_hands()
        greeting = client.hear().splitlines()
        self.assertEqual(greeting[0], "* securerecv/1 ready")
        self.assertEqual(len(greeting), 4)
        self.assertEqual(client.ask("LOGIN alice word\n"), "+OK you are alice\n")
        self.assertEqual(client.ask("FROB\n"), "-ERR usage HELP lists every command\n")
        client.say("SAY bob one\n")
        self.assertEqual(client.hear(), "")
        self.net.house.slow_store.commit()
        self.assertRegex(client.hear(), r"\A\+OK [0-9a-f]{16}\n\Z")
        self.assertEqual(client.ask("WATCH"), "+OK\n")
        self.assertEqual(client.ask("QUIT\n"), "+OK goodbye\n")
        self.assertTrue(client.over)
        self.assert_nobody_is_there()

    def test_both_families(self) -> None:
        """Peers with the same port at other addresses are others."""
        clients = [self.net.enter(address) for address in (HERE, THERE, SIX)]
        names = [client.ask("ANON\n") for client in clients]
        self.assertEqual(len(set(names)), 3)
        for client, name in zip(clients, names, strict=True):
            self.assertEqual(client.ask("WHOAMI\n"), name)

    def test_many_records_in_a_datagram(self) -> None:
        """Several records may come in one datagram; their answers share a record."""
        client = self.net.enter(HERE)
        client.deliver([b"".join(client.seal(f"#{n} PING\n") for n in range(5))])
        answers = client.opened(client.take())
        self.assertEqual(answers, [b"".join(b"#%d +OK pong\n" % n for n in range(5))])

    def test_datagrams_that_come_together(self) -> None:
        """However many come together, each is heard, in their order."""
        client = self.net.enter(HERE)
        for filler in ("", " " * 400):
            together = [client.seal(f"#{n:02} PING\n{filler}") for n in range(64)]
            self.assertEqual(self.net.server.received_together(together, HERE), [])
            heard = [line for line in client.hear().splitlines() if "pong" in line]
            self.assertEqual(heard, [f"#{n:02} +OK pong" for n in range(64)])

    def test_forged_ones_that_come_together(self) -> None:
        """What is forged or repeated comes to nothing; the others are heard."""
        client = self.net.enter(HERE)
        first, second, third = (client.seal(f"#{n} PING\n") for n in "123")
        forged = first[:-1] + bytes([first[-1] ^ 1])
        together = [forged, first, second, first, bytes([0x17]), third]
        for some, drops in ((together[:4], 2), (together[4:], 1)):
            count = len(self.net.server.received_together(some, HERE))
            self.assertEqual(count, drops)
        self.assertEqual(client.hear(), "#1 +OK pong\n#2 +OK pong\n#3 +OK pong\n")

    def test_bad_records_among_good_ones(self) -> None:
        """What is wrong in a datagram is passed over, and harms nothing else."""
        client = self.net.enter(HERE)
        for number in range(40):
            good = [client.seal(f"#{number}{n} PING\n") for n in range(3)]
            bad = [
                good[0],  # twice
                good[0][:-1] + bytes([good[0][-1] ^ 1]),
                client.seal("#x PING\n")[:-1],
                good[0][:11] + b"\0\0",
                good[0][:12],
                b"junk",
                bytes(13),
                bytes(14),
            ][number % 8]
            # One that does not say where it ends hides those behind it.
            place = number // 8 % 3 if number % 8 in (0, 1, 3, 6) else 3
            client.deliver([b"".join([*good[:place], bad, *good[place:]])])
            heard = client.hear()
            for n in range(3):
                self.assertEqual(heard.count(f"#{number}{n} +OK pong\n"), 1, number)
            self.assertEqual(heard.count("+OK"), 3)
        self.assertEqual(set(client.drops[-40:]), {None})

    def test_goodbye(self) -> None:
        """A close_notify is answered by one, and all is forgotten."""
        client = self.net.enter(HERE)
        client.ask("ANON\n")
        client.goodbye()
        client.hear()
        self.assertTrue(client.over)
        self.assert_nobody_is_there()

    def test_goodbye_amid_storing(self) -> None:
        """What was said before the goodbye is stored all the same."""
        client = self.net.enter(HERE)
        client.ask("LOGIN alice word\n")
        client.say("SAY bob one\n")
        client.goodbye()
        self.assertEqual(len(self.net.house.slow_store.commits), 1)

    def test_goodbye_in_the_same_datagram(self) -> None:
        """What stands before the goodbye in one datagram is stored too."""
        client = self.net.enter(HERE)
        client.ask("LOGIN alice word\n")
        last_words = client.seal("SAY bob one\n")
        client.deliver([last_words + client.seal_goodbye()])
        self.assertEqual(len(self.net.house.slow_store.commits), 1)
        client.hear()
        self.assertTrue(client.over)
        self.net.house.slow_store.commit()
        self.assertEqual(client.hear(), "")
        self.assert_nobody_is_there()

    def test_dismissed(self) -> None:
        """The server says why it ends all conversations, and begins no more."""
        client = self.net.enter(HERE)
        stranger = Client(self.net, THERE)
        stranger.deliver(stranger.begin())
        self.net.server.close()
        closed = self.gate.close("the server is stopping", self.clock)
        self.assertEqual(client.hear(), "! CLOSING the server is stopping\n")
        self.assertTrue(client.over)
        self.successResultOf(closed)
        self.assert_nobody_is_there()
        stranger = Client(self.net, SIX)
        stranger.deliver(stranger.step())
        self.assertEqual(stranger.drops, [DtlsDrop.NO_ROOM])

    def test_command_under_way(self) -> None:
        """Records that come while a command is carried out wait for it."""
        client = self.net.enter(HERE)
        client.say("LOGIN carol word\n")
        client.say("#1 WHOAMI\n")
        client.say("#2 PING\n")
        self.assertEqual(client.hear(), "")
        self.net.house.door.opened.callback(b"carol")
        self.assertEqual(
            client.hear(), "+OK you are carol\n#1 +OK carol\n#2 +OK pong\n"
        )

    def test_to_oneself(self) -> None:
        """What comes back at once, from inside a request, comes in order."""
        client = self.net.enter(HERE)
        address = client.ask("ANON\n").split()[1]
        client.ask("WATCH\n")
        heard = client.ask(f"SAY {address} hi\nPING\n")
        self.assertRegex(heard, r"\A! MSG \S+ anon \S+ 2\nhi\r\n\+OK \S+\n\+OK pong")
        client.ask("QUIT\n")
        self.assert_nobody_is_there()

    def test_dead_watcher(self) -> None:
        """Who watches must say something now and then, or is taken for dead."""
        client = self.net.enter(HERE)
        client.ask("ANON\n")
        client.ask("WATCH\n")
        for _ in range(3):
            self.clock.advance(IDLE_TIMEOUT_S - 1)
            self.assertEqual(client.ask("PING\n"), "+OK pong\n")
        self.clock.advance(IDLE_TIMEOUT_S)
        self.assertTrue(client.hear().startswith("-ERR timeout "))
        self.assertTrue(client.over)
        self.assertFalse(self.net.house.announcer.is_heard)
        self.assert_nobody_is_there()

    def test_nothing_is_kept_alive(self) -> None:
        """OpenSSL's buffers go with the conversation, not at some later time."""
        gc.collect()
        gc.disable()
        self.addCleanup(gc.enable)
        before = _connections()
        for number in range(20):
            client = self.net.enter(("192.0.2.3", number))
            client.ask("QUIT\n")
            del client
        self.assertEqual(_connections(), before)


class HandshakeTests(DtlsTests):
    """Handshakes on a network that loses things."""

    def test_repeated_hello(self) -> None:
        """A hello that comes again, in either form, begins nothing new."""
        client = Client(self.net, HERE)
        first = client.step()
        client.deliver(first)
        second = client.step(client.take())
        client.deliver(second)
        flight = client.take()
        client.deliver(first + second + second)
        self.assertEqual(client.drops[2:], [DtlsDrop.REPEATED_HELLO] * 3)
        self.assertEqual(client.take(), [])
        client.deliver(client.step(flight))
        client.finish()
        client.deliver(first + second)
        self.assertTrue(client.hear().startswith("* securerecv/1 ready"))
        self.assertEqual(client.ask("PING\n"), "+OK pong\n")
        self.assertEqual(len(self.gate), 1)

    def test_lost_flights(self) -> None:
        """Each side sends again what the other has not received."""
        client = Client(self.net, HERE)
        client.deliver(client.begin())
        client.take()
        time.sleep(1.1)  # OpenSSL's timers are on a clock of its own
        self.clock.advance(1.1)
        client.deliver(client.step(client.take()))
        client.take()
        time.sleep(1.1)
        client.handle_timeout()
        client.step(client.take())
        self.assertTrue(client.is_in)
        self.assertEqual(client.ask("PING\n"), "+OK pong\n")

    def test_small_flights(self) -> None:
        """The server's part travels together, in what any path lets through."""
        client = Client(self.net, HERE)
        client.deliver(client.begin())
        (datagram,) = client.take()
        self.assertLessEqual(len(datagram), DATAGRAM_BYTES)

    def test_half_open_age(self) -> None:
        """Handshakes that do not finish are given up in time."""
        client = Client(self.net, HERE)
        client.deliver(client.begin())
        self.assertEqual(len(self.gate), 1)
        self.clock.advance(HANDSHAKE_TIMEOUT_S - 0.1)
        self.assertEqual(len(self.gate), 1)
        self.clock.advance(0.2)
        self.assert_nobody_is_there()

    def test_half_open_number(self) -> None:
        """Of half-open handshakes the oldest give way; who is in stays."""
        self.net = net = Net(self.keyring, self.gate)
        self.gate._handshakes = 16
        friend = net.enter(HERE)
        last = None
        for port in range(100):
            last = Client(net, ("192.0.2.9", port))
            last.deliver(last.begin())
            self.assertLessEqual(len(net.server._shaking_hands), 16)
        self.assertEqual(len(self.gate), 17)
        self.assertEqual(friend.ask("PING\n"), "+OK pong\n")
        assert last is not None
        last.finish()
        self.assertTrue(last.hear().startswith("* securerecv/1 ready"))

    def test_too_many_handshakes(self) -> None:
        """One address begins so many a second; others, and the patient, get theirs."""
        net = Net(self.keyring, budget=for_handshakes())
        clients = [Client(net, ("192.0.2.1", port)) for port in range(1, 500)]
        hellos = [(client, client.begin()) for client in clients]
        begun = 0
        for client, hello in hellos:
            client.deliver(hello)
            begun += client.drops[-1] is None
        most = HANDSHAKE_SHARE_PER_ADDRESS / HANDSHAKE_COST_S
        self.assertAlmostEqual(begun / most, 1, places=2)
        late, hello = hellos[-1]
        self.assertEqual(late.drops[-1], DtlsDrop.OVER_BUDGET)
        net.enter(THERE)
        net.house.clock.advance(1)
        late.deliver(hello)
        late.finish()
        self.assertIn("ready", late.hear())

    def test_endless_handshake(self) -> None:
        """A handshake has only so many datagrams."""
        client = Client(self.net, HERE)
        client.deliver(client.begin())
        early = b"\x16\xfe\xfd\0\1" + bytes(6) + b"\0\x20" + bytes(32)
        client.deliver([early] * MAX_HANDSHAKE_DATAGRAMS)
        self.assertEqual(len(self.gate), 1)
        client.deliver([early])
        self.assert_nobody_is_there()

    def test_full(self) -> None:
        """Where there is no room, newcomers give way with a word."""
        self.gate.total = 2
        user = self.net.enter(HERE)
        user.ask("LOGIN alice word\n")
        silent = self.net.enter(THERE)
        late = self.net.enter(SIX)
        self.assertTrue(silent.hear().startswith("-ERR busy "))
        self.assertTrue(silent.over)
        late.ask("LOGIN bob word\n")
        nobody = Client(self.net, THERE)
        nobody.deliver(nobody.begin())
        self.assertEqual(nobody.drops[-1], DtlsDrop.NO_ROOM)
        self.assertEqual(user.ask("WHOAMI\n"), "+OK alice\n")

    def test_versions_and_ciphers(self) -> None:
        """Only DTLS 1.2, and of it only ECDHE with AES-256-GCM."""
        client = self.net.enter(HERE)
        connection = client._connection
        self.assertEqual(connection.get_protocol_version_name(), "DTLSv1.2")
        self.assertEqual(connection.get_cipher_name(), "ECDHE-ECDSA-AES256-GCM-SHA384")
        for ciphers in (
            "ECDHE-ECDSA-AES128-GCM-SHA256",
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES256-SHA384",
        ):
            with self.subTest(ciphers=ciphers):
                self.assertTrue(self._fails(partial(_set_ciphers, ciphers)))
        self.assertTrue(self._fails(lambda c: c.set_max_proto_version(0xFEFF)))
        self.assertFalse(self._fails(lambda _: None))

    def _fails(self, configure: Callable[[SSL.Context], object]) -> bool:
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_cipher_list(b"ALL:@SECLEVEL=0")
        context.set_min_proto_version(0xFEFF)
        configure(context)
        client = Client(self.net, THERE)
        client._connection = SSL.Connection(context, None)
        client._connection.set_ciphertext_mtu(DATAGRAM_BYTES)
        client._connection.set_connect_state()
        try:
            client.shake_hands()
        except SSL.Error:
            return True
        return False


class StrangerTests(DtlsTests):
    """What somebody gets who sends from an address that may not be theirs."""

    def test_no_cookie(self) -> None:
        """A hello without a cookie leaves nothing, and gets less than it sent."""
        hello = Client(self.net, HERE).step()[0]
        self.net.server.received(hello, HERE)
        gc.collect()
        before = _connections()
        for number in range(2000):
            address = (f"198.51.100.{number % 256}", number)
            drop = self.net.server.received(hello, address)
            self.assertEqual(drop, DtlsDrop.NO_COOKIE)
            answer = self.net.taken(address)
            self.assertEqual(len(answer), 1)
            self.assertLess(len(answer[0]), len(hello))
        self.net.taken(HERE)
        gc.collect()
        self.assertEqual(_connections(), before)
        self.assert_nobody_is_there()

    def test_cookie_of_others(self) -> None:
        """A cookie is worth nothing elsewhere, later, or for another hello."""
        client = Client(self.net, HERE)
        hello = client.begin()[0]
        for address in (THERE, ("192.0.2.1", 5001), SIX):
            self.assertEqual(
                self.net.server.received(hello, address), DtlsDrop.NO_COOKIE
            )
        other = bytearray(hello)
        other[30] ^= 1
        self.assertEqual(
            self.net.server.received(bytes(other), HERE), DtlsDrop.NO_COOKIE
        )
        self.clock.advance(2 * COOKIE_PERIOD_S)
        self.assertEqual(self.net.server.received(hello, HERE), DtlsDrop.NO_COOKIE)
        self.assert_nobody_is_there()

    def test_cookie_lasts(self) -> None:
        """A cookie is good for at least one whole period."""
        client = Client(self.net, HERE)
        hello = client.begin()
        self.clock.advance(COOKIE_PERIOD_S)
        client.deliver(hello)
        self.assertEqual(client.drops[-1], None)

    def test_nothing_gets_more_than_it_is(self) -> None:
        """Whatever comes before a cookie, what goes back is smaller."""
        rng = random.Random(7983)  # noqa: S311 - for damage
        hello = Client(self.net, HERE).step()[0]
        for number in range(5000):
            damaged = _damaged(rng, hello)
            address = ("198.51.100.1", number)
            self.net.server.received(damaged, address)
            size = sum(map(len, self.net.taken(address)))
            self.assertLessEqual(size, max(0, len(damaged) - 1))
        self.assert_nobody_is_there()

    def test_shortest_hello(self) -> None:
        """Even the shortest hello is longer than the request for a cookie."""
        # RFC 6347 section 4.2.1: version, random, no session, no cookie, one
        # cipher suite (0xC02C), no compression; no extensions.
        body = b"\xfe\xfd" + bytes(32) + b"\0\0" + b"\0\2\xc0\x2c" + b"\1\0"
        size = len(body).to_bytes(3)
        message = b"\1" + size + b"\0\0" + b"\0\0\0" + size + body
        hello = b"\x16\xfe\xfd" + bytes(8) + len(message).to_bytes(2) + message
        self.net.server.received(hello, HERE)
        (answer,) = self.net.taken(HERE)
        self.assertLess(len(answer), len(hello))

    def test_unknown(self) -> None:
        """Records from where nobody has a conversation are met with silence."""
        record = b"\x17\xfe\xfd\0\1" + bytes(6) + b"\0\x20" + bytes(32)
        for datagram, drop in (
            (record, DtlsDrop.NO_CONVERSATION),
            (record[:12], DtlsDrop.MALFORMED),
            (record + bytes(16_400), DtlsDrop.MALFORMED),
            (b"\x16" + record[1:], DtlsDrop.NO_CONVERSATION),
        ):
            self.assertEqual(self.net.server.received(datagram, HERE), drop)
        self.assertEqual(self.net.sent, {})
        self.assert_nobody_is_there()


class TakeoverTests(DtlsTests):
    """A conversation belongs to whoever began it."""

    def test_restart(self) -> None:
        """A new handshake takes the place of a conversation when it is done."""
        old = self.net.enter(HERE)
        old.ask("LOGIN alice word\n")
        new = Client(self.net, HERE)
        new.deliver(new.begin())
        flight = new.take()
        self.assertEqual(old.ask("WHOAMI\n"), "+OK alice\n")
        self.assertEqual(len(self.gate), 2)
        new.deliver(new.step(flight))
        # Nothing was sent that only the old one could read.
        new.finish()
        self.assertTrue(new.hear().startswith("* securerecv/1 ready"))
        self.assertEqual(len(self.gate), 1)
        self.assertEqual(new.ask("WHOAMI\n")[:10], "+OK nobody")
        old.say("WHOAMI\n")
        self.assertEqual(old.drops[-1], DtlsDrop.FORGED)
        self.assertEqual(new.ask("ANON\n")[:9], "+OK anon-")

    def test_restart_that_fails(self) -> None:
        """A new handshake that is not finished changes nothing."""
        old = self.net.enter(HERE)
        old.ask("ANON\n")
        new = Client(self.net, HERE)
        new.deliver(new.begin())
        new.take()
        self.clock.advance(HANDSHAKE_TIMEOUT_S + 1)
        self.assertEqual(len(self.gate), 1)
        self.assertEqual(old.ask("PING\n"), "+OK pong\n")

    def test_old_one_leaves_during_handshake(self) -> None:
        """The old one may say goodbye while the new one shakes hands."""
        old = self.net.enter(HERE)
        new = Client(self.net, HERE)
        new.deliver(new.begin())
        flight = new.take()
        old.goodbye()
        self.net.taken(HERE)
        new.deliver(new.step(flight))
        new.finish()
        self.assertTrue(new.hear().startswith("* securerecv/1 ready"))

    def test_spoofed_hello(self) -> None:
        """A hello that somebody else sends from the same address does nothing."""
        client = self.net.enter(HERE)
        spoofed = Client(self.net, HERE)
        spoofed.deliver(spoofed.step())
        self.assertEqual(client.hear(), "")
        self.assertEqual(client.ask("PING\n"), "+OK pong\n")
        self.assertEqual(len(self.gate), 1)

    def test_replayed_handshake(self) -> None:
        """The whole handshake, played again, throws nobody out."""
        client = Client(self.net, HERE)
        played = client.step()
        client.deliver(played)
        while not client.is_in:
            datagrams = client.step(client.take())
            client.deliver(datagrams)
            played += datagrams
        client.hear()
        client.ask("ANON\n")
        # After another handshake the hello is not the last one any more.
        client = self.net.enter(HERE)
        for datagram in played:
            self.net.server.received(datagram, HERE)
        client.hear()
        self.assertEqual(client.ask("PING\n"), "+OK pong\n")
        self.clock.advance(HANDSHAKE_TIMEOUT_S + 1)
        self.assertEqual(len(self.gate), 1)
        self.assertEqual(client.ask("PING\n"), "+OK pong\n")

    def test_forged_records(self) -> None:
        """Records of everybody else, from the same address, do nothing."""
        rng = random.Random(6347)  # noqa: S311 - for damage
        client = self.net.enter(HERE)
        client.ask("LOGIN alice word\n")
        for _ in range(20):
            record = client.seal("SAY bob x\n")
            hello = Client(self.net, HERE).step()[0]
            for _ in range(250):
                damaged = _damaged(rng, rng.choice((record, hello)))
                self.net.server.received(damaged, HERE)
            client.take()
            self.assertEqual(client.ask("WHOAMI\n"), "+OK alice\n")
        self.assertEqual(self.net.house.slow_store.commits, [])
        self.assertEqual(len(self.gate), 1)

    def test_errors_of_others(self) -> None:
        """What OpenSSL finds wrong with one datagram is nobody else's trouble."""
        rng = random.Random(4)  # noqa: S311 - for damage
        client = self.net.enter(HERE)
        hello = Client(self.net, THERE).step()[0]
        for number in range(500):
            self.net.server.received(_damaged(rng, hello), ("198.51.100.1", number))
            self.assertEqual(client.ask("PING\n"), "+OK pong\n")

    def test_repeated_record(self) -> None:
        """A record that comes twice counts once, and is counted as dropped."""
        client = self.net.enter(HERE)
        record = client.seal("PING\n")
        client.deliver([record, record])
        self.assertEqual(client.hear(), "+OK pong\n")
        self.assertEqual(client.drops[-2:], [None, DtlsDrop.FORGED])


def _set_ciphers(ciphers: str, context: SSL.Context) -> None:
    context.set_cipher_list(ciphers.encode())


def _connections() -> int:
    """Count OpenSSL's connections that are in memory."""
    return sum(isinstance(thing, SSL.Connection) for thing in gc.get_objects())


def _damaged(rng: random.Random, datagram: bytes) -> bytes:
    """Change a datagram somewhere; the first byte still says DTLS."""
    damaged = bytearray(datagram)
    match rng.randrange(5):
        case 0:
            del damaged[rng.randrange(1, len(damaged)) :]
        case 1:
            damaged[rng.randrange(1, len(damaged))] ^= 1 << rng.randrange(8)
        case 2:
            damaged[0] = (damaged[0] - 20 + rng.randrange(1, 44)) % 44 + 20
        case 3:
            damaged[3:13] = rng.randbytes(10)
        case _:
            at = rng.randrange(1, len(damaged))
            damaged[at:] = rng.randbytes(rng.randrange(200))
    return bytes(damaged)

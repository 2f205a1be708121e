"""Sealed datagrams: who is heard, what is remembered, what it costs."""

from __future__ import annotations

import secrets

from attrs import frozen
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import MisuseError
from securerecv.wire import sealed, sealing
from securerecv.wire.datagram import (
    MAX_DATAGRAM_BYTES,
    REPLY_OVERHEAD_BYTES,
    REQUEST_FIELDS,
    key_id_of,
    milliseconds,
)
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.hpke import Psk, encapsulate, private_key_of, public_key_of
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.replay import ReplayMemory, digest_of
from securerecv.wire.sealed import Opened, SealedReceiver
from securerecv.wire.sealing import SealedSender
from tests import sealed_by_hand

NOW_S = 1_800_000_000.0
ADDRESS = "192.0.2.1"
REQUEST = b"#t SAY alice The door opens at nine.\n"

PRIVATE_KEY = secrets.token_bytes(32)
PUBLIC_KEY = public_key_of(private_key_of(PRIVATE_KEY))


@frozen
class OneToken:
    """A token as the receiver sees it."""

    owner: str
    secret: bytes


PSK = Psk(secrets.token_bytes(16), secrets.token_bytes(32))

Receiver = SealedReceiver[OneToken]

SENDER = SealedSender(PUBLIC_KEY)
DATAGRAMS = [SENDER.seal(b"%d" % number, NOW_S) for number in range(60)]


def plenty() -> OpeningBudget:
    """Give a budget that these tests do not use up."""
    return OpeningBudget(burst_s=1000.0, burst_per_address_s=1000.0)


def flipped(datagram: bytes, bit: int) -> bytes:
    """Change one bit."""
    changed = bytearray(datagram)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


class SealedTestCase(SynchronousTestCase):
    """A receiver, and what several tests do with it."""

    def setUp(self) -> None:
        """Begin with nothing seen."""
        self.memory = ReplayMemory()
        self.tokens = {PSK.psk_id: OneToken("alice", PSK.secret)}
        self.receiver = self.new_receiver()

    def new_receiver(
        self, budget: OpeningBudget | None = None, max_contexts: int = 100
    ) -> Receiver:
        """Make a receiver on the memory that there is."""
        return SealedReceiver(
            [PRIVATE_KEY],
            self.tokens.get,
            self.memory,
            budget or plenty(),
            max_contexts,
        )

    def open(
        self, datagram: bytes, now_s: float = NOW_S, address: str = ADDRESS
    ) -> Opened[OneToken]:
        """Give a datagram to the receiver."""
        return self.receiver.open(datagram, address, now_s)

    def assert_dropped(
        self,
        reason: DropReason,
        datagram: bytes,
        now_s: float = NOW_S,
        address: str = ADDRESS,
    ) -> None:
        """Give a datagram to the receiver that it must not take."""
        drop = self.assertRaises(Dropped, self.open, datagram, now_s, address)
        self.assertIs(drop.reason, reason)

    def allow_no_openings(self) -> None:
        """Let public-key work fail the test from now on."""
        self.patch(sealed, "decapsulate", None)


class ReceivingTests(SealedTestCase):
    """What is taken, and what is known about it."""

    def test_anonymous(self) -> None:
        """A datagram without a token is opened, and nobody's."""
        sender = SealedSender(PUBLIC_KEY)
        for sequence in range(3):
            opened = self.open(sender.seal(REQUEST, NOW_S))
            self.assertEqual(opened.request, REQUEST)
            self.assertIsNone(opened.token)
            self.assertEqual(opened.sequence, sequence)
            self.assertEqual(opened.enc, sender.enc)

    def test_token(self) -> None:
        """A datagram with a token is opened, and its owner's."""
        sender = SealedSender(PUBLIC_KEY, PSK)
        for _ in range(3):
            opened = self.open(sender.seal(REQUEST, NOW_S))
            self.assertEqual(opened.request, REQUEST)
            self.assertIs(opened.token, self.tokens[PSK.psk_id])

    def test_token_dropped(self) -> None:
        """A token that is dropped is refused from the next datagram on."""
        sender = SealedSender(PUBLIC_KEY, PSK)
        self.open(sender.seal(REQUEST, NOW_S))
        token = self.tokens.pop(PSK.psk_id)
        datagram = sender.seal(REQUEST, NOW_S)
        self.assert_dropped(DropReason.UNKNOWN_TOKEN, datagram)
        self.tokens[PSK.psk_id] = token
        self.open(datagram)

    def test_together(self) -> None:
        """Of several, each is taken or not by itself, in their order."""
        senders = SealedSender(PUBLIC_KEY, PSK), SealedSender(PUBLIC_KEY)
        good = [sender.seal(REQUEST, NOW_S) for sender in senders * 2]
        datagrams = [good[0], b"", good[1], flipped(good[2], 8 * 80), good[0], good[3]]
        opened, dropped = self.receiver.open_all(datagrams, ADDRESS, NOW_S)
        self.assertEqual([one.sequence for one in opened], [0, 0, 1])
        self.assertEqual(
            [one.enc for one in opened],
            [senders[0].enc, senders[1].enc, senders[1].enc],
        )
        reasons = [DropReason.MALFORMED, DropReason.FORGED, DropReason.REPLAYED]
        self.assertEqual(dropped, reasons)

    def test_two_keys(self) -> None:
        """A receiver with an old and a new key opens what is sealed to either."""
        other = secrets.token_bytes(32)
        receiver: Receiver = SealedReceiver(
            [other, PRIVATE_KEY], self.tokens.get, self.memory, plenty()
        )
        for public_key in (PUBLIC_KEY, public_key_of(private_key_of(other))):
            sender = SealedSender(public_key)
            for _ in range(2):
                opened = receiver.open(sender.seal(REQUEST, NOW_S), ADDRESS, NOW_S)
                self.assertEqual(opened.request, REQUEST)

    def test_one_enc_for_all(self) -> None:
        """A sender that uses one ``enc`` for all keys and tokens is understood."""
        other_key = secrets.token_bytes(32)
        other = Psk(secrets.token_bytes(16), secrets.token_bytes(32))
        self.tokens[other.psk_id] = OneToken("bob", other.secret)
        receiver: Receiver = SealedReceiver(
            [other_key, PRIVATE_KEY], self.tokens.get, self.memory, plenty()
        )
        ephemeral = secrets.token_bytes(32)
        number = 0
        for _ in range(2):
            for private_key in (PRIVATE_KEY, other_key):
                public_key = public_key_of(private_key_of(private_key))
                for psk in (Psk(b"", b""), PSK, other):
                    sender = sealed_by_hand.Sender(
                        public_key, ephemeral, psk.secret, psk.psk_id
                    )
                    datagram = sender.seal(REQUEST, milliseconds(NOW_S), number)
                    opened = receiver.open(datagram, ADDRESS, NOW_S)
                    self.assertEqual(opened.request, REQUEST)
                    self.assertIs(opened.token, self.tokens.get(psk.psk_id))
                    self.assertRaises(Dropped, receiver.open, datagram, ADDRESS, NOW_S)
                    number += 1
        self.assertEqual(self.memory.remembered, 1)

    def test_milliseconds(self) -> None:
        """A time keeps its milliseconds on the way through floating point."""
        now_ms = milliseconds(NOW_S)
        # The first is one of those that cutting off instead of rounding gets wrong.
        for time_ms in (1_089_710_435_590, *range(now_ms, now_ms + 1000)):
            self.assertEqual(milliseconds(time_ms / 1000), time_ms)

    def test_largest(self) -> None:
        """The largest request that fits arrives; a datagram beyond is refused."""
        for psk in (None, PSK):
            sender = SealedSender(PUBLIC_KEY, psk)
            request = bytes(sender.max_request_bytes)
            datagram = sender.seal(request, NOW_S)
            self.assertEqual(len(datagram), MAX_DATAGRAM_BYTES)
            self.assertEqual(self.open(datagram).request, request)
            too_long = sender.seal(request, NOW_S) + b"x"
            self.assert_dropped(DropReason.MALFORMED, too_long)

    def test_small_order(self) -> None:
        """No point of small order is agreed with, however it is written."""
        self.assertEqual(key_id_of(PUBLIC_KEY), self.datagram_with(b"")[2:10])
        order_8 = [
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        ]
        points = [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18]
        points += [int.from_bytes(bytes.fromhex(point), "little") for point in order_8]
        for point in points:
            for high_bit in (0, 2**255):
                enc = (point | high_bit).to_bytes(32, "little")
                self.assert_dropped(DropReason.FORGED, self.datagram_with(enc))
        self.assertEqual(self.memory.remembered, 0)

    def datagram_with(self, enc: bytes) -> bytes:
        """Make one that gets as far as its ``enc``."""
        now_ms = milliseconds(NOW_S)
        key_id = key_id_of(PUBLIC_KEY)
        return REQUEST_FIELDS.pack(0xC1, 0, key_id, now_ms, 0, enc) + bytes(40)

    def test_silent_about_secrets(self) -> None:
        """What is printed of an opened datagram holds no plaintext and no key."""
        shown = repr(self.open(SealedSender(PUBLIC_KEY, PSK).seal(REQUEST, NOW_S)))
        self.assertNotIn("door", shown)
        _, exported = encapsulate(PUBLIC_KEY)
        self.assertEqual(repr(exported), "Secrets()")
        self.assertNotIn("secret", repr(PSK))

    def test_bad_keys(self) -> None:
        """A key or secret of a wrong size is the programmer's mistake, and said."""
        self.assertRaises(MisuseError, private_key_of, bytes(31))
        self.assertRaises(MisuseError, SealedSender, bytes(31))
        self.assertRaises(MisuseError, SealedSender, bytes(32))
        short = Psk(PSK.psk_id, bytes(31))
        self.assertRaises(MisuseError, SealedSender, PUBLIC_KEY, short)


class ForgeryTests(SealedTestCase):
    """What is not genuine, and what it leaves behind."""

    def assert_nothing_kept(self) -> None:
        """Nothing but an opening may have been charged."""
        self.assertEqual(self.memory.remembered, 0)
        self.assertEqual(len(self.receiver._contexts), 0)

    @given(st.binary(max_size=300))
    def test_junk(self, junk: bytes) -> None:
        """Whatever comes is dropped, and leaves nothing behind."""
        self.assertRaises(Dropped, self.open, junk)
        self.assert_nothing_kept()

    @settings(max_examples=200)
    @given(
        st.sampled_from([0, 1, 1, 2]),
        st.integers(-121_000, 121_000),
        st.integers(0, 2**64 - 1),
        st.binary(min_size=32, max_size=32),
        st.sampled_from([b"", PSK.psk_id]),
        st.binary(max_size=100),
    )
    def test_well_formed_junk(
        self,
        mode: int,
        off_ms: int,
        sequence: int,
        enc: bytes,
        psk_id: bytes,
        rest: bytes,
    ) -> None:
        """Nor does what looks right in every field that a stranger can know."""
        now_ms = milliseconds(NOW_S)
        header = REQUEST_FIELDS.pack(
            0xC1, mode, key_id_of(PUBLIC_KEY), now_ms + off_ms, sequence, enc
        )
        self.assertRaises(Dropped, self.open, header + psk_id + rest)
        self.assert_nothing_kept()

    def test_every_bit(self) -> None:
        """With any one bit changed nothing is taken, and the genuine one still is."""
        for psk in (None, PSK):
            sender = SealedSender(PUBLIC_KEY, psk)
            self.open(sender.seal(REQUEST, NOW_S))
            windows, contexts = self.memory.remembered, len(self.receiver._contexts)
            genuine = sender.seal(b"x", NOW_S)
            record = self.memory.find(digest_of(sender.enc))
            assert record is not None
            before = record.record()
            for bit in range(len(genuine) * 8):
                self.assertRaises(Dropped, self.open, flipped(genuine, bit))
            self.assertEqual(record.record(), before)
            self.assertEqual(self.memory.remembered, windows)
            self.assertEqual(len(self.receiver._contexts), contexts)
            self.assertEqual(self.open(genuine).request, b"x")

    def test_first_forged(self) -> None:
        """A forged first datagram keeps nobody from sending the genuine one."""
        genuine = SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S)
        self.assert_dropped(DropReason.FORGED, flipped(genuine, len(genuine) * 8 - 1))
        self.assert_nothing_kept()
        self.open(genuine)


class OrderTests(SealedTestCase):
    """What the network does to the order."""

    @given(st.lists(st.integers(0, 59), max_size=200))
    def test_each_once(self, order: list[int]) -> None:
        """Reordered and repeated at will, each datagram is taken exactly once."""
        self.memory = ReplayMemory()
        self.receiver = self.new_receiver()
        taken: list[int] = []
        for number in order:
            try:
                taken.append(int(self.open(DATAGRAMS[number]).request))
            except Dropped as drop:
                assert drop.reason is DropReason.REPLAYED
        assert sorted(taken) == sorted(set(order))

    @settings(max_examples=30)
    @given(st.lists(st.integers(0, 59), max_size=60), st.integers(1, 59))
    def test_each_once_over_a_restart(self, order: list[int], at: int) -> None:
        """A restart between any two of them changes nothing."""
        self.memory = ReplayMemory()
        self.receiver = self.new_receiver()
        taken: list[int] = []
        for place, number in enumerate(order):
            if place == at and taken:
                window = self.memory.find(digest_of(SENDER.enc))
                assert window is not None
                record = window.record()
                self.memory = ReplayMemory()
                self.receiver = self.new_receiver()
                self.receiver.restore(record.digest, record.expires_s, record.state)
            try:
                taken.append(int(self.open(DATAGRAMS[number]).request))
            except Dropped as drop:
                assert drop.reason is DropReason.REPLAYED
        assert sorted(taken) == sorted(set(order))


class CostTests(SealedTestCase):
    """What public-key work is done for, and what it is not."""

    def test_following(self) -> None:
        """Only the first datagram of a sender costs public-key work."""
        sender = SealedSender(PUBLIC_KEY)
        self.open(sender.seal(REQUEST, NOW_S))
        self.allow_no_openings()
        for _ in range(5):
            self.open(sender.seal(REQUEST, NOW_S))

    def test_refused_without(self) -> None:
        """What can be refused without public-key work is."""
        sender, named = SealedSender(PUBLIC_KEY), SealedSender(PUBLIC_KEY, PSK)
        first, first_named = sender.seal(REQUEST, NOW_S), named.seal(REQUEST, NOW_S)
        record = self.open(first).replay_record
        self.memory = ReplayMemory(max_encs=1)
        self.receiver = self.new_receiver()
        self.receiver.restore(record.digest, record.expires_s, record.state)
        self.allow_no_openings()
        self.assert_dropped(DropReason.REPLAYED, first)
        self.assert_dropped(DropReason.MEMORY_FULL, first_named)
        self.assert_dropped(DropReason.STALE, first_named, NOW_S + 121)
        self.assert_dropped(DropReason.NOT_FOR_US, flipped(first, 16))
        self.assert_dropped(DropReason.MALFORMED, first[:73])
        self.tokens.clear()
        self.assert_dropped(DropReason.UNKNOWN_TOKEN, first_named)

    def test_budget(self) -> None:
        """Beyond the budget new senders are dropped, for a while; known ones go on."""
        cost_s = 1 / 128
        self.receiver = self.new_receiver(
            OpeningBudget(
                share=1 / 8,
                share_per_address=1 / 16,
                burst_s=4 * cost_s,
                burst_per_address_s=2 * cost_s,
                cost_s=cost_s,
            )
        )
        known = SealedSender(PUBLIC_KEY)
        self.open(known.seal(REQUEST, NOW_S))
        self.open(SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S))
        waiting = SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S)
        over = DropReason.OVER_BUDGET
        self.assert_dropped(over, waiting)
        forged = flipped(waiting, len(waiting) * 8 - 1)
        self.assert_dropped(DropReason.FORGED, forged, address="192.0.2.2")
        self.assert_dropped(DropReason.FORGED, forged, address="192.0.2.3")
        self.assert_dropped(over, forged, address="192.0.2.4")
        self.open(known.seal(REQUEST, NOW_S))
        self.assert_dropped(over, waiting, NOW_S + 1 / 16)
        self.open(waiting, NOW_S + 1 / 8)
        self.assertEqual(self.memory.remembered, 3)

    def test_reserve(self) -> None:
        """What strangers use up is not what those have who are none."""
        cost_s = 1 / 128
        small = {"share": 1 / 64, "share_per_address": 1 / 64, "cost_s": cost_s}
        self.receiver = SealedReceiver(
            [PRIVATE_KEY],
            self.tokens.get,
            self.memory,
            OpeningBudget(burst_s=cost_s, burst_per_address_s=cost_s, **small),
            max_contexts=1,
            reserve=OpeningBudget(
                burst_s=4 * cost_s, burst_per_address_s=2 * cost_s, **small
            ),
        )
        over, forged = DropReason.OVER_BUDGET, DropReason.FORGED
        known = SealedSender(PUBLIC_KEY)
        self.open(known.seal(REQUEST, NOW_S))
        stranger = SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S)
        self.assert_dropped(over, stranger, address="198.51.100.1")
        wrong = Psk(b"?" * 16, PSK.secret)
        unknown = SealedSender(PUBLIC_KEY, wrong).seal(REQUEST, NOW_S)
        self.assert_dropped(DropReason.UNKNOWN_TOKEN, unknown)
        # With a token, and then under a known enc whose keys are not at hand.
        self.open(SealedSender(PUBLIC_KEY, PSK).seal(REQUEST, NOW_S))
        self.open(known.seal(REQUEST, NOW_S))
        # Who has seen a token's id uses up the share of that token alone.
        copied = SealedSender(PUBLIC_KEY, Psk(PSK.psk_id, bytes(32)))
        self.assert_dropped(forged, copied.seal(REQUEST, NOW_S))
        self.assert_dropped(over, copied.seal(REQUEST, NOW_S))
        self.assert_dropped(over, stranger)
        other = Psk(b"o" * 16, PSK.secret)
        self.tokens[other.psk_id] = OneToken("bob", PSK.secret)
        self.open(SealedSender(PUBLIC_KEY, other).seal(REQUEST, NOW_S))
        self.assert_dropped(over, SealedSender(PUBLIC_KEY, other).seal(REQUEST, NOW_S))

    def test_memory_full(self) -> None:
        """Beyond the memory new senders are dropped; known ones go on."""
        self.memory = ReplayMemory(max_encs=2)
        self.receiver = self.new_receiver()
        known = [SealedSender(PUBLIC_KEY), SealedSender(PUBLIC_KEY, PSK)]
        for sender in known:
            self.open(sender.seal(REQUEST, NOW_S))
        new = SealedSender(PUBLIC_KEY, PSK)
        self.assert_dropped(DropReason.MEMORY_FULL, new.seal(REQUEST, NOW_S))
        for sender in known:
            self.open(sender.seal(REQUEST, NOW_S))
        later_s = NOW_S + 120.001
        self.open(new.seal(REQUEST, later_s), later_s)
        self.assertEqual(self.memory.remembered, 1)

    def test_few_contexts(self) -> None:
        """A sender whose keys are no longer at hand is known all the same."""
        self.receiver = self.new_receiver(max_contexts=1)
        senders = [SealedSender(PUBLIC_KEY) for _ in range(3)]
        for _ in range(2):
            for sender in senders:
                datagram = sender.seal(REQUEST, NOW_S)
                self.open(datagram)
                self.assertEqual(len(self.receiver._contexts), 1)
                self.assert_dropped(DropReason.REPLAYED, datagram)

    def test_contexts_used_last(self) -> None:
        """The keys at hand are those of the senders that were heard last."""
        self.receiver = self.new_receiver(max_contexts=2)
        one, two, three = (SealedSender(PUBLIC_KEY) for _ in range(3))
        for sender in (one, two, one, three):
            self.open(sender.seal(REQUEST, NOW_S))
        self.allow_no_openings()
        for sender in (one, three):
            self.open(sender.seal(REQUEST, NOW_S))

    def test_after_a_long_silence(self) -> None:
        """A sender that was forgotten is remembered anew, its old datagrams stale."""
        sender = SealedSender(PUBLIC_KEY)
        first = sender.seal(REQUEST, NOW_S)
        self.open(first)
        later_s = NOW_S + 600
        self.open(SealedSender(PUBLIC_KEY).seal(REQUEST, later_s), later_s)
        self.assertIsNone(self.memory.find(digest_of(sender.enc)))
        second = sender.seal(REQUEST, later_s)
        self.open(second, later_s)
        self.assertIsNotNone(self.memory.find(digest_of(sender.enc)))
        self.assert_dropped(DropReason.REPLAYED, second, later_s)
        self.assert_dropped(DropReason.STALE, first, later_s)
        self.open(sender.seal(REQUEST, later_s), later_s)


class ReplyTests(SealedTestCase):
    """Answers to sealed requests."""

    def test_answered(self) -> None:
        """Only the sender opens the reply, and sees to which request it belongs."""
        for psk in (None, PSK):
            sender, other = SealedSender(PUBLIC_KEY, psk), SealedSender(PUBLIC_KEY, psk)
            other.seal(REQUEST, NOW_S)
            for sequence in range(3):
                opened = self.open(sender.seal(REQUEST, NOW_S))
                reply = opened.reply(b"#t +OK")
                self.assertEqual(sender.open_reply(reply), (sequence, b"#t +OK"))
                drop = self.assertRaises(Dropped, other.open_reply, reply)
                self.assertIs(drop.reason, DropReason.NOT_FOR_US)

    def test_never_longer(self) -> None:
        """A reply may be as long as the request, and not a byte longer."""
        datagram = SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S)
        opened = self.open(datagram)
        most = opened.max_reply_bytes
        self.assertEqual(most, len(datagram) - REPLY_OVERHEAD_BYTES)
        self.assertRaises(MisuseError, opened.reply, bytes(most + 1))
        self.assertEqual(len(opened.reply(bytes(most))), len(datagram))

    def test_once(self) -> None:
        """A request is answered once: a second answer would have the same nonce."""
        opened = self.open(SealedSender(PUBLIC_KEY).seal(REQUEST, NOW_S))
        opened.reply(b"#t +OK")
        self.assertRaises(MisuseError, opened.reply, b"#t +OK")

    def test_shortest(self) -> None:
        """Even an empty request leaves room for a reply."""
        sender = SealedSender(PUBLIC_KEY)
        opened = self.open(sender.seal(b"", NOW_S))
        self.assertEqual(opened.max_reply_bytes, 58 + 16 - 33)
        reply = opened.reply(bytes(opened.max_reply_bytes))
        self.assertEqual(sender.open_reply(reply)[0], 0)

    @given(st.binary(max_size=100))
    def test_junk(self, junk: bytes) -> None:
        """Whatever comes to a sender is dropped."""
        self.assertRaises(Dropped, SENDER.open_reply, junk)
        self.assertRaises(Dropped, SENDER.open_reply, b"\xc2" + junk)


class SendingTests(SynchronousTestCase):
    """What a sender must not do."""

    def test_too_long(self) -> None:
        """A request that does not fit is refused, and no number is spent on it."""
        sender = SealedSender(PUBLIC_KEY)
        too_long = bytes(sender.max_request_bytes + 1)
        self.assertRaises(MisuseError, sender.seal, too_long, NOW_S)
        self.assertEqual(sender.seal(REQUEST, NOW_S)[18:26], bytes(8))

    def test_used_up(self) -> None:
        """After as many as one key is good for, nothing more is sealed."""
        sender = SealedSender(PUBLIC_KEY)
        sender._next = sealing.MAX_DATAGRAMS - 1
        sender.seal(REQUEST, NOW_S)
        self.assertRaises(MisuseError, sender.seal, REQUEST, NOW_S)

    def test_fresh(self) -> None:
        """Each sender has an ``enc`` and keys of its own."""
        one, two = SealedSender(PUBLIC_KEY), SealedSender(PUBLIC_KEY)
        self.assertNotEqual(one.enc, two.enc)
        self.assertNotEqual(
            one.seal(REQUEST, NOW_S)[58:], two.seal(REQUEST, NOW_S)[58:]
        )

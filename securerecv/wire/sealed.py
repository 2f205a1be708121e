"""
Receiving sealed datagrams, ``docs/protocol.md`` section 5.

Who may be heard is asked in the order of what an answer costs: sizes, names and
the time first, then the memory of repeats, then the budget for public-key work, and
only then is anything decrypted.  Only what has been authenticated changes any memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Generic, Protocol, TypeVar

from attrs import define, field
from Crypto.PublicKey.ECC import EccKey

from securerecv.errors import MisuseError
from securerecv.wire.datagram import (
    ENC_AT,
    HEADER_BYTES,
    KIND_REPLY,
    KIND_REQUEST,
    MAX_DATAGRAM_BYTES,
    MODE_BASE,
    REPLY_FIELDS,
    REPLY_OVERHEAD_BYTES,
    TAG_BYTES,
    TIME_AT,
    TOKEN_ID_AT,
    key_id_of,
    milliseconds,
)
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.hpke import Psk, decapsulate, private_key_of, public_key_of
from securerecv.wire.numbered import NumberedCipher
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.replay import ReplayMemory, ReplayRecord, Window, digest_of

MAX_CONTEXTS = 4096
"""Senders whose next datagram costs no public-key work, about 5 KiB each."""

_TIME_AND_SEQUENCE = Struct(">QQ")
_BASE_BYTES = HEADER_BYTES[MODE_BASE]


class Token(Protocol):
    """What a receiver has to know of a token."""

    @property
    def secret(self) -> bytes:
        """32 bytes, the same as long as there is a token of that id."""


TokenT = TypeVar("TokenT", bound=Token)


@define(eq=False)
class _Addressee:
    """What datagrams of one mode are sealed to: one of our keys."""

    key: EccKey
    header_bytes: int


@define(eq=False)
class _Context:
    """What has been worked out for one sender: the keys, and what was taken."""

    addressee: _Addressee
    enc: bytes
    requests: NumberedCipher
    replies: NumberedCipher
    window: Window


@define(eq=False)
class Opened(Generic[TokenT]):
    """
    One datagram that was taken.

    Attributes:
        request: the plaintext, not looked at yet.
        token: the sender's; None for an anonymous one.
        sequence: its number under ``enc``.
        enc: 32 bytes; two datagrams with the same come from the same sender.
        max_reply_bytes: the longest text that `reply` takes, at least 41.
    """

    request: bytes = field(repr=False)
    token: TokenT | None = field(repr=False)
    sequence: int
    enc: bytes
    max_reply_bytes: int
    _context: _Context = field(repr=False)
    _has_replied: bool = False

    @property
    def replay_record(self) -> ReplayRecord:
        """
        What to store so that this datagram is not taken again after a restart.

        It holds all that was taken under this ``enc`` up to now.  Write records
        of one digest in the order in which they were asked for.
        """
        return self._context.window.record()

    def reply(self, answer: bytes) -> bytes:
        """
        Seal the one answer.

        The key is for replies alone, and the nonce is made of the request's
        number, which is taken once; so it cannot come again.  A restart must not
        change that: **store `replay_record` durably before sending a reply**,
        one that says no included.  Otherwise the request could be taken
        again, and another answer be sealed with the same nonce.  The header, and so
        which request is answered, is authenticated.

        Args:
            answer: at most `max_reply_bytes`.

        Returns:
            A datagram that is not longer than the request, so that nobody can
            make the receiver flood someone else.

        Raises:
            MisuseError: it is too long, or there was a reply already.
        """
        if self._has_replied:
            raise MisuseError("a sealed request is answered once")
        if len(answer) > self.max_reply_bytes:
            most = self.max_reply_bytes
            raise MisuseError(f"this request allows a reply of {most} bytes")
        self._has_replied = True
        header = REPLY_FIELDS.pack(KIND_REPLY, self.sequence, self.enc)
        return header + self._context.replies.seal(self.sequence, answer, header)


class SealedReceiver(Generic[TokenT]):
    """
    Opens sealed datagrams.

    Args:
        private_keys: X25519, 32 raw bytes each; new ones and those that old
            senders still know.
        token_of: finds a token by its 16-byte id.  It is asked for each
            datagram, so a token that is gone is refused from the next one on.
        memory: what was taken; `ReplayMemory.restore` comes before the first `open`.
        budget: for public-key work.
        max_contexts: senders whose keys are kept at hand.
        reserve: for those who are no strangers, when that budget is used up, by
            token id or ``enc`` instead of address; None for nothing more.
    """

    def __init__(
        self,
        private_keys: Iterable[bytes],
        token_of: Callable[[bytes], TokenT | None],
        memory: ReplayMemory,
        budget: OpeningBudget,
        max_contexts: int = MAX_CONTEXTS,
        reserve: OpeningBudget | None = None,
    ) -> None:
        # By all that stands before the time.
        self._addressees: dict[bytes, _Addressee] = {}
        for raw in private_keys:
            key = private_key_of(raw)
            key_id = key_id_of(public_key_of(key))
            for mode, size in HEADER_BYTES.items():
                beginning = bytes([KIND_REQUEST, mode]) + key_id
                self._addressees[beginning] = _Addressee(key, size)
        self._token_of = token_of
        self._memory = memory
        self._budget = budget
        self._reserve = reserve
        self._max_contexts = max_contexts
        # By enc and token id; those used last are last.
        self._contexts: OrderedDict[bytes, _Context] = OrderedDict()

    def restore(self, digest: bytes, expires_s: int, state: bytes) -> None:
        """
        Remember a stored `ReplayRecord`; before the first `open`.

        Raises:
            StorageError: no record of ours.
        """
        self._memory.restore(digest, expires_s, state)

    def restore_forgotten(self, expired_s: int) -> None:
        """See `ReplayMemory.restore_forgotten`; before the first `open`."""
        self._memory.restore_forgotten(expired_s)

    def open(self, datagram: bytes, address: str, now_s: float) -> Opened[TokenT]:
        """
        Take one datagram, if it is for us, new and genuine.

        Args:
            datagram: whatever came.
            address: where it says it is from, or a name for the neighbourhood
                (for IPv6 the /64): what the limits for one address are kept by.
            now_s: the server's clock, seconds since 1970.

        Raises:
            Dropped: it was not taken.  The caller stays silent.
        """
        return self._open(datagram, address, milliseconds(now_s))

    def open_all(
        self, datagrams: Iterable[bytes], address: str, now_s: float
    ) -> tuple[list[Opened[TokenT]], list[DropReason]]:
        """
        Take datagrams that came together, as `open` takes one.

        Returns:
            Those that were taken, and why the others were not.
        """
        now_ms = milliseconds(now_s)
        opened: list[Opened[TokenT]] = []
        dropped: list[DropReason] = []
        for datagram in datagrams:
            try:
                opened.append(self._open(datagram, address, now_ms))
            except Dropped as drop:
                dropped.append(drop.reason)
        return opened, dropped

    def _open(self, datagram: bytes, address: str, now_ms: int) -> Opened[TokenT]:
        size = len(datagram)
        addressee = self._addressees.get(datagram[:TIME_AT])
        if addressee is None:
            raise Dropped(_what_is_wrong(datagram))
        header_bytes = addressee.header_bytes
        if not header_bytes + TAG_BYTES <= size <= MAX_DATAGRAM_BYTES:
            raise Dropped(DropReason.MALFORMED)
        time_ms, sequence = _TIME_AND_SEQUENCE.unpack_from(datagram, TIME_AT)
        self._memory.check_time(time_ms, now_ms)
        header = datagram[:header_bytes]
        token: TokenT | None = None
        if header_bytes != _BASE_BYTES:
            token = self._token_of(header[TOKEN_ID_AT:])
            if token is None:
                raise Dropped(DropReason.UNKNOWN_TOKEN)

        name = header[ENC_AT:]
        context = self._contexts.get(name)
        if (
            context is None
            or context.addressee is not addressee
            or context.window.is_forgotten
        ):
            context, request = self._open_first(
                datagram, addressee, token, address, now_ms
            )
            self._contexts[name] = context
            if len(self._contexts) > self._max_contexts:
                self._contexts.popitem(last=False)
        else:
            context.window.check(sequence)
            sealed = datagram[header_bytes:]
            request = context.requests.open(sequence, sealed, header)
            self._contexts.move_to_end(name)
        context.window.take(sequence, time_ms)
        room = size - REPLY_OVERHEAD_BYTES
        return Opened(request, token, sequence, context.enc, room, context)

    def _open_first(
        self,
        datagram: bytes,
        addressee: _Addressee,
        token: TokenT | None,
        address: str,
        now_ms: int,
    ) -> tuple[_Context, bytes]:
        """
        Open a datagram whose sender's keys are not at hand, and work them out.

        What is not authenticated leaves nothing behind but its charge.
        """
        time_ms, sequence = _TIME_AND_SEQUENCE.unpack_from(datagram, TIME_AT)
        header = datagram[: addressee.header_bytes]
        enc = header[ENC_AT:_BASE_BYTES]
        digest = digest_of(enc)
        window = self._memory.find(digest)
        if window is None:
            self._memory.check_new(address, now_ms)
        else:
            window.check(sequence)
        psk = None
        known = digest if window is not None else None
        if token is not None:
            known = header[TOKEN_ID_AT:]
            psk = Psk(known, token.secret)
        if not self._may_open(address, known, now_ms / 1000):
            raise Dropped(DropReason.OVER_BUDGET)
        try:
            secrets = decapsulate(addressee.key, enc, psk)
        except ValueError:
            raise Dropped(DropReason.FORGED) from None
        requests = NumberedCipher(secrets.key, secrets.iv)
        request = requests.open(sequence, datagram[len(header) :], header)

        if window is None:
            window = self._memory.add(digest, address, time_ms)
        replies = NumberedCipher(secrets.reply_key, secrets.reply_iv)
        return _Context(addressee, enc, requests, replies, window), request

    def _may_open(self, address: str, known: bytes | None, now_s: float) -> bool:
        """Ask the budgets; ``known`` names who is no stranger."""
        if self._budget.take(address, now_s):
            return True
        if known is None or self._reserve is None:
            return False
        return self._reserve.take(known.hex(), now_s)


def _what_is_wrong(datagram: bytes) -> DropReason:
    """Tell why nothing of ours can open a datagram, whatever is in it."""
    for mode, header_bytes in HEADER_BYTES.items():
        if datagram.startswith(bytes([KIND_REQUEST, mode])):
            least = header_bytes + TAG_BYTES
            if least <= len(datagram) <= MAX_DATAGRAM_BYTES:
                return DropReason.NOT_FOR_US
    return DropReason.MALFORMED

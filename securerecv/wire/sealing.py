"""Sending sealed datagrams, ``docs/protocol.md`` section 5."""

from collections.abc import Callable

from securerecv.errors import MisuseError
from securerecv.wire.datagram import (
    KIND_REPLY,
    KIND_REQUEST,
    MAX_DATAGRAM_BYTES,
    MODE_BASE,
    MODE_PSK,
    REPLY_FIELDS,
    REPLY_OVERHEAD_BYTES,
    REQUEST_FIELDS,
    TAG_BYTES,
    key_id_of,
    milliseconds,
)
from securerecv.wire.drops import Dropped, DropReason
from securerecv.wire.hpke import Psk, Secrets, encapsulate
from securerecv.wire.numbered import NumberedCipher

MAX_DATAGRAMS = 2**23
"""Under one ``enc``: the limit of AES-GCM for one key, RFC 9001 section 6.6."""


class SealedSender:
    """
    Seals successive requests under one ``enc``, and opens the replies.

    Make a new one rather than copy or store one: two that go on from the same
    number would use a nonce twice.

    Args:
        public_key: the receiver's, X25519, 32 raw bytes.
        psk: the sender's token; without it the sender is anonymous.
        encapsulate: how ``enc`` and the secrets come about; other than
            `securerecv.wire.hpke.encapsulate` only for test vectors.

    Attributes:
        enc: 32 bytes, drawn anew.

    Raises:
        MisuseError: not a public key that can be used.
    """

    def __init__(
        self,
        public_key: bytes,
        psk: Psk | None = None,
        *,
        encapsulate: Callable[[bytes, Psk | None], tuple[bytes, Secrets]] = encapsulate,
    ) -> None:
        self.enc, secrets = encapsulate(public_key, psk)
        self._requests = NumberedCipher(secrets.key, secrets.iv)
        self._replies = NumberedCipher(secrets.reply_key, secrets.reply_iv)
        self._key_id = key_id_of(public_key)
        self._mode = MODE_BASE if psk is None else MODE_PSK
        self._token_id = b"" if psk is None else psk.psk_id
        self._next = 0

    @property
    def max_request_bytes(self) -> int:
        """The longest request that fits into a datagram."""
        header_bytes = REQUEST_FIELDS.size + len(self._token_id)
        return MAX_DATAGRAM_BYTES - header_bytes - TAG_BYTES

    def seal(self, request: bytes, now_s: float) -> bytes:
        """
        Seal the next request.

        To send a datagram again, send the same bytes: the receiver takes one of
        them.

        Args:
            request: a line and its payload, as in a conversation.
            now_s: seconds since 1970.

        Returns:
            A datagram.

        Raises:
            MisuseError: the request is too long, or this ``enc`` is used up.
        """
        if len(request) > self.max_request_bytes:
            most = self.max_request_bytes
            raise MisuseError(f"a sealed request has at most {most} bytes")
        sequence = self._next
        if sequence >= MAX_DATAGRAMS:
            raise MisuseError("that was all for one enc: begin another")
        # Counted first: whatever happens below, no number is used twice.
        self._next += 1
        fields = REQUEST_FIELDS.pack(
            KIND_REQUEST,
            self._mode,
            self._key_id,
            milliseconds(now_s),
            sequence,
            self.enc,
        )
        header = fields + self._token_id
        return header + self._requests.seal(sequence, request, header)

    def open_reply(self, datagram: bytes) -> tuple[int, bytes]:
        """
        Open a reply to one of this sender's requests.

        A copy of a reply opens again: go by the number.

        Returns:
            The request's sequence number, and the answer.

        Raises:
            Dropped: ``malformed``, ``not-for-us`` (a reply to another sender, or
                to what was not sent) or ``forged``.
        """
        size = len(datagram)
        if not REPLY_OVERHEAD_BYTES <= size <= MAX_DATAGRAM_BYTES:
            raise Dropped(DropReason.MALFORMED)
        kind, sequence, enc = REPLY_FIELDS.unpack_from(datagram)
        if kind != KIND_REPLY:
            raise Dropped(DropReason.MALFORMED)
        if enc != self.enc[: len(enc)] or sequence >= self._next:
            raise Dropped(DropReason.NOT_FOR_US)
        header = datagram[: REPLY_FIELDS.size]
        sealed = datagram[REPLY_FIELDS.size :]
        return sequence, self._replies.open(sequence, sealed, header)

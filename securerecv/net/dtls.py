"""
Conversations over DTLS 1.2, all on one socket.

OpenSSL works on memory: datagrams are fed to a `Connection` and datagrams are
taken from it.  A peer costs nothing until it has shown, by a cookie, that it
receives what is sent to its address; and a new handshake from an address that
has a conversation replaces it only when it has finished.
"""

from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from typing import Any, Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from securerecv.limits import HANDSHAKE_TIMEOUT_S
from securerecv.net.addresses import host_of
from securerecv.net.conversation import Conversation, Pipe
from securerecv.net.gate import Gate
from securerecv.net.tls import DATAGRAM_BYTES, ServerDtls

Address = tuple[Any, ...]
"""Where a datagram came from: host and port, and for IPv6 two more."""

# RFC 6347 section 4.1: a record begins with type, version, epoch, sequence
# number and length; section 4.2.2: a handshake message with its type.
_RECORD_HEADER_BYTES = 13
_LENGTH_AT = 11
_EPOCH = slice(3, 5)
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_RANDOM = slice(27, 59)
_MAX_RECORD_BYTES = 1 << 14


class Dropped(Enum):
    """Why a datagram was not taken."""

    MALFORMED = "malformed"
    NO_COOKIE = "no cookie yet"
    UNKNOWN = "no conversation"
    NO_ROOM = "no room"
    REPEATED = "repeated hello"


class Sender(Protocol):
    """Sends datagrams to an address."""

    def __call__(self, datagrams: Sequence[bytes], address: Address) -> object:
        """Send them, in their order, or lose them."""


class DtlsServer:
    """
    All DTLS conversations of one socket.

    Args:
        tls: keys, versions and cookies.
        gate: how many there may be.
        converse: begins a conversation with a peer, given its host and pipe.
        send: sends datagrams.
        clock: calls later.
    """

    def __init__(
        self,
        tls: ServerDtls,
        gate: Gate,
        converse: Callable[[str, Pipe, Callable[[], None]], Conversation],
        send: Sender,
        clock: IReactorTime,
    ) -> None:
        self._tls = tls
        self._gate = gate
        self._converse = converse
        self._send = send
        self._clock = clock
        self._listener = tls.connection()
        self._shaking_hands: dict[Address, _Peer] = {}
        self._peers: dict[Address, _Peer] = {}

    def received(self, datagram: bytes, address: Address) -> Dropped | None:
        """Take a datagram; why it was dropped, if it was."""
        newcomer = self._shaking_hands.get(address)
        peer = self._peers.get(address)
        if _is_hello(datagram):
            random = datagram[_RANDOM]
            if any(known and known.random == random for known in (newcomer, peer)):
                return Dropped.REPEATED
            return self._listen(datagram, address)
        # While a new handshake is under way, its records are those of epoch 0
        # and the encrypted end of the handshake; the rest is the old one's.
        if newcomer is not None and (
            peer is None or datagram[0] == _HANDSHAKE or datagram[_EPOCH] == b"\0\0"
        ):
            newcomer.received(datagram)
        elif peer is not None:
            peer.received(datagram)
        else:
            return Dropped.UNKNOWN
        return None

    def _listen(self, datagram: bytes, address: Address) -> Dropped | None:
        """Answer a hello without a cookie; begin a handshake with one."""
        connection = self._listener
        connection.set_app_data(address)
        try:
            connection.bio_write(datagram)
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            request = list(_datagrams(connection))
            # Who cannot be trusted with an address is sent less than it sent.
            if sum(map(len, request)) < len(datagram):
                self._send(request, address)
            return Dropped.NO_COOKIE
        except SSL.Error:
            self._listener = self._tls.connection()
            return Dropped.MALFORMED
        self._listener = self._tls.connection()
        before = self._shaking_hands.pop(address, None)
        if before is not None:
            before.abort()
        peer = _Peer(self, connection, address, datagram[_RANDOM])
        if not self._gate.arrive(peer):
            return Dropped.NO_ROOM
        self._shaking_hands[address] = peer
        peer.start()
        return None

    # -- for the peers ------------------------------------------------------------

    def shook_hands(self, peer: "_Peer") -> Conversation:
        """Let a peer take the place of whoever had its address before."""
        del self._shaking_hands[peer.remote]
        before = self._peers.pop(peer.remote, None)
        if before is not None:
            before.abort()
        self._peers[peer.remote] = peer
        self._gate.shook_hands(peer)
        return self._converse(peer.address, peer, lambda: self._gate.came_in(peer))

    def gone(self, peer: "_Peer") -> None:
        """Forget a peer."""
        self._gate.leave(peer)
        for peers in (self._shaking_hands, self._peers):
            if peers.get(peer.remote) is peer:
                del peers[peer.remote]

    def send(self, datagrams: Sequence[bytes], address: Address) -> None:
        """Send datagrams."""
        self._send(datagrams, address)

    def call_later(self, delay_s: float, call: Callable[[], None]) -> IDelayedCall:
        """Call later."""
        return self._clock.callLater(delay_s, call)


class _Peer:
    """
    One peer, from its cookie on.

    Attributes:
        address: its host, for limits.
        remote: its address.
        random: of its hello, by which a repeated one is known.
    """

    def __init__(
        self,
        server: DtlsServer,
        connection: SSL.Connection,
        remote: Address,
        random: bytes,
    ) -> None:
        self.address = host_of(remote[0])
        self.remote = remote
        self.random = random
        self._server = server
        self._connection = connection
        self._conversation: Conversation | None = None
        self._gone = False
        self._alarm: IDelayedCall | None = None
        self._handshake_deadline = server.call_later(HANDSHAKE_TIMEOUT_S, self.abort)

    def start(self) -> None:
        """Go on with the handshake that the cookie began."""
        self._proceed()

    def received(self, datagram: bytes) -> None:
        """Take a datagram."""
        self._connection.bio_write(datagram)
        self._proceed()

    def _proceed(self) -> None:
        try:
            if self._conversation is None:
                self._shake_hands()
            if self._conversation is not None:
                self._read(self._conversation)
        except (SSL.ZeroReturnError, SSL.SysCallError):
            self._flush()
            self.abort()
        except SSL.Error:
            # Only the peer itself can break its own handshake or records:
            # OpenSSL passes over what does not authenticate.
            self._flush()
            self.abort()

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._flush()
            self._set_alarm()
            return
        self._flush()
        self._stop_alarms()
        conversation = self._server.shook_hands(self)
        self._conversation = conversation
        conversation.start()

    def _read(self, conversation: Conversation) -> None:
        while not self._gone:
            try:
                record = self._connection.recv(_MAX_RECORD_BYTES)
            except SSL.WantReadError:
                break
            conversation.received(record)
        self._flush()

    def _flush(self) -> None:
        datagrams = list(_datagrams(self._connection))
        if datagrams:
            self._server.send(datagrams, self.remote)

    def _set_alarm(self) -> None:
        """Have OpenSSL send its part of the handshake again when it is time."""
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        timeout_s = self._connection.DTLSv1_get_timeout()
        if timeout_s is not None:
            self._alarm = self._server.call_later(timeout_s, self._time_is_up)

    def _time_is_up(self) -> None:
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self.abort()
            return
        self._flush()
        self._set_alarm()

    def _stop_alarms(self) -> None:
        for call in (self._alarm, self._handshake_deadline):
            if call is not None and call.active():
                call.cancel()

    # -- as a guest of the gate -----------------------------------------------------

    def make_way(self) -> None:
        """See `securerecv.net.gate.Guest`."""
        self.abort()

    def dismiss(self, words: str) -> None:
        """See `securerecv.net.gate.Guest`."""
        if self._conversation is None:
            self.abort()
        else:
            self._conversation.dismiss(words)

    # -- what the conversation wants of its transport ---------------------------------

    def write(self, data: bytes) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        self._connection.send(data)
        self._flush()

    def pause(self) -> None:
        """Do nothing: datagrams that nobody waits for are lost, as they may be."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        self.abort()

    def abort(self) -> None:
        """Say goodbye and forget the peer."""
        if self._gone:
            return
        self._gone = True
        self._stop_alarms()
        self._server.gone(self)
        if self._conversation is not None:
            self._conversation.over()
            try:
                self._connection.shutdown()
            except SSL.Error:
                return
            self._flush()


def _is_hello(datagram: bytes) -> bool:
    return (
        len(datagram) >= _RANDOM.stop
        and datagram[0] == _HANDSHAKE
        and datagram[_EPOCH] == b"\0\0"
        and datagram[_RECORD_HEADER_BYTES] == _CLIENT_HELLO
    )


def _datagrams(connection: SSL.Connection) -> Iterator[bytes]:
    """Take what OpenSSL wants sent: records, put together as far as they fit."""
    waiting = b""
    while True:
        try:
            data = connection.bio_read(1 << 16)
        except SSL.WantReadError:
            break
        at = 0
        while at < len(data):
            length = int.from_bytes(data[at + _LENGTH_AT : at + _RECORD_HEADER_BYTES])
            end = at + _RECORD_HEADER_BYTES + length
            if waiting and len(waiting) + end - at > DATAGRAM_BYTES:
                yield waiting
                waiting = b""
            waiting += data[at:end]
            at = end
    if waiting:
        yield waiting

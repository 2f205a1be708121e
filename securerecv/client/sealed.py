"""Sending one sealed datagram, ``docs/protocol.md`` section 5."""

from socket import socket
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.protocol import DatagramProtocol

from securerecv.client.address import ServerAddress
from securerecv.client.datagrams import (
    NOBODY_RECEIVES,
    find_hosts,
    listen,
    why_closed,
)
from securerecv.client.errors import DisconnectedError, UnreachableError
from securerecv.client.requests import encode
from securerecv.errors import ErrorCode, PeerError
from securerecv.net.tls import DATAGRAM_BYTES
from securerecv.wire.drops import Dropped
from securerecv.wire.heardrecord import read_record
from securerecv.wire.hpke import Psk
from securerecv.wire.replies import NotUnderstoodError, error_of
from securerecv.wire.sealing import SealedSender

ACK_TIMEOUT_S = 5.0
"""How long an answer is waited for."""

_TAG = "#1"


class _Shot(DatagramProtocol):
    """Sends one datagram to one address, and takes what comes back."""

    def __init__(
        self, host: str, port: int, datagram: bytes, replies: "_Replies"
    ) -> None:
        self._place = host, port
        self._datagram = datagram
        self._replies = replies
        self._has_failed = False

    def startProtocol(self) -> None:
        """Send it."""
        transport: Any = self.transport
        self._socket: socket = transport.socket
        try:
            transport.connect(*self._place)
            transport.write(self._datagram)
        except OSError as error:
            self._failed(str(error.strerror or error))

    def datagramReceived(self, datagram: bytes, addr: object) -> None:
        """Take a reply."""
        self._replies.received(datagram)

    def connectionRefused(self) -> None:
        """Take note that nobody receives there."""
        self._failed(NOBODY_RECEIVES)

    def stopProtocol(self) -> None:
        """Take note that the socket is closed."""
        self._failed(why_closed(self._socket))

    def _failed(self, words: str) -> None:
        if not self._has_failed:
            self._has_failed = True
            self._replies.failed(UnreachableError(words))


class _Replies:
    """
    Waits for the one reply, from whichever address.

    Args:
        sender: opens it.
        places: how many addresses were tried.

    Attributes:
        answer: fires with the words of ``+OK``.
    """

    def __init__(self, sender: SealedSender, places: int) -> None:
        self.answer: Deferred[str] = Deferred()
        self._sender = sender
        self._places = places
        self._over = False

    def received(self, datagram: bytes) -> None:
        """Take a datagram, if it is a reply."""
        if self.answer.called:
            return
        try:
            _, text = self._sender.open_reply(datagram)
            (heard,) = read_record(text)
        except (Dropped, NotUnderstoodError, ValueError):
            return
        if heard.tag == _TAG and heard.mark == "+OK":
            self.answer.callback(heard.text)
        elif heard.tag == _TAG:
            self.answer.errback(error_of(heard.text))

    def failed(self, reason: Exception) -> None:
        """Take note that an address cannot be reached."""
        self._places -= 1
        if not self._places and not self._over and not self.answer.called:
            self.answer.errback(reason)

    def end(self) -> None:
        """Wait no more."""
        self._over = True


def seal(
    sender: SealedSender, to: str, body: bytes, now_s: float, *, tagged: bool
) -> bytes:
    """
    Make the one datagram.

    Args:
        sender: has the server's key.
        to: a user name or an anonymous address.
        body: of the message.
        now_s: seconds since 1970.
        tagged: an answer is wanted.

    Raises:
        PeerError: ``too-large``; it does not fit what every path lets through.
        MisuseError: ``to`` is no name.
    """
    tag = f"{_TAG} " if tagged else ""
    datagram = sender.seal(encode(f"{tag}SEND {to} {len(body)}", body), now_s)
    if len(datagram) > DATAGRAM_BYTES:
        room = len(body) - len(datagram) + DATAGRAM_BYTES
        words = f"a sealed datagram to {to} holds {room} bytes, and this is {len(body)}"
        raise PeerError(ErrorCode.TOO_LARGE, words)
    return datagram


async def send_sealed(
    reactor: Any,
    server: ServerAddress,
    key: bytes,
    to: str,
    body: bytes,
    *,
    token: Psk | None = None,
    ack: bool = False,
) -> str | None:
    """
    Send one message in one datagram, without any conversation.

    The same datagram goes to one address of each family that the server has,
    since nobody says which one it receives at; it takes one of them.

    Args:
        reactor: sends, resolves names and tells the time.
        server: where.
        key: the server's, X25519, 32 bytes.
        to: a user name or an anonymous address.
        body: of the message.
        token: whose owner is the sender; without it nobody is.
        ack: ask for an answer and wait for it.

    Returns:
        The message's id, or None if no answer was asked for.

    Raises:
        PeerError: ``too-large``, and nothing was sent; or the server refuses.
        UnreachableError: nothing was sent, or nobody receives there.
        DisconnectedError: no answer came; the message is stored or not.
    """
    sender = SealedSender(key, token)
    datagram = seal(sender, to, body, reactor.seconds(), tagged=ack)
    try:
        places = _one_of_each_family(await find_hosts(reactor, server.host))
        replies = _Replies(sender, len(places))
        ports = []
        for host in places:
            shot = _Shot(host, server.port, datagram, replies)
            try:
                ports.append(listen(reactor, shot, host))
            except UnreachableError as reason:
                replies.failed(reason)
        try:
            return await _answer(reactor, replies, ack=ack)
        finally:
            replies.end()
            await gatherResults([maybeDeferred(port.stopListening) for port in ports])
    except UnreachableError as reason:
        raise UnreachableError(f"cannot reach {server}: {reason}") from None


async def _answer(reactor: Any, replies: _Replies, *, ack: bool) -> str | None:
    if not ack:
        # What could not even be sent is known at once.
        if replies.answer.called:
            await replies.answer
        return None
    try:
        return await replies.answer.addTimeout(ACK_TIMEOUT_S, reactor)
    except DeferredTimeoutError:
        raise DisconnectedError(
            f"no answer came within {ACK_TIMEOUT_S:.0f} seconds: nobody knows whether"
            " the message was stored. A wrong key, token or clock gets no answer"
            " either"
        ) from None


def _one_of_each_family(hosts: list[str]) -> list[str]:
    return list({":" in host: host for host in reversed(hosts)}.values())

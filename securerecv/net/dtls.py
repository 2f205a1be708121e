"""
Conversations over DTLS 1.2, all on one socket.

OpenSSL works on memory: datagrams are fed to a `Connection` and datagrams are
taken from it.  A peer costs nothing until it has shown, by a cookie, that it
receives what is sent to its address; and a new handshake from an address that
has a conversation replaces it only when it has finished.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from enum import Enum
from functools import partial
from typing import Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IReactorTime

from securerecv.net.addresses import host_of
from securerecv.net.conversation import Conversation
from securerecv.net.dtlspeer import Peer, Sender, taken_from
from securerecv.net.gate import Gate
from securerecv.net.outbox import Address
from securerecv.net.tls import ServerDtls
from securerecv.wire.dtlsrecords import (
    HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    is_of_conversation,
    is_of_handshake,
    is_record_of_conversation,
    random_of_hello,
)
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.verbs import Standing


class DtlsDrop(Enum):
    """Why nothing came of a datagram."""

    MALFORMED = "malformed"
    """It cannot be DTLS, or is a hello that OpenSSL does not understand."""

    NO_COOKIE = "no-cookie"
    """A hello whose sender has yet to show that it is where it says."""

    REPEATED_HELLO = "repeated-hello"
    """The hello of a handshake that has begun."""

    NO_CONVERSATION = "no-conversation"
    """Nobody has a conversation, or shakes hands, from that address."""

    OVER_BUDGET = "over-budget"
    """Handshakes that are begun take too much time; the client tries again."""

    NO_ROOM = "no-room"
    """Too many conversations, or handshakes that take too long."""

    FORGED = "forged-or-repeated"
    """OpenSSL has passed over all of it."""


class Converse(Protocol):
    """Begins a conversation."""

    def __call__(
        self, host: str, peer: Peer, came_in: Callable[[Standing], None]
    ) -> Conversation:
        """Make it; see `Conversation`."""


class DtlsServer:
    """
    All DTLS conversations of one socket.

    Args:
        tls: keys, versions and cookies.
        gate: how many there may be.
        converse: begins a conversation with a peer whose handshake is done.
        send: sends datagrams.
        clock: tells the time and calls later.
        budget: for handshakes.
    """

    def __init__(
        self,
        tls: ServerDtls,
        gate: Gate,
        converse: Converse,
        send: Sender,
        clock: IReactorTime,
        budget: OpeningBudget,
    ) -> None:
        self.send = send
        self._seconds = clock.seconds
        self._budget = budget
        self.call_later = clock.callLater
        self._tls = tls
        self._gate = gate
        self._converse = converse
        self._listener = tls.connection()
        self._shaking_hands: dict[Address, Peer] = {}
        self._peers: dict[Address, Peer] = {}
        self._is_closed = False

    def received(self, datagram: bytes, address: Address) -> DtlsDrop | None:
        """Take one datagram; say why nothing came of it, if nothing did."""
        if not HEADER_BYTES <= len(datagram) <= MAX_DATAGRAM_BYTES:
            return DtlsDrop.MALFORMED
        peer = self._peers.get(address)
        if peer is not None and is_of_conversation(datagram):
            return None if peer.received(datagram) else DtlsDrop.FORGED
        newcomer = self._shaking_hands.get(address)
        random = random_of_hello(datagram)
        if random is not None:
            if any(known and known.random == random for known in (newcomer, peer)):
                return DtlsDrop.REPEATED_HELLO
            return self._listen(datagram, address, random)
        # While a new handshake is under way, its records are those that are not
        # encrypted, and the encrypted end of it; the others are the old one's.
        if newcomer is not None and (peer is None or is_of_handshake(datagram)):
            peer = newcomer
        if peer is None:
            return DtlsDrop.NO_CONVERSATION
        return None if peer.received(datagram) else DtlsDrop.FORGED

    def received_together(
        self, datagrams: Sequence[bytes], address: Address
    ) -> list[DtlsDrop]:
        """Take datagrams that came in one go; say why nothing came of some."""
        peer = self._peers.get(address)
        if peer is not None and all(map(is_record_of_conversation, datagrams)):
            return [DtlsDrop.FORGED] * peer.received_records(datagrams)
        drops = [self.received(datagram, address) for datagram in datagrams]
        return [drop for drop in drops if drop is not None]

    def close(self) -> None:
        """Begin no more conversations."""
        self._is_closed = True

    def _listen(
        self, datagram: bytes, address: Address, random: bytes
    ) -> DtlsDrop | None:
        """Answer a hello without a cookie; begin a handshake with one."""
        if self._is_closed:
            return DtlsDrop.NO_ROOM
        connection = self._listener
        # A cookie is for one hello: who has seen one cannot begin others.
        connection.set_app_data((address, random))
        connection.bio_write(datagram)
        try:
            connection.DTLSv1_listen()
        except SSL.WantReadError:
            return self._ask_for_cookie(address)
        self._listener = self._tls.connection()
        if not self._budget.take(host_of(address[0]), self._seconds()):
            return DtlsDrop.OVER_BUDGET
        before = self._shaking_hands.get(address)
        if before is not None:
            before.vanish()
        peer = Peer(self, connection, address, random)
        if not self._gate.arrive(peer):
            peer.vanish()
            return DtlsDrop.NO_ROOM
        self._shaking_hands[address] = peer
        peer.start()
        return None

    def _ask_for_cookie(self, address: Address) -> DtlsDrop:
        request = taken_from(self._listener)
        if not request:
            # What was wrong stays in OpenSSL's list of errors, and would be
            # taken for somebody else's; to listen again empties it.
            with suppress(SSL.WantReadError):
                self._listener.DTLSv1_listen()
            return DtlsDrop.MALFORMED
        # 44 bytes, which is less than any hello has: nobody can have more sent to
        # another's address than they send themselves.
        self.send(request, address)
        return DtlsDrop.NO_COOKIE

    # -- for the peers ------------------------------------------------------------

    def shook_hands(self, peer: Peer) -> Conversation:
        """Let a peer take the place of whoever had its address before."""
        del self._shaking_hands[peer.remote]
        before = self._peers.get(peer.remote)
        if before is not None:
            before.vanish()
        self._peers[peer.remote] = peer
        self._gate.shook_hands(peer)
        return self._converse(peer.address, peer, partial(self._gate.came_in, peer))

    def gone(self, peer: Peer) -> None:
        """Forget a peer."""
        self._gate.leave(peer)
        for peers in (self._shaking_hands, self._peers):
            if peers.get(peer.remote) is peer:
                del peers[peer.remote]

"""DTLS in memory: a server, clients of it, and the network between them."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import struct
from collections import deque
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from OpenSSL import SSL

from securerecv.net.conversation import Conversation
from securerecv.net.dtls import DtlsDrop, DtlsServer
from securerecv.net.dtlspeer import Peer
from securerecv.net.gate import Gate
from securerecv.net.lanes import Lanes
from securerecv.net.lanetransfers import LaneTransfers
from securerecv.net.outbox import Address
from securerecv.net.tls import ClientDtls, ServerDtls
from securerecv.vault.keyring import Keyring
from securerecv.wire.dtlsrecords import records
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.records import RecordSession
from securerecv.wire.verbs import Standing
from tests.test_conversation import TERMS, House

CLIENT_CONTEXT = ClientDtls()


def _pseudorandom(secret: bytes, seed: bytes, size: int) -> bytes:
    """Compute P_SHA384 of RFC 5246 section 5."""
    found = b""
    step = seed
    while len(found) < size:
        step = hmac.digest(secret, step, hashlib.sha384)
        found += hmac.digest(secret, step + seed, hashlib.sha384)
    return found[:size]


class Net:
    """
    A house with a door for datagrams, and everybody who knocks.

    Attributes:
        house: the server's inside, with its clock.
        sent: datagrams from the server that nobody has taken yet, by address.
        path: says what becomes of a datagram to the server.
    """

    def __init__(
        self,
        keyring: Keyring,
        gate: Gate | None = None,
        budget: OpeningBudget | None = None,
    ) -> None:
        self.house = House()
        self.gate = Gate() if gate is None else gate
        self.sent: dict[Address, deque[bytes]] = {}
        self.lanes = Lanes(self._send, self.house.clock, secrets.token_bytes)
        tls = ServerDtls(
            keyring.certificate, keyring.certificate_key, self.house.clock.seconds
        )
        self.server = DtlsServer(
            tls,
            self.gate,
            self._converse,
            self._send,
            self.house.clock,
            budget or OpeningBudget(cost_s=0.0),
        )

    def _converse(
        self, host: str, peer: Peer, came_in: Callable[[Standing], None]
    ) -> Conversation:
        clock = self.house.clock
        session = RecordSession(TERMS, self.house.budget, clock.seconds())

        def transfers(conversation: Conversation) -> LaneTransfers:
            return LaneTransfers(conversation, session, peer, self.lanes)

        return Conversation(
            self.house.desk, session, host, peer, clock, came_in, transfers
        )

    def _send(self, datagrams: Sequence[bytes], address: Address) -> int:
        self.sent.setdefault(address, deque()).extend(datagrams)
        return 0

    def taken(self, address: Address) -> list[bytes]:
        """Take what the server has sent to an address."""
        return list(self.sent.pop(address, ()))

    def enter(self, address: Address) -> Client:
        """Shake hands from an address, and take the greeting."""
        client = Client(self, address)
        client.shake_hands()
        assert client.hear().startswith("* securerecv/1 ready\n")
        return client


class Client:
    """
    A client's end of DTLS.

    Attributes:
        address: where it is.
        over: the server has said goodbye.
        is_in: the handshake has finished here.
        drops: what the server said of each datagram that was delivered.
    """

    def __init__(self, net: Net, address: Address) -> None:
        self.address = address
        self.over = False
        self.is_in = False
        self.drops: list[DtlsDrop | None] = []
        self._net = net
        # Records that came together with the end of the handshake.
        self._early: list[bytes] = []
        self._connection = CLIENT_CONTEXT.connection()

    # -- datagrams ------------------------------------------------------------

    def outgoing(self) -> list[bytes]:
        """Take what OpenSSL wants sent, a record each."""
        data = b""
        try:
            while True:
                data += self._connection.bio_read(1 << 16)
        except SSL.WantReadError:
            return list(records(data))

    def deliver(self, datagrams: Sequence[bytes]) -> None:
        """Have the server take datagrams."""
        for datagram in datagrams:
            self.drops.append(self._net.server.received(datagram, self.address))

    def take(self) -> list[bytes]:
        """Take what the server has sent; it arrives nowhere else."""
        return self._net.taken(self.address)

    # -- the handshake --------------------------------------------------------

    def step(self, datagrams: Sequence[bytes] = ()) -> list[bytes]:
        """Go on with the handshake; what is to be sent is returned."""
        for datagram in datagrams:
            if self.is_in:
                self._early += self.opened([datagram])
            else:
                self._connection.bio_write(datagram)
                self._try()
        if not datagrams:
            self._try()
        return self.outgoing()

    def _try(self) -> None:
        try:
            self._connection.do_handshake()
            self.is_in = True
        except SSL.WantReadError:
            pass

    def begin(self) -> list[bytes]:
        """Send a hello, take the cookie, and give the hello with the cookie."""
        self.deliver(self.step())
        return self.step(self.take())

    def shake_hands(self) -> None:
        """Do all of it."""
        self.deliver(self.begin())
        self.finish()

    def finish(self) -> None:
        """Go on until it is done."""
        while not self.is_in:
            datagrams = self.take()
            assert datagrams, self.drops
            self.deliver(self.step(datagrams))

    def handle_timeout(self) -> None:
        """Send again what OpenSSL finds that it is time for."""
        self._connection.DTLSv1_handle_timeout()
        self.deliver(self.outgoing())

    # -- talking --------------------------------------------------------------

    def seal(self, text: str | bytes) -> bytes:
        """Make the datagram with a record."""
        self._connection.send(text.encode() if isinstance(text, str) else text)
        (record,) = self.outgoing()
        return record

    def say(self, text: str | bytes) -> None:
        """Send a record, which arrives."""
        self.deliver([self.seal(text)])

    def forge(self, kind: int, content: bytes, number: int) -> bytes:
        """
        Make a record that OpenSSL would not, with the keys that it has.

        See RFC 5246 section 6.3 and RFC 5288 section 3.

        Args:
            kind: its content type.
            content: in clear.
            number: of the record; higher than any before.
        """
        connection = self._connection
        seed = (connection.server_random() or b"") + (connection.client_random() or b"")
        secret = connection.master_key() or b""
        keys = _pseudorandom(secret, b"key expansion" + seed, 72)
        place = struct.pack(">HHI", 1, 0, number)
        start = bytes([kind]) + b"\xfe\xfd"
        authentic = place + start + struct.pack(">H", len(content))
        sealed = AESGCM(keys[:32]).encrypt(keys[64:68] + place, content, authentic)
        return start + place + struct.pack(">H", 8 + len(sealed)) + place + sealed

    def opened(self, datagrams: Sequence[bytes]) -> list[bytes]:
        """Open datagrams of the server: a record each."""
        opened = []
        for datagram in datagrams:
            self._connection.bio_write(datagram)
            try:
                while True:
                    opened.append(self._connection.recv(1 << 14))
            except SSL.WantReadError:
                pass
            except SSL.ZeroReturnError:
                self.over = True
        return opened

    def hear(self) -> str:
        """Take what the server has said."""
        early, self._early = self._early, []
        return b"".join(early + self.opened(self.take())).decode()

    def ask(self, text: str | bytes) -> str:
        """Send a record and take what the server says to it."""
        self.say(text)
        return self.hear()

    def goodbye(self) -> None:
        """Send a close_notify."""
        self.deliver([self.seal_goodbye()])

    def seal_goodbye(self) -> bytes:
        """Make the datagram with a close_notify."""
        self._connection.shutdown()
        (record,) = self.outgoing()
        return record

"""Everything that is received over UDP, on one socket."""

import secrets
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred

from securerecv.assembly.office import Office
from securerecv.errors import ErrorCode
from securerecv.intake.sealeddesk import SealedDesk
from securerecv.net.addresses import host_of
from securerecv.net.conversation import Conversation
from securerecv.net.dtls import DtlsServer
from securerecv.net.dtlspeer import Peer
from securerecv.net.gate import Gate
from securerecv.net.lanes import Lanes
from securerecv.net.lanetransfers import LaneTransfers
from securerecv.net.outbox import Address
from securerecv.net.tls import ServerDtls
from securerecv.net.udp import Kind, UdpServer
from securerecv.settings import Settings
from securerecv.vault import seen
from securerecv.vault.keyring import Keyring
from securerecv.wire.budget import Budget
from securerecv.wire.drops import DropReason
from securerecv.wire.openings import OpeningBudget, for_handshakes, reserve
from securerecv.wire.records import RecordSession
from securerecv.wire.replay import ReplayMemory
from securerecv.wire.sealed import SealedReceiver
from securerecv.wire.session import Terms
from securerecv.wire.verbs import Standing


class DatagramSide:
    """
    Receives datagrams: conversations over DTLS, and sealed ones.

    Args:
        settings: what the operator decided.
        keyring: the server's own keys.
        office: carries out what is asked for.
        terms: of conversations.
        budget: for payloads, of all transports together.
        gate: how many conversations there may be.
        reactor: what it runs on.

    Attributes:
        server: the end of the socket; `UdpServer.listen` takes a port for it.
    """

    def __init__(
        self,
        settings: Settings,
        keyring: Keyring,
        office: Office,
        terms: Terms,
        budget: Budget,
        gate: Gate,
        reactor: Any,
    ) -> None:
        seconds: Callable[[], float] = reactor.seconds

        def converse(
            host: str, peer: Peer, came_in: Callable[[Standing], None]
        ) -> Conversation:
            session = RecordSession(terms, budget.share_of(host), seconds())

            def transfers(conversation: Conversation) -> LaneTransfers:
                return LaneTransfers(conversation, session, peer, self._lanes)

            return Conversation(
                office.desk, session, host, peer, reactor, came_in, transfers
            )

        self._office = office
        self._seconds = seconds
        tls = ServerDtls(keyring.certificate, keyring.certificate_key, seconds)
        self.server = UdpServer(settings.data, reactor)
        self._dtls = DtlsServer(
            tls, gate, converse, self.server.send, reactor, for_handshakes()
        )
        self.server.handle(Kind.DTLS, self._dtls.received_together)
        self._lanes = Lanes(self.server.send, reactor, secrets.token_bytes)
        self.server.handle(Kind.LANE, self._lanes.received)
        key = keyring.sealing_key.private_bytes_raw()
        self._sealed = SealedDesk(
            SealedReceiver(
                [key],
                office.tokens.find,
                ReplayMemory(),
                OpeningBudget(),
                reserve=reserve(),
            ),
            office.messages,
            budget.share_of,
            seconds,
            settings.max_message,
            self._sealed_refused,
            anonymous=settings.anonymous,
        )
        self.server.handle(Kind.SEALED, self._sealed_came, self._sealed.post)

    def start(self) -> None:
        """
        Remember what was taken before a restart; before the first datagram.

        Raises:
            StorageError: the store cannot be read.
        """
        now_s = self._seconds()
        self._sealed.restore(*self._office.store.query_now(seen.read, now_s))

    def close(self) -> None:
        """Begin no more conversations."""
        self._dtls.close()

    def stop(self) -> "Deferred[None]":
        """
        Give the port back.

        Returns:
            Fires when it is free.
        """
        self._lanes.close()
        return self.server.stop()

    def _sealed_refused(self, code: ErrorCode) -> None:
        """Count a sealed request that was understood, or not, and not carried out."""
        self.server.counters.dropped[f"{Kind.SEALED.value} {code.value}"] += 1

    def _sealed_came(
        self, datagrams: Sequence[bytes], address: Address
    ) -> list[DropReason]:
        """Take sealed datagrams; say why some were dropped."""

        def reply(answers: Sequence[bytes]) -> None:
            self.server.send(answers, address)

        return self._sealed.received(datagrams, host_of(address[0]), reply)

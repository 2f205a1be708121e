"""A house with files in it behind a real port for datagrams."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connectudp import connect_udp
from securerecv.net.conversation import Conversation
from securerecv.net.dtls import DtlsServer
from securerecv.net.dtlspeer import Peer
from securerecv.net.gate import Gate
from securerecv.net.lanes import Lanes
from securerecv.net.lanetransfers import LaneTransfers
from securerecv.net.tls import ServerDtls
from securerecv.net.udp import Kind, UdpServer
from securerecv.vault.keyring import open_keyring
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.records import RecordSession
from securerecv.wire.verbs import Standing
from tests.clientends import anybody
from tests.filehouse import TERMS
from tests.support import new_folder
from tests.test_conversation import House

reactor: Any = _reactor


class LaneHouse:
    """
    A house that people can reach over UDP.

    Attributes:
        house: its inside.
        server: the end of its socket, with counters.
        lanes: those of everybody.
        port: where it listens, on 127.0.0.1.
    """

    def __init__(self, test: TestCase) -> None:
        self.house = House(reactor)
        self.gate = Gate()
        folder = new_folder(test)
        keyring = open_keyring(folder)
        tls = ServerDtls(keyring.certificate, keyring.certificate_key, reactor.seconds)
        self.server = UdpServer(folder, reactor)
        self.lanes = Lanes(self.server.send, reactor, secrets.token_bytes)
        dtls = DtlsServer(
            tls,
            self.gate,
            self._converse,
            self.server.send,
            reactor,
            OpeningBudget(cost_s=0.0),
        )
        self.server.handle(Kind.DTLS, dtls.received_together)
        self.server.handle(Kind.LANE, self.lanes.received)
        listening: Any = self.server.listen(reactor, 0, "127.0.0.1")
        self.port: int = listening.getHost().port
        test.addCleanup(self.server.stop)
        test.addCleanup(self.lanes.close)
        test.addCleanup(self.gate.close, "the test is over", reactor)

    def _converse(
        self, host: str, peer: Peer, came_in: Callable[[Standing], None]
    ) -> Conversation:
        session = RecordSession(TERMS, self.house.budget, reactor.seconds())

        def transfers(conversation: Conversation) -> LaneTransfers:
            return LaneTransfers(conversation, session, peer, self.lanes)

        return Conversation(
            self.house.desk, session, host, peer, reactor, came_in, transfers
        )

    async def enter(self, name: str = "bob", port: int | None = None) -> Client:
        """Connect and log in."""
        server = ServerAddress("127.0.0.1", port or self.port)
        client = await connect_udp(reactor, server, anybody)
        await client.login(name, "word")
        return client

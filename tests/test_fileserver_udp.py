"""Files through a whole server over UDP: on the disk, and past a real clamd."""

from __future__ import annotations

import secrets
from io import BytesIO
from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connectudp import connect_udp
from securerecv.errors import ErrorCode, PeerError
from securerecv.scanning.proofs import EICAR
from securerecv.settings import Settings
from securerecv.wire.filelines import FileState
from tests.clamd import Clamd
from tests.clientends import anybody, failing
from tests.support import QUICK, add_accounts, new_folder, start_receiver

reactor: Any = _reactor

CONTENT = secrets.token_bytes(3_500_000)


class UdpFileTests(TestCase):
    """A server with a clamd, and a client over UDP."""

    def setUp(self) -> None:
        """Start both."""
        clamd = Clamd()
        self.addCleanup(clamd.remove)
        settings = Settings(
            proto="udp",
            port=0,
            interface="127.0.0.1",
            data=new_folder(self),
            scanner=f"unix:{clamd.place.path}",
        )
        add_accounts(settings, QUICK, alice="correct horse", bob="battery staple")
        self.receiver = start_receiver(self, settings)

    async def enter(self, user: str, password: str) -> Client:
        """Log somebody in."""
        _, port = self.receiver.ports["udp"]
        server = ServerAddress("127.0.0.1", port)
        client = await connect_udp(reactor, server, anybody)
        self.addCleanup(client._channel.close)
        await client.login(user, password)
        return client

    async def test_clean_and_infected(self) -> None:
        """What is clean comes out as it went in; what is infected does not."""
        bob = await self.enter("bob", "battery staple")
        alice = await self.enter("alice", "correct horse")
        clean = await bob.put("alice", BytesIO(CONTENT), "clean")
        self.assertIs(clean.state, FileState.CLEAN)
        infected = await bob.put("alice", BytesIO(EICAR), "infected")
        self.assertIs(infected.state, FileState.INFECTED)
        again = await bob.put("alice", BytesIO(CONTENT), "clean")
        self.assertEqual(again, clean)
        listed = {record.id: record.state for record in await alice.files()}
        self.assertEqual(
            listed, {clean.id: FileState.CLEAN, infected.id: FileState.INFECTED}
        )
        into = BytesIO()
        await alice.get(clean.id, into)
        self.assertEqual(into.getvalue(), CONTENT)
        error = await failing(alice.get(infected.id, BytesIO()), PeerError)
        self.assertIs(error.code, ErrorCode.INFECTED)

"""A client and a receiver that talk over UDP, both in this process."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor as _reactor
from twisted.trial.unittest import TestCase

from securerecv.client.address import ServerAddress
from securerecv.client.client import Client
from securerecv.client.connectudp import connect_udp
from securerecv.client.trust import Trust
from securerecv.settings import Settings
from tests.clientends import anybody
from tests.support import add_accounts, new_folder, start_receiver

reactor: Any = _reactor


class ReceiverTests(TestCase):
    """A client and a receiver, both in this process."""

    timeout = 60

    def setUp(self) -> None:
        """Start a receiver with two accounts, whose boxes are large."""
        self.settings = Settings(
            proto="both", port=0, interface="127.0.0.1", data=new_folder(self), keep=500
        )
        add_accounts(self.settings, alice="wonder land", bob="builder")
        self.receiver = start_receiver(self, self.settings)
        self.port = self.receiver.ports["udp"][1]

    async def connect(self, port: int | None = None, trust: Trust = anybody) -> Client:
        """Connect; the conversation is ended with the test."""
        address = ServerAddress("127.0.0.1", port or self.port)
        client = await connect_udp(reactor, address, trust)
        self.addCleanup(client._channel.close)
        return client

    async def alice(self, port: int | None = None) -> Client:
        """Connect as Alice."""
        client = await self.connect(port)
        await client.login("alice", "wonder land")
        return client

    async def bodies(self) -> list[bytes]:
        """Give what is in Alice's box, by a good way."""
        client = await self.alice()
        bodies = [message.body for message in await client.last()]
        await client.quit()
        return bodies

"""
A bridge between a receiver and an IRC channel.

    bridge.py IRC_PORT NICK IRC_PASSWORD CHANNEL MAILBOX

What is sent to MAILBOX is said in the channel, and so no secret any more. A line in
the channel that begins with a name and a colon is sent to that user's box.
"""

import sys
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.words.protocols.irc import IRCClient

from securerecv.client import PeerError, ServerAddress, connect, only
from securerecv.embed import ReceivedMessage, Receiver, load

irc_port, nick, password, channel, mailbox = sys.argv[1:]


class Bridge(IRCClient):
    """The end on IRC."""

    def __init__(self) -> None:
        self.nickname = nick
        self.password = password  # type: ignore[assignment]  # None, says Twisted
        self.is_joined: Deferred[None] = Deferred()

    def signedOn(self) -> None:
        """Go where the others are."""
        self.join(channel)

    def joined(self, channel: str) -> None:
        """Begin."""
        self.is_joined.callback(None)

    async def tell(self, message: ReceivedMessage) -> None:
        """Say in the channel what came in."""
        if message.to == mailbox:
            # Line ends would be commands, and control characters who knows what.
            text = "".join(c if c.isprintable() else " " for c in message.text)
            self.say(channel, f"<{message.sender}> {text}")

    def privmsg(self, user: str, channel: str, message: str) -> None:
        """Send on what is said to somebody."""
        name, colon, text = message.partition(": ")
        if colon and " " not in name:
            Deferred.fromCoroutine(self.send(name, text))

    async def send(self, name: str, text: str) -> None:
        """Send a message as any client does."""
        server = ServerAddress(*receiver.ports["tcp"])
        client = await connect(reactor, server, only([receiver.identity.pin]))
        await client.anonymous()
        try:
            await client.say(name, text)
        except PeerError as error:
            self.say(channel, f"not sent to {name}: {error}")
        await client.quit()


bridge = Bridge()
receiver = Receiver(load({}), reactor, on_message=bridge.tell)


async def main() -> None:
    """Connect to IRC, then receive."""
    endpoint = TCP4ClientEndpoint(reactor, "127.0.0.1", int(irc_port))
    await connectProtocol(endpoint, bridge)
    await bridge.is_joined
    receiver.privilegedStartService()
    receiver.startService()
    loop.addSystemEventTrigger("before", "shutdown", receiver.stopService)
    print(f"receiving on tcp {receiver.ports['tcp'][1]}", flush=True)


loop: Any = reactor
Deferred.fromCoroutine(main()).addErrback(lambda failure: failure.printTraceback())
loop.run()

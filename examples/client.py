"""
The client from code: sends a message, and shows what one's box holds.

    client.py SERVER PIN USER TO TEXT < password
"""

import sys
from typing import Any

from twisted.internet.task import react

from securerecv.client import ServerAddress, connect, only

server, pin, user, to, text = sys.argv[1:]
password = sys.stdin.readline().rstrip("\n")


async def main(reactor: Any) -> None:
    """Hold the conversation."""
    client = await connect(reactor, ServerAddress.parse(server), only([pin]))
    await client.login(user, password)
    print("sent as", await client.say(to, text))
    for message in await client.last():
        print(message.sender, message.body)
    await client.quit()


react(main)

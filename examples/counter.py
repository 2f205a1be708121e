"""
A web application that receives messages and shows how many.

    counter.py WEB_PORT

The receiver is set up as the server is, by SECURERECV_… variables.
"""

import sys
from typing import Any

from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from securerecv.embed import ReceivedMessage, Receiver, load


class Counter(Resource):
    """The one page."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def add(self, message: ReceivedMessage) -> None:
        """Count a message; what it says is nobody's business here."""
        self.count += 1

    def render_GET(self, request: Request) -> bytes:
        """Show the page."""
        request.setHeader("content-type", "text/html; charset=utf-8")
        request.setHeader("refresh", "5")
        return f"<h1>{self.count} messages received</h1>".encode()


counter = Counter()
receiver = Receiver(load({}), reactor, on_message=counter.add)
receiver.privilegedStartService()
receiver.startService()
loop: Any = reactor
loop.addSystemEventTrigger("before", "shutdown", receiver.stopService)
web = loop.listenTCP(int(sys.argv[1]), Site(counter), interface="127.0.0.1")
places = [
    f"receiving on {name} {host}:{n}" for name, (host, n) in receiver.ports.items()
]
places += [f"look at http://127.0.0.1:{web.getHost().port}/"]
# Not before: who has seen it may press Ctrl-C.
loop.callWhenRunning(print, "\n".join(places), flush=True)
loop.run()

"""
A web page for who has an account: the accounts of a data folder, and no receiver.

    portal.py WEB_PORT

The folder is named as for the server, by SECURERECV_DATA. A page that asks for
passwords belongs behind TLS; this one is only served to the machine that it is on.
"""

import sys
from collections.abc import Callable
from typing import Any

from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.web.guard import BasicCredentialFactory, HTTPAuthSessionWrapper
from twisted.web.resource import IResource
from twisted.web.server import Site
from twisted.web.static import Data
from zope.interface import Interface, implementer

from securerecv.embed import load, open_checker


@implementer(IRealm)
class Pages:
    """Who has an account gets a page."""

    def requestAvatar(
        self, avatar_id: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], Data, Callable[[], None]]:
        """Greet a user."""
        page = Data(b"hello, " + bytes(avatar_id), "text/plain")
        page.isLeaf = True
        return IResource, page, lambda: None


loop: Any = reactor
portal = Portal(Pages(), [open_checker(load({}), reactor)])
guarded = HTTPAuthSessionWrapper(portal, [BasicCredentialFactory(b"securerecv")])
web = loop.listenTCP(int(sys.argv[1]), Site(guarded), interface="127.0.0.1")
place = f"look at http://127.0.0.1:{web.getHost().port}/"
loop.callWhenRunning(print, place, flush=True)
loop.run()

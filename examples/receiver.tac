"""
A receiver as part of a Twisted application; start it with: twistd -ny receiver.tac

Beside it in the same process there may be whatever else the application does.
"""

from twisted.application.service import Application
from twisted.internet import reactor
from twisted.logger import Logger

from securerecv.embed import Receiver, load

log = Logger("example")


def tell(message):
    """Tell the log that something came, and for whom not."""
    log.info("a message of {size} bytes came in", size=len(message.body))


application = Application("receiver")
receiver = Receiver(load({}), reactor, on_message=tell)
receiver.setServiceParent(application)

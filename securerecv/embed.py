"""
The public face for programs that embed a receiver: nothing else need be imported.

A receiver in a few lines::

    from pathlib import Path

    from twisted.internet import reactor

    from securerecv.embed import Receiver, Settings

    def show(message):
        print(message.to, message.sender, message.text)

    receiver = Receiver(Settings(data=Path("var")), reactor, on_message=show)
    receiver.privilegedStartService()
    receiver.startService()
    print(receiver.ports)
    reactor.run()
"""

from collections.abc import Sequence
from typing import Any

from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.interfaces import IStreamServerEndpoint

from securerecv import service
from securerecv.assembly.accountchecker import open_checker
from securerecv.assembly.brought import Brought
from securerecv.assembly.callbacks import Callback
from securerecv.errors import ErrorCode, OperatorError, PeerError, SecurerecvError
from securerecv.intake.accountbook import AccountBook, open_account_book
from securerecv.interfaces import (
    MessageStore,
    ReceivedFile,
    ReceivedMessage,
    Scanner,
    Verdict,
    VerdictKind,
)
from securerecv.settings import Settings, load

__all__ = [
    "AccountBook",
    "ErrorCode",
    "MessageStore",
    "OperatorError",
    "PeerError",
    "ReceivedFile",
    "ReceivedMessage",
    "Receiver",
    "Scanner",
    "SecurerecvError",
    "Settings",
    "Verdict",
    "VerdictKind",
    "load",
    "open_account_book",
    "open_checker",
]


class Receiver(service.Receiver):
    """
    A receiver inside another program: a Twisted `IService`.

    It is started by the application that it is added to
    (``receiver.setServiceParent(application)``), or by hand, with
    ``privilegedStartService`` and ``startService``.  After the start ``ports``
    holds address and port by transport, ``{"tcp": ("0.0.0.0", 7443), …}``, and
    ``identity`` the pin and the sealing key.

    **The callbacks.**  ``on_message`` is called in the reactor's thread, once for
    each message to a user, after it was stored and before its sender is told so;
    what goes live to an anonymous session is not for it.  It sees the message in
    clear: what it keeps of that is no longer protected by anything here.  What it
    raises is logged, without its words, and changes nothing: the message is in
    its box.  After a crash the callback is not called again for what was stored
    before.

    ``on_file`` is told of each file that has come whole, and again of what became of
    it: ``clean``, ``infected``, or ``held`` until a scan succeeds.  It learns name and
    size.  The content is sealed to its owner, who fetches it with the client.

    A callback may return a Deferred or a coroutine.  While 256 of those have not
    finished, senders wait for their answers, and so do they with sending more;
    one that takes longer than a minute is cancelled.  ``stopService`` waits a few
    seconds for those under way.

    **Parts of your own.**  ``checkers`` take the place of the accounts of the
    data folder.  They are given `twisted.cred.credentials.IUsernamePassword`, and
    what they return as the avatar's id is the user's name.  A box, though, opens
    with its password: users whom only your checker knows may send, and have a
    box only if ``messages`` is yours as well.

    ``messages`` takes the place of the sealed boxes.  It gets all messages in
    clear, and whether they are encrypted on disk, how long they stay there, and
    that they are durable when `MessageStore.keep` fires, is then its business.
    Accounts, tokens, and which sealed datagrams were taken, stay in the data
    folder.

    ``scanner`` takes the place of ClamAV.  No file is given to anybody before it has
    said that it is clean.  The application starts and stops it.

    Args:
        settings: where to receive, and all else that an operator decides.
        reactor: what it runs on.
        on_message: called with each message that was stored.
        on_file: called with each file as it comes further.
        checkers: say who is who.
        messages: keeps the messages of users.
        scanner: looks at files.
        endpoints: receive over TCP at these, besides those of
            ``settings.listen``, rather than on the port of the settings.
    """

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        on_message: Callback[ReceivedMessage] | None = None,
        on_file: Callback[ReceivedFile] | None = None,
        checkers: Sequence[ICredentialsChecker] = (),
        messages: MessageStore | None = None,
        scanner: Scanner | None = None,
        endpoints: Sequence[IStreamServerEndpoint] = (),
    ) -> None:
        brought = Brought(
            on_message=on_message,
            on_file=on_file,
            checkers=checkers,
            messages=messages,
            scanner=scanner,
            endpoints=endpoints,
        )
        super().__init__(settings, reactor, brought=brought)

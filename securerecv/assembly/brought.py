"""What an application brings of its own when it embeds a receiver."""

from collections.abc import Sequence

from attrs import frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.internet.interfaces import IStreamServerEndpoint

from securerecv.assembly.callbacks import Callback
from securerecv.interfaces import MessageStore, ReceivedFile, ReceivedMessage, Scanner


@frozen
class Brought:
    """
    Callbacks, and parts that take the place of the receiver's.

    `securerecv.embed.Receiver` says what each is.
    """

    on_message: Callback[ReceivedMessage] | None = None
    on_file: Callback[ReceivedFile] | None = None
    checkers: Sequence[ICredentialsChecker] = ()
    messages: MessageStore | None = None
    scanner: Scanner | None = None
    endpoints: Sequence[IStreamServerEndpoint] = ()

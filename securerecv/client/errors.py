"""What can go wrong between a client and a server, besides ``-ERR``."""

from securerecv.errors import SecurerecvError


class UnreachableError(SecurerecvError):
    """No conversation could be begun: nothing was sent."""


class DisconnectedError(SecurerecvError):
    """The conversation is over; what was not answered may be done or not."""


class UntrustedServerError(SecurerecvError):
    """The server's key is not the one that it should be: nothing was sent."""


class UnknownServerError(UntrustedServerError):
    """
    The server's key was never seen before: nothing was sent.

    Attributes:
        pin: the key that it showed, ``sha256//`` and base64.
    """

    def __init__(self, words: str, pin: str) -> None:
        super().__init__(words)
        self.pin = pin

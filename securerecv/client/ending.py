"""The end of a conversation: why it came, and who is told."""

from twisted.internet.defer import Deferred

from securerecv.client.errors import DisconnectedError, UnreachableError
from securerecv.wire.replies import NotUnderstoodError


class Ending:
    """
    The end of one conversation, whatever it travels on.

    Attributes:
        reason: what went wrong; None if nothing did, or nothing yet.
        has_come: nothing more is heard or said.
        last_words: why the server will hang up, if it has said so.
    """

    def __init__(self) -> None:
        self.reason: Exception | None = None
        self.has_come = False
        self.last_words = ""
        self._waiters: list[Deferred[None]] = []

    @property
    def error(self) -> Exception:
        """What whoever asks for something now, or still waits, is told."""
        return self.reason or DisconnectedError("the conversation is over")

    def closed(self) -> "Deferred[None]":
        """See `securerecv.client.channel.Channel.closed`."""
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        if self.has_come:
            self.tell()
        return waiter

    def tell(self) -> None:
        """Tell those who wait for it that it has come."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if self.reason is None:
                waiter.callback(None)
            else:
                waiter.errback(self.reason)

    def listen(self, pushed: str) -> None:
        """Take note of last words, if the server has pushed some."""
        word, _, words = pushed.partition(" ")
        if word == "CLOSING":
            self.last_words = words

    def hung_up(self, otherwise: DisconnectedError) -> DisconnectedError:
        """Say why the server has hung up: in its last words, if it had any."""
        if self.last_words:
            return DisconnectedError(f"the server hung up: {self.last_words}")
        return otherwise


def fault(reason: Exception, *, greeted: bool) -> Exception:
    """
    Say why what the server sent ends the conversation.

    Args:
        reason: what came up when it was taken.
        greeted: whether it has greeted; before, it may be no server of ours.
    """
    if isinstance(reason, NotUnderstoodError) and not greeted:
        return UnreachableError(f"no securerecv server: {reason}")
    return reason

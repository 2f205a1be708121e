"""What a `securerecv.client.client.Client` asks of whatever carries its words."""

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from securerecv.client.content import Sink, Source
from securerecv.wire.filereplies import Found
from securerecv.wire.lines import Answer
from securerecv.wire.replies import Greeting, Pushed

ANSWER_TIMEOUT_S = 60.0
"""How long the server may be silent while it owes an answer."""

LOGIN_TIMEOUT_S = 180.0
"""The same where passwords are hashed: those before it have their turn first."""


class Channel(Protocol):
    """
    One conversation with a server, whatever it travels on.

    Attributes:
        pin: the server's key, ``sha256//`` and base64.
        greeting: what the server said first.
        pushed: called with what the server says on its own.  What it raises
            ends the conversation, and comes out of `closed`.
    """

    pin: str
    greeting: Greeting
    pushed: Callable[[Pushed], None]

    def request(
        self,
        line: str,
        payload: bytes | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> "Deferred[Answer]":
        """
        Ask for something; more may be asked before the answer is there.

        Args:
            line: the request, without tag and line end.
            payload: what follows it, or None.
            timeout_s: how long the server may be silent over it.

        Returns:
            Fires with the answer, in the order of the requests.  Fails with
            `PeerError` when the server refuses, and with `DisconnectedError`
            when the conversation ends before it is answered.

        Raises:
            MisuseError: the line is none, or too long.
        """

    def upload(self, line: str, source: Source) -> "Deferred[Answer]":
        """
        Send a file.

        Args:
            line: the ``PUT``, without tag and line end.
            source: what it is sent from; read from where on the server says.

        Returns:
            Fires with the second answer.  Fails as `request` does, and with
            what the source raises; that ends the conversation.
        """

    def download(self, line: str, sink: Sink) -> "Deferred[Found]":
        """
        Fetch a file.

        Args:
            line: the ``GET``, without tag and line end, for what is behind the
                sink's offset.
            sink: what it is received into.

        Returns:
            Fires when all of it is in the sink.  Fails as `request` does, and
            with what the sink raises; that ends the conversation.
        """

    def close(self) -> None:
        """End the conversation from this side."""

    def closed(self) -> "Deferred[None]":
        """
        Wait for the end of the conversation.

        Returns:
            Fires with None when this side ended it, and fails with what
            happened otherwise.
        """

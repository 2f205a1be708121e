"""Telling those who watch what has come in, and what became of it."""

from collections.abc import Callable

from twisted.logger import Logger

from securerecv.errors import ErrorCode, PeerError
from securerecv.names import normalise_user_name
from securerecv.wire.filelines import FileRecord
from securerecv.wire.lines import Message

_log = Logger()

News = Message | FileRecord
"""A message that came in, or a file as it is now."""

Listener = Callable[[News], bool]
"""Is told of something; False if the peer is too slow to be told more."""


class Announcer:
    """
    Knows who watches, and which anonymous sessions there are.

    Nothing is kept here: what an anonymous session is sent reaches it at once
    or not at all.
    """

    def __init__(self) -> None:
        self._watchers: dict[str, list[Listener]] = {}

    @property
    def is_heard(self) -> bool:
        """Whether anybody watches anything."""
        return bool(self._watchers)

    def watch(self, name: str, listener: Listener) -> None:
        """Begin to tell a listener what comes in for a user or an address."""
        self._watchers.setdefault(name, []).append(listener)

    def unwatch(self, name: str, listener: Listener) -> None:
        """Stop telling it."""
        listeners = self._watchers[name]
        listeners.remove(listener)
        if not listeners:
            del self._watchers[name]

    def announce(self, to: str, news: News) -> None:
        """Tell all who watch the box of a user, as the sender wrote the name."""
        listeners = self._watchers.get(normalise_user_name(to))
        if listeners:
            for listener in tuple(listeners):
                try:
                    listener(news)
                except Exception:  # noqa: BLE001 - the sender's answer must not fail
                    _log.failure("a watcher could not be told")

    def hand_over(self, address: str, message: Message) -> None:
        """
        Give a message to an anonymous session.

        Raises:
            PeerError: ``no-mailbox``; it is not there or does not watch.
                ``busy``; it does not read what it was sent before.
        """
        listeners = self._watchers.get(address, ())
        if not listeners:
            words = "nobody watches at that address"
            raise PeerError(ErrorCode.NO_MAILBOX, words)
        heard = [listener(message) for listener in tuple(listeners)]
        if True not in heard:
            words = "the receiver is not reading; try again"
            raise PeerError(ErrorCode.BUSY, words)

"""Sending a file's content over a stream, as quickly as the other end takes it."""

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from securerecv.client.content import Source

PIECE_BYTES = 1 << 18
"""
Read and written in one go, and what waits in memory at the most.

From 64 KiB to 1 MiB it makes no difference that could be measured: about 1.2 s of
processor time a GiB, of which nearly all is TLS.
"""


@implementer(IPushProducer)
class ContentSender:
    """
    Sends one file; the transport says when.

    Args:
        transport: where to.
        source: where from.
        at: how many bytes the other end has.
        moved: called after each piece.
        done: called when all is written.
        failed: called with what the source raises, and then nothing else.
    """

    def __init__(
        self,
        transport: Any,
        source: Source,
        at: int,
        *,
        moved: Callable[[], None],
        done: Callable[[], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._transport = transport
        self._source = source
        self._at = at
        self._moved = moved
        self._done = done
        self._failed = failed
        self._is_paused = False
        self._is_over = False

    def start(self) -> None:
        """Begin."""
        self._source.sent(self._at)
        self._transport.registerProducer(self, True)
        self.resumeProducing()

    def resumeProducing(self) -> None:
        """Send on, until that is enough for now."""
        self._is_paused = False
        while not self._is_paused and not self._is_over:
            if self._at >= self._source.size:
                self._end()
                self._done()
                return
            try:
                piece = self._source.read(self._at, PIECE_BYTES)
            except Exception as reason:  # noqa: BLE001 - a source may raise anything
                self._end()
                self._failed(reason)
                return
            self._at += len(piece)
            self._transport.write(piece)
            self._source.sent(self._at)
            self._moved()

    def pauseProducing(self) -> None:
        """Wait."""
        self._is_paused = True

    def stopProducing(self) -> None:
        """Send no more: the connection is lost."""
        self._is_over = True

    def _end(self) -> None:
        self._is_over = True
        self._transport.unregisterProducer()

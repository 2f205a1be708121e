"""Receiving at endpoints rather than on a port number of TCP."""

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    gatherResults,
    maybeDeferred,
)
from twisted.internet.interfaces import IProtocolFactory, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.assembly.places import Place, place_of
from securerecv.errors import OperatorError

_log = Logger()


class StreamSide:
    """
    Receives at endpoints.

    Args:
        factory: makes what is at this end of each connection.
        found: called with each place where it receives.
    """

    def __init__(
        self, factory: IProtocolFactory, found: Callable[[Place], None]
    ) -> None:
        self._factory = factory
        self._found = found
        self._ports: list[Any] = []
        self._coming: list[Deferred[None]] = []

    def listen(self, endpoints: Sequence[tuple[str, IStreamServerEndpoint]]) -> None:
        """
        Begin to receive.

        Args:
            endpoints: with the words for each.

        Raises:
            OperatorError: one cannot be had; then nothing is received at any.
        """
        for words, endpoint in endpoints:
            listening: Deferred[Any] = maybeDeferred(endpoint.listen, self._factory)
            failures: list[Failure] = []
            if listening.called:
                listening.addErrback(failures.append)
            if failures:
                self.stop()
                raise OperatorError(f"--listen {words}: {_why(failures[0])}")
            listening.addCallback(self._listens, words)
            # Some, such as an onion service's, need a while.
            listening.addErrback(self._failed, words)
            self._coming.append(listening)

    def stop(self) -> "Deferred[Any]":
        """
        Receive no more.

        Returns:
            Fires when all places are given back.
        """
        for coming in self._coming:
            coming.cancel()
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

    def _listens(self, port: Any, words: str) -> None:
        self._ports.append(port)
        self._found(place_of(port, "tcp", proxied=words.startswith("haproxy:")))

    def _failed(self, failure: Failure, words: str) -> None:
        if not failure.check(CancelledError):
            _log.critical(
                "nothing is received at {words}: {why}", words=words, why=_why(failure)
            )


def _why(failure: Failure) -> str:
    cause = getattr(failure.value, "socketError", failure.value)
    return getattr(cause, "strerror", None) or str(cause)

"""The client's end of DTLS, on a socket that is connected to one server."""

from collections.abc import Sequence
from contextlib import suppress
from errno import EMSGSIZE
from socket import socket
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from OpenSSL import SSL
from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from securerecv.client.datagrams import NOBODY_RECEIVES, why_closed
from securerecv.client.errors import (
    DisconnectedError,
    UnreachableError,
    UntrustedServerError,
)
from securerecv.client.tlswords import tls_words
from securerecv.net.gro import BatchProtocol
from securerecv.net.tls import DATAGRAM_BYTES, ClientDtls, peer_pin
from securerecv.wire.dtlsrecords import MAX_RECORD_BYTES, records
from securerecv.wire.dtlsrecords import datagrams as datagrams_of
from securerecv.wire.lanekeys import EXPORTER_LABEL, SECRET_BYTES
from securerecv.wire.lanepackets import FIRST_BYTE

_READ_BYTES = 1 << 16
_MIN_WAIT_S = 0.01
_LANE = bytes([FIRST_BYTE])


class Talk(Protocol):
    """What a `DtlsPath` tells whoever talks on it."""

    def shook_hands(self, pin: str) -> None:
        """Look at the server's key: it is encrypted from now on."""

    def received(self, record: bytes) -> None:
        """Take a record."""

    def packets(self, datagrams: Sequence[bytes]) -> None:
        """Take packets of lanes."""

    def lost(self, reason: Exception) -> None:
        """Take note that the path is gone; nothing more is told."""


class DtlsPath(BatchProtocol):
    """
    Carries records to and from one server.

    Args:
        talk: what to tell.
        clock: calls later.
        host: the server's IP address.
        port: the server's port.

    Attributes:
        heard: whether anything has come from there.
    """

    def __init__(self, talk: Talk, clock: IReactorTime, host: str, port: int) -> None:
        self.heard = False
        self._talk = talk
        self._clock = clock
        self._place = host, port
        self._connection = ClientDtls().connection()
        self._is_open = False
        self._over = False
        self._alarm: IDelayedCall | None = None
        self._socket: socket

    # -- what it is asked to do -----------------------------------------------------

    def send(self, record: bytes) -> None:
        """Send a record, or lose it."""
        if not self._over:
            self._connection.send(record)
            self._flush()

    def send_packets(self, datagrams: Sequence[bytes]) -> int:
        """
        Send packets of lanes, or lose them.

        Returns:
            How many were too long for the way out.
        """
        transport: Any = self.transport
        if self._over or transport is None:
            return 0
        count: int = transport.send(datagrams, None)
        return count

    def lane_secret(self, lane_id: bytes) -> bytes:
        """Export the secret of a lane, 32 bytes (RFC 5705)."""
        return self._connection.export_keying_material(
            EXPORTER_LABEL, SECRET_BYTES, lane_id
        )

    def close(self) -> None:
        """Say goodbye and leave; `Talk.lost` is not called."""
        if self._over:
            return
        if self._is_open:
            with suppress(SSL.Error):
                self._connection.shutdown()
            self._flush()
        self._leave()

    def give_up(self, words: str) -> None:
        """Leave, because there is nobody to reach."""
        self._lose(UnreachableError(words))

    # -- from the socket ----------------------------------------------------------

    def startProtocol(self) -> None:
        """Begin the handshake."""
        transport: Any = self.transport
        self._socket = transport.socket
        try:
            transport.connect(*self._place)
        except OSError as error:
            self._lose(_unreachable(error))
            return
        self._proceed()

    def datagrams_received(self, datagrams: list[bytes], address: object) -> None:
        """Take datagrams."""
        packets = [one for one in datagrams if one[:1] == _LANE]
        if packets and self._is_open and not self._over:
            self._talk.packets(packets)
        if len(packets) == len(datagrams):
            return
        for datagram in datagrams:
            if not self._over and datagram and datagram[:1] != _LANE:
                self.heard = True
                self._connection.bio_write(datagram)
                self._proceed()

    def connectionRefused(self) -> None:
        """Give up: the server's machine says that nobody receives there."""
        self._closed(NOBODY_RECEIVES)

    def stopProtocol(self) -> None:
        """Give up: the socket is closed."""
        if not self._over:
            self._closed(why_closed(self._socket))

    # -- inside -----------------------------------------------------------------

    def _proceed(self) -> None:
        try:
            if not self._is_open:
                self._shake_hands()
            while self._is_open and not self._over:
                record = self._connection.recv(MAX_RECORD_BYTES)
                self._talk.received(record)
        except SSL.WantReadError:
            self._flush()
        except SSL.ZeroReturnError:
            self._lose(DisconnectedError("the server hung up"))
        except SSL.Error as error:
            self._flush()
            words = tls_words(error)
            if self._is_open:
                reason: Exception = DisconnectedError(f"DTLS was broken off ({words})")
            else:
                reason = UnreachableError(f"no DTLS 1.2 server answered ({words})")
            self._lose(reason)

    def _shake_hands(self) -> None:
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            self._set_alarm()
            raise
        self._flush()
        self._stop_alarm()
        try:
            pin = peer_pin(self._connection)
        except (ValueError, UnsupportedAlgorithm) as reason:
            words = f"the server's key cannot be read ({reason}); nothing was sent"
            self._lose(UntrustedServerError(words))
            return
        self._is_open = True
        self._talk.shook_hands(pin)

    def _set_alarm(self) -> None:
        """Have OpenSSL send its part of the handshake again when it is time."""
        self._stop_alarm()
        timeout_s = self._connection.DTLSv1_get_timeout()
        if timeout_s is not None:
            wait_s = max(timeout_s, _MIN_WAIT_S)
            self._alarm = self._clock.callLater(wait_s, self._time_is_up)

    def _time_is_up(self) -> None:
        try:
            self._connection.DTLSv1_handle_timeout()
        except SSL.Error as error:
            words = f"the handshake did not end ({tls_words(error)})"
            self._lose(UnreachableError(words))
            return
        self._flush()
        if not self._over:
            self._set_alarm()

    def _stop_alarm(self) -> None:
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        self._alarm = None

    def _flush(self) -> None:
        """Send what OpenSSL wants sent."""
        waiting = b""
        with suppress(SSL.WantReadError):
            while True:
                waiting += self._connection.bio_read(_READ_BYTES)
        transport: Any = self.transport
        for datagram in datagrams_of(list(records(waiting)), DATAGRAM_BYTES):
            if self._over:
                return
            try:
                transport.write(datagram)
            except (OSError, MessageLengthError) as error:
                # Later it is as good as a datagram that got lost.
                if not self._is_open:
                    self._lose(_unreachable(error))

    def _closed(self, words: str) -> None:
        if self._is_open:
            self._lose(DisconnectedError(f"the server has gone: {words}"))
        else:
            self._lose(UnreachableError(words))

    def _lose(self, reason: Exception) -> None:
        if not self._over:
            self._leave()
            self._talk.lost(reason)

    def _leave(self) -> None:
        self._over = True
        self._stop_alarm()
        transport: Any = self.transport
        if transport is not None:
            transport.stopListening()


def _unreachable(error: Exception) -> UnreachableError:
    if isinstance(error, MessageLengthError) or getattr(error, "errno", 0) == EMSGSIZE:
        return UnreachableError("the way there is too narrow for UDP; use TCP")
    return UnreachableError(str(getattr(error, "strerror", None) or error))

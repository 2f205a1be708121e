"""
TLS on a non-blocking socket: what OpenSSL raises becomes what there is to know.

OpenSSL reads the socket itself, a record at a time and no further: nothing that
has been decrypted, and nothing that could be, ever waits inside it.  Whoever
stops reading loses nothing, and finds the rest by asking the socket.
"""

import fcntl
import socket
import struct
import termios
from array import array
from contextlib import suppress

from OpenSSL import SSL
from twisted.internet.error import ConnectionLost

MAX_RECORD_BYTES = 16_384
"""
Of plaintext in one record (RFC 8446 section 5.1).

What is asked of OpenSSL at a time: with less it would keep the rest of a record.
"""

MIN_RECORD_OVERHEAD_BYTES = 22
"""
Of a record beside its data (RFC 8446 section 5.2): header 5, content type 1, tag 16.

It may be padded as well.
"""

MAX_TURN_BYTES = 262_144
"""Read or sent in one go, before other connections have their turn."""

_NO_LINGER = struct.pack("ii", 1, 0)
"""Closing resets the connection; see SO_LINGER in socket(7)."""


class TlsSocket:
    """
    One end of a TLS connection.

    Args:
        connection: OpenSSL's, on this socket; it is let go by `close`.
        sock: connected; nobody else uses it from here on.

    Attributes:
        heard_goodbye: the peer has said that it sends no more.
        said_goodbye: this end has.
        error: the connection is of no use any more, and why: `ConnectionLost`
            for a peer that has gone without a word, or what OpenSSL says.
        waits_to_write: reading, or the handshake, goes on when the socket can
            be written.
    """

    def __init__(self, connection: SSL.Connection, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.heard_goodbye = False
        self.said_goodbye = False
        self.error: Exception | None = None
        self.waits_to_write = False
        self.connection = connection
        self.socket = sock
        self._number = sock.fileno()
        self._counted = array("i", [0])

    def shake_hands(self) -> bool:
        """Go on with the handshake; True when it is finished."""
        self.waits_to_write = False
        try:
            self.connection.do_handshake()
        except SSL.WantReadError:
            return False
        except SSL.WantWriteError:
            self.waits_to_write = True
            return False
        except SSL.Error as error:
            self._break(error)
            return False
        return True

    def receive(self) -> bytes:
        """Give what has come, `MAX_TURN_BYTES` and a record at the most."""
        self.waits_to_write = False
        received = []
        room = MAX_TURN_BYTES
        waiting = 0
        try:
            while True:
                data = self.connection.recv(MAX_RECORD_BYTES)
                received.append(data)
                room -= len(data)
                waiting -= len(data) + MIN_RECORD_OVERHEAD_BYTES
                if waiting <= 0:
                    waiting = self._count_waiting()
                if room <= 0 or not waiting:
                    break
        except SSL.WantReadError:
            pass
        except SSL.WantWriteError:
            self.waits_to_write = True
        except SSL.ZeroReturnError:
            self.heard_goodbye = True
        except SSL.Error as error:
            self._break(error)
        return received[0] if len(received) == 1 else b"".join(received)

    def send(self, data: bytearray) -> bool:
        """
        Send, in records as long as they may be.

        Args:
            data: loses what is sent.  What is left must come first next time.

        Returns:
            Whether to go on when the socket can be written; otherwise what is
            left, if anything, can go after the next `receive`.
        """
        room = MAX_TURN_BYTES
        try:
            while data and room > 0:
                sent = self.connection.send(data)
                del data[:sent]
                room -= sent
        except SSL.WantReadError:
            return False
        except SSL.WantWriteError:
            return True
        except SSL.Error as error:
            self._break(error)
            return False
        return bool(data)

    def say_goodbye(self) -> bool:
        """
        Say that nothing more is sent (RFC 8446 section 6.1).

        Returns:
            Whether to try again when the socket can be written.
        """
        try:
            self.connection.shutdown()
        except SSL.WantWriteError:
            return True
        except SSL.Error as error:
            self._break(error)
            return False
        self.said_goodbye = True
        # For those who wait for the end of the stream rather than of TLS.
        with suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return False

    def close(self, *, reset: bool) -> None:
        """Close the socket, with ``reset`` so that the peer cannot miss it."""
        if reset:
            with suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()
        # Whoever still knows this end must not keep OpenSSL's memory alive.
        del self.connection

    def _count_waiting(self) -> int:
        """Tell how many bytes the socket has; cheaper than to try in vain."""
        fcntl.ioctl(self._number, termios.FIONREAD, self._counted)
        return self._counted[0]

    def _break(self, error: SSL.Error) -> None:
        if isinstance(error, SSL.SysCallError):
            # What a failed system call leaves in OpenSSL's error queue, which all
            # connections of a thread share, goes with the next error.
            with suppress(SSL.Error):
                self.connection.shutdown()
        silent = isinstance(error, SSL.SysCallError) or not any(error.args)
        self.error = ConnectionLost() if silent else error

"""
The far end of one DTLS conversation, from its cookie on.

First it shakes hands, then it talks; OpenSSL's part of both happens in memory.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from OpenSSL import SSL
from twisted.internet.interfaces import IDelayedCall

from securerecv.errors import MisuseError
from securerecv.limits import HANDSHAKE_TIMEOUT_S
from securerecv.net.addresses import host_of
from securerecv.net.conversation import Conversation
from securerecv.net.outbox import Address
from securerecv.net.tls import DATAGRAM_BYTES
from securerecv.wire.dtlsrecords import (
    MAX_DATAGRAM_BYTES,
    MAX_RECORD_BYTES,
    datagrams,
    is_after_handshake,
    may_be_finished,
    records,
)
from securerecv.wire.lanekeys import EXPORTER_LABEL, SECRET_BYTES

MAX_HANDSHAKE_DATAGRAMS = 32
"""
What a client may send before its handshake has finished.

It needs about 4, and as many again for each time that it has lost some.
OpenSSL may keep each of them, in a buffer of 16 KiB.
"""

MAX_REPEATED_ENDS = 8
"""
How often a client may send the end of its handshake again, because it has not heard
the server's.  Of anything else that shakes hands OpenSSL would keep up to ten messages
of 100 KiB.
"""

_READ_BYTES = 1 << 12


class Sender(Protocol):
    """Sends datagrams to an address."""

    def __call__(self, datagrams: Sequence[bytes], address: Address) -> object:
        """Send them, in their order, or lose them."""


class Server(Protocol):
    """What a peer wants of the server that it is a peer of."""

    send: Sender
    call_later: Callable[..., IDelayedCall]

    def shook_hands(self, peer: "Peer") -> Conversation:
        """Let it take the place of whoever had its address before."""

    def gone(self, peer: "Peer") -> None:
        """Forget it."""


class Peer:
    """
    One peer, from its cookie on.

    Attributes:
        address: its host, for limits.
        remote: where it is.
        random: of its hello, by which a repeated one is known.
    """

    def __init__(
        self,
        server: Server,
        connection: SSL.Connection,
        remote: Address,
        random: bytes,
    ) -> None:
        self.address = host_of(remote[0])
        self.remote = remote
        self.random = random
        self._server = server
        # None when it is over: nothing may keep OpenSSL's buffers alive then.
        self._connection: SSL.Connection | None = connection
        self._conversation: Conversation | None = None
        self._handshake_datagrams = 0
        self._repeated_ends = 0
        self._is_reading = False
        self._is_ending = False
        # Whether OpenSSL may have something to be sent: asking takes as long as
        # reading a record.
        self._has_output = False
        self._alarm: IDelayedCall | None = None
        self._handshake_deadline = server.call_later(HANDSHAKE_TIMEOUT_S, self.abort)

    def start(self) -> None:
        """Go on with the handshake that the cookie began."""
        if self._connection is not None:
            self._shake_hands(self._connection)

    def received(self, datagram: bytes) -> bool:
        """Take a datagram; tell whether anything came of it."""
        if self._connection is None:
            return False
        if self._conversation is None:
            self._connection.bio_write(datagram)
            self._handshake_datagrams += 1
            if self._handshake_datagrams > MAX_HANDSHAKE_DATAGRAMS:
                self.abort()
            else:
                self._shake_hands(self._connection)
            return True
        parts = [part for part in records(datagram) if self._may_come(part)]
        if not parts:
            return False
        datagram = b"".join(parts)
        self._connection.bio_write(datagram)
        return self._hand_on(self._conversation, self._read(len(datagram)))

    def received_records(self, datagrams: Sequence[bytes]) -> int:
        """
        Take datagrams that are a record of the conversation each, and whole.

        Returns:
            Of how many nothing came.
        """
        connection, conversation = self._connection, self._conversation
        if connection is None or conversation is None:
            return len(datagrams)
        size = max(map(len, datagrams))
        records: list[bytes] = []
        # OpenSSL takes what it finds for one datagram, and any number of records
        # may share one.  It passes over those that do not authenticate.
        at_once = MAX_DATAGRAM_BYTES // size
        for at in range(0, len(datagrams), at_once):
            some = datagrams[at : at + at_once]
            connection.bio_write(b"".join(some))
            records += self._read(size, len(some))
        self._hand_on(conversation, records)
        return len(datagrams) - len(records)

    # -- shaking hands --------------------------------------------------------

    def _shake_hands(self, connection: SSL.Connection) -> None:
        try:
            connection.do_handshake()
        except SSL.WantReadError:
            self._send_flight(connection)
            self._set_alarm(connection)
            return
        except SSL.Error:
            # The peer may know why from the alert.
            self._send_flight(connection)
            self.abort()
            return
        self._send_flight(connection)
        self._stop_alarms()
        self._conversation = self._server.shook_hands(self)
        self._conversation.start()
        # What came before its time has been kept by OpenSSL.
        self._hand_on(self._conversation, self._read(MAX_RECORD_BYTES))

    def _send_flight(self, connection: SSL.Connection) -> None:
        flight = list(datagrams(taken_from(connection), DATAGRAM_BYTES))
        if flight:
            self._server.send(flight, self.remote)

    def _set_alarm(self, connection: SSL.Connection) -> None:
        """Have OpenSSL send its part of the handshake again when it is time."""
        if self._alarm is not None and self._alarm.active():
            self._alarm.cancel()
        timeout_s = connection.DTLSv1_get_timeout()
        if timeout_s is not None:
            self._alarm = self._server.call_later(timeout_s, self._time_is_up)

    def _time_is_up(self) -> None:
        connection = self._connection
        if connection is None:
            return
        try:
            connection.DTLSv1_handle_timeout()
        except SSL.Error:
            self.abort()
            return
        self._send_flight(connection)
        self._set_alarm(connection)

    def _stop_alarms(self) -> None:
        for call in (self._alarm, self._handshake_deadline):
            if call is not None and call.active():
                call.cancel()

    # -- the conversation -----------------------------------------------------

    def _may_come(self, record: bytes) -> bool:
        """Tell whether OpenSSL may see a record, now that hands are shaken."""
        if may_be_finished(record):
            self._repeated_ends += 1
            return self._repeated_ends <= MAX_REPEATED_ENDS
        return is_after_handshake(record)

    def _read(self, size: int, count: int | None = None) -> list[bytes]:
        """
        Decrypt what has been fed to OpenSSL.

        Args:
            size: that no record is longer than.
            count: of the records, at most.  Without it OpenSSL is asked once more,
                to be told no, which takes as long as a record does.
        """
        records: list[bytes] = []
        try:
            while len(records) != count and self._connection is not None:
                records.append(self._connection.recv(size))
        except SSL.WantReadError:
            self._has_output = True
        except SSL.Error:
            # A goodbye, or the peer's own fault: OpenSSL passes over what does
            # not authenticate.
            self._is_ending = True
        return records

    def _hand_on(self, conversation: Conversation, records: Sequence[bytes]) -> bool:
        """Carry out what came together; tell whether anything was heard or said."""
        self._is_reading = True
        try:
            if records:
                conversation.take(records)
                conversation.proceed()
        finally:
            self._is_reading = False
        sent = self._flush()
        if self._is_ending:
            self.abort()
        return sent or bool(records) or self._connection is None

    def _flush(self) -> bool:
        """Send what there is, a record each: some clients read no second one."""
        if self._connection is None or self._is_reading or not self._has_output:
            return False
        self._has_output = False
        waiting = taken_from(self._connection)
        if waiting:
            self._server.send(waiting, self.remote)
        return bool(waiting)

    def lane_secret(self, lane_id: bytes) -> bytes:
        """
        Export the secret of a lane, 32 bytes (RFC 5705).

        The lane's id is the context, so no two lanes have the same.
        """
        if self._connection is None:
            raise MisuseError("this conversation is over")
        return self._connection.export_keying_material(
            EXPORTER_LABEL, SECRET_BYTES, lane_id
        )

    # -- as a guest of the gate -----------------------------------------------

    def make_way(self) -> None:
        """See `securerecv.net.gate.Guest`."""
        if self._conversation is None:
            self.abort()
        else:
            self._conversation.make_way()

    def dismiss(self, words: str) -> None:
        """See `securerecv.net.gate.Guest`."""
        if self._conversation is None:
            self.abort()
        else:
            self._conversation.dismiss(words)

    # -- what the conversation wants of its transport -------------------------

    def write(self, data: bytes) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        if self._connection is None:
            return
        try:
            self._connection.send(data)
        except SSL.Error:
            # OpenSSL sends no more: the peer has sent a fatal alert, or a part of a
            # handshake that it does not go on with.
            self.abort()
            return
        self._has_output = True
        self._flush()

    def pause(self) -> None:
        """Do nothing: the session keeps a few records, and loses the others."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """See `securerecv.net.conversation.Pipe`."""
        self.abort()

    def abort(self) -> None:
        """Say goodbye, and forget the peer."""
        if self._connection is not None and self._conversation is not None:
            with suppress(SSL.Error):
                self._connection.shutdown()
            self._has_output = True
            self._is_reading = False
            self._flush()
        self.vanish()

    def vanish(self) -> None:
        """Forget the peer, which has begun anew or was never there."""
        if self._connection is None:
            return
        self._connection = None
        self._stop_alarms()
        self._server.gone(self)
        if self._conversation is not None:
            self._conversation.over()


def taken_from(connection: SSL.Connection) -> list[bytes]:
    """Take the records that OpenSSL wants sent."""
    data = b""
    with suppress(SSL.WantReadError):
        while True:
            chunk = connection.bio_read(_READ_BYTES)
            data += chunk
            # To ask OpenSSL once more and be told no takes as long as a record.
            if len(chunk) < _READ_BYTES:
                break
    return list(records(data)) if data else []

"""
The sending end of a lane: a file's bytes in, packets out, until all have arrived.

Like the conversation it has no socket and no clock.  What drives it may each be
followed by `wanted`, `to_send` and `deadline`:

* `receive` - packets came;
* `supply` - a piece of the file was read;
* `expire` - the time that `deadline` named has come.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from cryptography.exceptions import InvalidTag

from securerecv.limits import LANE_WINDOW_BYTES
from securerecv.wire.bbr import Bbr
from securerecv.wire.congestion import Controller, DeliveryRate
from securerecv.wire.laneend import LaneEnd
from securerecv.wire.lanekeys import MAX_PACKETS, NONCE_BYTES, LaneKeys
from securerecv.wire.lanepackets import (
    FIRST_BYTE,
    HEADER,
    HEADER_BYTES,
    IDLE_TIMEOUT_S,
    MAX_DATAGRAM_BYTES,
    OVERHEAD_BYTES,
    Ack,
    Kind,
    LaneDrop,
)
from securerecv.wire.lossdetection import LossDetection, Run
from securerecv.wire.outgoing import Outgoing
from securerecv.wire.pathmtu import PathMtu
from securerecv.wire.roundtrip import RoundTrip

AHEAD_S = 0.001
"""What may leave before its time, since timers are not more exact."""

LATE_S = 0.002
"""What may be made up for when a timer was late."""

MAX_BURST_BYTES = 256 * 1024
"""What `LaneSender.to_send` gives at once; there may be more at the same time."""

MAX_PROBE_TIMEOUT_S = 2.0
PROBE_WORTH = 8
"""A size is tried if so many datagrams of it are left to send."""

_NEVER = float("inf")
_HEARS = frozenset({Kind.ACK, Kind.CHALLENGE, Kind.RESPONSE, Kind.CLOSE})


class LaneSender(LaneEnd):
    """
    Sends one file, or the rest of one.

    Args:
        lane_id: 8 bytes.
        keys: of this lane.
        offset: where in the file it begins.
        size: of the whole file.
        address: of the other end, which DTLS has shaken hands with.
        now: seconds on the clock that all other times are on.
        random_bytes: draws what an address must repeat.
        window_bytes: what it may hold of the file, sent and not arrived.
        limit: what the receiver takes before it has said so itself.
        new_controller: makes the control of congestion for a path.

    Attributes:
        window_bytes: as given.
    """

    def __init__(
        self,
        lane_id: bytes,
        keys: LaneKeys,
        offset: int,
        size: int,
        address: Hashable,
        now: float,
        random_bytes: Callable[[int], bytes],
        window_bytes: int = LANE_WINDOW_BYTES,
        limit: int = 64 * 1024,
        new_controller: Callable[[int], Controller] = Bbr,
    ) -> None:
        super().__init__(lane_id, keys.data, _HEARS, address, now, random_bytes)
        self.window_bytes = window_bytes
        self._keys = keys
        self._size = size
        self._file = Outgoing(offset, size, window_bytes)
        self._file.acknowledged(offset, offset + limit)
        self._new_controller = new_controller
        self._changes = 0
        self._begin_path(now)
        if self.is_complete:
            self.close()

    def _begin_path(self, now: float) -> None:
        """Know nothing of the path: it is a new one."""
        self._round_trip = RoundTrip()
        self._losses = LossDetection(self._round_trip)
        self._rate = DeliveryRate()
        self._congestion = self._new_controller(self._lane_id[0])
        self._mtu = PathMtu()
        self._timeouts = 0
        self._last_timeout_s = 0.0
        self._is_probe_due = False
        self._paid_until = now
        self._is_blocked = False

    @property
    def is_complete(self) -> bool:
        """Whether the receiver has said that it has the whole file."""
        return self._file.is_finished

    @property
    def arrived(self) -> int:
        """The offset up to which the receiver has the file."""
        return self._file.arrived

    @property
    def datagram_bytes(self) -> int:
        """How long datagrams are now."""
        return self._mtu.datagram_bytes

    # -- what drives it -----------------------------------------------------------

    def wanted(self) -> tuple[int, int] | None:
        """Give offset and size of the piece to read now, if there is one."""
        return None if self.is_over else self._file.wanted()

    def supply(self, data: bytes) -> None:
        """
        Take the piece that was wanted, or its beginning; it must stay as it is.

        Raises:
            MisuseError: it is longer than what was wanted, or nothing.
        """
        self._file.supply(data)

    def receive(
        self, datagrams: Sequence[bytes], address: Hashable, now: float
    ) -> list[LaneDrop]:
        """
        Take packets of this lane.

        Returns:
            Why nothing came of some.
        """
        drops = []
        for datagram in datagrams:
            drop = self._take(datagram, address, now)
            if drop is not None:
                drops.append(drop)
        return drops

    def _take(self, datagram: bytes, address: Hashable, now: float) -> LaneDrop | None:
        if not OVERHEAD_BYTES <= len(datagram) <= MAX_DATAGRAM_BYTES:
            return LaneDrop.MALFORMED
        _, kind, _, number, _ = HEADER.unpack_from(datagram)
        drop = self._refusal(kind, number)
        if drop is not None:
            return drop
        key = self._keys.acks
        try:
            text = key.cipher.decrypt(
                key.nonce(number), datagram[HEADER_BYTES:], datagram[:HEADER_BYTES]
            )
        except InvalidTag:
            return LaneDrop.FORGED
        is_newest = number >= self._numbers.expected
        self._numbers.add(number, number + 1)
        self._heard_s = now
        self.path.heard(address, len(datagram), now, is_newest=is_newest)
        if kind == Kind.ACK:
            return self._take_ack(text, now, is_newest=is_newest)
        self._take_word(kind, address, text)
        return None

    def _take_ack(self, text: bytes, now: float, *, is_newest: bool) -> LaneDrop | None:
        try:
            ack = Ack.decode(text)
        except ValueError:
            return LaneDrop.MALFORMED
        largest = ack.ranges[0][1] if ack.ranges else 0
        if ack.contiguous > self._file.sent or largest > self._next_number:
            # What was never sent cannot have come.
            return LaneDrop.MALFORMED
        self._file.acknowledged(ack.contiguous, ack.limit)
        if self._file.is_finished:
            self.close()
        elif is_newest:
            # One that was overtaken says nothing that is not known by now.
            self._follow_path(now)
            self._learn(ack, now)
        return None

    def _learn(self, ack: Ack, now: float) -> None:
        """Draw what there is from an acknowledgement about the path."""
        arrivals = self._losses.acknowledged(ack.ranges, now)
        runs = arrivals.runs
        if arrivals.spurious_packets:
            self._congestion.lost(-arrivals.spurious_packets * self._mtu.datagram_bytes)
        if arrivals.largest_is_new:
            raw_s = now - runs[-1].departure.time_s
            self._round_trip.sample(raw_s, ack.delay_s)
        self._lose(self._losses.lost(now))
        if not runs:
            return
        self._timeouts = 0
        self._is_probe_due = False
        for run in runs:
            if run.kind is Kind.PROBE:
                self._mtu.probe_came(run.wire_bytes)
        rtt_s = self._round_trip.latest_s
        in_flight = self._losses.in_flight_bytes
        self._congestion.arrived(self._rate.arrived(runs, rtt_s, in_flight, now), now)

    def _follow_path(self, now: float) -> None:
        """Begin anew with everything that belongs to a path, if it is another."""
        if self._changes == self.path.changes:
            return
        self._changes = self.path.changes
        for run in self._losses.forget():
            if run.kind is Kind.DATA:
                self._file.lost(run.offset, run.offset + run.size)
        self._begin_path(now)

    def _lose(self, runs: Sequence[Run]) -> None:
        for run in runs:
            if run.kind is Kind.PROBE:
                # Of its length perhaps, which says nothing about congestion.
                self._mtu.probe_lost(run.wire_bytes)
            else:
                self._congestion.lost(run.wire_bytes)
                self._file.lost(run.offset, run.offset + run.size)

    def expire(self, now: float) -> None:
        """Do what the time has come for."""
        if now >= self._heard_s + IDLE_TIMEOUT_S:
            self.is_over = True
            return
        self.path.expire(now)
        self._follow_path(now)
        self._lose(self._losses.lost(now))
        if now >= self._timeout_s():
            self._timeouts += 1
            self._last_timeout_s = now
            self._is_probe_due = True
            self._mtu.silence(self._timeouts)
            # Silence does not show that anything is lost; but to send the oldest
            # again does no harm, and most likely it is (RFC 9002 section 6.2.4).
            oldest = self._losses.oldest
            if oldest is not None and oldest.kind is Kind.DATA:
                end = min(oldest.piece_bytes, oldest.size)
                self._file.lost(oldest.offset, oldest.offset + end)

    def too_long(self, size: int) -> None:
        """Take note that datagrams of a size do not leave this machine."""
        self._mtu.too_long(size)

    # -- what comes out ---------------------------------------------------------

    def to_send(self, now: float) -> list[bytes]:
        """
        Give datagrams, all for `path.address`; then ask `deadline` when to go on.

        Those of equal size follow each other.
        """
        out: list[bytes] = []
        self._say_words(now, out)
        if self.is_over:
            return out
        if self._round_trip.is_known and self.path.is_certain:
            self._try_longer(now, out)
        self._send_pieces(now, out)
        return out

    def _send_pieces(self, now: float, out: list[bytes]) -> None:
        losses, file = self._losses, self._file
        size = self._mtu.size_for(self._congestion.window_bytes)
        start = max(self._paid_until, now - LATE_S)
        rate = self._congestion.rate
        paced = 0.0
        if start <= now:
            # As much as possible at once: each burst costs, here and over there.
            paced = max((now + AHEAD_S - start) * rate, size)
        room = self._congestion.window_bytes - losses.in_flight_bytes
        budget = min(paced, room, MAX_BURST_BYTES, self.path.allowance)
        if self._is_probe_due:
            budget = min(max(budget, size), self.path.allowance)
        departure = self._rate.departing(now, losses.in_flight_bytes)
        sent = 0
        self._is_blocked = False
        while (packets := int((budget - sent) // size)) > 0:
            piece_bytes = size - OVERHEAD_BYTES
            piece = file.next(packets * piece_bytes)
            if piece is None:
                self._rate.limited(losses.in_flight_bytes)
                self._is_blocked = True
                break
            offset, data = piece
            first = self._next_number
            if not self._seal_pieces(offset, data, piece_bytes, out):
                return
            end = self._next_number
            run = Run(first, end, Kind.DATA, offset, piece_bytes, len(data), departure)
            losses.sent(run)
            sent += run.wire_bytes
        if sent:
            self.path.take(sent)
            self._paid_until = start + sent / rate
        elif self._is_probe_due:
            self._probe(0, now, out)
        self._is_probe_due = False

    def _seal_pieces(
        self, offset: int, data: memoryview, piece_bytes: int, out: list[bytes]
    ) -> bool:
        """Cut bytes into packets; False if the lane has no numbers left for them."""
        number = self._next_number
        if number + len(data) // piece_bytes >= MAX_PACKETS:
            self.is_over = True
            return False
        lane_id = self._lane_id
        iv = self._keys.data.iv
        encrypt = self._keys.data.cipher.encrypt
        pack = HEADER.pack
        append = out.append
        for at in range(0, len(data), piece_bytes):
            header = pack(FIRST_BYTE, 0, lane_id, number, offset + at)
            nonce = (iv ^ number).to_bytes(NONCE_BYTES, "big")
            append(header + encrypt(nonce, data[at : at + piece_bytes], header))
            number += 1
        self._next_number = number
        return True

    def _try_longer(self, now: float, out: list[bytes]) -> None:
        size = self._mtu.next_probe(self._congestion.window_bytes)
        if size is None or self._size - self._file.sent < PROBE_WORTH * size:
            return
        if self._losses.in_flight_bytes + size <= self._congestion.window_bytes:
            self._mtu.probe_sent()
            self._probe(size - OVERHEAD_BYTES, now, out)

    def _probe(self, padding: int, now: float, out: list[bytes]) -> None:
        departure = self._rate.departing(now, self._losses.in_flight_bytes)
        number = self._next_number
        if self._say(Kind.PROBE, bytes(padding), out):
            run = Run(number, number + 1, Kind.PROBE, 0, padding, padding, departure)
            self._losses.sent(run)

    def _timeout_s(self) -> float:
        """Tell when silence has lasted too long."""
        wait_s = self._round_trip.probe_timeout_s() * (1 << self._timeouts)
        wait_s = min(wait_s, MAX_PROBE_TIMEOUT_S)
        if self._losses.oldest is not None:
            return max(self._losses.last_sent_s, self._last_timeout_s) + wait_s
        if self._file.sent == self._file.limit:
            # The receiver takes no more; that it would again may have been lost.
            return max(self._heard_s, self._last_timeout_s) + wait_s
        return _NEVER

    def deadline(self) -> float:
        """
        Tell when `expire`, and then `to_send`, is due; over is infinite.

        It may lie in the past: there is more to send at once.
        """
        if self.is_over:
            return _NEVER
        deadline = min(
            self._heard_s + IDLE_TIMEOUT_S,
            self.path.deadline(),
            self._losses.next_loss_s(),
            self._timeout_s(),
        )
        window = self._congestion.window_bytes
        room = min(window - self._losses.in_flight_bytes, self.path.allowance)
        has_room = room >= self._mtu.size_for(window)
        if has_room and (self._file.has_lost or not self._is_blocked):
            deadline = min(deadline, self._paid_until)
        return deadline

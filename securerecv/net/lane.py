"""
One end of a lane, driven: between a socket, a clock, and a file.

The same for the server and the client.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from securerecv.limits import MIN_PAYLOAD_BYTES_PER_S, REQUEST_TIMEOUT_S
from securerecv.net.outbox import Address
from securerecv.wire.lanepackets import LaneDrop
from securerecv.wire.lanereceiver import LaneReceiver
from securerecv.wire.lanesender import LaneSender

PROGRESS_S = REQUEST_TIMEOUT_S
PROGRESS_BYTES = int(PROGRESS_S * MIN_PAYLOAD_BYTES_PER_S)
"""So much must move in such a time, or the lane ends: it holds memory."""


class Send(Protocol):
    """Sends packets."""

    def __call__(self, datagrams: Sequence[bytes], address: Address) -> int:
        """
        Send datagrams, or lose them.

        Returns:
            How many were too long for the way out.
        """


class Reader(Protocol):
    """Reads a file that is sent."""

    def read(self, offset: int, size: int) -> "Deferred[bytes]":
        """Give at least one byte, and at most as many as that."""


class Writer(Protocol):
    """Takes a file that is received."""

    def write(self, data: memoryview) -> "Deferred[None] | None":
        """See `securerecv.interfaces.Upload`."""


class Lane:
    """
    What both ends of a lane have in common.

    Args:
        end: knows the protocol.
        clock: tells the time and calls later.
        send: sends packets.
        over: called once, when nothing more is heard or said; with what went
            wrong here, if that is why.
    """

    def __init__(
        self,
        end: LaneReceiver | LaneSender,
        clock: IReactorTime,
        send: Send,
        over: Callable[[Failure | None], None],
    ) -> None:
        self._end = end
        self._clock = clock
        self._send = send
        self._tell_over = over
        self._alarm: IDelayedCall | None = None
        self._failure: Failure | None = None
        self._is_moving = False
        self._is_over = False
        self._moved_at = clock.seconds()
        self._moved_to = 0

    def received(self, datagrams: Sequence[bytes], address: Address) -> list[LaneDrop]:
        """Take packets; say why nothing came of some."""
        drops = self._end.receive(datagrams, address, self._clock.seconds())
        self.proceed()
        return drops

    def close(self) -> None:
        """Tell the other end that this is all, and end."""
        self._end.close()
        self.proceed()

    def proceed(self) -> None:
        """Do all that can be done now."""
        if self._is_over or self._is_moving:
            return
        self._is_moving = True
        if self._failure is None:
            self._move()
        self._is_moving = False
        end = self._end
        now = self._clock.seconds()
        datagrams = end.to_send(now)
        if datagrams:
            self._hand_over(datagrams)
        if not end.is_over:
            self._set_alarm(end.deadline(), now)
        elif self._failure is not None or not self._is_draining:
            self._finish()

    @property
    def _is_draining(self) -> bool:
        """Whether there is something to be done though all is said."""
        return False

    def _hand_over(self, datagrams: list[bytes]) -> None:
        # The address is one that `received` was given, or the first.
        address: Address = self._end.path.address  # type: ignore[assignment]  # to the pure end an address can be anything
        self._send(datagrams, address)

    def _move(self) -> None:
        """Move bytes between the end and the file."""
        raise NotImplementedError

    def _progress(self) -> int | None:
        """Tell how far it is; None while it is this side that is waited for."""
        raise NotImplementedError

    def _set_alarm(self, deadline: float, now: float) -> None:
        alarm = self._alarm
        if alarm is None:
            self._alarm = self._clock.callLater(max(0.0, deadline - now), self._wake)
        elif deadline < alarm.getTime():
            alarm.reset(max(0.0, deadline - now))

    def _wake(self) -> None:
        self._alarm = None
        now = self._clock.seconds()
        if self._is_stuck(now):
            self._end.close()
        elif self._end.deadline() <= now:
            self._end.expire(now)
        self.proceed()

    def _is_stuck(self, now: float) -> bool:
        reached = self._progress()
        if reached is None or reached >= self._moved_to + PROGRESS_BYTES:
            self._moved_at = now
            self._moved_to = reached or self._moved_to
        return now >= self._moved_at + PROGRESS_S

    def _fail(self, failure: Failure) -> None:
        """End because of what went wrong here."""
        self._failure = self._failure or failure
        self.close()

    def _finish(self) -> None:
        self._is_over = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._tell_over(self._failure)


class ReceivingLane(Lane):
    """
    Receives a file.

    It lives on when the file is there, until the sender has heard so, or has had
    `PROGRESS_S` to hear it.

    Args:
        end: knows the protocol.
        clock: tells the time and calls later.
        send: sends packets.
        over: see `Lane`.
        writer: takes the file.
        complete: called once, when all of it was taken.
    """

    def __init__(
        self,
        end: LaneReceiver,
        clock: IReactorTime,
        send: Send,
        over: Callable[[Failure | None], None],
        writer: Writer,
        complete: Callable[[], None],
    ) -> None:
        super().__init__(end, clock, send, over)
        self._receiver = end
        self._writer = writer
        self._complete = complete
        self._is_waiting = False
        self._is_complete = False

    def _progress(self) -> int | None:
        return None if self._is_waiting else self._receiver.contiguous

    @property
    def _is_draining(self) -> bool:
        return self._receiver.is_complete and not self._is_complete

    def _move(self) -> None:
        receiver = self._receiver
        if receiver.is_over and not receiver.is_complete:
            return
        while not self._is_waiting and (piece := receiver.readable()):
            try:
                busy = self._writer.write(piece)
            except Exception:  # noqa: BLE001  the file's owner may raise anything
                self._fail(Failure())
                return
            if busy is None:
                receiver.consumed(len(piece), self._clock.seconds())
            else:
                self._is_waiting = True
                busy.addCallbacks(self._taken, self._fail, callbackArgs=(len(piece),))
        if receiver.is_used_up and not self._is_complete:
            self._is_complete = True
            self._moved_at = self._clock.seconds()
            self._complete()

    def _taken(self, _: object, count: int) -> None:
        self._is_waiting = False
        self._receiver.consumed(count, self._clock.seconds())
        self.proceed()


class SendingLane(Lane):
    """
    Sends a file.

    Args:
        end: knows the protocol.
        clock: tells the time and calls later.
        send: sends packets.
        over: see `Lane`.
        reader: reads the file.
        moved: told how much of the file has arrived, each time that it is more.
    """

    def __init__(
        self,
        end: LaneSender,
        clock: IReactorTime,
        send: Send,
        over: Callable[[Failure | None], None],
        reader: Reader,
        moved: Callable[[int], None],
    ) -> None:
        super().__init__(end, clock, send, over)
        self._sender = end
        self._reader = reader
        self._moved = moved
        self._arrived = 0
        self._is_waiting = False

    def _progress(self) -> int | None:
        return None if self._is_waiting else self._sender.arrived

    def _hand_over(self, datagrams: list[bytes]) -> None:
        longest = max(map(len, datagrams))
        address: Address = self._end.path.address  # type: ignore[assignment]  # as above
        if self._send(datagrams, address):
            self._sender.too_long(longest)

    def _move(self) -> None:
        sender = self._sender
        if sender.arrived > self._arrived:
            self._arrived = sender.arrived
            self._moved(sender.arrived)
        while not self._is_waiting and (wanted := sender.wanted()):
            self._is_waiting = True
            reading = self._reader.read(*wanted)
            reading.addCallbacks(self._was_read, self._fail)

    def _was_read(self, data: bytes) -> None:
        self._is_waiting = False
        if self._is_over:
            return
        self._sender.supply(data)
        self.proceed()

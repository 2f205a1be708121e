"""Lanes over a network in memory: links with queues, delays, losses and forgeries."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable
from functools import partial
from itertools import count
from random import Random
from typing import Any

from attrs import define, field

from securerecv.limits import LANE_WINDOW_BYTES
from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import LaneDrop
from securerecv.wire.lanereceiver import LaneReceiver
from securerecv.wire.lanesender import LaneSender

SECRET = bytes(range(32))
HEADERS_BYTES = 28
"""Of IPv4 and UDP, which take their time on a link too."""

NEVER = float("inf")

TIMER_S = 0.001
"""What timers are late by, at most."""


class Net:
    """
    Time, and what happens in it.

    Args:
        seed: of everything that is left to chance.
    """

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.random = Random(seed)  # noqa: S311 - so that a failure can be repeated
        self._order = count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []

    def later(self, when: float, what: Callable[[], None]) -> None:
        """Have something happen."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self, until: Callable[[], bool], within_s: float = 600.0) -> float:
        """Let time pass until something holds; give the seconds that it took."""
        began = self.now
        while not until():
            if not self._events:
                raise AssertionError("nothing more will ever happen")
            when, _, what = heapq.heappop(self._events)
            self.now = max(self.now, when)
            if self.now > began + within_s:
                raise AssertionError(f"not within {within_s} seconds")
            what()
        return self.now - began


@define
class Link:
    """
    One direction of a way; several lanes may share it.

    Attributes:
        net: its time.
        rate: bytes a second; infinite if nothing waits.
        delay_s: on the way.
        queue_bytes: what may wait; more is lost.
        loss: the share that is lost, 0 to 1, before the queue.
        jitter_s: up to so much longer, for each by itself: they overtake.
        doubled: the share that comes twice.
        spoilt: the share that comes changed, beside the original.
        longest: what is longer is lost.
        lose: decides besides.
    """

    net: Net
    rate: float = NEVER
    delay_s: float = 0.0
    queue_bytes: float = NEVER
    loss: float = 0.0
    jitter_s: float = 0.0
    doubled: float = 0.0
    spoilt: float = 0.0
    longest: int = 65_507
    lose: Callable[[bytes], bool] = lambda _: False
    carried_bytes: int = 0
    carried: int = 0
    overflowed: int = 0
    _free_s: float = 0.0

    @property
    def waits_s(self) -> float:
        """How long what comes now has to wait."""
        return max(0.0, self._free_s - self.net.now)

    def send(self, datagram: bytes, deliver: Callable[[bytes], None]) -> None:
        """Carry a datagram, or lose it."""
        chance = self.net.random.random
        if len(datagram) > self.longest or self.lose(datagram):
            return
        if self.loss and chance() < self.loss:
            return
        net = self.net
        size = len(datagram) + HEADERS_BYTES
        start = max(net.now, self._free_s)
        if (start - net.now) * self.rate > self.queue_bytes:
            self.overflowed += 1
            return
        self._free_s = start + size / self.rate
        self.carried_bytes += size
        self.carried += 1
        arrival = self._free_s + self.delay_s
        copies = 2 if self.doubled and chance() < self.doubled else 1
        for _ in range(copies):
            late = chance() * self.jitter_s if self.jitter_s else 0.0
            net.later(arrival + late, lambda: deliver(datagram))
        if self.spoilt and chance() < self.spoilt:
            forged = bytearray(datagram)
            forged[net.random.randrange(len(forged))] ^= 1 << net.random.randrange(8)
            net.later(arrival + chance() * 0.01, lambda: deliver(bytes(forged)))
            net.later(arrival - self.delay_s, lambda: deliver(bytes(forged)))


@define(eq=False)
class Lane:
    """
    One file on its way from a sender to a receiver, in memory.

    Attributes:
        net: its time.
        there: the link that data take.
        back: the link that acknowledgements take.
        content: the file.
        offset: where it begins.
        read_rate: bytes a second that the consumer uses up.
    """

    net: Net
    there: Link
    back: Link
    content: bytes
    offset: int = 0
    read_rate: float = NEVER
    window_bytes: int = LANE_WINDOW_BYTES
    lane_id: bytes = b"lane-id."
    sender_address: Hashable = "sender"
    receiver_address: Hashable = "receiver"
    received: bytearray = field(factory=bytearray)
    drops: list[LaneDrop] = field(factory=list)
    done_s: float = NEVER
    sender: LaneSender = field(init=False)
    receiver: LaneReceiver = field(init=False)
    _wake: dict[int, float] = field(factory=dict)
    _readable_s: float = 0.0

    def __attrs_post_init__(self) -> None:
        """Begin."""
        keys = derive(SECRET)
        now = self.net.now
        size = len(self.content)
        token = self.net.random.randbytes
        self.sender = LaneSender(
            self.lane_id, keys, self.offset, size, self.receiver_address, now, token
        )
        self.receiver = LaneReceiver(
            self.lane_id,
            keys,
            self.offset,
            size,
            self.sender_address,
            now,
            token,
            self.window_bytes,
        )

    @property
    def is_done(self) -> bool:
        """Whether both ends are through with it, as far as they know."""
        return self.sender.is_complete and len(self.received) == (
            len(self.content) - self.offset
        )

    def start(self) -> None:
        """Let the sender send."""
        self.pump()

    def pump(self) -> None:
        """Let both ends do what they can now, and wake them when there is more."""
        self._feed()
        self._read()
        now = self.net.now
        here, there = self.sender_address, self.receiver_address
        data = partial(self._to_receiver, here, self.sender.path.address)
        acks = partial(self._to_sender, there, self.receiver.path.address)
        for end, link, deliver in (
            (self.sender, self.there, data),
            (self.receiver, self.back, acks),
        ):
            if end.deadline() <= now:
                end.expire(now)
            for datagram in end.to_send(now):
                link.send(datagram, deliver)
            self._wake_up(end)
        if self.done_s == NEVER and self.is_done:
            self.done_s = now

    def _wake_up(self, end: LaneSender | LaneReceiver) -> None:
        when = end.deadline()
        if when == NEVER or self._wake.get(id(end)) == when:
            return
        self._wake[id(end)] = when

        def wake() -> None:
            if self._wake.get(id(end)) == when:
                del self._wake[id(end)]
                self.pump()

        # No timer is exact, and none is more exact than a millisecond.
        late = self.net.random.random() * TIMER_S
        self.net.later(max(when, self.net.now) + late, wake)

    def _feed(self) -> None:
        while (wanted := self.sender.wanted()) is not None:
            offset, size = wanted
            self.sender.supply(self.content[offset : offset + size])

    def reads_from(self, when: float) -> None:
        """Let the reader go on, who was to wait for longer."""
        self._readable_s = when
        self.pump()

    def _read(self) -> None:
        now = self.net.now
        while piece := self.receiver.readable():
            if now < self._readable_s:
                return
            piece = piece[:65_536]
            self.received += piece
            self.receiver.consumed(len(piece), now)
            self._readable_s = now + len(piece) / self.read_rate
            if self._readable_s > now:
                self.net.later(self._readable_s, self.pump)

    def _to_receiver(self, source: Hashable, target: Hashable, datagram: bytes) -> None:
        if target == self.receiver_address:
            self.drops += self.receiver.receive([datagram], source, self.net.now)
            self.pump()

    def _to_sender(self, source: Hashable, target: Hashable, datagram: bytes) -> None:
        if target == self.sender_address:
            self.drops += self.sender.receive([datagram], source, self.net.now)
            self.pump()


def lane(net: Net, content: bytes, **way: Any) -> Lane:
    """Make a lane over a way of its own, the same in both directions."""
    return Lane(net, Link(net, **way), Link(net, **way), content)

"""The client's lanes: files beside a conversation over UDP."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from securerecv.client.content import Sink, Source
from securerecv.client.errors import DisconnectedError
from securerecv.net.lane import Lane, ReceivingLane, SendingLane
from securerecv.wire.lanekeys import LaneKeys
from securerecv.wire.lanepackets import LANE_ID
from securerecv.wire.lanereceiver import LaneReceiver
from securerecv.wire.lanesender import LaneSender
from securerecv.wire.replies import NotUnderstoodError

SERVER: Any = ("server", 0)
"""Where all packets go and come from: the socket is connected."""


class ClientLanes:
    """
    All lanes of one conversation.

    Args:
        clock: tells the time and calls later.
        send: sends packets to the server; tells how many were too long.
        keys_of: derives the keys of a lane from its id.
    """

    def __init__(
        self,
        clock: IReactorTime,
        send: Callable[[Sequence[bytes]], int],
        keys_of: Callable[[bytes], LaneKeys],
    ) -> None:
        self._clock = clock
        self._send = send
        self._keys_of = keys_of
        self._lanes: dict[bytes, Lane] = {}
        self._used: set[bytes] = set()

    def received(self, datagrams: Sequence[bytes]) -> None:
        """Take packets; those of no lane that is known are dropped."""
        while datagrams:
            lane_id = datagrams[0][LANE_ID]
            mine = [one for one in datagrams if one[LANE_ID] == lane_id]
            lane = self._lanes.get(lane_id)
            if lane is not None:
                lane.received(mine, SERVER)
            if len(mine) == len(datagrams):
                return
            datagrams = [one for one in datagrams if one[LANE_ID] != lane_id]

    def close(self) -> None:
        """End all of them."""
        for lane in list(self._lanes.values()):
            lane.close()

    def send_file(
        self, lane_id: bytes, offset: int, source: Source, moved: Callable[[], None]
    ) -> Deferred[None]:
        """
        Send a file.

        Args:
            lane_id: 8 bytes.
            offset: where to begin.
            source: what to send.
            moved: called when more of it has arrived.

        Returns:
            Fires when it has arrived; fails with what the source raises, and with
            `DisconnectedError` when the server is silent for too long, or refuses.

        Raises:
            NotUnderstoodError: the server wants what is behind the file's end, or
                gives a lane that was used already.
        """
        if offset > source.size:
            raise NotUnderstoodError("the server wants what is behind the file's end")
        done: Deferred[None] = Deferred()
        now = self._clock.seconds()
        end = LaneSender(
            lane_id,
            self._new_keys(lane_id),
            offset,
            source.size,
            SERVER,
            now,
            secrets.token_bytes,
        )

        def arrived(count: int) -> None:
            source.sent(count)
            moved()

        def over(failure: Failure | None) -> None:
            del self._lanes[lane_id]
            if failure is not None:
                done.errback(failure)
            elif end.is_complete:
                done.callback(None)
            else:
                done.errback(_lost())

        source.sent(offset)
        reader = _SourceReader(source)
        lane = SendingLane(end, self._clock, self._pass_on, over, reader, arrived)
        self._lanes[lane_id] = lane
        lane.proceed()
        return done

    def receive_file(
        self, lane_id: bytes, offset: int, size: int, sink: Sink
    ) -> Deferred[None]:
        """
        Receive a file.

        Args:
            lane_id: 8 bytes.
            offset: where it begins.
            size: of the whole file.
            sink: where to put it.

        Returns:
            Fires when it is there; fails with what the sink raises, and with
            `DisconnectedError` when the server is silent for too long.

        Raises:
            NotUnderstoodError: the server gives a lane that was used already.
        """
        done: Deferred[None] = Deferred()
        end = LaneReceiver(
            lane_id,
            self._new_keys(lane_id),
            offset,
            size,
            SERVER,
            self._clock.seconds(),
            secrets.token_bytes,
        )

        def over(failure: Failure | None) -> None:
            del self._lanes[lane_id]
            if not done.called:
                done.errback(failure or _lost())

        lane = ReceivingLane(
            end,
            self._clock,
            self._pass_on,
            over,
            _SinkWriter(sink),
            partial(done.callback, None),
        )
        self._lanes[lane_id] = lane
        lane.proceed()
        return done

    def _new_keys(self, lane_id: bytes) -> LaneKeys:
        # Packet numbers begin anew with each lane: the same keys would meet the
        # same nonces with other bytes.
        if lane_id in self._used:
            raise NotUnderstoodError("the server gives a lane that was used already")
        self._used.add(lane_id)
        return self._keys_of(lane_id)

    def _pass_on(self, datagrams: Sequence[bytes], address: object) -> int:
        return self._send(datagrams)


class _SourceReader:
    """See `securerecv.net.lane.Reader`."""

    def __init__(self, source: Source) -> None:
        self._source = source

    def read(self, offset: int, size: int) -> Deferred[bytes]:
        """Read it at once."""
        return execute(self._source.read, offset, size)


class _SinkWriter:
    """See `securerecv.net.lane.Writer`."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, data: memoryview) -> None:
        """Write it at once."""
        self._sink.write(data)


def _lost() -> DisconnectedError:
    return DisconnectedError("the server was silent for too long, or left")

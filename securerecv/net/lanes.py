"""
The server's lanes, by their ids.

A lane is begun for a conversation, but does not end with it: the peer's address
may change, and with it the conversation.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby

from attrs import frozen
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from securerecv.errors import ErrorCode, PeerError
from securerecv.interfaces import Download, Upload
from securerecv.limits import (
    LANE_WINDOW_BYTES,
    LEAST_LANE_WINDOW_BYTES,
    MAX_LANE_BYTES,
    MAX_LANES,
    MAX_LANES_PER_ADDRESS,
)
from securerecv.net.lane import Lane, ReceivingLane, Send, SendingLane
from securerecv.net.outbox import Address
from securerecv.wire.budget import Budget, Share
from securerecv.wire.lanekeys import LANE_ID_BYTES, derive
from securerecv.wire.lanepackets import LANE_ID, LaneDrop
from securerecv.wire.lanereceiver import LaneReceiver
from securerecv.wire.lanesender import LaneSender
from securerecv.wire.reassembly import CHUNK_BYTES


@frozen
class _Place:
    """
    What a lane takes up.

    Attributes:
        lane_id: 8 bytes.
        host: whose it is.
        memory: what it has taken more than the least of.
        window_bytes: what it may hold.
    """

    lane_id: bytes
    host: str
    memory: Share
    window_bytes: int


class Lanes:
    """
    All lanes of one socket.

    Args:
        send: sends packets.
        clock: tells the time and calls later.
        random_bytes: draws ids, and what addresses must repeat.
    """

    def __init__(
        self, send: Send, clock: IReactorTime, random_bytes: Callable[[int], bytes]
    ) -> None:
        self._send = send
        self._clock = clock
        self._random_bytes = random_bytes
        self._lanes: dict[bytes, Lane] = {}
        self._counts: Counter[str] = Counter()
        # What there is beyond the least of each, and the chunk that it begins in.
        least = LEAST_LANE_WINDOW_BYTES + CHUNK_BYTES
        self._memory = Budget(MAX_LANE_BYTES - MAX_LANES * least)

    def received(self, datagrams: Sequence[bytes], address: Address) -> list[LaneDrop]:
        """Take packets that came together; say why nothing came of some."""
        lane_id = datagrams[0][LANE_ID]
        if len({datagram[LANE_ID] for datagram in datagrams}) == 1:
            return self._hand_on(lane_id, datagrams, address)
        drops: list[LaneDrop] = []
        for one, run in groupby(datagrams, lambda datagram: datagram[LANE_ID]):
            drops += self._hand_on(one, list(run), address)
        return drops

    def _hand_on(
        self, lane_id: bytes, datagrams: Sequence[bytes], address: Address
    ) -> list[LaneDrop]:
        lane = self._lanes.get(lane_id)
        if lane is None:
            return [LaneDrop.UNKNOWN] * len(datagrams)
        return lane.received(datagrams, address)

    def close(self) -> None:
        """End all lanes: the server stops."""
        for lane in list(self._lanes.values()):
            lane.close()

    def cut_off(self, lane_id: bytes) -> None:
        """End one, if it has not ended by itself."""
        lane = self._lanes.get(lane_id)
        if lane is not None:
            lane.close()

    def receive(
        self,
        upload: Upload,
        secret_of: Callable[[bytes], bytes],
        host: str,
        address: Address,
        *,
        complete: Callable[[], None],
        over: Callable[[], None],
    ) -> bytes:
        """
        Begin a lane that a file comes in by.

        Args:
            upload: takes it.
            secret_of: exports the secret for a lane's id.
            host: whose lane it is, for limits.
            address: where the peer is now.
            complete: called when the file is there.
            over: called when the lane has ended.

        Returns:
            The lane's id.

        Raises:
            PeerError: ``busy``; there are too many.
        """
        place = self._find_place(host, upload.size - upload.offset)
        end = LaneReceiver(
            place.lane_id,
            derive(secret_of(place.lane_id)),
            upload.offset,
            upload.size,
            address,
            self._clock.seconds(),
            self._random_bytes,
            place.window_bytes,
        )
        self._begin(
            place,
            ReceivingLane(
                end,
                self._clock,
                self._send,
                partial(self._over, place, over),
                upload,
                complete,
            ),
        )
        return place.lane_id

    def send(
        self,
        download: Download,
        offset: int,
        secret_of: Callable[[bytes], bytes],
        host: str,
        address: Address,
        *,
        over: Callable[[], None],
    ) -> bytes:
        """
        Begin a lane that a file goes out by; see `receive`.

        Returns:
            The lane's id.

        Raises:
            PeerError: ``busy``; there are too many.
        """
        place = self._find_place(host, download.size - offset)
        end = LaneSender(
            place.lane_id,
            derive(secret_of(place.lane_id)),
            offset,
            download.size,
            address,
            self._clock.seconds(),
            self._random_bytes,
            place.window_bytes,
        )
        self._begin(
            place,
            SendingLane(
                end,
                self._clock,
                self._send,
                partial(self._over, place, over),
                download,
                _ignore,
            ),
        )
        return place.lane_id

    def _find_place(self, host: str, size: int) -> _Place:
        """Find room for a lane that is to carry so many bytes."""
        if len(self._lanes) >= MAX_LANES or self._counts[host] >= MAX_LANES_PER_ADDRESS:
            words = "too many files are under way; try again in a while"
            raise PeerError(ErrorCode.BUSY, words)
        lane_id = self._random_bytes(LANE_ID_BYTES)
        while lane_id in self._lanes:
            lane_id = self._random_bytes(LANE_ID_BYTES)
        more = max(0, min(size, LANE_WINDOW_BYTES) - LEAST_LANE_WINDOW_BYTES)
        memory = self._memory.share_of(host)
        more = min(more, memory.left - memory.left % CHUNK_BYTES)
        return _Place(lane_id, host, memory, LEAST_LANE_WINDOW_BYTES + more)

    def _begin(self, place: _Place, lane: Lane) -> None:
        self._lanes[place.lane_id] = lane
        self._counts[place.host] += 1
        place.memory.take(place.window_bytes - LEAST_LANE_WINDOW_BYTES)
        # The peer learns of the lane first.
        self._clock.callLater(0, lane.proceed)

    def _over(
        self, place: _Place, over: Callable[[], None], _failure: Failure | None
    ) -> None:
        del self._lanes[place.lane_id]
        place.memory.give_back(place.window_bytes - LEAST_LANE_WINDOW_BYTES)
        self._counts[place.host] -= 1
        if not self._counts[place.host]:
            del self._counts[place.host]
        over()


def _ignore(_: int) -> None:
    """Take no notice."""

"""Files that travel beside a conversation over DTLS, on lanes."""

from collections.abc import Callable
from typing import Protocol

from attrs import evolve
from twisted.internet.defer import Deferred

from securerecv.errors import ErrorCode, PeerError
from securerecv.intake.faults import explain
from securerecv.intake.results import Receiving, Sending
from securerecv.interfaces import Upload
from securerecv.net.conversation import Conversation
from securerecv.net.lanes import Lanes
from securerecv.net.outbox import Address
from securerecv.wire.events import Chunk, Command
from securerecv.wire.lines import Answer
from securerecv.wire.records import RecordSession


class Exporter(Protocol):
    """The DTLS session that a conversation is held over."""

    address: str
    remote: Address

    def lane_secret(self, lane_id: bytes) -> bytes:
        """Export the secret of a lane, 32 bytes."""


class LaneTransfers:
    """
    See `securerecv.net.conversation.Transfers`.

    Args:
        conversation: what the files are asked for in.
        session: that of the conversation.
        peer: whose lanes they are.
        lanes: carry them.
    """

    def __init__(
        self,
        conversation: Conversation,
        session: RecordSession,
        peer: Exporter,
        lanes: Lanes,
    ) -> None:
        self._conversation = conversation
        self._session = session
        self._peer = peer
        self._lanes = lanes
        self._ids: set[bytes] = set()

    def begin_upload(self, command: Command, receiving: Receiving) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        coming = _Coming(self._conversation, self._session, command, receiving.upload)
        peer = self._peer
        try:
            if self._session.is_ending:
                raise _too_late()
            lane_id = self._lanes.receive(
                receiving.upload,
                peer.lane_secret,
                peer.address,
                peer.remote,
                complete=coming.complete,
                over=lambda: self._over(lane_id, coming.over),
            )
        except PeerError as error:
            receiving.upload.abandon()
            self._session.answer(command, error)
            return
        self._ids.add(lane_id)
        words = f"{receiving.answer.words} lane={lane_id.hex()}"
        self._session.answer_twice(command, Answer(words))

    def begin_download(self, command: Command, sending: Sending) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        peer, offset, download = self._peer, sending.offset, sending.download
        try:
            if self._session.is_ending:
                raise _too_late()
            lane_id = self._lanes.send(
                download,
                offset,
                peer.lane_secret,
                peer.address,
                peer.remote,
                over=lambda: self._over(lane_id, download.close),
            )
        except PeerError as error:
            download.close()
            self._session.answer(command, error)
            return
        self._ids.add(lane_id)
        lines = ((f"LANE {lane_id.hex()} {offset}", None),)
        self._session.answer(command, evolve(sending.answer, lines=lines))

    def take(self, chunk: Chunk) -> None:
        """Do nothing: no content comes within the conversation."""

    def pull(self) -> None:
        """Do nothing: no content goes out within the conversation."""

    def cut_off(self) -> None:
        """End the lanes: whoever is logged out may not go on with a file."""
        for lane_id in list(self._ids):
            self._lanes.cut_off(lane_id)

    def end(self) -> None:
        """Do nothing: lanes live on, the peer may come again from elsewhere."""

    def _over(self, lane_id: bytes, over: Callable[[], None]) -> None:
        self._ids.discard(lane_id)
        over()


class _Coming:
    """An upload, and the answer that is owed when it is there."""

    def __init__(
        self,
        conversation: Conversation,
        session: RecordSession,
        command: Command,
        upload: Upload,
    ) -> None:
        self._conversation = conversation
        self._session = session
        self._command = command
        self._upload = upload
        self._is_complete = False

    def complete(self) -> None:
        """Finish the upload, and tell what became of it."""
        self._is_complete = True
        upload = self._upload
        state: Deferred[str] = upload.finish()
        answer = state.addCallback(lambda word: Answer(f"received {upload.id} {word}"))
        answer.addErrback(explain).addCallback(self._tell)

    def over(self) -> None:
        """Give the upload up, if the lane ended before it was complete."""
        if not self._is_complete:
            self._upload.abandon()
            words = "the file did not come to its end; send it again"
            self._tell(PeerError(ErrorCode.TIMEOUT, words))

    def _tell(self, answer: Answer | PeerError) -> None:
        self._session.answer_again(self._command, answer)
        self._conversation.proceed()


def _too_late() -> PeerError:
    return PeerError(ErrorCode.BUSY, "too late; connect again")

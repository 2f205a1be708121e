"""Files that travel within a conversation over a stream."""

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from securerecv.errors import PeerError
from securerecv.intake.faults import explain
from securerecv.intake.results import Receiving, Sending
from securerecv.interfaces import Download, Upload
from securerecv.net.conversation import Conversation
from securerecv.wire.events import Chunk, Command
from securerecv.wire.lines import Answer

PIECE_BYTES = 1 << 20
"""
Of a download, read and sent in one go: as much as is sealed together on disk.

At most two are in memory for a conversation: one that the peer has not read
yet, and the one behind it.
"""

_log = Logger()


class StreamTransfers:
    """
    See `securerecv.net.conversation.Transfers`.

    Content that comes in is handed on uncopied, and no more is read from the
    peer while that is waited for.  Content that goes out is read from disk no
    sooner than the peer has read what was before it.

    Args:
        conversation: what it travels in.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._session = conversation.session
        self._upload: Upload | None = None
        self._download: Download | None = None
        self._at = 0
        self._is_reading = False
        self._piece: bytes | None = None

    def cut_off(self) -> None:
        """Do nothing: content ends with the stream."""

    def end(self) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        if self._upload is not None:
            self._upload.abandon()
            self._upload = None
        self._close()

    # -- uploads ----------------------------------------------------------------

    def begin_upload(self, command: Command, receiving: Receiving) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        upload = receiving.upload
        if self._session.is_ending:
            upload.abandon()
        else:
            self._upload = upload
        size = upload.size - upload.offset
        self._session.begin_upload(command, receiving.answer, size, self._seconds())

    def take(self, chunk: Chunk) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        if self._upload is None:
            return
        busy = self._upload.write(chunk.data) if chunk.data else None
        if busy is None:
            self._taken(chunk)
        else:
            busy.addCallback(self._taken_later, chunk)

    def _taken_later(self, _: object, chunk: Chunk) -> None:
        self._taken(chunk)
        self._conversation.proceed()

    def _taken(self, chunk: Chunk) -> None:
        upload = self._upload
        if upload is None:
            return
        if not chunk.is_last:
            self._session.next_chunk(self._seconds())
            return
        self._upload = None
        state: Deferred[str] = upload.finish()
        answer = state.addCallback(lambda word: Answer(f"received {upload.id} {word}"))
        answer.addErrback(explain).addCallback(self._received, chunk.command)

    def _received(self, answer: Answer | PeerError, command: Command) -> None:
        self._session.answer(command, answer)
        self._conversation.proceed()

    # -- downloads --------------------------------------------------------------

    def begin_download(self, command: Command, sending: Sending) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        download, self._at = sending.download, sending.offset
        left = download.size - sending.offset
        self._session.begin_download(command, sending.answer, left)
        if self._session.is_amid_content:
            self._download = download
            self._read(download)
        else:
            download.close()

    def pull(self) -> None:
        """See `securerecv.net.conversation.Transfers`."""
        piece, self._piece = self._piece, None
        if piece is None or self._download is None:
            return
        self._session.send_content(piece, self._seconds())
        if self._session.is_amid_content:
            self._read(self._download)
        else:
            self._close()

    def _read(self, download: Download) -> None:
        """Have the next piece read, while the one before it travels."""
        if self._is_reading or self._at >= download.size:
            return
        self._is_reading = True
        size = PIECE_BYTES - self._at % PIECE_BYTES
        download.read(self._at, size).addCallbacks(
            self._was_read,
            self._failed,
            callbackArgs=(download,),
            errbackArgs=(download,),
        )

    def _was_read(self, piece: bytes, download: Download) -> None:
        if download is self._download:
            self._is_reading = False
            self._at += len(piece)
            self._piece = piece
            self._conversation.proceed()

    def _failed(self, failure: Failure, download: Download) -> None:
        """Cut it off: no words can stand where content was announced."""
        if download is self._download:
            _log.failure("a file that was asked for cannot be read", failure=failure)
            self._conversation.abort()

    def _close(self) -> None:
        if self._download is not None:
            self._download.close()
        self._download = None
        self._piece = None
        self._is_reading = False

    def _seconds(self) -> float:
        return self._conversation.clock.seconds()

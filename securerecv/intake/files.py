"""What happens to files: taken in, scanned, listed, fetched and dropped."""

from typing import Protocol

from twisted.internet.defer import Deferred

from securerecv.access.realm import Avatar
from securerecv.interfaces import Download, Upload
from securerecv.wire.lines import Answer


class Files(Protocol):
    """The files of all boxes."""

    def put(
        self,
        sender: Avatar,
        address: str,
        to: str,
        size: int,
        sha256: bytes,
        name: str,
    ) -> "Deferred[Upload]":
        """
        Answer ``PUT``: begin to take a file, or go on with it.

        The same sender (an anonymous one: the same address) who announces the
        same file to the same user again goes on with it.  If it is there
        already, nothing more of it is wanted: the upload's offset is its size.

        Args:
            sender: who sends.
            address: where the sender is, for limits.
            to: whom the file is for, as the sender wrote it.
            size: bytes of the whole content.
            sha256: of the whole content, 32 bytes.
            name: as the sender wrote it.

        Returns:
            The upload, which must be finished or abandoned.  Fails with
            `PeerError` ``no-scanner``, ``too-large``, ``usage``, ``not-allowed``,
            ``no-mailbox``, ``full`` or ``busy``.
        """

    def list(self, avatar: Avatar, address: str) -> "Deferred[Answer]":
        """Answer ``FILES``: every file of one's box, oldest first."""

    def get(
        self, avatar: Avatar, address: str, file_id: str, offset: int
    ) -> "Deferred[Download]":
        """
        Answer ``GET``: a clean file of one's box, or the body of a message in it.

        Args:
            avatar: whose box.
            address: where the owner is, for limits.
            file_id: of a file or of a message, as it was written.
            offset: from where on it will be read; only checked here.

        Returns:
            The download, which must be closed.  Fails with `PeerError`
            ``no-such-id``, ``not-clean``, ``infected``, ``usage`` if the offset
            is behind the end, or ``busy``.
        """

    def drop(self, avatar: Avatar, item_id: str) -> "Deferred[Answer]":
        """Answer ``DROP``: delete a file, or a message, of one's box for good."""

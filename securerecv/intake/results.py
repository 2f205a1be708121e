"""What comes of a command besides an answer: a file that is to travel."""

from attrs import frozen

from securerecv.errors import PeerError
from securerecv.interfaces import Download, Upload
from securerecv.wire.lines import Answer


@frozen
class Receiving:
    """
    A ``PUT`` may go on.

    Attributes:
        answer: that the peer may send.
        upload: takes what is sent; is to be finished or abandoned.
    """

    answer: Answer
    upload: Upload


@frozen
class Sending:
    """
    A ``GET`` may go on.

    Attributes:
        answer: what follows.
        download: it; is to be closed.
        offset: where to begin, at most the download's size.
    """

    answer: Answer
    download: Download
    offset: int


Result = Answer | PeerError | Receiving | Sending

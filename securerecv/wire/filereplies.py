"""What a server says of files, seen from the client: ``docs/protocol.md`` 3.2."""

import re
from collections.abc import Iterable

from attrs import evolve, field, frozen

from securerecv.wire.filelines import FileRecord, FileState
from securerecv.wire.replies import NotUnderstoodError, milliseconds_of

_FILE = re.compile(
    r"FILE ([^ ]+) ([a-z]+) ([0-9]{1,18}) ([0-9a-f]{64}) ([^ ]+) ([^ ]+) (.+)",
    re.DOTALL,
)
_WHY = re.compile(r"WHY ([^ ]+) (.+)", re.DOTALL)
_FOUND = re.compile(r"([0-9]{1,18}) ([0-9a-f]{64}) (.+)", re.DOTALL)
_GO = re.compile(r"go ([^ ]+) ([0-9]{1,18})(?: .*)?", re.DOTALL)
_GO_LANE = re.compile(r"go [^ ]+ ([0-9]{1,18}) lane=([0-9a-f]{16})(?: .*)?", re.DOTALL)
_LANE = re.compile(r"LANE ([0-9a-f]{16}) ([0-9]{1,18})(?: .*)?", re.DOTALL)
_RECEIVED = re.compile(r"received ([^ ]+) ([a-z]+)(?: .*)?", re.DOTALL)


@frozen
class FileReceipt:
    """
    What became of a file that was sent.

    Attributes:
        id: 16 hexadecimal digits.
        state: how far it has come.
    """

    id: str
    state: FileState


@frozen
class Found:
    """
    A file that is about to be fetched.

    Attributes:
        size: bytes of the whole content.
        sha256: of the whole content, 64 hexadecimal digits.
        name: as the server says it.
    """

    size: int
    sha256: str
    name: str = field(repr=False)


def record_of(text: str) -> FileRecord:
    """
    Read a ``FILE …`` line without its mark.

    Raises:
        NotUnderstoodError: it is none.
    """
    match = _FILE.fullmatch(text)
    if match is None:
        raise NotUnderstoodError("the server described a file wrongly")
    number, state, size, sha256, sender, when, name = match.groups()
    when_ms = milliseconds_of(when)
    return FileRecord(number, _state(state), int(size), sha256, sender, when_ms, name)


def reason_of(text: str) -> tuple[str, str]:
    """
    Read a ``WHY …`` line without its mark.

    Returns:
        The file's id, and why it is infected or held.

    Raises:
        NotUnderstoodError: it is none.
    """
    match = _WHY.fullmatch(text)
    if match is None:
        raise NotUnderstoodError("the server gave a reason wrongly")
    return match[1], match[2]


def records_of(lines: Iterable[str]) -> list[FileRecord]:
    """
    Read the lines of an answer to ``FILES``.

    Raises:
        NotUnderstoodError: they are none.
    """
    records: dict[str, FileRecord] = {}
    for line in lines:
        if line.startswith("WHY "):
            number, why = reason_of(line)
            if number in records:
                records[number] = evolve(records[number], why=why)
        else:
            record = record_of(line)
            records[record.id] = record
    return list(records.values())


def found_of(words: str) -> Found:
    """
    Read what follows ``+OK`` in the answer to ``GET``.

    Raises:
        NotUnderstoodError: it is something else.
    """
    match = _FOUND.fullmatch(words)
    if match is None:
        raise NotUnderstoodError("the server did not say what follows")
    return Found(int(match[1]), match[2], match[3])


def offset_of(words: str) -> int:
    """
    Read from where on a file is to be sent, in the first answer to ``PUT``.

    Raises:
        NotUnderstoodError: it is something else.
    """
    match = _GO.fullmatch(words)
    if match is None:
        raise NotUnderstoodError("the server did not say from where on to send")
    return int(match[2])


def upload_lane_of(words: str) -> tuple[bytes, int]:
    """
    Read where a file is to be sent, in the first answer to ``PUT`` over UDP.

    Returns:
        The lane's id, and from where on to send.

    Raises:
        NotUnderstoodError: it is something else.
    """
    match = _GO_LANE.fullmatch(words)
    if match is None:
        raise NotUnderstoodError("the server did not say where to send")
    return bytes.fromhex(match[2]), int(match[1])


def download_lane_of(text: str) -> tuple[bytes, int]:
    """
    Read where a file comes from, a ``LANE …`` line without its mark.

    Returns:
        The lane's id, and where the content begins.

    Raises:
        NotUnderstoodError: it is something else.
    """
    match = _LANE.fullmatch(text)
    if match is None:
        raise NotUnderstoodError("the server did not say where it sends")
    return bytes.fromhex(match[1]), int(match[2])


def receipt_of(words: str) -> FileReceipt:
    """
    Read the second answer to ``PUT``.

    Raises:
        NotUnderstoodError: it is something else.
    """
    match = _RECEIVED.fullmatch(words)
    if match is None:
        raise NotUnderstoodError("the server did not say what became of the file")
    return FileReceipt(match[1], _state(match[2]))


def _state(word: str) -> FileState:
    try:
        return FileState(word)
    except ValueError:
        raise NotUnderstoodError("the server named an unknown state") from None

"""
What a server says in one record, as over DTLS: ``docs/protocol.md`` section 4.

A record holds whole lines, so each can be understood by itself, whatever else
was lost.  Only whether a payload stands behind its line has to be found out.
"""

from attrs import field, frozen

from securerecv.wire.replies import NotUnderstoodError, announced_bytes, split_mark

_LINE_END = b"\r\n"


@frozen
class Heard:
    """
    One line.

    Attributes:
        tag: with its ``#``, or nothing.
        mark: ``*``, ``!``, ``+OK`` or ``-ERR``.
        text: what follows the mark and a blank.
        payload: what stands behind the line; None when there is nothing, or
            when it was left out because no record can hold it.
    """

    tag: str
    mark: str
    text: str
    payload: bytes | None = field(default=None, repr=False)


def read_record(record: bytes) -> list[Heard]:
    """
    Give the lines of a record.

    A payload was left out if the record has not as many bytes left, or if they
    do not end as a payload does.

    Raises:
        NotUnderstoodError: it is none of the server's that we know.
    """
    heard = []
    at = 0
    while at < len(record):
        end = record.find(b"\n", at)
        if end < 0:
            raise NotUnderstoodError("the server's record has no line end")
        line = record[at:end].removesuffix(b"\r")
        at = end + 1
        if not line:
            continue
        try:
            tag, mark, text = split_mark(line.decode())
        except UnicodeDecodeError:
            raise NotUnderstoodError("the server's line is not UTF-8") from None
        payload = None
        if mark in ("*", "!") and text.startswith("MSG "):
            end = at + announced_bytes(text)
            if record[end : end + len(_LINE_END)] == _LINE_END:
                payload = record[at:end]
                at = end + len(_LINE_END)
        heard.append(Heard(tag, mark, text, payload))
    return heard

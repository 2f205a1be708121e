"""The form of requests."""

from securerecv.errors import MisuseError
from securerecv.limits import MAX_LINE_BYTES


def encode(line: str, payload: bytes | None = None) -> bytes:
    """
    Give a request's bytes.

    Args:
        line: with its tag and without its end.
        payload: what follows it, or None.

    Raises:
        MisuseError: the line is none, or too long.
    """
    if "\n" in line:
        raise MisuseError("a request is one line, and this one has a line end")
    try:
        data = line.encode()
    except UnicodeEncodeError:
        raise MisuseError("a request is UTF-8, and this one cannot be") from None
    if len(data) > MAX_LINE_BYTES:
        raise MisuseError(f"a request line has at most {MAX_LINE_BYTES} bytes")
    return data + b"\n" if payload is None else b"%b\n%b\r\n" % (data, payload)

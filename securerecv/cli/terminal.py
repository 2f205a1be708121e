"""
Text from elsewhere, made fit for a terminal.

A terminal obeys control sequences: a message could clear the screen, retitle
the window, answer in the user's name or write over what is above it.  So all
that other people wrote is shown with `visible` or `visible_line`.
"""

import unicodedata

MAX_DUMPED_BYTES = 256
"""How much is shown of a body that is no text."""

_DUMP_WIDTH = 16

# Control characters, format characters (among them those that reverse the
# direction of writing), surrogates, and Unicode's own line ends.
_SHOWN_AS_CODES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LEFT_AS_THEY_ARE = "\n\t"


def visible(text: str) -> str:
    r"""
    Make control characters of a text visible; line ends and tabs stay.

    Args:
        text: any text.

    Returns:
        The text with ``^[`` for escape and so on for the characters below
        blank, and ``\x9b``, ``\u202e`` or ``\U000e0001`` for others that
        a terminal would obey rather than show.
    """
    return "".join(
        c if c in _LEFT_AS_THEY_ARE or not _is_control(c) else _name(c) for c in text
    )


def visible_line(text: str) -> str:
    """Do the same for what must stay on one line: names and error words."""
    return "".join(_name(c) if _is_control(c) else c for c in text)


def visible_body(body: bytes) -> str:
    r"""
    Show a message's body.

    Text is shown as text.  What is no UTF-8 but looks like text of another
    kind is shown with its foreign bytes as ``\xe9``, and anything else as the
    beginning of a hexadecimal dump with its size.

    Returns:
        Lines without a line end behind the last.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError:
        if not _looks_like_text(body):
            return _dump(body)
        text = body.decode("ascii", errors="backslashreplace")
    return visible(text.removesuffix("\n").removesuffix("\r"))


def _is_control(character: str) -> bool:
    if " " <= character <= "~":
        return False
    return unicodedata.category(character) in _SHOWN_AS_CODES


def _name(character: str) -> str:
    code = ord(character)
    if code < 0x20 or code == 0x7F:  # noqa: PLR2004 - ASCII's control characters
        return f"^{chr(code ^ 0x40)}"
    if code < 0x100:  # noqa: PLR2004 - what fits into one byte
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"  # noqa: PLR2004 - what fits into four digits


def _looks_like_text(body: bytes) -> bool:
    """Tell whether at most one byte in four is none of printable ASCII."""
    plain = sum(byte in b"\t\n\r" or 0x20 <= byte < 0x7F for byte in body)  # noqa: PLR2004 - ASCII's printable characters
    return b"\0" not in body and 4 * plain >= 3 * len(body)


def _dump(body: bytes) -> str:
    lines = [f"({len(body)} bytes that are no text)"]
    shown = body[:MAX_DUMPED_BYTES]
    for at in range(0, len(shown), _DUMP_WIDTH):
        row = shown[at : at + _DUMP_WIDTH]
        characters = row.decode("ascii", errors="replace").replace("\ufffd", ".")
        characters = "".join("." if _is_control(c) else c for c in characters)
        lines.append(f"{at:08x}  {row.hex(' '):<{3 * _DUMP_WIDTH}} {characters}")
    if len(shown) < len(body):
        lines.append("…")
    return "\n".join(lines)

"""Tags: the marks by which a peer recognises the answer to a request."""

import re

from securerecv.limits import MAX_TAG_CHARACTERS
from securerecv.wire.lines import usage
from securerecv.wire.verbs import usage_of

_TAGGED = re.compile(rf"(#[A-Za-z0-9]{{1,{MAX_TAG_CHARACTERS}}}) +(.*)", re.DOTALL)


def split_tag(words: str) -> tuple[str, str]:
    """
    Take the tag off a request line that begins with ``#``.

    Returns:
        What every line of the answer begins with (the tag and a blank), and
        the line behind the tag.

    Raises:
        PeerError: ``usage``; it is no tag.
    """
    match = _TAGGED.fullmatch(words)
    if match is None:
        raise usage(usage_of(words.partition(" ")[2]))
    tag, rest = match.groups()
    return f"{tag} ", rest

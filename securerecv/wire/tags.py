"""Tags: the marks by which a peer recognises the answer to a request."""

import re

from securerecv.limits import MAX_TAG_CHARACTERS
from securerecv.wire.lines import usage
from securerecv.wire.verbs import usage_of

_TAGGED = re.compile(rf"(#[A-Za-z0-9]{{1,{MAX_TAG_CHARACTERS}}})(?: +(.*))?", re.DOTALL)


def tag_of(words: str) -> tuple[str, str]:
    """
    Take the tag off a line, if there is one.

    Returns:
        What every line of the answer begins with (the tag and a blank, or
        nothing), and the line behind the tag.
    """
    match = _TAGGED.fullmatch(words)
    return (f"{match[1]} ", match[2] or "") if match else ("", words)


def split_tag(words: str) -> tuple[str, str]:
    """
    Take the tag off a line that begins with ``#``; as `tag_of`.

    Raises:
        PeerError: ``usage``; it is no tag.
    """
    tag, rest = tag_of(words)
    if not tag:
        raise usage(usage_of(words.partition(" ")[2]))
    return tag, rest

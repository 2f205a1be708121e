"""What clamd's answers mean: one table, and whatever is not in it is HELD."""

import re

from securerecv.interfaces import Verdict, VerdictKind

MEMBER_TOO_LARGE = "Securerecv.MemberTooLarge"
"""A signature of our own, see `securerecv.scanning.home`."""

_ANSWER = re.compile(
    r"(?:fd\[\d+\]|stream|instream\(\S+\)):"
    r" (?:(?P<ok>OK)|(?P<found>\S+) FOUND|(?P<error>.*) ERROR)"
)
_MAX_SIGNATURE_CHARACTERS = 200

_UNREADABLE: tuple[tuple[str, str], ...] = (
    ("Heuristics.Limits.Exceeded", "it goes over a limit of the scanner"),
    (MEMBER_TOO_LARGE, "it holds a file of 2 GiB or more, which no scanner looks at"),
    ("Heuristics.Encrypted.", "it is encrypted, so nobody can look inside"),
)
"""What clamd reports like malware, and is only that it could not look."""

_NO_ANSWER: tuple[tuple[str, str], ...] = (
    ("INSTREAM size limit exceeded", "it is larger than what the scanner takes"),
    ("UNKNOWN COMMAND", "the scanner is too old"),
    ("COMMAND READ TIMED OUT", "the scanner gave up waiting"),
)
_FAILURES = {
    "Can't write to file": "it unpacks to more than the scanner has room for",
}


def judge(answer: str) -> Verdict:
    """
    Read what clamd says of one file.

    Args:
        answer: its whole answer, without the line end.

    Returns:
        CLEAN only for an explicit ``OK``; INFECTED with the signature's name;
        HELD with the reason for everything else.
    """
    match = _ANSWER.fullmatch(answer)
    if match is None:
        for begin, words in _NO_ANSWER:
            if answer.startswith(begin):
                return held(words)
        return held("the scanner gave an answer that makes no sense")
    if match["ok"]:
        return Verdict(VerdictKind.CLEAN)
    if match["found"] is None:
        return held(_FAILURES.get(match["error"], "the scanner failed"))
    for begin, words in _UNREADABLE:
        if match["found"].startswith(begin):
            return held(words, is_lasting=True)
    signature = "".join(c if c.isprintable() else "?" for c in match["found"])
    return Verdict(VerdictKind.INFECTED, signature[:_MAX_SIGNATURE_CHARACTERS])


def held(words: str, *, is_lasting: bool = False) -> Verdict:
    """Give the verdict for what nobody may have, and why."""
    return Verdict(VerdictKind.HELD, words, is_lasting=is_lasting)

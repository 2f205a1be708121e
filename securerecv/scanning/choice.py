"""Which clamd it is to be: the one that was named, one that is there, or an own one."""

import os
import pwd
from contextlib import suppress

from attrs import frozen
from twisted.logger import Logger

from securerecv.errors import ScannerError
from securerecv.scanning.contact import Contact, Report
from securerecv.scanning.home import find_program, lack_of_signatures
from securerecv.scanning.place import Place, place_of
from securerecv.scanning.process import Needs
from securerecv.settings import Settings

USUAL_SOCKETS = (
    "/run/clamav/clamd.ctl",
    "/var/run/clamav/clamd.ctl",
    "/run/clamav/clamd.sock",
    "/run/clamd.scan/clamd.sock",
    "/run/clamav/clamd.socket",
    "/tmp/clamd.socket",  # noqa: S108 - who listens there is asked
    "/tmp/clamd.sock",  # noqa: S108 - (the same)
)

_TRUSTED_USERS = ("root", "clamav", "clamscan", "_clamav", "vscan")
_PROBE_TIMEOUT_S = 3.0

_log = Logger()


@frozen
class Lack:
    """
    Nothing can be scanned as things are.

    Attributes:
        words: for who sends a file.
        mend: for the operator; empty if this is as it was decided.
    """

    words: str
    mend: str = ""


def choose(
    settings: Settings, usual: tuple[str, ...] = USUAL_SOCKETS
) -> Place | Needs | Lack:
    """
    Find what is to be used.  Blocks for some seconds at most.

    Args:
        settings: ``scanner`` decides; ``signatures`` and the like are for a clamd
            of our own.
        usual: paths of sockets where ``auto`` looks.

    Returns:
        Where a clamd listens, what to make one from, or why there is none.
    """
    if settings.scanner == "none":
        return Lack("this server has no scanner, so it takes no files")
    place = place_of(settings.scanner)
    if place is not None:
        return place
    if settings.scanner == "auto":
        for path in usual:
            if _is_reliable(Place(path)):
                return Place(path)
    program = find_program()
    if program is None:
        return Lack(
            "this server has no scanner, so it takes no files",
            "there is no clamd on this machine; type: apt-get install clamav-daemon",
        )
    lack = lack_of_signatures(settings.signatures)
    if lack:
        words = "this server's scanner has no signatures, so it takes no files"
        return Lack(words, lack)
    return Needs(program, settings.signatures, settings.max_file, settings.data)


def _is_reliable(place: Place) -> bool:
    """
    Tell whether a clamd that nobody has named can be taken all the same.

    It belongs to somebody who is trusted with files anyway, and it says so when it
    could not look into all of one.
    """
    try:
        report = Contact(place, 0, None, _PROBE_TIMEOUT_S, _PROBE_TIMEOUT_S).look()
    except ScannerError:
        return False
    trusted = {os.geteuid()}
    for name in _TRUSTED_USERS:
        with suppress(KeyError):
            trusted.add(pwd.getpwnam(name).pw_uid)
    if report.peer.uid not in trusted:
        _log.warn("{place} is not used: it is a stranger's", place=str(place))
        return False
    if not (report.reports_limits and report.reports_encrypted):
        _log.warn("{place} is not used{why}", place=str(place), why=warning(report))
        return False
    return True


def warning(report: Report) -> str:
    """Say what a clamd keeps quiet about, and what to write into its clamd.conf."""
    missing = []
    if not report.reports_limits:
        missing.append("AlertExceedsMax yes")
    if not report.reports_encrypted:
        missing.append("AlertEncrypted yes")
    if not missing:
        return ""
    lines = " and ".join(missing)
    return f"; it calls clean what it did not look into: its clamd.conf needs {lines}"

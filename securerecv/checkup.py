"""
Looking a receiver's data folder over: what is well, and what to mend.

Nothing is made or changed.
"""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime

from attrs import frozen
from cryptography import x509

from securerecv.banner import account_command
from securerecv.errors import OperatorError, SecurerecvError
from securerecv.intake.accountbook import open_account_book
from securerecv.net import counters
from securerecv.net.tls import ServerTls
from securerecv.scanning.examination import examine
from securerecv.settings import Settings
from securerecv.vault.database import check_whole, database_url, open_database
from securerecv.vault.keyring import check_folder, check_private, open_keyring

_MANY_LOST = 1000
_SHARE_LOST = 0.01
_MIN_FREE_BYTES = 256 * 1024 * 1024
_CERTIFICATE_WARNING_DAYS = 14
_CLOCK_TOLERANCE_S = 120.0


@frozen
class Finding:
    """
    What one check found.

    Attributes:
        what: was looked at.
        is_well: nothing needs to be done.
        words: what was found, or what to do.
    """

    what: str
    is_well: bool
    words: str


def checkup(settings: Settings) -> Iterator[Finding]:
    """
    Check everything.

    A check that is well is one finding; one that is not is one for each thing
    that is to be mended, unless an earlier check has found it too.

    Args:
        settings: as for the server.
    """
    said: set[str] = set()
    checks: tuple[tuple[str, Callable[[Settings], str]], ...] = (
        ("data folder", _folder),
        ("permissions", _permissions),
        ("keys", _keys),
        ("certificate", _certificate),
        ("store", _store),
        ("accounts", _accounts),
        ("free space", _free_space),
        ("clock", _clock),
        ("datagrams", _datagrams),
        ("scanner", _scanner),
    )
    for what, check in checks:
        try:
            yield Finding(what, True, check(settings))
        except (SecurerecvError, OSError, ValueError) as error:
            for words in str(error).splitlines():
                if words not in said:
                    yield Finding(what, False, words)
                said.add(words)
            if what in _NEEDED:
                return


_NEEDED = {"data folder", "keys", "store"}
"""Without these there is nothing more to check."""


class _IllError(SecurerecvError):
    """A check failed; each line of the words says what to do."""


def _folder(settings: Settings) -> str:
    check_folder(settings.data)
    return str(settings.data)


def _permissions(settings: Settings) -> str:
    paths = sorted(settings.data.rglob("*"))
    if settings.key is not None:
        paths.append(settings.key)
    lax = []
    for path in paths:
        try:
            (check_folder if path.is_dir() else check_private)(path)
        except OperatorError as error:
            lax.append(str(error))
        except FileNotFoundError:
            # A running server has put it away.
            continue
    if lax:
        raise _IllError("\n".join(lax))
    return f"{len(paths)} files and folders are for their owner only"


def _keys(settings: Settings) -> str:
    keyring = open_keyring(settings.data, settings.cert, settings.key, make=False)
    return f"sealing key x25519 {keyring.sealing_public_key.hex()}"


def _certificate(settings: Settings) -> str:
    keys = settings.data / "keys"
    certificate = settings.cert or keys / "tls-certificate.pem"
    tls = ServerTls(certificate, settings.key or keys / "tls-key.pem")
    parsed = x509.load_pem_x509_certificate(certificate.read_bytes())
    days = (parsed.not_valid_after_utc - datetime.now(UTC)).days
    if days < _CERTIFICATE_WARNING_DAYS:
        raise _IllError(
            f"{certificate} is valid for {days} more days: renew it;"
            " with the same key its pin stays the same"
        )
    return f"valid for {days} more days, pin {tls.pin}"


def _store(settings: Settings) -> str:
    url = database_url(settings.store, settings.data)
    engine = open_database(url, make=False, write=False)
    try:
        check_whole(engine)
    finally:
        engine.dispose()
    if url.get_backend_name() == "sqlite":
        return f"{url.database} is whole"
    return "PostgreSQL answers, and has the tables"


def _accounts(settings: Settings) -> str:
    book = open_account_book(settings, make=False, write=False)
    try:
        count = book.count()
    finally:
        book.close()
    if not count:
        raise _IllError(
            f"there are none, so nobody has a box; type: {account_command(settings)}"
        )
    return f"{count}"


def _free_space(settings: Settings) -> str:
    free = shutil.disk_usage(settings.data).free
    if free < _MIN_FREE_BYTES:
        raise _IllError(f"only {free >> 20} MiB are left for {settings.data}")
    return f"{free >> 20} MiB"


def _datagrams(settings: Settings) -> str:
    """Tell what the server has counted, a minute ago at most."""
    found = counters.read(settings.data)
    if found is None:
        return "none were received"
    lost = found.socket.kernel_drops
    if lost > _MANY_LOST and lost > found.socket.received * _SHARE_LOST:
        raise _IllError(
            f"{found.words()}: more come than are read; raise net.core.rmem_max"
        )
    return found.words()


def _scanner(settings: Settings) -> str:
    """Try it with the EICAR test string, and with a file of the largest size."""
    findings = examine(settings)
    if findings.mend:
        raise _IllError("\n".join(f"{findings.words}: {m}" for m in findings.mend))
    return "; ".join([findings.words, *findings.notes])


def _clock(settings: Settings) -> str:
    newest = settings.data.stat().st_mtime
    for path in settings.data.rglob("*"):
        with suppress(FileNotFoundError):
            newest = max(newest, path.stat().st_mtime)
    ahead_s = newest - time.time()
    if ahead_s > _CLOCK_TOLERANCE_S:
        raise _IllError(
            f"the data folder was written {ahead_s:.0f} s in the future: set the clock"
        )
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"

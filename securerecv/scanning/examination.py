"""Trying a scanner out for ``securerecv doctor``: what it finds, what it lets pass."""

import ipaddress
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from attrs import Factory, define

from securerecv.errors import OperatorError, ScannerError
from securerecv.interfaces import VerdictKind
from securerecv.scanning import proofs
from securerecv.scanning.choice import USUAL_SOCKETS, Lack, choose
from securerecv.scanning.contact import LOOK_TIMEOUT_S, SCAN_TIMEOUT_S
from securerecv.scanning.home import (
    Home,
    fingerprint,
    is_memory,
    make_home,
    memory_folder,
    most_unpacked,
)
from securerecv.scanning.place import Client, Peer, Place
from securerecv.scanning.process import (
    Needs,
    command,
    in_words_of_operator,
    remembered_home,
)
from securerecv.scanning.verdicts import judge
from securerecv.settings import Settings

_START_TIMEOUT_S = 180.0
_WANTED_MEMBER = "2000M"


@define
class Findings:
    """
    What came out.

    Attributes:
        words: which scanner it is, in one line.
        mend: what is to be mended, a line each.
        notes: what is good to know, a line each.
    """

    words: str = ""
    mend: list[str] = Factory(list)
    notes: list[str] = Factory(list)


def examine(settings: Settings, usual: tuple[str, ...] = USUAL_SOCKETS) -> Findings:
    """
    Try out the scanner that a server with these settings has or would have.

    Args:
        settings: as for the server.
        usual: paths of sockets where ``auto`` looks.

    Raises:
        OperatorError: there is none, or it does not answer.
    """
    chosen = choose(settings, usual)
    findings = Findings()
    if isinstance(chosen, Lack):
        if chosen.mend:
            raise OperatorError(f"files are refused: {chosen.mend}")
        findings.words = "none: files are refused, as you have decided"
        return findings
    with ExitStack() as stack:
        if isinstance(chosen, Place):
            place, whose = chosen, str(chosen)
        else:
            place = stack.enter_context(_own(chosen, findings))
            whose = "a clamd of its own"
            _look_at_memory(chosen, findings)
        try:
            version, peer = _greet(place)
            findings.words = f"{whose}, {version}"
            _try(place.client(SCAN_TIMEOUT_S), settings.max_file, findings)
        except ScannerError as error:
            raise OperatorError(f"{whose}: {error}; is it running?") from None
        if isinstance(chosen, Place):
            _look_at_place(place, peer, findings)
    return findings


def _greet(place: Place) -> tuple[str, Peer]:
    client = place.client(LOOK_TIMEOUT_S)
    if client.ping() != "PONG":
        raise ScannerError("what answers there is no clamd")
    return client.version(), client.peer


def _try(client: Client, max_file: int, findings: Findings) -> None:
    if proofs.scan(client, proofs.EICAR).kind is not VerdictKind.INFECTED:
        findings.mend.append(
            "it does not find the EICAR test string: are there signatures?"
            " type: freshclam"
        )
        return
    for content, line, what in (
        (proofs.nested(), "AlertExceedsMax yes", "what goes over its limits"),
        (proofs.encrypted(), "AlertEncrypted yes", "what is encrypted"),
    ):
        if not proofs.admits(client, content):
            findings.mend.append(
                f"it calls clean {what}: write {line!r} into its clamd.conf"
            )
    size = max(max_file, proofs.MIN_BEHIND_BYTES)
    with proofs.eicar_behind(size) as descriptor:
        answer = client.scan(descriptor, size)
    if judge(answer).kind is not VerdictKind.INFECTED:
        findings.mend.append(_too_small(answer, size))
    if not proofs.looks_into_members(client, 2 * size):
        findings.notes.append(
            "of files in archives that are larger than its MaxFileSize it looks at"
            f" the beginning only: better 'MaxFileSize {_WANTED_MEMBER}' in clamd.conf"
        )


def _too_small(answer: str, size: int) -> str:
    lines = [f"MaxFileSize {size}", f"MaxScanSize {most_unpacked(size)}"]
    if "Exceeded.MaxFileSize" in answer:
        lines = lines[:1]
    elif "Exceeded.MaxScanSize" in answer:
        lines = lines[1:]
    elif "size limit exceeded" in answer:
        lines = [f"StreamMaxLength {size}"]
    line = "' and '".join(lines)
    return (
        f"it does not look into a file of --max-file, {size} bytes:"
        f" write '{line}' into its clamd.conf"
    )


def _look_at_memory(needs: Needs, findings: Findings) -> None:
    folder = memory_folder()
    free = shutil.disk_usage(folder).free
    wanted = 2 * most_unpacked(needs.max_file)
    if free < wanted:
        findings.notes.append(
            f"it unpacks into {folder}, where {free >> 20} MiB are free: for two large"
            f" archives at once it needs {wanted >> 20} MiB; when there are none,"
            " files wait"
        )


def _look_at_place(place: Place, peer: Peer, findings: Findings) -> None:
    if place.host:
        if not _is_here(place.host):
            findings.notes.append(f"files travel to {place.host} unencrypted")
        findings.notes.append("it writes a copy of each file while it looks at it")
    folder = _temporary_folder(peer)
    if folder is not None and not is_memory(folder):
        findings.notes.append(
            f"it unpacks archives to {folder}, which is on a disk:"
            " 'TemporaryDirectory /dev/shm' in its clamd.conf is better"
        )


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _temporary_folder(peer: Peer) -> Path | None:
    """Find where a clamd of this machine unpacks, if its configuration can be read."""
    if not peer.pid:
        return None
    configuration = "/etc/clamav/clamd.conf"
    try:
        words = Path(f"/proc/{peer.pid}/cmdline").read_text().split("\0")
        for word, following in zip(words, [*words[1:], ""], strict=True):
            if word.startswith("--config-file="):
                configuration = word.partition("=")[2]
            elif word in {"-c", "--config-file"}:
                configuration = following
        lines = Path(configuration).read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.strip().partition(" ")
        if name == "TemporaryDirectory" and Path(value.strip()).is_dir():
            return Path(value.strip())
    return Path(tempfile.gettempdir())


def _is_alive(place: Place) -> bool:
    try:
        _greet(place)
    except ScannerError:
        return False
    return True


@contextmanager
def _own(needs: Needs, findings: Findings) -> Iterator[Place]:
    """Give the clamd that the running server has, or run one for the moment."""
    home = remembered_home(needs.data)
    if home is not None:
        place = Place(path=str(home.socket))
        if _is_alive(place):
            _look_at_loaded(home, needs, findings)
            yield place
            return
    with tempfile.TemporaryFile() as said:
        try:
            home = make_home(needs.signatures, needs.max_file)
        except ScannerError as error:
            raise OperatorError(str(error)) from None
        # The words are our own, and the program is clamd.
        watcher = subprocess.Popen(  # noqa: S603 - see above
            command(home, needs),
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(home, needs.signatures, watcher, said)
            yield Place(path=str(home.socket))
        finally:
            watcher.communicate()


def _look_at_loaded(home: Home, needs: Needs, findings: Findings) -> None:
    """Compare what the server's clamd has loaded with what there is now."""
    with suppress(OSError):
        if home.loaded.read_text(encoding="ascii") != fingerprint(needs.signatures):
            findings.mend.append(
                f"it has not loaded {needs.signatures} as it is now; where it is not"
                " about to within two minutes, the server's log says what is wrong"
            )


def _wait_for(
    home: Home, signatures: Path, watcher: subprocess.Popen[bytes], said: Any
) -> None:
    deadline_s = time.monotonic() + _START_TIMEOUT_S
    while not home.socket.exists():
        if watcher.poll() is not None or time.monotonic() > deadline_s:
            said.seek(0)
            lines = said.read().decode(errors="replace").splitlines()
            errors = [line for line in lines if "ERROR" in line or "Error" in line]
            words = in_words_of_operator("; ".join(errors[:3]), home, signatures)
            if str(signatures) in words:
                words += "; delete the file that is named, or get it anew by freshclam"
            raise OperatorError(f"clamd does not start: {words}")
        time.sleep(0.05)

"""
The server's own keys, and the folder that they lie in.

The folder has mode 0700 and every key file 0600; anything laxer is refused,
because then the keys may have been read already.
"""

import fcntl
import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from securerecv.errors import OperatorError
from securerecv.vault.certificates import self_made_certificate

SECRET_BYTES = 32
_FOLDER_MODE = 0o700
_FILE_MODE = 0o600
_UNFINISHED = ".new"
_PERMISSIONS = stat.S_IRWXU | stat.S_IRWXG | stat.S_IRWXO


@frozen
class Keyring:
    """
    What the server must know to serve, and a copy of the disk gives away.

    None of it opens a mailbox: that takes the owner's password or recovery
    code.

    Attributes:
        name_key: 32 bytes; names are found by their HMAC under it.
        password_key: 32 bytes; passwords are mixed with it before bcrypt.
        mailbox_key: 32 bytes; passwords are mixed with it before scrypt.
        token_key: 32 bytes; the secrets of tokens are made of it.
        file_key: 32 bytes; keys of files are sealed under it until the scan is
            done.
        sealing_key: the X25519 key that datagrams are sealed to.
        certificate: PEM file of the TLS certificate chain.
        certificate_key: PEM file of its private key.
    """

    name_key: bytes = field(repr=False)
    password_key: bytes = field(repr=False)
    mailbox_key: bytes = field(repr=False)
    token_key: bytes = field(repr=False)
    file_key: bytes = field(repr=False)
    sealing_key: X25519PrivateKey = field(repr=False)
    certificate: Path
    certificate_key: Path

    @property
    def sealing_public_key(self) -> bytes:
        """The raw public half of the sealing key, 32 bytes."""
        return self.sealing_key.public_key().public_bytes_raw()


def open_keyring(
    data: Path,
    certificate: Path | None = None,
    certificate_key: Path | None = None,
    *,
    make: bool = True,
) -> Keyring:
    """
    Read the keys of a data folder; make the folder and the keys if missing.

    The secret that accounts depend on is made for a new folder only: where it
    has been lost, a new one would shut everybody out without a word.

    Whoever comes while another makes the keys waits, and takes the same ones.

    Args:
        data: the data folder.
        certificate: the operator's own certificate chain, or None.
        certificate_key: its key, given together with it.
        make: False to change nothing on disk.

    Raises:
        OperatorError: something is missing that is not to be made, readable
            by others, damaged, or cannot be made; the message says what to do.
    """
    keys = data / "keys"
    is_own = certificate is None or certificate_key is None
    try:
        for folder in (data, keys):
            if make:
                prepare_folder(folder)
            check_folder(folder)
        if make:
            with _alone_in(keys):
                _make_missing(data, keys, with_certificate=is_own)
        master = _secret(keys / "server-secret")
        sealing = _secret(keys / "sealing-key")
        if certificate is None or certificate_key is None:
            certificate = keys / "tls-certificate.pem"
            certificate_key = keys / "tls-key.pem"
        check_private(certificate_key)
    except OSError as error:
        raise OperatorError(f"{error.filename or data}: {error.strerror}") from None
    return Keyring(
        name_key=_derive(master, b"names"),
        password_key=_derive(master, b"passwords"),
        mailbox_key=_derive(master, b"mailboxes"),
        token_key=_derive(master, b"tokens"),
        file_key=_derive(master, b"files"),
        sealing_key=X25519PrivateKey.from_private_bytes(sealing),
        certificate=certificate,
        certificate_key=certificate_key,
    )


def _derive(master: bytes, purpose: bytes) -> bytes:
    # RFC 5869 section 3.3: the master is uniformly random, so expanding is
    # enough; one label a purpose keeps the keys independent.
    label = b"securerecv/1 " + purpose
    return HKDFExpand(SHA256(), SECRET_BYTES, label).derive(master)


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes that do the same waiting."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_missing(data: Path, keys: Path, *, with_certificate: bool) -> None:
    if not (keys / "server-secret").exists():
        # A start that was cut short leaves the file that it was writing.
        begun = [path for path in keys.iterdir() if path.suffix != _UNFINISHED]
        if begun or any(data.glob("store*")):
            return
        _make_secret(keys / "server-secret")
    if not (keys / "sealing-key").exists():
        _make_secret(keys / "sealing-key")
    if with_certificate and not (keys / "tls-key.pem").exists():
        chain, key = self_made_certificate()
        write_private(keys / "tls-certificate.pem", chain)
        write_private(keys / "tls-key.pem", key)


def _make_secret(path: Path) -> None:
    write_private(path, secrets.token_hex(SECRET_BYTES).encode() + b"\n")


def _secret(path: Path) -> bytes:
    if not path.exists():
        raise OperatorError(f"{path} is missing: restore it from a backup")
    check_private(path)
    try:
        secret = bytes.fromhex(path.read_text(encoding="ascii"))
    except ValueError:
        secret = b""
    if len(secret) != SECRET_BYTES:
        raise OperatorError(f"{path} is damaged: restore it from a backup")
    return secret


def prepare_folder(path: Path) -> None:
    """
    Make a folder that nobody else can enter, if there is none.

    It is on disk when this returns, and so is the way to it.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        # Another process may make the same ones.
        if folder == path:
            folder.mkdir(_FOLDER_MODE, exist_ok=True)
            folder.chmod(_FOLDER_MODE)
        else:
            folder.mkdir(exist_ok=True)
        _sync(folder.parent)


def check_folder(path: Path) -> None:
    """
    Refuse a folder that others than its owner may enter.

    Raises:
        OperatorError: with the command that mends it.
    """
    if not path.exists():
        raise OperatorError(
            f"{path} is not there; start the server once, or name the folder with"
            " --data"
        )
    if not path.is_dir():
        raise OperatorError(f"{path} is not a folder")
    _check_mode(path, _FOLDER_MODE)


def check_private(path: Path) -> None:
    """
    Refuse a file that others than its owner may touch.

    Raises:
        OperatorError: with the command that mends it.
    """
    _check_mode(path, _FILE_MODE)


def _check_mode(path: Path, wanted: int) -> None:
    # The other bits let nobody in, and chmod does not clear a folder's.
    status = path.stat()
    if status.st_uid != os.geteuid():
        raise OperatorError(f"{path} belongs to another user: run this as its owner")
    mode = status.st_mode & _PERMISSIONS
    if mode & ~wanted:
        raise OperatorError(
            f"{path} has mode {mode:04o}: others may get at it;"
            f" type: chmod {wanted:04o} {shlex.quote(str(path))}"
        )


def write_private(path: Path, content: bytes) -> None:
    """
    Write a new file of mode 0600 that is there whole or not at all.

    It is on disk when this returns: what is encrypted under a key must never
    outlive the key in a power cut.
    """
    temporary = path.with_name(path.name + _UNFINISHED)
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(temporary, flags, _FILE_MODE), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    """Have the names in a folder on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""
Trust on first use: the keys of servers that were accepted once.

The file has one line for each server, ``HOST:PORT sha256//BASE64``, with
``x25519//HEX`` behind it when the server's key for sealed datagrams is known
too.  Blank lines and lines that begin with ``#`` are left as they are.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from securerecv.client.address import ServerAddress
from securerecv.client.errors import UnknownServerError, UntrustedServerError
from securerecv.client.trust import is_pin
from securerecv.errors import OperatorError

_KEY_BEGINS = "x25519//"
_KEY = re.compile(rf"{_KEY_BEGINS}[0-9a-f]{{64}}")


def default_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Give the file's place, ``securerecv/known_servers`` in the XDG folder."""
    folder = Path(environment.get("XDG_CONFIG_HOME", ""))
    # The XDG base directory specification: a path that is not absolute is as
    # good as none.
    if not folder.is_absolute():
        folder = Path.home() / ".config"
    return folder / "securerecv" / "known_servers"


class KnownServers:
    """
    The servers in one file.

    Args:
        path: the file; it and its folder are made when they are needed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def check(self, server: ServerAddress, pin: str) -> None:
        """
        Compare a server's key with the known one.

        Raises:
            UnknownServerError: there is none; `remember` can change that.
            UntrustedServerError: there is another one.
            OperatorError: the file cannot be read.
        """
        place, known, _ = self._find(server)
        if known is None:
            raise UnknownServerError(
                f"the key of {server} is not known yet: it shows {pin}", pin
            )
        if known != pin:
            raise UntrustedServerError(
                f"the key of {server} has changed: it was {known} and now is {pin}."
                " Either the server was given a new key, or somebody else answers in"
                " its place; nothing was sent. Ask whoever runs the server; if they"
                f" confirm the new key, remove line {place} from {self.path} and"
                " connect again"
            )

    def remember(self, server: ServerAddress, pin: str) -> None:
        """
        Store the key of a server that is not known yet.

        Raises:
            UntrustedServerError: another key was stored in the meantime.
            OperatorError: the file cannot be read or written.
        """
        try:
            with _locked(self.path.parent):
                if self._find(server)[1] is None:
                    self._replace([*self._lines(), f"{server} {pin}"])
        except OSError as error:
            raise self._trouble(error) from None
        self.check(server, pin)

    def sealing_key(self, server: ServerAddress) -> tuple[str, bytes] | None:
        """
        Give a server's key for sealed datagrams, if it is known.

        Returns:
            The pin of the server that said so, and 32 bytes.

        Raises:
            OperatorError: the file cannot be read.
        """
        _, pin, key = self._find(server)
        return (pin, key) if pin and key else None

    def remember_sealing_key(self, server: ServerAddress, pin: str, key: bytes) -> None:
        """
        Store what a known server said its key for sealed datagrams is.

        Args:
            server: which.
            pin: what it showed; under another one than the known, nothing is
                stored.
            key: 32 bytes.

        Raises:
            OperatorError: the file cannot be read or written.
        """
        try:
            with _locked(self.path.parent):
                number, known, _ = self._find(server)
                if known == pin:
                    lines = self._lines()
                    lines[number - 1] = f"{server} {pin} {_KEY_BEGINS}{key.hex()}"
                    self._replace(lines)
        except OSError as error:
            raise self._trouble(error) from None

    def _find(self, server: ServerAddress) -> tuple[int, str | None, bytes | None]:
        """Give the number of a server's line, from 1, its pin and sealing key."""
        for number, line in enumerate(self._lines(), 1):
            match line.split():
                case []:
                    continue
                case [word, *_] if word.startswith("#"):
                    continue
                case [name, pin] if is_pin(pin):
                    key = None
                case [name, pin, said] if is_pin(pin) and _KEY.fullmatch(said):
                    key = bytes.fromhex(said.removeprefix(_KEY_BEGINS))
                case _:
                    raise OperatorError(
                        f"{self.path}, line {number}: HOST:PORT sha256//BASE64 is"
                        " wanted"
                    )
            if name == str(server):
                return number, pin, key
        return 0, None, None

    def _lines(self) -> list[str]:
        try:
            return self.path.read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise self._trouble(error) from None

    def _replace(self, lines: list[str]) -> None:
        """Put a new file in the old one's place; readers see one of the two."""
        # Made with mode 0600.
        descriptor, name = tempfile.mkstemp(dir=self.path.parent, prefix=".known-")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.writelines(line + "\n" for line in lines)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise

    def _trouble(self, error: Exception) -> OperatorError:
        words = error.strerror if isinstance(error, OSError) else str(error)
        return OperatorError(f"{self.path}: {words}")


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which nothing but this module takes; make the folder."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)

"""Servers as people write them, and which key each of them had."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.client.address import ServerAddress
from securerecv.client.errors import UnknownServerError, UntrustedServerError
from securerecv.client.knownservers import KnownServers, default_path
from securerecv.client.trust import only, parse_pins
from securerecv.errors import OperatorError
from tests.clientends import ONE_PIN

SERVER = ServerAddress("example.org", 7443)
OTHER_PIN = "sha256//" + "B" * 43 + "="


class AddressTests(SynchronousTestCase):
    """Servers as people write them."""

    def test_forms(self) -> None:
        """Names and addresses are read with and without a port."""
        for written, host, port in [
            ("Example.org", "example.org", 7443),
            ("localhost:1", "localhost", 1),
            ("127.0.0.1:65535", "127.0.0.1", 65535),
            ("[::1]:99", "::1", 99),
            ("[fe80::1%eth0]", "fe80::1%eth0", 7443),
            ("::1", "::1", 7443),
            ("2001:DB8::7443", "2001:db8::7443", 7443),
        ]:
            address = ServerAddress.parse(written)
            self.assertEqual((address.host, address.port), (host, port))
            self.assertEqual(ServerAddress.parse(str(address)), address)

    def test_nonsense(self) -> None:
        """What is no address is refused."""
        for written in [
            *("", ":1", "a:", "a:0", "a:65536", "a:b", "a b", "[a]", "a:1:2"),
            *("[::1", "::1]", "a:1\n"),
        ]:
            self.assertRaises(ValueError, ServerAddress.parse, written)


class PinTests(SynchronousTestCase):
    """Pins that are given."""

    def test_pins(self) -> None:
        """One pin or several are read; what is none is refused."""
        self.assertEqual(parse_pins(ONE_PIN), (ONE_PIN,))
        self.assertEqual(parse_pins(f"{ONE_PIN}; {OTHER_PIN}"), (ONE_PIN, OTHER_PIN))
        for written in ("", "sha256//", ONE_PIN[8:], f"{ONE_PIN};", "sha1//AA="):
            self.assertRaises(ValueError, parse_pins, written)

    def test_only(self) -> None:
        """A server with one of the pins is trusted, and no other."""
        trust = only((ONE_PIN,))
        trust(ONE_PIN)
        self.assertRaises(UntrustedServerError, trust, OTHER_PIN)


class KnownServersTests(SynchronousTestCase):
    """Keys of servers, remembered on first use."""

    def setUp(self) -> None:
        """Choose a file that is not there yet, in a folder that is not either."""
        self.path = Path(self.mktemp()).absolute() / "config" / "known_servers"
        self.known = KnownServers(self.path)

    def test_first_use(self) -> None:
        """An unknown server is refused with its pin; remembered, it is trusted."""
        error = self.assertRaises(UnknownServerError, self.known.check, SERVER, ONE_PIN)
        self.assertEqual(error.pin, ONE_PIN)
        self.known.remember(SERVER, ONE_PIN)
        self.known.remember(SERVER, ONE_PIN)
        self.known.check(SERVER, ONE_PIN)
        self.assertEqual(self.path.read_text(), f"example.org:7443 {ONE_PIN}\n")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.path.parent.stat().st_mode & 0o777, 0o700)
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_changed_key(self) -> None:
        """A changed key is refused; the words name the line and the file."""
        other = ServerAddress("::1", 1)
        self.known.remember(other, OTHER_PIN)
        self.known.remember(SERVER, ONE_PIN)
        for refuse in (self.known.check, self.known.remember):
            error = self.assertRaises(UntrustedServerError, refuse, SERVER, OTHER_PIN)
            self.assertNotIsInstance(error, UnknownServerError)
            self.assertIn(f"line 2 from {self.path}", str(error))
            self.assertIn(ONE_PIN, str(error))
            self.assertIn(OTHER_PIN, str(error))
        self.known.check(other, OTHER_PIN)

    def test_many_at_once(self) -> None:
        """Servers that are remembered at the same time are all remembered."""
        servers = [ServerAddress("localhost", port) for port in range(1, 33)]
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda s: self.known.remember(s, ONE_PIN), servers))
        for server in servers:
            self.known.check(server, ONE_PIN)

    def test_by_hand(self) -> None:
        """Comments stay; a line that is wrong is named and trusts nobody."""
        self.path.parent.mkdir(parents=True)
        self.path.write_text(f"# mine\n\nlocalhost:1 {ONE_PIN}")
        self.known.remember(SERVER, OTHER_PIN)
        self.assertEqual(
            self.path.read_text(),
            f"# mine\n\nlocalhost:1 {ONE_PIN}\nexample.org:7443 {OTHER_PIN}\n",
        )
        self.path.write_text("# mine\nexample.org:7443 sha256//\n")
        error = self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        self.assertIn("line 2", str(error))

    def test_unusable_file(self) -> None:
        """A file that cannot be read or made is named, with the reason."""
        self.path.mkdir(parents=True)
        error = self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        self.assertEqual(str(error), f"{self.path}: Is a directory")
        self.path.rmdir()
        self.path.write_bytes(b"\xff")
        self.assertRaises(OperatorError, self.known.check, SERVER, ONE_PIN)
        below = KnownServers(self.path / "below" / "known_servers")
        self.assertRaises(OperatorError, below.remember, SERVER, ONE_PIN)

    def test_failed_write(self) -> None:
        """A write that fails leaves the old file and nothing else."""
        self.known.remember(SERVER, ONE_PIN)

        def fail(_: int) -> None:
            raise OSError(28, "No space left on device")

        self.patch(os, "fsync", fail)
        other = ServerAddress("other", 1)
        error = self.assertRaises(OperatorError, self.known.remember, other, ONE_PIN)
        self.assertIn("No space left", str(error))
        self.assertEqual(self.path.read_text(), f"example.org:7443 {ONE_PIN}\n")
        self.assertEqual(list(self.path.parent.iterdir()), [self.path])

    def test_place(self) -> None:
        """The file is in the XDG configuration folder, when that is absolute."""
        self.assertEqual(
            default_path({"XDG_CONFIG_HOME": "/x"}), Path("/x/securerecv/known_servers")
        )
        usual = Path.home() / ".config" / "securerecv" / "known_servers"
        self.assertEqual(default_path({"XDG_CONFIG_HOME": "x"}), usual)
        self.assertEqual(default_path({}), usual)

"""The server's own keys, and the folder that they lie in."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import OperatorError
from securerecv.vault.keyring import Keyring, open_keyring, write_private

ROOT = Path(__file__).resolve().parent.parent
SECRETS = ("server-secret", "sealing-key")
PRIVATE = (*SECRETS, "tls-key.pem")
DERIVED = ("name_key", "password_key", "mailbox_key", "token_key")
NAMES = (*DERIVED, "sealing_public_key")

# Runs a statement in a process whose files can have so many bytes and no more,
# as on a disk that is full.
_ON_FULL_DISK = """
import resource, sys
from pathlib import Path
from securerecv.errors import OperatorError
from securerecv.vault.keyring import open_keyring, write_private
path, most = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
try:
    {}
except (OperatorError, OSError) as error:
    print(type(error).__name__, error)
"""

_OPEN = """
import sys
from pathlib import Path
from securerecv.vault.keyring import open_keyring
print("ready", flush=True)
sys.stdin.readline()
keyring = open_keyring(Path(sys.argv[1]))
secrets = keyring.name_key + keyring.sealing_public_key
import hashlib
secrets += keyring.certificate.read_bytes() + keyring.certificate_key.read_bytes()
print(hashlib.sha256(secrets).hexdigest())
"""


def on_full_disk(statement: str, path: Path, most: int) -> str:
    """Run a statement that may use ``path``; give the error that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", _ON_FULL_DISK.format(statement), str(path), str(most)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def mode_of(path: Path) -> int:
    """Give the permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


class KeyringTests(SynchronousTestCase):
    """The keys of a data folder."""

    def setUp(self) -> None:
        """Choose a folder whose name a shell would take apart."""
        self.data = Path(self.mktemp()).absolute() / "the operator's $data"
        self.keys = self.data / "keys"

    def assert_refused(self, *parts: str) -> str:
        """See that the keys are refused, in one line that has these parts."""
        error = self.assertRaises(OperatorError, open_keyring, self.data)
        words = str(error)
        for part in parts:
            self.assertIn(part, words)
        self.assertEqual(len(words.splitlines()), 1)
        return words

    def assert_same(self, first: Keyring, second: Keyring) -> None:
        """See that two keyrings hold the same keys."""
        for name in NAMES:
            self.assertEqual(getattr(first, name), getattr(second, name))
        self.assertEqual(first.certificate, second.certificate)
        self.assertEqual(first.certificate_key, second.certificate_key)

    def test_made_once(self) -> None:
        """The keys are made at the first start and are the same ever after."""
        first = open_keyring(self.data)
        before = {path: path.read_bytes() for path in self.keys.iterdir()}
        self.assert_same(first, open_keyring(self.data))
        after = {path: path.read_bytes() for path in self.keys.iterdir()}
        self.assertEqual(before, after)
        self.assertEqual(
            {path.name for path in before}, {*PRIVATE, "tls-certificate.pem"}
        )

    def test_folders_differ(self) -> None:
        """Two data folders share no key."""
        one = open_keyring(self.data)
        other = open_keyring(self.data.with_name("other"))
        for name in NAMES:
            self.assertNotEqual(getattr(one, name), getattr(other, name))
        self.assertNotEqual(
            one.certificate_key.read_bytes(), other.certificate_key.read_bytes()
        )

    def test_derived_keys(self) -> None:
        """The four keys from the server's secret differ, and none is it."""
        keyring = open_keyring(self.data)
        secret = bytes.fromhex((self.keys / "server-secret").read_text())
        keys = {secret, *(getattr(keyring, name) for name in DERIVED)}
        self.assertEqual(len(keys), 5)
        self.assertEqual({len(key) for key in keys}, {32})

    def test_modes(self) -> None:
        """Folders have mode 0700 and keys 0600, whatever the umask is."""
        for umask in (0o000, 0o022, 0o077, 0o777):
            before = os.umask(umask)
            try:
                open_keyring(self.data)
            finally:
                os.umask(before)
            self.assertEqual(mode_of(self.data), 0o700)
            self.assertEqual(mode_of(self.keys), 0o700)
            for path in self.keys.iterdir():
                # A umask can take rights away from a file, and a stricter one
                # is as good; it can never add any.
                self.assertEqual(mode_of(path), 0o600 & ~umask, path)
            shutil.rmtree(self.data)

    def test_stricter_modes(self) -> None:
        """Keys that not even their owner may write are good enough."""
        keyring = open_keyring(self.data)
        for name in PRIVATE:
            (self.keys / name).chmod(0o400)
        self.keys.chmod(0o500)
        self.assert_same(keyring, open_keyring(self.data))

    def test_laxer_modes(self) -> None:
        """Each laxer mode is refused, and the command that is shown mends it."""
        keyring = open_keyring(self.data)
        places = [(self.data, 0o700), (self.keys, 0o700)]
        places += [(self.keys / name, 0o600) for name in PRIVATE]
        for path, wanted in places:
            for bit in range(9):
                lax = wanted | 1 << bit
                if lax == wanted:
                    continue
                path.chmod(lax)
                words = self.assert_refused(str(path), f"mode {lax:04o}")
                _, _, command = words.partition("type: ")
                self.assertTrue(command.startswith(f"chmod {wanted:04o} "), command)
                subprocess.run(command, shell=True, check=True)  # noqa: S602 - as typed
                self.assertEqual(mode_of(path), wanted)
                self.assert_same(keyring, open_keyring(self.data))

    def test_group_of_folder(self) -> None:
        """A folder that hands its group on, as its parent may want, is taken."""
        keyring = open_keyring(self.data)
        self.data.chmod(0o2700)
        self.assert_same(keyring, open_keyring(self.data))
        self.data.chmod(0o2750)
        self.assert_refused("mode 0750", "chmod 0700")

    def test_damaged_secrets(self) -> None:
        """A key file with anything but 64 hexadecimal digits is refused."""
        open_keyring(self.data)
        for name in SECRETS:
            path = self.keys / name
            whole = path.read_bytes()
            for damaged in (b"", b"\n", whole[:-3], whole + b"00", b"\xff" * 65):
                path.write_bytes(damaged)
                self.assert_refused(str(path), "damaged", "backup")
            path.write_bytes(whole)
        open_keyring(self.data)

    def test_damage_is_not_shown(self) -> None:
        """What is left of a damaged secret is not in the message."""
        open_keyring(self.data)
        path = self.keys / "server-secret"
        rest = path.read_text()[:40]
        path.write_text(rest)
        self.assertNotIn(rest[:8], self.assert_refused("damaged"))

    def test_lost_secret(self) -> None:
        """A lost secret is not replaced in silence: it would shut everybody out."""
        keyring = open_keyring(self.data)
        path = self.keys / "server-secret"
        content = path.read_bytes()
        path.unlink()
        for _ in range(2):
            self.assert_refused(str(path), "missing", "backup")
        write_private(path, content)
        self.assert_same(keyring, open_keyring(self.data))

    def test_lost_folder_of_keys(self) -> None:
        """Beside a store that is there, lost keys are not replaced either."""
        open_keyring(self.data)
        (self.data / "store.sqlite3").touch()
        shutil.rmtree(self.keys)
        self.assert_refused("missing", "backup")

    def test_only_look(self) -> None:
        """Whoever only looks makes neither a folder nor a key."""
        error = self.assertRaises(OperatorError, open_keyring, self.data, make=False)
        self.assertIn(str(self.data), str(error))
        self.assertFalse(self.data.exists())
        keyring = open_keyring(self.data)
        self.assert_same(keyring, open_keyring(self.data, make=False))
        (self.keys / "sealing-key").unlink()
        self.assertRaises(OperatorError, open_keyring, self.data, make=False)
        self.assertFalse((self.keys / "sealing-key").exists())

    def test_lost_key_of_certificate(self) -> None:
        """A certificate whose key was never written is made anew with one."""
        open_keyring(self.data)
        (self.keys / "tls-key.pem").unlink()
        keyring = open_keyring(self.data)
        chain = x509.load_pem_x509_certificate(keyring.certificate.read_bytes())
        key = load_pem_private_key(keyring.certificate_key.read_bytes(), None)
        self.assertEqual(chain.public_key(), key.public_key())

    def test_folder_is_a_file(self) -> None:
        """A file where the folder should be is refused by name."""
        self.data.parent.mkdir()
        self.data.write_text("")
        self.assert_refused(str(self.data), "not a folder")

    def test_folder_cannot_be_made(self) -> None:
        """A folder below a file is refused in one line."""
        self.data.parent.write_text("")
        self.assert_refused(str(self.data.parent))

    def test_two_at_once(self) -> None:
        """Processes that start on a new folder together end up with the same keys."""
        for number in range(4):
            data = self.data / str(number)
            processes = [
                subprocess.Popen(
                    [sys.executable, "-c", _OPEN, str(data)],
                    cwd=ROOT,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                )
                for _ in range(3)
            ]
            for process in processes:
                assert process.stdout is not None
                self.assertEqual(process.stdout.readline(), "ready\n")
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            printed = {process.communicate(timeout=30)[0] for process in processes}
            self.assertEqual(len(printed), 1, printed)
            self.assertRegex(printed.pop(), r"\A[0-9a-f]{64}\n\Z")

    def test_folder_is_durable(self) -> None:
        """A new folder is on disk, and so is each on the way to it, before keys."""
        synced: list[str] = []

        def fsync(descriptor: int) -> None:
            synced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

        self.patch(os, "fsync", fsync)
        open_keyring(self.data)
        way = [str(path) for path in reversed(self.keys.parents)]
        start = synced.index(str(self.data.parent.parent))
        self.assertEqual(synced[start : start + 3], way[-3:])

    def test_nothing_in_repr(self) -> None:
        """A keyring in a log line shows paths only."""
        keyring = open_keyring(self.data)
        text = repr(keyring)
        for key in (keyring.name_key, keyring.password_key, keyring.mailbox_key):
            self.assertNotIn(repr(key), text)
            self.assertNotIn(key.hex(), text)


class OwnCertificateTests(SynchronousTestCase):
    """A certificate that the operator brings."""

    def setUp(self) -> None:
        """Make one."""
        self.data = Path(self.mktemp()).absolute()
        made = open_keyring(self.data.with_name(self.data.name + "-other"))
        self.chain, self.key = made.certificate, made.certificate_key

    def test_used(self) -> None:
        """It is used where it lies, and none is made in the data folder."""
        keyring = open_keyring(self.data, self.chain, self.key)
        self.assertEqual(keyring.certificate, self.chain)
        self.assertEqual(keyring.certificate_key, self.key)
        names = {path.name for path in (self.data / "keys").iterdir()}
        self.assertEqual(names, set(SECRETS))

    def test_lax_key(self) -> None:
        """Its key is held to the same mode as the server's own."""
        self.key.chmod(0o640)
        error = self.assertRaises(
            OperatorError, open_keyring, self.data, self.chain, self.key
        )
        self.assertIn(f"type: chmod 0600 {self.key}", str(error))

    def test_missing_key(self) -> None:
        """A key that is not there is named."""
        self.key.unlink()
        error = self.assertRaises(
            OperatorError, open_keyring, self.data, self.chain, self.key
        )
        self.assertIn(str(self.key), str(error))


class WritePrivateTests(SynchronousTestCase):
    """Files that are there whole or not at all."""

    def setUp(self) -> None:
        """Make a folder."""
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.path = self.folder / "secret"

    def test_whole(self) -> None:
        """The file has its content and its mode, and nothing is left over."""
        write_private(self.path, b"content")
        self.assertEqual(self.path.read_bytes(), b"content")
        self.assertEqual(mode_of(self.path), 0o600)
        self.assertEqual(list(self.folder.iterdir()), [self.path])

    def test_never_lax(self) -> None:
        """A lax file that lies in the way does not lend its mode."""
        for name in ("secret", "secret.new"):
            (self.folder / name).write_bytes(b"old")
            (self.folder / name).chmod(0o666)
        write_private(self.path, b"content")
        self.assertEqual(mode_of(self.path), 0o600)
        self.assertEqual(self.path.read_bytes(), b"content")

    def test_link_in_the_way(self) -> None:
        """A link in the way is replaced and not written through."""
        elsewhere = self.folder / "elsewhere"
        for name in ("secret", "secret.new"):
            (self.folder / name).symlink_to(elsewhere)
        write_private(self.path, b"content")
        self.assertFalse(elsewhere.exists())
        self.assertFalse(self.path.is_symlink())

    def test_full_disk(self) -> None:
        """When the disk is full there is no file, and later there is."""
        words = on_full_disk("write_private(path, bytes(100))", self.path, 50)
        self.assertIn("OSError", words)
        self.assertFalse(self.path.exists())
        write_private(self.path, b"content")
        self.assertEqual(list(self.folder.iterdir()), [self.path])

    def test_full_disk_keeps_the_old(self) -> None:
        """A file that was there stays whole when a new one does not fit."""
        write_private(self.path, b"content")
        on_full_disk("write_private(path, bytes(100))", self.path, 50)
        self.assertEqual(self.path.read_bytes(), b"content")

    def test_keys_on_full_disk(self) -> None:
        """A first start on a full disk says so, and the next one makes the keys."""
        data = self.folder / "data"
        for most in (0, 10, 70, 400):
            words = on_full_disk("open_keyring(path)", data, most)
            self.assertEqual(words, f"OperatorError {data}: File too large")
        keyring = open_keyring(data)
        chain = x509.load_pem_x509_certificate(keyring.certificate.read_bytes())
        key = load_pem_private_key(keyring.certificate_key.read_bytes(), None)
        self.assertEqual(chain.public_key(), key.public_key())

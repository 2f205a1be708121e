"""``--auth securerecv:``, in a server of Twisted's own that knows nothing of us."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from twisted.cred.credentials import IUsernamePassword, UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.cred.strcred import ICheckerFactory, findCheckerFactory, makeChecker
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import Interface, implementer
from zope.interface.verify import verifyObject

from securerecv.access import passwords
from securerecv.assembly.accountchecker import open_checker
from securerecv.errors import OperatorError
from securerecv.settings import Settings
from tests.program import PATIENCE_S, environment
from tests.support import add_accounts, new_folder, reactor, remove_account

PASSWORD = "correct horse"


@implementer(IRealm)
class Names:
    """A realm whose avatars are names."""

    def requestAvatar(
        self, avatar_id: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], bytes | tuple[()], Callable[[], None]]:
        """Give the name."""
        return interfaces[0], avatar_id, lambda: None


class PortalTests(TestCase):
    """The checker in somebody else's portal."""

    def setUp(self) -> None:
        """Make an account, and a portal from the words behind ``--auth``."""
        self.settings = Settings(data=new_folder(self))
        add_accounts(self.settings, alice=PASSWORD)
        checker = makeChecker(f"securerecv:{self.settings.data}")
        self.addCleanup(checker._started()._pool.stop)
        self.portal = Portal(Names(), [checker])

    async def log_in(self, name: Any, password: Any) -> object:
        """Log in."""
        credentials = UsernamePassword(name, password)
        _, avatar, _ = await self.portal.login(credentials, None, Interface)
        return avatar

    async def test_login(self) -> None:
        """Accounts log in with their password, as text or as bytes."""
        self.assertEqual(await self.log_in(b"Alice", PASSWORD.encode()), b"alice")
        self.assertEqual(await self.log_in("alice", PASSWORD), b"alice")

    async def test_refused(self) -> None:
        """Nobody else does."""
        for name, password in (("alice", "x"), ("bob", PASSWORD), ("", "")):
            with self.assertRaises(UnauthorizedLogin):
                await self.log_in(name, password)

    async def test_account_removed(self) -> None:
        """A removed account is out at once."""
        await self.log_in("alice", PASSWORD)
        remove_account(self.settings, "alice")
        with self.assertRaises(UnauthorizedLogin):
            await self.log_in("alice", PASSWORD)

    async def test_busy(self) -> None:
        """What does not fit into the queue is refused as any other login is."""
        self.patch(passwords, "MAX_QUEUED_LOGINS", 0)
        with self.assertRaises(UnauthorizedLogin):
            await self.log_in("alice", PASSWORD)


class FactoryTests(SynchronousTestCase):
    """What twistd finds."""

    def test_plugin(self) -> None:
        """It is among the kinds of ``--auth``, for names and passwords."""
        factory = findCheckerFactory("securerecv")
        self.assertTrue(verifyObject(ICheckerFactory, factory))
        self.assertIn(IUsernamePassword, factory.credentialInterfaces)

    def test_nothing_there(self) -> None:
        """A folder that is not there is neither taken nor made."""
        folder = new_folder(self)
        with self.assertRaises(OperatorError) as caught:
            open_checker(Settings(data=folder), reactor)
        self.assertIn(str(folder), str(caught.exception))
        self.assertFalse(folder.exists())

    def test_cheap(self) -> None:
        """A twistd that does not use it does not load what it is made of."""
        code = (
            "import sys; from twisted.plugins import securerecv_plugin;"
            "print({'bcrypt', 'sqlalchemy', 'OpenSSL'} & set(sys.modules))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment(),
            check=True,
        )
        self.assertEqual(done.stdout, "set()\n", done.stderr)


@contextlib.contextmanager
def words_server(data: Path, port: int) -> Iterator[None]:
    """Run Twisted's chat server with the accounts of a data folder."""
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("twistd")),
            *("-n", "--pidfile=", "words"),
            *("--irc-port", f"tcp:{port}:interface=127.0.0.1"),
            *("--auth", f"securerecv:{data}"),
        ],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    out = process.stdout
    assert out is not None
    try:
        for line in out:
            if "IRCFactory starting on" in line:
                break
        yield
    finally:
        process.terminate()
        out.close()
        process.wait(PATIENCE_S)


def irc_login(port: int, name: str, password: str) -> str:
    """Log in as an IRC client does; give what the server says to that."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE_S) as irc:
        irc.sendall(f"PASS {password}\r\nNICK {name}\r\n".encode())
        with irc.makefile(encoding="utf-8") as lines:
            # A welcome, or the service for nicknames.
            return next(line for line in lines if re.search(" 001 |NickServ", line))


class TwistdTests(SynchronousTestCase):
    """``twistd words --auth securerecv:…``, a program of its own."""

    def test_words(self) -> None:
        """Who has an account chats; nobody else does."""
        settings = Settings(data=new_folder(self))
        add_accounts(settings, alice="horse")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        with words_server(settings.data, port):
            self.assertIn(" 001 alice ", irc_login(port, "alice", "horse"))
            for name, password in (("alice", "cow"), ("bob", "horse")):
                self.assertIn("Login failed", irc_login(port, name, password))

    def test_nothing_there(self) -> None:
        """With a folder that is not there twistd ends, and says why."""
        done = subprocess.run(
            [
                str(Path(sys.executable).with_name("twistd")),
                *("-n", "--pidfile=", "words", "--auth", "securerecv:/nowhere"),
            ],
            capture_output=True,
            text=True,
            env=environment() | {"COLUMNS": os.environ.get("COLUMNS", "80")},
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertIn("/nowhere is not there", done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)

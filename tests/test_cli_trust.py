"""What a command asks a person: whose key it is, and passwords."""

from __future__ import annotations

import shlex
import signal
from typing import Any

import attrs
import pexpect
from twisted.internet.threads import deferToThread

from tests.clientends import ONE_PIN
from tests.command import PROGRAM, TIMEOUT_S, CommandTests, press_ctrl_c
from tests.support import new_folder, start_receiver


class TrustTests(CommandTests):
    """Servers' keys, remembered on first use."""

    def last(self) -> tuple[str, ...]:
        """Give the command that these tests run."""
        return ("last", self.server, "--user", "alice")

    async def test_no_terminal(self) -> None:
        """Where nobody can be asked, an unknown key is refused and not stored."""
        words = f"give --pin {self.pin}"
        await self.fails(1, words, "send", self.server, "--to", "alice", "hi")
        self.assertFalse(self.known.exists())
        self.assertEqual(await self.last_json(), [])

    async def test_wrong_pin(self) -> None:
        """A server with another key than the given one hears nothing."""
        send = ("send", self.server, "--to", "alice", "hi", "--pin")
        await self.fails(1, f"key is {self.pin} and not", *send, ONE_PIN)
        self.assertEqual(await self.last_json(), [])
        await self.works(*send, f"{ONE_PIN};{self.pin}")

    async def test_yes(self) -> None:
        """An accepted key is stored, and not asked about again."""

        def accept(process: Any) -> None:
            process.expect_exact(self.pin)
            process.expect_exact("(yes/no)")
            process.sendline("maybe")
            process.expect_exact("(yes/no)")
            process.sendline("yes")
            process.expect(f"Remembered in {self.known}")
            process.expect("Password of alice on")
            process.sendline("wonder land")
            process.expect("no messages")

        self.assertEqual(await self.at_terminal(*self.last(), then=accept), 0)
        self.assertEqual(self.known.read_text(), f"{self.server} {self.pin}\n")
        self.assertEqual(self.known.stat().st_mode & 0o777, 0o600)

        def enter(process: Any) -> None:
            process.expect("Password")
            self.assertNotIn("yes/no", process.before)
            process.sendline("wonder land")
            process.expect("no messages")
            self.assertNotIn("wonder", process.before)

        self.assertEqual(await self.at_terminal(*self.last(), then=enter), 0)
        await self.works("send", self.server, "--to", "alice", "hi")

    async def test_no(self) -> None:
        """A key that is turned down is not stored; nor is one at Ctrl-D."""
        for answer in ("no\n", "\x04"):

            def refuse(process: Any, answer: str = answer) -> None:
                process.expect_exact("(yes/no)")
                process.send(answer)
                process.expect("was not accepted; nothing was sent")

            self.assertEqual(await self.at_terminal(*self.last(), then=refuse), 1)
            self.assertFalse(self.known.exists())

    async def test_changed_key(self) -> None:
        """A changed key is refused, and the way out of it works."""
        self.known.parent.mkdir()
        self.known.write_text(f"# mine\n{self.server} {self.pin}\n")
        await self.receiver.stopService()
        impostor = start_receiver(
            self, attrs.evolve(self.settings, port=self.port, data=new_folder(self))
        )
        send = ("send", self.server, "--to", "alice", "hi")
        words = f"now is {impostor.identity.pin}"
        await self.fails(1, words, *send)
        words = f"remove line 2 from {self.known}"
        await self.fails(1, words, *send)

        def refuse(process: Any) -> None:
            process.expect("has changed")
            process.expect("nothing was sent")

        self.assertEqual(await self.at_terminal(*send, then=refuse), 1)
        self.known.write_text("# mine\n")

        def accept(process: Any) -> None:
            process.expect_exact("(yes/no)")
            process.sendline("y")
            process.expect("no such user")

        self.assertEqual(await self.at_terminal(*send, then=accept), 1)

    async def test_damaged_file(self) -> None:
        """A file that is no list of servers is named; nobody is trusted."""
        self.known.parent.mkdir()
        self.known.write_text("garbage\n")
        words = f"{self.known}, line 1: HOST:PORT"
        await self.fails(1, words, "send", self.server, "--to", "alice", "hi")


class TypingTests(CommandTests):
    """What is typed at a terminal."""

    async def test_interrupted(self) -> None:
        """Ctrl-C at any question ends the command quietly, as the signal does."""
        known = ("last", self.server, "--user", "alice", "--pin", self.pin)
        unknown = ("last", self.server, "--user", "alice")
        typing = ("send", self.server, "--to", "alice")
        for arguments, prompt in (
            (known, "Password"),
            (unknown, "yes/no"),
            (typing, "Type the message"),
        ):

            def interrupt(process: Any, prompt: str = prompt) -> None:
                process.expect(prompt)
                press_ctrl_c(process)

            code = await self.at_terminal(*arguments, then=interrupt)
            self.assertEqual(code, 130, prompt)

    async def test_no_password(self) -> None:
        """Ctrl-D at the password is no password, and is said to be none."""

        def nothing(process: Any) -> None:
            process.expect("Password")
            process.sendeof()
            process.expect_exact("\r\nsecurerecv: no password was given\r\n")

        arguments = ("last", self.server, "--user", "alice", "--pin", self.pin)
        self.assertEqual(await self.at_terminal(*arguments, then=nothing), 1)

    async def test_interrupted_loop(self) -> None:
        """Ctrl-C ends a shell's loop around commands as well."""
        words = shlex.join([*PROGRAM, "watch", self.server, "--pin", self.pin])
        loop = f"for turn in 1 2 3; do {words}; done; echo over"

        def run() -> tuple[str, int | None]:
            process: Any = pexpect.spawn(
                "bash", ["-c", loop], env=self.environment, encoding="utf-8"
            )
            process.timeout = TIMEOUT_S
            process.expect("Your address is")
            press_ctrl_c(process)
            process.expect(pexpect.EOF)
            process.close()
            return process.before, process.signalstatus

        shown, ended_by = await deferToThread(run)
        self.assertEqual(ended_by, signal.SIGINT)
        self.assertNotIn("over", shown)
        self.assertNotIn("Your address is", shown)

    async def test_message(self) -> None:
        """A message is typed, and ended with Ctrl-D."""

        def write(process: Any) -> None:
            process.expect("Ctrl-D")
            process.sendline("one")
            process.sendline("two")
            process.sendeof()
            process.expect("sent [0-9a-f]{16}")

        send = ("send", self.server, "--to", "alice", "--pin", self.pin)
        self.assertEqual(await self.at_terminal(*send, then=write), 0)
        (message,) = await self.last_json()
        self.assertEqual(message["text"], "one\ntwo\n")

"""The console, used as a person uses it: at a terminal, typing and reading."""

from __future__ import annotations

import hashlib
import os
import re
import socket
import sys
import time
from pathlib import Path

from prompt_toolkit.renderer import Renderer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from bench.tls import ask, client_context, connect
from securerecv.console.bars import MAX_BARS, Bars
from securerecv.console.commands import (
    COMMANDS,
    NotACommandError,
    completions,
    help_text,
    parse,
)
from securerecv.scanning.proofs import EICAR
from securerecv.settings import Settings
from tests.clamd import make_signatures
from tests.program import run
from tests.support import add_accounts
from tests.terminal import Terminal

PROGRAM = (sys.executable, "-m", "securerecv.cli.main")
WHO = "login or anonymous?"
TRANSPORT = "tcp or udp?"
PROMPT = ">"
CTRL_C = "\x03"
CTRL_D = "\x04"
TAB = "\t"
UP = "\x1b[A"


class CommandTests(SynchronousTestCase):
    """What is typed at the prompt, understood or explained."""

    def test_parse(self) -> None:
        """Commands are understood in any case, with as many words as they take."""
        self.assertEqual(parse("last"), ("last", ()))
        self.assertEqual(parse("  DROP  0123 "), ("drop", ("0123",)))

    def test_usage(self) -> None:
        """A wrong number of words gives the usage, and no command all of them."""
        with self.assertRaises(NotACommandError) as caught:
            parse("get")
        self.assertTrue(str(caught.exception).startswith("usage: get ID "))
        with self.assertRaises(NotACommandError):
            parse("last 5")
        with self.assertRaises(NotACommandError) as caught:
            parse("\x1b[2J")
        self.assertEqual(
            str(caught.exception), f'"^[[2J" is no command. There are:\n{help_text()}'
        )
        for command in COMMANDS.values():
            self.assertIn(command.usage, help_text())

    def test_completions(self) -> None:
        """Commands are completed, and then the ids that were shown."""
        ids = ["01aa", "01bb", "02cc"]
        self.assertEqual(completions("", ids), list(COMMANDS))
        self.assertEqual(completions("LA", ids), ["last"])
        self.assertEqual(completions("drop ", ids), ids)
        self.assertEqual(completions("drop 01", ids), ["01aa", "01bb"])
        for nothing in ("drop 01aa 0", "last 0", "what 0", "xyz"):
            self.assertEqual(completions(nothing, ids), [])


class BarTests(SynchronousTestCase):
    """How far files are."""

    def test_bars(self) -> None:
        """A bar shows the share, the pace and the time left, and goes at the end."""
        clock = Clock()
        bars = Bars(clock.seconds)
        self.assertIsNone(bars.text())
        bars.move("one", "photo\x1b.jpg from bob", 1_000_000, 4_000_000)
        self.assertEqual(
            bars.text(),
            "[######..................]  25% of 4.0 MB  photo^[.jpg from bob",
        )
        clock.advance(2)
        bars.move("one", "ignored", 2_000_000, 4_000_000)
        self.assertEqual(
            bars.text(),
            "[############............]  50% of 4.0 MB, 500.0 KB/s, 4 s left"
            "  photo^[.jpg from bob",
        )
        bars.end("one")
        bars.end("one")
        self.assertIsNone(bars.text())

    def test_empty_and_many(self) -> None:
        """An empty file is complete, and many files take no more than a few lines."""
        bars = Bars(Clock().seconds)
        for number in range(MAX_BARS + 2):
            bars.move(str(number), "empty", 0, 0)
        lines = (bars.text() or "").splitlines()
        self.assertEqual(len(lines), MAX_BARS + 1)
        self.assertIn("100% of 0 bytes", lines[0])
        self.assertEqual(lines[-1], "and 2 more")


class ConsoleTests(SynchronousTestCase):
    """The program on a real pseudo-terminal."""

    def setUp(self) -> None:
        """Choose a data folder that is not there yet."""
        self.data = Path(self.mktemp()).absolute()

    def start(
        self, *words: str, folder: Path | None = None, answers: bool = True
    ) -> Terminal:
        """Start the console."""
        place = ("--port", "0", "--interface", "127.0.0.1", "--data", str(self.data))
        command = (*PROGRAM, "console", *place, *words)
        terminal = Terminal(*command, folder=folder, answers=answers)
        self.addCleanup(terminal.close)
        return terminal

    def log_in(self, terminal: Terminal, name: str, password: str) -> None:
        """Answer the first questions as a user that there is."""
        terminal.wait_for_prompt(WHO)
        terminal.type("login")
        terminal.wait_for_prompt("user name?")
        terminal.type(name)
        terminal.wait_for_prompt(f"password of {name}?")
        terminal.type(password)

    def choose(self, terminal: Terminal, transport: str) -> list[str]:
        """Choose a transport; gives the words with which others send a message."""
        terminal.wait_for_prompt(TRANSPORT)
        terminal.type(transport)
        return self.wait_until_serving(terminal)

    def wait_until_serving(self, terminal: Terminal) -> list[str]:
        """Wait for the prompt; gives the words with which others send a message."""
        terminal.wait_for("help lists the commands")
        terminal.wait_for_prompt(PROMPT)
        shown = "".join(terminal.rows())
        match = re.search(r"securerecv (send [^']+) '", shown)
        self.assertIsNotNone(match)
        assert match is not None
        return match[1].split()

    def send(self, words: list[str], text: str) -> str:
        """Send a message with the command that the console shows; gives its id."""
        ended = run(*words, text)
        self.assertEqual((ended.returncode, ended.stderr), (0, ""))
        return ended.stdout.split()[1]

    def leave(self, terminal: Terminal) -> None:
        """Leave, politely."""
        terminal.type("quit")
        self.assertEqual(terminal.wait_for_end(), 0)
        self.assertEqual(
            terminal.rows()[-1 - terminal.rows()[::-1].index("Goodbye.")], "Goodbye."
        )

    def test_simple_terminal(self) -> None:
        """One that does not tell where the cursor is will do, without a word of it."""
        terminal = self.start("--proto", "tcp", answers=False)
        for question, answer in ((WHO, "anon"), (PROMPT, "help")):
            terminal.wait_for_prompt(question)
            time.sleep(Renderer.CPR_TIMEOUT + 0.5)
            terminal.wait_for_prompt(question)
            terminal.type(answer)
        terminal.wait_for_prompt(PROMPT)
        self.assertNotIn("WARNING", terminal.text())
        self.leave(terminal)

    def test_new_user(self) -> None:
        """
        Wrong answers are explained, and the question comes again.

        The login makes the account, and messages come over UDP without
        disturbing what is being typed.
        """
        terminal = self.start()
        terminal.wait_for("legal use only")
        terminal.wait_for_prompt(WHO)
        terminal.type("maybe")
        terminal.wait_for('"maybe" is no answer to that: type login or anonymous')
        terminal.wait_for_prompt(WHO)
        terminal.type("LOGIN")
        terminal.wait_for_prompt("user name?")
        terminal.type("no blanks")
        terminal.wait_for('"no blanks" will not do: a user name is made of')
        terminal.wait_for_prompt("user name?")
        terminal.type("Carol")
        terminal.wait_for_prompt("create it? (yes/no)")
        terminal.type("what?")
        terminal.wait_for("type yes or no")
        terminal.wait_for_prompt("create it? (yes/no)")
        terminal.type("no")
        terminal.wait_for_prompt("user name?")
        terminal.type("carol")
        terminal.wait_for_prompt("create it? (yes/no)")
        terminal.type("yes")
        terminal.wait_for_prompt("new password for carol?")
        terminal.type("")
        terminal.wait_for("That will not do")
        terminal.wait_for_prompt("new password for carol?")
        terminal.type("correct horse")
        terminal.wait_for_prompt("the same again?")
        terminal.type("correct house")
        terminal.wait_for("not the same")
        terminal.wait_for_prompt("new password for carol?")
        terminal.type("correct horse")
        terminal.wait_for_prompt("the same again?")
        terminal.type("correct horse")
        terminal.wait_for(r"Recovery code: (\w{4}-){6}\w{4}")
        terminal.wait_for_prompt(TRANSPORT)
        terminal.type("both")
        terminal.wait_for('"both" is no answer to that: type tcp or udp')
        words = self.choose(terminal, "udp")
        self.assertIn("--udp", words)

        terminal.type("las", end="")
        terminal.wait_for_prompt("> las")
        self.send(words, "hello \x1b[2Jthere")
        terminal.wait_for(r"anon  .*\n    hello \^\[\[2Jthere\n")
        terminal.wait_for_prompt("> las")
        terminal.type(TAB)
        terminal.wait_for(r"> last\n(.*\n)*anon  .*\n    hello \^\[\[2Jthere\n")
        self.assertNotIn("correct hor", terminal.text())
        self.leave(terminal)

    def test_known_user(self) -> None:
        """
        What was kept is there after the login, and gone when it is dropped.

        After wrong passwords the name is asked again; arrows recall commands,
        and Tab completes ids.
        """
        add_accounts(Settings(data=self.data), carol="correct horse")
        terminal = self.start()
        self.log_in(terminal, "carol", "wrong")
        for wrong in ("wronger", "wrongest"):
            terminal.wait_for("that is not the password")
            terminal.wait_for_prompt("password of carol?")
            terminal.type(wrong)
        terminal.wait_for_prompt("user name?")
        terminal.type("carol")
        terminal.wait_for_prompt("password of carol?")
        terminal.type("correct horse")
        words = self.choose(terminal, "tcp")
        message_id = self.send(words, "for keeps")
        terminal.wait_for("    for keeps")
        self.leave(terminal)

        terminal = self.start()
        self.log_in(terminal, "carol", "correct horse")
        self.choose(terminal, "t")
        terminal.type("last")
        terminal.wait_for("    for keeps")
        terminal.wait_for_prompt(PROMPT)
        terminal.type("drop " + TAB, end="")
        terminal.wait_for_prompt(f"> drop {message_id}")
        terminal.type("")
        terminal.wait_for(f"{message_id} is gone")
        terminal.wait_for_prompt(PROMPT)
        terminal.type(UP + UP)
        terminal.wait_for("no messages")
        terminal.type(f"drop {message_id}")
        terminal.wait_for(r"does not hold that \(no-such-id\)")
        terminal.type("drop")
        terminal.wait_for("usage: drop ID")
        terminal.type("dance")
        terminal.wait_for('"dance" is no command')
        terminal.type("who")
        terminal.wait_for("You are carol; (.*\n)+.*You are carol; ")
        terminal.wait_for_prompt(PROMPT)
        terminal.type("help")
        terminal.wait_for("> help\n  last ")
        self.leave(terminal)

    def test_anonymous(self) -> None:
        """Somebody anonymous sees what comes, and nothing of it is stored."""
        terminal = self.start()
        terminal.wait_for_prompt(WHO)
        terminal.type("anon")
        words = self.choose(terminal, "tcp")
        self.assertTrue(words[-1].startswith("anon-"))
        before = {path: path.stat().st_size for path in self.data.rglob("*")}
        self.send(words, "gone with the session")
        terminal.wait_for("    gone with the session")
        terminal.wait_for_prompt(PROMPT)
        terminal.type("last")
        terminal.wait_for("no messages")
        after = {path: path.stat().st_size for path in self.data.rglob("*")}
        grown = [path for path, size in after.items() if size > before.get(path, -1)]
        self.assertEqual(grown, [])
        self.leave(terminal)

    def test_files(self) -> None:
        """A file comes with a bar and its verdict, and is fetched into the folder."""
        add_accounts(Settings(data=self.data), carol="correct horse")
        signatures = make_signatures(self.data.with_name("signatures"))
        folder = self.data.with_name("fetched")
        folder.mkdir()
        spawn = ("--scanner", "spawn", "--signatures", str(signatures))
        terminal = self.start("--proto", "tcp", *spawn, folder=folder)
        self.log_in(terminal, "carol", "correct horse")
        words = self.wait_until_serving(terminal)
        content = os.urandom(3_000_000)
        sender = connect(client_context(), int(words[1].rpartition(":")[2]))
        self.addCleanup(sender.close)
        ask(sender, b"ANON")
        digest = hashlib.sha256(content).hexdigest()
        put = f"PUT carol 3000000 {digest} ../Grüße aus Köln.jpg"
        file_id = ask(sender, put.encode()).split()[2].decode()
        sender.sendall(content[:1_500_000])
        terminal.wait_for(
            r"\[#{12}\.{12}\]  50% of 3\.0 MB.*Grüße aus Köln\.jpg from anon"
        )
        terminal.type("wh", end="")
        terminal.wait_for_prompt("> wh")
        sender.sendall(content[1_500_000:])
        terminal.wait_for(r"file, clean, 3\.0 MB: Grüße aus Köln\.jpg")
        terminal.wait_for_prompt("> wh")
        self.assertNotIn("50% of", terminal.text())
        terminal.type("o")
        terminal.wait_for("> who\nYou are carol; ")
        terminal.type("files")
        terminal.wait_for(rf"> files\nanon .* {file_id}\n    file, clean, ")
        terminal.type("get " + TAB)
        terminal.wait_for(r"wrote Grüße aus Köln\.jpg \(3000000 bytes")
        (fetched,) = folder.iterdir()
        self.assertEqual(fetched.read_bytes(), content)
        terminal.type(f"get {file_id}")
        terminal.wait_for("was not fetched: .* exists already")

        virus = folder.with_name("invoice.pdf")
        virus.write_bytes(EICAR)
        self.assertEqual(run("put", *words[1:], str(virus)).returncode, 1)
        shown = terminal.wait_for(r"([0-9a-f]{16})\n    file, infected, ")
        terminal.type(f"get {shown[1]}")
        terminal.wait_for(r"was not fetched: .* \(infected\)")
        terminal.type(f"drop {shown[1]}")
        terminal.wait_for(f"{shown[1]} is gone")
        self.leave(terminal)

    def test_polite_leaving(self) -> None:
        """Ctrl-C and Ctrl-D end it with a goodbye, whatever is being asked."""
        add_accounts(Settings(data=self.data), carol="correct horse")
        both = (CTRL_C, CTRL_D)
        for questions, keys in enumerate([[CTRL_C], [CTRL_D], both, both]):
            for key in keys:
                terminal = self.start()
                terminal.wait_for_prompt(WHO)
                if questions > 0:
                    terminal.type("l")
                    terminal.wait_for_prompt("user name?")
                if questions > 1:
                    terminal.type("carol")
                    terminal.wait_for_prompt("password of carol?")
                if questions > 2:
                    terminal.type("correct horse")
                    self.choose(terminal, "udp")
                terminal.type(key, end="")
                self.assertEqual(terminal.wait_for_end(), 0)
                self.assertIn("Goodbye.", terminal.rows())
                self.assertNotIn("Traceback", terminal.text())

    def test_logged_out(self) -> None:
        """When the account changes elsewhere, the console ends and says so."""
        add_accounts(Settings(data=self.data), carol="correct horse")
        terminal = self.start()
        self.log_in(terminal, "carol", "correct horse")
        self.choose(terminal, "tcp")
        place = ("--data", str(self.data), "--password-stdin")
        ended = run(
            "account", "passwd", "carol", *place, given="correct horse\nnew one\n"
        )
        self.assertEqual(ended.returncode, 0)
        terminal.wait_for("securerecv: the server hung up: ")
        self.assertEqual(terminal.wait_for_end(), 1)

    def test_no_anonymous(self) -> None:
        """Where anonymous sessions are off, the console asks for the name at once."""
        terminal = self.start("--no-anonymous", "--proto", "tcp")
        terminal.wait_for("switched off")
        terminal.wait_for_prompt("user name?")

    def test_cannot_start(self) -> None:
        """Without a terminal, or with a port that is taken, one line says why."""
        ended = run("console", "--data", str(self.data))
        self.assertEqual(ended.returncode, 2)
        self.assertIn("the console needs a terminal", ended.stderr)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            terminal = self.start("--proto", "tcp", "--port", str(port))
            terminal.wait_for_prompt(WHO)
            terminal.type("a")
            terminal.wait_for(f"securerecv: port {port} cannot be had")
            self.assertEqual(terminal.wait_for_end(), 1)

"""The commands `put`, `files` and `get`, run as a user runs them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase, TestCase

from securerecv.cli.showfile import size_in_words
from securerecv.wire.filelines import FileRecord, FileState
from tests.command import PROGRAM, TIMEOUT_S, Ended, show_at_terminal
from tests.filehouse import FileHouse, Line
from tests.program import ROOT
from tests.support import new_folder, pause
from tests.test_client_files import LARGE, SMALL

BAD_NAME = "\x1b[2Jx\u202e.txt"


class FileCommandTests(TestCase):
    """Commands against a house in this process, each a process of its own."""

    timeout = 60

    def setUp(self) -> None:
        """Open a house with bob's files in it, and make a folder to work in."""
        self.server = FileHouse(self)
        self.files = self.server.house.files
        self.line = Line(self, self.server.port)
        self.folder = new_folder(self)
        self.folder.mkdir()
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("SECURERECV_")
        } | {
            "PYTHONPATH": str(ROOT),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "SECURERECV_PASSWORD": "word",
        }

    def words(self, verb: str, *words: str, user: str = "bob") -> list[str]:
        """Give a command line, through the line that may break."""
        server = f"127.0.0.1:{self.line.port}"
        head = [*PROGRAM, verb, server, "--pin", self.server.pin]
        return [*head, *(["--user", user] if user else []), *words]

    def run_now(self, verb: str, *words: str, user: str = "bob") -> Deferred[Ended]:
        """Run a command, in a thread: the server is in this process."""

        def work() -> Ended:
            ended = subprocess.run(
                self.words(verb, *words, user=user),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=self.environment,
                cwd=self.folder,
                timeout=TIMEOUT_S,
                check=False,
            )
            return Ended(ended.returncode, ended.stdout, ended.stderr.decode())

        return deferToThread(work)

    def on_terminal(self, verb: str, *words: str) -> Deferred[tuple[int, str]]:
        """Run a command on a terminal; what it printed is returned too."""
        return deferToThread(
            show_at_terminal, self.words(verb, *words), self.environment, self.folder
        )

    def write(self, name: str, content: bytes) -> Path:
        """Make a file."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    # -- put ----------------------------------------------------------------------

    async def test_put(self) -> None:
        """A file is sent, by a user or nobody, and what became of it is shown."""
        self.write("größe.txt", SMALL)
        ended = await self.run_now("put", "--to", "alice", "größe.txt")
        self.assertEqual((ended.code, ended.err), (0, ""))
        [(number, kept)] = self.files.kept.items()
        self.assertEqual(ended.out, f"sent {number}: clean\n".encode())
        self.assertEqual((kept.record.name, bytes(kept.content)), ("größe.txt", SMALL))
        words = ("--to", "alice", "--name", "other", "größe.txt")
        ended = await self.run_now("put", *words, user="")
        self.assertEqual(ended.code, 0, ended.err)
        names = [kept.record.name for kept in self.files.kept.values()]
        self.assertEqual(names, ["größe.txt", "other"])

    async def test_infected(self) -> None:
        """A file that was found infected is a no."""
        self.files.verdict = FileState.INFECTED
        self.write("x", SMALL)
        ended = await self.run_now("put", "--to", "alice", "x")
        self.assertEqual(ended.code, 1)
        self.assertRegex(ended.out, rb"\Asent [0-9a-f]{16}: infected\n\Z")
        self.assertEqual(
            ended.err, "securerecv: x was found infected: nobody can fetch it\n"
        )

    async def test_held(self) -> None:
        """A file that could not be scanned is sent, and said to be held."""
        self.files.verdict = FileState.HELD
        self.write("x", SMALL)
        ended = await self.run_now("put", "--to", "alice", "x")
        self.assertEqual(ended.code, 0)
        self.assertIn("is held until it was", ended.err)

    async def test_waits_for_the_verdict(self) -> None:
        """A file that is still being scanned is asked about until it was."""
        self.files.verdict = FileState.SCANNING
        self.write("x", SMALL)
        ended = self.run_now("put", "--to", "alice", "x")
        while len(self.files.uploads) < 2:
            await pause(0.01)
        self.files.verdict = FileState.CLEAN
        result = await ended
        self.assertEqual(result.code, 0)
        self.assertTrue(result.out.endswith(b": clean\n"))
        self.assertEqual(sum(map(sum, (u.writes for u in self.files.uploads))), 6)

    async def test_goes_on(self) -> None:
        """A file whose connection is lost again and again arrives all the same."""
        self.write("x", LARGE)
        self.line.plan.extend([(300_000, None)] * 3)
        result = await self.run_now("put", "--to", "alice", "x")
        self.assertEqual(result.code, 0, result.err)
        self.assertEqual(result.err.count("; trying again in 1 s\n"), 3, result.err)
        [kept] = self.files.kept.values()
        self.assertEqual(kept.content, LARGE)

    async def test_no_server(self) -> None:
        """Where nobody was ever reached nothing is tried again."""
        self.line.server = 1
        self.write("x", SMALL)
        ended = await self.run_now("put", "--to", "alice", "x")
        self.assertEqual((ended.code, self.line.calls), (1, 1))
        self.assertIn("cannot reach", ended.err)

    async def test_what_cannot_be_sent(self) -> None:
        """What is no file, or refused, is said in one line."""
        self.write("x", SMALL)
        os.mkfifo(self.folder / "pipe")
        (self.folder / os.fsdecode(b"not UTF-8 \xff")).touch()
        for words, code, said in [
            (("--to", "alice", "none"), 1, "none: No such file"),
            (("--to", "alice", "."), 1, "no regular file"),
            (("--to", "alice", "pipe"), 1, "no regular file"),
            (("--to", "nobody", "x"), 1, "no such user (no-mailbox)"),
            (("--to", "a b", "x"), 2, "has no blanks"),
            (("x",), 2, "Missing option '--to'"),
            (("--to", "alice"), 2, "Missing argument 'FILE'"),
            (("--to", "alice", "--name", "a\nb", "x"), 1, "without control"),
            (("--to", "alice", "--name", "a/", "x"), 1, "no file name"),
            (("--to", "alice", os.fsdecode(b"not UTF-8 \xff")), 1, "without control"),
        ]:
            ended = await self.run_now("put", *words)
            self.assertEqual(ended.code, code, ended.err)
            self.assertIn(said, ended.err)
            self.assertNotIn("Traceback", ended.err)

    # -- files --------------------------------------------------------------------

    async def test_files(self) -> None:
        """Files are listed; nothing in a name can steer the terminal."""
        ended = await self.run_now("files")
        self.assertEqual((ended.code, ended.out, ended.err), (0, b"", "no files\n"))
        first = self.files.add("bob", bytes(1_234_567), BAD_NAME)
        second = self.files.add("bob", SMALL, "x")
        self.files.find(second, FileState.INFECTED)
        ended = await self.run_now("files")
        self.assertEqual(ended.code, 0, ended.err)
        lines = ended.out.decode().splitlines()
        self.assertTrue(lines[0].endswith(f"  {first}"))
        self.assertEqual(lines[1], "    file, clean, 1.2 MB: ^[[2Jx\\u202e.txt")
        self.assertEqual(lines[3], "    file, infected, 6 bytes: x")
        self.assertEqual(lines[4], "    infected because of: Some-Signature")
        ended = await self.run_now("files", "--json")
        found = [json.loads(line) for line in ended.out.splitlines()]
        self.assertEqual(found[0]["name"], BAD_NAME)
        self.assertEqual(found[1]["why"], "Some-Signature")
        self.assertEqual(found[1]["bytes"], 6)

    async def test_watch(self) -> None:
        """Who watches is shown files as they come in."""
        process: Any = await deferToThread(
            subprocess.Popen,
            self.words("watch", "--json"),
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        out = process.stdout
        self.addCleanup(out.close)
        while not self.server.house.announcer.is_heard:
            await pause(0.01)
        record = FileRecord("01", FileState.HELD, 0, "0" * 64, "anon", 0, "x", "why")
        self.server.house.announcer.announce("bob", record)
        first = json.loads(await deferToThread(out.readline))
        second = json.loads(await deferToThread(out.readline))
        self.assertEqual((first["id"], first["state"]), ("01", "held"))
        self.assertEqual(second, first | {"why": "why"})

    # -- get ----------------------------------------------------------------------

    async def test_get(self) -> None:
        """A file is fetched under its name, another, or to standard output."""
        file_id = self.files.add("bob", LARGE, "../größe")
        ended = await self.run_now("get", file_id)
        self.assertEqual(ended.code, 0, ended.err)
        said = f"wrote größe ({len(LARGE)} bytes, SHA-256 is right)\n"
        self.assertEqual(ended.out.decode(), said)
        self.assertEqual((self.folder / "größe").read_bytes(), LARGE)
        ended = await self.run_now("get", file_id, "-o", "other")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual((self.folder / "other").read_bytes(), LARGE)
        ended = await self.run_now("get", file_id, "-o", "-")
        self.assertEqual((ended.code, ended.out, ended.err), (0, LARGE, ""))
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    async def test_never_over_another(self) -> None:
        """A file that is there stays, unless --force says otherwise."""
        file_id = self.files.add("bob", SMALL, "x")
        path = self.write("x", b"mine")
        for words in ((), ("-o", "x")):
            ended = await self.run_now("get", file_id, *words)
            self.assertEqual((ended.code, ended.out), (1, b""))
            self.assertEqual(
                ended.err, "securerecv: x exists already; --force takes its place\n"
            )
            self.assertEqual(path.read_bytes(), b"mine")
        ended = await self.run_now("get", file_id, "--force")
        self.assertEqual(ended.code, 0, ended.err)
        self.assertEqual(path.read_bytes(), SMALL)

    async def test_never_over_a_device(self) -> None:
        """What is no file is never replaced, with --force neither."""
        file_id = self.files.add("bob", SMALL, "x")
        os.mkfifo(self.folder / "x")
        (self.folder / "link").symlink_to("/dev/null")
        for words in ((), ("-o", "x"), ("-o", "link")):
            for force in ((), ("--force",)):
                ended = await self.run_now("get", file_id, *words, *force)
                self.assertEqual(ended.code, 1)
                self.assertIn(": this is no regular file\n", ended.err)
        self.assertTrue((self.folder / "x").is_fifo())
        self.assertTrue((self.folder / "link").is_symlink())
        self.assertEqual(len(list(self.folder.iterdir())), 2)

    async def test_get_goes_on(self) -> None:
        """Also to standard output, each byte comes once, however often it breaks."""
        file_id = self.files.add("bob", LARGE, "x")
        for words in ((), ("-o", "-")):
            self.line.plan.extend([(None, 200_000), (None, 600_000)])
            result = await self.run_now("get", file_id, *words)
            self.assertEqual(result.code, 0, result.err)
            self.assertEqual(result.err.count("; trying again in 1 s\n"), 2)
            content = result.out if words else (self.folder / "x").read_bytes()
            self.assertEqual(content, LARGE)

    async def test_what_cannot_be_had(self) -> None:
        """What cannot be had is said in one line, and leaves nothing behind."""
        file_id = self.files.add("bob", SMALL, "x")
        self.files.find(file_id, FileState.INFECTED)
        for words, code, said in [
            ((file_id,), 1, "it is gone (infected)"),
            (("00ff",), 1, "no such file (no-such-id)"),
            (("a b",), 2, "has no blanks"),
            ((), 2, "Missing argument 'ID'"),
            (("00ff", "-o", "none/x"), 1, "No such file"),
            ((file_id, "-o", "none/"), 1, "none/: there is no such folder"),
        ]:
            ended = await self.run_now("get", *words)
            self.assertEqual(ended.code, code, ended.err)
            self.assertIn(said, ended.err)
            self.assertNotIn("Traceback", ended.err)
        for verb in ("get", "files"):
            ended = await self.run_now(verb, *(["1"] * (verb == "get")), user="")
            self.assertEqual(ended.code, 2)
            self.assertIn("give --user NAME", ended.err)
        self.assertEqual(list(self.folder.iterdir()), [])

    # -- at a terminal --------------------------------------------------------------

    async def test_bars(self) -> None:
        """At a terminal a bar shows how far it is, and is gone in the end."""
        content = bytes(30_000_000)
        self.write("x", content)
        code, shown = await self.on_terminal("put", "--to", "bob", "x")
        self.assertEqual(code, 0, shown)
        self.assertIn("checking x", shown)
        self.assertIn("sending x", shown)
        [file_id] = self.files.kept
        self.assertIn(f"sent {file_id}: clean", shown)
        code, shown = await self.on_terminal("get", file_id, "-o", "y")
        self.assertEqual(code, 0, shown)
        self.assertIn(f"receiving {file_id}", shown)
        self.assertEqual((self.folder / "y").read_bytes(), content)
        # The cursor is shown again.
        self.assertLess(shown.rfind("\x1b[?25l"), shown.rfind("\x1b[?25h"))

    async def test_not_onto_a_terminal(self) -> None:
        """A file is not written onto a terminal, which would obey it."""
        file_id = self.files.add("bob", SMALL, "x")
        code, shown = await self.on_terminal("get", file_id, "-o", "-")
        self.assertEqual(code, 2)
        self.assertIn("not for a terminal", shown)


class SizeTests(SynchronousTestCase):
    """Sizes as people write them."""

    def test_sizes(self) -> None:
        """Bytes are exact, and larger units have one digit behind the point."""
        for size, words in [
            (0, "0 bytes"),
            (999, "999 bytes"),
            (1000, "1.0 KB"),
            (1_234_567, "1.2 MB"),
            (5 * 10**18, "5000000.0 TB"),
        ]:
            self.assertEqual(size_in_words(size), words)

"""The whole program, as an operator starts it and a person talks to it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from subprocess import STDOUT
from typing import IO

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from securerecv.process import LOOK_AT_TERMINAL_EVERY_S, watch_terminal
from tests.program import (
    PATIENCE_S,
    ROOT,
    SClient,
    ServerProcess,
    environment,
    run,
    server,
)
from tests.terminal import Terminal


@functools.cache
def _folder_with_alice() -> tuple[Path, str]:
    """Make a data folder with the program itself; the recovery code goes with it."""
    folder = Path(tempfile.mkdtemp(dir=Path.cwd())) / "data"
    words = ("account", "add", "alice", "--password-stdin", "--data", str(folder))
    added = run(*words, given="wonder land\n")
    if added.returncode:
        raise AssertionError(added.stderr)
    return folder, added.stdout.removeprefix("Recovery code: ").strip()


def end(pid: int) -> None:
    """End a process that should have ended by itself."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


class ProgramTests(SynchronousTestCase):
    """Tests with a data folder that has alice in it."""

    def setUp(self) -> None:
        """Take a copy of the folder."""
        original, self.code = _folder_with_alice()
        self.data = Path(self.mktemp()).absolute()
        shutil.copytree(original, self.data)

    def account(self, *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """Run ``securerecv account``."""
        flag = [] if words[0] == "remove" else ["--password-stdin"]
        return run("account", *words, *flag, "--data", str(self.data), given=given)

    def start(self, *words: str, stderr: int | IO[str] = STDOUT) -> ServerProcess:
        """Start a server that does not outlive the test, however that ends."""
        process = ServerProcess(self.data, *words, stderr=stderr)
        self.addCleanup(process.end, signal.SIGKILL)
        return process

    def client(self, port: int) -> SClient:
        """Open a terminal with ``openssl s_client`` in it."""
        client = SClient(port)
        self.addCleanup(client.close)
        return client

    def box(self, port: int, password: str = "wonder land") -> list[str]:
        """Read alice's messages."""
        client = self.client(port)
        client.type(f"LOGIN alice {password}\n")
        *_, last = [client.read() for _ in range(5)]
        self.assertEqual(last, "+OK you are alice")
        client.type("LAST\nQUIT\n")
        return client.read_all()


class TerminalTests(SynchronousTestCase):
    """A server that was started at a terminal."""

    def test_closed(self) -> None:
        """
        ``make run`` as all that a terminal is for ends when it is closed.

        The signal goes to make alone, which waits for the server.
        """
        folder = Path(self.mktemp()).absolute()
        (folder / ".venv").mkdir(parents=True)
        (folder / ".venv" / "bin").symlink_to(Path(sys.executable).parent)
        for name in ("setup.cfg", "pyproject.toml", ".venv/made", ".venv/installed"):
            (folder / name).touch()
        words = "ARGS=--port 0 --interface 127.0.0.1"
        terminal = Terminal(
            "make", "-f", str(ROOT / "Makefile"), "run", words, folder=folder
        )
        terminal.wait_for("Type next")
        leader = terminal.process.pid
        path = Path(f"/proc/{leader}/task/{leader}/children")
        (server_pid,) = map(int, path.read_text().split())
        self.addCleanup(end, server_pid)
        terminal.process.ptyproc.fileobj.close()
        deadline = time.monotonic() + PATIENCE_S
        while terminal.process.isalive() and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertFalse(Path(f"/proc/{server_pid}").exists())

    def test_foreground(self) -> None:
        """Only who was in the foreground at last minds that the terminal is gone."""
        mine, other = os.getpgrp(), os.getpgrp() + 1
        for seen, times in (
            ([mine, mine], 1),
            ([other, mine], 1),
            ([mine, other], 0),
            ([], 0),
        ):
            self.assertEqual(self.goings(seen), times, seen)
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        self.assertEqual(self.goings([mine, mine]), 0)

    def goings(self, seen: list[int]) -> int:
        """Watch a terminal that has those in the foreground, and is gone then."""
        groups = iter(seen)
        gone: list[None] = []

        def in_foreground(_: int) -> int:
            for group in groups:
                return group
            raise OSError

        self.patch(os, "tcgetpgrp", in_foreground)
        clock = Clock()
        looking = watch_terminal(clock, lambda: gone.append(None))
        clock.pump([LOOK_AT_TERMINAL_EVERY_S] * 3)
        self.assertFalse(looking.running)
        return len(gone)


class PersonTests(ProgramTests):
    """What a person sees."""

    def test_stock_client(self) -> None:
        """With s_client alone, messages are sent, watched and read."""
        with server(self.data) as process:
            sender = self.client(process.port)
            greeting = [sender.read() for _ in range(4)]
            self.assertEqual(greeting[0], "* securerecv/1 ready")
            self.assertRegex(sender.ask("ANON"), r"^\+OK anon-\w{16}$")
            self.assertRegex(sender.ask("SAY alice hello"), r"^\+OK \w+$")
            self.assertEqual(
                sender.ask("say alice"), "-ERR usage SAY <to> <text to end of line>"
            )
            self.assertEqual(
                sender.ask("SEND alice lots"), "-ERR usage SEND <to> <bytes>"
            )
            self.assertEqual(sender.ask("FOO"), "-ERR usage HELP lists every command")
            alice = self.client(process.port)
            alice.type("LOGIN alice wonder land\nLAST\nWATCH\n")
            lines = [alice.read() for _ in range(9)]
            self.assertEqual(lines[4], "+OK you are alice")
            self.assertRegex(lines[5], r"^\* MSG \w+ anon \S+Z 5$")
            self.assertEqual(lines[6:], ["hello", "+OK 1 messages", "+OK"])
            sender.type("SEND alice 5\nthere\n")
            self.assertRegex(sender.read(), r"^\+OK \w+$")
            self.assertRegex(alice.read(), r"^! MSG \w+ anon \S+Z 5$")
            self.assertEqual(alice.read(), "there")
            alice.type("QUIT\n")
            self.assertEqual(alice.read_all(), ["+OK goodbye"])

    def test_accounts(self) -> None:
        """Password and recovery code open the same box, each in its time."""
        with server(self.data) as process:
            sender = self.client(process.port)
            sender.type("ANON\nSAY alice secret\nQUIT\n")
            sender.read_all()
            done = self.account("passwd", "alice", given="wonder land\nrabbit\n")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertEqual(self.box(process.port, "rabbit")[1], "secret")
            done = self.account("passwd", "alice", given="wonder land\nhare\n")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(
                done.stderr, "securerecv: that is not the password (auth)\n"
            )
            done = self.account("recover", "alice", given=f"{self.code}\nhole\n")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.box(process.port, "hole")[1], "secret")
            done = self.account("recover", "alice", given=f"{self.code}\nx\n")
            self.assertEqual(done.returncode, 1)
            done = self.account("add", "Alice", given="again\n")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(done.stderr.count("\n"), 1)
            done = self.account("remove", "alice")
            self.assertEqual(done.returncode, 0, done.stderr)
            done = self.account("remove", "alice")
            self.assertEqual(done.returncode, 1)
            self.assertEqual(self.account("add", "bob", given="").returncode, 2)

    def test_screen(self) -> None:
        """The start shows where to connect, by what to know it, what to type."""
        with server(self.data) as process:
            pin = process.wait_for(r"^ pin +(sha256//\S{44})$")[1]
            process.wait_for(r"^ sealing key +x25519 [0-9a-f]{64}$")
            process.wait_for("legal use only")
            rows = [process.wait_for(rf"^ {n} +")[0] for n in ("tcp", "data", "pin")]
            self.assertEqual(len({len(row) for row in rows}), 1)
            process.wait_for(r"^ tcp +127")
            command = process.wait_for("^   (openssl s_client .*)$")[1]
            done = subprocess.run(
                command.split(),
                input=b"KEY\nQUIT\n",
                capture_output=True,
                timeout=30,
                check=True,
            )
            self.assertIn(b"+OK x25519 ", done.stdout)
            text = ssl.get_server_certificate(("127.0.0.1", process.port))
            # The commands with which curl's manual makes a pin.
            made = text.encode()
            for words in (
                "x509 -noout -pubkey",
                "pkey -pubin -outform DER",
                "dgst -sha256 -binary",
                "base64",
            ):
                made = subprocess.run(
                    ["openssl", *words.split()],
                    input=made,
                    capture_output=True,
                    check=True,
                ).stdout
            self.assertEqual(pin, "sha256//" + made.decode().strip())

    def test_only_the_one_cipher(self) -> None:
        """Nothing but TLS 1.3 with AES-256-GCM is spoken."""
        with server(self.data) as process:
            for words, expected in (
                (["-tls1_3"], "TLS_AES_256_GCM_SHA384"),
                (["-tls1_2"], ""),
                (["-ciphersuites", "TLS_AES_128_GCM_SHA256"], ""),
                (["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"], ""),
            ):
                done = subprocess.run(
                    [
                        *("openssl", "s_client", "-brief"),
                        *("-connect", f"127.0.0.1:{process.port}", *words),
                    ],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=30,
                    check=False,
                )
                said = done.stdout + done.stderr
                self.assertEqual("Ciphersuite" in said, bool(expected), said)
                self.assertIn(expected, said)

    def test_post_quantum(self) -> None:
        """Where the client knows it, the hybrid group is what is used."""
        script = (
            "import socket, sys\n"
            "from OpenSSL import SSL\n"
            "from securerecv.net.tls import ClientTls\n"
            "raw = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
            "c = SSL.Connection(ClientTls()._context, raw)\n"
            "c.set_connect_state(); c.do_handshake()\n"
            "print(c.get_group_name(), c.get_cipher_name())\n"
        )
        with server(self.data) as process:
            done = subprocess.run(
                [sys.executable, "-c", script, str(process.port)],
                capture_output=True,
                text=True,
                env=environment(),
                timeout=30,
                check=True,
            )
        self.assertEqual(
            done.stdout.split(), ["X25519MLKEM768", "TLS_AES_256_GCM_SHA384"]
        )


class DurabilityTests(ProgramTests):
    """What a power cut may take: nothing that was acknowledged."""

    def test_kill(self) -> None:
        """After kill -9 amid a stream, acknowledged messages are there."""
        for moment in (200, 1700):
            process = self.start()
            acknowledged = self._stream(process, moment)
            with server(self.data) as again:
                box = self.box(again.port)[1:-2:2]
            self.assertEqual(len(box), 5)
            newest = int(box[-1])
            # Everything acknowledged is there, or five newer ones are; and
            # they are the last ones, without a gap.
            self.assertGreaterEqual(newest, acknowledged - 1)
            self.assertEqual(
                [int(body) for body in box], [*range(newest - 4, newest + 1)]
            )

    def _stream(self, process: ServerProcess, moment: int) -> int:
        """Send numbered messages, kill the server amid them, count the answers."""
        client = self.client(process.port)
        stop = threading.Event()

        def send() -> None:
            number = 0
            try:
                client.type("ANON\n")
                while not stop.is_set():
                    lines = [f"SAY alice {number + i}\n" for i in range(20)]
                    client.type("".join(lines))
                    number += 20
            except OSError:
                stop.set()

        sender = threading.Thread(target=send)
        sender.start()
        answered = -1  # the answer to ANON is none
        try:
            for line in iter(client.read, ""):
                answered += line.startswith("+OK ")
                if answered == moment:
                    process.end(signal.SIGKILL)
        finally:
            stop.set()
            process.end(signal.SIGKILL)
            client.close()
            sender.join()
        self.assertGreaterEqual(answered, moment)
        return answered


class OperatorTests(ProgramTests):
    """What an operator sees when something is wrong."""

    def refuses(self, *words: str, code: int = 1, data: Path | None = None) -> str:
        """Start a server that will not start; its one line is returned."""
        command = ("serve", "--data", str(data or self.data), "--port", "0", *words)
        done = run(*command)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        self.assertNotIn("Traceback", done.stdout + done.stderr)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        self.assertTrue(done.stderr.startswith("securerecv: "), done.stderr)
        return done.stderr.removeprefix("securerecv: ")

    def test_wrong_usage(self) -> None:
        """Wrong options end with exit code 2 and one line that names them."""
        self.assertIn("--keep", self.refuses("--keep", "none", code=2))
        self.assertIn("--proto", self.refuses("--proto", "sctp", code=2))
        self.assertIn("--cert", self.refuses("--cert", "a.pem", code=2))

    def test_lax_modes(self) -> None:
        """Keys that others can read are refused, and the command mends it."""
        key = self.data / "keys" / "server-secret"
        key.chmod(0o640)
        line = self.refuses()
        self.assertIn(f"chmod 0600 {key}", line)
        command = line.strip().rpartition("type: ")[2]
        subprocess.run(command.split(), check=True)
        self.data.chmod(0o755)
        self.assertIn(f"chmod 0700 {self.data}", self.refuses())
        self.data.chmod(0o700)
        with server(self.data) as process:
            self.assertGreater(process.port, 0)

    def test_lost_secret(self) -> None:
        """A secret that was lost is not replaced: that would shut everybody out."""
        (self.data / "keys" / "server-secret").unlink()
        self.assertIn("restore it from a backup", self.refuses())

    def test_other_keys(self) -> None:
        """A store that belongs to other keys is refused."""
        (self.data / "keys" / "server-secret").write_text("ab" * 32 + "\n")
        self.assertIn("other keys", self.refuses())

    def test_two_servers(self) -> None:
        """Two servers do not work on one data folder, nor on one port."""
        with server(self.data) as process:
            self.assertIn("a server is running with", self.refuses())
            elsewhere = self.data.with_name("elsewhere")
            words = ("--interface", "127.0.0.1", "--port", str(process.port))
            self.assertIn(
                f"port {process.port} cannot be had",
                self.refuses(*words, data=elsewhere),
            )

    def test_interface(self) -> None:
        """An address that this machine does not have is what is blamed."""
        for address in ("nonsense.invalid", "192.0.2.1"):
            line = self.refuses("--interface", address)
            self.assertTrue(line.startswith(f"--interface {address}: "), line)
            self.assertNotIn("Errno", line)

    def test_two_servers_on_one_store(self) -> None:
        """Two servers do not work on one SQLite file either."""
        store = self.data.with_name("elsewhere.sqlite3")
        words = ("--store", f"sqlite:///{store}")
        other = self.data.with_name("copy")
        shutil.copytree(self.data, other)
        with server(self.data, *words):
            self.assertIn("a server is running", self.refuses(*words, data=other))

    def test_certificate(self) -> None:
        """An own certificate is used; a key that does not fit it is refused."""
        folder = self.data.with_name("certificates")
        folder.mkdir()
        for name in ("one", "two"):
            subprocess.run(
                [
                    *("openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
                    *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", f"/CN={name}"),
                    *("-keyout", str(folder / f"{name}.key")),
                    *("-out", str(folder / f"{name}.pem")),
                ],
                check=True,
                capture_output=True,
            )
            (folder / f"{name}.key").chmod(0o600)
        words = ("--cert", str(folder / "one.pem"), "--key")
        with server(self.data, *words, str(folder / "one.key")) as process:
            self.assertIn(
                "BEGIN CERTIFICATE",
                ssl.get_server_certificate(("127.0.0.1", process.port)),
            )
        for name in ("none.pem", "junk"):
            (folder / name).write_text("-----BEGIN NOTHING-----\n")
            (folder / name).chmod(0o600)
        subprocess.run(
            [
                *("openssl", "ec", "-in", str(folder / "one.key"), "-aes256"),
                *("-passout", "pass:word", "-out", str(folder / "locked.key")),
            ],
            check=True,
            capture_output=True,
        )
        (folder / "locked.key").chmod(0o600)
        for name, wrong in {
            "two.key": "two.key is not the key of the certificate in ",
            "one.pem": "one.pem has mode ",
            "junk": "junk has no private key in PEM form",
            "locked.key": "no private key in PEM form, or one with a password",
            "nowhere": "nowhere: No such file or directory",
        }.items():
            self.assertIn(wrong, self.refuses(*words, str(folder / name)))
        for name, wrong in {
            "none.pem": "none.pem has no certificate in PEM form",
            "one.key": "one.key has no certificate in PEM form",
            "nowhere": "nowhere: No such file or directory",
        }.items():
            given = ("--cert", str(folder / name), "--key", str(folder / "one.key"))
            self.assertIn(wrong, self.refuses(*given))
        (folder / "one.key").chmod(0o644)
        self.assertIn("chmod 0600", self.refuses(*words, str(folder / "one.key")))

    def test_stop(self) -> None:
        """A server that is told to stop says goodbye and leaves nothing open."""
        process = self.start()
        client = self.client(process.port)
        for _ in range(4):
            client.read()
        client.ask("ANON")
        printed = process.end()
        self.assertEqual(client.read_all(), ["! CLOSING the server is stopping"])
        # Twisted ends by the signal that told it to, as a shell expects.
        self.assertEqual(process.exit_code, -signal.SIGTERM)
        self.assertNotIn("Traceback", printed)
        self.assertEqual((self.data / "store.sqlite3-wal").exists(), False)

    def test_json_log(self) -> None:
        """A log for programs is one JSON object a line, and nothing else."""
        screen = Path(self.mktemp())
        with screen.open("w") as file:
            process = self.start("--log-format", "json", stderr=file)
        client = self.client(process.port)
        client.type("LOGIN alice wrong-password\nQUIT\n")
        client.read_all()
        printed = process.end()
        events = [json.loads(row) for row in printed.splitlines()]
        texts = [event["text"] for event in events]
        self.assertIn("login refused to 127.0.0.1", texts)
        shown = screen.read_text()
        for row in (r"pin +(\S+)", r"sealing key +(x25519 \S+)", r"tcp +(\S+:\d+)"):
            match = re.search(f"^ {row}$", shown, re.MULTILINE)
            if match is None:
                self.fail(shown)
            self.assertIn(match[1], " ".join(texts))
        places = {event["from"] for event in events}
        self.assertIn("service", places)
        self.assertFalse(places & {"-", "log_legacy", "securerecv.service"})
        self.assertTrue(all(event["time"].endswith("Z") for event in events))
        for word in ("alice", "wrong-password"):
            self.assertNotIn(word, "\n".join(texts))

    def test_doctor(self) -> None:
        """The doctor finds nothing to mend, and then what was broken."""
        place = ("doctor", "--data", str(self.data))
        well = run(*place)
        self.assertEqual(well.returncode, 0, well.stdout + well.stderr)
        self.assertNotIn("mend", well.stdout)
        self.assertEqual(well.stderr, "")
        with server(self.data):
            self.assertEqual(run(*place).returncode, 0)
        store = self.data / "store.sqlite3"
        secret = self.data / "keys" / "server-secret"
        for words, what, command in (
            ("type: chmod 0600", "permissions", ["chmod", "644", str(store)]),
            ("restore it from a backup", "permissions, keys", ["rm", str(secret)]),
            (
                "start the server once",
                "data folder",
                ["mv", str(self.data), f"{self.data}.old"],
            ),
        ):
            subprocess.run(command, check=True)
            ill = run(*place)
            self.assertEqual(ill.returncode, 1, ill.stdout + ill.stderr)
            self.assertIn(words, ill.stdout)
            self.assertEqual(ill.stderr, f"securerecv: to be mended: {what}\n")
        self.assertFalse(self.data.exists())

    def test_doctor_finds_damage(self) -> None:
        """The doctor sees a damaged store and an expired certificate."""
        place = ("doctor", "--data", str(self.data))
        store = self.data / "store.sqlite3"
        content = bytearray(store.read_bytes())
        content[4096:8192] = os.urandom(4096)
        store.write_bytes(content)
        ill = run(*place)
        self.assertEqual(ill.returncode, 1)
        self.assertRegex(ill.stdout, "mend store: .*(damaged|malformed)")

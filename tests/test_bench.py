"""The bench: whom it goes on without, and for whom it stops."""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr
from io import StringIO
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from bench import filepeers, machine, peers, proc, servers, unanswered
from bench.absence import Absent
from bench.collectors import Collector
from bench.fileways import Program
from bench.messagepeers import redis
from bench.servers import Server, ServerError
from bench.tls import BenchError
from bench.turns import Case, Entry, measure
from tests.program import PATIENCE_S, ROOT, environment
from tests.support import new_folder

RUN_S = 0.1

ENDS = """\
#!/bin/sh
echo "Bad directive" >&2
exit 1
"""
HANGS = """\
#!/bin/sh
exec /bin/sleep 600
"""
HANGS_UP = f"""\
#!{sys.executable}
import socket, sys
port = int(open(sys.argv[2]).read().split()[1])
listener = socket.create_server(("127.0.0.1", port))
while True:
    listener.accept()[0].close()
"""
"""It is started as mosquitto is."""

READS = """\
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
while sock.recv(65535):
    pass
"""


class ProgramsTestCase(SynchronousTestCase):
    """There is a folder for programs, and nothing else on the PATH."""

    def setUp(self) -> None:
        """Make folders, and look for programs only there."""
        self.folder = new_folder(self)
        self.programs = self.folder / "programs"
        self.programs.mkdir(parents=True)
        self.patch(os, "environ", os.environ | {"PATH": str(self.programs)})
        self.patch(servers, "ADMIN_FOLDERS", "")

    def install(self, name: str, text: str) -> None:
        """Put a program into the folder."""
        program = self.programs / name
        program.write_text(text)
        program.chmod(0o755)


class StartTests(ProgramsTestCase):
    """Other programs, and whether they start."""

    def entered(self) -> tuple[Absent | Server, str]:
        """Start redis; give what came of it, and what was said of that."""
        with ExitStack() as stack, redirect_stderr(StringIO()) as said:
            entry = peers.enter(stack, "redis", redis(self.folder))
        return entry.server, said.getvalue()

    def test_missing(self) -> None:
        """Of what is not installed nothing is said but that."""
        self.assertEqual(self.entered(), (Absent("not installed"), ""))

    def test_ends(self) -> None:
        """What ends at its start did not start; the last that it said is the reason."""
        self.install("redis-server", ENDS)
        words = "bench: redis ended at its start: Bad directive\n"
        self.assertEqual(self.entered(), (Absent("did not start"), words))

    def test_hangs(self) -> None:
        """What does not listen in time did not start either, and it is ended."""
        self.install("redis-server", HANGS)
        self.patch(servers, "START_TIMEOUT_S", 0.3)
        before = proc.children(os.getpid())
        absent, words = self.entered()
        self.assertEqual(absent, Absent("did not start"))
        self.assertIn("bench: redis was not ready after 0.3 s", words)
        self.assertLessEqual(set(proc.children(os.getpid())), set(before))

    def test_unfit(self) -> None:
        """What the system cannot run did not start."""
        self.install("redis-server", "#!/nowhere\n")
        absent, words = self.entered()
        self.assertEqual(absent, Absent("did not start"))
        self.assertIn("No such file", words)


class VersionTests(ProgramsTestCase):
    """What other programs say of their version."""

    def test_versions(self) -> None:
        """The versions of those that are installed and say theirs are found."""
        self.install("redis-server", "#!/bin/sh\necho 'Redis server v=7.0.15 sha=0:0'")
        self.install("ssh", "#!/bin/sh\necho 'OpenSSH_9.2p1, OpenSSL 3.0.19' >&2")
        self.install("nginx", ENDS)
        self.assertEqual(machine.peers(), {"redis": "7.0.15", "openssh": "9.2p1"})

    def test_hangs(self) -> None:
        """One that does not end at once is not waited for."""
        self.install("nginx", HANGS)
        self.patch(machine, "TIMEOUT_S", 0.3)
        self.assertEqual(machine.peers(), {})


class MeasureTests(SynchronousTestCase):
    """Loads that fail."""

    def entry(self, *, is_peer: bool) -> Entry:
        """Give a server that does not listen any more."""
        port = peers.free_port()
        return Entry("it", Server("it", os.getpid(), {"tcp": port}), {}, is_peer)

    def test_peer(self) -> None:
        """Without a peer whose run fails, the others go on."""
        with redirect_stderr(StringIO()) as said:
            result = measure(self.case(), [self.entry(is_peer=True)], 2)
        self.assertEqual(result.runs, {"it": []})
        self.assertEqual(result.absent, {"it": Absent("failed")})
        (line,) = said.getvalue().splitlines()
        self.assertIn("it, 1 x 1: bench.load: [Errno 111]", line)

    def test_ours(self) -> None:
        """A run of ours that fails is an error."""
        with self.assertRaisesRegex(ServerError, "it, 1 x 1: .*Errno 111"):
            measure(self.case(), [self.entry(is_peer=False)], 1)

    def case(self) -> Case:
        """Give a load."""
        options = {"connections": 1, "window": 1, "seconds": RUN_S}
        return Case("1 x 1", "bench.load", options)


class UnansweredTests(SynchronousTestCase):
    """Programs that take datagrams, or do not."""

    def setUp(self) -> None:
        """Make a folder."""
        self.folder = new_folder(self)
        self.folder.mkdir()

    def collector(self, name: str, taken: int | None, *, is_ours: bool) -> Collector:
        """Give a program that takes all, and then says that it took so many."""

        @contextmanager
        def start() -> Iterator[Server]:
            port = peers.free_port(socket.SOCK_DGRAM)
            command = [sys.executable, "-c", READS, str(port)]
            options = {"dialect": "syslog"}
            with peers.listening(
                name, command, self.folder, {"udp": port}, options
            ) as server:
                yield server

        told = None if taken is None else lambda: taken
        return Collector(name, start, taken=told, is_ours=is_ours)

    def test_nothing_taken(self) -> None:
        """The row of a program that took nothing says that, and others have figures."""
        programs = [
            self.collector("ours", None, is_ours=True),
            self.collector("idler", 0, is_ours=False),
        ]
        with (
            patch.object(unanswered, "TRIED", (0.1,)),
            redirect_stderr(StringIO()) as said,
        ):
            outcomes = list(unanswered.run(programs, 1, RUN_S))
        self.assertRegex(
            said.getvalue(), r"\Abench: idler took none of [\d,]+ datagrams\n\Z"
        )
        ours, idler = unanswered.sheet(outcomes).rows
        self.assertGreater(outcomes[0].overload[0]["messages"], 0)
        self.assertEqual(ours[0], "ours")
        self.assertEqual(idler, ("idler", "took nothing", "", "", "", "", ""))

    def test_nothing_taken_by_ours(self) -> None:
        """If ours took nothing, that is an error."""
        programs = [self.collector("ours", 0, is_ours=True)]
        with self.assertRaisesRegex(ServerError, "ours took none of"):
            list(unanswered.run(programs, 1, RUN_S))


class SentByProgramTests(SynchronousTestCase):
    """Files that another program sends."""

    def way(self, command: str) -> Program:
        """Make ready to send ten bytes."""
        self.kept = new_folder(self)
        self.kept.parent.mkdir(exist_ok=True, parents=True)
        self.kept.write_bytes(b"an earlier one")
        command = command.format(kept=self.kept, file="{file}")
        given = argparse.Namespace(command=command, port=0, kept=self.kept)
        way = Program(given, b"0123456789")
        self.addCleanup(way.figures)
        return way

    def test_whole(self) -> None:
        """When the program ends and the file is there, it has been sent."""
        self.way("cp {file} {kept}").send()
        self.assertEqual(self.kept.read_bytes(), b"0123456789")

    def test_not_whole(self) -> None:
        """A program may end well, but if the file is not whole that is an error."""
        way = self.way("cp /dev/null {kept}")
        self.patch(way, "_PATIENCE_S", 0.1)
        with self.assertRaisesRegex(BenchError, "of 10 bytes there are 0"):
            way.send()

    def test_fails(self) -> None:
        """If the program fails, what it said is the reason."""
        way = self.way("cp {file} /nowhere/in")
        with self.assertRaisesRegex(BenchError, "cp: .*No such file"):
            way.send()

    def test_again(self) -> None:
        """What ends with each file is started again, until the bench ends it."""
        port = peers.free_port(socket.SOCK_DGRAM)
        command = ["sh", "-c", filepeers.AGAIN, "sh", sys.executable, "-c", READS]
        folder = new_folder(self)
        folder.mkdir()
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
            peers.listening(
                "reader", [*command, str(port)], folder, {"udp": port}, {}
            ) as server,
        ):
            readers = {self.reader(server)}
            give_up_at = time.monotonic() + PATIENCE_S
            while len(readers) < 3:
                self.assertLess(time.monotonic(), give_up_at)
                # An empty datagram ends it; one that comes too early is lost.
                sender.sendto(b"", ("127.0.0.1", port))
                time.sleep(servers.POLL_S)
                readers.add(self.reader(server))
        self.assertIsNone(proc.udp_socket(port))

    def reader(self, server: Server) -> int:
        """Give the process that reads now."""
        give_up_at = time.monotonic() + PATIENCE_S
        while not (found := proc.children(server.pid)):
            self.assertLess(time.monotonic(), give_up_at)
            time.sleep(servers.POLL_S)
        return found[0]


class WholeTests(ProgramsTestCase):
    """The bench as a whole."""

    def bench(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it, with more variables for its environment."""
        return subprocess.run(
            [sys.executable, "-m", "bench", *words, "--quick", "--boxes", "50"],
            capture_output=True,
            text=True,
            env=environment() | {"COLUMNS": "100"} | variables,
            cwd=ROOT,
            timeout=4 * PATIENCE_S,
            check=False,
        )

    def test_peers(self) -> None:
        """Rows of peers that do not work say so; all others have figures."""
        self.install("redis-server", ENDS)
        self.install("mosquitto", HANGS_UP)
        file = self.folder / "figures.json"
        done = self.bench("messages", "--seconds", str(RUN_S), "--json", str(file))
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("bench: redis ended at its start: Bad directive", done.stderr)
        self.assertRegex(done.stdout, r"redis XADD, fsync always +did not start")
        self.assertRegex(done.stdout, r"mosquitto QoS 1, in memory +failed")
        for case in json.loads(file.read_text())["messages"]:
            counts = {name: len(runs) for name, runs in case["runs"].items()}
            self.assertEqual(list(counts.values()), [1, 1, 1, 1, 0, 0], counts)

    def test_ours(self) -> None:
        """If our own server does not start, that is an error, and its log is shown."""
        done = self.bench("messages", SECURERECV_KEEP="many")
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("msgs/s", done.stdout)
        self.assertIn("bench: securerecv-data ended at its start", done.stderr)
        self.assertIn("many", done.stderr)

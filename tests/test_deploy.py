"""What ``packaging/`` has for systemd and for containers."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.program import PATIENCE_S, ROOT, Program, SClient
from tests.support import new_folder
from tests.test_endpoints import ACTIVATED
from tests.test_packaging import SOURCE_FOLDERS, SOURCES

PACKAGING = ROOT / "packaging"
INSTALLED = "/opt/securerecv/bin"
HERE = str(Path(sys.executable).parent)
MAX_EXPOSURE = 20
"""Of 100, as ``systemd-analyze security`` counts it."""


def unit(name: str) -> str:
    """Give a unit, as if what it starts were installed where it says."""
    return (PACKAGING / name).read_text("utf-8").replace(INSTALLED, HERE)


class SystemdTests(SynchronousTestCase):
    """The units."""

    def setUp(self) -> None:
        """Lay them into a folder."""
        self.folder = new_folder(self)
        self.folder.mkdir()
        for name in ("securerecv.service", "securerecv.socket"):
            (self.folder / name).write_text(unit(name), "utf-8")

    def analyze(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Have systemd look at them."""
        return subprocess.run(
            ["systemd-analyze", *words],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def test_verify(self) -> None:
        """Systemd understands all of them, and finds nothing wrong."""
        done = self.analyze(
            "verify", "--man=no", "./securerecv.service", "./securerecv.socket"
        )
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_hardened(self) -> None:
        """Systemd counts it among the services that are hardened well."""
        done = self.analyze(
            *("security", "--offline=true", f"--threshold={MAX_EXPOSURE}"),
            "./securerecv.service",
        )
        self.assertEqual(done.returncode, 0, done.stdout)

    def test_command(self) -> None:
        """The service's command serves on the sockets that the other unit names."""
        text = unit("securerecv.service").replace("\\\n", " ")
        (command,) = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
        listening = re.findall(
            r"^Listen(\w+)=", unit("securerecv.socket"), re.MULTILINE
        )
        self.assertEqual(listening, ["Stream", "Datagram"])
        tcp = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        )
        udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        udp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        udp.bind(("::", 0))
        program = Program(
            *("bash", "-c", ACTIVATED, "systemd"),
            *map(str, (tcp.fileno(), udp.fileno())),
            *shlex.split(command),
            variables={"SECURERECV_DATA": str(new_folder(self))},
            pass_fds=(tcp.fileno(), udp.fileno()),
        )
        self.addCleanup(program.end)
        for sock, words in ((tcp, ()), (udp, ("-dtls1_2",))):
            port = sock.getsockname()[1]
            sock.close()
            program.wait_for(rf" \[::\]:{port}$")
            person = SClient(port, *words)
            self.addCleanup(person.close)
            self.assertEqual(person.read(), "* securerecv/1 ready")


class DockerTests(SynchronousTestCase):
    """The Dockerfile, as far as it can be looked at without Docker."""

    def setUp(self) -> None:
        """Read it, one instruction a line."""
        text = (PACKAGING / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
        lines = [line for line in text.splitlines() if line and line[0] != "#"]
        self.instructions = [line.partition(" ")[::2] for line in lines]

    def all_of(self, instruction: str) -> list[str]:
        """Give what stands behind an instruction."""
        return [words for name, words in self.instructions if name == instruction]

    def test_context(self) -> None:
        """It is given what the package is made of, and nothing else."""
        lines = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
        let_in = {line[1:] for line in lines if line.startswith("!")}
        self.assertIn("*", lines)
        self.assertEqual(let_in, {*SOURCES, *SOURCE_FOLDERS})

    def test_command(self) -> None:
        """What it starts is there, and takes the options that may follow."""
        (entry,) = self.all_of("ENTRYPOINT")
        program, *words = json.loads(entry)
        self.assertIsNotNone(shutil.which(program, path=HERE))
        done = subprocess.run(
            [f"{HERE}/{program}", *words, "--help"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=True,
            env={"PYTHONPATH": str(ROOT)},
        )
        self.assertIn("--listen", done.stdout)

    def test_rights(self) -> None:
        """It does not run as root, and its data outlives it."""
        self.assertEqual(self.all_of("USER"), ["securerecv"])
        self.assertEqual(self.all_of("VOLUME"), ["/data"])
        self.assertIn("SECURERECV_DATA=/data", self.all_of("ENV")[0])
        self.assertEqual(self.all_of("EXPOSE"), ["7443/tcp 7443/udp"])

"""Each of the examples, run as the program that it is."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
import sys
from base64 import b64encode
from http.client import HTTPConnection
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from securerecv.settings import Settings
from tests.program import PATIENCE_S, ROOT, Program, SClient, environment, server
from tests.support import add_accounts, new_folder

EXAMPLES = ROOT / "examples"
MAX_DEVICE_LINES = 40


def free_port() -> int:
    """Find a TCP port that is free."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def get(port: str, login: str = "") -> tuple[int, str]:
    """Get the page of a web server on this machine, perhaps with a login."""
    connection = HTTPConnection("127.0.0.1", int(port), timeout=PATIENCE_S)
    headers = {"Authorization": f"Basic {b64encode(login.encode()).decode()}"}
    connection.request("GET", "/", headers=headers if login else {})
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status, response.read().decode()


CHAT = """
import sys
from twisted.application.internet import TCPServer
from twisted.application.service import Application
from twisted.cred.portal import Portal
from twisted.cred.strcred import makeChecker
from twisted.words.service import InMemoryWordsRealm, IRCFactory

users = makeChecker("securerecv:")
realm = InMemoryWordsRealm("chat")
realm.createGroupOnRequest = True
application = Application("chat")
factory = IRCFactory(realm, Portal(realm, [users]))
TCPServer(PORT, factory, interface="127.0.0.1").setServiceParent(application)
"""
"""An IRC server.  The one of ``twistd words`` makes no channels."""


class ExampleTestCase(SynchronousTestCase):
    """Runs examples."""

    def setUp(self) -> None:
        """Make a data folder in which alice has an account."""
        self.data = new_folder(self)
        add_accounts(Settings(data=self.data), alice="word")
        self.variables = {
            "SECURERECV_DATA": str(self.data),
            "SECURERECV_PORT": "0",
            "SECURERECV_INTERFACE": "127.0.0.1",
        }

    def start(self, *command: str) -> Program:
        """Start a program; it is ended when the test is."""
        program = Program(*command, variables=self.variables)
        self.addCleanup(program.end)
        return program

    def example(self, name: str, *words: str) -> Program:
        """Start an example."""
        return self.start(sys.executable, str(EXAMPLES / name), *words)

    def person(self, port: int) -> SClient:
        """Connect, and go on anonymously."""
        person = SClient(port)
        self.addCleanup(person.close)
        for _ in range(4):
            person.read()
        self.assertIn("+OK", person.ask("ANON"))
        return person

    def fire(self, lines: str, *words: str) -> None:
        """Have the device fire lines."""
        subprocess.run(
            [sys.executable, "-I", str(EXAMPLES / "device.py"), *words],
            input=lines,
            text=True,
            check=True,
            timeout=PATIENCE_S,
        )


class CounterTests(ExampleTestCase):
    """``examples/counter.py``."""

    def test_counts(self) -> None:
        """The web page shows how many messages were received."""
        program = self.example("counter.py", "0")
        port = int(program.wait_for(r"tcp 127\.0\.0\.1:(\d+)")[1])
        web = program.wait_for(r"http://127\.0\.0\.1:(\d+)/")[1]
        person = self.person(port)
        for number in range(3):
            status, page = get(web)
            self.assertEqual(status, 200)
            self.assertIn(f"{number} messages", page)
            self.assertIn("+OK", person.ask("SAY alice hello"))


class TacTests(ExampleTestCase):
    """``examples/receiver.tac``."""

    def test_tac(self) -> None:
        """Twistd runs it; it tells of each message, and ends well."""
        program = self.start(
            str(Path(sys.executable).with_name("twistd")),
            *("-n", "--pidfile=", "-y", str(EXAMPLES / "receiver.tac")),
        )
        port = int(program.wait_for(r"tcp 127\.0\.0\.1:(\d+)")[1])
        self.assertIn("+OK", self.person(port).ask("SAY alice hello"))
        program.wait_for("a message of 5 bytes came in")
        said = program.end()
        self.assertIn("stopped", said)
        self.assertNotIn("hello", said)


class DeviceTests(ExampleTestCase):
    """``examples/device.py`` and ``examples/sealed_only.py``."""

    def test_short(self) -> None:
        """The device has 40 lines at most, and nothing of ours."""
        text = (EXAMPLES / "device.py").read_text("utf-8")
        self.assertLessEqual(len(text.splitlines()), MAX_DEVICE_LINES)
        self.assertNotRegex(text, r"(?m)^ *(from|import) securerecv")

    def test_server(self) -> None:
        """What it fires is in the box, from nobody or from a token's owner."""
        with server(self.data, "--proto", "both") as running:
            key = running.wait_for("x25519 ([0-9a-f]{64})")[1]
            port = running.wait_for(r"udp +127\.0\.0\.1:(\d+)")[1]
            place = "127.0.0.1", port, key, "alice"
            alice = SClient(running.port)
            self.addCleanup(alice.close)
            for _ in range(4):
                alice.read()
            alice.ask("LOGIN alice word")
            token = alice.ask("TOKEN NEW cellar").split()
            alice.ask("WATCH")
            self.fire("the door is open\n", *place)
            self.assertRegex(alice.read(), r"^! MSG \w+ anon \S+ 16$")
            self.assertEqual(alice.read(), "the door is open")
            self.fire("it rains\nit pours\n", *place, f"{token[1]}:{token[2]}")
            for text in ("it rains", "it pours"):
                self.assertRegex(alice.read(), r"^! MSG \w+ alice \S+ 8$")
                self.assertEqual(alice.read(), text)

    def test_plain_socket(self) -> None:
        """A program with nothing but a socket opens it, and nothing twice."""
        program = self.example("sealed_only.py", "0")
        port = program.wait_for(r"udp 127\.0\.0\.1:(\d+)")[1]
        key = program.wait_for(r"sealing key (\w+)")[1]
        self.fire("one\ntwo\n", "127.0.0.1", port, key, "whom it may concern")
        for text in ("one", "two"):
            program.wait_for(rf"opened: b'SAY whom it may concern {text}\\n'")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as junk:
            junk.sendto(b"junk", ("127.0.0.1", int(port)))
        program.wait_for("dropped: malformed")


class BridgeTests(ExampleTestCase):
    """``examples/bridge.py``."""

    def test_both_ways(self) -> None:
        """What comes in is said in the channel, and what is said there goes out."""
        settings = Settings(data=self.data)
        add_accounts(settings, lobby="x", bridge="secret", eve="apple")
        irc_port = free_port()
        tac = Path(self.mktemp())
        tac.write_text(CHAT.replace("PORT", str(irc_port)), "utf-8")
        twistd = str(Path(sys.executable).with_name("twistd"))
        chat = self.start(twistd, "-n", "--pidfile=", "-y", str(tac))
        chat.wait_for("IRCFactory starting on")
        with socket.create_connection(("127.0.0.1", irc_port), PATIENCE_S) as eve:
            hears = eve.makefile(encoding="utf-8")
            self.addCleanup(hears.close)
            eve.sendall(b"PASS apple\r\nNICK eve\r\n")
            next(line for line in hears if " 001 " in line)
            eve.sendall(b"JOIN #lobby\r\n")
            next(line for line in hears if " 366 " in line)
            bridge = self.example(
                *("bridge.py", str(irc_port), "bridge", "secret", "#lobby", "lobby")
            )
            port = int(bridge.wait_for(r"receiving on tcp (\d+)")[1])
            person = self.person(port)
            self.assertIn("+OK", person.ask("SAY lobby hello\x07\rQUIT"))
            heard = next(line for line in hears if "PRIVMSG" in line)
            self.assertIn("#lobby :<anon> hello  QUIT", heard)

            eve.sendall(b"PRIVMSG #lobby :nobody: hi\r\n")
            heard = next(line for line in hears if "PRIVMSG" in line)
            self.assertIn("not sent to nobody", heard)
            eve.sendall(b"PRIVMSG #lobby :alice: supper is ready\r\n")
            alice = SClient(port)
            self.addCleanup(alice.close)
            for _ in range(4):
                alice.read()
            alice.ask("LOGIN alice word")
            said = alice.ask("LAST 1")
            while not said.startswith("* MSG"):
                said = alice.ask("LAST 1")
            self.assertEqual(alice.read(), "supper is ready")


class PortalTests(ExampleTestCase):
    """``examples/portal.py``."""

    def test_login(self) -> None:
        """Who has an account gets the page; nobody else does."""
        program = self.example("portal.py", "0")
        web = program.wait_for(r"http://127\.0\.0\.1:(\d+)/")[1]
        self.assertEqual(get(web, "alice:word"), (200, "hello, alice"))
        for login in ("alice:sword", "bob:word", ""):
            self.assertEqual(get(web, login)[0], 401)


class ClientTests(ExampleTestCase):
    """``examples/client.py``."""

    def test_conversation(self) -> None:
        """It sends a message and shows the box."""
        with server(self.data) as running:
            pin = running.wait_for(r"sha256//\S+")[0]
            done = subprocess.run(
                [
                    *(sys.executable, str(EXAMPLES / "client.py")),
                    *(f"127.0.0.1:{running.port}", pin, "alice", "alice", "hello"),
                ],
                input="word\n",
                capture_output=True,
                text=True,
                env=environment(),
                timeout=PATIENCE_S,
                check=True,
            )
        self.assertRegex(done.stdout, r"^sent as [0-9a-f]{16}\nalice b'hello'\n$")


class AllTests(SynchronousTestCase):
    """The examples together."""

    def test_all(self) -> None:
        """There is none that no test runs."""
        text = Path(__file__).read_text("utf-8")
        for example in EXAMPLES.iterdir():
            if example.is_file():
                self.assertRegex(text, rf'"{re.escape(example.name)}"')

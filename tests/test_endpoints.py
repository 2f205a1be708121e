"""Receiving at endpoints: UNIX sockets, behind a proxy, from systemd."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    UNIXClientEndpoint,
    connectProtocol,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase, TestCase
from zope.interface import implementer

from securerecv.assembly.places import Place
from securerecv.banner import next_command
from securerecv.embed import OperatorError, Receiver, Settings
from securerecv.net.gate import Gate
from securerecv.net.tls import ClientTls
from securerecv.service import Receiver as PlainReceiver
from securerecv.wire.sealing import SealedSender
from securerecv.wire.verbs import Standing
from tests.program import PATIENCE_S, SClient, environment
from tests.support import (
    GREETING_LINES,
    QUICK,
    Talker,
    add_accounts,
    dial,
    new_folder,
    pause,
    reactor,
    start_receiver,
    written_log,
)

USER = f"user {os.getuid()}"
"""How the peers of this process are counted over a UNIX socket."""


def settings_for(test: SynchronousTestCase, *listen: str, **others: Any) -> Settings:
    """Make settings that receive at endpoints, over TCP only."""
    data = new_folder(test)
    values: dict[str, Any] = {"proto": "tcp", "port": 0, "interface": "127.0.0.1"}
    return Settings(data=data, listen=listen, **values | others)


def short_path(test: SynchronousTestCase) -> Path:
    """Make a path that a UNIX socket can have: 107 bytes at most."""
    return Path(os.path.relpath(new_folder(test)))


def is_there(path: Path) -> bool:
    """Tell whether there is something at a path."""
    return path.exists()


class Introduction(ProtocolWrapper):
    """Says what a proxy says before it passes the connection on."""

    def __init__(self, words: bytes, wrapped: Protocol) -> None:
        # A wrapper counts itself at a factory; of this one there is one only.
        factory: Any = WrappingFactory(Factory())
        super().__init__(factory, wrapped)
        self._words = words

    def makeConnection(self, transport: Any) -> None:
        """Speak first."""
        transport.write(self._words)
        super().makeConnection(transport)


class EndpointTestCase(TestCase):
    """A receiver at endpoints."""

    async def greeted(self, talker: Talker) -> Talker:
        """Take the greeting."""
        self.addCleanup(lambda: None if talker.is_lost else talker.hang_up())
        for _ in range(GREETING_LINES):
            await talker.line()
        return talker

    async def over_unix(self, path: Path | str) -> Talker:
        """Connect to a UNIX socket."""
        talker = Talker()
        await connectProtocol(UNIXClientEndpoint(reactor, str(path)), _secured(talker))
        return await self.greeted(talker)

    async def over_proxy(self, receiver: PlainReceiver, words: str) -> Talker:
        """Connect as a proxy that knows who its client is."""
        (place,) = (place for place in receiver.places if place.proxied)
        talker = Talker()
        introduced = Introduction(f"{words}\r\n".encode(), _secured(talker))
        endpoint = TCP4ClientEndpoint(reactor, place.host, place.port)
        await connectProtocol(endpoint, introduced)
        return await self.greeted(talker)


def _secured(talker: Talker) -> Any:
    """Put TLS below a talker."""
    factory = TLSMemoryBIOFactory(ClientTls(), True, Factory(), clock=reactor)
    return factory.protocol(factory, talker)


class UnixTests(EndpointTestCase):
    """UNIX sockets."""

    def setUp(self) -> None:
        """Listen at a UNIX socket whose path is short enough."""
        self.path = short_path(self)
        settings = settings_for(self, f"unix:{self.path}:mode=600")
        add_accounts(settings, alice="word")
        self.receiver = start_receiver(self, settings)

    async def test_conversation(self) -> None:
        """The conversation is the same, and who is counted is the local user."""
        talker = await self.over_unix(self.path)
        self.assertTrue((await talker.ask("ANON"))[0].startswith("+OK"))
        self.assertTrue((await talker.ask("SAY alice hi"))[0].startswith("+OK"))
        self.assertEqual(dict(self.receiver.gate._by_address), {USER: 1})

    async def test_place(self) -> None:
        """It has no port, and people are told how to connect."""
        self.assertEqual(self.receiver.ports, {})
        self.assertEqual(self.receiver.places, [Place("unix", str(self.path))])
        command = next_command(self.receiver)
        self.assertEqual(command, f"openssl s_client -unix {self.path} -quiet")
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        await self.receiver.stopService()
        self.assertFalse(self.path.exists())


class ProxyTests(EndpointTestCase):
    """Behind a proxy that speaks the PROXY protocol."""

    def setUp(self) -> None:
        """Listen for a proxy, and beside it for everybody."""
        settings = settings_for(
            self,
            "haproxy:tcp:0:interface=127.0.0.1",
            "tcp:0:interface=127.0.0.1",
        )
        add_accounts(settings, alice="word")
        self.receiver = start_receiver(self, settings)

    def counted(self) -> dict[str, int]:
        """Give how many connections each address has."""
        return dict(self.receiver.gate._by_address)

    async def test_addresses(self) -> None:
        """Who is counted is the proxy's client, not the proxy."""
        ours = "127.0.0.1 1000 7443"
        talker = await self.over_proxy(self.receiver, f"PROXY TCP4 192.0.2.1 {ours}")
        self.assertEqual(self.counted(), {"192.0.2.1": 1})
        await self.over_proxy(self.receiver, "PROXY TCP6 2001:db8::7 ::1 1000 7443")
        self.assertEqual(self.counted(), {"192.0.2.1": 1, "2001:db8::": 1})
        self.assertIn("-ERR auth", (await talker.ask("LOGIN alice x"))[0])
        throttle: Any = self.receiver.office.desk._throttle
        self.assertEqual(list(throttle._of_address._counts), ["192.0.2.1"])
        await talker.hang_up()
        await self.over_proxy(self.receiver, "PROXY UNKNOWN or so")
        self.assertEqual(self.counted(), {"127.0.0.1": 1, "2001:db8::": 1})

    async def test_places(self) -> None:
        """Programs and people are pointed to where no proxy is needed."""
        proxied, plain = self.receiver.places
        self.assertEqual((proxied.proxied, plain.proxied), (True, False))
        self.assertEqual(self.receiver.ports, {"tcp": ("127.0.0.1", plain.port)})
        self.assertIn(f":{plain.port} ", next_command(self.receiver))
        talker = await dial(self, plain.port)
        self.assertIn("ready", await talker.line())

    async def test_limit(self) -> None:
        """The limit for an address holds for each of the proxy's clients."""
        self.receiver.gate._per_address = 1
        first = "PROXY TCP4 192.0.2.1 127.0.0.1 1000 7443"
        alice = await self.over_proxy(self.receiver, first)
        await alice.ask("LOGIN alice word")
        await self.over_proxy(self.receiver, first.replace("2.1 ", "2.2 "))
        with self.assertRaises(ConnectionError):
            await self.over_proxy(self.receiver, first)
        self.assertEqual(await alice.ask("PING"), ["+OK pong"])
        self.assertEqual(self.counted(), {"192.0.2.1": 1, "192.0.2.2": 1})


class Guest:
    """Somebody at the gate; see `securerecv.net.gate.Guest`."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.made_way = False

    def make_way(self) -> None:
        """Note it."""
        self.made_way = True

    def dismiss(self, words: str) -> None:
        """Do nothing."""

    def abort(self) -> None:
        """Do nothing."""


class GateTests(SynchronousTestCase):
    """Who turns out to have another address."""

    def test_move(self) -> None:
        """A silent newcomer of that address makes way; who is in does not."""
        gate = Gate(total=9, per_address=1, handshakes=9)
        silent, proxied, late = Guest("a"), Guest("proxy"), Guest("proxy")
        self.assertTrue(gate.arrive(silent) and gate.arrive(proxied))
        self.assertTrue(gate.move(proxied, "proxy"))
        self.assertTrue(gate.move(proxied, "a"))
        self.assertTrue(silent.made_way)
        gate.shook_hands(proxied)
        gate.came_in(proxied, Standing.USER)
        self.assertTrue(gate.arrive(late))
        self.assertFalse(gate.move(late, "a"))
        self.assertEqual(dict(gate._by_address), {"a": 1, "proxy": 1})
        gate.leave(late)
        gate.leave(proxied)
        self.assertEqual(dict(gate._by_address), {})


class BroughtTests(EndpointTestCase):
    """Endpoints that an application brings."""

    def receiver(self, settings: Settings, *endpoints: Any) -> Receiver:
        """Start a receiver."""
        receiver = Receiver(settings, reactor, endpoints=endpoints)
        receiver._work = QUICK
        receiver.startService()
        self.addCleanup(lambda: receiver.stopService() if receiver.running else None)
        return receiver

    async def test_brought(self) -> None:
        """They are received at beside those of the settings, UDP where it was."""
        settings = settings_for(self, "tcp:0:interface=127.0.0.1", proto="both")
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        receiver = self.receiver(settings, endpoint)
        transports = sorted(place.transport for place in receiver.places)
        self.assertEqual(transports, ["tcp", "tcp", "udp"])
        for place in receiver.places:
            if place.transport == "tcp":
                self.assertIn("ready", await (await dial(self, place.port)).line())

    async def test_again(self) -> None:
        """A receiver that was stopped can be started again."""
        settings = settings_for(self, "tcp:0:interface=127.0.0.1")
        receiver = self.receiver(settings)
        await receiver.stopService()
        receiver.startService()
        (place,) = receiver.places
        self.assertIn("ready", await (await dial(self, place.port)).line())

    async def test_late(self) -> None:
        """One that needs a while is received at when it is ready."""
        slow = SlowEndpoint()
        receiver = self.receiver(settings_for(self), slow)
        self.assertEqual(receiver.ports, {})
        self.assertIn("account add", next_command(receiver))
        slow.begin()
        talker = await dial(self, receiver.ports["tcp"][1])
        self.assertIn("ready", await talker.line())

    async def test_never(self) -> None:
        """One that cannot be had later is logged, and others are not disturbed."""
        slow = SlowEndpoint()
        fast = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        receiver = self.receiver(settings_for(self), fast, slow)
        written = written_log(self)
        slow.ready.errback(OSError("no onions today"))
        self.assertIn("SlowEndpoint: no onions today", written.getvalue())
        self.assertEqual(len(receiver.places), 1)

    async def test_never_again(self) -> None:
        """One that is not ready when the receiver stops is waited for no more."""
        slow = SlowEndpoint()
        receiver = self.receiver(settings_for(self), slow)
        await receiver.stopService()
        self.assertTrue(slow.is_cancelled)


@implementer(IStreamServerEndpoint)
class SlowEndpoint:
    """An endpoint that listens later."""

    def __init__(self) -> None:
        self.is_cancelled = False
        self.ready: Deferred[Any] = Deferred(self._cancel)

    def listen(self, factory: Any) -> Deferred[Any]:
        """Remember what is to be served."""
        self._factory = factory
        return self.ready

    def begin(self) -> None:
        """Listen."""
        self.ready.callback(reactor.listenTCP(0, self._factory, 50, "127.0.0.1"))

    def _cancel(self, _: object) -> None:
        self.is_cancelled = True


class WrongTests(TestCase):
    """Endpoints that cannot be had."""

    def refused(self, *listen: str, **others: Any) -> str:
        """Start, and give the one line that says why it cannot be."""
        receiver = Receiver(settings_for(self, *listen, **others), reactor)
        error = self.assertRaises(OperatorError, receiver.privilegedStartService)
        self.assertNotIn("\n", str(error))
        # It holds nothing back, neither the folder nor a port.
        for held in receiver._locks:
            self.fail(f"{held} is held")
        return str(error)

    def test_unknown(self) -> None:
        """What is no endpoint is refused by name."""
        for words in ("sctp:1", "tcp:x", "unix:/a:mood=1", "systemd:index=0"):
            self.assertIn(f"--listen {words}: ", self.refused(words))

    def test_no_such_socket(self) -> None:
        """So is a socket that systemd has not passed on."""
        for words in ("systemd:domain=INET:index=0", "systemd:domain=INET:name=x"):
            self.assertEqual(
                self.refused(words),
                f"--listen {words}: systemd has passed no such socket",
            )

    async def test_taken(self) -> None:
        """So is a port that is taken, and those before it are given back."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            words = f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
            path = short_path(self)
            self.assertEqual(
                self.refused(f"unix:{path}", words),
                f"--listen {words}: Address already in use",
            )
        await pause(0)
        self.assertFalse(is_there(path))

    def test_protocols(self) -> None:
        """What is for TCP does not go with UDP alone."""
        self.assertEqual(
            self.refused("tcp:0", proto="udp"),
            "--listen tcp:0 is for TCP, and --proto is udp",
        )


ACTIVATED = r"""
a=$1 b=$2; shift 2
exec 3<&"$a" 4<&"$b"
export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=one:two
exec "$@"
"""
"""What systemd does for a service with two sockets, in the words of a shell."""


class SystemdTests(SynchronousTestCase):
    """Sockets that systemd has opened, in a process of its own."""

    def start(self, *words: str, udp: str = "127.0.0.1") -> subprocess.Popen[str]:
        """Start a server with a TCP and a UDP socket, in this order."""
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.bind((udp, 0))
        passed = self.tcp.fileno(), self.udp.fileno()
        process = subprocess.Popen(
            [
                *("bash", "-c", ACTIVATED, "systemd", *map(str, passed)),
                str(Path(sys.executable).with_name("twistd")),
                *("-n", "--pidfile=", "securerecv", "--data", str(new_folder(self))),
                *words,
            ],
            pass_fds=passed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment(),
        )
        self.addCleanup(self.end, process)
        self.tcp_port = self.tcp.getsockname()[1]
        self.udp_port = self.udp.getsockname()[1]
        for sock in (self.tcp, self.udp):
            sock.close()
        return process

    def end(self, process: subprocess.Popen[str]) -> None:
        """End a server."""
        process.terminate()
        process.wait(PATIENCE_S)
        if process.stdout is not None:
            process.stdout.close()

    def test_both(self) -> None:
        """Conversations come in on both, and sealed datagrams."""
        process = self.start(
            *("--listen", "systemd:domain=INET:name=one"),
            *("--listen", "systemd:domain=INET:index=1"),
        )
        said = ""
        for line in process.stdout or ():
            said += line
            if "type next" in line.lower():
                break
        self.assertRegex(said, rf"tcp +127\.0\.0\.1:{self.tcp_port}\b")
        self.assertRegex(said, rf"udp +127\.0\.0\.1:{self.udp_port}\b")
        for port, words in ((self.tcp_port, ()), (self.udp_port, ("-dtls1_2",))):
            person = SClient(port, *words)
            self.addCleanup(person.close)
            self.assertEqual(person.read(), "* securerecv/1 ready")
        found = re.search("x25519 ([0-9a-f]{64})", said)
        assert found is not None
        sender = SealedSender(bytes.fromhex(found[1]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as device:
            device.settimeout(PATIENCE_S)
            device.connect(("127.0.0.1", self.udp_port))
            device.send(sender.seal(b"#1 SAY nobody-there-yet hello\n", time.time()))
            _, answer = sender.open_reply(device.recv(2048))
        self.assertIn(b"no-mailbox", answer)

    def refused(self, *words: str) -> str:
        """Start a server that cannot start, and give its one line."""
        process = self.start(*words)
        said, _ = process.communicate(timeout=PATIENCE_S)
        self.assertEqual(process.returncode, 1, said)
        return said

    def test_twice(self) -> None:
        """There is one UDP socket at most, and none where only TCP is wanted."""
        datagrams = ("--listen", "systemd:domain=INET:index=1")
        self.assertEqual(
            self.refused(*datagrams, *datagrams),
            "securerecv: --listen systemd:domain=INET:index=1:"
            " there is a UDP socket already\n",
        )
        self.assertEqual(
            self.refused("--proto", "tcp", *datagrams),
            "securerecv: --listen names a UDP socket, and --proto is tcp\n",
        )

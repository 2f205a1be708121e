"""What an operator may set, from each place where it may be written."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from attrs import frozen
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import OperatorError
from securerecv.settings import OPTIONS, Settings, load
from securerecv.tap import Options

ROOT = Path(__file__).resolve().parent.parent


@frozen
class Case:
    """
    One option.

    Attributes:
        default: its value when nobody sets it.
        good: written forms and their values, two different ones first; a
            relative path is relative to where the process is.
        bad: written forms that are refused.
    """

    default: Any
    good: Mapping[str, Any]
    bad: tuple[str, ...]


NO_NUMBERS = ("", "zero", "-1", "1.5", "0x10", " 1", "٣", "9" * 5000)
CASES = {
    "proto": Case(
        "both", {"tcp": "tcp", "udp": "udp", "both": "both"}, ("", "TCP", "sctp")
    ),
    "port": Case(
        7443, {"0": 0, "1": 1, "65535": 65535, "007": 7}, ("65536", *NO_NUMBERS)
    ),
    "interface": Case("", {"::1": "::1", "127.0.0.1": "127.0.0.1", "": ""}, ()),
    "listen": Case(
        (),
        {
            "tcp:1": ("tcp:1",),
            "tcp:2 unix:/x ": ("tcp:2", "unix:/x"),
            "haproxy:tcp:3": ("haproxy:tcp:3",),
            "": (),
        },
        ("7443", "tcp:", ":1", "tcp:1 2"),
    ),
    "data": Case(
        Path("var"),
        {
            "/a": Path("/a"),
            "b/c": Path("b/c"),
            "~/d": Path.home() / "d",
        },
        ("", "~nobody-is-called-that/d"),
    ),
    "keep": Case(5, {"1": 1, "7": 7, "1000": 1000}, ("0", "1001", *NO_NUMBERS)),
    "scanner": Case(
        "auto",
        {
            text: text
            for text in ("auto", "spawn", "none", "unix:/run/x", "tcp:h:1", "tcp:::1:2")
        },
        ("", "on", "unix:", "tcp:h", "tcp::1", "tcp:h:0", "tcp:h:65536", "tcp:h:²"),
    ),
    "signatures": Case(
        Path("/var/lib/clamav"),
        {"/a": Path("/a"), "/b": Path("/b"), "c": Path("c")},
        ("",),
    ),
    "max-message": Case(
        1048576,
        {"1": 1, "2": 2, str(64 << 20): 64 << 20},
        ("0", str((64 << 20) + 1), *NO_NUMBERS),
    ),
    "max-file": Case(
        104857600,
        {"1": 1, "2": 2, "2147483645": 2147483645},
        ("0", "2147483646", *NO_NUMBERS),
    ),
    "file-retention": Case(
        7, {"1": 1, "30": 30, "36500": 36500}, ("0", "36501", *NO_NUMBERS)
    ),
    "box-bytes": Case(
        1 << 30,
        {"1": 1, "2": 2, str(1 << 50): 1 << 50},
        ("0", str((1 << 50) + 1), *NO_NUMBERS),
    ),
    "keep-free": Case(
        256 << 20,
        {"0": 0, "2": 2, str(1 << 50): 1 << 50},
        (str((1 << 50) + 1), *NO_NUMBERS),
    ),
    "store": Case(
        "",
        {
            text: text
            for text in ("sqlite:///x", "postgresql://h/d", "postgresql+psycopg://h/d")
        },
        ("", "mysql://h", "x"),
    ),
    "log-format": Case("text", {"json": "json", "text": "text"}, ("", "xml")),
}
KEEP = "SECURERECV_KEEP"
PAIR = {"cert": "/c.pem", "key": "/k.pem"}
SWITCH = "no-anonymous"


def variable(name: str) -> str:
    """Give the environment variable of an option."""
    return "SECURERECV_" + name.upper().replace("-", "_")


def whole(value: Any) -> Any:
    """Complete a relative path."""
    return value.absolute() if isinstance(value, Path) else value


def value_of(settings: Settings, name: str) -> Any:
    """Give the value of an option."""
    return getattr(settings, name.replace("-", "_"))


class SettingsTests(SynchronousTestCase):
    """From written words to settings."""

    def write(self, text: str) -> Path:
        """Write a TOML file."""
        path = Path(self.mktemp()).absolute()
        path.write_text(text, encoding="utf-8")
        return path

    def refused(self, *arguments: Any) -> str:
        """Load what is wrong, and give the one line that says so."""
        error = self.assertRaises(OperatorError, load, *arguments)
        message = str(error)
        self.assertNotIn("\n", message)
        return message

    def test_all_options(self) -> None:
        """These are the options of the server, and the tests know them all."""
        self.assertEqual({option.name for option in OPTIONS}, {*CASES, *PAIR, SWITCH})
        for option in OPTIONS:
            self.assertEqual(option.variable, variable(option.name))
            self.assertEqual(option.is_switch, option.name == SWITCH)

    def test_defaults(self) -> None:
        """When nothing is set, the defaults hold."""
        settings = load({}, None, {})
        self.assertEqual(settings, Settings())
        for name, case in CASES.items():
            self.assertEqual(value_of(settings, name), whole(case.default))
        self.assertTrue(settings.anonymous)
        self.assertIsNone(settings.cert)
        self.assertIsNone(settings.key)

    def test_every_place(self) -> None:
        """Each option is read alike from each place."""
        for name, case in CASES.items():
            for written, value in case.good.items():
                for settings in (
                    load({name: written}, None, {}),
                    load({}, None, {variable(name): written}),
                    load({}, self.write(f'{name} = "{written}"\n'), {}),
                ):
                    self.assertEqual(value_of(settings, name), whole(value), written)

    def test_precedence(self) -> None:
        """The command line wins over the environment, and that over the file."""
        for name, case in CASES.items():
            (one, first), (two, second), *_ = case.good.items()
            file = self.write(f'{name} = "{one}"\n')
            environment = {variable(name): two}
            self.assertNotEqual(first, second)
            self.assertEqual(value_of(load({}, file, {}), name), whole(first))
            self.assertEqual(value_of(load({}, file, environment), name), whole(second))
            both = load({name: one}, file, environment)
            self.assertEqual(value_of(both, name), whole(first))

    def test_wrong_values(self) -> None:
        """A wrong value is refused, with the place where it is and what it is."""
        for name, case in CASES.items():
            for written in case.bad:
                file = self.write(f'{name} = "{written}"\n')
                shown = written.lstrip("0") or written
                for place, arguments in (
                    (f"--{name}", ({name: written}, None, {})),
                    (variable(name), ({}, None, {variable(name): written})),
                    (f"{file}: {name}", ({}, file, {})),
                ):
                    message = self.refused(*arguments)
                    self.assertTrue(message.startswith(f"{place}: "), message)
                    self.assertIn(shown, message)

    def test_switch(self) -> None:
        """A switch is on or off, in the words that people use."""
        for written, is_on in (
            ("1", True),
            ("true", True),
            ("Yes", True),
            ("ON", True),
            ("0", False),
            ("false", False),
            ("no", False),
            ("off", False),
            ("", False),
        ):
            settings = load({}, None, {variable(SWITCH): written})
            self.assertEqual(settings.anonymous, not is_on, written)
        message = self.refused({}, None, {variable(SWITCH): "maybe"})
        self.assertIn(variable(SWITCH), message)
        self.assertIn("'maybe'", message)
        on, off = (self.write(f"{SWITCH} = {word}\n") for word in ("true", "false"))
        self.assertFalse(load({}, on, {}).anonymous)
        self.assertTrue(load({}, off, {}).anonymous)
        self.assertFalse(load({SWITCH: "true"}, off, {}).anonymous)
        self.assertTrue(load({}, on, {variable(SWITCH): "no"}).anonymous)

    def test_certificate_and_key(self) -> None:
        """They come from anywhere, but both or neither."""
        settings = load({"cert": "/c.pem"}, None, {"SECURERECV_KEY": "/k.pem"})
        self.assertEqual(
            (settings.cert, settings.key), (Path("/c.pem"), Path("/k.pem"))
        )
        for name, path in PAIR.items():
            message = self.refused({name: path}, None, {})
            self.assertIn("--cert", message)
            self.assertIn("--key", message)

    def test_largest_box(self) -> None:
        """However they are set, a box holds at most 1 GiB of messages."""
        file = self.write("max-message = 1073742\n")
        self.assertEqual(load({"keep": "999"}, file, {}).keep, 999)
        message = self.refused({"keep": "1000"}, file, {})
        self.assertIn("--keep 1000 and --max-message 1073742: ", message)
        self.assertIn(" 1073742000 bytes, at most 1073741824 ", message)
        message = self.refused({"max-message": str(1 << 26)}, None, {KEEP: "17"})
        self.assertIn("--keep 17 and --max-message 67108864: ", message)
        largest = load({"max-message": str(1 << 26)}, None, {KEEP: "16"})
        self.assertEqual(largest.keep * largest.max_message, 1 << 30)

    def test_lists_in_toml(self) -> None:
        """What may be given several times may be a list."""
        settings = load({}, self.write('listen = ["tcp:1", "tcp:2"]\n'), {})
        self.assertEqual(settings.listen, ("tcp:1", "tcp:2"))
        for text in ("listen = [1]\n", "listen = true\n"):
            self.assertIn("listen: ", self.refused({}, self.write(text), {}))

    def test_numbers_in_toml(self) -> None:
        """Numbers may be written as such."""
        settings = load({}, self.write("port = 0\nkeep = 9\n"), {})
        self.assertEqual((settings.port, settings.keep), (0, 9))
        file = self.write("keep = 0\n")
        self.assertEqual(
            self.refused({}, file, {}), f"{file}: keep: 0 is not from 1 to 1000"
        )

    def test_wrong_toml(self) -> None:
        """A file that is wrong is refused by name, with what is wrong in it."""
        for text, words in (
            ("kep = 5\n", "there is no option 'kep'"),
            ("KEEP = 5\n", "there is no option 'KEEP'"),
            ("no_anonymous = true\n", "there is no option 'no_anonymous'"),
            ("config = 'x'\n", "there is no option 'config'"),
            ("[server]\nport = 1\n", "there is no option 'server'"),
            ("keep = true\n", "keep: a string or a number is wanted"),
            ("keep = [1]\n", "keep: a string or a number is wanted"),
            ("keep = 1.5\n", "keep: a string or a number is wanted"),
            ("no-anonymous = 1\n", "no-anonymous: true or false is wanted"),
            ("no-anonymous = 'yes'\n", "no-anonymous: true or false is wanted"),
            ('data = "a\\u0000b"\n', "data: 'a\\x00b' is not a path"),
            ("keep = \n", "line 1"),
        ):
            file = self.write(text)
            message = self.refused({}, file, {})
            self.assertTrue(message.startswith(f"{file}: "), message)
            self.assertIn(words, message)

    def test_no_toml(self) -> None:
        """A file that cannot be read is refused by name."""
        path = Path(self.mktemp())
        words = f"{path}: No such file or directory"
        self.assertEqual(self.refused({}, path, {}), words)
        path.mkdir()
        self.assertEqual(self.refused({}, path, {}), f"{path}: Is a directory")
        binary = Path(self.mktemp())
        binary.write_bytes(b"\xff\xfe")
        self.assertIn(str(binary), self.refused({}, binary, {}))

    def test_config_from_environment(self) -> None:
        """The file can be named in the environment; the command line wins."""
        one, two = self.write("keep = 1\n"), self.write("keep = 2\n")
        environment = {"SECURERECV_CONFIG": str(one)}
        self.assertEqual(load({}, None, environment).keep, 1)
        self.assertEqual(load({}, two, environment).keep, 2)
        self.assertEqual(load({}, None, {"SECURERECV_CONFIG": ""}).keep, 5)

    def test_unknown_variables(self) -> None:
        """A variable that looks like an option and is none is refused by name."""
        for name in ("SECURERECV_PROT", "SECURERECV_", "SECURERECV_keep"):
            message = self.refused({}, None, {name: "1", "PROT": "x"})
            self.assertEqual(message, f"{name}: there is no such option")
        environment = {"SECURERECV_PASSWORD": "wonder land", "SECURERECVX": ""}
        self.assertEqual(load({}, None, environment), Settings())

    def test_help(self) -> None:
        """The help of each option tells its default as it is."""
        for option in OPTIONS:
            default = CASES[option.name].default if option.name in CASES else None
            if option.name == "data":
                default = "./var"
            if default not in (None, "", ()):
                self.assertIn(f"({default})", option.help)
            self.assertNotIn("{", option.help)


class CommandLineTests(SynchronousTestCase):
    """The options of ``twistd securerecv``."""

    def parse(self, *words: str) -> Settings:
        """Parse a command line, with nothing in the environment."""
        options = Options()
        with mock.patch.dict(os.environ, {"HOME": str(Path.home())}, clear=True):
            options.parseOptions(words)
        return options.settings

    def refused(self, *words: str) -> str:
        """Parse what is wrong, and give the one line that says so."""
        screen = io.StringIO()
        self.patch(sys, "__stderr__", screen)
        ended = self.assertRaises(SystemExit, self.parse, *words)
        self.assertEqual(ended.code, 2)
        self.assertRegex(screen.getvalue(), r"\Asecurerecv: [^\n]+\n\Z")
        return screen.getvalue()

    def test_every_option(self) -> None:
        """Each option can be given, as it is in a file."""
        self.assertEqual(self.parse(), Settings())
        for name, case in CASES.items():
            for written, value in case.good.items():
                if written or name == "interface":
                    settings = self.parse(f"--{name}", written)
                    self.assertEqual(value_of(settings, name), whole(value))
        self.assertFalse(self.parse("--no-anonymous").anonymous)
        settings = self.parse("--cert", "/c", "--key=/k")
        self.assertEqual((settings.cert, settings.key), (Path("/c"), Path("/k")))

    def test_list(self) -> None:
        """An endpoint a time, or several."""
        settings = self.parse("--listen", "tcp:1", "--listen=unix:/x tcp:2")
        self.assertEqual(settings.listen, ("tcp:1", "unix:/x", "tcp:2"))
        self.assertIn("--listen", self.refused("--listen", "7443"))
        self.assertIn("ENDPOINT: receive there instead", Options().getUsage())

    def test_config(self) -> None:
        """A file can be given, and an option beside it wins."""
        path = Path(self.mktemp())
        path.write_text("keep = 9\nport = 0\n", encoding="utf-8")
        settings = self.parse("--config", str(path), "--keep", "1")
        self.assertEqual((settings.keep, settings.port), (1, 0))

    def test_wrong_usage(self) -> None:
        """Wrong usage ends in exit code 2 and one line."""
        for words, expected in (
            (["--keep", "zero"], "--keep: 'zero' is not a whole number"),
            (["--keep"], "keep"),
            (["--frob"], "frob"),
            (["--no-anonymous=1"], "no-anonymous"),
            (["extra"], "arguments"),
            (["--cert", "/c"], "--key"),
            (["--keep=1000", "--max-message=2000000"], "--max-message"),
            (["--config", "/nowhere.toml"], "/nowhere.toml"),
        ):
            self.assertIn(expected, self.refused(*words))

    def test_process(self) -> None:
        """So it does for who types it: no traceback, and no server."""
        command = [sys.executable, "-c", _TWISTD, "-n", "securerecv", "--keep", "zero"]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, "")
        self.assertEqual(
            done.stderr, "securerecv: --keep: 'zero' is not a whole number\n"
        )


_TWISTD = "from twisted.scripts.twistd import run; run()"

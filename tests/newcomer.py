"""A newcomer with a checkout and two terminals, who types what a page says."""

from __future__ import annotations

import os
import re
import shutil
import sysconfig
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.verbs import VERBS
from tests.clamd import make_signatures
from tests.program import PATIENCE_S, ROOT, environment

PROMPT = "a newcomer types: "
PASSWORD = "correct horse battery staple"

_HEX = r"\b(?:[0-9a-f]{64}|[0-9a-f]{32}|[0-9a-f]{16})\b"
_VARYING = {
    r"anon-[a-z0-9]{16}": r"anon-[a-z0-9]{16}",
    _HEX: r"[0-9a-f]{16,64}",
    r"\d{4}-\d\d-\d\dT\S+Z": r"\d{4}-\d\d-\d\dT\S+Z",
    "…": r"[^\r\n]*",
}
"""What is another each time: how it is found in a page, and what it may be."""

_SCRIPTS = {
    "securerecv": "securerecv.cli.main:main",
    "twistd": "twisted.scripts.twistd:run",
}

_DONE, _FOREVER = 0, 1
_QUESTIONS = {
    r"ecovery code[^\r\n]*: $": "the recovery code",
    r"assword[^\r\n]*: $|The same again: $": PASSWORD,
    r"\(yes/no\) $": "yes",
    r"login or anonymous\?": "anonymous",
    r"tcp or udp\?": "tcp",
    r"(?s)help lists the commands.*>": "quit",
}
"""What a command may ask, and what the newcomer then types."""

_REDRAWN = {"anonymous", "tcp", "quit"}
"""Answers to what is drawn more than once, though it is asked once."""

_RUNS_ON = "Watching|Type next|receiving on|look at|starting on"
"""What those say that go on until Ctrl-C."""

_UNTIL_IT_HEEDS_S = 1.0


def blocks_of(text: str) -> Iterator[list[str]]:
    """Give the blocks of things to type, without their indentation."""
    for block in re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE):
        yield [line[4:] for line in block.splitlines()]


def make_environment(folder: Path) -> None:
    """Make a virtual environment that has what this one has, as installed there."""
    venv.create(folder, symlinks=True)
    here = {"base": str(folder), "platbase": str(folder)}
    packages = Path(sysconfig.get_path("purelib", vars=here))
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "others.pth").write_text("\n".join(paths) + "\n")
    for name, function in _SCRIPTS.items():
        module, _, called = function.partition(":")
        script = folder / "bin" / name
        script.write_text(
            f"#!{folder}/bin/python\nfrom {module} import {called}\n{called}()\n"
        )
        script.chmod(0o755)


class Newcomer(SynchronousTestCase):
    """Types what is in pages, in a checkout with nothing to install any more."""

    def setUp(self) -> None:
        """Make the checkout."""
        self.clone = Path(self.mktemp()).absolute()
        make_environment(self.clone / ".venv")
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, self.clone)
        shutil.copytree(ROOT / "examples", self.clone / "examples")
        for name in ("made", "installed"):
            (self.clone / ".venv" / name).touch()
        # What every newcomer has.
        (self.clone / "photo.jpg").write_bytes(os.urandom(100_000))
        home = self.clone.with_name(self.clone.name + "-home")
        home.mkdir()
        self.environment = environment() | {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "SECURERECV_PORT": "0",
            "SECURERECV_INTERFACE": "127.0.0.1",
            "SECURERECV_SCANNER": "auto",
            "SECURERECV_SIGNATURES": str(make_signatures(home / "signatures")),
        }
        self.code = self.last_output = self.all_output = ""
        # What stands in the page, and what it is here.
        self.known: dict[str, str] = {}

    def spawn(self, command: str, *arguments: str) -> Any:
        """Open a terminal in the checkout with a program in it."""
        process = pexpect.spawn(
            command,
            list(arguments),
            cwd=str(self.clone),
            env=self.environment,
            encoding="utf-8",
            timeout=PATIENCE_S,
            dimensions=(40, 250),
        )
        self.addCleanup(process.close)
        return process

    def begin(self) -> None:
        """Start the server, and open the other terminal."""
        self.server = self.spawn("make", "run")
        self.server.expect(r"tcp +127\.0\.0\.1:(\d+)")
        self.port = self.server.match[1]
        self.server.expect_exact(".venv/bin/securerecv account add alice")
        self.shell = self.spawn("bash", "--norc", "--noprofile")
        self.shell.sendline(f"PS1='{PROMPT[:5]}''{PROMPT[5:]}'")
        self.shell.expect_exact(PROMPT)

    def begin_page(self) -> None:
        """Begin, and do what comes before all pages but the first."""
        self.begin()
        self.type_command("source .venv/bin/activate")
        self.type_command("securerecv account add alice")

    def stop_server(self) -> None:
        """Press Ctrl-C in the first terminal."""
        self.server.sendintr()
        self.server.expect(pexpect.EOF)

    def type_block(self, block: list[str]) -> int:
        """Type what is in a block; give how many commands it had."""
        if block[0].startswith("$ "):
            self.type_session(block[0].removeprefix("$ "), block[1:])
            return 1
        for line in block:
            self.assertNotIn("$ ", line)
            self.type_command(line)
        return len(block)

    def type_session(self, command: str, lines: list[str]) -> None:
        """Type what begins with a verb, and see that the rest comes."""
        self.send(command)
        verbs = {verb.partition(" ")[0] for verb in VERBS}
        for line in lines:
            if line.partition(" ")[0] in verbs:
                self.shell.sendline(line)
            else:
                self.shell.expect(pattern_of(line))
                found = re.findall(_HEX, self.shell.after)
                self.known.update(zip(re.findall(_HEX, line), found, strict=False))
        self.shell.expect_exact(PROMPT)

    def type_command(self, line: str) -> None:
        """Type a command, answer what it asks, and see that it ends well."""
        self.send(line)
        code, said = 0, ""
        typed: set[str] = set()
        answers = list(_QUESTIONS.values())
        while True:
            asked = self.shell.expect([re.escape(PROMPT), _RUNS_ON, *_QUESTIONS])
            said += self.shell.before + self.shell.after
            if asked == _DONE:
                break
            if asked == _FOREVER:
                # It may be in the middle of saying so, and some say so before they
                # heed Ctrl-C.
                self.shell.expect("Ctrl-C|account add|\n")
                time.sleep(_UNTIL_IT_HEEDS_S)
                self.shell.sendintr()
                code = 130
            elif (answer := answers[asked - 2]) not in typed:
                self.shell.sendline(answer.replace("the recovery code", self.code))
                typed |= {answer} & _REDRAWN
        printed = re.search(r"ecovery code\S* +(\S+-\S+)", said)
        self.code = printed[1] if printed else self.code
        self.shell.sendline("echo code $?")
        self.shell.expect(r"code (\d+)")
        self.last_output = said
        self.all_output += said
        self.assertIn(int(self.shell.match[1]), {0, code}, said)
        self.shell.expect_exact(PROMPT)

    def send(self, command: str) -> None:
        """Type a command for the server of this test."""
        for written, actual in self.known.items():
            command = command.replace(written, actual)
        here = re.sub(
            r"(?<!=)127\.0\.0\.1(?:([: ])7443)?",
            lambda found: f"127.0.0.1{found[1] or ':'}{self.port}",
            command,
        )
        # Ports of other servers may be taken on this machine.
        self.shell.sendline(re.sub(r"\b(6667|8080)\b", "0", here))


def pattern_of(line: str) -> str:
    """Make a regular expression of a line that is shown in a page."""
    finder = "|".join(f"({found})" for found in _VARYING)
    made, at = "", 0
    for match in re.finditer(finder, line):
        made += re.escape(line[at : match.start()])
        made += list(_VARYING.values())[(match.lastindex or 1) - 1]
        at = match.end()
    return made + re.escape(line[at:])

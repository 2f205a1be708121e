"""The README's commands, typed as they stand there, do what it says they do."""

from __future__ import annotations

import re
import shutil
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pexpect
from twisted.trial.unittest import SynchronousTestCase

from securerecv.settings import OPTIONS, Settings
from securerecv.wire.verbs import VERBS
from tests.clamd import make_signatures
from tests.program import PATIENCE_S, ROOT, environment

README = (ROOT / "README.md").read_text("utf-8")
PROMPT = "a newcomer types: "

_VARYING = {
    r"anon-[a-z0-9]{16}": r"anon-[a-z0-9]{16}",
    r"\b[0-9a-f]{16}\b": r"[0-9a-f]{16}",
    r"\d{4}-\d\d-\d\dT\S+Z": r"\d{4}-\d\d-\d\dT\S+Z",
    "…": r"[^\r\n]*",
}
"""What is another each time: how it is found in the README, and what it may be."""

_SCRIPTS = {
    "securerecv": "securerecv.cli.main:main",
    "twistd": "twisted.scripts.twistd:run",
}


def blocks() -> Iterator[list[str]]:
    """Give the blocks of things to type, without their indentation."""
    for block in re.findall(r"(?:^ {4}.*\n)+", README, re.MULTILINE):
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


def pattern_of(line: str) -> str:
    """Make a regular expression of a line that is shown in the README."""
    finder = "|".join(f"({found})" for found in _VARYING)
    made, at = "", 0
    for match in re.finditer(finder, line):
        made += re.escape(line[at : match.start()])
        made += list(_VARYING.values())[(match.lastindex or 1) - 1]
        at = match.end()
    return made + re.escape(line[at:])


class ReadmeTests(SynchronousTestCase):
    """A newcomer with a checkout and two terminals."""

    def setUp(self) -> None:
        """Make a checkout in which ``make run`` has nothing to install any more."""
        self.clone = Path(self.mktemp()).absolute()
        make_environment(self.clone / ".venv")
        for name in ("Makefile", "setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / name, self.clone)
        for name in ("made", "installed"):
            (self.clone / ".venv" / name).touch()
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
        self.password = re.findall(r"^    LOGIN alice (.*)$", README, re.MULTILINE)[0]
        self.assertIn(f"`{self.password}`", README)

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

    def test_in_order(self) -> None:
        """Every command of the README works, one after the other."""
        (start,), *others = blocks()
        self.assertEqual(start, "make run")
        server = self.spawn("make", "run")
        server.expect(r"tcp +127\.0\.0\.1:(\d+)")
        self.address = f"127.0.0.1:{server.match[1]}"
        server.expect_exact(".venv/bin/securerecv account add alice")
        self.shell = self.spawn("bash", "--norc", "--noprofile")
        self.shell.sendline(f"PS1='{PROMPT[:5]}''{PROMPT[5:]}'")
        self.shell.expect_exact(PROMPT)
        typed = [self.type_block(block, server) for block in others]
        self.assertEqual(sum(typed), 13)

    def type_block(self, block: list[str], server: Any) -> int:
        """Type what is in a block; give how many commands it had."""
        if block[0].startswith("$ "):
            self.type_session(block[0].removeprefix("$ "), block[1:])
            return 1
        for line in block:
            self.assertNotIn("$ ", line)
            if line.startswith("twistd"):
                # As the words before it say.
                server.sendintr()
                server.expect(pexpect.EOF)
            self.type_command(line)
        return len(block)

    def type_session(self, command: str, lines: list[str]) -> None:
        """Type what begins with a verb, and see that the rest comes."""
        self.send(command)
        for line in lines:
            if line.partition(" ")[0] in VERBS:
                self.shell.sendline(line)
            else:
                self.shell.expect(pattern_of(line))
        self.shell.expect_exact(PROMPT)

    def type_command(self, line: str) -> None:
        """Type a command, answer what it asks, and see that it ends well."""
        self.send(line)
        code = 0
        while True:
            asked = self.shell.expect(
                [
                    re.escape(PROMPT),
                    r"assword[^\r\n]*: $|The same again: $",
                    r"\(yes/no\) $",
                    "Watching|Type next",
                    r"login or anonymous\?",
                ]
            )
            if asked == 0:
                break
            if asked == 1:
                self.shell.sendline(self.password)
            elif asked == 2:
                self.shell.sendline("yes")
            elif asked == 4:
                self.shell.sendintr()
                self.shell.expect("Goodbye")
            else:
                self.shell.expect("Ctrl-C|account add")
                self.shell.sendintr()
                code = 130
        said = self.shell.before
        self.shell.sendline("echo code $?")
        self.shell.expect(r"code (\d+)")
        self.assertEqual(int(self.shell.match[1]), code, said)
        self.shell.expect_exact(PROMPT)

    def send(self, command: str) -> None:
        """Type a command for the server of this test."""
        self.shell.sendline(re.sub(r"127\.0\.0\.1(:7443)?", self.address, command))

    def test_defaults(self) -> None:
        """The defaults in the table are the server's."""
        settings = Settings()
        for option in OPTIONS:
            default = getattr(settings, option.attribute)
            row = re.search(rf"^\| `--{option.name}\b.*$", README, re.MULTILINE)
            if isinstance(default, int) and not option.is_switch and row is not None:
                self.assertRegex(row[0].partition("` | ")[2], rf"\b{default}\b")

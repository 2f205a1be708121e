"""The commands in the pages of ``docs/``, typed as they stand there."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from bench.__main__ import parse_arguments
from tests.newcomer import PASSWORD, Newcomer, blocks_of
from tests.program import PATIENCE_S, ROOT, environment, run
from tests.support import new_folder

DOCS = ROOT / "docs"


def page(name: str) -> str:
    """Read a page."""
    return (DOCS / name).read_text("utf-8")


class TutorialTests(Newcomer):
    """The first page."""

    def test_in_order(self) -> None:
        """Every command works, one after the other."""
        text = page("tutorial.md")
        self.assertIn(f"`{PASSWORD}`", text)
        (start,), *others = blocks_of(text)
        self.assertEqual(start, "make run")
        self.begin()
        for block in others:
            self.type_block(block)


class HowToTests(Newcomer):
    """The pages that go on from there."""

    def type_page(self, name: str) -> None:
        """Type all that is in a page."""
        self.begin_page()
        for block in blocks_of(page(name)):
            self.type_block(block)

    def test_device(self) -> None:
        """A token is made, and sealed datagrams are sent with it."""
        self.type_page("howto/send-from-a-device.md")
        self.assertEqual(len(self.known), 3)
        self.assertIn("it pours", self.last_output)

    def test_password(self) -> None:
        """A password is changed, and set with the recovery code."""
        self.type_page("howto/reset-a-password.md")

    def test_certificate(self) -> None:
        """A server starts with the certificate, and shows the pin of its key."""
        self.type_page("howto/use-your-own-certificate.md")
        pin = re.search(r"\S{43}=", self.last_output)
        assert pin is not None
        self.assertIn(f"sha256//{pin[0]}", self.all_output)

    def test_embed(self) -> None:
        """The examples start."""
        self.type_page("howto/embed.md")


class SystemdPageTests(SynchronousTestCase):
    """The page about systemd, as far as it can be done beside a system that runs."""

    def setUp(self) -> None:
        """Make a system's folders that are nobody's."""
        self.system = new_folder(self)
        for folder in ("etc/sysusers.d", "etc/systemd/system", "var/lib"):
            (self.system / folder).mkdir(parents=True)

    def do(self, *words: str) -> None:
        """Run a command of the page, in the folders of this test."""
        done = subprocess.run(
            words,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        self.assertEqual(done.returncode, 0, (words, done.stderr))

    def test_in_order(self) -> None:
        """Files are installed and enabled; the account is made where it says."""
        left = set()
        for line in (line for block in blocks_of(self.text()) for line in block):
            program, *words = shlex.split(line)
            here = [
                re.sub("^/(etc|var)/", f"{self.system}/\\1/", word) for word in words
            ]
            if program == "install":
                self.do(program, *here)
            elif program == "systemd-sysusers":
                self.do(program, f"--root={self.system}")
            elif program == "systemctl" and "enable" in words:
                units = [word for word in words if word.startswith("securerecv.")]
                self.do(program, f"--root={self.system}", "enable", *units)
            elif program == "sudo":
                self.assertEqual(words[:3], ["-u", "securerecv", COMMAND])
                done = run(*here[3:], "--password-stdin", given="word\n")
                self.assertEqual(done.returncode, 0, done.stderr)
            else:
                left.add(program)
        # They need a system that runs, or the network: what pip does is tested
        # with the package.
        self.assertEqual(
            left, {"python3", "/opt/securerecv/bin/pip", "systemctl", "journalctl"}
        )
        self.assertIn("securerecv:", (self.system / "etc/passwd").read_text())
        wanted = self.system / "etc/systemd/system/sockets.target.wants"
        self.assertTrue((wanted / "securerecv.socket").is_symlink())
        self.assertTrue((self.system / "var/lib/securerecv/store.sqlite3").exists())

    def text(self) -> str:
        """Read the page."""
        return page("howto/run-under-systemd.md")


COMMAND = "/opt/securerecv/bin/securerecv"


class PerformanceTests(SynchronousTestCase):
    """The page about performance."""

    def test_commands(self) -> None:
        """Every command is one that the bench takes, and the last fills the page."""
        documents = []
        for line in (x for block in blocks_of(page("performance.md")) for x in block):
            make, bench, *given = shlex.split(line, comments=True)
            self.assertEqual((make, bench), ("make", "bench"))
            words = " ".join(word.removeprefix("ARGS=") for word in given).split()
            at_home = [str(ROOT / w) if w.endswith(".md") else w for w in words]
            documents.append(parse_arguments(at_home).markdown)
        self.assertEqual(documents[-1], DOCS / "performance.md")


class MadeTests(SynchronousTestCase):
    """What Sphinx makes."""

    def test_private(self) -> None:
        """Nothing of whoever makes it gets into it."""
        made = new_folder(self)
        mark = "of-nobody-elses-business"
        subprocess.run(
            [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", DOCS, made],
            env=environment() | {"SECRET": mark},
            timeout=2 * PATIENCE_S,
            check=True,
        )
        pages = [path.read_text("utf-8") for path in made.rglob("*.html")]
        self.assertTrue(any("on_message" in text for text in pages))
        for private in (mark, str(ROOT)):
            self.assertFalse(any(private in text for text in pages), private)


class AllTests(SynchronousTestCase):
    """All pages together."""

    def test_all(self) -> None:
        """There is no page with commands that no test types."""
        text = Path(__file__).read_text("utf-8")
        for path in sorted(DOCS.rglob("*.md")):
            name = str(path.relative_to(DOCS))
            if name in {"protocol.md", "threat-model.md"} or "_build" in name:
                continue
            if any(blocks_of(path.read_text("utf-8"))):
                self.assertIn(f'"{name}"', text)

    def test_tools(self) -> None:
        """What the pages need of the system is there."""
        for program in ("openssl", "systemctl", "systemd-sysusers"):
            self.assertIsNotNone(shutil.which(program), program)

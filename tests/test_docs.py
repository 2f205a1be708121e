"""What the documents say of the project is true of it."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode
from securerecv.settings import OPTIONS
from securerecv.wire.verbs import VERBS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


class DocumentTests(SynchronousTestCase):
    """Names in documents."""

    def test_threats_have_tests(self) -> None:
        """Every test that the threat model names exists, and every row has one."""
        text = (ROOT / "docs/threat-model.md").read_text()
        names = re.findall(r"`(test_\w+\.\w+\.test_\w+)`", text)
        self.assertGreater(len(names), 40)
        for name in names:
            self.assertTrue(callable(namedAny(f"tests.{name}")), name)
        for row in re.findall(r"^\| .* \|$", text, re.MULTILINE):
            if not row.startswith("| threat "):
                self.assertIn("`test_", row)

    def test_links(self) -> None:
        """Links between documents lead somewhere."""
        count = 0
        for document in DOCUMENTS:
            for target in re.findall(r"\]\(([^)#]+)", document.read_text()):
                if "://" not in target:
                    self.assertTrue((document.parent / target).exists(), target)
                    count += 1
        self.assertGreater(count, 4)

    def test_protocol_is_whole(self) -> None:
        """Every verb and every error code is in the protocol's tables."""
        text = (ROOT / "docs/protocol.md").read_text()
        for verb in VERBS:
            self.assertIn(f"`{verb}", text)
        for code in ErrorCode:
            self.assertIn(f"`{code.value}`", text)

    def test_options_are_in_readme(self) -> None:
        """Every option of the server is in the README."""
        text = (ROOT / "README.md").read_text()
        for option in OPTIONS:
            self.assertIn(f"--{option.name}", text)

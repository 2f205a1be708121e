"""The README's commands, typed as they stand there, do what it says they do."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from securerecv.settings import OPTIONS, Settings
from tests.newcomer import PASSWORD, Newcomer, blocks_of
from tests.program import ROOT

README = (ROOT / "README.md").read_text("utf-8")


class ReadmeTests(Newcomer):
    """A newcomer with a checkout and two terminals."""

    def test_in_order(self) -> None:
        """Every command of the README works, one after the other."""
        self.assertIn(f"`{PASSWORD}`", README)
        (start,), *others = blocks_of(README)
        self.assertEqual(start, "make run")
        self.begin()
        typed = 0
        for block in others:
            if block[0].startswith("twistd"):
                # As the words before it say.
                self.stop_server()
            typed += self.type_block(block)
        self.assertGreater(typed, 10)


class DefaultsTests(SynchronousTestCase):
    """The table of options."""

    def test_defaults(self) -> None:
        """The defaults in the table are the server's."""
        settings = Settings()
        for option in OPTIONS:
            default = getattr(settings, option.attribute)
            row = re.search(rf"^\| `--{option.name}\b.*$", README, re.MULTILINE)
            if isinstance(default, int) and not option.is_switch and row is not None:
                self.assertRegex(row[0].partition("` | ")[2], rf"\b{default}\b")

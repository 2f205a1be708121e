"""The demo can go wrong, says so, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from demo.__main__ import play
from demo.stage import DemoError, Stage, stage
from demo.steps import STEPS, add_accounts, look_at_disk, start


class DemoTests(SynchronousTestCase):
    """What is shown of steps, and what is checked in them."""

    def test_wrong_step(self) -> None:
        """A step that goes wrong ends the demo with its reason."""
        played: list[str] = []

        def fail(_: Stage) -> None:
            played.append("fail")
            raise DemoError("that was not it")

        def never(_: Stage) -> None:
            played.append("never")

        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            is_well = play(
                Stage(Path()), [("one", lambda _: None), ("two", fail), ("3", never)]
            )
        self.assertFalse(is_well)
        self.assertEqual(played, ["fail"])
        self.assertIn("ok one", out.getvalue())
        self.assertTrue(out.getvalue().endswith("NO two\n\nthat was not it\n"))

    def test_server_that_does_not_start(self) -> None:
        """A server that does not start is a reason with its own words."""
        with stage() as built:
            built.signatures.mkdir()
            (built.data).write_text("in the way")
            error = self.assertRaises(DemoError, start, built)
            folder = built.folder
        self.assertIn("is not a folder", str(error))
        self.assertFalse(folder.exists())

    def test_clear_text_on_disk(self) -> None:
        """What lies in clear in the data folder is found there."""
        with stage() as built:
            add_accounts(built)
            (built.folder / "photo.jpg").write_bytes(bytes(range(256)) * 8)
            look_at_disk(built)
            (built.data / "note").write_text("this is for alice")
            error = self.assertRaises(DemoError, look_at_disk, built)
        self.assertEqual(str(error), "note has b'alice' in clear")

    def test_steps_are_told_apart(self) -> None:
        """Every step has words of its own, and one function."""
        self.assertEqual(len({words for words, _ in STEPS}), len(STEPS))
        self.assertEqual(len({step for _, step in STEPS}), len(STEPS))

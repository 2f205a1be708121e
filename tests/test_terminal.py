"""Text from elsewhere, made fit for a terminal."""

from __future__ import annotations

import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.cli.terminal import (
    MAX_DUMPED_BYTES,
    visible,
    visible_body,
    visible_line,
)


class TerminalTests(SynchronousTestCase):
    """Text from elsewhere, made fit for a terminal."""

    def test_shown(self) -> None:
        """Control and format characters are shown; other text is left alone."""
        for text, shown in [
            ("Grüße, 世界 🎉\n\tend", "Grüße, 世界 🎉\n\tend"),
            ("\x1b[2J\r\0\x7f", "^[[2J^M^@^?"),
            ("\x9b2J\x85\xad", "\\x9b2J\\x85\\xad"),
            ("\u202egpj.exe\u2066\ufeff\u2028", "\\u202egpj.exe\\u2066\\ufeff\\u2028"),
            ("\U000e0041", "\\U000e0041"),
            ("\udc80", "\\udc80"),
        ]:
            self.assertEqual(visible(text), shown)
        self.assertEqual(visible_line("a\nb\tc\x1b"), "a^Jb^Ic^[")

    @settings(deadline=None)
    @given(st.text())
    def test_nothing_to_obey(self, text: str) -> None:
        """No text leaves anything in it that a terminal would obey."""
        for shown in (
            visible(text).replace("\n", "").replace("\t", ""),
            visible_line(text),
        ):
            assert not {unicodedata.category(c) for c in shown} & {
                "Cc",
                "Cf",
                "Cs",
                "Zl",
                "Zp",
            }

    @settings(deadline=None)
    @given(st.binary(max_size=600))
    def test_any_body(self, body: bytes) -> None:
        """Any body can be shown, and in no more room than it deserves."""
        shown = visible_body(body)
        assert len(shown) < 6 * len(body) + 1000
        assert "\x1b" not in shown

    def test_bodies(self) -> None:
        """Text is text, old text is nearly text, and the rest is a dump."""
        self.assertEqual(visible_body(b"one\r\ntwo\r\n"), "one^M\ntwo")
        self.assertEqual(
            visible_body("Viele Grüße".encode("latin-1")), "Viele Gr\\xfc\\xdfe"
        )
        self.assertEqual(visible_body(b""), "")
        heading, row = visible_body(b"\x89PNG\r\n\x1a\n\0").split("\n")
        self.assertEqual(heading, "(9 bytes that are no text)")
        self.assertEqual(row.split("  ")[1], "89 50 4e 47 0d 0a 1a 0a 00")
        self.assertTrue(row.endswith(" .PNG....."))
        lines = visible_body(b"\xff" * (MAX_DUMPED_BYTES + 1)).split("\n")
        self.assertEqual((len(lines), lines[-1]), (18, "…"))

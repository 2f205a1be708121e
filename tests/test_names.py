"""Who may be called what, and which names are the same."""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.limits import MAX_FILE_NAME_BYTES, MAX_NAME_CHARACTERS
from securerecv.names import (
    file_name,
    is_anonymous_address,
    new_anonymous_address,
    normalise_user_name,
)


class UserNameTests(SynchronousTestCase):
    """The one form of a user name."""

    def test_same(self) -> None:
        """Names that look the same to people are the same."""
        for written, expected in (
            ("alice", "alice"),
            ("ALICE", "alice"),
            ("Straße", "strasse"),
            ("STRASSE", "strasse"),
            ("ﬁnn", "finn"),
            ("Ａｌｉｃｅ", "alice"),  # noqa: RUF001 - full width is the point
            ("e\u0301va", "\u00e9va"),
            ("\u212bsa", "\u00e5sa"),
            ("ΣΊΣΥΦΟΣ", "σίσυφοσ"),
            ("_x", "_x"),
            ("7", "7"),
            ("a.b@c-d+e_f", "a.b@c-d+e_f"),
            ("анна", "анна"),
        ):
            self.assertEqual(normalise_user_name(written), expected)

    def test_lengths(self) -> None:
        """A name has up to `MAX_NAME_CHARACTERS`, counted as it is compared."""
        longest = "x" * MAX_NAME_CHARACTERS
        self.assertEqual(normalise_user_name(longest), longest)
        shorter = "ß" * (MAX_NAME_CHARACTERS // 2)
        self.assertEqual(len(normalise_user_name(shorter)), MAX_NAME_CHARACTERS)
        for name in (longest + "x", shorter + "ß"):
            error = self.assertRaises(PeerError, normalise_user_name, name)
            self.assertIs(error.code, ErrorCode.USAGE)
            self.assertIn(str(MAX_NAME_CHARACTERS), error.words)

    def test_no_names(self) -> None:
        """What could be mistaken for something else is no name."""
        for name in (
            "",
            " ",
            "a b",
            ".hidden",
            "-rf",
            "@x",
            "+x",
            "../etc",
            "a/b",
            "a\\b",
            "a\0b",
            "a\n",
            "\n",
            "a\u200bb",
            "a\u202eb",
            "a:b",
            "a*",
            "\ufffd",
        ):
            error = self.assertRaises(PeerError, normalise_user_name, name)
            self.assertIs(error.code, ErrorCode.USAGE, name)
            self.assertNotIn("\n", error.words)

    def test_reserved(self) -> None:
        """Nobody is called like an anonymous session, however it is written."""
        for name in ("anon", "ANON", "anon-x", "Anon-7", "ａｎｏｎ", "anon-"):  # noqa: RUF001 - full width is the point
            error = self.assertRaises(PeerError, normalise_user_name, name)
            self.assertIs(error.code, ErrorCode.USAGE)
            self.assertIn("reserved", error.words)
        for name in ("anonymous", "anon_x", "an-on", "xanon-x"):
            self.assertEqual(normalise_user_name(name), name)

    @given(st.text(max_size=MAX_NAME_CHARACTERS + 5))
    def test_any_text(self, text: str) -> None:
        """A text is refused as usage, or has one form that stays as it is."""
        try:
            name = normalise_user_name(text)
        except PeerError as error:
            assert error.code is ErrorCode.USAGE
        else:
            assert normalise_user_name(name) == name
            assert 1 <= len(name) <= MAX_NAME_CHARACTERS
            assert not set(name) & set(" /\\\0\r\n")

    def test_every_character(self) -> None:
        """Each character that is written otherwise keeps the form it is given."""
        kept = 0
        for point in range(sys.maxunicode + 1):
            character = chr(point)
            composed = unicodedata.normalize("NFKC", character)
            if character == composed == character.casefold():
                continue
            try:
                name = normalise_user_name(character)
            except PeerError:
                continue
            kept += 1
            self.assertEqual(normalise_user_name(name), name)
            self.assertEqual(unicodedata.normalize("NFKC", name), name)
        self.assertGreater(kept, 5000)


class AnonymousAddressTests(SynchronousTestCase):
    """Where an anonymous session is reached."""

    def test_form(self) -> None:
        """An address is ``anon-`` and 16 letters or digits, and never the same."""
        addresses = {new_anonymous_address() for _ in range(1000)}
        self.assertEqual(len(addresses), 1000)
        for address in addresses:
            self.assertRegex(address, r"\Aanon-[a-z0-9]{16}\Z")
            self.assertTrue(is_anonymous_address(address))
            self.assertRaises(PeerError, normalise_user_name, address)

    def test_all_letters(self) -> None:
        """All 32 characters occur: five random bits each."""
        letters = {c for _ in range(200) for c in new_anonymous_address()[5:]}
        self.assertEqual(len(letters), 32)

    def test_users_are_none(self) -> None:
        """A user's name is no anonymous address."""
        for name in ("alice", "anon", "anonymous", ""):
            self.assertFalse(is_anonymous_address(name))


class FileNameTests(SynchronousTestCase):
    """The names of files."""

    def test_without_folders(self) -> None:
        """Only what is behind the last slash of either kind is the name."""
        for written, expected in (
            ("report.pdf", "report.pdf"),
            ("/etc/passwd", "passwd"),
            ("../../x", "x"),
            (r"C:\\Users\\a\\my file.txt", "my file.txt"),
            ("a/b\\c/d\\e", "e"),
            (" two  blanks ", " two  blanks "),
            ("…", "…"),
            (".hidden", ".hidden"),
            ("...", "..."),
            ("-rf", "-rf"),
            ("x" * 255, "x" * 255),
            ("a/" * 500 + "b", "b"),
        ):
            self.assertEqual(file_name(written), expected)

    def test_no_names(self) -> None:
        """What names nothing, or more than one line, is refused."""
        for written in (
            *("", " ", "/", "a/", "a\\", ".", "..", "a/.."),
            *("a\0b", "a\nb", "a\rb", "\x1b[2J", "\x7f", "\x85", "a\u2028b"),
            "\ud800",
        ):
            error = self.assertRaises(PeerError, file_name, written)
            self.assertIs(error.code, ErrorCode.USAGE)

    def test_length(self) -> None:
        """A name has as many bytes as a file system takes."""
        longest = "é" * (MAX_FILE_NAME_BYTES // 2) + "x"
        self.assertEqual(file_name(longest), longest)
        error = self.assertRaises(PeerError, file_name, longest + "x")
        self.assertIn(str(MAX_FILE_NAME_BYTES), error.words)

    @given(st.text())
    def test_any(self, written: str) -> None:
        """Whatever was written, a name is one part of a path, and stays itself."""
        try:
            name = file_name(written)
        except PeerError:
            return
        assert "/" not in name
        assert "\\" not in name
        assert name not in ("", ".", "..")
        assert file_name(name) == name

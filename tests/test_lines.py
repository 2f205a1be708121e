"""Answers, pushes and times as bytes."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from securerecv.errors import ErrorCode, PeerError
from securerecv.wire.lines import (
    NOTICE,
    Answer,
    Message,
    information,
    piece,
    refusal,
    rfc3339,
    usage,
)
from securerecv.wire.tags import split_tag


class AnswerTests(SynchronousTestCase):
    """What a request is answered with."""

    def test_final_line(self) -> None:
        """An answer ends in one ``+OK`` line, with words or without."""
        self.assertEqual(b"".join(Answer().pieces("")), b"+OK\n")
        self.assertEqual(b"".join(Answer("5 messages").pieces("")), b"+OK 5 messages\n")
        self.assertEqual(b"".join(Answer("é").pieces("#t ")), "#t +OK é\n".encode())

    def test_lines(self) -> None:
        """Lines come before it, payloads behind their line as they are."""
        answer = Answer("done", (("ONE", None), ("TWO 4", b"\n\0\r\n"), ("NIL 0", b"")))
        self.assertEqual(
            b"".join(answer.pieces("")),
            b"* ONE\n* TWO 4\n\n\0\r\n\r\n* NIL 0\n\r\n+OK done\n",
        )

    def test_tag_on_every_line(self) -> None:
        """The tag stands before every line, and not before payloads."""
        answer = Answer("", (("ONE", None), ("TWO 1", b"x")))
        self.assertEqual(
            b"".join(answer.pieces("#t1 ")), b"#t1 * ONE\n#t1 * TWO 1\nx\r\n#t1 +OK\n"
        )

    def test_information(self) -> None:
        """Information has no payloads."""
        self.assertEqual(
            b"".join(information(["a", "b"], "c").pieces("")), b"* a\n* b\n+OK c\n"
        )

    def test_refusal(self) -> None:
        """A refusal is one ``-ERR`` line with code and words."""
        error = PeerError(ErrorCode.NO_MAILBOX, "nobody is called that")
        self.assertEqual(refusal(error), "-ERR no-mailbox nobody is called that\n")
        self.assertEqual(refusal(usage("PING"), "#t "), "#t -ERR usage PING\n")

    def test_push(self) -> None:
        """A pushed line begins with ``! ``."""
        self.assertEqual(piece("! CLOSING now", None), b"! CLOSING now\n")
        self.assertEqual(piece("! MSG a 2", b"\r\n"), b"! MSG a 2\n\r\n\r\n")

    def test_codes(self) -> None:
        """The codes are those of the protocol."""
        self.assertEqual(
            " ".join(code.value for code in ErrorCode),
            "usage login-first auth busy rate too-large no-mailbox no-such-id"
            " not-allowed not-clean infected no-scanner full mismatch timeout internal",
        )

    def test_notice(self) -> None:
        """The legal notice is one line and says for what the service is."""
        self.assertNotIn("\n", NOTICE)
        self.assertIn("legal use only", NOTICE)


class MessageTests(SynchronousTestCase):
    """A message as it is announced."""

    def test_line(self) -> None:
        """The last number is the size of the body, in bytes."""
        message = Message("00ff", "bob", 1_700_000_000_123, "é!".encode())
        self.assertEqual(message.line(), "MSG 00ff bob 2023-11-14T22:13:20.123Z 3")

    def test_repr(self) -> None:
        """What a message says is not in what a log might show of it."""
        self.assertNotIn("geheim", repr(Message("1", "bob", 0, b"geheim")))

    @given(st.integers(0, 253_402_300_799_999))
    def test_times(self, when_ms: int) -> None:
        """Every time up to the year 9999 reads back as the same millisecond."""
        written = rfc3339(when_ms)
        assert len(written) == len("2023-11-14T22:13:20.123Z")
        moment = datetime.fromisoformat(written)
        assert moment.tzinfo == UTC
        since = moment - datetime(1970, 1, 1, tzinfo=UTC)
        assert (since.days * 86_400 + since.seconds) * 1000 == when_ms // 1000 * 1000
        assert since.microseconds == when_ms % 1000 * 1000


class TagTests(SynchronousTestCase):
    """The tag and what is behind it."""

    def test_split(self) -> None:
        """The tag keeps one blank; the request keeps what is inside it."""
        self.assertEqual(split_tag("#a PING"), ("#a ", "PING"))
        self.assertEqual(split_tag("#a   SAY bob  x "), ("#a ", "SAY bob  x "))
        self.assertEqual(split_tag("#0 "), ("#0 ", ""))

    def test_no_tag(self) -> None:
        """What is no tag brings the usage of the verb behind it."""
        error = self.assertRaises(PeerError, split_tag, "#a-b LAST 1")
        self.assertEqual((error.code, error.words), (ErrorCode.USAGE, "LAST [n]"))

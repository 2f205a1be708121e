"""The lines in which files are listed and announced."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.filelines import FileRecord, FileState

RECORD = FileRecord(
    id="0123456789abcdef",
    state=FileState.CLEAN,
    size=5,
    sha256="ab" * 32,
    sender="anon",
    when_ms=1_700_000_000_123,
    name="my file.txt",
)


class FileRecordTests(SynchronousTestCase):
    """What a file looks like in a list."""

    def test_line(self) -> None:
        """The line is as in the protocol, with the name to its end."""
        (line,) = RECORD.lines()
        self.assertEqual(
            line,
            f"FILE 0123456789abcdef clean 5 {'ab' * 32} anon"
            " 2023-11-14T22:13:20.123Z my file.txt",
        )

    def test_why(self) -> None:
        """Where there is a reason, it stands in a line of its own."""
        record = FileRecord(
            "0123456789abcdef", FileState.HELD, 0, "00" * 32, "bob", 0, "x", "no clamd"
        )
        self.assertEqual(record.lines()[1:], ["WHY 0123456789abcdef no clamd"])

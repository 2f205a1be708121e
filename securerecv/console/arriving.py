"""Files that are just being received for the person at the console."""

from collections.abc import Callable, Iterable

from securerecv.console.bars import Bars
from securerecv.intake.announced import ArrivingFile


class Arriving:
    """
    Draws a bar for each of them.

    Args:
        arriving: gives all files that the server is receiving now.
        bars: where they are drawn.
    """

    def __init__(
        self, arriving: Callable[[], Iterable[ArrivingFile]], bars: Bars
    ) -> None:
        self._arriving = arriving
        self._bars = bars
        self._drawn: set[str] = set()

    def look(self, owner: str) -> None:
        """See how far those for somebody are."""
        mine = {file.id: file for file in self._arriving() if file.owner == owner}
        for gone in self._drawn - mine.keys():
            self._bars.end(gone)
        for file in mine.values():
            label = f"{file.name} from {file.sender}"
            self._bars.move(file.id, label, file.done, file.size)
        self._drawn = set(mine)

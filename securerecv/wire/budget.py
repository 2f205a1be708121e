"""A shared allowance of bytes that are held for peers."""


class Budget:
    """
    Counts bytes held in memory for all conversations together.

    Whoever holds bytes takes them here first and gives them back later, so
    that no number of peers can make the process grow beyond the total.
    """

    def __init__(self, total_bytes: int) -> None:
        self._left = total_bytes

    @property
    def left(self) -> int:
        """Bytes that may still be taken."""
        return self._left

    def take(self, count: int) -> bool:
        """Take bytes; False, and nothing taken, when there are not enough."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give_back(self, count: int) -> None:
        """Return bytes that were taken."""
        self._left += count

"""Who may speak with which token: a table in memory, asked for each datagram."""

from collections.abc import Set as AbstractSet

from attrs import field, frozen


@frozen
class Token:
    """
    A token that is in force.

    Attributes:
        number: the row that stands for it in the store.
        id: 16 bytes, which whoever uses it names.
        secret: 32 bytes, which whoever uses it knows.
        owner: the name of the user in whose name it speaks.
        account_id: the user's account.
    """

    number: int
    id: bytes = field(repr=False)
    secret: bytes = field(repr=False)
    owner: str
    account_id: int


class TokenTable:
    """All tokens that are in force, by id and by row."""

    def __init__(self) -> None:
        self._by_id: dict[bytes, Token] = {}
        # None for one that cannot be used.
        self._by_number: dict[int, Token | None] = {}
        self._total = 0

    def find(self, token_id: bytes) -> Token | None:
        """Look a token up by its id."""
        return self._by_id.get(token_id)

    def add(self, token: Token) -> None:
        """Take a token in; one that is there already stays."""
        self._note(token.number, token)
        self._by_id[token.id] = token

    def add_damaged(self, number: int) -> None:
        """Take in that a row holds a token that cannot be used."""
        self._note(number, None)

    def remove(self, number: int) -> None:
        """Forget the token of a row, if there is one."""
        if number not in self._by_number:
            return
        token = self._by_number.pop(number)
        self._total -= number
        if token is not None:
            del self._by_id[token.id]

    @property
    def numbers(self) -> AbstractSet[int]:
        """The rows of all tokens."""
        return self._by_number.keys()

    @property
    def summary(self) -> tuple[int, int]:
        """How many rows there are, and what their numbers add up to."""
        return len(self._by_number), self._total

    def _note(self, number: int, token: Token | None) -> None:
        if number not in self._by_number:
            self._total += number
        self._by_number[number] = token

"""What the parts of the server ask of each other, where they must not import."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.defer import Deferred


class PasswordFile(Protocol):
    """Where password hashes are kept (`securerecv.vault.store.Store`)."""

    def password_hash(self, name: str) -> Deferred[bytes | None]:
        """
        Look a user up.

        Args:
            name: normalised.

        Returns:
            A bcrypt string, or None if there is no such user.
        """

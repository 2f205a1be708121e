"""Making what logs a user in and what opens the box: always both, from one password."""

from typing import NamedTuple

from attrs import frozen

from securerecv.access.passwords import BCRYPT_ROUNDS, PasswordMixer, hash_secret
from securerecv.vault.mailboxkeys import (
    SCRYPT_LOG_N,
    MailboxPrivateKey,
    wrap_with_password,
)


class Locks(NamedTuple):
    """What is stored of a password."""

    password_hash: bytes
    wrapped_by_password: bytes


@frozen
class WorkFactors:
    """
    How slow passwords are to guess; less only where nothing is at stake.

    Attributes:
        bcrypt_rounds: the logarithm of bcrypt's cost.
        scrypt_log_n: the logarithm of scrypt's cost.
    """

    bcrypt_rounds: int = BCRYPT_ROUNDS
    scrypt_log_n: int = SCRYPT_LOG_N


@frozen
class Locksmith:
    """
    Makes locks.

    Attributes:
        mixer: mixes passwords with the server's keys.
        work: how slow the locks are.
    """

    mixer: PasswordMixer
    work: WorkFactors

    def make(self, name: str, password: str, key: MailboxPrivateKey) -> Locks:
        """
        Make the locks for a user.  Slow on purpose.

        Args:
            name: normalised.
            password: checked by `securerecv.access.passwords.check_new_password`.
            key: what the password is to open.
        """
        return Locks(
            hash_secret(
                self.mixer.bcrypt_secret(name, password), self.work.bcrypt_rounds
            ),
            wrap_with_password(
                key, self.mixer.mailbox_secret(name, password), self.work.scrypt_log_n
            ),
        )

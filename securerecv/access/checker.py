"""The bcrypt checker for twisted.cred."""

import hmac
from collections.abc import Generator
from typing import Any

from attrs import field, frozen
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.internet.defer import inlineCallbacks
from zope.interface import implementer

from securerecv.access.passwords import (
    HashingPool,
    PasswordMixer,
    dummy_hash,
    matches,
)
from securerecv.errors import PeerError
from securerecv.interfaces import PasswordFile
from securerecv.names import normalise_user_name


@implementer(IUsernamePassword)
@frozen
class PeerCredentials:
    """
    User name and password, and where they come from.

    Attributes:
        username: UTF-8.
        password: UTF-8.
        address: whose turn in the queue of logins it takes.
    """

    username: bytes = field(repr=False)
    password: bytes = field(repr=False)
    address: str

    def checkPassword(self, password: bytes) -> bool:
        """Compare with a password in clear, for checkers that have one."""
        return hmac.compare_digest(self.password, password)


@implementer(ICredentialsChecker)
class BcryptChecker:
    """
    Checks user name and password against bcrypt hashes.

    An unknown user costs the same hash as a wrong password and ends in the
    same words, so that neither tells which users there are.

    Args:
        passwords: where the hashes are.
        mixer: what is hashed.
        pool: where it is hashed.
        dummy: a hash that nothing matches, as slow as the real ones.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self,
        passwords: PasswordFile,
        mixer: PasswordMixer,
        pool: HashingPool,
        dummy: bytes | None = None,
    ) -> None:
        self._passwords = passwords
        self._mixer = mixer
        self._pool = pool
        self._dummy = dummy or dummy_hash()

    @inlineCallbacks
    def requestAvatarId(
        self, credentials: IUsernamePassword
    ) -> Generator[Any, Any, bytes | tuple[()]]:
        """
        Check a login.

        Args:
            credentials: user name and password as UTF-8 bytes; from
                `PeerCredentials`, also the address whose turn it is.

        Returns:
            The normalised user name, UTF-8.

        Raises:
            UnauthorizedLogin: no such user, or not the password.
            PeerError: ``busy``.
        """
        password = credentials.password.decode(errors="replace")
        try:
            name = normalise_user_name(credentials.username.decode(errors="replace"))
        except PeerError:
            name = ""
        stored = yield self._passwords.password_hash(name)
        is_right = yield self._pool.run(
            getattr(credentials, "address", ""),
            matches,
            self._mixer.bcrypt_secret(name, password),
            stored or self._dummy,
        )
        if not is_right or stored is None:
            raise UnauthorizedLogin
        return name.encode()

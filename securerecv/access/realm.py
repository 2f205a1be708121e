"""Who someone is once they are in: avatars, and the realm that hands them out."""

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.cred.portal import IRealm
from zope.interface import Interface, implementer

from securerecv.names import new_anonymous_address
from securerecv.wire.verbs import Standing


class IReceiverAvatar(Interface):
    """What a receiver's portal gives to whoever logs in."""


@implementer(IReceiverAvatar)
@define(eq=False)
class Avatar:
    """
    Somebody who is in.

    Attributes:
        standing: user or anonymous.
        name: the user name, or the anonymous address.
        secret: what opens a user's mailbox key; forgotten at logout.  None
            if the login did not bring it: such a user may send, not read.
        mailbox: the opened key, once it was needed; forgotten at logout.
        lock: stands for the account and password of the login.
    """

    standing: Standing
    name: str
    secret: bytes | None = field(default=None, repr=False)
    mailbox: Any = field(default=None, repr=False)
    lock: object = field(default=None, repr=False)

    def logout(self) -> None:
        """Forget everything that opens the mailbox."""
        self.secret = None
        self.mailbox = None


@implementer(IRealm)
class ReceiverRealm:
    """Hands out an `Avatar` for a user, or for nobody in particular."""

    def requestAvatar(
        self, avatar_id: bytes | tuple[()], mind: object, *interfaces: type[Interface]
    ) -> tuple[type[Interface], Avatar, Callable[[], None]]:
        """
        Make an avatar.

        Args:
            avatar_id: a user name, UTF-8, or twisted.cred's ``ANONYMOUS``.
            mind: the secret of the user's mailbox, or None.
            interfaces: `IReceiverAvatar` among them.

        Raises:
            NotImplementedError: another interface is wanted.
        """
        if IReceiverAvatar not in interfaces:
            raise NotImplementedError("a receiver has avatars for IReceiverAvatar only")
        if isinstance(avatar_id, bytes):
            secret = mind if isinstance(mind, bytes) else None
            avatar = Avatar(Standing.USER, avatar_id.decode(), secret)
        else:
            avatar = Avatar(Standing.ANONYMOUS, new_anonymous_address())
        return IReceiverAvatar, avatar, avatar.logout

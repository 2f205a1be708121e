"""
The desk: carries out what a `securerecv.wire.session.Session` asks for.

Every transport meets here; behind it nothing knows how a request travelled.
"""

from collections.abc import Callable, Generator, Sequence
from typing import Any

from attrs import define, field
from twisted.cred.credentials import Anonymous
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, inlineCallbacks, maybeDeferred
from twisted.logger import Logger

from securerecv.access.checker import PeerCredentials
from securerecv.access.passwords import PasswordMixer
from securerecv.access.realm import Avatar, IReceiverAvatar
from securerecv.access.throttle import LoginThrottle
from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.intake.announcer import Announcer, Listener
from securerecv.intake.faults import explain
from securerecv.intake.files import Files
from securerecv.intake.messages import Messages, Outcome
from securerecv.intake.passwordchange import PasswordChange
from securerecv.intake.presence import Lock, Presence
from securerecv.intake.results import Receiving, Result, Sending
from securerecv.intake.tokens import Tokens
from securerecv.limits import MAX_UNREAD_BYTES
from securerecv.names import normalise_user_name
from securerecv.wire.budget import Budget
from securerecv.wire.events import Command
from securerecv.wire.lines import Answer, Post, usage
from securerecv.wire.verbs import Standing, Verb

_log = Logger()

Arguments = tuple[str, ...]
"""What a request's verb asks for, `securerecv.wire.verbs`; absent ones are empty."""


@define(eq=False)
class Visitor:
    """
    One conversation as the desk sees it.

    Attributes:
        address: where the peer is, for limits.
        push: tells the peer what came in; False if it does not read.
        dismiss: ends the conversation, with words for the peer.
        avatar: who it is, once that is known.
        watching: the peer is told what comes in.
        has_left: the conversation is over.
        logout: what the portal wants called at the end.
    """

    address: str
    push: Listener
    dismiss: Callable[[str], None]
    avatar: Avatar | None = None
    watching: bool = False
    has_left: bool = False
    logout: Callable[[], None] | None = field(default=None, repr=False)

    def known(self) -> Avatar:
        """Give the avatar of somebody who is in."""
        if self.avatar is None:
            raise MisuseError("the session let a command through before the login")
        return self.avatar


class Desk:
    """
    Carries out requests.

    Args:
        portal: decides who someone is.
        mixer: makes of a password what opens the mailbox.
        throttle: slows down those who guess.
        announcer: tells those who watch.
        messages: keeps messages.
        password_change: changes passwords.
        tokens: keeps tokens.
        files: keeps files.
        presence: knows who is inside.
        seconds: the clock.
    """

    def __init__(
        self,
        *,
        portal: Portal,
        mixer: PasswordMixer,
        throttle: LoginThrottle,
        announcer: Announcer,
        messages: Messages,
        password_change: PasswordChange,
        tokens: Tokens,
        files: Files,
        presence: Presence,
        seconds: Callable[[], float],
    ) -> None:
        self._portal = portal
        self._mixer = mixer
        self._throttle = throttle
        self._announcer = announcer
        self._messages = messages
        self._password_change = password_change
        self._tokens = tokens
        self._presence = presence
        self.unread = Budget(MAX_UNREAD_BYTES)
        self._files = files
        self._seconds = seconds
        self._carry_out: dict[str, Callable[[Visitor, Arguments], Any]] = {
            "LOGIN": self._login,
            "ANON": self._anonymous,
            "LAST": self._last,
            "READ": self._read,
            "DROP": self._drop,
            "PUT": self._put,
            "FILES": self._list_files,
            "GET": self._get,
            "WATCH": self._watch,
            "UNWATCH": self._unwatch,
            "PASSWD": self._passwd,
            "TOKEN NEW": self._token_new,
            "TOKEN LIST": self._token_list,
            "TOKEN DROP": self._token_drop,
        }

    def post(self, visitor: Visitor, posts: Sequence[Post]) -> "Deferred[Outcome]":
        """Take messages; see `Messages.post`."""
        return self._messages.post(visitor.known(), posts)

    def serve(self, visitor: Visitor, command: Command) -> "Deferred[Result]":
        """
        Carry out a command.

        Returns:
            What comes of it; it never fails.
        """
        work = self._carry_out[command.request.verb.name]
        done = maybeDeferred(work, visitor, command.request.arguments)
        done.addErrback(explain)
        return done.addCallback(_with_usage, command.request.verb)

    def leave(self, visitor: Visitor) -> None:
        """Forget somebody whose conversation has ended."""
        visitor.has_left = True
        if visitor.avatar is not None:
            self._stop_watching(visitor)
            self._presence.leave(visitor.avatar)
            visitor.avatar = None
        if visitor.logout is not None:
            visitor.logout()
            visitor.logout = None

    # -- coming in --------------------------------------------------------------

    @inlineCallbacks
    def _login(
        self, visitor: Visitor, arguments: Arguments
    ) -> Generator[Any, Any, Answer]:
        written, password = arguments
        try:
            name = normalise_user_name(written)
        except PeerError:
            name = ""
        self._throttle.check(visitor.address, name, self._seconds())
        lock = yield self._presence.lock_of(name)
        credentials = PeerCredentials(name.encode(), password.encode(), visitor.address)
        secret = self._mixer.mailbox_secret(name, password)
        try:
            yield self._enter(visitor, credentials, secret, lock)
        except UnauthorizedLogin:
            self._throttle.failed(visitor.address, name, self._seconds())
            _log.info("login refused to {address}", address=visitor.address)
            raise
        self._throttle.succeeded(visitor.address, name)
        return Answer(f"you are {name}")

    @inlineCallbacks
    def _anonymous(self, visitor: Visitor, _: Arguments) -> Generator[Any, Any, Answer]:
        yield self._enter(visitor, Anonymous(), None, None)
        return Answer(visitor.known().name)

    @inlineCallbacks
    def _enter(
        self, visitor: Visitor, credentials: Any, secret: bytes | None, lock: Lock
    ) -> Generator[Any, Any, None]:
        _, avatar, logout = yield self._portal.login(
            credentials, secret, IReceiverAvatar
        )
        if avatar.standing is Standing.USER:
            yield self._presence.enter(avatar, lock, visitor.dismiss)
        if visitor.has_left:
            self._presence.leave(avatar)
            logout()
            raise PeerError(ErrorCode.NOT_ALLOWED, "the conversation is over")
        visitor.avatar = avatar
        visitor.logout = logout

    # -- messages -----------------------------------------------------------------

    def _last(self, visitor: Visitor, arguments: Arguments) -> Any:
        count = int(arguments[0]) if arguments[0] else None
        return self._messages.last(visitor.known(), visitor.address, count)

    def _read(self, visitor: Visitor, arguments: Arguments) -> Any:
        return self._messages.read(visitor.known(), visitor.address, arguments[0])

    def _drop(self, visitor: Visitor, arguments: Arguments) -> Any:
        return self._files.drop(visitor.known(), arguments[0])

    # -- files --------------------------------------------------------------------

    @inlineCallbacks
    def _put(
        self, visitor: Visitor, arguments: Arguments
    ) -> Generator[Any, Any, Receiving]:
        to, size, sha256, name = arguments
        upload = yield self._files.put(
            visitor.known(),
            visitor.address,
            to,
            int(size),
            bytes.fromhex(sha256),
            name,
        )
        return Receiving(Answer(f"go {upload.id} {upload.offset}"), upload)

    def _list_files(self, visitor: Visitor, _: Arguments) -> Any:
        return self._files.list(visitor.known(), visitor.address)

    @inlineCallbacks
    def _get(
        self, visitor: Visitor, arguments: Arguments
    ) -> Generator[Any, Any, Sending]:
        file_id, written = arguments
        offset = int(written or 0)
        it = yield self._files.get(visitor.known(), visitor.address, file_id, offset)
        return Sending(Answer(f"{it.size} {it.sha256} {it.name}"), it, offset)

    # -- watching -------------------------------------------------------------------

    def _watch(self, visitor: Visitor, _: Arguments) -> Answer:
        if not visitor.watching:
            visitor.watching = True
            self._announcer.watch(visitor.known().name, visitor.push)
        return Answer()

    def _unwatch(self, visitor: Visitor, _: Arguments) -> Answer:
        self._stop_watching(visitor)
        return Answer()

    def _stop_watching(self, visitor: Visitor) -> None:
        if visitor.watching:
            visitor.watching = False
            self._announcer.unwatch(visitor.known().name, visitor.push)

    # -- the account ----------------------------------------------------------------

    @inlineCallbacks
    def _passwd(
        self, visitor: Visitor, arguments: Arguments
    ) -> Generator[Any, Any, Answer]:
        avatar = visitor.known()
        account = yield self._password_change.change(
            avatar, visitor.address, arguments[0]
        )
        self._presence.password_changed(avatar, account)
        return Answer()

    def _token_new(self, visitor: Visitor, arguments: Arguments) -> Any:
        return self._tokens.make(visitor.known(), arguments[0])

    def _token_list(self, visitor: Visitor, _: Arguments) -> Any:
        return self._tokens.show(visitor.known())

    def _token_drop(self, visitor: Visitor, arguments: Arguments) -> Any:
        return self._tokens.drop(visitor.known(), arguments[0])


def _with_usage(result: Result, verb: Verb) -> Result:
    """Show how a request is written whose arguments will not do."""
    if not isinstance(result, PeerError) or result.code is not ErrorCode.USAGE:
        return result
    if result.words == verb.usage:
        return result
    return usage(f"{verb.usage}: {result.words}")

"""What stands behind every transport: accounts, boxes, and the desk before them."""

from collections.abc import Callable
from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from securerecv.access.checker import BcryptChecker
from securerecv.access.passwords import HashingPool, dummy_hash
from securerecv.access.realm import ReceiverRealm
from securerecv.access.throttle import LoginThrottle
from securerecv.intake.accountbook import AccountBook
from securerecv.intake.announcer import Announcer
from securerecv.intake.desk import Desk
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Messages
from securerecv.intake.passwordchange import PasswordChange
from securerecv.intake.presence import CHECK_EVERY_S, Presence
from securerecv.intake.tokens import Tokens
from securerecv.intake.vaultopening import Vault
from securerecv.settings import Settings
from securerecv.vault.store import Store
from securerecv.vault.tokens import TokenKeys

_log = Logger()


class Office:
    """
    Carries out what is asked for, however the request travelled.

    Args:
        settings: what the operator decided.
        vault: opened keys and store.
        reactor: what it runs on.

    Attributes:
        desk: takes the requests of conversations.
        messages: takes messages.
        tokens: finds the token that a sealed datagram names.
        presence: knows who is inside.
        store: what is kept.
        has_accounts: whether there was an account at the start.
    """

    def __init__(self, settings: Settings, vault: Vault, reactor: Any) -> None:
        self._reactor = reactor
        seconds: Callable[[], float] = reactor.seconds
        engine, name_key = vault.engine, vault.keyring.name_key
        self.store = Store(engine, name_key, settings.keep, reactor)
        self._hashing = HashingPool(reactor)
        locksmith = vault.locksmith
        mixer = locksmith.mixer
        dummy = dummy_hash(locksmith.work.bcrypt_rounds)
        checkers: list[Any] = [BcryptChecker(self.store, mixer, self._hashing, dummy)]
        if settings.anonymous:
            checkers.append(AllowAnonymousAccess())
        announcer = Announcer()
        self.presence = Presence(self.store)
        mailboxes = Mailboxes(self.store, self._hashing)
        token_keys = TokenKeys(vault.keyring.token_key)
        self.tokens = Tokens(self.store, mailboxes, token_keys, seconds)
        book = AccountBook(engine, name_key, locksmith)
        self.has_accounts = book.count() > 0
        self.messages = Messages(
            self.store, announcer, mailboxes, seconds, settings.keep
        )
        self.desk = Desk(
            portal=Portal(ReceiverRealm(), checkers),
            mixer=mixer,
            throttle=LoginThrottle(),
            announcer=announcer,
            messages=self.messages,
            password_change=PasswordChange(
                self.store, mailboxes, locksmith, self._hashing
            ),
            tokens=self.tokens,
            presence=self.presence,
            seconds=seconds,
        )

    def start(self) -> None:
        """
        Start the threads.

        Raises:
            OperatorError: the store cannot be opened.
        """
        self.tokens.load()
        self.store.start()
        self._checks = [
            self._check("accounts", self.presence.check),
            self._check("tokens", self.tokens.check),
        ]
        self._hashing.start()

    def close(self) -> None:
        """Look no more at what is changed beside the server."""
        for check in self._checks:
            if check.running:
                check.stop()

    def stop(self) -> "Deferred[None]":
        """
        Finish what was begun; when nobody asks for anything any more.

        Returns:
            Fires when everything is on disk and closed.
        """
        stopped = deferToThread(self._hashing.stop)
        return stopped.addCallback(lambda _: deferToThread(self.store.stop))

    def _check(self, what: str, check: Callable[[], Any]) -> LoopingCall:
        """Follow again and again what is changed beside the server."""
        checking = LoopingCall(check)
        checking.clock = self._reactor
        checking.start(CHECK_EVERY_S, now=False).addErrback(
            lambda failure: _log.failure(
                "{what} are not checked", failure=failure, what=what
            )
        )
        return checking

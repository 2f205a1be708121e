"""What stands behind every transport: accounts, boxes, and the desk before them."""

from collections.abc import Callable, Generator
from typing import Any

from twisted.cred.checkers import AllowAnonymousAccess
from twisted.cred.portal import Portal
from twisted.internet.defer import gatherResults, inlineCallbacks
from twisted.internet.task import LoopingCall
from twisted.internet.threads import deferToThread
from twisted.logger import Logger

from securerecv.access.checker import BcryptChecker
from securerecv.access.passwords import HashingPool, dummy_hash
from securerecv.access.realm import ReceiverRealm
from securerecv.access.throttle import LoginThrottle
from securerecv.assembly.brought import Brought
from securerecv.assembly.callbacks import Callback, Callbacks
from securerecv.errors import OperatorError, StorageError
from securerecv.intake.accountbook import AccountBook
from securerecv.intake.announcer import Announcer
from securerecv.intake.broughtboxes import BroughtBoxes
from securerecv.intake.desk import Desk
from securerecv.intake.keptfiles import CHECK_EVERY_S as FILES_EVERY_S
from securerecv.intake.keptfiles import FileRules, KeptFiles
from securerecv.intake.mailboxes import Mailboxes
from securerecv.intake.messages import Boxes, Messages
from securerecv.intake.passwordchange import PasswordChange
from securerecv.intake.presence import CHECK_EVERY_S, Presence
from securerecv.intake.sealedboxes import SealedBoxes
from securerecv.intake.tokens import Tokens
from securerecv.intake.vaultopening import Vault
from securerecv.interfaces import ReceivedFile
from securerecv.limits import GOODBYE_S
from securerecv.scanning.scanner import ClamdScanner
from securerecv.settings import Settings
from securerecv.vault.blobs import open_blobs
from securerecv.vault.filekeys import FileKeys
from securerecv.vault.store import Store
from securerecv.vault.tokens import TokenKeys
from securerecv.wire.filelines import FileRecord

_log = Logger()


class Office:
    """
    Carries out what is asked for, however the request travelled.

    Args:
        settings: what the operator decided.
        vault: opened keys and store.
        reactor: what it runs on.
        brought: what an application brings of its own.

    Attributes:
        desk: takes the requests of conversations.
        messages: takes messages.
        tokens: finds the token that a sealed datagram names.
        presence: knows who is inside.
        store: what is kept.
        files: keeps files.
        has_accounts: whether there was an account at the start.
    """

    def __init__(
        self, settings: Settings, vault: Vault, reactor: Any, brought: Brought
    ) -> None:
        self._reactor = reactor
        seconds: Callable[[], float] = reactor.seconds
        engine, name_key = vault.engine, vault.keyring.name_key
        self.store = Store(engine, name_key, settings.keep, reactor)
        # An application starts and stops what it brings.
        self._clamd: ClamdScanner | None = None
        scanner = brought.scanner
        if scanner is None:
            scanner = self._clamd = ClamdScanner(settings, reactor)
        self._hashing = HashingPool(reactor)
        locksmith = vault.locksmith
        mixer = locksmith.mixer
        dummy = dummy_hash(locksmith.work.bcrypt_rounds)
        checkers: list[Any] = list(brought.checkers)
        if not checkers:
            checkers += [BcryptChecker(self.store, mixer, self._hashing, dummy)]
        if settings.anonymous:
            checkers.append(AllowAnonymousAccess())
        announcer = self._announcer = Announcer()
        self.presence = Presence(self.store)
        mailboxes = Mailboxes(self.store, self._hashing)
        token_keys = TokenKeys(vault.keyring.token_key)
        self.tokens = Tokens(self.store, mailboxes, token_keys, seconds)
        book = AccountBook(engine, name_key, locksmith)
        self.has_accounts = book.count() > 0
        boxes: Boxes = SealedBoxes(self.store, mailboxes, settings.keep)
        if brought.messages is not None:
            boxes = BroughtBoxes(brought.messages, self.store.keep, settings.keep)
        self._callbacks: list[Callbacks[Any]] = []
        tell = self._tells("on_message", brought.on_message)
        self._tell_of_file = self._tells("on_file", brought.on_file)
        self.messages = Messages(boxes, announcer, seconds, tell)
        self.files = KeptFiles(
            self.store,
            open_blobs(settings.data),
            FileKeys(vault.keyring.file_key),
            mailboxes,
            boxes,
            scanner,
            self._announce_file,
            reactor,
            FileRules.of(settings),
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
            files=self.files,
            presence=self.presence,
            seconds=seconds,
        )

    @property
    def scanner_words(self) -> str:
        """Say which scanner there is, or why there is none, in one line."""
        return "the application's" if self._clamd is None else self._clamd.words

    def start(self) -> None:
        """
        Start the threads.

        Raises:
            OperatorError: the store, or the files, cannot be read.
        """
        self.tokens.load()
        self.store.start()
        try:
            queued = self.files.start()
        except StorageError as error:
            self.files.stop()
            self.store.stop()
            raise OperatorError(str(error)) from error
        queued.addErrback(
            lambda failure: _log.failure("files are not scanned", failure=failure)
        )
        self._checks = [
            self._check("accounts", self.presence.check),
            self._check("tokens", self.tokens.check),
            self._check("old files", self.files.check, FILES_EVERY_S),
        ]
        self._hashing.start()
        if self._clamd is not None:
            self._clamd.start()

    def close(self) -> None:
        """Look no more at what is changed beside the server; take no more files."""
        self.files.close()
        for check in self._checks:
            if check.running:
                check.stop()

    @inlineCallbacks
    def stop(self) -> Generator[Any, Any, None]:
        """Finish what was begun; when nobody asks for anything any more."""
        told = [callbacks.finish(GOODBYE_S) for callbacks in self._callbacks]
        yield gatherResults(told)
        if self._clamd is not None:
            yield self._clamd.stop()
        yield deferToThread(self.files.stop)
        yield deferToThread(self._hashing.stop)
        self.store.flush()
        yield deferToThread(self.store.stop)

    def _announce_file(self, to: str, record: FileRecord) -> None:
        """Tell who watches, and the application."""
        self._announcer.announce(to, record)
        if self._tell_of_file is not None:
            self._tell_of_file([_received(to, record)])

    def _tells(self, name: str, callback: Callback[Any] | None) -> Any:
        """Give what tells the application, if it wants to be told."""
        if callback is None:
            return None
        callbacks = Callbacks(name, callback, self._reactor)
        self._callbacks.append(callbacks)
        return callbacks.tell

    def _check(
        self, what: str, check: Callable[[], Any], every_s: float = CHECK_EVERY_S
    ) -> LoopingCall:
        """Follow again and again what is changed beside the server."""
        checking = LoopingCall(check)
        checking.clock = self._reactor
        checking.start(every_s, now=False).addErrback(
            lambda failure: _log.failure(
                "{what} are not checked", failure=failure, what=what
            )
        )
        return checking


def _received(to: str, record: FileRecord) -> ReceivedFile:
    return ReceivedFile(
        record.id,
        to,
        record.state.value,
        record.size,
        record.sha256,
        record.sender,
        record.when_ms,
        record.name,
        record.why,
    )

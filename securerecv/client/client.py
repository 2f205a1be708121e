"""The client: one method for each request."""

import os
import re
from collections.abc import Callable
from typing import BinaryIO

from attrs import evolve
from twisted.internet.defer import Deferred

from securerecv.client.channel import LOGIN_TIMEOUT_S, Channel
from securerecv.client.content import Progress
from securerecv.client.incoming import Incoming, incoming_file
from securerecv.client.outgoing import Outgoing, outgoing
from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.wire.filelines import FileRecord
from securerecv.wire.filereplies import (
    FileReceipt,
    Found,
    reason_of,
    receipt_of,
    record_of,
    records_of,
)
from securerecv.wire.lines import Answer, Message
from securerecv.wire.replies import Limits, NotUnderstoodError, Pushed, message_of

_KEY = re.compile(r"x25519 ([0-9a-f]{64})")


class Client:
    """
    One conversation with a server.

    Every method may be called before the answers to earlier calls are there;
    answers come in the order of the calls.  Each Deferred fails with
    `PeerError` when the server refuses, with `DisconnectedError` when the
    conversation ends first, and with `NotUnderstoodError` when the server does
    not keep to the protocol.  A user name or an id with a blank in it, and a
    line with a line end in it, raise `MisuseError`.

    Args:
        channel: what carries the words.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._watcher: Callable[[Message], None] | None = None
        self._file_watcher: Callable[[FileRecord], None] | None = None
        self._last_file: FileRecord | None = None
        channel.pushed = self._pushed

    @property
    def pin(self) -> str:
        """The server's key, ``sha256//`` and base64."""
        return self._channel.pin

    @property
    def limits(self) -> Limits:
        """What the server takes."""
        return self._channel.greeting.limits

    @property
    def notice(self) -> str:
        """The server's legal notice, one line."""
        return self._channel.greeting.notice

    # -- who one is -------------------------------------------------------------

    def login(self, user: str, password: str) -> "Deferred[None]":
        """Log in."""
        line = f"LOGIN {_word(user)} {password}"
        return self._channel.request(line, timeout_s=LOGIN_TIMEOUT_S).addCallback(_done)

    def anonymous(self) -> "Deferred[str]":
        """Go on without a name; fires with the address of this session."""
        return self._channel.request("ANON").addCallback(_word_of)

    def whoami(self) -> "Deferred[str]":
        """Fires with the user name or the anonymous address."""
        return self._channel.request("WHOAMI").addCallback(_words)

    def passwd(self, new_password: str) -> "Deferred[None]":
        """Change the password; the user's other sessions are ended."""
        line = f"PASSWD {new_password}"
        return self._channel.request(line, timeout_s=LOGIN_TIMEOUT_S).addCallback(_done)

    # -- messages ---------------------------------------------------------------

    def say(self, to: str, text: str) -> "Deferred[str]":
        """
        Send one line of text.

        Args:
            to: a user name or an anonymous address.
            text: without line ends, and not empty.

        Returns:
            Fires with the message's id when it is durable.
        """
        return self._channel.request(f"SAY {_word(to)} {text}").addCallback(_word_of)

    def send(self, to: str, body: bytes) -> "Deferred[str]":
        """
        Send any bytes.  Over UDP they must fit a datagram.

        Args:
            to: a user name or an anonymous address.
            body: 0 to ``limits.message`` bytes.

        Returns:
            Fires with the message's id when it is durable.

        Raises:
            PeerError: ``too-large``; the server does not take that many, and
                was not asked.
        """
        most = self.limits.message
        if len(body) > most:
            words = f"a message has at most {most} bytes, and this one {len(body)}"
            raise PeerError(ErrorCode.TOO_LARGE, words)
        line = f"SEND {_word(to)} {len(body)}"
        return self._channel.request(line, body).addCallback(_word_of)

    def last(self, count: int | None = None) -> "Deferred[list[Message]]":
        """Fires with the last messages of one's box, oldest first."""
        line = "LAST" if count is None else f"LAST {count}"
        return self._channel.request(line).addCallback(_messages)

    def read(self, message_id: str) -> "Deferred[Message]":
        """Fires with one message of one's box."""
        line = f"READ {_word(message_id)}"
        return self._channel.request(line).addCallback(_one_message)

    def drop(self, message_id: str) -> "Deferred[None]":
        """Delete one message or file of one's box."""
        return self._channel.request(f"DROP {_word(message_id)}").addCallback(_done)

    def watch(
        self,
        on_message: Callable[[Message], None],
        on_file: Callable[[FileRecord], None] | None = None,
    ) -> "Deferred[None]":
        """
        Be told of what comes in.

        Args:
            on_message: called with each message.  What it raises ends the
                conversation, and comes out of `closed`.
            on_file: called with each file when it is complete, and again when
                it was scanned; once more with the reason if it is infected or
                held.  What it raises does the same.
        """
        self._watcher = on_message
        self._file_watcher = on_file
        return self._channel.request("WATCH").addCallback(_done)

    def unwatch(self) -> "Deferred[None]":
        """Be told no more."""
        return self._channel.request("UNWATCH").addCallback(_done)

    # -- files ------------------------------------------------------------------

    def put(
        self,
        to: str,
        what: str | os.PathLike[str] | BinaryIO | Outgoing,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> "Deferred[FileReceipt]":
        """
        Send a file; one that was sent in part before is gone on with.

        Sending the same again when it is complete sends nothing, and tells what
        has become of it: at first, it may still be ``scanning``.

        Args:
            to: a user.
            what: a path; an open file, binary and seekable; or a file that is
                ready to be sent (`securerecv.client.outgoing.outgoing`), so that
                it need not be read again for its SHA-256.
            name: what it is to be called; else as the path.
            progress: is told how far it is; not for what is ready already.

        Returns:
            Fires when the file is durable, which says nothing yet of the scan.
            Also fails with OSError when it cannot be read.
        """
        return Deferred.fromCoroutine(self._put(_word(to), what, name, progress))

    async def _put(
        self,
        to: str,
        what: str | os.PathLike[str] | BinaryIO | Outgoing,
        name: str | None,
        progress: Progress | None,
    ) -> FileReceipt:
        if isinstance(what, Outgoing):
            return await self._send_file(to, what)
        with await outgoing(what, name, progress) as file:
            return await self._send_file(to, file)

    async def _send_file(self, to: str, file: Outgoing) -> FileReceipt:
        most = self.limits.file
        if file.size > most:
            words = f"a file has at most {most} bytes, and this one {file.size}"
            raise PeerError(ErrorCode.TOO_LARGE, words)
        line = f"PUT {to} {file.size} {file.sha256} {file.name}"
        answer = await self._channel.upload(line, file)
        return receipt_of(answer.words)

    def files(self) -> "Deferred[list[FileRecord]]":
        """Fires with the files of one's box, oldest first."""
        return self._channel.request("FILES").addCallback(_records)

    def get(
        self,
        file_id: str,
        place: str | os.PathLike[str] | BinaryIO | Incoming,
        progress: Progress | None = None,
        *,
        force: bool = False,
    ) -> "Deferred[Found]":
        """
        Fetch a clean file, or the body of a message, and check its SHA-256.

        Args:
            file_id: its id.
            place: the path that it is to have; the folder that it is to be in,
                under the name that the server says, made harmless; an open
                file, binary and buffered; or what is ready to receive it
                (`securerecv.client.incoming`).  In a folder, it is called
                ``<id>.part`` until it is complete, and gone on with if it is
                there already.
            progress: is told how far it is; not for what is ready already.
            force: whether it may take the place of another file.

        Returns:
            Fires when it is complete and in its place.  Also fails with
            FileExistsError, with OSError when it cannot be written, and with
            `DamagedFileError`.  If it fails when bytes are on their way, the
            conversation is over.
        """
        return Deferred.fromCoroutine(
            self._get(_word(file_id), place, progress, force=force)
        )

    async def _get(
        self,
        file_id: str,
        place: str | os.PathLike[str] | BinaryIO | Incoming,
        progress: Progress | None,
        *,
        force: bool,
    ) -> Found:
        if isinstance(place, str | os.PathLike):
            made = await incoming_file(file_id, place, force=force, progress=progress)
            try:
                return await self._receive_file(file_id, made)
            finally:
                made.close()
        if not isinstance(place, Incoming):
            place = Incoming(place, progress)
        return await self._receive_file(file_id, place)

    async def _receive_file(self, file_id: str, file: Incoming) -> Found:
        found = await self._channel.download(f"GET {file_id} {file.offset}", file)
        file.finish()
        return found

    # -- the conversation -------------------------------------------------------

    def ping(self) -> "Deferred[None]":
        """See whether the server answers."""
        return self._channel.request("PING").addCallback(_done)

    def sealing_key(self) -> "Deferred[bytes]":
        """Fires with the server's key for sealed datagrams, X25519, 32 bytes."""
        return self._channel.request("KEY").addCallback(_key_of)

    def quit(self) -> "Deferred[None]":
        """End the conversation when everything before is answered."""

        def end(_: Answer) -> "Deferred[None]":
            self._channel.close()
            return self._channel.closed()

        return self._channel.request("QUIT").addCallback(end)

    def closed(self) -> "Deferred[None]":
        """See `Channel.closed`."""
        return self._channel.closed()

    def _pushed(self, pushed: Pushed) -> None:
        kind, _, _ = pushed.text.partition(" ")
        if kind == "MSG" and self._watcher is not None:
            self._watcher(message_of(pushed.text, pushed.payload))
        elif kind == "FILE" and self._file_watcher is not None:
            self._last_file = record_of(pushed.text)
            self._file_watcher(self._last_file)
        elif kind == "WHY" and self._file_watcher is not None:
            number, why = reason_of(pushed.text)
            if self._last_file is not None and self._last_file.id == number:
                self._file_watcher(evolve(self._last_file, why=why))


def _word(text: str) -> str:
    if not text or " " in text:
        raise MisuseError(f"{text!r} is not one word")
    return text


def _done(_: Answer) -> None:
    return None


def _words(answer: Answer) -> str:
    return answer.words


def _word_of(answer: Answer) -> str:
    word, _, _ = answer.words.partition(" ")
    if not word:
        raise NotUnderstoodError("the server's answer lacks a word")
    return word


def _key_of(answer: Answer) -> bytes:
    match = _KEY.fullmatch(answer.words)
    if match is None:
        raise NotUnderstoodError("the server did not send an X25519 key")
    return bytes.fromhex(match[1])


def _records(answer: Answer) -> list[FileRecord]:
    return records_of(text for text, _ in answer.lines)


def _messages(answer: Answer) -> list[Message]:
    return [message_of(text, payload) for text, payload in answer.lines]


def _one_message(answer: Answer) -> Message:
    messages = _messages(answer)
    if len(messages) != 1:
        raise NotUnderstoodError("the server did not send one message")
    return messages[0]

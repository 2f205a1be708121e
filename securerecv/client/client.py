"""The client: one method for each request."""

import re
from collections.abc import Callable

from twisted.internet.defer import Deferred

from securerecv.client.channel import LOGIN_TIMEOUT_S, Channel
from securerecv.errors import ErrorCode, MisuseError, PeerError
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
        """Delete one message of one's box."""
        return self._channel.request(f"DROP {_word(message_id)}").addCallback(_done)

    def watch(self, watcher: Callable[[Message], None]) -> "Deferred[None]":
        """
        Be told of messages as they come in.

        Args:
            watcher: called with each.  What it raises ends the conversation,
                and comes out of `closed`.
        """
        self._watcher = watcher
        return self._channel.request("WATCH").addCallback(_done)

    def unwatch(self) -> "Deferred[None]":
        """Be told no more."""
        return self._channel.request("UNWATCH").addCallback(_done)

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
        if self._watcher is not None and pushed.text.startswith("MSG "):
            self._watcher(message_of(pushed.text, pushed.payload))


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


def _messages(answer: Answer) -> list[Message]:
    return [message_of(text, payload) for text, payload in answer.lines]


def _one_message(answer: Answer) -> Message:
    messages = _messages(answer)
    if len(messages) != 1:
        raise NotUnderstoodError("the server did not send one message")
    return messages[0]

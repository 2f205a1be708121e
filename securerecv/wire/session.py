"""
One conversation, seen from the server: bytes in, requests out, answers in order.

A `Session` has no socket, clock or thread.  Three things drive it, and each
may be followed by `next_event`, `data_to_send` and `deadline`:

* `receive` – bytes came from the peer;
* `answer`, `answer_posts`, `push` – the server has something to say;
* `begin_upload`, `begin_download` – a file's content follows an answer;
* `expire` – the time that `deadline` named has come.

Everything that affects the state of a conversation lives in this module.
"""

from collections import deque
from collections.abc import Mapping, Sequence

from attrs import frozen

from securerecv.errors import ErrorCode, MisuseError, PeerError
from securerecv.limits import (
    IDLE_TIMEOUT_S,
    LOGIN_TIMEOUT_S,
    MAX_POST_BYTES_IN_FLIGHT,
    MAX_POSTS_IN_FLIGHT,
    MIN_PAYLOAD_BYTES_PER_S,
    REQUEST_TIMEOUT_S,
)
from securerecv.wire.budget import Share
from securerecv.wire.content import Incoming, Outgoing
from securerecv.wire.events import Chunk, Command, Event, Posts, Slot
from securerecv.wire.lines import (
    NOTICE,
    Answer,
    Post,
    information,
    piece,
    refusal,
    usage,
)
from securerecv.wire.reader import Item, Reader, Request
from securerecv.wire.verbs import (
    FAMILIES,
    NEWCOMERS,
    USERS,
    VERBS,
    Standing,
    Verb,
)

MAX_QUEUED_ANSWERS = 1024
MAX_UNSENT_BYTES = 65536
"""Answers that may gather before `Session.data_to_send` is asked for them."""


@frozen
class Terms:
    """
    What the greeting tells a peer about the server.

    Attributes:
        max_message: bytes of the largest message taken.
        max_file: bytes of the largest file taken.
        keep: messages that a box keeps.
        anonymous: whether ``ANON`` is let in.
        sealing_key: the server's raw X25519 public key, 32 bytes.
    """

    max_message: int
    max_file: int
    keep: int
    anonymous: bool
    sealing_key: bytes

    def greeting(self) -> bytes:
        """Give the lines that open every conversation."""
        anonymous = "yes" if self.anonymous else "no"
        way_in = "LOGIN <user> <password>"
        if self.anonymous:
            way_in += ", or ANON"
        return (
            "* securerecv/1 ready\n"
            f"* NOTICE {NOTICE}\n"
            f"* LIMITS message={self.max_message} file={self.max_file}"
            f" keep={self.keep} anonymous={anonymous}\n"
            f"* HINT {way_in}; HELP lists every command\n"
        ).encode()


class Session:
    """
    The server's side of one conversation.

    Args:
        terms: what the server offers.
        budget: the peer's allowance for payloads.
        now: seconds on the clock that all other times are on.

    Attributes:
        standing: who is speaking; changed by whoever carries out ``LOGIN``.
        name: the user name or anonymous address that goes with it.
        watching: the peer has asked to be shown what comes in.
        is_ending: nothing more is read.
    """

    def __init__(self, terms: Terms, budget: Share, now: float) -> None:
        self.standing = Standing.NEW
        self.name = ""
        self.watching = False
        self.is_ending = False
        self._terms = terms
        self._budget = budget
        self._reader = Reader(terms.max_message, budget, self._check_standing)
        self._began = now
        self._now = now
        self._unfinished_since: float | None = None

        self._held: Command | None = None
        self._commanded = False
        self._upload: Incoming | None = None
        self._download: Outgoing | None = None
        self._posts_in_flight = 0
        self._bytes_in_flight = 0
        self._slots: deque[Slot] = deque()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._put_out([terms.greeting()])

    # -- what drives it -------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the peer; `next_event` says what they mean."""
        self._now = now
        if not self.is_ending:
            self._reader.feed(data)
        if self._upload is not None:
            self._upload.came(len(data), now)

    def receive_records(self, records: Sequence[bytes], now: float) -> None:
        """Take what came from the peer in several pieces."""
        for record in records:
            self.receive(record, now)

    def answer(self, command: Command, answer: Answer | PeerError) -> None:
        """Answer a command; the session goes on behind it."""
        if not self._commanded or self._slots[0] is not command.slot:
            raise MisuseError("this command is not waiting for its answer")
        self._commanded = False
        command.slot.answer = self._write(answer, command.request.tag)
        self._flush()

    def answer_posts(
        self, posts: Posts, ids: Sequence[bytes], refusals: Mapping[int, PeerError]
    ) -> None:
        """
        Answer messages.

        Args:
            posts: from `next_event`.
            ids: for each message its new id.
            refusals: why some were not taken, by their index.
        """
        if posts.slot.answer is not None:
            raise MisuseError("these messages are answered already")
        lines = [
            f"{post.tag}+OK {number.hex()}\n"
            for post, number in zip(posts.items, ids, strict=True)
        ]
        for index, error in refusals.items():
            lines[index] = refusal(error, posts.items[index].tag)
        posts.slot.answer = self._write_posts(posts.items, lines)
        self._posts_in_flight -= len(lines)
        self._bytes_in_flight -= posts.size
        self._budget.give_back(posts.size)
        self._flush()

    def begin_upload(
        self, command: Command, answer: Answer, size: int, now: float
    ) -> None:
        """
        Answer a ``PUT``, and take the content that follows as `Chunk` events.

        Args:
            command: it.
            answer: its first answer.  With the last chunk the command waits for
                the second, and gets it by `answer`.
            size: bytes to come; with 0 there is one chunk, and it is empty.
            now: seconds.
        """
        self.answer(command, answer)
        if not self.is_ending:
            self._upload = Incoming(command, size, now)

    def next_chunk(self, now: float) -> None:
        """Go on with an upload: the chunk before is done with."""
        if self._upload is not None:
            self._upload.go_on(now)

    def begin_download(self, command: Command, answer: Answer, size: int) -> None:
        """
        Answer a ``GET`` whose content follows by `send_content`.

        Until all of it is given, nothing else is read or said.

        Args:
            command: it.
            answer: its answer.
            size: bytes to follow.
        """
        if self.is_ending:
            self.answer(command, PeerError(ErrorCode.BUSY, "too late; connect again"))
            return
        self.answer(command, answer)
        if size:
            self._download = Outgoing(size, self._budget)

    def send_content(self, data: bytes, now: float) -> None:
        """Give the next bytes of a download; when it is over, this does nothing."""
        if self._download is None:
            return
        self._now = now
        self._download.give(len(data))
        self._put_out([data])
        if not self._download.left:
            self._put_out(self._download.let_go())
            self._download = None

    @property
    def is_amid_content(self) -> bool:
        """Whether the peer would take anything else for a download's content."""
        return self._download is not None

    def push(self, text: str, payload: bytes | None = None) -> bool:
        """
        Say something that was not asked for, between two answers.

        During a download it waits until that is complete.

        Returns:
            False if it will not be said: the conversation is ending, or too
            much waits already.
        """
        if self.is_ending:
            return False
        data = piece(f"! {text}", payload, self._room)
        if self._download is not None:
            return self._download.push(data)
        self._put_out([data])
        return True

    def expire(self, now: float) -> None:
        """End the conversation if its deadline has passed."""
        deadline = self.deadline()
        if deadline is not None and now >= deadline:
            words = "nothing complete came in time; connect again"
            tag = self._reader.tag if self._upload is None else self._upload.tag
            self._say(self._write(PeerError(ErrorCode.TIMEOUT, words), tag))
            self._end()

    def close(self) -> None:
        """
        Stop reading: the peer has gone.

        What is being carried out must still be answered: messages in flight
        count against the budget until they are.
        """
        self._end()

    # -- what comes out -------------------------------------------------------

    def data_to_send(self) -> list[bytes]:
        """Give what the peer is to be sent, once: what to write in one go each."""
        pieces, self._out = self._out, []
        self._out_bytes = 0
        return self._pack(pieces) if pieces else []

    @property
    def finished(self) -> bool:
        """Nothing more will be said: send what there is and hang up."""
        return self.is_ending and not self._slots

    @property
    def awaits_rest(self) -> bool:
        """Whether the peer has begun something, and is to go on with it soon."""
        return self._unfinished_since is not None or self._upload is not None

    @property
    def wants_data(self) -> bool:
        """Whether more bytes should be read from the peer now."""
        return self._held is None and self._may_read()

    @property
    def has_unread(self) -> bool:
        """Whether anything has come that `next_event` has not given yet."""
        return self._held is not None or self._reader.is_amid_request

    def deadline(self) -> float | None:
        """Tell when `expire` is to be called, on the clock of ``now``."""
        if self._slots or self.is_ending or self._download is not None:
            return None
        if self._upload is not None:
            return self._upload.deadline
        deadlines = []
        if self._unfinished_since is not None:
            payload_s = self._reader.payload_bytes / MIN_PAYLOAD_BYTES_PER_S
            deadlines.append(self._unfinished_since + REQUEST_TIMEOUT_S + payload_s)
        if self.standing is Standing.NEW:
            deadlines.append(self._began + LOGIN_TIMEOUT_S)
        elif not (self.watching and self._watchers_may_be_silent):
            deadlines.append(self._now + IDLE_TIMEOUT_S)
        return min(deadlines, default=None)

    def next_event(self) -> Event | None:
        """
        Give the next request that somebody must carry out, or None for now.

        Messages that follow each other come as one event, and more of them
        may be asked for while earlier ones are being stored.  A command comes
        only when everything before it is answered, and nothing comes until it
        is answered itself.  When it gives None, fetch `data_to_send`; if there
        was some, and there is something unread, ask again, since answers are not
        gathered without end.
        """
        if self._upload is not None:
            return self._next_chunk(self._upload)
        posts: list[Post] = []
        size = 0
        while self.has_unread and self._may_read():
            more, more_bytes = ([], 0) if self._held else self._read_posts()
            if more:
                self._unfinished_since = None
                self._count(more, more_bytes)
                posts += more
                size += more_bytes
                continue
            item = self._held or self._read()
            self._held = None
            if item is None:
                break
            if isinstance(item, Post):
                self._count([item], len(item.body))
                posts.append(item)
                size += len(item.body)
            elif isinstance(item, list):
                event = self._together(posts, size)
                self._say(item)
                if event:
                    return event
            elif posts or self._slots:
                self._held = item
                break
            else:
                self._commanded = True
                self._slots.append(item.slot)
                return item
        return self._together(posts, size)

    def _may_read(self) -> bool:
        """Whether there is room, and nothing must be carried out before."""
        return (
            not self._commanded
            and not self.is_ending
            and self._download is None
            and (self._upload is None or not self._upload.is_stopped)
            and self._posts_in_flight < MAX_POSTS_IN_FLIGHT
            and self._bytes_in_flight < MAX_POST_BYTES_IN_FLIGHT
            and len(self._slots) < MAX_QUEUED_ANSWERS
            and self._out_bytes < MAX_UNSENT_BYTES
        )

    def _next_chunk(self, upload: Incoming) -> Chunk | None:
        chunk = upload.next_chunk(self._reader.take, self._now)
        if chunk is not None and chunk.is_last:
            self._upload = None
            self._commanded = True
            self._slots.append(chunk.command.wait_again())
        return chunk

    def _count(self, posts: Sequence[Post], size: int) -> None:
        """Count messages and their bytes as in flight, until they are answered."""
        self._posts_in_flight += len(posts)
        self._bytes_in_flight += size

    def _together(self, posts: list[Post], size: int) -> Posts | None:
        if not posts:
            return None
        event = Posts(posts, size)
        self._slots.append(event.slot)
        return event

    # -- answers in order -----------------------------------------------------

    def _say(self, answer: list[bytes]) -> None:
        if self._slots:
            self._slots.append(Slot(answer))
        else:
            self._put_out(answer)

    def _flush(self) -> None:
        while self._slots and self._slots[0].answer is not None:
            self._put_out(self._slots.popleft().answer or [])

    def _put_out(self, pieces: list[bytes]) -> None:
        self._out += pieces
        self._out_bytes += sum(map(len, pieces))

    # -- what differs where bytes come in records (`securerecv.wire.records`) ---

    _room: int | None = None
    """What fits in one record, in bytes."""

    _watchers_may_be_silent = True

    def _write(self, answer: Answer | PeerError, tag: str) -> list[bytes]:
        if isinstance(answer, PeerError):
            return [refusal(answer, tag).encode()]
        return answer.pieces(tag, self._room)

    def _write_posts(self, posts: Sequence[Post], lines: Sequence[str]) -> list[bytes]:
        return ["".join(lines).encode()]

    def _pack(self, pieces: list[bytes]) -> list[bytes]:
        return [b"".join(pieces)]

    def _next_item(self) -> Item | None:
        item = self._reader.next()
        if self._reader.broken:
            self._end()
        return item

    def _end(self) -> None:
        self.is_ending = True
        self._unfinished_since = None
        self._reader.close()
        self._held = None
        self._upload = None
        if self._download is not None:
            self._download.let_go()
            self._download = None

    # -- requests ---------------------------------------------------------------

    def _read_posts(self) -> tuple[list[Post], int]:
        """Read the many messages that may be next; see `Reader.posts`."""
        return self._reader.posts(
            MAX_POSTS_IN_FLIGHT - self._posts_in_flight,
            MAX_POST_BYTES_IN_FLIGHT - self._bytes_in_flight,
        )

    def _read(self) -> Post | Command | list[bytes] | None:
        """Read one request, or give the answer to one that needs nobody else."""
        item = self._next_item()
        if item is None:
            if not self._reader.is_amid_request:
                self._unfinished_since = None
            elif self._unfinished_since is None:
                self._unfinished_since = self._now
            return None
        self._unfinished_since = None
        if isinstance(item, Post):
            return item
        if isinstance(item, Request):
            try:
                answer = self._answer_at_once(item)
            except PeerError as error:
                return self._write(error, item.tag)
            return self._write(answer, item.tag) if answer else Command(item)
        return self._write(item.error, item.tag)

    def _check_standing(self, verb: Verb) -> None:
        if self.standing in verb.who:
            return
        if self.standing is Standing.NEW:
            way_in = "LOGIN" if verb.who == USERS else "LOGIN or ANON"
            words = f"{verb.name} comes after {way_in}"
            raise PeerError(ErrorCode.LOGIN_FIRST, words)
        if verb.who == NEWCOMERS:
            words = f"you are {self.name} already; connect again to be someone else"
        else:
            words = f"{verb.name} is for those who logged in"
        raise PeerError(ErrorCode.NOT_ALLOWED, words)

    def _answer_at_once(self, request: Request) -> Answer | None:
        """Answer what needs nobody else, or give None."""
        match request.verb.name:
            case "PING":
                answer = Answer("pong")
            case "NOTICE":
                answer = information([f"NOTICE {NOTICE}"])
            case "WHOAMI":
                answer = Answer(self.name or "nobody yet: LOGIN or ANON")
            case "KEY":
                answer = Answer(f"x25519 {self._terms.sealing_key.hex()}")
            case "HELP":
                answer = _help(request.arguments[0])
            case "QUIT":
                self._end()
                answer = Answer("goodbye")
            case _:
                return None
        return answer


def _help(words: str) -> Answer:
    if not words:
        return information(f"{verb.usage}: {verb.help}" for verb in VERBS.values())
    name = " ".join(words.upper().split())
    verbs = FAMILIES.get(name) or tuple(v for v in VERBS.values() if v.name == name)
    if not verbs:
        raise usage(VERBS["HELP"].usage)
    return information(f"{verb.usage}: {verb.help}" for verb in verbs)

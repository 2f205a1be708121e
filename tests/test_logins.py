"""Logging in under attack, against a real server with hashes that take a while."""

from __future__ import annotations

from twisted.internet.defer import DeferredList, ensureDeferred
from twisted.trial.unittest import TestCase

from securerecv import limits
from securerecv.intake.accountbook import open_account_book
from securerecv.intake.locksmith import WorkFactors
from securerecv.settings import Settings
from tests.support import (
    Talker,
    add_accounts,
    connect,
    logged_in,
    new_folder,
    pause,
    start_receiver,
)

SLOW = WorkFactors(bcrypt_rounds=9, scrypt_log_n=4)


class LoginTests(TestCase):
    """Floods and guesses."""

    def setUp(self) -> None:
        """Start a receiver."""
        self.settings = Settings(
            proto="tcp", port=0, interface="127.0.0.1", data=new_folder(self)
        )
        add_accounts(self.settings, SLOW, alice="a", bob="b")
        self.receiver = start_receiver(self, self.settings, SLOW)

    async def test_others_go_on(self) -> None:
        """While logins are queued, other conversations are answered before them."""
        bob = await logged_in(self, self.receiver, "bob", "b")
        crowd = [await connect(self, self.receiver) for _ in range(50)]
        for talker in crowd:
            talker.say("LOGIN alice a")
        for number in range(20):
            self.assertEqual(await bob.ask("PING"), ["+OK pong"])
            answer = await bob.ask(f"SAY bob {number}")
            self.assertTrue(answer[0].startswith("+OK "), answer)
        waiting = [talker for talker in crowd if not talker.heard]
        self.assertGreater(len(waiting), 0)
        for talker in crowd:
            self.assertEqual(await talker.answer(), ["+OK you are alice"])

    async def test_flood(self) -> None:
        """Logins beyond the queue are refused unhashed, and it recovers."""
        crowd = [await connect(self, self.receiver) for _ in range(90)]
        for talker in crowd:
            talker.say("LOGIN alice a")
        answers = [await talker.answer() for talker in crowd]
        codes = [answer[0].split(" ")[1] for answer in answers]
        refused = codes.count("busy")
        self.assertGreaterEqual(refused, 1)
        self.assertGreaterEqual(
            codes.count("you"), limits.MAX_QUEUED_LOGINS_PER_ADDRESS
        )
        self.assertEqual(refused + codes.count("you"), 90)
        again = crowd[codes.index("busy")]
        self.assertEqual(await again.ask("LOGIN alice a"), ["+OK you are alice"])

    async def test_guessing(self) -> None:
        """Who guesses must wait longer and longer, others need not."""
        guesser = await connect(self, self.receiver)
        answer = ["-ERR auth"]
        guesses = 0
        while answer[0].startswith("-ERR auth"):
            answer = await guesser.ask(f"LOGIN alice {guesses}")
            guesses += 1
        # One more may be forgiven, since time passes.
        free = limits.FREE_FAILURES_PER_ACCOUNT_AND_ADDRESS
        self.assertIn(guesses, (free + 1, free + 2))
        self.assertRegex(answer[0], r"^-ERR rate .* wait \d+ s$")
        self.assertEqual(await guesser.ask("LOGIN bob b"), ["+OK you are bob"])

    async def test_password_changed_meanwhile(self) -> None:
        """A login that was under way with the old password does not succeed."""
        crowd = [await connect(self, self.receiver) for _ in range(40)]
        for talker in crowd:
            talker.say("LOGIN alice a")
        await pause(0.03)
        book = open_account_book(self.settings, SLOW)
        book.change_password("alice", "a", "b")
        book.close()
        waiting = [talker for talker in crowd if not talker.heard]
        self.assertGreater(len(waiting), 0)
        for talker in waiting:
            answer = await talker.answer()
            self.assertTrue(answer[0].startswith("-ERR auth "), answer)

    async def test_leaving_early(self) -> None:
        """A peer that hangs up during its login leaves nothing behind."""
        talker = await connect(self, self.receiver)
        talker.say("LOGIN alice a\nWATCH")
        await talker.hang_up()
        crowd: list[Talker] = [await connect(self, self.receiver) for _ in range(4)]
        await DeferredList(
            [ensureDeferred(talker.ask("LOGIN alice a")) for talker in crowd]
        )
        while len(self.receiver.gate) > 4:
            await pause(0.01)
        answer = await crowd[0].ask("PASSWD b")
        self.assertEqual(answer, ["+OK"])
        for other in crowd[1:]:
            await other.lost
        self.assertEqual(await crowd[0].ask("PING"), ["+OK pong"])

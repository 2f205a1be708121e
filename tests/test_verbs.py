"""The table of requests: what is understood, and what a wrong one is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.verbs import (
    EVERYONE,
    FAMILIES,
    INSIDERS,
    NEWCOMERS,
    USERS,
    VERBS,
    Standing,
    find,
    usage_of,
)

HASH = "0123456789abcdefABCDEF" + "0" * 42
NUMBER = "9" * 18
WAY_OUT = "HELP lists every command"

# For each verb: its usage line, what it understands with the arguments that it
# makes of it, and what it does not understand.
Understood = dict[str, tuple[str | None, ...]]
TABLE: dict[str, tuple[str, Understood, tuple[str, ...]]] = {
    "HELP": (
        "HELP [verb]",
        {
            "": (None,),
            " ": (None,),
            " SAY": ("SAY",),
            " TOKEN NEW": ("TOKEN NEW",),
            "  token   new ": ("token   new",),
        },
        (" a b c",),
    ),
    "NOTICE": ("NOTICE", {"": (), "  ": ()}, (" x",)),
    "PING": ("PING", {"": (), " ": ()}, (" x", "\tx", "\r")),
    "WHOAMI": ("WHOAMI", {"": ()}, (" x",)),
    "QUIT": ("QUIT", {"": ()}, (" x",)),
    "KEY": ("KEY", {"": ()}, (" x",)),
    "LOGIN": (
        "LOGIN <user> <password to end of line>",
        {" bob pw": ("bob", "pw"), "  bob   p w ": ("bob", "  p w ")},
        ("", " ", " bob", " bob "),
    ),
    "ANON": ("ANON", {"": ()}, (" x",)),
    "SAY": (
        "SAY <to> <text to end of line>",
        {" bob hi": ("bob", "hi"), " bob  hi ": ("bob", " hi ")},
        ("", " bob", " bob "),
    ),
    "SEND": (
        "SEND <to> <bytes>",
        {
            " bob 0": ("bob", "0"),
            "  bob  5  ": ("bob", "5"),
            f" b {NUMBER}": ("b", NUMBER),
        },
        (
            "",
            " bob",
            " bob x",
            " bob -1",
            " bob 1.5",
            " bob ٣",
            f" bob 1{NUMBER}",
            " b 1 2",
        ),
    ),
    "LAST": (
        "LAST [n]",
        {"": (None,), " 3": ("3",), "  3 ": ("3",), " 0": ("0",)},
        (" x", " -1", " 1 2", f" 1{NUMBER}"),
    ),
    "READ": ("READ <id>", {" ab": ("ab",), "  ab ": ("ab",)}, ("", " ", " a b")),
    "DROP": ("DROP <id>", {" ab": ("ab",)}, ("", " a b")),
    "PUT": (
        "PUT <to> <bytes> <sha256 in hex> <name to end of line>",
        {f" bob 5 {HASH} my file": ("bob", "5", HASH, "my file")},
        ("", " bob 5", f" bob 5 {HASH}", f" bob 5 {HASH[1:]} x", f" bob x {HASH} x"),
    ),
    "FILES": ("FILES", {"": ()}, (" x",)),
    "GET": (
        "GET <id> [offset]",
        {" ab": ("ab", None), " ab 7": ("ab", "7")},
        ("", " ab x", " ab 1 2"),
    ),
    "WATCH": ("WATCH", {"": ()}, (" x",)),
    "UNWATCH": ("UNWATCH", {"": ()}, (" x",)),
    "TOKEN NEW": ("TOKEN NEW <label>", {" my pi": ("my pi",)}, ("", " ")),
    "TOKEN LIST": ("TOKEN LIST", {"": ()}, (" x",)),
    "TOKEN DROP": ("TOKEN DROP <id>", {" ab": ("ab",)}, ("", " a b")),
    "PASSWD": (
        "PASSWD <new password to end of line>",
        {" new word": ("new word",), "  x": (" x",)},
        ("", " "),
    ),
}


class TableTests(SynchronousTestCase):
    """Every verb, one by one."""

    def test_complete(self) -> None:
        """The protocol's verbs are all there, and no other."""
        self.assertEqual(set(VERBS), set(TABLE))
        self.assertEqual(
            {name: verb.name for name, verb in VERBS.items()},
            dict(zip(VERBS, VERBS, strict=True)),
        )

    def test_usage(self) -> None:
        """Each usage line reads as in the protocol."""
        for name, (usage, _, _) in TABLE.items():
            self.assertEqual(VERBS[name].usage, usage)

    def test_understood(self) -> None:
        """Good requests are understood, in any case and with blanks to spare."""
        for name, (_, good, _) in TABLE.items():
            for written in (name, name.lower(), name.title(), name.swapcase()):
                for rest, arguments in good.items():
                    verb, found = find(written + rest)
                    self.assertIs(verb, VERBS[name], written + rest)
                    match = VERBS[name].pattern.fullmatch(found)
                    self.assertIsNotNone(match, written + rest)
                    assert match is not None
                    self.assertEqual(match.groups(), arguments)

    def test_not_understood(self) -> None:
        """A wrong request is told the usage of the very verb that it meant."""
        for name, (usage, _, bad) in TABLE.items():
            for rest in bad:
                line = name.lower() + rest
                verb, found = find(line)
                match = verb.pattern.fullmatch(found) if verb else None
                self.assertIsNone(match, line)
                # A tab is no blank: the verb itself was not found.
                expected = usage if rest[:1] in ("", " ") else WAY_OUT
                self.assertEqual(usage_of(line), expected, line)

    def test_unknown(self) -> None:
        """A request that is none is shown the way to the list of all."""
        for line in ("", " ", " PING", "FROB", "PINGS", "LOG IN", "TOKENS", "é"):
            self.assertEqual(usage_of(line), WAY_OUT, line)
            self.assertIsNone(find(line)[0])

    def test_half_a_verb(self) -> None:
        """Of a verb of two words, the first alone brings the usage of them all."""
        expected = "TOKEN NEW <label> | TOKEN LIST | TOKEN DROP <id>"
        for line in ("TOKEN", "token ", "TOKEN FROB", "Token newer x"):
            self.assertIsNone(find(line)[0], line)
            self.assertEqual(usage_of(line), expected)
        self.assertEqual(set(FAMILIES), {"TOKEN"})
        self.assertIs(find("token   list")[0], VERBS["TOKEN LIST"])

    def test_payload(self) -> None:
        """Only ``SEND`` is followed by a payload in the same breath."""
        self.assertEqual(
            [verb.name for verb in VERBS.values() if verb.has_payload], ["SEND"]
        )

    def test_groups_of_people(self) -> None:
        """Who counts as in, as new, and as a user."""
        self.assertEqual(EVERYONE, set(Standing))
        self.assertEqual(NEWCOMERS, {Standing.NEW})
        self.assertEqual(INSIDERS, {Standing.ANONYMOUS, Standing.USER})
        self.assertEqual(USERS, {Standing.USER})

    def test_help(self) -> None:
        """Every verb has one line of help."""
        for verb in VERBS.values():
            self.assertRegex(verb.help, r"\A[a-z][ -~]+\Z")

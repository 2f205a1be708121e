"""The steps of the demo, in their order: what each does, and what must come of it."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path

from demo.stage import PASSWORD, DemoError, Stage
from securerecv.scanning.home import find_program
from securerecv.scanning.proofs import EICAR

PHOTO_BYTES = 3_000_000

Step = tuple[str, Callable[[Stage], None]]


def make_signatures(stage: Stage) -> None:
    """Make a signature database that knows EICAR; the format is ClamAV's .ndb."""
    if find_program() is None:
        raise DemoError("clamd is not installed; on Debian: apt install clamav-daemon")
    stage.signatures.mkdir()
    line = f"Eicar-Test-Signature:0:0:{EICAR.hex()}\n"
    (stage.signatures / "eicar.ndb").write_text(line)


def add_accounts(stage: Stage) -> None:
    """Make two accounts, as an operator does."""
    for name in ("alice", "bob"):
        words = ("add", name, "--data", str(stage.data), "--password-stdin")
        said = stage.run("account", *words, given=f"{PASSWORD}\n".encode())
        expect(said, r"Recovery code: (\w{4}-){6}\w{4}")


def start(stage: Stage) -> None:
    """Start the server; it runs a clamd of its own."""
    stage.start_server(
        *("--port", "0", "--scanner", "spawn", "--signatures", str(stage.signatures))
    )


def send_tcp(stage: Stage) -> None:
    """Send over TLS 1.3, as a user."""
    said = stage.ask("send", "--to", "alice", "one, over TCP", user="bob")
    expect(said, r"^sent [0-9a-f]{16}$")


def send_udp(stage: Stage) -> None:
    """Send over DTLS, as a user."""
    said = stage.ask("send", "--udp", "--to", "alice", "two, over UDP", user="bob")
    expect(said, r"^sent [0-9a-f]{16}$")


def send_sealed(stage: Stage) -> None:
    """Send one datagram, anonymously, and wait for its sealed answer."""
    words = ("--sealed", "--ack", "--to", "alice", "three, in one datagram")
    expect(stage.tell("send", *words), r"^sent [0-9a-f]{16}$")


def put_clean(stage: Stage) -> None:
    """Send a file over UDP."""
    photo = stage.folder / "photo.jpg"
    photo.write_bytes(b"\xff\xd8\xff\xe0" + secrets.token_bytes(PHOTO_BYTES))
    said = stage.ask("put", "--udp", str(photo), "--to", "alice", user="bob")
    expect(said, r"\bclean\b")


def put_infected(stage: Stage) -> None:
    """Send the EICAR test string over UDP."""
    virus = stage.folder / "invoice.pdf"
    virus.write_bytes(EICAR)
    said = stage.ask(
        "put", "--udp", str(virus), "--to", "alice", user="bob", refused=True
    )
    expect(said, r"\binfected\b")


def show_messages(stage: Stage) -> None:
    """Show what came to alice, and that nothing came to bob."""
    said = stage.ask("last", user="alice")
    expect(
        said,
        r"^bob .*\n    one, over TCP\n"
        r"bob .*\n    two, over UDP\n"
        r"anon .*\n    three, in one datagram$",
    )
    expect(stage.ask("last", user="bob"), r"^no messages$")


def show_files(stage: Stage) -> None:
    """Fetch the clean file, byte for byte; the other is not to be had."""
    said = stage.ask("files", user="alice")
    clean = expect(said, r"([0-9a-f]{16})\n    file, clean, .*: photo\.jpg")[1]
    infected = expect(said, r"([0-9a-f]{16})\n    file, infected, .*: invoice\.pdf")[1]
    got = stage.folder / "got.jpg"
    stage.ask("get", "--udp", clean, "-o", str(got), user="alice")
    if got.read_bytes() != (stage.folder / "photo.jpg").read_bytes():
        raise DemoError("the file that came back is not the one that was sent")
    said = stage.ask("get", infected, user="alice", refused=True)
    expect(said, r"\binfected\b")


def look_at_disk(stage: Stage) -> None:
    """Look for anything in clear in the data folder."""
    photo = (stage.folder / "photo.jpg").read_bytes()
    secret = (
        *(b"over TCP", b"over UDP", b"in one datagram", b"photo.jpg", b"invoice.pdf"),
        *(b"alice", PASSWORD.encode(), EICAR[:20], photo[1000:1032]),
    )
    for path in files_below(stage.data):
        content = path.read_bytes()
        found = [word for word in secret if word in content]
        if found:
            raise DemoError(f"{path.name} has {found[0]!r} in clear")


def stop(stage: Stage) -> None:
    """Stop the server."""
    stage.end_server()


STEPS: tuple[Step, ...] = (
    ("virus signatures: one that knows the EICAR test string", make_signatures),
    ("accounts: alice and bob, a recovery code each", add_accounts),
    ("server: TCP and UDP on one port, with a clamd of its own", start),
    ("bob sends alice a message over TCP (TLS 1.3)", send_tcp),
    ("bob sends alice a message over UDP (DTLS)", send_udp),
    ("somebody sends alice one sealed datagram", send_sealed),
    ("bob sends alice a photo over UDP; clamd finds it clean", put_clean),
    ("bob sends alice the EICAR test string; clamd finds it infected", put_infected),
    ("alice reads her three messages, bob has none", show_messages),
    ("alice fetches the photo byte for byte; the infected one is refused", show_files),
    ("on disk nothing is in clear: no name, message, file or password", look_at_disk),
    ("server: stopped", stop),
)


def expect(said: str, pattern: str) -> re.Match[str]:
    """
    Find in what was said what should be there.

    Raises:
        DemoError: it is not.
    """
    match = re.search(pattern, said.strip())
    if match is None:
        raise DemoError(f"expected {pattern!r}, and it said: {said}")
    return match


def files_below(folder: Path) -> list[Path]:
    """List all files of a folder, however deep."""
    return [Path(where) / name for where, _, names in os.walk(folder) for name in names]

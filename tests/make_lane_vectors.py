"""
Makes ``tests/vectors/lane.json``: ``python -m tests.make_lane_vectors``.

With the second implementation in `tests.lanekit`, not with the product; the
outcomes are written here by hand, from ``docs/protocol.md`` section 6.  Every
run makes the same bytes.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from tests.lanekit import (
    ACK,
    CHALLENGE,
    CLOSE,
    DATA,
    PROBE,
    RESPONSE,
    Direction,
    ack_text,
)

FILE = Path(__file__).parent / "vectors" / "lane.json"

SECRET = sha256(b"securerecv test vectors: lane secret").digest()
LANE_ID = sha256(b"securerecv test vectors: lane id").digest()[:8]

DATA_KEY = Direction("data", SECRET, LANE_ID)
ACKS_KEY = Direction("acks", SECRET, LANE_ID)
BEGIN = 1 << 20
"""Where the transfer begins."""

Step = dict[str, Any]


def step(
    what: str,
    direction: Direction,
    kind: int,
    number: int,
    text: bytes,
    offset: int = 0,
) -> Step:
    """Describe a packet that is taken."""
    return {
        "what": what,
        "packet": direction.seal(kind, number, text, offset).hex(),
        "outcome": "taken",
        "kind": kind,
        "number": number,
        "offset": offset,
        "text": text.hex(),
    }


def dropped(what: str, packet: bytes, outcome: str) -> Step:
    """Describe a packet of which nothing comes."""
    return {"what": what, "packet": packet.hex(), "outcome": outcome}


def data() -> list[Step]:
    """Packets for a receiver, in their order."""
    first = DATA_KEY.seal(DATA, 0, b"The door ", BEGIN)
    forged = first[:-1] + bytes([first[-1] ^ 1])
    moved = first[:21] + bytes([first[21] ^ 1]) + first[22:]
    return [
        dropped("a tag that is not right", forged, "forged"),
        dropped("an offset that is not right", moved, "forged"),
        dropped(
            "sealed with the other direction's key",
            ACKS_KEY.seal(DATA, 0, b"x", BEGIN),
            "forged",
        ),
        step("the first piece", DATA_KEY, DATA, 0, b"The door ", BEGIN),
        dropped("the same packet again", first, "repeated"),
        step("a later piece", DATA_KEY, DATA, 3, b"at nine.", BEGIN + 15),
        step("a probe", DATA_KEY, PROBE, 4, bytes(16)),
        step("the piece between, sent again", DATA_KEY, DATA, 5, b"opens ", BEGIN + 9),
        dropped("an empty piece", DATA_KEY.seal(DATA, 6, b"", BEGIN), "malformed"),
        dropped("no room for a tag", bytes(37), "malformed"),
        dropped(
            "an acknowledgement from the wrong end",
            DATA_KEY.seal(ACK, 6, ack_text(0, 0)),
            "malformed",
        ),
        dropped(
            "a number that no packet has",
            DATA_KEY.seal(PROBE, 1 << 23, b""),
            "malformed",
        ),
        dropped(
            "behind the end of the file",
            DATA_KEY.seal(DATA, 7, b"x", BEGIN + 23),
            "beyond-window",
        ),
        step("who is there?", DATA_KEY, CHALLENGE, 8, b"8 bytes."),
        step("goodbye", DATA_KEY, CLOSE, 9, b""),
        dropped("after the goodbye", DATA_KEY.seal(PROBE, 10, b""), "unknown-lane"),
    ]


def acks() -> list[Step]:
    """Packets of a receiver, each with what it says."""
    ranges = [(8, 10), (3, 6), (0, 1)]
    text = ack_text(BEGIN + 9, BEGIN + 65_536, *ranges, delay_us=2500)
    ack = step("an acknowledgement", ACKS_KEY, ACK, 0, text)
    ack["ack"] = {
        "contiguous": BEGIN + 9,
        "limit": BEGIN + 65_536,
        "delay_us": 2500,
        "ranges": ranges,
    }
    nothing = step("nothing yet", ACKS_KEY, ACK, 1, ack_text(BEGIN, BEGIN + 65_536))
    nothing["ack"] = {
        "contiguous": BEGIN,
        "limit": BEGIN + 65_536,
        "delay_us": 0,
        "ranges": [],
    }
    return [ack, nothing, step("here I am", ACKS_KEY, RESPONSE, 2, b"8 bytes.")]


def vectors() -> dict[str, Any]:
    """Make all of it."""
    return {
        "secret": SECRET.hex(),
        "lane_id": LANE_ID.hex(),
        "keys": {
            name: {"key": key.key.hex(), "iv": key.iv.hex()}
            for name, key in (("data", DATA_KEY), ("acks", ACKS_KEY))
        },
        "offset": BEGIN,
        "size": BEGIN + 23,
        "data": data(),
        "acks": acks(),
    }


if __name__ == "__main__":
    FILE.write_text(json.dumps(vectors(), indent=1) + "\n", "utf-8")

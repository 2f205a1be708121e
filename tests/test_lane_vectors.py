"""The vectors that other implementations of the lane can use."""

from __future__ import annotations

import json
import os

from twisted.trial.unittest import SynchronousTestCase

from securerecv.wire.lanekeys import derive
from securerecv.wire.lanepackets import Ack
from securerecv.wire.lanereceiver import LaneReceiver
from tests.make_lane_vectors import FILE, vectors

VECTORS = json.loads(FILE.read_text("utf-8"))
NOW = 1000.0


class VectorTests(SynchronousTestCase):
    """What is in the file holds for this implementation."""

    def test_file(self) -> None:
        """The file is what its maker makes."""
        self.assertEqual(VECTORS, json.loads(json.dumps(vectors())))

    def test_keys(self) -> None:
        """The secret gives the keys."""
        keys = derive(bytes.fromhex(VECTORS["secret"]))
        for name, key in (("data", keys.data), ("acks", keys.acks)):
            self.assertEqual(
                key.iv.to_bytes(12, "big").hex(), VECTORS["keys"][name]["iv"]
            )

    def test_data(self) -> None:
        """Each packet meets its outcome, and the file comes out."""
        receiver = LaneReceiver(
            bytes.fromhex(VECTORS["lane_id"]),
            derive(bytes.fromhex(VECTORS["secret"])),
            VECTORS["offset"],
            VECTORS["size"],
            "here",
            NOW,
            os.urandom,
        )
        for step in VECTORS["data"]:
            packet = bytes.fromhex(step["packet"])
            drops = [drop.value for drop in receiver.receive([packet], "here", NOW)]
            expected = [] if step["outcome"] == "taken" else [step["outcome"]]
            self.assertEqual(drops, expected, step["what"])
        read = b""
        while piece := receiver.readable():
            read += piece
            receiver.consumed(len(piece), NOW)
        self.assertEqual(read, b"The door opens at nine.")

    def test_acks(self) -> None:
        """Each of the receiver's packets opens, and says what it says."""
        key = derive(bytes.fromhex(VECTORS["secret"])).acks
        for step in VECTORS["acks"]:
            packet = bytes.fromhex(step["packet"])
            nonce = key.nonce(step["number"])
            text = key.cipher.decrypt(nonce, packet[22:], packet[:22])
            self.assertEqual(text.hex(), step["text"])
            if "ack" in step:
                ack = step["ack"]
                ranges = [tuple(one) for one in ack["ranges"]]
                said = Ack(
                    ack["delay_us"] / 1_000_000, ack["contiguous"], ack["limit"], ranges
                )
                self.assertEqual(Ack.decode(text), said)
                self.assertEqual(said.encode(), text)

"""
Receiving sealed datagrams with a plain socket: no Twisted, no server, no store.

    sealed_only.py PORT

It makes a key that lives as long as it does, and prints what comes.
"""

import secrets
import socket
import sys
import time

from securerecv.wire.drops import Dropped
from securerecv.wire.hpke import Psk, private_key_of, public_key_of
from securerecv.wire.openings import OpeningBudget
from securerecv.wire.replay import ReplayMemory
from securerecv.wire.sealed import SealedReceiver

key = secrets.token_bytes(32)
tokens: dict[bytes, Psk] = {}
# Whoever keeps the key keeps `Opened.replay_record` as well, with the message.
receiver = SealedReceiver([key], tokens.get, ReplayMemory(), OpeningBudget())
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("127.0.0.1", int(sys.argv[1])))
    print(f"receiving on udp 127.0.0.1:{sock.getsockname()[1]}")
    print(f"sealing key {public_key_of(private_key_of(key)).hex()}", flush=True)
    while True:
        datagram, (host, _) = sock.recvfrom(65535)
        try:
            opened = receiver.open(datagram, host, time.time())
        except Dropped as drop:
            print(f"dropped: {drop.reason.value}", flush=True)
        else:
            print(f"opened: {opened.request!r}", flush=True)

"""
A device that fires sealed datagrams. It needs pycryptodome, nothing of securerecv.

    device.py HOST PORT SEALING_KEY TO [TOKEN_ID:TOKEN_SECRET] < readings

Each line of standard input becomes one message, in one datagram. Nothing is answered.
"""

import socket
import struct
import sys
import time
from hashlib import sha256

from Crypto.Cipher import AES
from Crypto.Protocol import HPKE
from Crypto.Protocol.DH import import_x25519_public_key

host, port, key_hex, to, *rest = sys.argv[1:]
key = bytes.fromhex(key_hex)
token_id, secret = map(bytes.fromhex, rest[0].split(":")) if rest else (b"", b"")
hpke = HPKE.new(
    receiver_key=import_x25519_public_key(key),
    aead_id=HPKE.AEAD.AES256_GCM,
    psk=(token_id, secret) if rest else None,
    info=b"securerecv/1 sealed",
)
aes_key = hpke.export(b"securerecv/1 key", 32)
iv = int.from_bytes(hpke.export(b"securerecv/1 iv", 12), "big")
key_id = sha256(key).digest()[:8]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    # No number comes twice: a new start has a new `enc`, and so another key.
    for number, line in enumerate(sys.stdin):
        time_ms = int(time.time() * 1000)
        header = struct.pack(">BB8sQQ", 0xC1, bool(rest), key_id, time_ms, number)
        header += hpke.enc + token_id
        aes = AES.new(aes_key, AES.MODE_GCM, nonce=(iv ^ number).to_bytes(12, "big"))
        aes.update(header)
        sealed, tag = aes.encrypt_and_digest(f"SAY {to} {line}".encode())
        sock.sendto(header + sealed + tag, (host, int(port)))

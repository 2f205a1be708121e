"""Makes the accounts whose boxes the load writes to."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.logins import PASSWORD, box_names
from securerecv.access.passwords import PasswordMixer, hash_secret
from securerecv.vault import accounts, mailboxkeys
from securerecv.vault.database import database_url, open_database
from securerecv.vault.keyring import open_keyring


def make_boxes(data: Path, count: int, logins: int) -> None:
    """
    Create the accounts b0 … b<count - 1> in a new data folder.

    Each has a key pair of its own, as all accounts have. The slow work on the
    password is done for the first ``logins`` of them, which can log in with PASSWORD;
    the others only receive, and hold what the first has in its place.

    Raises:
        OperatorError: the folder or the database cannot be made.
    """
    keyring = open_keyring(data)
    mixer = PasswordMixer(keyring.password_key, keyring.mailbox_key)
    names = box_names(count)

    def account(name: str) -> dict[str, Any]:
        private = mailboxkeys.MailboxPrivateKey.generate()
        return {
            "lookup": accounts.lookup_of(keyring.name_key, name),
            "password_hash": hash_secret(mixer.bcrypt_secret(name, PASSWORD)),
            "public_key": private.public_key(),
            "wrapped_by_password": mailboxkeys.wrap_with_password(
                private, mixer.mailbox_secret(name, PASSWORD)
            ),
            "wrapped_by_code": mailboxkeys.wrap_with_code(
                private, mailboxkeys.new_recovery_code()
            ),
        }

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(account, names[: max(logins, 1)]))
    for name in names[len(rows) :]:
        private = mailboxkeys.MailboxPrivateKey.generate()
        lookup = accounts.lookup_of(keyring.name_key, name)
        rows.append(rows[0] | {"lookup": lookup, "public_key": private.public_key()})
    engine = open_database(database_url("", data))
    with engine.begin() as connection:
        for row in rows:
            accounts.add(connection, **row)
    engine.dispose()

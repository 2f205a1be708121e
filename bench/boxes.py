"""Makes the accounts whose boxes the load writes to."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from bench.logins import PASSWORD, box_names
from securerecv.intake.vaultopening import open_vault
from securerecv.settings import Settings
from securerecv.vault import accounts, mailboxkeys


def make_boxes(data: Path, count: int, logins: int) -> bytes:
    """
    Create the accounts b0 … b<count - 1> in a new data folder.

    Each has a key pair of its own, as all accounts have. The slow work on the
    password is done for the first ``logins`` of them, which can log in with PASSWORD;
    the others only receive, and hold what the first has in its place.

    Returns:
        The server's sealing key, raw X25519, 32 bytes.

    Raises:
        OperatorError: the folder or the database cannot be made.
    """
    vault = open_vault(Settings(data=data), make=True)
    names = box_names(count)

    def account(name: str) -> dict[str, Any]:
        private = mailboxkeys.MailboxPrivateKey.generate()
        locks = vault.locksmith.make(name, PASSWORD, private)
        return {
            "lookup": accounts.lookup_of(vault.keyring.name_key, name),
            "password_hash": locks.password_hash,
            "public_key": private.public_key(),
            "wrapped_by_password": locks.wrapped_by_password,
            "wrapped_by_code": mailboxkeys.wrap_with_code(
                private, mailboxkeys.new_recovery_code()
            ),
        }

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(account, names[: max(logins, 1)]))
    for name in names[len(rows) :]:
        private = mailboxkeys.MailboxPrivateKey.generate()
        lookup = accounts.lookup_of(vault.keyring.name_key, name)
        rows.append(rows[0] | {"lookup": lookup, "public_key": private.public_key()})
    with vault.engine.begin() as connection:
        for row in rows:
            accounts.add(connection, **row)
    vault.engine.dispose()
    return vault.keyring.sealing_public_key

"""Opening what a data folder keeps: keys and store, and what goes with them."""

from attrs import frozen
from sqlalchemy import Engine

from securerecv.access.passwords import PasswordMixer
from securerecv.intake.locksmith import Locksmith, WorkFactors
from securerecv.settings import Settings
from securerecv.vault.database import claim, database_url, open_database
from securerecv.vault.keyring import Keyring, open_keyring


@frozen
class Vault:
    """
    What is kept, opened.

    Attributes:
        keyring: the server's own keys.
        engine: the store, which belongs to them.
        locksmith: makes what is stored of passwords.
    """

    keyring: Keyring
    engine: Engine
    locksmith: Locksmith


def open_vault(
    settings: Settings,
    *,
    make: bool,
    write: bool = True,
    work: WorkFactors | None = None,
) -> Vault:
    """
    Open keys and store, and see that they belong together.

    Args:
        settings: say where they are.
        make: whether to make what is not there.
        write: False, together with ``make``, to change nothing at all.
        work: how slow passwords are to guess.

    Raises:
        OperatorError: the folder or the store must be mended first.
        StorageError: the store cannot be read.
    """
    keyring = open_keyring(settings.data, settings.cert, settings.key, make=make)
    url = database_url(settings.store, settings.data)
    engine = open_database(url, make=make, write=write)
    try:
        claim(engine, keyring.name_key, make=make)
    except BaseException:
        engine.dispose()
        raise
    mixer = PasswordMixer(keyring.password_key, keyring.mailbox_key)
    return Vault(keyring, engine, Locksmith(mixer, work or WorkFactors()))

"""
The tables, the same in SQLite and PostgreSQL.

No column holds anything in clear that a person wrote: names are HMACs,
messages and labels, and all that is said of files, are sealed.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

SCHEMA_VERSION = 1

metadata = MetaData()

# SQLite numbers rows by itself only in a column of its type INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")

schema_version = Table(
    "schema_version",
    metadata,
    Column("version", Integer, nullable=False),
    # Tells whether the keys of a data folder belong to this store.
    Column("key_check", LargeBinary),
)

account = Table(
    "account",
    metadata,
    Column("id", _Number, primary_key=True),
    # HMAC-SHA256 of the normalised name under the server's name key.
    Column("lookup", LargeBinary, nullable=False, unique=True),
    Column("password_hash", LargeBinary, nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("wrapped_by_password", LargeBinary, nullable=False),
    Column("wrapped_by_code", LargeBinary, nullable=False),
    # The number of a removed account is never given to another.
    sqlite_autoincrement=True,
)

_account_id = ForeignKey("account.id", ondelete="CASCADE")

epoch = Table(
    "epoch",
    metadata,
    Column("id", _Number, primary_key=True, autoincrement=False),
    Column("account_id", _Number, _account_id.copy(), nullable=False),
    # When it began, in hours since 1970.
    Column("hour", Integer, nullable=False),
    Column("sealed_key", LargeBinary, nullable=False),
    Index("epoch_by_account", "account_id"),
)

message = Table(
    "message",
    metadata,
    Column("account_id", _Number, _account_id.copy(), primary_key=True),
    # A box has as many slots as it keeps messages: a new message takes the
    # slot of the oldest, which is thereby gone.
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("position", _Number, nullable=False),
    Column("message_id", LargeBinary, nullable=False),
    Column("epoch_id", _Number, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

token = Table(
    "token",
    metadata,
    Column("id", _Number, primary_key=True),
    Column("account_id", _Number, _account_id.copy(), nullable=False),
    # Names the token without giving away what it is (`securerecv.vault.tokens`).
    Column("lookup", LargeBinary, nullable=False, unique=True),
    Column("sealed", LargeBinary, nullable=False),
    Index("token_by_account", "account_id"),
    # A number stands for one token ever: numbers tell what has changed.
    sqlite_autoincrement=True,
)

seen = Table(
    "seen",
    metadata,
    # Sealed datagrams that were taken (`securerecv.wire.replay.ReplayRecord`).
    Column("digest", LargeBinary, primary_key=True),
    Column("expires_s", _Number, nullable=False),
    Column("state", LargeBinary, nullable=False),
)

arrival = Table(
    "arrival",
    metadata,
    Column("id", _Number, primary_key=True),
    # Messages of one commit, sealed, on their way to their slots
    # (`securerecv.vault.arrivals`).
    Column("rows", LargeBinary, nullable=False),
)

file = Table(
    "file",
    metadata,
    Column("number", _Number, primary_key=True),
    # Random; the name of its blob (`securerecv.vault.blobs`).
    Column("id", LargeBinary, nullable=False, unique=True),
    Column("account_id", _Number, _account_id.copy(), nullable=False),
    # Which server's disk the blob is on.
    Column("place", LargeBinary, nullable=False),
    # `securerecv.wire.filelines.FileState`.
    Column("state", String(16), nullable=False),
    Column("size", _Number, nullable=False),
    Column("is_anonymous", Boolean, nullable=False),
    # When it was announced, went on, or was found to be something, in seconds
    # since 1970.
    Column("changed_s", _Number, nullable=False),
    # HMAC-SHA256 of sender, recipient and what was announced; for a day.
    Column("identity", LargeBinary),
    # Key and description (`securerecv.vault.filekeys`): for the server until the
    # scan is done, and for nobody but the owner from then on.
    Column("sealed_for_server", LargeBinary),
    Column("sealed_for_owner", LargeBinary),
    # The signatures that it was found clean with.
    Column("scanned_with", String),
    Index("file_by_account", "account_id"),
    Index("file_by_identity", "identity"),
    sqlite_autoincrement=True,
)

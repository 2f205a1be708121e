"""
Opening the database: SQLite in the data folder, or PostgreSQL.

What differs between the two is here and nowhere else.
"""

import hmac
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from securerecv.errors import OperatorError, StorageError, StorageFullError
from securerecv.vault.keyring import check_private
from securerecv.vault.schema import SCHEMA_VERSION, metadata, schema_version

_T = TypeVar("_T")

BUSY_TIMEOUT_S = 30.0
_VALUES_PER_QUERY = 500
_FILE_MODE = 0o600
_BEGIN_WRITING = "BEGIN IMMEDIATE"
"""Takes the lock first: it waits its turn instead of failing when it upgrades."""


def database_url(written: str, data: Path) -> URL:
    """
    Give the URL of the database that the settings name.

    Args:
        written: ``--store``, or empty for SQLite in the data folder.
        data: the data folder.

    Raises:
        OperatorError: it is not the URL of a database.
    """
    if not written:
        return URL.create("sqlite", database=str(data / "store.sqlite3"))
    try:
        url = make_url(written)
    except (ArgumentError, ValueError):
        url = None
    # What is wrong is not quoted: it may be part of a password.  One that is
    # not percent-encoded makes the parser take its end for the host.
    if url is None or "@" in (url.host or ""):
        raise OperatorError(
            "--store: that is not a URL; in a user name or password write"
            " @ : / ? # and % as %40 %3A %2F %3F %23 and %25"
        )
    if url.get_backend_name() == "sqlite" and url.database in (None, "", ":memory:"):
        raise OperatorError("--store: SQLite needs a file: sqlite:////path/to/it")
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    return url


def open_database(url: URL, *, make: bool = True, write: bool = True) -> Engine:
    """
    Connect, and make the tables if they are not there.

    Args:
        url: from `database_url`.
        make: False to make nothing that is not there.
        write: False, together with ``make``, to change nothing at all.

    Raises:
        OperatorError: there is no such database, or it is not ours.
    """
    is_sqlite = url.get_backend_name() == "sqlite"
    try:
        if is_sqlite and not make and not Path(url.database or "").exists():
            raise OperatorError(f"{url.database} is not there; start the server once")
        if write:
            engine = _sqlite(url) if is_sqlite else _postgres(url)
        else:
            engine = _read_sqlite(url) if is_sqlite else _read_postgres(url)
        with engine.begin() as connection:
            _check_tables(connection, make=make)
    except ModuleNotFoundError:
        raise OperatorError(
            "PostgreSQL needs a driver; type: pip install 'securerecv[postgresql]'"
        ) from None
    except (SQLAlchemyError, OSError) as error:
        raise OperatorError(f"the store cannot be opened: {_words(error)}") from None
    return engine


def claim(engine: Engine, name_key: bytes, *, make: bool = True) -> None:
    """
    Check that a store belongs to the keys; a new store does from now on.

    Args:
        engine: the store.
        name_key: one of the keys.
        make: False to leave a new store, which is nobody's, as it is.

    Raises:
        OperatorError: it belongs to others: no account would be found.
        StorageError: it cannot be read.
    """
    check = hmac.digest(name_key, b"securerecv/1 store", "sha256")
    column = schema_version.c.key_check
    try:
        with engine.begin() as connection:
            if make:
                new = update(schema_version).where(column.is_(None))
                connection.execute(new.values(key_check=check))
            stored = connection.scalar(select(column))
    except SQLAlchemyError as error:
        raise storage_error(error) from error
    if stored != check and (make or stored is not None):
        raise OperatorError(
            "the store was made with other keys: restore keys and store together"
        )


def check_whole(engine: Engine) -> None:
    """
    Look a SQLite database over for damage; another's own tools do that for it.

    Raises:
        OperatorError: it is damaged.
        StorageError: it cannot be read.
    """
    if is_shared(engine):
        return
    try:
        with engine.connect() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check").scalar()
    except SQLAlchemyError as error:
        raise storage_error(error) from error
    if verdict != "ok":
        words = str(verdict).splitlines()[-1]
        raise OperatorError(
            f"{engine.url.database} is damaged: restore it from a backup ({words})"
        )


def _check_tables(connection: Connection, *, make: bool) -> None:
    if not inspect(connection).has_table(schema_version.name):
        if not make:
            raise OperatorError("the store is empty; start the server once")
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(version=SCHEMA_VERSION))
    version = connection.scalar(select(schema_version.c.version))
    if version != SCHEMA_VERSION:
        raise OperatorError(
            f"the store has schema version {version}, this program wants"
            f" {SCHEMA_VERSION}: use the release that made it"
        )


def _postgres(url: URL) -> Engine:
    return create_engine(url, hide_parameters=True, pool_pre_ping=True)


def _read_postgres(url: URL) -> Engine:
    return _postgres(url).execution_options(postgresql_readonly=True)


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    # Made here and not by SQLite, which would use the umask; its -wal and -shm
    # files get the mode of the database.
    # An existing one is never opened and closed here: that would end all locks
    # that SQLite holds on it in this process (sqlite.org/howtocorrupt.html 2.2).
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, _FILE_MODE))
    check_private(path)
    engine = create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        # SQLAlchemy begins transactions itself; see `begin` below.
        connection.isolation_level = None
        for pragma in (
            "journal_mode=WAL",
            # Every commit is on disk before it returns.
            "synchronous=FULL",
            # Deleted content is overwritten, not just unlinked.
            "secure_delete=ON",
            "foreign_keys=ON",
            # Sorting and the like never spills to a temporary file.
            "temp_store=MEMORY",
        ):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        if driver_of(connection).in_transaction:
            return  # `quick_transaction` began it
        reading = connection.get_execution_options().get("reading")
        connection.exec_driver_sql("BEGIN" if reading else _BEGIN_WRITING)

    return engine


def _read_sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    check_private(path)
    # Whoever reads beside a write-ahead log leaves its files behind.  Where
    # there is none nobody has the database open, and it can be read as it lies.
    is_open = path.with_name(path.name + "-wal").exists()
    address = f"{path.absolute().as_uri()}?{'mode=ro' if is_open else 'immutable=1'}"
    return create_engine(
        url,
        hide_parameters=True,
        execution_options={"reading": True},
        creator=lambda: sqlite3.connect(
            address, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False
        ),
    )


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Cut a list of values into parts that one query can take."""
    for at in range(0, len(values), _VALUES_PER_QUERY):
        yield values[at : at + _VALUES_PER_QUERY]


def put_rows(
    connection: Connection, table: Table, rows: Sequence[tuple[Any, ...]]
) -> None:
    """
    Insert many rows; they replace those with the same primary keys.

    Args:
        connection: with a `quick_transaction`.
        table: where to.
        rows: values in the order of the table's columns.
    """
    if is_shared(connection.engine):
        # It takes a while to import, and a server with SQLite never needs it.
        from sqlalchemy.dialects import postgresql

        names = table.c.keys()
        named = [dict(zip(names, row, strict=True)) for row in rows]
        connection.execute(_upsert(postgresql.insert(table), table), named)
    else:
        # SQLAlchemy spends as long again on the rows as SQLite does.
        driver_of(connection).executemany(_sqlite_upsert(table), rows)


@cache
def _sqlite_upsert(table: Table) -> str:
    return str(_upsert(sqlite.insert(table), table).compile(dialect=sqlite.dialect()))


def _upsert(statement: Any, table: Table) -> Any:
    """Have an INSERT replace rows with the same primary keys."""
    keys = [column.name for column in table.primary_key]
    rest = {c.name: statement.excluded[c.name] for c in table.c if c.name not in keys}
    return statement.on_conflict_do_update(index_elements=keys, set_=rest)


def is_shared(engine: Engine) -> bool:
    """Whether other servers may write to the same boxes."""
    return engine.dialect.name != "sqlite"


def for_reading(connection: Connection) -> Connection:
    """
    Make a connection one that only reads.

    Each of its transactions sees the store as it was at one moment, whatever others
    write meanwhile, and holds up nobody: SQLite's do by themselves.
    """
    options: dict[str, Any] = {"reading": True}
    if is_shared(connection.engine):
        options["isolation_level"] = "REPEATABLE READ"
    return connection.execution_options(**options)


def driver_of(connection: Connection) -> Any:
    """Give the driver's connection, for SQL that is the driver's own."""
    return connection.connection.driver_connection


@contextmanager
def quick_transaction(connection: Connection) -> Iterator[None]:
    """
    Have a transaction that writes, for what senders wait for.

    On SQLite the driver itself begins and commits: SQLAlchemy's way round them
    takes longer than they do.  Its statements may be used inside all the same.

    Raises:
        StorageError: what the driver raised.
        SQLAlchemyError: what a statement of SQLAlchemy's raised.
    """
    if is_shared(connection.engine):
        with connection.begin():
            yield
        return
    driver = driver_of(connection)
    try:
        driver.execute(_BEGIN_WRITING)
        try:
            yield
            connection.commit()  # what its statements began, if there were any
            driver.commit()
        except BaseException:
            connection.rollback()
            driver.rollback()
            raise
    except sqlite3.Error as error:
        raise storage_error(error) from error


def changes_by_others(connection: Connection) -> int:
    """
    Give a number that changes when another connection has written.

    On PostgreSQL it does not; there, what is remembered is checked each time.
    """
    if connection.dialect.name != "sqlite":
        return 0
    ((changes,),) = driver_of(connection).execute("PRAGMA data_version").fetchall()
    return int(changes)


def shrink_log(connection: Connection) -> bool:
    """
    Empty SQLite's write-ahead log, so that what was deleted is gone from it.

    Args:
        connection: without a transaction.

    Returns:
        False if somebody was reading, or the disk is full: then it must be
        tried again later.
    """
    if connection.dialect.name != "sqlite":
        return True
    driver = driver_of(connection)
    # Nobody is waited for, because all writing would wait as well.
    driver.execute("PRAGMA busy_timeout = 0")
    try:
        ((busy, _, _),) = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    except sqlite3.Error:
        # What was committed is safe in the log; there may be no room now.
        busy = True
    finally:
        driver.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_S * 1000:.0f}")
    return not busy


def storage_error(error: Exception) -> StorageError:
    """Translate what the database raised; the words hold no stored data."""
    words = _words(error)
    code = getattr(getattr(error, "orig", None), "sqlstate", None)
    # 53100: disk_full, PostgreSQL's class 53, insufficient resources.
    if code == "53100" or "disk is full" in words:
        return StorageFullError(words)
    return StorageError(words)


def _words(error: Exception) -> str:
    cause: BaseException = error
    if isinstance(error, DBAPIError) and error.orig is not None:
        cause = error.orig
    return f"{type(cause).__name__}: {cause}".strip().splitlines()[0]

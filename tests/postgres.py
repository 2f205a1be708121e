"""A real PostgreSQL server of the tests' own, and a new database for each test."""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from unittest import SkipTest

import psycopg
from psycopg import sql
from sqlalchemy import URL

PASSWORD = "sesame%9/öpen"
"""The database user's; unusual, so that it can be searched for."""

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 30.0
USER = "securerecv"

_CONFIGURATION = """
listen_addresses = ''
unix_socket_directories = '{folder}'
unix_socket_permissions = 0700
max_connections = 40
# Nobody pulls the plug on a database of the tests'.
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 16MB
"""


class PostgresServer:
    """
    A server that listens on a socket in a temporary folder.

    Args:
        programs: the folder of ``initdb`` and ``postgres``.
    """

    def __init__(self, programs: Path) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="securerecv-postgres-"))
        self._owner = _unprivileged()
        if self._owner is not None:
            shutil.chown(self._folder, self._owner)
        self._log = self._folder / "log"
        try:
            self._start(programs)
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        atexit.register(self.stop)

    def _start(self, programs: Path) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD + "\n", encoding="utf-8")
        if self._owner is not None:
            shutil.chown(password, self._owner)
        data = str(self._folder / "data")
        initdb = [str(programs / "initdb"), "-D", data, "-U", USER, "-E", "UTF8"]
        initdb += ["--locale=C", "-A", "scram-sha-256", f"--pwfile={password}", "-N"]
        done = subprocess.run(
            initdb,
            user=self._owner,
            group=self._owner,
            extra_groups=None if self._owner is None else (),
            env={"PATH": os.environ["PATH"]},
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"initdb: {done.stderr}")
        with Path(data, "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_CONFIGURATION.format(folder=self._folder))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [str(programs / "postgres"), "-D", data],
                user=self._owner,
                group=self._owner,
                extra_groups=None if self._owner is None else (),
                env={"PATH": os.environ["PATH"]},
                cwd=self._folder,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                self.administer().close()
            except psycopg.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._process.kill()
                    self._process.wait()
                    words = self._log.read_text(encoding="utf-8", errors="replace")
                    raise RuntimeError(f"postgres: {words}") from None
                time.sleep(0.05)
            else:
                return

    def administer(self, database: str = "postgres") -> psycopg.Connection:
        """Connect as the owner of everything."""
        return psycopg.connect(
            host=str(self._folder),
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
        )

    def new_database(self) -> URL:
        """Make an empty database and give its URL, as ``--store`` takes it."""
        name = "test_" + secrets.token_hex(8)
        with self.administer() as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
            )
        return URL.create(
            "postgresql",
            username=USER,
            password=PASSWORD,
            database=name,
            query={"host": str(self._folder)},
        )

    def drop_database(self, url: URL) -> None:
        """Delete a database, whoever is connected to it."""
        with self.administer() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    sql.Identifier(url.database or "")
                )
            )

    def stop(self) -> None:
        """End the server, and delete its folder."""
        # SIGINT asks for an end that does not wait for clients.
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(STOP_TIMEOUT_S)
        finally:
            self._process.kill()
            self._process.wait()
            shutil.rmtree(self._folder)


@cache
def postgres() -> PostgresServer:
    """
    Give the server of this test run; it is started when it is first wanted.

    Raises:
        SkipTest: PostgreSQL is not installed.
    """
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda path: float(path.parts[-3]),
    )
    on_path = shutil.which("postgres")
    programs = found[-1].parent if found else on_path and Path(on_path).parent
    if not programs:
        raise SkipTest("PostgreSQL is not installed: apt-get install postgresql")
    return PostgresServer(programs)


def _unprivileged() -> str | None:
    """Name somebody else, because PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"

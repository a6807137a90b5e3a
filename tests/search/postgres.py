"""A PostgreSQL of the tests' own: a cluster in a temporary folder, gone when they end."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PASSWORD = "pa-ss:word"
"""As a user may have one; in an address its colon is %3A."""


def binaries() -> Path | None:
    """Where initdb and pg_ctl are; Debian keeps them off the path."""
    found = [Path(word).parent for word in [shutil.which("initdb")] if word]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((p for p in found if (p / "initdb").exists() and (p / "pg_ctl").exists()), None)


needs_postgres = pytest.mark.skipif(
    binaries() is None, reason="no initdb: apt-get install postgresql"
)


class Cluster:
    """One server, in a folder of an unprivileged user (PostgreSQL does not run as root)."""

    def __init__(self) -> None:
        where = binaries()
        assert where is not None
        self._bin = where
        self._user: dict[str, int] = {}
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-of-a-test-", dir="/tmp"))
        if os.geteuid() == 0:
            known = {one.pw_name: one for one in pwd.getpwall()}
            user = known.get("postgres") or known["nobody"]
            self._user = {"user": user.pw_uid, "group": user.pw_gid}
            os.chown(self.folder, user.pw_uid, user.pw_gid)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]

    def _run(self, program: str, *words: str) -> None:
        with (self.folder.parent / f"{self.folder.name}.log").open("ab") as log:
            done = subprocess.run(
                [self._bin / program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                cwd=self.folder, timeout=60, env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
                extra_groups=[] if self._user else None, **self._user,  # type: ignore[call-overload]
            )  # fmt: skip
        assert done.returncode == 0, self.log

    @property
    def log(self) -> str:
        """What its programs have said."""
        return (self.folder.parent / f"{self.folder.name}.log").read_text(errors="replace")

    def make(self) -> None:
        """Create and start it."""
        word = self.folder / "password"
        word.write_text(PASSWORD)
        word.chmod(0o644)
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "tester", "-A", "scram-sha-256",
                  f"--pwfile={word}", "-E", "UTF8", "-N")  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = (f"-p {self.port} -c listen_addresses=127.0.0.1 -k {self.folder} -c fsync=off "
                   "-c shared_buffers=16MB -c max_connections=60")  # fmt: skip
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-w", "-t", "50", "-o", options,
                  "-l", str(self.folder / "server.log"), "start")  # fmt: skip

    def stop(self) -> None:
        """Let it die in mid-sentence."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        """Stop it if it runs, and leave nothing behind."""
        if (self.folder / "data" / "postmaster.pid").exists():
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        (self.folder.parent / f"{self.folder.name}.log").unlink(missing_ok=True)

    def url(self, database: str, password: str = PASSWORD) -> str:
        """The address of a database, as users write it."""
        said = password.replace(":", "%3A")
        return f"postgresql://tester:{said}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """The rows that a statement gives."""
        import pg8000.dbapi

        connection = pg8000.dbapi.connect(
            "tester", host="127.0.0.1", port=self.port, password=PASSWORD, database=database
        )
        with contextlib.closing(connection):
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute(statement)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"search_{secrets.token_hex(4)}"
        self.execute(f"create database {name}")
        return self.url(name)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server for the tests of one file."""
    made = Cluster()
    try:
        made.make()
        yield made
    finally:
        made.remove()

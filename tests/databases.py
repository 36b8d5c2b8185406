"""Databases that really run: a file of SQLite, and a PostgreSQL that is started here where Debian's is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin")) if Path("/usr/lib/postgresql").is_dir() else []


class Postgres:
    """A server of its own in a folder, by a user who is not root."""

    def __init__(self, folder):
        self.folder, self.bin = folder, SERVERS[-1]
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        if os.getuid() == 0:
            shutil.chown(folder, "postgres")
        self._run("initdb", "-D", folder / "data", "-U", "souq", "-A", "trust", "--no-sync")
        self.start()

    @property
    def url(self):
        return f"postgresql://souq@127.0.0.1:{self.port}/postgres"

    def start(self):
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-D", self.folder / "data", "-o", options, "-l", self.folder / "log", "start")

    def stop(self, how="immediate"):
        self._run("pg_ctl", "-w", "-D", self.folder / "data", "-m", how, "stop")

    def fresh(self):
        """The URL of an empty database."""
        name = f"hub{time.monotonic_ns()}"
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "souq", name)
        return self.url.replace("/postgres", f"/{name}")

    def _run(self, program, *words):
        other = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups") if os.getuid() == 0 else ()
        subprocess.run([*other, self.bin / program, *words], check=True, stdout=subprocess.DEVNULL, cwd=self.folder)


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL, started."""
    if not SERVERS:
        pytest.skip("no PostgreSQL is installed: apt-get install postgresql")
    folder = Path(
        subprocess.run(
            ["mktemp", "-d", "/tmp/souq-pg-XXXXXX"], check=True, capture_output=True, text=True
        ).stdout.strip()
    )
    server = Postgres(folder)
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


POSTGRES = [pytest.mark.server, pytest.mark.postgres]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=POSTGRES)])
def database_url(request, tmp_path):
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hub.sqlite"
    return request.getfixturevalue("postgres").fresh()

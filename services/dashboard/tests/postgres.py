"""A PostgreSQL of a test's own, from Debian's package, ended with the test."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg

from agorai_shared.processes import die_with_parent


def find_postgres() -> Path | None:
    """Give the folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Run one on a free port, without any lasting; gives its URL without a database."""
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    # Where another user gets to: the folder for temporary files may be this one's alone.
    folder = Path(tempfile.mkdtemp(prefix="agorai-postgres-", dir="/tmp" if user else None))  # noqa: S108
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = str(folder / "data")
        initialised = [str(programs / "initdb"), "-D", data, "-U", "test", "-A", "trust", "--no-sync"]
        subprocess.run(initialised, check=True, capture_output=True, user=user, cwd=folder)
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        options = (
            "fsync=off",
            "full_page_writes=off",
            "unix_socket_directories=",
            "listen_addresses=127.0.0.1",
        )
        command = [str(programs / "postgres"), "-D", data, "-p", str(port)]
        for option in options:
            command += ["-c", option]
        server = subprocess.Popen(
            command,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=user,
            cwd=folder,
            preexec_fn=die_with_parent(),  # noqa: PLW1509
        )
        try:
            _await(port, server)
            yield f"postgresql+psycopg://test@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)  # at once, with all connections
            server.wait(20)
    finally:
        shutil.rmtree(folder)


def _await(port: int, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + 30
    while time.monotonic() < give_up and server.poll() is None:
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(f"postgresql://test@127.0.0.1:{port}/postgres").close()
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")


def new_database(server: str) -> str:
    """Make an empty schema, as good as a database and made in no time, and give its URL."""
    name = f"read_model_{uuid4().hex}"
    with psycopg.connect(f"{server.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    return f"{server}/postgres?options=-csearch_path%3D{name}"

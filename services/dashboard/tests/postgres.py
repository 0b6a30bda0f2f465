"""A PostgreSQL of a test's own, from Debian's package, ended with the test."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from uuid import uuid4

import psycopg

from agorai_shared.processes import die_with_parent


def find_postgres() -> Path | None:
    """Give the folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found else None


@contextmanager
def running_postgres(programs: Path) -> Iterator[str]:
    """Run one at a socket in a folder of its own, without any lasting; gives the URL of its first database."""
    user = "nobody" if os.geteuid() == 0 else None  # it refuses to run as root
    # Where another user gets to: the folder for temporary files may be this one's alone.
    folder = Path(tempfile.mkdtemp(prefix="agorai-postgres-", dir="/tmp" if user else None))  # noqa: S108
    try:
        if user is not None:
            shutil.chown(folder, user)
        data = str(folder / "data")
        initialised = [str(programs / "initdb"), "-D", data, "-U", "test", "-A", "trust", "--no-sync"]
        subprocess.run(initialised, check=True, capture_output=True, user=user, cwd=folder)
        options = (
            "fsync=off",
            "full_page_writes=off",
            f"unix_socket_directories={folder}",
            "listen_addresses=",
            "lc_messages=C",
        )
        command = [str(programs / "postgres"), "-D", data]
        for option in options:
            command += ["-c", option]
        server = subprocess.Popen(
            command,
            stderr=subprocess.PIPE,
            user=user,
            cwd=folder,
            preexec_fn=die_with_parent(),  # noqa: PLW1509
        )
        assert server.stderr is not None
        with server.stderr as log:
            drain = threading.Thread(target=_drain, args=(log,), daemon=True)
            try:
                _await(log)
                drain.start()
                yield f"postgresql+psycopg://test@/postgres?host={folder}"
            finally:
                server.send_signal(signal.SIGINT)  # at once, with all connections
                server.wait()
                if drain.ident is not None:
                    drain.join()
    finally:
        shutil.rmtree(folder)


def _await(log: IO[bytes]) -> None:
    said = []
    for line in log:
        if b"database system is ready to accept connections" in line:
            return
        said.append(line.decode(errors="replace"))
    raise RuntimeError("PostgreSQL did not start: " + "".join(said))


def _drain(log: IO[bytes]) -> None:
    """Read on: a server whose log nobody reads stands still one day."""
    for _ in log:
        pass


def new_database(server: str) -> str:
    """Make an empty schema, as good as a database and made in no time, and give its URL."""
    name = f"read_model_{uuid4().hex}"
    with psycopg.connect(server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"')
    return f"{server}&options=-csearch_path%3D{name}"

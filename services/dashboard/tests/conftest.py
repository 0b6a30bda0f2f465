"""Read models on both databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from .postgres import find_postgres, new_database, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    programs = find_postgres()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed (Debian's package `postgresql`)")
    with running_postgres(programs) as server:
        yield server


@pytest.fixture(scope="session", params=["sqlite", "postgresql"])
def empty_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[], str]:
    """Give what makes empty databases of each kind, and gives their URLs."""
    if request.param == "sqlite":
        return lambda: f"sqlite:///{tmp_path_factory.mktemp('read model') / 'dashboard.sqlite'}"
    server = request.getfixturevalue("postgres")
    return lambda: new_database(server)


@pytest.fixture
def database(empty_database: Callable[[], str]) -> str:
    """Give the URL of an empty database of each kind."""
    return empty_database()

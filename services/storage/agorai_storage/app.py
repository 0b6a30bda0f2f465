"""The storage service: its block store, its routes and its readiness check, wired."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from faststream.nats import NatsBroker

from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_storage.blocks import BlockStore
from agorai_storage.handlers import routes
from agorai_storage.objects import ObjectStore
from agorai_storage.settings import StorageSettings


def create(settings: StorageSettings, token: str) -> Service:
    """Open the store and give its service; the folder is given free when the service's background ends.

    Parameters
    ----------
    token
        What writers must show as a bearer token.

    Raises
    ------
    StoreInUseError, StoreReadOnlyError, StoreFullError, StoreFaultError
    """
    objects = ObjectStore(BlockStore(settings.path), settings.max_object_size)

    @asynccontextmanager
    async def background() -> AsyncIterator[None]:
        try:
            yield
        finally:
            objects.close()

    async def writable() -> None:
        await objects.in_thread(objects.blocks.check_writable)

    return Service(
        name="storage",
        routes=routes(objects, token),
        background=background,
        checks={"disk": writable},
    )


def main() -> None:
    """Run the storage service alone."""
    node = NodeSettings()  # from the environment

    @asynccontextmanager
    async def build(_broker: NatsBroker) -> AsyncIterator[Service]:
        yield create(StorageSettings(), node.node_token.get_secret_value())

    run(node, build)


if __name__ == "__main__":
    main()

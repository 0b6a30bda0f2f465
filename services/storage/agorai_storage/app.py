"""The storage service: its store, its routes, its readiness check and what is measured of it, wired."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from faststream.nats import NatsBroker
from yarl import URL

from agorai_shared import logging, metrics
from agorai_shared.errors import AgoraiError
from agorai_shared.service import Service, run
from agorai_shared.settings import NodeSettings
from agorai_shared.standby import active
from agorai_storage.backend import Backend
from agorai_storage.embedded import EmbeddedStore
from agorai_storage.handlers import routes
from agorai_storage.settings import StorageSettings

log = logging.get(__name__)

_BLOCKS = metrics.gauge("agorai_storage_blocks", "Blocks held")
_BYTES = metrics.gauge("agorai_storage_bytes", "Bytes of all blocks held")
_PINS = metrics.gauge("agorai_storage_pins", "Pins")
_QUOTA = metrics.gauge("agorai_storage_quota_bytes", "The most that all blocks may have, 0 without a limit")
_FREE = metrics.gauge("agorai_storage_free_bytes", "Left on the disk of the store's own blocks, 0 with Kubo")

_LOOK_S: Final = 10.0
"""Seconds between looks at what is held."""

_SHARE: Final = 50
"""A look that takes long, as with Kubo, which lists all blocks, takes at most this part of the time."""


def create(settings: StorageSettings, token: str) -> Service:
    """Open the store and give its service; the store is given free when the service's background ends.

    Parameters
    ----------
    token
        What all who do more than read must show as a bearer token.

    Raises
    ------
    StoreInUseError, StoreReadOnlyError, StoreFullError, StoreFaultError, KuboAddressError
    """
    backend = _backend(settings)
    folder = settings.path if settings.kubo_url is None else None

    @asynccontextmanager
    async def background() -> AsyncIterator[None]:
        looking = asyncio.create_task(_measure(backend, folder), name="storage-measure")
        try:
            yield
        finally:
            looking.cancel()
            await asyncio.wait([looking])
            await backend.close()

    return Service(
        name="storage",
        routes=routes(backend, token),
        background=background,
        checks={"disk": backend.check},
    )


def _backend(settings: StorageSettings) -> Backend:
    if settings.kubo_url is not None:
        from agorai_storage.kubo import KuboStore  # noqa: PLC0415 - an HTTP client of its own

        return KuboStore(_multiaddr(settings.kubo_url), settings.max_object_size, settings.quota)
    return EmbeddedStore(settings.path, settings.max_object_size, settings.quota)


def _multiaddr(address: str) -> str:
    """Give a URL as the multiaddr that Kubo's client wants; what is no HTTP URL is left as it is."""
    try:
        url = URL(address)
    except ValueError:
        return address
    if url.scheme not in ("http", "https") or not url.host:
        return address
    kind = "ip6" if ":" in url.host else "ip4" if url.host.replace(".", "").isdigit() else "dns"
    return f"/{kind}/{url.host}/tcp/{url.port}/{url.scheme}"


async def _measure(backend: Backend, folder: Path | None) -> None:
    """Keep the gauges near what is held. A scrape cannot wait for a store, so it gets what was found last."""
    loop = asyncio.get_running_loop()
    while True:
        begun = loop.time()
        try:
            stat = await backend.stat()
        except AgoraiError as error:
            log.warning("storage.not_measured", reason=str(error))
        else:
            _BLOCKS.set(stat.blocks)
            _BYTES.set(stat.size)
            _PINS.set(stat.pins)
            _QUOTA.set(stat.quota or 0)
            if folder is not None:
                _FREE.set(shutil.disk_usage(folder).free)
        await asyncio.sleep(max(_LOOK_S, _SHARE * (loop.time() - begun)))


def main() -> None:
    """Run the storage service alone."""
    node, settings = NodeSettings(), StorageSettings()  # from the environment

    @asynccontextmanager
    async def build(_broker: NatsBroker) -> AsyncIterator[Service]:
        alone = nullcontext() if settings.kubo_url else active(settings.path, node)
        async with alone:
            yield create(settings, node.node_token.get_secret_value())

    run(node, build)


if __name__ == "__main__":
    main()

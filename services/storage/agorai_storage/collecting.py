"""What pins reach: pinning a whole DAG, and removing the blocks that no pin reaches.

A collection marks what the pins reach, then removes the rest, a batch at a time. Uploads go on meanwhile: a
batch is removed under the lock under which an upload notes each block that it brings or relies on, those that
end while a collection runs are remembered until it has ended, and a new pin on blocks that lie here already waits
for its end. So nothing that is pinned or half written is ever taken.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

from agorai_shared import cid as cids
from agorai_shared import dag_pb, logging
from agorai_shared.cid import CidParts, Codec
from agorai_shared.errors import AgoraiError
from agorai_shared.types import Cid, Digest
from agorai_storage.backend import Collected, DagIncompleteError, Pin, PinIncompleteError
from agorai_storage.blocks import BlockStore
from agorai_storage.index import Entry, Key, now

log = logging.get(__name__)


class Collector:
    """Pins and collections of one block store. Its methods block; call them from threads."""

    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._alone = threading.Lock()

    def pin(self, cid: Cid, name: str) -> Pin:
        """Pin a DAG of which every block is held.

        Raises
        ------
        DagIncompleteError
            If one is not.
        """
        with self._alone:
            sizes: dict[Key, int] = {}
            for block in _reached(self._store, cid, set()):
                held = self._store.held(block.digest)
                if held is None:
                    raise DagIncompleteError(cid, block.text)
                sizes[block.digest] = held
            size = sum(sizes.values())
            pin = Pin(cid, name, size, now())
            with self._store.disk_errors():
                self._store.index.publish([Entry((), (), [pin])])
                return self._store.index.pin(cid) or pin

    def unpin(self, cid: Cid) -> bool:
        """Remove a pin; tells whether there was one."""
        with self._store.disk_errors():
            return self._store.index.unpin(cid)

    def pins(self) -> list[Pin]:
        """Give the pins, oldest first."""
        with self._store.disk_errors():
            return self._store.index.pins()

    def count(self) -> int:
        """Count the pins."""
        with self._store.disk_errors():
            return self._store.index.count()

    def collect(self) -> Collected:
        """Remove the blocks that no pin reaches and no upload relies on.

        Raises
        ------
        PinIncompleteError
        """
        with self._alone, self._store.sparing() as ended, self._store.disk_errors():
            live = self._live()
            blocks = size = 0
            for keys in self._candidates():
                removed = self._store.remove((key for key in keys if key not in live), ended)
                blocks += removed.blocks
                size += removed.size
            self._store.index.shrink()
        log.info("store.collected", blocks=blocks, bytes=size)
        return Collected(blocks, size)

    def _live(self) -> set[Key]:
        live: set[Key] = set()
        followed: set[Key] = set()
        for pin in self._store.index.pins():
            for block in _reached(self._store, pin.cid, followed):
                if block.digest not in live and self._store.held(block.digest) is None:
                    raise PinIncompleteError(pin.cid, block.text)
                live.add(block.digest)
        return live

    def _candidates(self) -> Iterator[list[Key]]:
        yield from self._store.index.keys()
        # and what the index does not know: an upload was killed between its names and its acknowledgement
        yield from self._store.on_disk()


def adopt(store: BlockStore) -> None:
    """Take in the blocks of a folder that has no index yet, and pin every block that no other refers to.

    So a folder from before there was an index, or one whose index was lost, loses nothing to a collection.

    Raises
    ------
    StoreReadOnlyError, StoreFullError, StoreFaultError
    """
    if store.index.complete:
        return
    kinds: dict[Key, Codec] = {}
    children: set[Key] = set()
    with store.disk_errors():
        for keys in store.on_disk():
            entries = []
            for key in keys:
                data = store.read_file(key)
                if cids.sha256(data) != key:
                    continue
                entries.append((key, len(data)))
                links = _links_held(store, data)
                children.update(links)
                kinds[key] = Codec.DAG_PB if links else Codec.RAW
            store.index.publish([Entry((), entries, ())])
        reached: set[Key] = set()
        # what a leaf that reads as a node seems to link to is reached by nothing else: it gets a pin of its own
        for likely in (True, False):
            for key, codec in kinds.items():
                if key not in reached and (key not in children or not likely):
                    root = CidParts(1, codec, Digest(key)).text
                    try:
                        reached.update(part.digest for part in _reached(store, root, set()))
                    except AgoraiError as error:  # the pin will tell it to who collects
                        log.warning("pin.incomplete", cid=root, reason=error.message)
                    store.index.publish([Entry((), (), [Pin(root, "adopted", 0, now())])])
        store.index.completed()
    if kinds:
        log.warning("store.adopted", blocks=len(kinds), root=str(store.root))


def _links_held(store: BlockStore, data: bytes) -> list[Key]:
    """Give what a block links to if it is a node; a leaf whose bytes read as one links to nothing held."""
    try:
        links = [link.cid.digest for link in dag_pb.decode(data).links]
    except AgoraiError:
        return []
    return list(links) if all(store.exists(key) for key in links) else []


def _reached(store: BlockStore, root: Cid, followed: set[Key]) -> Iterator[CidParts]:
    """Give every block below a root, each before it is read; what was followed before is not followed again."""
    waiting = [cids.parse(root)]
    while waiting:
        block = waiting.pop()
        yield block
        if block.codec is Codec.DAG_PB and block.digest not in followed:
            followed.add(block.digest)
            waiting += [link.cid for link in dag_pb.decode(store.get(block.text)).links]

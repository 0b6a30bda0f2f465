"""The SDK's content store: the one of a running node, with neither account nor bus.

    async with StoreClient.connect(Home(Path("~/.agorai"))) as store:
        stored = await store.put(pieces())
        async for piece in store.get(stored.cid):
            ...

What is read is verified here, block by block, and what is streamed in is hashed here too: the store cannot change
a byte unnoticed. What the store itself refuses comes as a `RemoteError`, with its code, message and remedy.

    UnavailableError
    └── StoreUnreachableError   (of content.py) it does not answer
    NotFoundError
    ├── ContentNotFoundError    (of content.py) it does not hold what was asked for
    └── NoPeerHasError          (of peers.py) nor do the other stores that were named
    IntegrityError
    ├── CidMismatchError        (of cid.py) what it gives, or says that it stored, is something else
    └── StoreAnswerError        (of content.py) something else answers there
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal, Self

import aiohttp

from agorai.home import Home, NodeFile
from agorai.store_http import Outgoing, StoreHttp
from agorai_shared import car, dag, dag_pb, directory, file_reader, unixfs
from agorai_shared import cid as cids
from agorai_shared.car import CarReader, CarTruncatedError
from agorai_shared.cid import CidMismatchError, Codec
from agorai_shared.content import ContentStore, Patience, StoreAnswerError
from agorai_shared.peers import Peers
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Fetch, Kind, Profile, TreeHasher
from agorai_storage.backend import Collected, Pin, Stat, Stored

EntryKind = Literal["file", "directory", "symlink", "other"]
OnProgress = Callable[[int, int | None], None]
"""Told how many bytes have gone, and of how many; None where that is not known."""

OTHERS: Final = Patience(attempts=2, connect_s=5, silence_s=20, block_s=60)
"""With each of several stores."""

_WINDOW: Final = 8
"""Blocks of a file that are fetched ahead, each of a mebibyte."""
_LISTED_AT_ONCE: Final = 16

_KINDS: Final[dict[int, EntryKind]] = {
    Kind.RAW: "file",
    Kind.FILE: "file",
    Kind.DIRECTORY: "directory",
    Kind.SHARD: "directory",
    Kind.SYMLINK: "symlink",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a directory, or the object at a path's end.

    `size` is the bytes of a file; of anything else those of all blocks below it, as its directory says, or None.
    """

    name: str
    cid: Cid
    kind: EntryKind
    size: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """An object: its size, its different blocks, and their bytes.

    `size` is the bytes of a file; of anything else those of all blocks below it, as it says itself, which counts
    a block as often as it occurs.
    """

    cid: Cid
    kind: EntryKind
    size: int
    blocks: int
    stored: int


@dataclass(frozen=True, slots=True)
class Imported:
    """What a CAR brought: its roots, now pinned, its blocks, and their bytes."""

    roots: tuple[Cid, ...]
    blocks: int
    size: int


class StoreClient:
    """A node's own store. The session stays the caller's, unless it comes from `connect`.

    Parameters
    ----------
    others
        URLs of stores and gateways that are read from where the node's own store lacks a block.
    """

    def __init__(
        self, url: str, token: str, session: aiohttp.ClientSession, *, others: Sequence[str] = ()
    ) -> None:
        own = ContentStore(url, token, session)
        self.url = url.rstrip("/")
        self._http = StoreHttp(self.url, token, session)
        stores = [own, *(ContentStore(other, None, session, patience=OTHERS) for other in others)]
        self.fetch: Fetch = Peers(stores).get_block if others else own.get_block

    @classmethod
    @asynccontextmanager
    async def connect(cls, node: Home | NodeFile, *, others: Sequence[str] = ()) -> AsyncIterator[Self]:
        """Reach the store of a running node.

        Raises
        ------
        NodeNotRunningError, StoreUrlError
        """
        info = node.running_node() if isinstance(node, Home) else node
        async with aiohttp.ClientSession() as session:
            yield cls(info.url, info.token, session, others=others)

    # ---------------------------------------------------------------------------------------------- writing

    async def put(
        self,
        pieces: AsyncIterable[bytes],
        *,
        profile: Profile = UNIXFS_V1,
        pin: bool = True,
        name: str = "",
    ) -> Stored:
        """Store a stream as a file, hashing it on its way; once this returns it is on the node's disk.

        Raises
        ------
        StoreUnreachableError, RemoteError, StoreAnswerError, CidMismatchError
            And whatever the stream raises.
        """
        hasher = TreeHasher(profile)
        outgoing = Outgoing(pieces, hasher.update)
        query = {"profile": profile.name, "pin": str(pin).lower(), "name": name}
        stored = await self._http.upload("/objects", query, outgoing, Stored)
        cid = await asyncio.to_thread(hasher.finish)
        if stored.cid != cid:
            raise CidMismatchError(stored.cid, cids.digest_of(cid), self.url)
        return stored

    async def import_path(
        self,
        path: str,
        *,
        profile: Profile = UNIXFS_V1,
        name: str = "",
        on_progress: OnProgress = lambda _done, _of: None,
    ) -> Stored:
        """Have the node read a file or folder of its own machine, by absolute path, store and pin it.

        Raises
        ------
        StoreUnreachableError, RemoteError, StoreAnswerError
        """
        order = {"path": path, "profile": profile.name, "name": name}
        return await self._http.done(
            "POST", "/imports", order, Stored, lambda line: on_progress(line["done"], line["of"])
        )

    async def import_car(self, pieces: AsyncIterable[bytes], *, name: str = "") -> Imported:
        """Store the blocks of a CAR and pin its roots, of which all blocks must be in it or in the store.

        Each block is verified here first, so that what is wrong with a CAR is told whatever the connection does.

        Raises
        ------
        CarMalformedError, CarTruncatedError, CidMismatchError, CidUnsupportedError
        StoreUnreachableError, RemoteError, StoreAnswerError
            And whatever the stream raises.
        """
        reader = await CarReader.open(pieces)
        outgoing = Outgoing(car.write(reader.roots, reader.blocks()))
        return await self._http.upload("/cars", {"name": name}, outgoing, Imported)

    # ---------------------------------------------------------------------------------------------- reading

    def get(self, cid: Cid, *, first: int = 0, last: int | None = None) -> AsyncIterator[bytes]:
        """Stream a file's bytes `first` to `last`, both inclusive, each block verified before it is yielded.

        Raises
        ------
        CidError, ContentNotFoundError, NoPeerHasError, StoreUnreachableError, RemoteError, CidMismatchError
        BlockMalformedError, NotAFileError, TreeInconsistentError, RangeNotSatisfiableError
        """
        return file_reader.read_file(cids.canonical(cid), self.fetch, window=_WINDOW, first=first, last=last)

    async def resolve(self, path: str) -> Entry:
        """Follow `CID[/name...]` and tell what is there; its name is the path's last.

        Raises
        ------
        CidError, PathNameError, EntryNotFoundError, BlockMalformedError
            And what `fetch` raises.
        """
        root, *names = path.removeprefix("ipfs://").removeprefix("/ipfs/").rstrip("/").split("/")
        found = await directory.resolve(cids.canonical(root), names, self.fetch)
        kind, size = await self._look(found.cid)
        return Entry(names[-1] if names else found.cid, found.cid, kind, size)

    async def entries(self, cid: Cid) -> AsyncIterator[Entry]:
        """List a directory. The sizes of files that are one bare block are as the directory says.

        Raises
        ------
        DirectoryExpectedError, BlockMalformedError, PathNameError
            And what `fetch` raises.
        """
        looking: list[asyncio.Task[Entry]] = []
        try:
            async for link in directory.list_directory(cid, self.fetch):
                looking.append(asyncio.create_task(self._entry(link)))
                if len(looking) == _LISTED_AT_ONCE:
                    yield await looking[0]
                    del looking[0]
            while looking:
                yield await looking[0]
                del looking[0]
        finally:
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)

    async def measure(self, entry: Entry) -> Measured:
        """Count an object's blocks, reading the nodes of its tree but not its bare leaves.

        Raises
        ------
        BlockMalformedError
            And what `fetch` raises.
        """
        met = {entry.cid}
        waiting = [(entry.cid, entry.size or 0)]
        stored = 0
        total = entry.size or 0
        while waiting:
            cid, size = waiting.pop()
            if cids.parse(cid).codec is Codec.RAW:
                stored += size
                continue
            block = await self.fetch(cid)
            stored += len(block)
            links = dag_pb.links_of(cid, block)
            if cid == entry.cid and entry.kind != "file":
                total = len(block) + sum(link.total_size for link in links)
            for link in links:
                if link.cid.text not in met:
                    met.add(link.cid.text)
                    waiting.append((link.cid.text, link.total_size))
        return Measured(entry.cid, entry.kind, total, len(met), stored)

    async def export_car(self, cid: Cid) -> AsyncIterator[bytes]:
        """Give a whole DAG as a CAR, whose every block has been verified and none of which is missing.

        Raises
        ------
        CidError, CarMalformedError, CarTruncatedError, CidMismatchError, DagTooDeepError
        StoreUnreachableError, RemoteError
        """
        cid = cids.canonical(cid)
        async with aclosing(
            self._http.pieces(f"/ipfs/{cid}", {"format": "car", "dag-scope": "all"})
        ) as pieces:
            reader = await CarReader.open(pieces)
            blocks = reader.blocks()

            async def following(wanted: Cid) -> bytes:
                # the CAR has the blocks in the order of a walk, so the walk shows whether one is missing
                block = await anext(blocks, None)
                if block is None:
                    raise CarTruncatedError(f"the DAG: {wanted} is missing")
                if block.cid != wanted:
                    raise StoreAnswerError(self.url, f"{block.cid} where {wanted} belongs")
                return block.data

            async for piece in car.write([cid], dag.walk(cid, following)):
                yield piece

    async def _entry(self, link: dag_pb.PbLink) -> Entry:
        if link.cid.codec is Codec.RAW:
            return Entry(link.name, link.cid.text, "file", link.total_size)
        kind, size = await self._look(link.cid.text)
        return Entry(link.name, link.cid.text, kind, link.total_size if size is None else size)

    async def _look(self, cid: Cid) -> tuple[EntryKind, int | None]:
        """Tell what an object is, and of a file its size."""
        block = await self.fetch(cid)
        if cids.parse(cid).codec is Codec.RAW:
            return "file", len(block)
        data = dag_pb.decode(block).data
        kind = "other" if data is None else _KINDS.get(unixfs.decode_message(data).kind, "other")
        return kind, unixfs.decode_node(block).file_size if kind == "file" else None

    # ------------------------------------------------------------------------------------------------- pins

    async def pins(self) -> list[Pin]:
        """Give all pins."""
        answer = await self._http.asked("GET", "/pins")
        if not isinstance(answer, dict):
            raise StoreAnswerError(self.url, "no list of pins")
        return self._http.shaped(list[Pin], answer.get("pins"))

    async def pin(
        self,
        cid: Cid,
        *,
        name: str = "",
        peers: Sequence[str] = (),
        on_progress: OnProgress = lambda _done, _of: None,
    ) -> Pin:
        """Keep a DAG, its missing blocks fetched from the stores at these URLs, at most 32.

        Raises
        ------
        CidError, StoreUnreachableError, RemoteError, StoreAnswerError
        """
        order = {"name": name, "from": list(peers)}
        return await self._http.done(
            "PUT", f"/pins/{cids.canonical(cid)}", order, Pin, lambda line: on_progress(line["bytes"], None)
        )

    async def unpin(self, cid: Cid) -> None:
        """Let the next collection remove a DAG, unless other pins reach it.

        Raises
        ------
        CidError, StoreUnreachableError, RemoteError
        """
        await self._http.asked("DELETE", f"/pins/{cids.canonical(cid)}")

    async def collect(self) -> Collected:
        """Remove what no pin reaches; gives how many blocks that was, and their bytes."""
        return self._http.shaped(Collected, await self._http.asked("POST", "/collections"))

    async def stat(self) -> Stat:
        """Tell what the store holds."""
        return self._http.shaped(Stat, await self._http.asked("GET", "/stat"))

"""What every store is, whether it keeps its blocks itself or has a Kubo keep them, and what it can raise.

    BlockNotFoundError (NotFoundError)     a block that this store does not hold
    PinNotFoundError (NotFoundError)       a CID that is not pinned
    BlockCorruptError (IntegrityError)     a stored block is no longer what its name says
    DagIncompleteError (RefusedError)      a pin was asked for, but blocks below it are missing
    ObjectTooLargeError (RefusedError)     an object exceeds what the store takes
    QuotaExceededError (RefusedError)      all that is stored would exceed what it may
    StoreFullError, StoreReadOnlyError, StoreFaultError, StoreStoppingError, StoreInUseError (UnavailableError)

A Kubo adds errors of its own, see `kubo_errors`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from agorai_shared.errors import IntegrityError, NotFoundError, RefusedError, UnavailableError
from agorai_shared.types import Cid
from agorai_shared.unixfs import UNIXFS_V1, Block, Profile


class BlockNotFoundError(NotFoundError):
    """The store does not hold a block."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(f"This store does not have {cid}.", remedy="Read it from another store.")


class PinNotFoundError(NotFoundError):
    """A CID is not pinned."""

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"{cid} is not pinned in this store.",
            remedy="List the pins: what lies below a pin goes with that pin, and CIDv0 and CIDv1 are two.",
        )


class BlockCorruptError(IntegrityError):
    """A block on disk is no longer what its name says."""

    http_status = 500

    def __init__(self, cid: Cid) -> None:
        super().__init__(
            f"The stored block {cid} is damaged on disk and was taken out of the store.",
            remedy="Store the object again from its source, and check the disk.",
        )


class DagIncompleteError(RefusedError):
    """A pin keeps a whole DAG, and some of it is missing."""

    http_status = 409

    def __init__(self, root: Cid, missing: Cid | None = None) -> None:
        super().__init__(
            f"{root} was not pinned: {missing or 'a block of it'} is not in this store.",
            remedy="Send all its blocks, or pin it from a peer that has them.",
        )


class PinIncompleteError(IntegrityError):
    """A block below a pin was lost, and with it what says which other blocks the pin keeps."""

    http_status = 409

    def __init__(self, root: Cid, missing: Cid) -> None:
        super().__init__(
            f"The pinned {root} has lost its block {missing}; nothing was collected.",
            remedy="Pin it again from a store that has it (`agorai store pin add --from URL`), or unpin it.",
        )


class ObjectTooLargeError(RefusedError):
    """An object exceeds what the store takes."""

    http_status = 413

    def __init__(self, limit: int) -> None:
        super().__init__(
            f"The object has more than {limit} bytes, the most that this store takes.",
            remedy="Split it, or raise AGORAI_STORAGE_MAX_OBJECT_SIZE.",
        )


class QuotaExceededError(RefusedError):
    """All blocks together would exceed the quota."""

    http_status = 507

    def __init__(self, quota: int) -> None:
        super().__init__(
            f"With this object the store would hold more than its quota of {quota} bytes; it was not stored.",
            remedy="Unpin what is not needed and collect, or raise the quota.",
        )


class SnapshotElsewhereError(RefusedError):
    """What is kept is not this store's to copy."""

    def __init__(self) -> None:
        super().__init__(
            "The blocks of this store are Kubo's.",
            remedy="Make Kubo's own backup of its repository, and leave out --with-content.",
        )


class StoreFullError(UnavailableError):
    """The disk has no room."""

    http_status = 507
    retryable = False

    def __init__(self, store: Path | str) -> None:
        super().__init__(
            f"The disk under the store {store} is full; nothing of the object was kept.",
            remedy="Make room, or move the store with AGORAI_STORAGE_PATH.",
        )


class StoreReadOnlyError(UnavailableError):
    """The disk cannot be written."""

    retryable = False

    def __init__(self, store: Path | str) -> None:
        super().__init__(
            f"The store {store} cannot be written; nothing of the object was kept.",
            remedy="Mount it writable and give the user that runs the store the right to write there.",
        )


class StoreFaultError(UnavailableError):
    """The disk fails."""

    retryable = False

    def __init__(self, store: Path | str, why: str) -> None:
        super().__init__(f"The disk under the store {store} fails ({why}).", remedy="Check the disk.")


class StoreStoppingError(UnavailableError):
    """The store is being closed."""

    def __init__(self) -> None:
        super().__init__("The store is stopping.", remedy="Ask again once it has started anew.")


class StoreInUseError(UnavailableError):
    """Another process owns the folder."""

    retryable = False

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The store {path} is in use by another process.",
            remedy="Stop that one, or name another folder with AGORAI_STORAGE_PATH.",
        )


@dataclass(frozen=True, slots=True)
class Stored:
    """An acknowledged object; `size` is the bytes of the file."""

    cid: Cid
    size: int


@dataclass(frozen=True, slots=True)
class Pin:
    """A DAG that collections keep, by its root.

    `size` counts the bytes of all blocks below; `since` is seconds since 1970, 0 where that is not known.
    """

    cid: Cid
    name: str
    size: int
    since: int


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store holds: `size` counts the bytes of all blocks, `quota` is the most it may, in bytes."""

    blocks: int
    size: int
    pins: int
    quota: int | None
    backend: str


@dataclass(frozen=True, slots=True)
class Collected:
    """A number of blocks and their bytes."""

    blocks: int
    size: int


class LocalFile(Protocol):
    """A file of this machine, which threads read, several at once and in any order; every method blocks."""

    def open(self) -> int:
        """Open it, and give its size in bytes; comes first."""
        ...

    def read_into(self, into: memoryview, at: int) -> None:
        """Fill memory with its bytes from an offset on, all of which lie within its size."""
        ...


class Backend(Protocol):
    """Blocks, files made of them, and pins, which say what is kept."""

    max_object_size: int

    async def put(
        self,
        pieces: AsyncIterable[bytes],
        *,
        profile: Profile = UNIXFS_V1,
        pin: bool = True,
        name: str = "",
    ) -> Stored:
        """Store a stream as a file; once this returns all of it is durable and, if asked, pinned.

        If it raises, or is cancelled before the stream has ended, nothing is pinned and a collection
        removes what had been written. Pinning again under another name renames; an empty name keeps the old.

        Raises
        ------
        ObjectTooLargeError, QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
            And whatever the stream raises.
        """
        ...

    async def put_file(
        self, file: LocalFile, *, profile: Profile = UNIXFS_V1, pin: bool = True, name: str = ""
    ) -> Stored:
        """Store a file of this machine, as `put` does a stream.

        Raises
        ------
        ObjectTooLargeError, QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
            And whatever the file's methods raise.
        """
        ...

    async def put_blocks(
        self, blocks: AsyncIterable[Block], roots: Sequence[Cid], *, name: str = ""
    ) -> Collected:
        """Store verified blocks; once this returns all are durable and every root is pinned, recursively.

        If it raises, no root is pinned that was not before. Gives the number and bytes of the blocks.

        Raises
        ------
        DagIncompleteError
            A block below a root is neither among them nor held already.
        QuotaExceededError, StoreFullError, StoreReadOnlyError, StoreFaultError
            And whatever the blocks raise.
        """
        ...

    async def get_block(self, cid: Cid) -> bytes:
        """Read a block, verified.

        Raises
        ------
        BlockNotFoundError, BlockCorruptError, CidMismatchError, StoreFaultError
        """
        ...

    async def block_size(self, cid: Cid) -> int:
        """Give a block's size in bytes without reading it.

        Raises
        ------
        BlockNotFoundError, StoreFaultError
        """
        ...

    async def pin(self, cid: Cid, *, name: str = "") -> Pin:
        """Keep a DAG that is held whole.

        Raises
        ------
        DagIncompleteError
        """
        ...

    async def unpin(self, cid: Cid) -> None:
        """Let a collection remove a DAG, unless other pins reach it.

        Raises
        ------
        PinNotFoundError
        """
        ...

    async def pins(self) -> list[Pin]:
        """Give all pins."""
        ...

    async def stat(self) -> Stat:
        """Give what is held."""
        ...

    async def collect(self) -> Collected:
        """Remove what no pin reaches and no put is writing; gives what was removed.

        Raises
        ------
        PinIncompleteError
            Nothing was removed: what the pin keeps cannot be told.
        """
        ...

    async def snapshot(self) -> Path:
        """Write a copy of what is known of the blocks beside them, and give where it is.

        Raises
        ------
        SnapshotElsewhereError
            The blocks are not in this store's own folder.
        StoreReadOnlyError, StoreFullError, StoreFaultError
        """
        ...

    async def check(self) -> None:
        """Tell whether the store can be read and written now.

        Raises
        ------
        UnavailableError
            One of its leaves.
        """
        ...

    async def close(self) -> None:
        """Let what is under way end, and free what is held open."""
        ...

"""Kubo's RPC API (https://docs.ipfs.tech/reference/kubo/rpc), narrowed to what a store needs, and typed.

ipfshttpclient was written for daemons up to 0.7. `connect()` refuses later ones, so the client is constructed
directly; what it does not know (pin names, `max-file-links`) goes along as plain options; and where its
method fails on a present daemon's answer, its own HTTP layer is called, which says so below. Whatever Kubo is
asked, it is asked `offline`: what is not on its disk is missing at once, not sought in the network.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import requests
from ipfshttpclient import exceptions, multipart
from ipfshttpclient.client import Client

from agorai_shared import cid as cids
from agorai_shared.cid import CidSyntaxError, CidUnsupportedError
from agorai_shared.dag_pb import MAX_BLOCK_SIZE
from agorai_shared.errors import RefusedError, UnavailableError
from agorai_shared.types import Cid
from agorai_shared.unixfs import Profile
from agorai_storage.backend import (
    BlockNotFoundError,
    DagIncompleteError,
    PinNotFoundError,
    StoreFullError,
    StoreReadOnlyError,
)
from agorai_storage.kubo_errors import (
    OLDEST,
    KuboAddressError,
    KuboAnswerError,
    KuboOutdatedError,
    KuboRefusedError,
    KuboUnreachableError,
)

CONNECT_S: Final = 10.0
"""How long a daemon may take to accept a connection."""

CONNECTIONS: Final = 40
"""Connections that are kept for the next call."""

PIECE: Final = 1 << 20
"""Bytes sent at once; twice as fast as ipfshttpclient's 8 KiB."""

_MISSING = re.compile(r"could not find ([0-9A-Za-z]+)")
_NO_LIMIT: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class RepoStat:
    """Bytes on Kubo's disk, the bytes that it may hold if that is limited, and the number of its blocks."""

    size: int
    storage_max: int | None
    blocks: int


class KuboRpc:
    """One daemon. Its methods block, and several threads may call them at once.

    Each raises KuboUnreachableError, KuboRefusedError, KuboAnswerError, StoreFullError and StoreReadOnlyError.

    Parameters
    ----------
    answer_s
        Seconds that the daemon may be silent before it counts as away.
    work_s
        The same for calls that read or write a whole DAG, or wait for one that does: during a collection
        Kubo takes no upload, and during an upload it does not collect.

    Raises
    ------
    KuboAddressError
    """

    def __init__(self, api: str, answer_s: float, work_s: float) -> None:
        self.api = api
        self._client = _client(api, (CONNECT_S, answer_s))
        self._long = (CONNECT_S, work_s)
        # a socket waits for its daemon to take a piece as long as it would wait for the connection
        self._upload = (work_s, work_s)

    def close(self) -> None:
        """End the connections."""
        self._client.close()

    def check_version(self) -> None:
        """See that a daemon answers and knows what it will be asked.

        Raises
        ------
        KuboOutdatedError
        """
        with self._answering("version"):
            version = str(self._client.version()["Version"])
            numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST:
            raise KuboOutdatedError(self.api, version)

    def add(self, pieces: Iterator[bytes], profile: Profile, *, pin: bool, name: str) -> Cid:
        """Add a file; if `pieces` raises, that is raised, and nothing is pinned."""
        options = {
            "cid-version": str(profile.cid_version),
            "raw-leaves": str(profile.raw_leaves).lower(),
            "chunker": f"size-{profile.chunk_size}",
            "max-file-links": str(profile.width),
            "hash": "sha2-256",
            # not left to the daemon's configuration, which may differ
            "trickle": "false",
            "inline": "false",
            "pin": str(pin).lower(),
            "fast-provide-wait": "false",
        }
        if pin and name:
            options["pin-name"] = name
        with self._answering("add"):
            return cids.canonical(self._client.add_bytes(pieces, opts=options, timeout=self._upload))

    def dag_import(self, pieces: Iterator[bytes]) -> None:
        """Import a CAR; nothing is pinned."""
        # dag.imprt() takes files only, and fails on more than one line of answer: there is one for each root
        body, headers = multipart.stream_bytes((piece for piece in pieces), chunk_size=PIECE)
        options = {"pin-roots": "false", "stats": "true", "fast-provide-wait": "false"}
        with self._answering("dag/import"):
            lines = self._client._client.request(
                "/dag/import",
                decoder="json",
                data=body,
                headers=headers,
                opts=options,
                timeout=self._upload,
            )
            if not any(line.get("Stats") for line in lines):
                raise KuboAnswerError(self.api, "dag/import", "nothing of what it stored")

    def block_get(self, cid: Cid) -> bytes:
        """Read a block and verify it.

        Raises
        ------
        BlockNotFoundError, CidMismatchError
        """
        block = bytearray()
        with (
            self._answering("block/get", missing=BlockNotFoundError(cid)),
            self._client.block.get(cid, stream=True) as pieces,
        ):
            for piece in pieces:
                block += piece
                # more than any block has: then the hash cannot fit, and memory is bounded
                if len(block) > MAX_BLOCK_SIZE:
                    break
        cids.verify(cid, block, f"Kubo at {self.api}")
        return bytes(block)

    def block_stat(self, cid: Cid) -> int:
        """Give a block's size in bytes.

        Raises
        ------
        BlockNotFoundError
        """
        with self._answering("block/stat", missing=BlockNotFoundError(cid)):
            return int(self._client.block.stat(cid)["Size"])

    def pin_add(self, cid: Cid, name: str) -> None:
        """Pin a DAG that is all there, or give its pin this name.

        Raises
        ------
        DagIncompleteError
        """
        with self._answering("pin/add"):
            try:
                self._client.pin.add(
                    cid, opts={"name": name, "fast-provide-wait": "false"}, timeout=self._long
                )
            except exceptions.ErrorResponse as error:
                if (missing := missing_block(str(error))) is None:
                    raise
                raise DagIncompleteError(cid, missing) from error

    def pin_rm(self, cid: Cid) -> None:
        """Remove a pin.

        Raises
        ------
        PinNotFoundError
        """
        with self._answering("pin/rm", unpinned=PinNotFoundError(cid)):
            self._client.pin.rm(cid)

    def pin_name(self, cid: Cid) -> str | None:
        """Give the name of a pin, None if it is none."""
        with self._answering("pin/ls"):
            try:
                keys = self._client.pin.ls(cid, type="recursive", opts={"names": "true"})["Keys"]
            except exceptions.ErrorResponse as error:
                if "is not pinned" in str(error):
                    return None
                raise
            return next((str(pin.get("Name", "")) for pin in keys.values()), None)

    def pin_ls(self) -> dict[Cid, str]:
        """Give the names of all recursive pins; those of other codecs and hashes than ours are left out."""
        with self._answering("pin/ls"):
            answer = self._client.pin.ls(type="recursive", opts={"names": "true"}, timeout=self._long)
            keys = answer.as_json().get("Keys", {})
            pins: dict[Cid, str] = {}
            for text, pin in keys.items():
                try:
                    pins[cids.canonical(text)] = str(pin.get("Name", ""))
                except CidUnsupportedError:
                    continue
            return pins

    def repo_stat(self, *, count: bool = False) -> RepoStat:
        """Give what the disk holds; counting the blocks takes Kubo a listing of all of them."""
        with self._answering("repo/stat"):
            stat = self._client.repo.stat(
                opts={"size-only": str(not count).lower()}, timeout=self._long if count else None
            )
            limit = int(stat["StorageMax"])
            return RepoStat(
                int(stat["RepoSize"]), None if limit in (0, _NO_LIMIT) else limit, int(stat["NumObjects"])
            )

    def repo_gc(self) -> int:
        """Remove the blocks that no pin reaches; gives their number."""
        removed = 0
        # repo.gc() would hold all lines at once; and without stream-errors a failure after the first line
        # comes in an HTTP trailer, which no Python client reads
        options = {"stream-errors": "true"}
        with (
            self._answering("repo/gc"),
            self._client._client.request(
                "/repo/gc", decoder="json", stream=True, opts=options, timeout=self._long
            ) as lines,
        ):
            for line in lines:
                if line.get("Error"):
                    raise exceptions.ErrorResponse(line["Error"], None)
                removed += 1
        return removed

    @contextmanager
    def _answering(
        self,
        call: str,
        *,
        missing: BlockNotFoundError | None = None,
        unpinned: PinNotFoundError | None = None,
    ) -> Iterator[None]:
        """Turn what ipfshttpclient raises into our errors."""
        try:
            yield
        except exceptions.ErrorResponse as error:
            reason = str(error)
            if missing is not None and missing_block(reason):
                raise missing from None
            if unpinned is not None and "not pinned" in reason:
                raise unpinned from None
            raise self._refusal(call, reason) from error
        except exceptions.StatusError as error:
            raise KuboAnswerError(self.api, call, error) from error
        # an answer that breaks off in the middle is raised by requests itself
        except (exceptions.CommunicationError, requests.RequestException) as error:
            raise KuboUnreachableError(self.api, _why(error)) from error
        except (
            exceptions.DecodingError,
            CidSyntaxError,
            CidUnsupportedError,
            AssertionError,
            AttributeError,
            KeyError,
            TypeError,
            ValueError,
        ) as error:
            raise KuboAnswerError(self.api, call, error) from error

    def _refusal(self, call: str, reason: str) -> RefusedError | UnavailableError:
        store = f"of Kubo at {self.api}"
        if "no space left" in reason or "quota exceeded" in reason:
            return StoreFullError(store)
        if "read-only file system" in reason or "permission denied" in reason:
            return StoreReadOnlyError(store)
        return KuboRefusedError(self.api, call, reason)


def missing_block(reason: str) -> Cid | None:
    """Give the block that Kubo says it cannot find, None if it says something else."""
    if (found := _MISSING.search(reason)) is None:
        return None
    return cids.canonical(found[1])


def _client(api: str, timeout: tuple[float, float]) -> Any:
    """Give a client; its annotations do not say what its methods return, so it has no type."""
    try:
        client = Client(api, timeout=timeout, chunk_size=PIECE, offline=True)
    except exceptions.AddressError:
        raise KuboAddressError(api) from None
    made: Any = client
    http = made._client
    # a proxy of the environment is for the world, not for this node's daemon
    http._session_props["trust_env"] = False
    http.open_session()
    for adapter in set(http._session.adapters.values()):
        pools = adapter.poolmanager.connection_pool_kw
        pools.pop("strict", None)  # of which urllib3 2 warns at every request
        pools["maxsize"] = CONNECTIONS
    return made


def _why(error: Exception) -> str:
    if isinstance(error, exceptions.TimeoutError) or "timed out" in str(error):
        return "it is silent for too long"
    number = re.search(r"\[Errno -?\d+\] ([\w ]+)", str(error))
    return number[1] if number else "it closed the connection"

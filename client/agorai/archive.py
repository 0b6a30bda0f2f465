"""A backup's file: a tar of what is kept, compressed and sealed under a passphrase.

    magic 15 | log2 of scrypt's N, 1 | salt 16 | a sealed object (agorai_shared.sealing): gzip of a tar

The tar's last member is the manifest, which names every other with its size and SHA-256. So an archive is written in
one pass, in constant memory; it is read in one, too, and what was read counts only once the manifest has been met and
the seal has ended well.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import secrets
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final, cast

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import BaseModel, ConfigDict, ValidationError

from agorai_shared.errors import InputError, IntegrityError, RefusedError
from agorai_shared.sealing import NotSealedError, Opener, Sealer, SealTamperedError, WrongKeyError
from agorai_shared.types import Address

_MAGIC: Final = b"AGORAI BACKUP 1"
_SALT: Final = 16
_WORK: Final = 17
"""log2 of scrypt's N: half a second and 128 MiB."""
_MOST_WORK: Final = 20
_PIECE: Final = 1 << 20
_MANIFEST: Final = "manifest.json"
_MOST_MANIFEST: Final = 256 << 20
"""Bytes: a million blocks' names and digests."""


class ArchiveDamagedError(IntegrityError):
    """A backup cannot be read as it was written."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"The backup {path} is damaged: {why}.", remedy="Take another copy of it, or an older one."
        )


class NoArchiveError(InputError):
    """A file is no backup, or of a version that is not known here."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(
            f"{path} is no backup that can be read: {why}.", remedy="Name one that `agorai backup` wrote."
        )


class ArchivePassphraseError(RefusedError):
    """A passphrase does not open a backup."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The passphrase does not open {path}.",
            remedy="Give the one that the account had when the backup was made; there is no reset.",
        )


class Member(BaseModel):
    """One file."""

    model_config = ConfigDict(frozen=True)

    size: int
    sha256: str


class Manifest(BaseModel):
    """What a backup holds, and of what."""

    model_config = ConfigDict(frozen=True)

    made_at: int
    """Seconds since 1970."""
    versions: dict[str, str]
    """Of Agorai, Python and SQLite, by which it was made."""
    address: Address | None
    running: bool
    """Whether the node ran meanwhile."""
    content: bool
    """Whether the store's blocks are in it."""
    streams: bool
    """Whether the bus's streams are, with webhooks' subscriptions."""
    files: dict[str, Member]


class Writer:
    """Puts files into an archive."""

    def __init__(self, tar: tarfile.TarFile) -> None:
        self._tar = tar
        self.files: dict[str, Member] = {}

    def add(self, name: str, path: Path) -> None:
        """Put a file in under a name, as it is."""
        with path.open("rb") as file:
            size = file.seek(0, io.SEEK_END)
            file.seek(0)
            self._put(name, size, file)

    def close(self, manifest: Callable[[dict[str, Member]], Manifest]) -> Manifest:
        """Write the manifest, of all files; nothing is added after it."""
        made = manifest(dict(self.files))
        text = made.model_dump_json().encode()
        self._tar.addfile(_entry(_MANIFEST, len(text)), io.BytesIO(text))
        return made

    def _put(self, name: str, size: int, file: BinaryIO) -> None:
        hashed = _Hashed(file)
        self._tar.addfile(_entry(name, size), cast("BinaryIO", hashed))
        self.files[name] = Member(size=size, sha256=hashed.digest.hexdigest())


@contextmanager
def written(path: Path, passphrase: str) -> Iterator[Writer]:
    """Write an archive; it stands under its name, readable by its owner alone, once this is left without an error."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("xb") as file:
            part.chmod(0o600)
            salt = secrets.token_bytes(_SALT)
            file.write(_MAGIC + bytes([_WORK]) + salt)
            sealed = _Sealed(file, _key(passphrase, salt, _WORK))
            with (
                gzip.GzipFile(fileobj=sealed, mode="wb", compresslevel=1, filename="", mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
            ):
                yield Writer(tar)
            sealed.finish()
        part.rename(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path, passphrase: str, into: Path, allowed: Callable[[PurePosixPath], bool]) -> Manifest:
    """Read an archive into a folder, and check all of it; on any error what is in the folder is worth nothing.

    Parameters
    ----------
    allowed
        Says whether a file may be in a backup under its name; none may be outside of the folder anyway.

    Raises
    ------
    NoArchiveError, ArchivePassphraseError, ArchiveDamagedError
    """
    with path.open("rb") as file:
        head = file.read(len(_MAGIC) + 1 + _SALT)
        if not head.startswith(_MAGIC) or len(head) != len(_MAGIC) + 1 + _SALT:
            raise NoArchiveError(path, "it does not begin as this version writes them")
        work = head[len(_MAGIC)]
        if not 1 <= work <= _MOST_WORK:
            raise NoArchiveError(path, f"it asks for scrypt with N = 2^{work}")
        opened = _Opened(file, _key(passphrase, head[len(_MAGIC) + 1 :], work))
        try:
            with gzip.GzipFile(fileobj=io.BufferedReader(opened, _PIECE)) as packed:
                with tarfile.open(fileobj=packed, mode="r|") as tar:
                    manifest = _read_members(path, tar, into, allowed)
                while packed.read(_PIECE):
                    pass
            while opened.read(_PIECE):
                pass
        except WrongKeyError as error:
            raise ArchivePassphraseError(path) from error
        except (NotSealedError, SealTamperedError) as error:
            raise ArchiveDamagedError(path, "its seal does not hold to its end") from error
        except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error, UnicodeError) as error:
            raise ArchiveDamagedError(path, str(error)) from error
    return manifest


def _read_members(
    path: Path, tar: tarfile.TarFile, into: Path, allowed: Callable[[PurePosixPath], bool]
) -> Manifest:
    found: dict[str, Member] = {}
    manifest: Manifest | None = None
    for entry in tar:
        content = tar.extractfile(entry) if entry.isfile() else None
        if content is None or manifest is not None:
            raise ArchiveDamagedError(path, f"{entry.name!r} does not belong in it")
        if entry.name == _MANIFEST:
            try:
                manifest = Manifest.model_validate_json(content.read(_MOST_MANIFEST))
            except ValidationError as error:
                raise ArchiveDamagedError(path, "its manifest is not of its form") from error
            continue
        name = PurePosixPath(entry.name)
        plain = not name.is_absolute() and ".." not in name.parts and str(name) == entry.name
        if not plain or entry.name in found or not allowed(name):
            raise ArchiveDamagedError(path, f"{entry.name!r} does not belong in it")
        found[entry.name] = _extract(content, into / name)
    if manifest is None:
        raise ArchiveDamagedError(path, "it has no manifest")
    if found != manifest.files:
        raise ArchiveDamagedError(path, "its files are not those of its manifest")
    return manifest


def _extract(content: object, target: Path) -> Member:
    for folder in reversed(target.parents):  # `parents=True` would give only the last one its mode
        folder.mkdir(exist_ok=True, mode=0o700)
    hashed = _Hashed(cast("BinaryIO", content))
    size = 0
    with target.open("xb") as file:
        target.chmod(0o600)
        while piece := hashed.read(_PIECE):
            file.write(piece)
            size += len(piece)
    return Member(size=size, sha256=hashed.digest.hexdigest())


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _key(passphrase: str, salt: bytes, work: int) -> bytes:
    return Scrypt(salt=salt, length=32, n=1 << work, r=8, p=1).derive(passphrase.encode())


class _Hashed:
    """A file that is read, and its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self.digest.update(piece)
        return piece


class _Sealed(io.RawIOBase):
    """Seals what is written."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        self._file = file
        self._sealer = Sealer(key)
        file.write(self._sealer.header)

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        plain = bytes(cast("bytes", data))
        for piece in self._sealer.update(plain):
            self._file.write(piece)
        return len(plain)

    def finish(self) -> None:
        self._file.write(self._sealer.finish())


class _Opened(io.RawIOBase):
    """Opens what is read; the last read tells whether it was whole."""

    def __init__(self, file: BinaryIO, key: bytes) -> None:
        self._pieces = self._open(file, Opener(key))
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        into = memoryview(cast("bytearray", buffer)).cast("B")
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = piece
        count = min(len(into), len(self._left))
        into[:count], self._left = self._left[:count], self._left[count:]
        return count

    @staticmethod
    def _open(file: BinaryIO, opener: Opener) -> Iterator[bytes]:
        while piece := file.read(_PIECE):
            yield from map(bytes, opener.update(piece))
        yield bytes(opener.finish())

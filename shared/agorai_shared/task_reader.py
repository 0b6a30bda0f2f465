"""What of a training task is sealed, opened for whom it is sealed to, and for all once its key is revealed."""

from __future__ import annotations

from typing import Final

from agorai_shared import cid
from agorai_shared.chain import time_of
from agorai_shared.ckks import NotHomomorphicError, OtherKeyError, SumRangeError
from agorai_shared.digest_files import FileAbsentError, FileOversizeError
from agorai_shared.documents import DocumentMalformedError
from agorai_shared.envelopes import EnvelopeFaultyError, NotForKeyError, TaskKey, inlined, open_as_task
from agorai_shared.errors import AgoraiError, IntegrityError, RemoteError
from agorai_shared.sealing import NotSealedError, SealTamperedError, WrongKeyError, open_bytes
from agorai_shared.shared_jwe import Envelope
from agorai_shared.task_files import TaskFiles
from agorai_shared.types import Address, Cid
from agorai_shared.vault import OpenEnvelope, PlaintextTooLargeError, Vault
from agorai_shared.vectors import VectorRefusedError


class CiphertextUnfitError(IntegrityError):
    """A ciphertext holds something else than what it should."""

    def __init__(self, why: str) -> None:
        super().__init__(f"The ciphertext cannot be taken: {why}.", remedy="Its author must encrypt it anew.")


class SamplesExcessError(IntegrityError):
    """An update claims more samples than its data set has."""

    def __init__(self, samples: int, rows: int) -> None:
        super().__init__(
            f"Its author says that it was trained on {samples} samples, and its data set has {rows}.",
            remedy="Its author must say how many there were.",
        )


FAULTS: Final = (
    EnvelopeFaultyError, NotForKeyError, DocumentMalformedError, VectorRefusedError, FileOversizeError,
    NotSealedError, SealTamperedError, WrongKeyError, PlaintextTooLargeError, NotHomomorphicError, OtherKeyError,
    SumRangeError, CiphertextUnfitError, SamplesExcessError,
)  # fmt: skip
"""Errors that only who sealed an envelope, or wrote what names it, can have caused."""

FAULT_CODES: Final = frozenset(
    {
        "envelope_faulty", "not_for_key", "not_sealed", "seal_tampered", "seal_truncated", "wrong_key",
        "block_malformed", "not_a_file", "tree_inconsistent", "cid_unsupported", "plaintext_too_large",
        "file_oversize",
    }
)  # fmt: skip
"""Codes of errors, as vault and trainer tell them, that only who sealed an envelope can have caused."""

GONE_CODES: Final = frozenset(
    {"no_peer_has", "not_a_member", "plaintext_cut_off", "store_url", "file_absent"}
)
"""Codes of errors that say that what was sealed is not to be had whole; who sealed it can cause each of them."""


def is_fault(error: AgoraiError) -> bool:
    """Say whether only who sealed something, or wrote what names it, can have caused an error."""
    return isinstance(error, FAULTS) or (isinstance(error, RemoteError) and error.code in FAULT_CODES)


def is_gone(error: AgoraiError) -> bool:
    """Say whether an error says that something is not to be had, now or ever."""
    return isinstance(error, FileAbsentError) or (isinstance(error, RemoteError) and error.code in GONE_CODES)


_OVERHEAD: Final = 1 << 16
"""Bytes by which a sealed object may be longer than what is in it, besides a share of that."""


def sealed_size(most: int) -> int:
    """Give how many bytes a sealed object of at most so many may have."""
    return most + most // 8 + _OVERHEAD


class TaskOpener:
    """Opens envelopes of tasks: by the revealed key, as model provider, or as a member they are sealed to."""

    def __init__(self, me: Address, files: TaskFiles, vault: Vault) -> None:
        self.me, self.files, self.vault = me, files, vault

    async def now(self) -> int:
        """Give the later of the chain's time and this machine's, in seconds since 1970."""
        return await time_of(self.files.market.chain)

    async def open(self, task: int, envelope: Envelope, context: str, author: Address, most: int) -> bytes:
        """Give at most so many bytes that `author` has sealed.

        Raises
        ------
        FileAbsentError, RemoteError
            If the bytes cannot be had, or this account's vault does not open them.
        EnvelopeFaultyError, NotForKeyError, NotSealedError, WrongKeyError, SealTamperedError
            If they do not open by the revealed key.
        """
        history, opened = await self.files.history(task), await self.files.opened(task)
        if history.proposals and envelope.to_task is not None:
            key = open_as_task(envelope, TaskKey(history.proposals[0].key), context)
            sealed = inlined(envelope)
            if sealed is None:
                digest, owners = cid.digest_of(Cid(envelope.cid)), [author, opened.model_provider]
                sealed = await self.files.file(digest, f"envelope {context}", owners, sealed_size(most))
            return open_bytes(sealed, key)
        mine = opened.model_provider == self.me and envelope.to_task is not None
        nonce = (await self.files.document(task)).nonce if mine else None
        asked = OpenEnvelope(envelope=envelope, context=context, author=author, nonce=nonce)
        return await self.vault.open_envelope(asked, most)

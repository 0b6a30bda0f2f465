"""A data set offered in portions, each a resource of its own, also when it is interrupted in the middle.

What is kept of it in the node's home lets a later run go on: the salt of the whole's name, so that all portions
tell one whole, and how it was dealt, so that no row is in two of them. Each portion is registered under a key of
its own, once, whatever breaks off meanwhile.

AgoraiError
├── PortionsUnfinishedError    a portion was not published; says which are on the market
InputError
├── NothingToGoOnWithError     no run of this file was begun from this home
├── RunUnfinishedError         a run of this file broke off, and it is not said whether to go on with it
├── RunFinishedError           all portions are on the market, and it is not said to publish them anew
└── DealtOtherwiseError        the run that was begun dealt it another way
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from agorai.client import Client, OnStage, silent
from agorai.data_sets import DataSet, Deal, read
from agorai.home import Home, HomeFile
from agorai_shared.documents import Task
from agorai_shared.errors import AgoraiError, InputError
from agorai_shared.types import ResourceId
from agorai_shared.vault import TransactionRevertedError
from agorai_trainer import portions
from agorai_trainer.messages import Offer

_MOST_NAMED = 20
"""Resources that a message names."""


class PortionsUnfinishedError(AgoraiError):
    """A portion could not be published; those before it are on the market."""

    def __init__(
        self, following: int, count: int, published: dict[int, ResourceId], why: AgoraiError
    ) -> None:
        there = ", ".join(f"{number} (resource {resource})" for number, resource in published.items())
        super().__init__(
            f"Portion {following} of {count} was not published: {why.message} "
            + (f"On the market: portions {there}." if there else "None is on the market."),
            remedy=f"{why.remedy} Then go on with --from-portion {following}.".strip(),
        )
        self.following = following
        self.published = published
        self.why = why


class NothingToGoOnWithError(InputError):
    """No run of this very file was begun from this home."""

    def __init__(self, first: int, file: str) -> None:
        super().__init__(
            f"There is nothing to go on with from portion {first}: no portions of this file were published "
            f"from here ({file} is not there).",
            remedy="The file may have changed since: go on with the old one, or publish all of it anew.",
        )


class RunUnfinishedError(InputError):
    """A run broke off that a new one would offer again."""

    def __init__(self, known: WholeFile) -> None:
        super().__init__(
            f"{len(known.published)} of {known.count} portions of this file are on the market already; "
            "the run broke off.",
            remedy=f"Go on with --from-portion {known.following}, or publish all anew with --from-portion 1.",
        )


class RunFinishedError(InputError):
    """All was published that a new run would offer again."""

    def __init__(self, known: WholeFile) -> None:
        there = [str(known.published[number]) for number in sorted(known.published)]
        more = f" and {len(there) - _MOST_NAMED} more" if len(there) > _MOST_NAMED else ""
        super().__init__(
            f"All {known.count} portions of this file are on the market "
            f"as resources {', '.join(there[:_MOST_NAMED])}{more}.",
            remedy="Publish them anew with --from-portion 1.",
        )


class DealtOtherwiseError(InputError):
    """A run to go on with dealt the file another way."""

    def __init__(self, what: str, before: object, now: object) -> None:
        super().__init__(
            f"The portions on the market were made with another {what}: {before}, not {now}.",
            remedy="Repeat the command as it was, with --from-portion, or publish all portions anew.",
        )


class WholeFile(HomeFile):
    """What is kept of a data set that is sold in portions; only its owner may know the salt."""

    salt: str
    run: str
    """Names the publication, so that none of its portions is registered twice."""
    count: int
    dealt: str
    by: str | None
    seed: int
    target: str | None
    published: dict[int, ResourceId] = Field(default_factory=dict)
    """By the portion's number, from 1."""

    @property
    def following(self) -> int:
        """The number of the first portion that is not on the market."""
        return next(number for number in range(1, self.count + 2) if number not in self.published)


def kept_in(home: Home, content: bytes) -> Path:
    """Give where a home keeps what it knows of a data set."""
    return home.wholes / f"{hashlib.sha256(content).hexdigest()}.json"


def prepare(
    home: Home,
    content: bytes,
    offer: Offer,
    target: str | None,
    deal: Deal,
    *,
    first: int | None = None,
    task: Task | None = None,
    measured: bool = True,
    on_stage: OnStage = silent,
) -> list[DataSet]:
    """Deal a data set and describe its portions, before any is offered.

    All bytes of the portions are in memory at once. It takes seconds of processor time: call it in a thread.

    Parameters
    ----------
    first
        The number of the portion to go on with, from 1, which begins anew; none begins unless a run of the
        same deal published any.

    Raises
    ------
    InputError
        A leaf of `portions` or `data_sets`, or one that says what is wrong with the table.
    """
    on_stage("dealing the portions")
    dealt = list(deal.dealt(content))
    whole = _begun(kept_in(home, content), deal, len(dealt), target, first)
    name = portions.whole(content, bytes.fromhex(whole.salt))
    found = []
    for portion in dealt[(first or 1) - 1 :]:
        number = portion.index + 1
        named = offer.model_copy(update={"name": f"{offer.name}, portion {number} of {portion.count}"})
        found.append(
            read(
                portion.content,
                named,
                target,
                task=task,
                seed=deal.seed,
                measured=measured,
                portion=deal.place(name, portion.index, portion.count),
                on_stage=_of_portion(number, portion.count, on_stage),
            )
        )
    return found


def _begun(path: Path, deal: Deal, count: int, target: str | None, first: int | None) -> WholeFile:
    """Give what is kept of a data set: the run to go on with, or a new one under the same salt."""
    if first is not None and not 1 <= first <= count:
        raise portions.PortionChoiceError(f"there is no portion {first} of {count} to begin with")
    known = WholeFile.load(path)
    other = _other(known, deal, count, target) if known else None
    if first is not None and first > 1:
        if known is None:
            raise NothingToGoOnWithError(first, str(path))
        if other:
            raise DealtOtherwiseError(*other)
        return known
    if known is not None and other is None:
        if not known.published:
            return known  # its first portion may have been sent
        if first is None:
            raise RunUnfinishedError(known) if known.following <= count else RunFinishedError(known)
    made = WholeFile(
        salt=known.salt if known else secrets.token_hex(portions.SALT_LENGTH),
        run=secrets.token_hex(16),
        count=count,
        dealt=deal.how,
        by=deal.by,
        seed=deal.seed,
        target=target,
    )
    made.save(path)
    return made


def _other(known: WholeFile, deal: Deal, count: int, target: str | None) -> tuple[str, object, object] | None:
    """Give what is not as it was in a run that was begun, and both values."""
    pairs = (
        ("number of portions", known.count, count),
        ("deal", known.dealt, deal.how),
        ("column to stratify by", known.by, deal.by),
        ("seed", known.seed, deal.seed),
        ("target", known.target, target),
    )
    return next((pair for pair in pairs if pair[1] != pair[2]), None)


async def publish(
    client: Client,
    kept: Path,
    prepared: Sequence[DataSet],
    offer: Offer,
    *,
    on_stage: OnStage = silent,
) -> dict[int, ResourceId]:
    """Publish portions one after the other; gives all of the run that are on the market, by their numbers from 1.

    Parameters
    ----------
    kept
        What `kept_in` gives.
    prepared
        What `prepare` gives.
    offer
        Of each portion, but for the name.

    Raises
    ------
    PortionsUnfinishedError
        If one of them cannot be published; also when the node goes away. What it had sent to the chain already is
        found by the run that goes on.
    """
    whole = WholeFile.load(kept)
    if whole is None:
        raise NothingToGoOnWithError(1, str(kept))
    for data_set in prepared:
        place = data_set.schema.portion
        number = place.index + 1 if place else 1
        try:
            resource = await client.publish(
                data_set.content,
                data_set.metadata,
                offer,
                schema=data_set.schema,
                once=f"portion/{whole.run}/{number}",
                on_stage=_of_portion(number, whole.count, on_stage),
            )
        except AgoraiError as error:
            if isinstance(error, TransactionRevertedError):  # its key is used up; what is on the market stays
                whole.model_copy(update={"run": secrets.token_hex(16)}).save(kept)
            raise PortionsUnfinishedError(number, whole.count, whole.published, error) from error
        whole = whole.model_copy(update={"published": {**whole.published, number: resource}})
        whole.save(kept)
    return whole.published


def _of_portion(number: int, count: int, on_stage: OnStage) -> OnStage:
    def tell(stage: str, share: float | None = None) -> None:
        on_stage(f"portion {number} of {count}: {stage}", share)

    return tell

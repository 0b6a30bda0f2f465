"""What is offered to training tasks, and what may be."""

from __future__ import annotations

from dataclasses import dataclass

from agorai.task_reading import SHOWN_S
from agorai.task_refusals import NotOfferableError
from agorai.tasks import Tasks
from agorai_shared.bindings.registry import Joined, Kind
from agorai_shared.digest_files import hurry, several
from agorai_shared.federated import Specification
from agorai_shared.types import Address
from agorai_trainer.federated.offers import Offers


@dataclass(frozen=True, slots=True)
class Offering:
    """A member and what it offers."""

    account: Address
    specification: Specification


async def offerings(tasks: Tasks) -> list[Offering]:
    """Give what members offer to training tasks; whoever cannot be reached offers nothing."""
    offers = Offers(tasks.files)
    joined = await tasks.events(tasks.client.deployment.registry, Joined)
    accounts = list(dict.fromkeys(event.account for event in joined))
    with hurry(SHOWN_S):
        found = await several(offers.of, accounts)
    return [
        Offering(account, one)
        for account, one in zip(accounts, found, strict=True)
        if one is not None and (one.data or one.computing or one.adding)
    ]


async def offerable(tasks: Tasks, resource: int) -> None:
    """See that models can be trained on a resource.

    Raises
    ------
    NotOfferableError
        If it is not this account's, no data set, or without a schema, by which tasks look for data.
    ResourceNotFoundError, FileAbsentError, DocumentMalformedError
    """
    found, what = await tasks.client.market.resource(resource), f"Resource {resource}"
    if found.owner != tasks.client.address:
        raise NotOfferableError(what, "it is not yours", "See yours: `agorai search`.")
    if found.kind != Kind.DATA:
        raise NotOfferableError(what, "it is a model", "Offer a data set.")
    if await Offers(tasks.files).schema(resource) is None:
        raise NotOfferableError(what, "it has no schema", "Publish it anew: `agorai publish data`.")

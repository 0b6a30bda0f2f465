"""What members offer to training tasks, as their profiles say, and what of it suits one (DAI, 4.2 and 4.4).

Whoever's gateway does not answer, or serves what is no such document, offers nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from agorai_shared import cid, logging, search
from agorai_shared.bindings.registry import Actor, Joined, Kind
from agorai_shared.bindings.training_task import Role
from agorai_shared.digest_files import DigestFiles, several
from agorai_shared.documents import Metadata, Profile, Schema
from agorai_shared.errors import AgoraiError
from agorai_shared.federated import DataOffer, Specification, Wanted
from agorai_shared.market import NotAMemberError
from agorai_shared.search import SchemaQuery, WantedField
from agorai_shared.types import Address, Cid, ResourceId, Wei
from agorai_trainer.federated.decide import Candidate, Computer
from agorai_trainer.federated.models import ModelSpec

log = logging.get(__name__)


@dataclass(frozen=True, slots=True)
class Offered:
    """A member and what it offers."""

    account: Address
    specification: Specification


@dataclass(frozen=True)
class Offers:
    """Reads offers."""

    files: DigestFiles

    async def of(self, account: Address) -> Specification | None:
        """Give what a member offers; None if it offers nothing.

        Raises
        ------
        FileAbsentError, DocumentMalformedError
            If that cannot be had: of one's own offer that is no reason to decline.
        """
        try:
            found = await self._read(account)
        except NotAMemberError:
            return None
        return found.specification if found else None

    async def data(
        self, spec: ModelSpec, wanted: Wanted, asked: Iterable[tuple[Address, int]]
    ) -> tuple[Candidate, ...]:
        """Give the data sets that suit a task and were not asked for yet, the best first."""
        without = set(asked)
        offers = [
            (one.account, offer)
            for one in await self._all()
            for offer in one.specification.data
            if (one.account, offer.resource) not in without
        ]
        described = await several(lambda each: self.described(*each), offers)
        found = {each.key: each for each in described if each is not None}
        fees = {offer.resource: (account, int(offer.fee)) for account, offer in offers}
        ranked = search.ranked(query(spec, wanted), found.values())
        return tuple(Candidate(fees[one.key][0], one.key, fees[one.key][1]) for one in ranked)

    async def computing(self, without: Iterable[Address]) -> tuple[Computer, ...]:
        """Give who offers computing, the cheapest first."""
        left_out = set(without)
        found = [
            Computer(one.account, int(one.specification.computing.wage))
            for one in await self._all()
            if one.specification.computing and one.account not in left_out
        ]
        return tuple(sorted(found, key=lambda one: (one.wage, one.account)))

    async def adding(self, most_fee: int, without: Iterable[Address]) -> tuple[Candidate, ...]:
        """Give who adds encrypted updates for at most that fee, the cheapest first."""
        left_out = set(without)
        found = [
            Candidate(one.account, 0, int(one.specification.adding), Role.ADDER)
            for one in await self._all()
            if one.specification.adding is not None and one.account not in left_out
        ]
        fitting = [one for one in found if one.fee <= most_fee]
        return tuple(sorted(fitting, key=lambda one: (one.fee, one.data_provider)))

    async def schema(self, resource: int) -> Schema | None:
        """Give what a data set's owner says that it holds; None if there is no schema.

        Raises
        ------
        ResourceNotFoundError, FileAbsentError, DocumentMalformedError
        """
        found = await self.files.market.resource(ResourceId(resource))
        what = f"metadata of resource {resource}"
        metadata = await self.files.read(Metadata, found.metadata, what, [found.owner])
        if metadata.schema_cid is None:
            return None
        digest = cid.digest_of(Cid(metadata.schema_cid))
        return await self.files.read(Schema, digest, f"schema of resource {resource}", [found.owner])

    async def _all(self) -> list[Offered]:
        joined = await self.files.market.events(self.files.market.deployment.registry, Joined)
        accounts = dict.fromkeys(event.account for event, _ in joined)
        return [one for one in await several(self._offered, accounts) if one is not None]

    async def _offered(self, account: Address) -> Offered | None:
        try:
            return await self._read(account)
        except AgoraiError as error:
            log.info("offer.unread", account=account, why=str(error))
            return None

    async def _read(self, account: Address) -> Offered | None:
        actor = await self.files.market.actor(account)
        profile = await self._profile(account, actor)
        if profile is None or profile.specification is None:
            return None
        digest, what = cid.digest_of(Cid(profile.specification)), f"specification of {account}"
        return Offered(account, await self.files.read(Specification, digest, what, [account]))

    async def _profile(self, account: Address, actor: Actor) -> Profile | None:
        if not any(actor.profile):
            return None
        return await self.files.read(Profile, actor.profile, f"profile of {account}", [account])

    async def described(self, account: Address, offer: DataOffer) -> search.Candidate | None:
        """Give an offered data set as it is looked for; None if it cannot be read or is not on offer."""
        try:
            resource = await self.files.market.resource(ResourceId(offer.resource))
            if resource.owner != account or resource.kind != Kind.DATA or resource.withdrawn:
                return None
            what = f"metadata of resource {offer.resource}"
            metadata = await self.files.read(Metadata, resource.metadata, what, [account])
            schema = await self.schema(offer.resource)
        except AgoraiError as error:
            log.info("offer.unread", account=account, resource=offer.resource, why=str(error))
            return None
        return search.Candidate(offer.resource, metadata, schema, Wei(int(offer.fee)))


def query(spec: ModelSpec, wanted: Wanted) -> SchemaQuery:
    """Say what data sets are looked for."""
    columns = [*(column.name for column in spec.features), spec.target.name]
    return SchemaQuery(
        fields=tuple(WantedField(name=name) for name in columns),
        kind="data",
        min_rows=wanted.least_rows,
        min_quality=wanted.least_quality or None,
        max_price=int(wanted.most_fee),
    )

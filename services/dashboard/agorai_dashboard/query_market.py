"""Resources and their invocations, as pages show them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from eth_utils.address import is_address, to_checksum_address
from sqlalchemy import Select, or_, select

from agorai_dashboard import duties
from agorai_dashboard.looking import Look
from agorai_dashboard.query_trade import trade_rows
from agorai_dashboard.rows import Row
from agorai_dashboard.tables import ALLOWANCES, DOCUMENTS, INVOCATIONS, RESOURCE_NAMES, RESOURCES, TRADES
from agorai_dashboard.views import DocumentState, Page
from agorai_dashboard.views_market import Described, InvocationRow, Resource, ResourceRow
from agorai_shared.documents import Metadata
from agorai_shared.market import ResourceNotFoundError

_MOST_WORDS: Final = 4000
"""Characters of a description, and of all columns' names, that a search looks through."""
_MOST_BESIDE: Final = 50
"""Versions, invocations, trades and accounts that one resource's page shows."""
_SEEK_AGAIN_S: Final = 3600
"""How long a name whose metadata nobody served is not sought again."""


@dataclass(frozen=True, slots=True)
class ResourceQuery:
    """Which resources are wanted; what is None does not matter."""

    text: str | None = None
    """Words of the name, description or columns, an id, or an owner's address."""
    kind: Literal["data", "model"] | None = None
    owner: str | None = None
    withdrawn: bool = False
    """Whether those are shown that are not on the market any more."""


def _named() -> Select[Any]:
    return select(RESOURCES, RESOURCE_NAMES.c.name).outerjoin(
        RESOURCE_NAMES, RESOURCE_NAMES.c.id == RESOURCES.c.id
    )


def resource_row(row: Row) -> ResourceRow:
    """Give a resource as lists show it."""
    return ResourceRow(
        id=row["id"],
        kind=row["kind"],
        owner=row["owner"],
        price=row["price"],
        registered_at=row["registered_at"],
        previous=row["previous"],
        restricted=row["restricted"],
        withdrawn=row["withdrawn"],
        name=row["name"],
        sold=row["sold"],
        earned=row["earned"],
    )


def resources(look: Look, query: ResourceQuery, cursor: str | None, most: int) -> Page[ResourceRow]:
    """Give resources, the newest first."""
    wanted = _named()
    if query.kind is not None:
        wanted = wanted.where(RESOURCES.c.kind == query.kind)
    if query.owner is not None:
        wanted = wanted.where(RESOURCES.c.owner == query.owner)
    if not query.withdrawn:
        wanted = wanted.where(RESOURCES.c.withdrawn.is_(False))
    for word in (query.text or "").lower().split()[:8]:
        like = RESOURCE_NAMES.c.words.contains(word, autoescape=True)
        ids = [RESOURCES.c.id == int(word)] if word.isdecimal() and len(word) <= 18 else []
        owners = [RESOURCES.c.owner == to_checksum_address(word)] if is_address(word) else []
        wanted = wanted.where(or_(like, *ids, *owners))
    rows, following = look.page(wanted, RESOURCES.c.id, cursor, most)
    for row in rows:
        if row["name"] is None:
            _metadata(look, row)
    return Page(tuple(map(resource_row, rows)), following)


def resource(look: Look, id_: int) -> Resource:
    """Give one resource; raises `ResourceNotFoundError`."""
    row = look.row(_named().where(RESOURCES.c.id == id_))
    if row is None:
        raise ResourceNotFoundError(id_)
    state, document = _metadata(look, row)
    versions = _named().where(RESOURCES.c.root == row["root"]).order_by(RESOURCES.c.id)
    used = select(INVOCATIONS).where(INVOCATIONS.c.resource == id_).order_by(INVOCATIONS.c.id.desc())
    traded = or_(TRADES.c.seller_resource == id_, TRADES.c.buyer_resource == id_)
    allowed = select(ALLOWANCES.c.account).where(ALLOWANCES.c.resource == id_, ALLOWANCES.c.allowed.is_(True))
    return Resource(
        row=resource_row(row),
        metadata=row["metadata"],
        document=state,
        described=_described(document) if document is not None else None,
        versions=tuple(map(resource_row, look.rows(versions.limit(_MOST_BESIDE)))),
        invocations=tuple(invocation_row(one, look.now) for one in look.rows(used.limit(_MOST_BESIDE))),
        trades=trade_rows(
            look, select(TRADES).where(traded).order_by(TRADES.c.id.desc()).limit(_MOST_BESIDE)
        ),
        allowed=tuple(one["account"] for one in look.rows(allowed.limit(_MOST_BESIDE))),
    )


def _metadata(look: Look, row: Row) -> tuple[DocumentState, Metadata | None]:
    id_ = row["id"]
    what = f"metadata of resource {id_}"
    return look.document(Metadata, row["metadata"], what, row["owner"], resource=id_)


def nameless(look: Look, most: int) -> None:
    """Want the metadata of the newest resources that have no name yet, so that a search finds them.

    Those whose metadata was sought lately let others have their turn.
    """
    sought = or_(DOCUMENTS.c.state == DocumentState.read, DOCUMENTS.c.tried_at > look.now - _SEEK_AGAIN_S)
    wanted = (
        _named()
        .outerjoin(DOCUMENTS, DOCUMENTS.c.digest == RESOURCES.c.metadata)
        .where(
            RESOURCE_NAMES.c.id.is_(None),
            RESOURCES.c.withdrawn.is_(False),
            or_(DOCUMENTS.c.digest.is_(None), ~sought),
        )
    )
    for row in look.rows(wanted.order_by(RESOURCES.c.id.desc()).limit(most)):
        _metadata(look, row)


def _described(document: Metadata) -> Described:
    evaluation = document.evaluation
    return Described(
        name=document.name,
        description=document.description,
        license=document.license,
        format=document.format,
        size=document.size,
        rows=document.rows,
        columns=tuple(column.name for column in document.columns[:200]),
        task=None if document.task is None else str(document.task),
        target=document.target,
        metric=None if evaluation is None else "accuracy",
        score=None if evaluation is None else evaluation.accuracy,
    )


def invocation_row(row: Row, now: int) -> InvocationRow:
    """Give an invocation as lists show it."""
    return InvocationRow(
        id=row["id"],
        resource=row["resource"],
        payer=row["payer"],
        owner=row["owner"],
        price=row["price"],
        state=row["state"],
        paid_at=row["paid_at"],
        deadline=row["deadline"],
        uses=row["uses"],
        uses_left=row["uses_left"],
        duty=duties.of_invocation(row, now),
    )


def words_of(document: Metadata) -> str:
    """Give what a search looks through."""
    columns = " ".join(column.name for column in document.columns)
    parts = (document.name, document.description[:_MOST_WORDS], columns[:_MOST_WORDS])
    return " ".join(parts).lower().replace("\0", "")

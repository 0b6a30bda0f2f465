"""ISC-MTI's flow between real nodes: what it gives, and what it gives to those who get it wrong."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from agorai import files
from agorai.client import (
    BalanceTooLowError,
    Client,
    EventsNotAskedForError,
    GrantFalseError,
    JobFailedError,
    PriceTooHighError,
    silent,
)
from agorai.demo import ordinary
from agorai.demo.invocation import Case, boosting, describe, through_market
from agorai.demo.town import Town
from agorai.devchain import TOKEN
from agorai_shared import cid
from agorai_shared.bindings.invocation import State
from agorai_shared.bindings.registry import Kind, ResourceParams
from agorai_shared.chain import ContractRevertError
from agorai_shared.errors import RemoteError
from agorai_shared.market import ResourceNotFoundError
from agorai_shared.types import ResourceId, Wei
from agorai_trainer.formats.refusals import PickleRefusedError
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask

pytestmark = pytest.mark.asyncio(loop_scope="module")

CASE = Case("diabetes", "diabetes", boosting("Regressor", 10))
LOGISTIC = TrainingTask(estimator="sklearn.LogisticRegression", scaler="standard", target="target", seed=3)
TABLE = b"a,b,target\n" + b"".join(b"%d,%d,%d\n" % (i, i % 5, i % 2) for i in range(40))


async def sell(town: Town, content: bytes, offer: Offer, case: Case = CASE) -> ResourceId:
    owner = town.clients["owner"]
    metadata = describe(case, case.csv()).model_copy(update={"name": offer.name, "size": len(content)})
    return await owner.publish(content, metadata, offer)


async def tokens(client: Client) -> int:
    return (await client.balances()).tokens


async def test_a_model_is_trained_sold_and_invoked_with_exactly_the_ordinary_accuracy(
    town: Town, tmp_path: Path
) -> None:
    data = CASE.csv()
    path = tmp_path / "data.csv"
    path.write_bytes(data)
    usual = ordinary.run(path, CASE.task, tmp_path)
    table, true = ordinary.held_back(data, CASE.task)
    before = {name: await tokens(client) for name, client in town.clients.items()}

    resource = await sell(town, data, Offer(name="diabetes", price=5 * TOKEN))
    predicted = await through_market(town, CASE, resource, table, silent)

    assert ordinary.percent(predicted, true, "regression") == usual.accuracy
    await town.clients["linhao"].withdraw()
    await town.clients["owner"].withdraw()
    after = {name: await tokens(client) for name, client in town.clients.items()}
    change = {name: (after[name] - before[name]) / TOKEN for name in after}
    assert change == {"owner": 5, "linhao": 5, "tommy": -10, "poor": 0}


async def test_versions_lead_back_to_the_first(town: Town) -> None:
    linhao = town.clients["linhao"]
    resource = await sell(town, TABLE, Offer(name="small", price=0))
    bought = await linhao.buy(resource)
    first = await linhao.train(bought.invocation, LOGISTIC, Offer(name="v1", price=TOKEN))
    again = Offer(name="v2", price=TOKEN, previous=first.resource or 0)
    second = await linhao.train(bought.invocation, LOGISTIC, again)

    history = await linhao.versions(second.resource or 0)

    assert [version.metadata and version.metadata.name for version in history] == ["v2", "v1"]
    assert history[0].metadata is not None
    assert history[0].metadata.derived_from == (resource,)


async def test_a_payer_with_too_little_spends_nothing_and_is_told_how_much_is_missing(town: Town) -> None:
    poor = town.clients["poor"]
    resource = await sell(town, TABLE, Offer(name="dear", price=10 * TOKEN))
    with pytest.raises(BalanceTooLowError, match=r"The price is 10 HAPY; .* has 3.* Get 7 HAPY more"):
        await poor.buy(resource)
    assert await tokens(poor) == 3 * TOKEN


async def test_a_resource_that_does_not_exist_is_said_not_to(town: Town) -> None:
    with pytest.raises(ResourceNotFoundError, match="no resource 4711"):
        await town.clients["tommy"].buy(4711)


async def test_a_withdrawn_resource_is_not_sold(town: Town) -> None:
    owner = town.clients["owner"]
    resource = await sell(town, TABLE, Offer(name="gone", price=TOKEN))
    await owner.transact(owner.market.registry.withdraw(resource))
    with pytest.raises(ContractRevertError, match=r"[Ww]ithdrawn"):
        await town.clients["tommy"].buy(resource)


async def test_a_restricted_resource_is_sold_to_those_allowed_only(town: Town) -> None:
    owner, tommy = town.clients["owner"], town.clients["tommy"]
    resource = await sell(town, TABLE, Offer(name="closed", price=0, restricted=True))
    with pytest.raises(ContractRevertError, match=r"[Aa]llowed"):
        await tommy.buy(resource)
    await owner.transact(owner.market.registry.allow(resource, [tommy.address], True))
    assert (await tommy.buy(resource)).resource == resource


async def test_a_price_above_what_the_buyer_set_is_not_paid(town: Town) -> None:
    resource = await sell(town, TABLE, Offer(name="dearer", price=6 * TOKEN))
    with pytest.raises(PriceTooHighError, match="costs 6, more than the 5"):
        await town.clients["tommy"].buy(resource, max_price=Wei(5 * TOKEN))


async def test_another_persons_right_opens_nothing(town: Town) -> None:
    resource = await sell(town, TABLE, Offer(name="mine", price=0))
    bought = await town.clients["linhao"].buy(resource)
    with pytest.raises(JobFailedError, match="was paid for by"):
        await town.clients["tommy"].train(bought.invocation, LOGISTIC, Offer(name="never", price=0))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b,target\n", "no rows"),
        (b"a,b,target\n1,2,0\n1,2\n3,4,1\n", "Line 3"),
        (b"a,b\n1,2\n3,4\n", "target"),
        (b"a,b,target\n1,x,0\n3,4,1\n", "column"),
    ],
    ids=["no rows", "ragged", "missing target", "text in a number"],
)
async def test_training_on_a_bad_table_says_where_it_is_bad(town: Town, data: bytes, message: str) -> None:
    resource = await sell(town, data, Offer(name="bad", price=0))
    bought = await town.clients["linhao"].buy(resource)
    with pytest.raises(JobFailedError, match=message):
        await town.clients["linhao"].train(bought.invocation, LOGISTIC, Offer(name="never", price=0))


async def test_a_pickle_is_refused_as_a_model_by_who_sells_and_by_who_buys(
    town: Town, tmp_path: Path
) -> None:
    evil = pickle.dumps({"coefficients": [1.0, 2.0]})
    path = tmp_path / "model.pkl"
    path.write_bytes(evil)
    schema = tmp_path / "schema.json"
    schema.write_text('{"features": ["a", "b"], "target": "target", "classes": [0, 1]}')
    with pytest.raises(PickleRefusedError):
        files.read_model(path, Offer(name="evil", price=0), schema)

    owner, tommy = town.clients["owner"], town.clients["tommy"]
    model = describe(CASE, CASE.csv()).model_copy(
        update={
            "kind": "model",
            "format": "skops",
            "columns": describe(CASE, CASE.csv()).columns[:-1],
        }
    )
    resource = await owner.publish(evil, model, Offer(name="evil", price=0))
    bought = await tommy.buy(resource)
    with pytest.raises(JobFailedError, match=r"[Pp]ickle"):
        await tommy.predict(bought.invocation, ordinary.held_back(CASE.csv(), CASE.task)[0])


async def test_a_right_to_one_use_serves_one_job(town: Town) -> None:
    tommy = town.clients["tommy"]
    data = await sell(town, TABLE, Offer(name="for uses", price=0))
    bought = await town.clients["linhao"].buy(data)
    offer = Offer(name="one use", price=TOKEN, uses=1)
    model = await town.clients["linhao"].train(bought.invocation, LOGISTIC, offer)
    right = await tommy.buy(model.resource or 0)

    assert len(await tommy.predict(right.invocation, b"a,b\n1,2\n2,3\n")) == 2
    with pytest.raises(JobFailedError, match="used up"):
        await tommy.predict(right.invocation, b"a,b\n1,2\n")


async def test_an_owner_who_never_delivers_gives_the_payer_the_money_back(town: Town) -> None:
    owner, tommy = town.clients["owner"], town.clients["tommy"]
    metadata = describe(CASE, CASE.csv()).to_bytes()
    document = await owner.store.put_document(metadata)
    call = owner.market.registry.register(
        ResourceParams(
            kind=Kind.DATA,
            price=7 * TOKEN,
            previous=0,
            duration=0,
            uses=0,
            window=60,
            restricted=False,
            metadata=cid.digest_of(document),
            commitment=b"\x11" * 32,  # of nothing that the owner has
        )
    )
    await owner.transact(call)
    (resource,) = await owner.chain.read(owner.market.registry.resource_count())
    before = await tokens(tommy)
    paid, _ = await tommy.pay(resource)
    waiting = asyncio.create_task(tommy.delivered(paid.id))
    await tommy.chain.rpc.request("evm_increaseTime", 120)
    await tommy.chain.rpc.request("evm_mine")

    with pytest.raises(Exception, match="did not deliver"):
        await asyncio.wait_for(waiting, 30)
    await tommy.withdraw()
    assert await tokens(tommy) == before


async def test_a_false_grant_is_refused(town: Town) -> None:
    owner, tommy = town.clients["owner"], town.clients["tommy"]
    resource = await sell(town, TABLE, Offer(name="true one", price=0))
    true_one = await tommy.buy(resource)
    (item,) = await tommy.chain.read(tommy.market.invocation.item(true_one.invocation))

    found = await owner.market.resource(resource)
    metadata = replace_commitment(found)
    await owner.transact(owner.market.registry.register(metadata))
    (other,) = await owner.chain.read(owner.market.registry.resource_count())
    paid, _ = await tommy.pay(other)
    await owner.transact(owner.market.invocation.deliver(paid.id, item.grant))

    with pytest.raises(GrantFalseError, match="refused"):
        await asyncio.wait_for(tommy.delivered(paid.id), 30)


def replace_commitment(resource: object) -> ResourceParams:
    values = {
        name: getattr(resource, name) for name in ResourceParams.__dataclass_fields__ if name != "commitment"
    }
    params = ResourceParams(**values, commitment=b"\x22" * 32)
    return replace(params, previous=0)


async def test_the_vault_calls_the_marketplaces_contracts_only(town: Town) -> None:
    tommy = town.clients["tommy"]
    call = replace(tommy.market.invocation.withdraw(), to=tommy.address)
    with pytest.raises(RemoteError, match="this marketplace's contracts only"):
        await tommy.transact(call)


async def test_every_step_between_the_parties_is_a_final_event_on_the_bus(town: Town) -> None:
    tommy = town.clients["tommy"]
    resource = await sell(town, TABLE, Offer(name="watched", price=0))
    bought = await tommy.buy(resource)
    seen = [
        (event.event, event.args["payer"])
        async for event in tommy.events(contract="Invocation", key=str(bought.invocation))
    ]
    assert seen == [("Paid", tommy.address), ("Delivered", tommy.address)]
    here = f"id = {bought.invocation}"
    picked = [
        found async for found in tommy.events(account=tommy.address.lower(), where=[here, "price <= 0"])
    ]
    assert [found.event for found in picked] == ["Paid"]
    behind = picked[0].block_number + 1
    later = [found.event async for found in tommy.events(where=[here], from_block=behind)]
    assert later == ["Delivered"]
    with pytest.raises(EventsNotAskedForError, match="no comparison"):
        await anext(tommy.events(where=["price"]))
    (item,) = await tommy.chain.read(tommy.market.invocation.item(bought.invocation))
    assert item.state == State.DELIVERED

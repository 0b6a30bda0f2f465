"""ISC-MTI's flow, and DAI's transfers of data, between real nodes; and what those get who get them wrong."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

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
from agorai.rights import usable_right
from agorai.transfer_refusals import (
    NotProvidableError,
    ProvidedFaultyError,
    SchemaNotSoldError,
    TransferRefusedError,
    shown,
)
from agorai_shared import cid
from agorai_shared.bindings.data_transfer import Outcome
from agorai_shared.bindings.invocation import State
from agorai_shared.bindings.registry import Kind, ResourceParams
from agorai_shared.chain import ContractRevertError
from agorai_shared.errors import RemoteError
from agorai_shared.market import ResourceNotFoundError
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address, InvocationId, ResourceId, Wei
from agorai_shared.vault import SealEnvelope
from agorai_trainer.formats.refusals import PickleRefusedError
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import TrainingTask
from tests.trades import SETTLED_S, pass_time, pass_until
from tests.transferring import AMOUNT, FLOWERS, Transferring

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("wide")]

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
    assert (usable := await usable_right(tommy, right.resource))
    assert usable.id == right.invocation

    assert len(await tommy.predict(right.invocation, b"a,b\n1,2\n2,3\n")) == 2
    assert await usable_right(tommy, right.resource) is None
    with pytest.raises(JobFailedError, match="used up"):
        await tommy.predict(right.invocation, b"a,b\n1,2\n")


async def test_the_last_use_serves_the_job_it_was_recorded_for_though_its_trainer_did_not_note_it(
    town: Town, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a kill between the use's being final and its being noted."""
    tommy, linhao = town.clients["tommy"], town.clients["linhao"]
    data = await linhao.buy(await sell(town, TABLE, Offer(name="for the last use", price=0)))
    offer = Offer(name="last use", price=TOKEN, uses=1)
    right = await tommy.buy((await linhao.train(data.invocation, LOGISTIC, offer)).resource or 0)
    job = "5e" * 16
    await tommy.transact(tommy.market.invocation.use(InvocationId(right.invocation)), once=f"use/{job}")
    monkeypatch.setattr("agorai.client.secrets.token_hex", lambda _: job)

    assert len(await tommy.predict(right.invocation, b"a,b\n1,2\n2,3\n")) == 2


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
    assert await usable_right(tommy, resource) == paid  # nobody pays twice while it may still be delivered
    assert await usable_right(owner, resource) is None
    waiting = asyncio.create_task(tommy.delivered(paid.id))
    await tommy.chain.rpc.request("evm_increaseTime", 120)
    await tommy.chain.rpc.request("evm_mine")

    with pytest.raises(Exception, match="did not deliver"):
        await asyncio.wait_for(waiting, 30)
    assert await usable_right(tommy, resource) is None
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
    assert await usable_right(tommy, other) is None


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


# ---------------------------------------------------------------------------------------- transfers of data


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def dealing(town: Town, tmp_path_factory: pytest.TempPathFactory) -> Transferring:
    """Have the owner publish flowers; Tommy wants them, and both trust Linhao."""
    return await Transferring(tmp_path_factory.mktemp("homes"), town).laid()


async def test_data_are_paid_for_once_their_consumer_has_verified_them(dealing: Transferring) -> None:
    parties = {name: client.address for name, client in dealing.town.clients.items()}
    terms = (
        "--amount",
        20.5,
        "--authority",
        parties["linhao"],
        "--duration",
        "10m",
    )  # more than 64 bits of wei
    command = ("init", dealing.flowers, *terms)
    assert "--yes" in await dealing.refusal("tommy", *command)
    found = await dealing.agorai("tommy", "transfer", *command, "--yes")
    assert (found["state"], found["role"], found["amount"]) == ("initiated", "consumer", 20.5)
    transfer = found["transfer"]
    assert "Nothing was provided" in await dealing.refusal(
        "tommy", "download", transfer, dealing.folder / "x"
    )

    (listed,) = await dealing.agorai("owner", "transfer", "list")
    assert (listed["transfer"], listed["role"]) == (transfer, "provider")
    assert "--yes" in await dealing.refusal("owner", "provide", transfer)
    shown_first = await dealing.run("owner", "transfer", "provide", transfer, "--yes")
    assert parties["tommy"] in shown_first
    assert "The data are provided." in shown_first

    for stranger in ("owner", next(iter(parties.keys() - {"tommy", "owner", "linhao"}))):
        refused = await dealing.refusal(stranger, "download", transfer, dealing.folder / "x")
        assert "sealed to its consumer and its authority" in refused
    file = dealing.folder / "flowers.csv"
    same = await dealing.agorai("tommy", "transfer", "download", transfer, file)
    assert (same["changes"], same["bytes"]) == ([], len(FLOWERS.read_bytes()))
    assert file.read_bytes() == FLOWERS.read_bytes()
    assert "File exists" in await dealing.refusal("tommy", "download", transfer, file)

    before = await dealing.coin("owner")
    ended = await dealing.agorai("tommy", "transfer", "verify", transfer)
    assert (ended["state"], ended["awaited"]) == ("verified", None)
    assert await dealing.coin("owner") == before + 41 * TOKEN // 2
    (seen,) = await dealing.agorai("linhao", "transfer", "list")
    assert (seen["role"], seen["state"]) == ("authority", "verified")
    told = await dealing.run("linhao", "transfer", "show", transfer)
    assert f"{parties['linhao']} (you)" in told
    assert "verified" in await dealing.run("tommy", "transfer", "list")
    assert "has ended" in await dealing.refusal("tommy", "verify", transfer)


async def test_an_authority_sees_bad_data_too_and_gives_the_money_back(dealing: Transferring) -> None:
    transfer = await dealing.opened()
    tommy, linhao = dealing["tommy"], dealing["linhao"]
    rows = FLOWERS.read_bytes().splitlines(keepends=True)
    await dealing.hand_over(
        transfer, await dealing.sealed(b"".join(rows[:-1]), tommy._context(transfer), "tommy", "linhao")
    )
    for either in (tommy, linhao):
        data = await either.data(transfer)
        wrong = await either.differences(transfer, data, sandbox=dealing.town.sandbox)
        assert {"rows", "quality.size"} <= {one.path for one in wrong.changes}
    assert "not where this can be done" in await dealing.refusal("linhao", "execute-refund", shown(transfer))
    asked = await dealing.agorai("tommy", "transfer", "request-refund", shown(transfer))
    assert (asked["state"], asked["awaited"]) == ("refund requested", "the authority rules")
    before = await dealing.coin("tommy")
    ruled = await dealing.agorai("linhao", "transfer", "execute-refund", shown(transfer))
    assert ruled["state"] == "refunded"
    assert await dealing.coin("tommy") == before + AMOUNT


async def test_an_authority_rules_for_a_provider_whose_consumer_is_silent(dealing: Transferring) -> None:
    transfer = await dealing.provided()
    assert "It can be done after" in await dealing.refusal("linhao", "expire", shown(transfer))
    await dealing.agorai("owner", "transfer", "request-settle", shown(transfer))
    before = await dealing.coin("owner")
    ruled = await dealing.agorai("linhao", "transfer", "execute-settle", shown(transfer))
    assert ruled["state"] == "settled"
    assert await dealing.coin("owner") == before + AMOUNT


async def test_what_is_anothers_to_do_is_refused_in_words(dealing: Transferring) -> None:
    transfer = await dealing.opened()
    tommy, owner = (dealing.town.clients[name].address for name in ("tommy", "owner"))
    assert f"{tommy}'s to do, not {owner}'s" in await dealing.refusal("owner", "cancel", shown(transfer))
    assert "It can be done after" in await dealing.refusal("tommy", "cancel", shown(transfer))
    assert f"it is {owner}'s to provide" in await dealing.refusal("tommy", "provide", shown(transfer))
    await dealing["owner"].provide(transfer)
    assert "request-refund" in await dealing.refusal("tommy", "cancel", shown(transfer))
    assert "not the panel" in await dealing.refusal("tommy", "contest", shown(transfer))
    assert "data were provided" in await dealing.refusal("owner", "provide", shown(transfer))
    assert "There is no transfer" in await dealing.refusal("owner", "show", shown(transfer + 1))
    assert "is no transfer's id" in await dealing.refusal("owner", "show", "seven")
    await dealing["tommy"].verify(transfer)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"amount": 0}, "nothing is paid"),
        ({"authority": "tommy"}, "one of its two sides"),
        ({"authority": "owner"}, "one of its two sides"),
        ({"authority": "panel"}, "0 voters with a free seat are no panel of 3"),
        ({"authority": "panel", "panel_size": 4}, "a panel of 4 seats is not permitted"),
        ({"panel_size": 3}, "an account that rules has no seats"),
        ({"authority": Address("0x" + "99" * 20)}, "not a member"),
        ({"authority": "nobody"}, "is no account"),
        ({"duration": "59s"}, "too short or too long"),
        ({"duration": "31d"}, "too short or too long"),
        ({"resource": 4711}, "There is no resource 4711"),
        ({"consumer": "owner"}, "your own"),
    ],
    ids=str,
)
async def test_a_transfer_that_nobody_should_open_is_refused(
    dealing: Transferring, changes: dict[str, Any], why: str
) -> None:
    usual = {"consumer": "tommy", "resource": dealing.flowers, "amount": 1, "duration": "10m"}
    given = {**usual, "authority": "linhao", **changes}
    named = given["authority"]
    client = dealing.town.clients.get(named)
    seats = ("--panel-size", given["panel_size"]) if "panel_size" in given else ()
    authority = client.address if client else named
    terms = ("--amount", given["amount"], "--authority", authority, "--duration", given["duration"])
    arguments = (*terms, *seats)
    for yes in ((), ("--yes",)):  # before it is asked, and without
        command = ("init", given["resource"], *arguments, *yes)
        assert why in await dealing.refusal(given["consumer"], *command)


async def test_a_provider_gives_nothing_where_it_could_lose_its_data(dealing: Transferring) -> None:
    owner, panel = dealing["owner"], dealing.town.clients["tommy"].deployment.voting_panel
    for transfer, why in (
        (await dealing.raw(authority=panel), "0 voters with a free seat are no panel of 3"),
        (await dealing.raw(authority=Address("0x" + "99" * 20)), "is not a member"),
        (await dealing.raw(key=b"k" * 32), "not the one that its consumer has in the registry"),
    ):
        with pytest.raises(NotProvidableError, match=why):
            await owner.provide(transfer)
    with pytest.raises(SchemaNotSoldError, match="none of yours"):
        await owner.provide(await dealing.raw(schema=b"s" * 32))
    late = await dealing.opened(60)
    await pass_time(owner.client, 40)
    with pytest.raises(NotProvidableError, match="so nearly"):
        await owner.provide(late)


async def test_what_was_sealed_to_others_or_for_another_transfer_is_the_providers_fault(
    dealing: Transferring,
) -> None:
    tommy, honest = dealing["tommy"], await dealing.provided()
    first = (await tommy.look(honest)).provided
    assert first is not None
    lifted, swapped, unreadable, garbled, text = [await dealing.opened() for _ in range(5)]
    envelope = await dealing.sealed(b"x", tommy._context(honest), "tommy")
    await dealing.hand_over(lifted, envelope)
    await dealing.hand_over(swapped, envelope, cid.of_digest(first.ipfs_data_address))
    await dealing.hand_over(unreadable, await dealing.sealed(b"x", tommy._context(unreadable), "linhao"))
    await dealing.hand_over_bytes(garbled, b"{}", cid.of_raw(b""))
    await dealing.hand_over(text, await dealing.sealed(b"\0\1", tommy._context(text), "tommy"))
    for transfer, why in (
        (lifted, "it was sealed for"),
        (swapped, "another object's"),
        (unreadable, "not sealed to"),
        (garbled, "malformed"),
    ):
        with pytest.raises(ProvidedFaultyError, match=why) as told:
            await tommy.data(transfer)
        assert f"request-refund {shown(transfer)}" in told.value.remedy
    with pytest.raises(ProvidedFaultyError):
        await tommy.differences(text, await tommy.data(text), sandbox=dealing.town.sandbox)
    for transfer in (honest, lifted, swapped, unreadable, garbled, text):
        await tommy.verify(transfer)


async def test_a_transfer_whose_time_is_over_ends_without_anybodys_consent(dealing: Transferring) -> None:
    tommy, linhao = dealing["tommy"], dealing["linhao"]
    unanswered, silent, divided = await dealing.opened(), await dealing.provided(), await dealing.provided()
    await tommy.request_refund(divided)
    await pass_time(tommy.client, 1_900)
    before = {name: await dealing.coin(name) for name in ("tommy", "owner")}
    await linhao.expire(silent)
    await linhao.expire(divided)
    assert await dealing.coin("owner") == before["owner"] + AMOUNT + AMOUNT // 2 + 1
    assert await dealing.coin("tommy") == before["tommy"] + AMOUNT // 2
    ended = await dealing.agorai("tommy", "transfer", "cancel", shown(unanswered))
    assert ended["state"] == "cancelled"
    outcomes = [(await tommy.look(one)).outcome for one in (unanswered, silent, divided)]
    assert outcomes == [Outcome.CANCELLED, Outcome.LAPSED, Outcome.DIVIDED]


async def test_a_payment_that_was_not_taken_is_taken_later(dealing: Transferring) -> None:
    tommy, owner, transfer = dealing["tommy"], dealing["owner"], await dealing.provided()
    assert "no credit to take" in await dealing.run("owner", "transfer", "withdraw")
    await tommy.client.chain.rpc.request("anvil_setCode", owner.client.address, "0xfe")
    await tommy.verify(transfer)
    await tommy.client.chain.rpc.request("anvil_setCode", owner.client.address, "0x")
    assert await owner.credit() == AMOUNT
    before = await dealing.coin("owner")
    assert (await dealing.agorai("owner", "transfer", "withdraw"))["withdrawn"] == pytest.approx(3)
    assert before < await dealing.coin("owner") < before + AMOUNT  # the fee is its own
    with pytest.raises(TransferRefusedError, match="Nothing is credited"):
        await owner.withdraw()


async def test_a_provider_gives_nothing_if_what_comes_before_it_took_nearly_all_the_time(
    dealing: Transferring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data whose key is seen, and mined too late, are given away."""
    owner, transfer = dealing["owner"], await dealing.opened()
    seal = owner.client.vault.seal_envelope

    async def slowly(content: bytes, to: SealEnvelope) -> Envelope:
        sealed = await seal(content, to)
        await pass_until(owner.client, (await owner.look(transfer)).state.deadline - 20)
        return sealed

    monkeypatch.setattr(owner.client.vault, "seal_envelope", slowly)
    with pytest.raises(NotProvidableError, match="or so nearly"):
        await owner.provide(transfer)
    assert (await owner.look(transfer)).provided is None


async def test_a_panel_that_cannot_be_formed_ends_with_half_each_and_its_bonus_comes_back(
    dealing: Transferring,
) -> None:
    tommy = dealing["tommy"]
    transfer = await dealing.raw(authority=tommy.panel.address)
    await dealing.hand_over_bytes(transfer, b"{}", cid.of_raw(b""))
    await tommy.request_refund(transfer)
    await tommy.contest(transfer)
    seen = await tommy.look(transfer)
    assert seen.case is not None
    await pass_until(tommy.client, seen.case.case.deadline + 1)
    async with asyncio.timeout(SETTLED_S):
        while True:
            if (seen := await tommy.look(transfer)).outcome is not None:
                break
            await asyncio.sleep(0.05)
    assert seen.outcome == Outcome.DIVIDED
    taken = await dealing.agorai("tommy", "transfer", "withdraw")
    assert taken == {"withdrawn": 0, "withdrawn_bonus": 0.003}
    assert await tommy.bonus_credit() == 0

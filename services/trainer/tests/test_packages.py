"""The commands about packages over a real bus: packages from a vault over HTTP, verification data from a store."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from pydantic import SecretStr, ValidationError

from agorai_shared import cid as cids
from agorai_shared import package
from agorai_shared.answering import commands_of
from agorai_shared.command import Commander, ServiceUnreachableError, bus_of
from agorai_shared.content import ContentStore, Patience
from agorai_shared.errors import RemoteError
from agorai_shared.package import Card, InputColumn, Output, Structure, TradeBinding
from agorai_shared.service import Host, Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.single_flight import SingleFlight
from agorai_shared.testing import running_nats
from agorai_shared.trainer import (
    Compare,
    Comparison,
    Degrade,
    DegradeStatus,
    Evaluate,
    EvaluationStatus,
    Failure,
    Score,
    Trainer,
)
from agorai_shared.types import Address
from agorai_shared.vault import Vault
from agorai_trainer import evaluating, formats, packages, schemas, tables, training
from agorai_trainer.estimators import ExtraMissingError
from agorai_trainer.packages import Packages, answering
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.tasks import TrainedModel, TrainingTask

pytestmark = pytest.mark.asyncio(loop_scope="session")
ADDRESS = Address("0xAb5801a7D398351b8bE11C439e05C5B3259aeC9B")
TRADE = TradeBinding(chain_id=31337, contract=ADDRESS, trade=7)
TOKEN = "node-token"
LIMIT = 4 << 20
SOURCE = "/vault/trades/7/package"
OWN = "/vault/trades/7/own"


@dataclass
class Town:
    """A node's vault and store, as HTTP servers, and its trainer on a bus."""

    trainer: Trainer
    commander: Commander
    packages: dict[str, bytes] = field(default_factory=dict)
    blocks: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: the vault answers."""
    slow: set[str] = field(default_factory=set)
    """Paths at which packages begin and do not go on until the end."""
    end: asyncio.Event = field(default_factory=asyncio.Event)
    sealed: dict[str, bytes] = field(default_factory=dict)
    """What was put into the vault, in order."""

    def store(self, data: bytes) -> str:
        name = cids.of_raw(data)
        self.blocks[name] = data
        return name

    async def package(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"title": "token_refused", "status": 401, "detail": "No."}, status=401)
        self.asked.append(request.path)
        await self.gate.wait()
        data = self.packages.get(request.path)
        if data is None:
            problem = {"title": "package_absent", "status": 404, "detail": "Absent.", "retryable": False}
            return web.json_response(problem, status=404)
        answer = web.StreamResponse()
        await answer.prepare(request)
        if request.path in self.slow:
            await answer.write(data[:1])
            await self.end.wait()
        for at in range(0, len(data), 1 << 16):
            await answer.write(data[at : at + (1 << 16)])
        return answer

    async def seal(self, request: web.Request) -> web.Response:
        plain = await request.read()
        name = cids.of_raw(plain)
        self.sealed[name] = plain
        return web.json_response({"cid": name, "commitment": "00" * 32, "size": len(plain)}, status=201)

    async def block(self, request: web.Request) -> web.Response:
        data = self.blocks.get(request.match_info["cid"])
        return web.Response(status=404) if data is None else web.Response(body=data)


@pytest_asyncio.fixture(loop_scope="session")
async def town(sandbox: Sandbox, tmp_path: Path) -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(running_nats(tmp_path))
        settings = NodeSettings(bus_url=bus.url, node_token=SecretStr(TOKEN), port=0)
        broker = make_broker(settings, "test")
        commander = Commander(bus_of(broker), ADDRESS, TOKEN)
        made = Town(Trainer(commander), commander)
        made.gate.set()
        app = web.Application(client_max_size=LIMIT)
        app.router.add_post("/vault/objects", made.seal)
        app.router.add_get("/vault/{path:.*}", made.package)
        app.router.add_get("/ipfs/{cid}", made.block)
        runner = web.AppRunner(app)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        session = await stack.enter_async_context(aiohttp.ClientSession())
        vault = Vault(commander, url, TOKEN, session)
        store = ContentStore(url, TOKEN, session, patience=Patience(attempts=1))
        router = commands_of(TOKEN)
        await stack.enter_async_context(answering(router, ADDRESS, Packages(vault, store, sandbox, LIMIT)))
        await stack.enter_async_context(Host(settings, [Service("trainer", router)], broker).running())
        yield made
        made.gate.set()
        made.end.set()


@pytest.fixture(scope="module")
def trained(iris: bytes) -> TrainedModel:
    return training.train(TrainingTask(estimator="sklearn.LogisticRegression", target="y"), iris)


def packed(trained: TrainedModel, test: bytes, model: bytes | None = None, **changes: Any) -> bytes:
    schema = trained.schema
    given = {
        "trade": TRADE,
        "resource": 3,
        "name": "Irises",
        "purpose": "Tells irises apart.",
        "structure": Structure(estimator="sklearn.LogisticRegression", parameters={}),
        "format": trained.format.value,
        "input": tuple(InputColumn(name=name, type="number") for name in schema.features),
        "output": Output(target=schema.target, classes=schema.classes),
        "accuracy": 0.9,
    }
    return package.write(Card(**(given | changes)), model or trained.model, test, Fraction(1, 5))


def command(**changes: Any) -> Evaluate:
    return Evaluate(**({"id": secrets.token_hex(16), "source": SOURCE} | changes))


async def test_a_package_is_judged_by_its_own_rows_and_by_those_of_the_buyer(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    verification = iris[: iris.index(b"virginica")].rpartition(b"\n")[0]
    found = await town.trainer.evaluate(command(verification=town.store(verification)))
    read = package.read(town.packages[SOURCE])
    assert found.package == read.manifest
    assert found.package.model.size == len(trained.model)
    judged = [
        evaluating.evaluate(trained.model, trained.format, trained.schema, data)
        for data in (read.test, verification)
    ]
    assert [found.test, found.verification] == judged
    assert [score.rows for score in judged] == [30, 100]


async def test_without_verification_data_there_is_one_score(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages["/vault/cases/12/package"] = packed(trained, iris)
    found = await town.trainer.evaluate(command(source="/vault/cases/12/package"))
    assert isinstance(found.test, Score)
    assert found.verification is None
    assert town.asked == ["/vault/cases/12/package"]


async def test_an_evaluation_that_takes_long_is_asked_for_again_and_made_once(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    town.gate.clear()
    asked = command(timeout_s=0)
    for _ in range(3):
        status = await town.commander.ask("trainer", "evaluate", asked, EvaluationStatus)
        assert status.evaluation is None
    waiting = [
        asyncio.create_task(town.trainer.evaluate(asked.model_copy(update={"timeout_s": wait})))
        for wait in (0.05, 20.0)
    ]
    await asyncio.wait(waiting, timeout=0.3)
    town.gate.set()
    first, second = await asyncio.gather(*waiting)
    assert first.test == second.test
    assert len(town.asked) <= 2  # once more if one was told the end before the other asked again


async def test_what_was_told_is_made_again_for_who_asks_again(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    asked = command()
    assert await town.trainer.evaluate(asked) == await town.trainer.evaluate(asked)
    assert town.asked == [SOURCE, SOURCE]


async def test_no_more_packages_are_in_memory_than_may_be(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    town.gate.clear()
    asked = [asyncio.create_task(town.trainer.evaluate(command())) for _ in range(packages.AT_ONCE + 3)]
    while len(town.asked) < packages.AT_ONCE:
        await asyncio.wait(asked, timeout=0.01)
    await asyncio.wait(asked, timeout=0.2)
    assert len(town.asked) == packages.AT_ONCE
    town.gate.set()
    scores = {(await evaluation).test for evaluation in asked}
    assert len(scores) == 1
    assert len(town.asked) == packages.AT_ONCE + 3


async def test_two_slow_packages_do_not_stop_the_evaluation_of_a_third(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.slow = {f"/vault/trades/{trade}/package" for trade in (1, 2)}
    for path in (*town.slow, SOURCE):
        town.packages[path] = packed(trained, iris)
    for path in town.slow:
        asked = command(source=path, timeout_s=0)
        status = await town.commander.ask("trainer", "evaluate", asked, EvaluationStatus)
        assert status.evaluation is None
    assert isinstance((await town.trainer.evaluate(command())).test, Score)


async def test_a_package_that_does_not_come_in_time_is_given_up(
    town: Town, trained: TrainedModel, iris: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "FETCH_S", 0.1)
    town.packages[SOURCE], town.slow = packed(trained, iris), {SOURCE}
    ask = [town.trainer.evaluate(command()) for _ in range(packages.AT_ONCE)]
    for error in await asyncio.gather(*ask, return_exceptions=True):
        assert isinstance(error, RemoteError)
        assert (error.code, error.retryable) == ("package_too_slow", True)
    monkeypatch.undo()
    town.slow = set()
    assert isinstance((await town.trainer.evaluate(command())).test, Score)


async def test_ends_that_nobody_asks_for_are_not_kept_for_ever() -> None:
    gate = asyncio.Event()

    async def work(asked: Evaluate) -> str:
        await gate.wait()
        return asked.id

    async with aclosing(SingleFlight(work)) as flight:
        asked = [command(timeout_s=0) for _ in range(100)]
        for one in asked:
            gate.clear()
            assert await flight.end(one) is None
            gate.set()
            await asyncio.gather(*flight._tasks.values())
        assert set(flight._tasks) == set(asked[-32:])
        assert await flight.end(asked[-1]) == asked[-1].id


async def test_a_package_that_is_none_is_the_commands_problem(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    whole = packed(trained, iris)
    for data in (b"", whole[:-1], whole + b"x", whole.replace(b"setosa", b"sitosa")):
        town.packages[SOURCE] = data
        with pytest.raises(RemoteError) as caught:
            await town.trainer.evaluate(command())
        assert (caught.value.code, caught.value.retryable) == ("package_malformed", False)


@pytest.mark.parametrize("changes", [{"format": "pickle"}, {"format": ""}])
async def test_a_format_that_nobody_knows_makes_it_malformed(
    town: Town, trained: TrainedModel, iris: bytes, changes: dict[str, Any]
) -> None:
    town.packages[SOURCE] = packed(trained, iris, **changes)
    with pytest.raises(RemoteError, match="no format of models") as caught:
        await town.trainer.evaluate(command())
    assert caught.value.code == "package_malformed"


async def test_fewer_rows_than_promised_make_it_malformed(town: Town, trained: TrainedModel) -> None:
    rows = b"f0,f1,f2,f3,y\n" + b"5.1,3.5,1.4,0.2,setosa\n" * 5
    honest = packed(trained, rows, accuracy=0.9)
    read = package.read(honest)
    lying = read.manifest.test.model_copy(update={"rows": 2, "of": 10})
    manifest = read.manifest.model_copy(update={"test": lying})
    town.packages[SOURCE] = b"".join(package._pieces((manifest.to_bytes(), read.model, read.test)))
    with pytest.raises(RemoteError, match="has 1 rows where 2 are promised") as caught:
        await town.trainer.evaluate(command())
    assert caught.value.code == "package_malformed"


async def test_a_model_that_cannot_be_judged_is_the_packages_failure(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris, model=trained.model[:-8])
    found = await town.trainer.evaluate(command(verification=town.store(iris)))
    for failure in (found.test, found.verification):
        assert isinstance(failure, Failure)
        assert failure.code == "broken_model"
        assert failure.remedy


async def test_verification_data_that_do_not_serve_are_their_own_failure(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    for data, code in (
        (town.store(b"f0,f1,f2,f3\n1,2,3,4\n"), "missing_column"),
        (town.store(b"f0,f1,f2,f3,y\n1,2,3,4,rose\n"), "target_kind"),
        (town.store(b""), "empty_table"),
    ):
        found = await town.trainer.evaluate(command(verification=data))
        assert isinstance(found.test, Score)
        assert isinstance(found.verification, Failure)
        assert found.verification.code == code


async def test_numbers_that_are_all_zero_are_the_datas_failure(town: Town, diabetes: bytes) -> None:
    model = training.train(TrainingTask(estimator="sklearn.Ridge", target="y"), diabetes)
    zeros = b"\n".join(
        line if at == 0 else line.rpartition(b",")[0] + b",0" for at, line in enumerate(diabetes.splitlines())
    )
    town.packages[SOURCE] = packed(model, diabetes)
    found = await town.trainer.evaluate(command(verification=town.store(zeros)))
    assert isinstance(found.test, Score)
    assert isinstance(found.verification, Failure)
    assert found.verification.code == "target_zero"


async def test_verification_data_that_the_store_does_not_give_are_the_commands_problem(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[SOURCE] = packed(trained, iris)
    false = cids.of_raw(iris)
    town.blocks[false] = iris.replace(b"setosa", b"virginica")
    for data, code in (
        (cids.of_raw(b"absent"), "content_not_found"),
        (false, "cid_mismatch"),
        (town.store(bytes(3 << 20)), "store_answer"),
    ):
        with pytest.raises(RemoteError) as caught:
            await town.trainer.evaluate(command(verification=data))
        assert caught.value.code == code


async def test_a_vault_that_has_no_package_says_so(town: Town) -> None:
    with pytest.raises(RemoteError) as caught:
        await town.trainer.evaluate(command())
    assert (caught.value.code, caught.value.http_status) == ("package_absent", 404)


async def test_a_package_beyond_the_limit_is_not_taken_into_memory(town: Town) -> None:
    town.packages[SOURCE] = bytes(LIMIT + 1)
    with pytest.raises(RemoteError) as caught:
        await town.trainer.evaluate(command())
    assert caught.value.code == "plaintext_too_large"


async def test_what_this_node_lacks_is_not_held_against_the_package(
    town: Town, trained: TrainedModel, iris: bytes, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def evaluate(*_arguments: object) -> Score:
        raise ExtraMissingError("A text model", "boosting")

    monkeypatch.setattr(sandbox, "evaluate", evaluate)
    town.packages[SOURCE] = packed(trained, iris)
    with pytest.raises(RemoteError) as caught:
        await town.trainer.evaluate(command())
    assert caught.value.code == "extra_missing"


async def test_a_stranger_to_the_node_is_not_answered(town: Town) -> None:
    stranger = Commander(town.commander._connection, ADDRESS, "another token")
    with pytest.raises(RemoteError) as caught:
        await Trainer(stranger).evaluate(command())
    assert caught.value.code == "command_refused"
    assert town.asked == []


async def test_a_trainer_that_is_away_is_told_of(town: Town) -> None:
    other = Commander(town.commander._connection, Address("0x" + "11" * 20), TOKEN)
    with pytest.raises(ServiceUnreachableError):
        await Trainer(other).evaluate(command(timeout_s=0))


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "http://elsewhere/vault/trades/7/package"},
        {"source": "/vault/objects/bafy"},
        {"source": "/vault/trades/../objects/package"},
        {"source": "/vault/trades/0/package"},
        {"source": SOURCE + "\n"},
        {"source": SOURCE + "?x=1"},
        {"source": "/vault/cases/7/own"},
        {"source": "/vault/cases/7/sets/10"},
        {"source": "/vault/cases/7/sets/"},
        {"source": "/vault/trades/7/sets/1"},
        {"id": "x"},
        {"verification": "not a CID"},
        {"timeout_s": 26},
    ],
)
async def test_a_command_of_another_form_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        command(**changes)


# ------------------------------------------------------------------------------------------------ low quality


def degrade(verification: str, **changes: Any) -> Degrade:
    given = {"id": secrets.token_hex(16), "source": OWN, "verification": verification, "count": 2}
    return Degrade(**(given | changes))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "fmt", "rows"),
    [
        ("LogisticRegression", "safetensors", "iris"),
        ("LinearSVC", "safetensors", "cancer"),
        ("GaussianNB", "safetensors", "iris"),
        ("MLPClassifier", "safetensors", "cancer"),
        ("DecisionTreeClassifier", "skops", "iris"),
        ("RandomForestClassifier", "skops", "cancer"),
        ("ExtraTreesClassifier", "skops", "iris"),
        ("Ridge", "safetensors", "diabetes"),
        ("RandomForestRegressor", "skops", "diabetes"),
    ],
)
async def test_sets_are_packages_like_the_nodes_own_with_models_that_are_mostly_wrong(
    town: Town, request: pytest.FixtureRequest, name: str, fmt: str, rows: str
) -> None:
    data: bytes = request.getfixturevalue(rows)
    task = {"estimator": f"sklearn.{name}", "target": "y", "model_format": fmt, "scaler": "standard"}
    few = {"hyperparameters": {"n_estimators": 10}} if "Forest" in name or "Trees" in name else {}
    model = training.train(TrainingTask.model_validate(task | few), data)
    town.packages[OWN] = packed(model, data)
    own, verification = package.read(town.packages[OWN]), town.store(data)

    made = await town.trainer.degrade(degrade(verification))
    assert made.sets == tuple(town.sealed)
    sets = [package.read(plain) for plain in town.sealed.values()]
    assert len({own.model, *(one.model for one in sets)}) == 3
    source = "/vault/cases/3/sets/0"
    for one in sets:
        kept = {"accuracy": own.manifest.accuracy, "model": own.manifest.model}
        assert one.manifest.model_copy(update=kept) == own.manifest
        assert one.test == own.test
        told = [formats.describe(each.model, model.format) for each in (one, own)]
        assert [{**each, "bytes": 0} for each in told] == [{**told[1], "bytes": 0}] * 2
        town.packages[source] = package.with_model(one, one.model, one.manifest.accuracy)
        found = await town.trainer.evaluate(command(source=source, verification=verification))
        assert isinstance(found.test, Score)
        assert isinstance(found.verification, Score)
        assert found.verification.accuracy == one.manifest.accuracy < 0.5


async def test_nobody_can_draw_the_sets_again_that_were_made(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[OWN] = packed(trained, iris)
    asked = degrade(town.store(iris), count=10)
    first, second = await town.trainer.degrade(asked), await town.trainer.degrade(asked)
    assert len(first.sets) == 10
    assert len({*first.sets, *second.sets}) == len(town.sealed) == 20


async def test_sets_that_take_long_are_asked_for_again_and_made_once(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    town.packages[OWN] = packed(trained, iris)
    town.gate.clear()
    asked = degrade(town.store(iris), timeout_s=0)
    for _ in range(3):
        assert (await town.commander.ask("trainer", "degrade", asked, DegradeStatus)).degraded is None
    town.gate.set()
    made = await town.trainer.degrade(asked.model_copy(update={"timeout_s": 20.0}))
    assert made.sets == tuple(town.sealed)
    assert town.asked == [OWN]


@pytest.mark.parametrize(
    ("name", "fmt", "why"),
    [
        ("SVC", "skops", "it is a SVC in skops"),
        ("LogisticRegression", "onnx", "its format is onnx"),
    ],
)
async def test_a_model_of_which_there_are_no_such_sets_is_told_of(
    town: Town, iris: bytes, name: str, fmt: str, why: str
) -> None:
    task = {"estimator": f"sklearn.{name}", "target": "y", "model_format": fmt}
    town.packages[OWN] = packed(training.train(TrainingTask.model_validate(task), iris), iris)
    with pytest.raises(RemoteError, match=f"{why}.*Sell a model of the format safetensors") as caught:
        await town.trainer.degrade(degrade(town.store(iris)))
    assert (caught.value.code, caught.value.retryable) == ("undegradable", False)
    assert not town.sealed


async def test_sets_that_cannot_be_made_now_are_the_commands_problem(
    town: Town, trained: TrainedModel, iris: bytes
) -> None:
    for data, verification, code in (
        (None, town.store(iris), "package_absent"),
        (b"", town.store(iris), "package_malformed"),
        (packed(trained, iris, format="pickle"), town.store(iris), "package_malformed"),
        (packed(trained, iris), cids.of_raw(b"absent"), "content_not_found"),
        (packed(trained, iris), town.store(b"f0,f1,f2,f3,y\n1,2,3,4,rose\n"), "target_kind"),
        (packed(trained, iris, model=trained.model[:-8]), town.store(iris), "broken_model"),
    ):
        town.packages = {} if data is None else {OWN: data}
        with pytest.raises(RemoteError) as caught:
            await town.trainer.degrade(degrade(verification))
        assert caught.value.code == code
    assert not town.sealed


@pytest.mark.parametrize(
    "changes", [{"count": 0}, {"count": 11}, {"verification": None}, {"source": "/vault"}]
)
async def test_a_command_for_other_sets_is_none(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        degrade(**({"verification": cids.of_raw(b"")} | changes))


# ------------------------------------------------------------------------------------------- data of a transfer


LOTS = b"area,kind\n" + b"".join(b"%d,%s\n" % (row, b"ab"[row % 2 :][:1]) for row in range(40))
DATA_AT = "/vault/cases/7/data"


async def compared(town: Town, data: bytes, described: bytes | None = None) -> Comparison:
    schema = schemas.describe(tables.parse(LOTS), "lots", "kind").to_bytes()
    town.packages[DATA_AT] = data
    name = town.store(described or schema)
    return await town.trainer.compare(Compare(id=secrets.token_hex(16), source=DATA_AT, described=name))


async def test_data_are_compared_with_their_schema(town: Town) -> None:
    assert (await compared(town, LOTS)).differences == ()
    found = (await compared(town, LOTS.replace(b"kind", b"sort", 1) + b"99,a\n")).differences
    assert not isinstance(found, Failure)
    assert {"there is no column kind", "there is a column sort", "rows is 41, not 40"} <= set(found)


async def test_data_that_are_no_table_are_their_own_failure_and_a_schema_that_is_none_is_the_commands(
    town: Town,
) -> None:
    failure = (await compared(town, b"")).differences
    assert isinstance(failure, Failure)
    assert failure.code == "empty_table"
    with pytest.raises(RemoteError) as caught:
        await compared(town, LOTS, b"{}")
    assert caught.value.code == "document_malformed"


async def test_data_that_nobody_shows_are_the_vaults_to_tell_of(town: Town) -> None:
    asked = Compare(id=secrets.token_hex(16), source="/vault/cases/8/data", described=town.store(b"{}"))
    with pytest.raises(RemoteError):
        await town.trainer.compare(asked)
    with pytest.raises(ValidationError):
        Compare(id=secrets.token_hex(16), source="/vault/transfers/8/data", described=asked.described)

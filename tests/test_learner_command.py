"""`agorai learner` as people use it, and what proves a learner: against one running node and its chain."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
import pytest_asyncio
from eth_utils.crypto import keccak
from typer.testing import CliRunner, Result

from agorai.cli.main import app
from agorai.client import Client
from agorai.demo.town import Resident, running
from agorai.home import Home
from agorai.learner_replay import trained_in
from agorai.learner_samples import SamplesFileError, read_samples, words
from agorai.learners import ANYONE, REFUSALS, Learners
from agorai_shared.bindings.data_pool import DataPool
from agorai_shared.bindings.online_learner import Kind, Learner, OnlineLearner
from agorai_shared.online_learner import (
    MAX_SAMPLES,
    KMeans,
    NearestCentroid,
    Perceptron,
    Sample,
    encode_sample,
)
from agorai_shared.types import Address

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAIN = Learner(ANYONE, Kind.PERCEPTRON, 2, 3, 0, 0)
CONTRACT = OnlineLearner(Address("0x" + "11" * 20))


# --------------------------------------------------------------------------------------- written down


async def test_a_text_is_its_words_whatever_their_case_and_order() -> None:
    sample = words("Cheap PILLS, cheap!", 1000)
    assert sample == words("pills cheap", 1000)
    # Learners are trained with these for ever: the first 8 bytes of each word's BLAKE2b, modulo 1000.
    assert sample == {171: 1, 445: 1}
    assert words("Caf\u00e9", 65_536) == words("cafe\u0301", 65_536)
    assert words("...", 1000) == {}


async def test_a_files_columns_are_features_in_order_and_the_label() -> None:
    assert read_samples(b"a,b,c,y\n1,0,-3,1\n\n0,0,0,0\n", PLAIN) == [({0: 1, 2: -3}, 1), ({0: 0}, 0)]
    assert read_samples(b"\xef\xbb\xbfa,y,b,c\n1,0,-3,1\n", PLAIN, "y") == [({0: 1, 1: -3, 2: 1}, 0)]
    assert read_samples(b"a,b,c\n0,5,0\n", PLAIN) == [({1: 5}, None)]
    clusters = replace(PLAIN, kind=Kind.KMEANS)
    assert read_samples(b"a,b,c,y\n0,5,0,1\n", clusters) == [({1: 5}, None)]


@pytest.mark.parametrize(
    ("data", "label_column", "why"),
    [
        (b"a,b,c,y\n", None, "no rows"),
        (b"a,b\n1,2\n", None, "2 columns"),
        (b"a,b,c\n1,2,3\n", "c", "3 columns"),
        (b"a,b,c,y\n1,2,3,1\n", "z", "no single column 'z'"),
        (b"y,b,c,y\n1,2,3,1\n", "y", "no single column 'y'"),
        (b"a,b,c,y\n1,2,3,1\n1,2\n", None, "row 1 .* has 2 cells"),
        (b"a,b,c,y\n1,2.5,3,1\n", None, "row 0 .* has '2.5'"),
        (b"a,b,c,y\n1,,3,1\n", None, "row 0 .* has ''"),
        (b"a,b,c,y\n1,\xff,3,1\n", None, "no CSV"),
    ],
)
async def test_what_is_no_file_of_samples_is_told(data: bytes, label_column: str | None, why: str) -> None:
    with pytest.raises(SamplesFileError, match=why):
        read_samples(data, PLAIN, label_column)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("train", 1), "one of FILE"),
        (("train", 1, __file__, "--sample", "3:1"), "one of FILE"),
        (("train", 1, __file__, "--label", 1), "--label goes with"),
        (("predict", 1, "--sample", "3:1", "--label-column", "y"), "--label-column goes with"),
        (("predict", 1, "--sample", "3:1,3:2"), "each once"),
        (("predict", 1, "--sample", "3=1"), "FEATURE:VALUE"),
        (("create", "--kind", "oracle", "--features", 1), "oracle"),
        (("create", "--kind", "k-means", "--features", 65_537), "65536"),
    ],
)
async def test_usage_that_is_wrong_is_told_before_any_node_is_asked(
    arguments: tuple[object, ...], why: str, tmp_path: Path
) -> None:
    found = CliRunner().invoke(app, ["learner", *map(str, arguments), "--home", str(tmp_path), "--json"])
    assert (found.exit_code, why in json.loads(found.stdout)["error"]["detail"]) == (2, True), found.stdout


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_refusal_is_one_of_the_contracts_and_told_with_its_values(error: str) -> None:
    errors = {found.name: found for found in OnlineLearner.ABI.errors.values()}
    named = {field for text in REFUSALS[error] for _, field, _, _ in Formatter().parse(text) if field}
    assert named <= {parameter.name for parameter in errors[error].inputs}


# ------------------------------------------------------------------------------------ transactions' inputs


async def test_what_a_transaction_taught_is_read_off_its_input() -> None:
    first, second = {0: 1, 7: -128}, {65_535: 127}
    calls = [CONTRACT.train(1, encode_sample(first), 1), CONTRACT.train(2, encode_sample(first), 0),
             CONTRACT.train(1, encode_sample(second), 0)]  # fmt: skip
    assert trained_in(calls[0].data, 1, direct=True) == [(first, 1)]
    assert trained_in(calls[0].data, 2, direct=True) == []
    many = DataPool(Address("0x" + "22" * 20)).multicall([call.data for call in calls]).data
    assert trained_in(many, 1, direct=False) == [(first, 1), (second, 0)]
    assert trained_in(many, 1, direct=True) == []
    assert trained_in(calls[0].data[:-40], 1, direct=False) == []


async def test_an_input_is_read_as_the_contract_reads_it() -> None:
    sample = {0: 1, 7: -128}
    call = CONTRACT.train(1, encode_sample(sample), 1).data
    # In what pads the sample there is no zero, and a call of its own that was never made.
    odd = call[:-26] + (call[:26])
    assert trained_in(odd, 1, direct=True) == [(sample, 1)]


# --------------------------------------------------------------------------------------- on a running node


@dataclass
class Pupil:
    """Alice's node, and files of samples."""

    folder: Path
    client: Client

    async def run(self, *arguments: object) -> Result:
        environment = {"AGORAI_HOME": str(self.folder)}
        return await asyncio.to_thread(
            CliRunner().invoke, app, ["learner", *map(str, arguments)], env=environment
        )

    async def agorai(self, *arguments: object, status: int = 0) -> Any:
        found = await self.run(*arguments, "--json")
        assert found.exit_code == status, found.output
        return json.loads(found.stdout)

    async def refusal(self, *arguments: object) -> str:
        error = (await self.agorai(*arguments, status=1))["error"]
        return f"{error['detail']} {error['remedy']}"

    async def begun(self, kind: str, features: int, *options: object) -> int:
        made = await self.agorai("create", "--kind", kind, "--features", features, *options)
        return int(made["learner"])

    def file(
        self, name: str, samples: list[tuple[Sample, int]], features: int, *, labels: bool = True
    ) -> Path:
        heads = [f"f{n}" for n in range(features)]
        rows = [
            [str(sample.get(n, 0)) for n in range(features)] + [str(label)] * labels
            for sample, label in samples
        ]
        path = self.folder / name
        path.write_text("\n".join(",".join(row) for row in [heads + ["label"] * labels, *rows]))
        return path

    async def store(self, learner: int, slot: int, value: bytes) -> None:
        """Write into a learner's storage, past the contract."""
        base = int.from_bytes(keccak(learner.to_bytes(32, "big") + bytes(32)), "big")
        contract = self.client.deployment.online_learner
        await self.client.chain.rpc.request(
            "anvil_setStorageAt", contract, hex(base + slot), "0x" + value.hex()
        )
        await self.client.chain.rpc.request("evm_mine")

    async def through(self, code: bytes, data: bytes) -> None:
        """Put a contract on the chain, and call it."""
        rpc, contract, sender = self.client.chain.rpc, "0x" + "c0" * 20, "0x" + "a1" * 20
        await rpc.request("anvil_setCode", contract, "0x" + code.hex())
        await rpc.request("anvil_setBalance", sender, hex(10**20))
        await rpc.request("anvil_impersonateAccount", sender)
        await rpc.request(
            "eth_sendTransaction",
            {"from": sender, "to": contract, "data": "0x" + data.hex(), "gas": hex(2_000_000)},
        )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pupil(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Pupil]:
    folder = tmp_path_factory.mktemp("home")
    async with running([Resident("alice", 1)]) as town:
        client = town.clients["alice"]
        client.info.save(Home(folder).node_file)
        yield Pupil(folder, client)


def streams(features: int, classes: int, count: int) -> list[tuple[Sample, int]]:
    """Give samples around a point for each class, with a few labels that are wrong."""
    rng = random.Random(7)
    found: list[tuple[Sample, int]] = []
    for _ in range(count):
        label = rng.randrange(classes)
        sample = {n: rng.randint(-3, 3) + (9 if n % classes == label else -2) for n in range(features)}
        found.append(({n: value for n, value in sample.items() if value}, rng.choice([label] * 9 + [0])))
    return found


async def test_a_perceptron_is_begun_taught_asked_and_proved(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 40)
    samples = streams(40, 2, 12)
    twin = Perceptron(40)
    mistakes = sum(twin.train(*one).mistake for one in samples)
    file = pupil.file("many.csv", samples, 40)

    done = await pupil.agorai("train", learner, file)
    assert (done["samples"], done["mistakes"], done["trained"]) == (12, mistakes, 12)
    assert 12 * 21_000 < done["gas"] < 12 * 200_000

    asked = await pupil.agorai("predict", learner, file)
    own = [twin.predict(sample) for sample, _ in samples]
    assert [(one["predicted"], tuple(one["scores"])) for one in asked["predictions"]] == own
    assert asked["right"] == sum(one.predicted == label for one, (_, label) in zip(own, samples, strict=True))
    unlabelled = pupil.file("unlabelled.csv", samples, 40, labels=False)
    assert (await pupil.agorai("predict", learner, unlabelled)) == {**asked, "right": None}

    shown = await pupil.agorai("show", learner, "--from", 30, "--count", 99)
    assert (shown["kind"], shown["trainer"], shown["trained"]) == ("perceptron", pupil.client.address, 12)
    assert shown["weights"] == [twin.weights[feature] for feature in range(30, 40)]
    assert (await pupil.agorai("show", learner, "--from", 99))["weights"] == []

    proved = await pupil.agorai("verify", learner)
    assert (proved["same"], proved["samples"], proved["difference"]) == (True, 12, None)


async def test_learners_are_listed_the_newest_first(pupil: Pupil) -> None:
    older = await pupil.begun("k-means", 5, "--classes", 3, "--open")
    newer = await pupil.begun("perceptron", 7)
    await pupil.agorai("train", newer, "--sample", "0:1", "--label", 1)
    first, second, *_ = await pupil.agorai("list")
    assert first == {
        "learner": newer, "kind": "perceptron", "features": 7, "classes": 2, "trainer": pupil.client.address,
        "trained": 1, "mistakes": first["mistakes"],
    }  # fmt: skip
    assert (second["learner"], second["kind"], second["classes"], second["trainer"]) == (
        older, "k-means", 3, None,
    )  # fmt: skip
    shown = (await pupil.run("list")).output
    assert "perceptron" in shown
    assert "anyone" in shown


async def test_classes_and_clusters_are_taught_asked_and_proved(pupil: Pupil) -> None:
    samples = streams(6, 3, 7)
    classes = await pupil.begun("nearest-centroid", 6, "--classes", 4)
    await pupil.agorai("train", classes, pupil.file("three.csv", samples, 6), "--label-column", "label")
    clusters = await pupil.begun("k-means", 6, "--classes", 3)
    await pupil.agorai("train", clusters, pupil.file("none.csv", samples, 6, labels=False))
    means, groups = NearestCentroid(6, 4), KMeans(6, 3)
    for sample, label in samples:
        means.train(sample, label)
        groups.train(sample, 0)

    shown = await pupil.agorai("show", classes)
    assert [one["samples"] for one in shown["centroids"]] == means.counts
    assert shown["centroids"][1]["mean"] == [means.sums[1][n] / means.counts[1] for n in range(6)]
    assert shown["centroids"][3] == {"samples": 0, "mean": None}
    (asked,) = (await pupil.agorai("predict", classes, "--sample", "0:9,3:-9"))["predictions"]
    own = means.predict({0: 9, 3: -9})
    assert asked["scores"] == [*(score / 1_000_000 for score in own.scores[:3]), None]
    assert asked["predicted"] == own.predicted
    assert [one["samples"] for one in (await pupil.agorai("show", clusters))["centroids"]] == groups.counts
    for learner in (classes, clusters):
        assert (await pupil.agorai("verify", learner))["same"]


async def test_texts_are_learned_by_their_words(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 1000)
    await pupil.agorai("train", learner, "--text", "Cheap pills!", "--label", 1)
    (asked,) = (await pupil.agorai("predict", learner, "--text", "pills, my friend"))["predictions"]
    assert asked == {"predicted": 1, "scores": [1]}


async def test_what_people_see_is_told_in_words(pupil: Pupil) -> None:
    begun = (await pupil.run("create", "--kind", "k-means", "--features", 2, "--open")).output
    learner = int(begun.split("Learner ")[1].split()[0])
    taught = (await pupil.run("train", learner, "--sample", "0:4,1:-2")).output
    assert "training" in taught
    assert f"Learner {learner} learned 1 sample, 0 of which" in " ".join(taught.split())
    shown = (await pupil.run("show", learner)).output
    assert "anyone" in shown
    assert "-2" in shown
    assert "no samples" in (await pupil.run("predict", learner, "--sample", "0:1")).output
    assert "follows from its 1 sample, at block" in " ".join(
        (await pupil.run("verify", learner)).output.split()
    )


# What it is called with, behind an address of 32 bytes, it calls that address with.
FORWARDER = bytes.fromhex("602036038060205f375f5f915f5f5f355af100")


async def test_an_open_learner_is_proved_whoever_taught_it_by_what(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 40, "--open")
    contract = OnlineLearner(pupil.client.deployment.online_learner)
    call = contract.train(learner, encode_sample({3: 1, 39: -5}), 1)
    await pupil.agorai("train", learner, "--sample", "3:2,4:7", "--label", 1)
    await pupil.through(FORWARDER, bytes.fromhex(contract.address[2:]).rjust(32, b"\0") + call.data)
    await pupil.agorai("train", learner, "--sample", "3:2", "--label", 0)
    proved = await pupil.agorai("verify", learner)
    assert (proved["same"], proved["samples"]) == (True, 3)


async def test_a_learner_taught_by_a_contract_that_made_its_samples_up_is_not_proved(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 40, "--open")
    contract = OnlineLearner(pupil.client.deployment.online_learner)
    call = contract.train(learner, encode_sample({3: 1}), 1).data
    size, to = f"60{len(call):02x}", f"73{contract.address[2:]}"
    copied_from_its_code = bytes.fromhex(f"{size}60245f395f5f{size}5f5f{to}5af100") + call
    await pupil.through(copied_from_its_code, b"")
    assert (await pupil.agorai("show", learner))["trained"] == 1
    assert "its input does not show by what" in await pupil.refusal("verify", learner)


async def test_the_first_difference_is_told_and_ends_with_status_one(pupil: Pupil) -> None:
    weights = await pupil.begun("perceptron", 40)
    await pupil.agorai("train", weights, "--sample", "3:2", "--label", 1)
    # The weights of features 32 to 39 are in the second word behind the learner and its centroids.
    await pupil.store(weights, 18, bytes([0x80] * 30 + [0x87, 0x80]))
    said = await pupil.run("verify", weights)
    assert said.exit_code == 1
    assert "the weight of feature 33 is 7, the twin's 0" in " ".join(said.output.split())

    sums = await pupil.begun("nearest-centroid", 5, "--classes", 3)
    await pupil.agorai("train", sums, "--sample", "1:2", "--label", 2)
    told = int(pupil.client.address, 16) | 1 << 160 | 3 << 168 | 5 << 176
    # Each is looked at before those above it.
    for slot, value, difference in (
        (17, b"".join((2**31 + n).to_bytes(4, "big") for n in (0, 0, 2, 0, 0, 4, 0, 0)),
         "the sum of feature 0 in class 2 is 4, the twin's 0"),
        (1, (5 << 24 | 0).to_bytes(32, "big"), "class 0 has 0 samples and the norm 5, the twin's 0 and 0"),
        (0, (told | 1 << 200).to_bytes(32, "big"), "it has made 0 mistakes, the twin 1"),
        (0, (told | 2 << 200).to_bytes(32, "big"), "it has taken 2 samples, and the logs tell of 1"),
    ):  # fmt: skip
        await pupil.store(sums, slot, value)
        found = await pupil.agorai("verify", sums, status=1)
        assert (found["same"], found["difference"]) == (False, difference)


async def test_what_is_refused_is_told_in_words(pupil: Pupil) -> None:
    contract = OnlineLearner(pupil.client.deployment.online_learner)
    for verb in ("show", "verify", "train", "predict"):
        given = ("--sample", "0:1") if verb in ("train", "predict") else ()
        assert "There is no learner 999. Begin one" in await pupil.refusal(verb, 999, *given)
    bad = ("create", "--kind", "perceptron", "--features", 5, "--classes", 3)
    assert "a perceptron 2 classes" in await pupil.refusal(*bad)

    learners = Learners(pupil.client)
    await learners.send(contract.create(Kind.PERCEPTRON, 5, 2, contract.address))
    (others,) = await learners.read(contract.learner_count())
    refused = await pupil.refusal("train", others, "--sample", "0:1", "--label", 1)
    assert f"Learner {others} is not {pupil.client.address}'s to train" in refused


async def test_samples_that_do_not_fit_are_named_before_anything_is_sent(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 2)
    large = pupil.file("large.csv", [({0: 1}, 1), ({1: 300}, 0)], 2)
    assert (
        "Row 1 of the samples (the first is 0): The sample gives feature 1 the value 300"
        in await pupil.refusal("train", learner, large)
    )
    sort = pupil.file("sort.csv", [({0: 1}, 1), ({1: 3}, 2)], 2)
    assert "Row 1 of the samples (the first is 0): The label 2 is none" in await pupil.refusal(
        "train", learner, sort
    )
    assert "from 0 to 1" in await pupil.refusal("train", learner, "--sample", "0:1")
    assert "feature 2 of 2" in await pupil.refusal("predict", learner, "--sample", "2:1")
    assert "is empty" in await pupil.refusal("predict", learner, "--text", "?")
    assert (await pupil.agorai("show", learner))["trained"] == 0


async def test_a_learner_that_is_full_takes_no_more_and_what_it_took_is_told(pupil: Pupil) -> None:
    learner = await pupil.begun("perceptron", 2)
    trainer = int(pupil.client.address, 16)
    almost = trainer | 2 << 168 | 2 << 176 | (MAX_SAMPLES - 1) << 200
    await pupil.store(learner, 0, almost.to_bytes(32, "big"))
    file = pupil.file("two.csv", [({0: 1}, 1), ({1: 1}, 0)], 2)
    refused = await pupil.refusal("train", learner, file)
    assert f"1 of 2 samples were learned, and the next one not: Learner {learner} has taken" in refused
    missing = f"sample 1 is not told by any log, sample {MAX_SAMPLES} is"
    assert (await pupil.agorai("verify", learner, status=1))["difference"] == missing

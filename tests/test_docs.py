"""The documentation against the code: links, commands, settings, estimators and examples."""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import shlex
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from pydantic import BaseModel, SecretStr
from pydantic_core import PydanticUndefined
from pydantic_settings import BaseSettings

from agorai import data_sets, files
from agorai.cli.main import app
from agorai.cli.output import HOME
from agorai.service_permissions import ASKED
from agorai_shared.consumers import CONSUMERS
from agorai_shared.contract import ContractAbi
from agorai_shared.deployment import NEEDED, Deployment
from agorai_trainer import tables
from agorai_trainer.estimators import ESTIMATORS
from agorai_trainer.messages import Offer
from agorai_trainer.tasks import Limits, ModelSchema, Split, TrainingTask
from tests import api_reference

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "docs" / "examples"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NOT_IN_SETTINGS = {
    "AGORAI_HOME",  # an option's variable
    "AGORAI_VAULT_PASSPHRASE_FILE",  # read by agorai.cli.passphrase
    "AGORAI_NATS_SERVER",  # read by agorai_shared.processes
    "AGORAI_ANVIL",
    "AGORAI_EVENTS_URL",  # options' variables
    "AGORAI_EVENTS_TOKEN",
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def shown_as(value: object) -> str:
    return (
        value.name if isinstance(value, Path) else " ".join(value) if isinstance(value, list) else str(value)
    )


def fences(page: Path, language: str) -> list[str]:
    return [body for kind, body in FENCE.findall(page.read_text()) if kind == language]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links() -> Iterator[tuple[Path, str]]:
    for page in PAGES:
        for target in LINK.findall(FENCE.sub("", page.read_text())):
            if "://" not in target:
                yield page, target


def command_lines(program: str) -> Iterator[tuple[Path, list[str]]]:
    """Give the arguments of every call of a program in the pages' shell blocks."""
    for page in PAGES:
        for block in fences(page, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                while words and re.match(r"[A-Z_]+=", words[0]):
                    del words[0]
                if words and words[0] == program:
                    yield page, words[1:]


@pytest.mark.parametrize(("page", "target"), list(links()), ids=shown_as)
def test_a_relative_link_leads_somewhere(page: Path, target: str) -> None:
    name, _, anchor = target.partition("#")
    found = (page.parent / name).resolve() if name else page
    assert found.exists()
    assert not anchor or anchor in anchors(found)


@pytest.mark.parametrize(("page", "words"), list(command_lines("agorai")), ids=shown_as)
def test_a_command_that_is_shown_can_be_given(
    page: Path, words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("AGORAI_HOME", raising=False)
    (tmp_path / "flowers.skops").touch()  # the one file that the reader has and we have not
    given = [str(tmp_path / word) if word == "flowers.skops" else word for word in words]
    command = typer.main.get_command(app)
    context = command.make_context("agorai", given)
    while (subcommands := getattr(command, "commands", None)) and (
        left := [*context._protected_args, *context.args]
    ):
        name, *rest = left
        command = subcommands[name]
        context = command.make_context(name, rest, parent=context)


def test_a_make_target_that_is_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = {words[0] for _, words in command_lines("make")}
    assert {"demo", "test"} <= shown <= targets


def settings_classes() -> list[type[BaseSettings]]:
    modules = [
        importlib.import_module(name)
        for name in ("agorai_shared.settings", *(f"{package}.settings" for package in services()))
    ]
    return [
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, BaseSettings) and value.__module__ == module.__name__
    ]


def services() -> list[str]:
    return [path.parent.name for path in sorted((ROOT / "services").glob("*/agorai_*/settings.py"))]


def variables() -> Iterator[tuple[str, object]]:
    """Give every variable with its default."""
    for settings in settings_classes():
        prefix = settings.model_config.get("env_prefix", "")
        delimiter = settings.model_config.get("env_nested_delimiter")
        for name, field in settings.model_fields.items():
            variable = f"{prefix}{name}".upper()
            if delimiter and isinstance(field.default, BaseModel):
                for member, value in field.default.model_dump().items():
                    yield f"{variable}{delimiter}{member.upper()}", value
            else:
                yield variable, field.default


def as_shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return "none" if default is None else f"`{default}`"


def test_the_operators_guide_has_every_variable_with_its_default_and_no_other() -> None:
    page = (ROOT / "docs" / "operator.md").read_text()
    rows = dict(re.findall(r"^\| `(AGORAI_\w+)` \| ([^|]+?) \|", page, re.MULTILINE))
    expected = {name: as_shown(default) for name, default in variables()}
    expected["AGORAI_TRAINER_LIMITS__WALL_S"] = "`3600`"  # a float whose default is written as a whole number
    assert {name: shown for name, shown in rows.items() if name not in NOT_IN_SETTINGS} == expected
    assert set(re.findall(r"AGORAI_\w+", page)) == set(expected) | NOT_IN_SETTINGS
    assert HOME.envvar in NOT_IN_SETTINGS


def test_the_trainers_guide_lists_every_estimator_under_its_formats() -> None:
    page = (ROOT / "docs" / "model-trainer.md").read_text()
    table = page.partition("<!-- estimators -->")[2].partition("<!-- /estimators -->")[0]
    listed: dict[str, tuple[str, ...]] = {}
    kinds: dict[str, str] = {}
    for row in table.strip().splitlines()[2:]:
        formats, *columns = (re.findall(r"`([^`]+)`", cell) for cell in row.strip("|").split("|"))
        for kind, names in zip(("classification", "regression"), columns, strict=True):
            listed |= dict.fromkeys(names, tuple(formats))
            kinds |= dict.fromkeys(names, kind)
    assert listed == {name: tuple(map(str, entry.formats)) for name, entry in ESTIMATORS.items()}
    assert kinds == {name: entry.kind for name, entry in ESTIMATORS.items()}


def test_the_trainers_guide_lists_every_member_of_a_task() -> None:
    page = (ROOT / "docs" / "model-trainer.md").read_text()
    rows = set(re.findall(r"^\| `([a-z_.]+)` \| ", page.partition("## Estimators")[0], re.MULTILINE))
    nested: dict[str, type[BaseModel]] = {"split": Split, "limits": Limits}
    expected = set(TrainingTask.model_fields) - set(nested)
    for name, kind in nested.items():
        expected |= {f"{name}.{member}" for member in kind.model_fields}
    assert rows == expected


def test_the_tasks_that_are_shown_are_the_example_files() -> None:
    page = ROOT / "docs" / "model-trainer.md"
    (shown,) = fences(page, "toml")
    assert tomllib.loads(shown) == tomllib.loads((EXAMPLES / "task.toml").read_text())
    task, schema = map(json.loads, fences(page, "json"))
    assert task == json.loads((EXAMPLES / "task.json").read_text())
    assert schema == json.loads((EXAMPLES / "schema.json").read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_json_that_is_shown_is_json(page: Path) -> None:
    for block in fences(page, "json"):
        json.loads(block)


def test_the_example_tables_and_tasks_fit_together() -> None:
    flowers = (EXAMPLES / "flowers.csv").read_bytes()
    metadata = data_sets.read(flowers, Offer(name="flowers", price=0), "species", measured=False).metadata
    new = tables.parse((EXAMPLES / "new_flowers.csv").read_bytes())
    schema = ModelSchema.model_validate_json((EXAMPLES / "schema.json").read_bytes())
    columns = tuple(column.name for column in metadata.columns)
    assert columns == (*schema.features, schema.target)
    assert new.matrix(schema.features).shape == (6, 4)
    for name in ("task.toml", "task.json"):
        task = files.read_task(EXAMPLES / name)
        assert task.target == schema.target
        assert set(task.features or ()) <= set(schema.features)


@pytest.mark.parametrize("name", ["market_day", "fair_trade", "listen", "consume", "receive", "deploy_till"])
def test_an_example_program_finds_what_it_imports(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_the_trade_that_the_sdk_page_shows_is_in_the_example_program() -> None:
    example = (EXAMPLES / "fair_trade.py").read_text()
    (shown,) = [block for block in fences(ROOT / "docs" / "sdk.md", "python") if "Trading(" in block]
    assert textwrap.indent(shown, " " * 8) in example


def test_the_deployment_that_is_shown_has_every_contract() -> None:
    (shown,) = fences(ROOT / "docs" / "operator.md", "json")
    assert Deployment.model_validate_json(shown).contracts.keys() == NEEDED


def test_the_events_guide_lists_every_event_of_every_contract() -> None:
    page = (ROOT / "docs" / "events.md").read_text()
    table = page.partition("| contract | events |")[2].partition("\n\n")[0]
    listed = {
        name: set(rest) for name, *rest in (re.findall(r"`(\w+)`", row) for row in table.splitlines()[2:])
    }
    assert listed == {
        name: {event.name for event in ContractAbi.load(name).events.values()} for name in NEEDED
    }


def test_the_gas_that_the_readme_tells_is_that_of_the_gated_snapshots() -> None:
    page = (ROOT / "README.md").read_text()
    gas = {
        name: int(spent)
        for name, spent in json.loads(
            (ROOT / "contracts" / "snapshots" / "DataTransfer.json").read_text()
        ).items()
    }
    shown = page.partition("<!-- gas -->")[2].partition("<!-- /gas -->")[0].strip().splitlines()[2:]
    *rows, alone = [[cell.strip() for cell in row.strip("|").split("|")] for row in shown]
    for label, *cells in rows:
        name = label.replace("`", "")
        papers = f"paper, {name.partition(',')[0]}"
        keys = [f"{name}, execution", f"{papers}, execution", f"{papers}, Table I",
                f"{name}, transaction", f"{papers}, transaction"]  # fmt: skip
        assert [cell.removeprefix("commonly ") for cell in cells] == [f"{gas[key]:,}" for key in keys]
        assert ("commonly" in cells[2]) == (gas[keys[2]] == 21_000)
    papers_own = {name for name in gas if name.endswith(", Table I")}
    assert papers_own == {f"paper, {row[0].partition(',')[0].strip('`')}, Table I" for row in rows}
    assert alone[1:] == ["none", "", "", "none", f"{gas['paper, deployment, transaction']:,}"]

    def whole(*names: str) -> str:
        return f"{sum(gas[f'{name}, transaction'] for name in names):,}"

    ours = [
        whole(f"initTransaction, a {slot} slot", "provideData", "verifiedData") for slot in ("fresh", "used")
    ]
    theirs = whole(*(f"paper, {name}" for name in ("initTransaction", "provideData", "verifiedData")))
    assert f"costs {ours[0]} in all, or {ours[1]} in a used slot" in page
    assert f"with the paper's contract {theirs}," in page


def test_the_files_that_listening_shows_are_the_example_files() -> None:
    page = ROOT / "docs" / "listen.md"
    files_shown = ("listen.toml", "pools.toml")
    for shown, name in zip(fences(page, "toml"), files_shown, strict=True):
        assert shown == (EXAMPLES / name).read_text()
    (abi,) = fences(page, "json")
    assert json.loads(abi) == json.loads((EXAMPLES / "till.json").read_text())
    consume, receive = fences(page, "python")
    assert consume in (EXAMPLES / "consume.py").read_text()
    assert receive in (EXAMPLES / "receive.py").read_text()


def test_the_guides_name_every_option_of_the_hub_and_every_verb_of_events() -> None:
    command = typer.main.get_command(app)
    commands = getattr(command, "commands", {})
    operator, events = ((ROOT / "docs" / name).read_text() for name in ("operator.md", "events.md"))
    section = operator.partition("## Run a hub alone")[2].partition("\n## ")[0]
    options = {
        option for parameter in commands["hub"].params for option in parameter.opts if option[:2] == "--"
    }
    assert set(re.findall(r"^\| `(--[a-z-]+)`", section, re.MULTILINE)) == options - {
        "--help",
        "--json",
        "--verbose",
    }
    verbs = set(re.findall(r"^\| `([a-z]+)[^`]*` \| ", events.partition("## Verbs")[2], re.MULTILINE))
    assert set(commands["events"].commands) <= verbs


def test_the_operators_guide_names_only_metrics_that_there_are() -> None:
    sources = [*ROOT.glob("services/*/agorai_*/*.py"), *(ROOT / "shared" / "agorai_shared").glob("*.py")]
    made = {
        name
        for source in sources
        for name in re.findall(r'(?:gauge|counter|histogram)\(\s*"(agorai_\w+)"', source.read_text())
    }
    shown = set(re.findall(r"`(agorai_[a-z]+_\w+[a-z])`", (ROOT / "docs" / "operator.md").read_text()))
    assert {name.removesuffix("_total") for name in shown} <= made


async def test_the_api_reference_is_what_the_code_says() -> None:
    assert api_reference.PAGE.read_text() == await api_reference.page(), "python -m tests.api_reference"


def test_the_api_reference_has_a_text_for_everything() -> None:
    assert not re.search(r"^\| `.*\|\s*\|$", api_reference.PAGE.read_text(), re.MULTILINE)


def rows_below(page: str, heading: str) -> list[list[list[str]]]:
    """Give of each row of a table what its cells have in code, or their words where they have none."""
    lines = page.partition(heading)[2].partition("\n\n")[0].strip().splitlines()[1:]
    cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return [[re.findall(r"`([^`]+)`", cell) or cell.split(", ") for cell in row] for row in cells]


def test_the_architecture_lists_every_consumer_with_its_contract() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rows = rows_below(page, "| consumer | brings the events of | wakes |")
    assert {name: contract for (name,), (contract,), _ in rows} == CONSUMERS


def test_the_architecture_tells_what_services_ask_each_other() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    listed = {
        (who, other, verb)
        for (who,), others, verbs in rows_below(page, "| who | asks | for |")
        for other in others
        for verb in verbs
    }
    assert listed == {
        (who, other, verb)
        for who, others in ASKED.items()
        for other, verbs in others.items()
        for verb in verbs
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_a_place_on_somebodys_machine(page: Path) -> None:
    assert not re.search(r"/(root|work|tmp)/", page.read_text())

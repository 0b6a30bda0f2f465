"""Metrics, alerts, boards and runbooks speak of the same things, and a node's process tells what they ask for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from agorai.home import Home, NodeFile
from tests.metric_table import ROOT, listed, metrics, table
from tests.nodes import Node, stop, up

PROMETHEUS: Final = ROOT / "deploy" / "prometheus"
BOARDS: Final = sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json"))
RUNBOOKS: Final = ROOT / "docs" / "runbooks.md"
NAMES: Final = re.compile(r"\bagorai_[a-z0-9_]+")
PROCESS: Final = re.compile(r"\bprocess_[a-z_]+")
SECTION: Final = re.compile(r"^## (\w+)\n\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)

PROMTOOL: Final = shutil.which("promtool")
promtool = pytest.mark.skipif(PROMTOOL is None, reason="no promtool on PATH")


def alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def panels() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in BOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            yield path.name, panel


@cache
def known() -> set[str]:
    ours = {name for metric in metrics() for name in metric.samples()}
    return ours | {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}


def named(query: str) -> set[str]:
    return set(NAMES.findall(query)) | set(PROCESS.findall(query))


def test_the_page_lists_every_metric_of_the_code_as_it_is() -> None:
    assert listed() == table(), "run `python -m tests.metric_table`"


def test_names_have_the_projects_form() -> None:
    parts = r"(build|process|bus|command|reconciler|hub|storage|vault|trainer|verifier|reward|dashboard)"
    for metric in metrics():
        assert re.fullmatch(rf"agorai_{parts}(_[a-z]+)+", metric.name)
        assert metric.text


def test_every_metric_that_an_alert_names_is_made_by_the_code() -> None:
    for alert in alerts():
        assert named(alert["expr"]) <= known(), alert["alert"]


def test_every_metric_that_a_board_names_is_made_by_the_code() -> None:
    for board, panel in panels():
        for target in panel["targets"]:
            assert named(target["expr"]) <= known(), (board, panel["title"])


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    sections = dict(SECTION.findall(RUNBOOKS.read_text()))
    assert list(sections) == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        name = alert["alert"]
        assert alert["annotations"]["runbook"] == f"docs/runbooks.md#{name.lower()}"
        for part in ("**Means.**", "**Look at.**", "**Do.**"):
            assert part in sections[name], name


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_a_board_is_what_provisioning_wants(path: Path) -> None:
    board = json.loads(path.read_text())
    assert board["uid"] == f"agorai-{path.stem}"
    assert board["schemaVersion"] >= 36
    assert "id" not in board
    variables = {variable["name"]: variable for variable in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_the_boards_are_where_provisioning_looks_for_them() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "agorai.yml").read_text())["providers"]
    assert provider["options"]["path"] == "/etc/grafana/dashboards"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    assert [path.stem for path in BOARDS] == ["hub", "money", "node", "overview"]


@promtool
def test_prometheus_takes_the_configuration_and_its_rules() -> None:
    check("check", "config", PROMETHEUS / "prometheus.yml")


@promtool
def test_each_alert_fires_on_what_it_is_for_and_none_while_all_is_well() -> None:
    check("test", "rules", PROMETHEUS / "alerts_test.yml")
    tested = set(re.findall(r'alertname="(\w+)"', (PROMETHEUS / "alerts_test.yml").read_text()))
    assert tested == {alert["alert"] for alert in alerts()}


@promtool
@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
def test_every_query_of_a_board_is_one(path: Path, tmp_path: Path) -> None:
    queries = [
        target["expr"].replace("$__rate_interval", "1m").replace("$instance", ".*")
        for panel in json.loads(path.read_text())["panels"]
        for target in panel["targets"]
    ]
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": path.stem, "rules": rules}]}))
    check("check", "rules", file)


def check(*arguments: object) -> None:
    assert PROMTOOL is not None
    found = subprocess.run(
        [PROMTOOL, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    found = up(tmp_path_factory.mktemp("homes") / "node", "--name", "node", dashboard=True)
    try:
        yield found
    finally:
        assert stop(found) == 0


def told(node: Node) -> dict[str, float]:
    """Give every sample of a node's process."""
    info = NodeFile.load(Home(node.home).node_file)
    assert info is not None
    with urllib.request.urlopen(f"{info.url}/metrics", timeout=10) as answer:  # noqa: S310 - a URL of our own
        lines = answer.read().decode().splitlines()
    samples = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in samples}


def test_a_running_node_tells_what_the_alerts_ask_of_it(node: Node) -> None:
    node.agorai("account", "send", "0x" + "12" * 20, 1)
    names = {sample.partition("{")[0] for sample in told(node)}
    asked = set().union(*(named(alert["expr"]) for alert in alerts()))
    only_when_it_happens = {
        "agorai_bus_certificate_end_timestamp_seconds",
        "agorai_hub_audit_differences",
        "agorai_hub_rpc_errors_total",
        "agorai_hub_stopped",
    }
    assert asked - names <= only_when_it_happens


def test_commands_are_counted_by_service_verb_and_outcome(node: Node) -> None:
    sent = 'agorai_command_answer_seconds_count{outcome="ok",service="vault",verb="send"}'
    before = told(node).get(sent, 0)
    node.agorai("account", "send", "0x" + "12" * 20, 1)
    assert told(node)[sent] == before + 1


def test_each_consumer_of_the_node_tells_how_far_behind_it_is(node: Node) -> None:
    info = NodeFile.load(Home(node.home).node_file)
    assert info is not None
    samples = told(node)
    for service in ("vault", "trainer-pool", "reward-task"):
        name = f'agorai_bus_consumer_pending_messages{{consumer="{service}-{info.address}"}}'
        assert samples[name] == 0


def test_fees_are_counted_and_what_is_left_is_told(node: Node) -> None:
    info = NodeFile.load(Home(node.home).node_file)
    assert info is not None
    samples = told(node)
    assert samples["agorai_vault_fees_wei_total"] > 0
    assert samples[f'agorai_vault_balance_wei{{account="{info.address}"}}'] > 0

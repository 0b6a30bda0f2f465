"""The Helm chart, rendered by Helm itself: what a cluster would be told."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from agorai.service_permissions import ASKED
from agorai_shared.consumers import CONSUMERS
from agorai_trainer.settings import SandboxSettings

DEPLOY = Path(__file__).parents[1] / "deploy"
CHART, ALERTS = DEPLOY / "helm" / "agorai", DEPLOY / "prometheus" / "alerts.yml"
ADDRESS = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
VALUES = {
    "address": ADDRESS,
    "chain": {"rpcUrl": "http://chain.example:8545"},
    "deployment": {"chain_id": 31337},
    "serviceMonitor": {"enabled": True},
}
KEPT = ("storage", "vault", "trainer", "verifier")
ONCE = (*KEPT, "dashboard")
Objects = dict[tuple[str, str], dict[str, Any]]


def helm() -> str:
    """Give Helm's path: AGORAI_HELM, PATH, or what `tools/helm/build` has built."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "agorai"
    built = sorted(cache.glob("helm-*/helm"))
    found = os.environ.get("AGORAI_HELM") or shutil.which("helm") or (built and str(built[-1]))
    if not found:
        pytest.skip("there is no Helm: `make helm` builds it where Go is")
    return found


def run(tmp_path: Path, verb: str, values: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values))
    command = [helm(), verb, *(["one"] if verb == "template" else []), str(CHART), "-f", str(file)]
    return subprocess.run(
        [*command, "--kube-version", "1.30.0"], capture_output=True, text=True, timeout=60, check=False
    )


def render(tmp_path: Path, values: dict[str, Any]) -> Objects:
    rendered = run(tmp_path, "template", values)
    assert rendered.returncode == 0, rendered.stderr
    documents = [one for one in yaml.safe_load_all(rendered.stdout) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return render(tmp_path, VALUES)


def workloads(objects: Objects) -> dict[str, dict[str, Any]]:
    return {
        name: one for (kind, name), one in objects.items() if kind in ("Deployment", "StatefulSet")
    }  # fmt: skip


def test_the_chart_passes_helms_lint(tmp_path: Path) -> None:
    found = run(tmp_path, "lint", VALUES)
    assert found.returncode == 0, found.stdout


def test_every_service_is_there(objects: Objects) -> None:
    assert set(workloads(objects)) == {f"one-{name}" for name in ("hub", "nats", *ASKED)}


def test_every_container_is_restricted(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        pod = workload["spec"]["template"]["spec"]
        assert not pod["automountServiceAccountToken"], name
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["runAsUser"] >= 10000
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
        assert not any("hostPath" in volume for volume in pod["volumes"])
        for container in pod["containers"]:
            security = container["securityContext"]
            assert not security["allowPrivilegeEscalation"]
            assert security["readOnlyRootFilesystem"]
            assert security["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"]["cpu"]


def test_every_container_is_probed_where_it_listens(objects: Objects) -> None:
    for name, workload in workloads(objects).items():
        for container in workload["spec"]["template"]["spec"]["containers"]:
            ports = {port["name"] for port in container["ports"]}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                assert container[probe]["httpGet"]["port"] in ports, (name, probe)


def test_selectors_find_what_they_are_for(objects: Objects) -> None:
    pods = {
        name: workload["spec"]["template"]["metadata"]["labels"]
        for name, workload in workloads(objects).items()
    }
    for (kind, name), one in objects.items():
        if kind in ("Deployment", "StatefulSet", "PodDisruptionBudget"):
            selector = one["spec"]["selector"]["matchLabels"]
        elif kind == "Service":
            selector = one["spec"]["selector"]
        else:
            continue
        assert [pod for pod, labels in pods.items() if selector.items() <= labels.items()] == [name]


def test_secrets_are_named_and_never_written(objects: Objects) -> None:
    assert not [name for kind, name in objects if kind == "Secret"]
    seen: dict[str, set[str]] = {}
    for name, workload in workloads(objects).items():
        pod = workload["spec"]["template"]["spec"]
        for volume in pod["volumes"]:
            if "secret" in volume:
                seen.setdefault(name, set()).update(one["key"] for one in volume["secret"]["items"])
        for container in pod["containers"]:
            told = {one["name"] for one in container.get("env", ())}
            assert not {one for one in told if one.endswith(("PASSWORD", "TOKEN", "PASSPHRASE", "KEY"))}
    assert [name for name, keys in seen.items() if "passphrase" in keys] == ["one-vault"]
    assert [name for name, keys in seen.items() if "database" in keys] == ["one-dashboard"]
    for name in ASKED:
        assert {key for key in seen[f"one-{name}"] if key.startswith("bus-")} == {f"bus-{name}"}


def test_nothing_is_reached_but_what_is_allowed(objects: Objects) -> None:
    policies = {name: one["spec"] for (kind, name), one in objects.items() if kind == "NetworkPolicy"}
    denied = policies["one-default-deny"]
    assert denied["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & denied.keys()
    assert set(policies) >= {f"one-{name}" for name in ("hub", "nats", *ASKED)}
    for name in ("trainer", "verifier", "reward"):  # nobody from outside
        assert all("from" in rule for rule in policies[f"one-{name}"]["ingress"])
    everyone = denied["podSelector"]["matchLabels"]
    assert all(everyone.items() <= one["metadata"]["labels"].items() for one in workloads(objects).values())


def reached(objects: Objects, name: str) -> dict[str, list[str]]:
    """Give the CIDRs that a service may reach, and what is left out of each."""
    rules = objects["NetworkPolicy", f"one-{name}"]["spec"]["egress"]
    assert all(rule["to"] for rule in rules)  # an empty one would be everywhere
    blocks = [place["ipBlock"] for rule in rules for place in rule["to"] if "ipBlock" in place]
    return {block["cidr"]: block.get("except", []) for block in blocks}


def test_what_is_scraped_is_the_job_that_the_alerts_are_about(objects: Objects) -> None:
    monitor = objects["ServiceMonitor", "one"]["spec"]
    scraped = [
        one["metadata"]["labels"]
        for (kind, _), one in objects.items()
        if kind == "Service"
        and monitor["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    job = re.search(r'up\{job="(\w+)"\}', ALERTS.read_text())
    assert job is not None
    assert {labels[monitor["jobLabel"]] for labels in scraped} == {job[1]}


def test_further_settings_are_told_and_two_jobs_fit_into_the_trainers_memory(objects: Objects) -> None:
    trainer = workloads(objects)["one-trainer"]["spec"]["template"]["spec"]["containers"][0]
    told = {one["name"]: one["value"] for one in trainer["env"]}
    assert trainer["resources"]["limits"]["memory"] == "4Gi"
    assert SandboxSettings().max_jobs * int(told["AGORAI_TRAINER_LIMITS__MEMORY_MIB"]) < 4096


def test_outside_is_reached_but_for_metadata_and_private_ranges(objects: Objects) -> None:
    for name in ("hub", *ASKED):
        found = reached(objects, name)
        assert found.keys() == {"0.0.0.0/0", "::/0"}
        assert {"169.254.0.0/16", "10.0.0.0/8"} <= set(found["0.0.0.0/0"])
        assert found["::/0"] == ["fe80::/10", "fc00::/7"]


def test_each_service_reaches_what_is_named_for_it_alone(tmp_path: Path) -> None:
    chain, peers, bus, database = ("192.0.2.1/32", "198.51.100.0/24", "203.0.113.7/32", "10.1.2.3/32")
    egress = {"chain": [chain], "peers": [peers], "bus": [bus], "database": [database]}
    values = {**VALUES, "networkPolicy": {"egress": egress}}
    elsewhere = {"enabled": False, "url": "tls://bus.example:4222"}
    objects = render(tmp_path, values)
    assert reached(objects, "storage").keys() == {peers}
    assert reached(objects, "vault").keys() == {chain, peers}
    assert reached(objects, "dashboard").keys() == {chain, peers, database}
    objects = render(tmp_path, {**values, "nats": elsewhere})
    assert reached(objects, "vault") == {chain: [], peers: [], bus: []}
    objects = render(tmp_path, {**VALUES, "networkPolicy": {"egress": {what: [] for what in egress}}})
    assert not reached(objects, "dashboard")


def test_replicas_follow_what_waits_in_a_consumer_that_exists(objects: Objects) -> None:
    scaled = {name: one["spec"] for (kind, name), one in objects.items() if kind == "HorizontalPodAutoscaler"}
    assert scaled
    for name, spec in scaled.items():
        assert spec["scaleTargetRef"]["name"] == name
        assert "replicas" not in workloads(objects)[name]["spec"]  # or an upgrade would undo the scaling
        external = spec["metrics"][0]["external"]
        assert external["metric"]["name"] == "agorai_bus_consumer_pending_messages"
        consumer, _, address = external["metric"]["selector"]["matchLabels"]["consumer"].rpartition("-")
        assert consumer in CONSUMERS
        assert address == ADDRESS


def test_the_bus_is_a_cluster_over_tls(objects: Objects) -> None:
    hub = objects["Deployment", "one-hub"]["spec"]["template"]["spec"]["containers"][0]
    told = {one["name"]: one["value"] for one in hub["env"]}
    assert told["AGORAI_HUB_REPLICAS"] == "3"
    assert told["AGORAI_BUS_URL"].count("tls://one-nats-") == 3
    assert json.loads(told["AGORAI_HUB_NODES"]) == [ADDRESS]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"address": "vault"}, "address"),
        ({"chain": {"rpcUrl": "chain"}}, "rpcUrl"),
        ({"deployment": {}}, "deployment"),
        ({"replica": 2}, "replica"),
        ({"services": {"hub": {"env": {"PATH": "/"}}}}, "PATH"),
        ({"nats": {"replicas": 2}}, "replicas"),
        ({"address": ADDRESS.lower()}, "address"),
        ({"networkPolicy": {"egress": {"chain": ["chain.example"]}}}, "chain"),
        *(({"services": {name: {"replicas": 2}}}, "replicas") for name in ONCE),
        *(({"services": {name: {"storage": size}}}, "storage") for name in KEPT for size in ("", None)),
        ({"services": {"vault": {"scale": {"max": 2, "consumer": "vault", "waiting": 1}}}}, "scale"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    found = run(tmp_path, "template", VALUES | change)
    assert found.returncode != 0
    assert said in found.stderr

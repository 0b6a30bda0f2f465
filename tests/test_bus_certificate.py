"""The end of the bus's certificate is told before it comes."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from agorai import bus_certificates
from agorai.findings import Level
from agorai.health import bus_certificate_end
from agorai.home import NodeFile
from agorai.remote_findings import of_bus
from agorai_shared.bus import BusUnreachableError, connect
from agorai_shared.bus_tls import tls_context
from agorai_shared.process_metrics import CERTIFICATE, measured
from agorai_shared.service import make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.testing import running_nats
from agorai_shared.types import Address

DAY = 86_400


@asynccontextmanager
async def running_bus(folder: Path, days: int) -> AsyncIterator[NodeFile]:
    """Run a server whose certificate ends in some days; gives how a node would reach it."""
    made = bus_certificates.make(folder / "tls", days=days)
    tls = {"cert_file": str(made.certificate), "key_file": str(made.key), "handshake_first": True}
    config = folder / "nats.conf"
    config.write_text(json.dumps({"tls": tls}))
    async with running_nats(folder / "streams", config=config) as server:
        url = server.url.replace("nats://", "tls://")
        yield NodeFile(
            name="me", address=Address("0x" + "11" * 20), pid=1, url="", vault_url="", token="t", bus_url=url,
            bus_user=None, bus_password=None, bus_ca=made.authority, rpc_url="", confirmations=0,
            deployment=folder / "deployment.json",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("days", "level", "told"),
    [(40, Level.OK, "for 40 days"), (20, Level.WARN, "for 20 days"), (0, Level.FAIL, "has ended")],
)
async def test_the_doctor_says_how_long_it_holds(tmp_path: Path, days: int, level: Level, told: str) -> None:
    async with running_bus(tmp_path, days) as info:
        found = await of_bus(info)
    assert (found[0].area, found[0].level) == ("bus", level)
    assert told in found[0].what
    assert level == Level.OK or "agorai bus certificate" in found[0].remedy


async def test_a_process_tells_it_for_the_alert(tmp_path: Path) -> None:
    async with running_bus(tmp_path, 20) as info:
        settings = NodeSettings(
            bus_url=info.bus_url, bus_ca=info.bus_ca, node_token="t", rpc_url="http://127.0.0.1:1"
        )
        broker = make_broker(settings, "test")
        async with broker, measured(broker, "test", no_checks):
            while not (told := next(iter(CERTIFICATE.collect())).samples):
                await (await broker.connect()).flush()
    server = info.bus_url.removeprefix("tls://")
    assert [one.labels for one in told] == [{"server": server}]
    assert told[0].value == pytest.approx(time.time() + 20 * DAY, abs=600)


async def test_one_is_renewed_while_all_believe_both_authorities(tmp_path: Path) -> None:
    async with running_bus(tmp_path, 20) as info:
        new = bus_certificates.make(tmp_path / "tls-new", days=40)
        both = tmp_path / "ca.pem"
        both.write_bytes((tmp_path / "tls" / "ca.pem").read_bytes() + new.authority.read_bytes())
        told = info.model_copy(update={"bus_ca": both})
        before = await bus_certificate_end(told)
        for file in (new.certificate, new.key):
            shutil.copyfile(file, tmp_path / "tls" / file.name)
        (server,) = [one for one in psutil.Process().children() if one.name() == "nats-server"]
        server.send_signal(signal.SIGHUP)
        while (after := await bus_certificate_end(told)) == before:
            pass
        assert after == pytest.approx(time.time() + 40 * DAY, abs=600)
        only_new = told.model_copy(update={"bus_ca": new.authority})
        assert await bus_certificate_end(only_new) == after
        await (await connect(info.bus_url, tls=tls_context(info.bus_url, new.authority))).close()


async def no_checks() -> dict[str, str]:
    return {}


async def test_whoever_connects_after_the_end_is_told_why(tmp_path: Path) -> None:
    async with running_bus(tmp_path, 0) as info:
        with pytest.raises(BusUnreachableError, match="expired"):
            await connect(info.bus_url, tls=tls_context(info.bus_url, info.bus_ca))

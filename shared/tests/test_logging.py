"""What is logged while the bus or a chain is away: that it went, that it is back, and little between."""

from __future__ import annotations

import subprocess
import sys
from typing import Any, Final

from agorai_shared import logging
from agorai_shared.bus import BusUnreachableError, Watch
from agorai_shared.command import ServiceUnreachableError
from agorai_shared.errors import RemoteError
from agorai_shared.rpc import RpcUnreachableError
from agorai_shared.testing import said, warned

__all__ = ["said"]

log = logging.get(__name__)
CHAIN_AWAY = RpcUnreachableError("http://127.0.0.1:9", "connection refused")
BUS_AWAY = BusUnreachableError("nats://127.0.0.1:9", "connection refused")


def failed(error: BaseException, by: str, chain_id: int | None = 5) -> None:
    logging.trouble(log, "try.failed", error, by, chain_id, error=str(error))


def test_that_a_chain_is_away_is_told_once_for_all_and_once_when_all_have_it_again(said: list[Any]) -> None:
    for _ in range(3):
        for part in ("one", "two"):
            failed(CHAIN_AWAY, part)
    assert warned(said) == ["chain.away"]
    assert [entry["error"] for entry in said if entry["log_level"] == "debug"] == [str(CHAIN_AWAY)] * 6
    logging.present("one")
    assert warned(said) == ["chain.away"]
    logging.present("two")
    assert warned(said) == ["chain.away", "chain.back"]
    assert (said[-1]["chain"], said[-1]["away_s"] >= 0) == (5, True)
    logging.present("two")
    assert said[-1]["event"] == "chain.back"


def test_one_chain_away_hides_no_other_and_not_the_bus(said: list[Any]) -> None:
    failed(CHAIN_AWAY, "one", 5)
    failed(CHAIN_AWAY, "other", 6)
    failed(BUS_AWAY, "third")
    assert [(entry["event"], entry.get("chain")) for entry in said if entry["log_level"] == "warning"] == [
        ("chain.away", 5), ("chain.away", 6), ("bus.away", None),
    ]  # fmt: skip
    for part in ("one", "other", "third"):
        logging.forget(part)
    assert len(warned(said)) == 3


def test_what_fails_for_another_reason_is_told_each_time_and_means_that_the_chain_is_back(
    said: list[Any],
) -> None:
    failed(CHAIN_AWAY, "one")
    failed(ValueError("odd"), "one")
    failed(ValueError("odd"), "one")
    assert warned(said) == ["chain.away", "chain.back", "try.failed", "try.failed"]


def test_another_services_word_that_the_chain_is_away_counts_as_well(said: list[Any]) -> None:
    failed(RemoteError({**CHAIN_AWAY.to_problem()}), "one")
    logging.present("one")
    assert warned(said) == ["chain.away", "chain.back"]


def test_a_service_that_does_not_answer_is_the_buss_fault_only_while_that_is_away(said: list[Any]) -> None:
    failed(ServiceUnreachableError("vault", "step"), "one")
    failed(BUS_AWAY, "one")
    assert not logging.is_told(CHAIN_AWAY)
    failed(ServiceUnreachableError("vault", "step"), "one")
    logging.forget("one")
    assert warned(said) == ["try.failed", "bus.away"]


def test_who_ends_while_it_is_away_leaves_no_word_behind(said: list[Any]) -> None:
    failed(CHAIN_AWAY, "one")
    failed(CHAIN_AWAY, "two")
    logging.present("one")
    logging.forget("two")
    assert warned(said) == ["chain.away", "chain.back"]
    failed(CHAIN_AWAY, "one")
    logging.forget("one")
    assert warned(said)[2:] == ["chain.away"]


async def test_a_connection_that_is_lost_says_so_once_and_what_else_is_wrong_once_each(
    said: list[Any],
) -> None:
    watch = Watch("node")
    await watch.on_error(ConnectionResetError("reset"))
    await watch.on_lost()
    for _ in range(3):
        await watch.on_error(ConnectionRefusedError("refused"))
        await watch.on_error(RuntimeError("authorization violation"))
    assert warned(said) == ["bus.away", "bus.error"]
    await watch.on_back()
    assert warned(said) == ["bus.away", "bus.error", "bus.back"]
    await watch.on_lost()  # as a client that is closed tells
    await watch.on_closed()
    await watch.on_error(ConnectionRefusedError("refused"))  # of a last try to come back
    assert not logging.is_told(BUS_AWAY)
    assert len(warned(said)) == 3
    assert len([entry for entry in said if entry["event"] == "bus.error"]) == 8


_TWICE: Final = """
from structlog.testing import capture_logs
from agorai_shared import logging
used = logging.get("used")
for level in ("CRITICAL", "INFO"):
    logging.configure(level)
    used.debug("used")
with capture_logs() as heard:
    used.warning("heard")
print([entry["event"] for entry in heard])
"""


def test_a_logger_that_was_used_before_it_was_configured_again_is_heard() -> None:
    # in a process of its own, for this is the whole process's
    said = subprocess.run([sys.executable, "-c", _TWICE], capture_output=True, text=True, check=True)
    assert said.stdout == "['heard']\n"

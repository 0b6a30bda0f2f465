"""What programs can ask, read from the code: `python -m tests.api_reference` writes docs/api.md anew."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, cast, get_type_hints

from fastapi import FastAPI
from pydantic import BaseModel, SecretStr
from starlette.routing import Route

from agorai.client import Client
from agorai.hub_client import HubClient
from agorai.learners import Learners
from agorai.pool_reading import PoolReader
from agorai.pools import Pools
from agorai.store_client import StoreClient
from agorai.tasks import Tasks
from agorai.trading import Trading
from agorai.transfer_reading import TransferReader
from agorai.transfers import Transfers
from agorai.voting import Voting
from agorai_dashboard import app as dashboard
from agorai_dashboard.settings import DashboardSettings
from agorai_hub import app as hub
from agorai_hub.settings import HubSettings
from agorai_reward import app as reward
from agorai_reward.settings import RewardSettings
from agorai_shared.bus import DEAD_STREAM, final_stream, head_stream
from agorai_shared.command import subject as command_subject
from agorai_shared.deployment import NEEDED, Deployment
from agorai_shared.events import block_subject
from agorai_shared.events import subject as event_subject
from agorai_shared.service import Service, make_broker
from agorai_shared.settings import NodeSettings
from agorai_shared.trail import TRAIL
from agorai_shared.types import Address
from agorai_storage import app as storage
from agorai_storage.settings import StorageSettings
from agorai_trainer import app as trainer
from agorai_trainer.sandbox import Sandbox
from agorai_trainer.settings import TrainerSettings
from agorai_vault import app as vault
from agorai_vault import keys as key_files
from agorai_vault.settings import VaultSettings
from agorai_verifier import app as verifier
from agorai_verifier.settings import VerifierSettings

PAGE: Final = Path(__file__).parents[1] / "docs" / "api.md"
SDK: Final = (
    Client, Trading, Voting, PoolReader, Pools, Tasks, TransferReader, Transfers, Learners, StoreClient,
    HubClient,
)  # fmt: skip
CHAIN: Final = 1
PASSPHRASE: Final = "not a secret, for nothing is kept"


@asynccontextmanager
async def services() -> AsyncIterator[list[Service]]:
    """Make every service of a node, without starting any: no chain and no bus is asked."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        addresses = {contract: f"0x{number:040x}" for number, contract in enumerate(NEEDED, 1)}
        deployment = Deployment.model_validate(
            {"chain_id": CHAIN, "start_block": 0, "contracts": addresses}
        ).model_dump_json()
        (folder / "deployment.json").write_text(deployment)
        node = NodeSettings(node_token=SecretStr("t"), deployment=folder / "deployment.json")
        keys = key_files.create(folder / "vault", PASSPHRASE, scrypt_n=1 << 12)
        me, broker = keys.address, make_broker(node, "reference")
        own = DashboardSettings(address=me, database=f"sqlite:///{folder}/read-model.sqlite")
        vault_settings = VaultSettings(path=folder / "vault", passphrase=SecretStr(PASSPHRASE))
        trainer_settings = TrainerSettings(address=me, path=folder / "trainer")
        verifier_settings = VerifierSettings(address=me, path=folder / "verifier")
        store = storage.create(StorageSettings(path=folder / "storage"), "t")
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(store.background())
            yield [
                hub.create(node, HubSettings()),
                store,
                *[
                    await stack.enter_async_context(made)
                    for made in (
                        vault.create(node, vault_settings, broker, keys),
                        trainer.create(node, trainer_settings, broker, Sandbox()),
                        verifier.create(node, verifier_settings, broker),
                        reward.create(node, RewardSettings(address=me), broker),
                        dashboard.create(node, own, broker),
                    )
                ],
            ]


def first_line(of: Any) -> str:
    """Give the first sentence or line of a docstring, as a table's cell has it."""
    return (inspect.getdoc(of) or "").partition("\n")[0].replace("|", "\\|")


def paths(service: Service) -> Iterator[tuple[str, str, str]]:
    """Give method, path and text of all that a service answers to programs; a dashboard's pages are none."""
    for route in service.routes:
        if isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield method, re.sub(r":\w+}", "}", route.path), first_line(route.endpoint)
    if service.api is not None:
        app = FastAPI()
        app.include_router(service.api)
        for path, methods in app.openapi()["paths"].items():
            for method, operation in methods.items():
                told = operation.get("description", operation.get("summary", "")).partition("\n")[0]
                yield method.upper(), path, told


def commands(service: Service) -> Iterator[tuple[str, type[BaseModel], type[BaseModel], str]]:
    """Give verb, request, reply and text of each command that a service answers, in alphabetical order."""
    answered: dict[str, Callable[..., Any]] = {}
    for subscriber in service.router.subscribers if service.router else ():
        subject = cast("Any", subscriber).subject.template
        if subject.startswith("node."):
            answered[subject.rpartition(".")[2]] = subscriber.calls[0].handler._original_call
    for verb, handler in sorted(answered.items()):
        hints = get_type_hints(handler)
        reply = hints.pop("return")
        (request,) = hints.values()
        yield verb, request, reply, first_line(handler)


def members(model: type[BaseModel]) -> str:
    """Give a message's members; those that may be left out have a question mark."""
    names = [name + ("" if field.is_required() else "?") for name, field in model.model_fields.items()]
    return ", ".join(f"`{name}`" for name in names) or "nothing"


def signature(function: Callable[..., Any]) -> str:
    """Give a function's parameters and result as the source has them, without `self`."""
    found = inspect.signature(function)
    shown, starred = [], False
    for name, parameter in found.parameters.items():
        if name in ("self", "cls"):
            continue
        mark = "*" if parameter.kind == parameter.VAR_POSITIONAL else ""
        if parameter.kind == parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
        starred |= bool(mark) or parameter.kind == parameter.KEYWORD_ONLY
        default = "" if parameter.default is parameter.empty else f" = {shown_default(parameter.default)}"
        shown.append(f"{mark}{name}: {parameter.annotation}{default}")
    return f"({', '.join(shown)}) -> {found.return_annotation}"


def shown_default(value: object) -> str:
    """Give a default as the source may have it; an ellipsis for what is too long to be read."""
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(value) if isinstance(value, str | int | float | tuple | None) else "..."


def used_by(function: Callable[..., Any]) -> str:
    """Give the words that a call begins with."""
    if inspect.iscoroutinefunction(function):
        return "await "
    if not inspect.isasyncgenfunction(inspect.unwrap(function)):
        return ""
    return "async with " if hasattr(function, "__wrapped__") else "async for "


def methods(of: type) -> Iterator[tuple[str, str]]:
    """Give the public methods that a class itself has, with their text, in the source's order."""
    for name, member in vars(of).items():
        function = getattr(member, "__func__", member)
        if not name.startswith("_") and inspect.isfunction(function):
            call = f"{used_by(function)}{name}{signature(inspect.unwrap(function))}"
            yield call.replace("|", "\\|"), first_line(function)


def subjects() -> Iterator[tuple[str, str]]:
    """Give the subjects of the bus with what comes on each."""
    node = Address("<address>")
    chain, number = "<chain id>", CHAIN
    head, final = (
        str(stream(number).name).replace("_1_", "_<chain id>_") for stream in (head_stream, final_stream)
    )
    yield (
        event_subject("head", chain, "<contract>", "<event>", "<key>"),
        f"an event, as soon as it is in a block; stream `{head}`",
    )
    yield (
        event_subject("retracted", chain, "<contract>", "<event>", "<key>"),
        f"an event that a reorg took back; stream `{head}`",
    )
    yield (
        event_subject("final", chain, "<contract>", "<event>", "<key>"),
        f"an event that stays; stream `{final}`",
    )
    for phase in ("head", "retracted", "final"):
        yield block_subject(phase, chain), "a block, behind its events; same stream as these"
    yield (
        command_subject(node, "<service>", "<verb>"),
        "a command to a node's service, answered by one of its replicas",
    )
    for told, what in (
        ("step", "a step that a handler took, or failed to"),
        ("sent", "a transaction that left the vault"),
        ("dead", "an item that a service gave up on"),
    ):
        yield command_subject(node, TRAIL, told), what
    yield f"peer.{node}", "that a message from another member arrived; what it says stays in the vault"
    yield "dead.<service>", f"what a service gave up on; stream `{DEAD_STREAM}`"


async def page() -> str:
    """Give the whole page."""
    async with services() as made:
        lines = [_HEAD]
        for service in made:
            if found := list(paths(service)):
                lines += [f"### {service.name.capitalize()}\n", "| path | |", "|---|---|"]
                lines += [f"| `{method} {path}` | {text} |" for method, path, text in found] + [""]
        lines.append(_COMMANDS)
        for service in made:
            if asked := list(commands(service)):
                lines += [f"### Commands of the {service.name}\n"]
                lines += ["| verb | request | reply | |", "|---|---|---|---|"]
                lines += [f"| `{v}` | {members(q)} | {members(r)} | {text} |" for v, q, r, text in asked] + [
                    ""
                ]
    lines += [_SUBJECTS, *(f"| `{subject}` | {text} |" for subject, text in subjects()), "", _SDK]
    for of in SDK:
        lines += [f"### {of.__name__}\n", f"`{of.__module__}.{of.__name__}`: {first_line(of)}\n"]
        lines += (
            ["| method | |", "|---|---|"] + [f"| `{call}` | {text} |" for call, text in methods(of)] + [""]
        )
    return "\n".join(lines)


_HEAD: Final = """# API reference

All that programs can ask, written from the code by `python -m tests.api_reference`; a test holds this page to it.
How things are done is on other pages: [SDK](sdk.md), [Events](events.md), [Storage](storage.md),
[Dashboard](dashboard.md).

## HTTP

Every process answers `GET /health/live`, `GET /health/ready` (503 with what fails), `GET /metrics` (Prometheus),
`GET /openapi.json` and `GET /asyncapi.json`. A request that fails is answered by an RFC 9457 problem with `detail`,
`remedy` and `retryable`. Who may ask what is in [Security](security.md).
"""
_COMMANDS: Final = """## Commands

Asked on `node.<address>.<service>.<verb>` by whoever has the node's token, as JSON, by
`agorai_shared.command.Commander`. A question mark marks what may be left out. Types and limits are in each process's
`/asyncapi.json`.
"""
_SUBJECTS: Final = """## Subjects

| subject | what comes |
|---|---|"""
_SDK: Final = """## SDK

Signatures are the source's own, behind what a call begins with. Amounts are in the token's smallest unit.
"""

if __name__ == "__main__":
    PAGE.write_text(asyncio.run(page()))

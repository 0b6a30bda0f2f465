"""The vault's wiring: keys, database, outbox, the invocation reconciler, commands and HTTP routes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import aiohttp
from faststream.nats import NatsBroker, NatsRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from agorai_shared import cid as cids
from agorai_shared import vault as messages
from agorai_shared.answering import commands_of
from agorai_shared.bindings.invocation import Delivered, Paid
from agorai_shared.bus import inbox_of
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import subject
from agorai_shared.content import ContentStore
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.market import Market
from agorai_shared.reconciler import Reconciler, bury
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, require_token, run
from agorai_shared.settings import NodeSettings
from agorai_shared.types import Cid, InvocationId
from agorai_shared.waking import on_final_blocks, on_final_events, stream_made
from agorai_vault import database, decide
from agorai_vault import keys as key_files
from agorai_vault.account import AccountOnChain
from agorai_vault.handlers import InvocationProtocol, SealedContent, policy
from agorai_vault.keys import Keys
from agorai_vault.outbox import Outbox
from agorai_vault.permit import sign_permit
from agorai_vault.settings import VaultSettings


@asynccontextmanager
async def create(
    node: NodeSettings, settings: VaultSettings, broker: NatsBroker, keys: Keys
) -> AsyncIterator[Service]:
    """Make the vault of one participant."""
    deployment = Deployment.load(node.deployment)
    token = node.node_token.get_secret_value()
    async with AsyncExitStack() as stack:
        rpc = await stack.enter_async_context(Rpc(node.rpc_url))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        chain = Chain(rpc, Finality(node.confirmations))
        market = Market(chain, deployment, ContentStore(settings.store_url, token, session), session)
        owner = f"{keys.address} in eip155:{deployment.chain_id}:{deployment.invocation}"
        connection = database.connect(settings.path, owner)
        stack.callback(connection.close)
        account = AccountOnChain(chain, keys.address, deployment.chain_id)
        outbox = Outbox(
            connection,
            keys.account,
            account,
            stuck_after_s=settings.stuck_after_s,
            most_fee=int(settings.max_fee_gwei * 10**9),
        )
        protocol = InvocationProtocol(market, keys, database.Box(connection, keys.derive("box")), outbox)
        reconciler: Reconciler[decide.InvocationState, decide.Step] = Reconciler(
            protocol,
            (deployment.chain_id, deployment.invocation),
            bury(broker, "vault"),
            clock=protocol.now,
        )
        router = NatsRouter()
        _wake(router, deployment.chain_id, protocol, reconciler, inbox_of(node.bus_user))
        commands = commands_of(token)
        _commands(commands, protocol)
        router.include_router(commands)

        @asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with outbox.running(), reconciler.running():
                yield

        async def chain_answers() -> None:
            await chain.head()
            await account.check_chain()

        yield Service(
            "vault",
            router,
            _routes(SealedContent(protocol), token),
            lambda: stream_made(broker, deployment.chain_id),
            background,
            {"chain": chain_answers},
        )


def _wake(
    router: NatsRouter,
    chain_id: int,
    protocol: InvocationProtocol,
    reconciler: Reconciler[decide.InvocationState, decide.Step],
    inbox: str,
) -> None:
    async def on_event(event: ChainEvent) -> None:
        kind = Paid if event.event == "Paid" else Delivered if event.event == "Delivered" else None
        if kind and protocol.concerns(kind.from_args(event.args)):
            await reconciler.wake(int(event.key))

    def on_block(tick: BlockTick) -> None:
        protocol.outbox.on_block()
        reconciler.tick(tick.timestamp)

    on_final_events(router, chain_id, "Invocation", f"vault-{protocol.keys.address}", on_event, inbox)
    on_final_blocks(router, chain_id, on_block)


def _commands(router: NatsRouter, protocol: InvocationProtocol) -> None:
    address = protocol.keys.address
    outbox = protocol.outbox

    @router.subscriber(subject(address, "vault", "send"), max_workers=16)
    async def send(command: messages.Send) -> messages.Outcome:
        """Send one call of a marketplace contract, once."""
        policy(protocol.market, command.to, command.contract)
        data = bytes.fromhex(command.data.removeprefix("0x"))
        call = Call(command.to, data, command.contract, command.function, lambda _: None)
        return (await outbox.send(command.once, call)).outcome()

    @router.subscriber(subject(address, "vault", "outcome"), max_workers=64)
    async def outcome(command: messages.Watch) -> messages.Outcome:
        """Tell what became of an intended transaction."""
        intent = await outbox.wait(command.once, command.until, command.timeout_s)
        if intent is None:
            raise messages.IntentNotFoundError(command.once)
        return intent.outcome()

    @router.subscriber(subject(address, "vault", "permit"))
    async def permit(command: messages.Permit) -> messages.PermitSignature:
        """Sign an allowance for the `Invocation` contract."""
        return await sign_permit(protocol.market, protocol.keys, command)

    @router.subscriber(subject(address, "vault", "grant"))
    async def grant(command: messages.GrantOf) -> messages.GrantStatus:
        """Tell whether a grant is held, and what it opens."""
        invocation = InvocationId(command.invocation)
        granted = protocol.box.granted(invocation)
        return messages.GrantStatus(
            held=granted is not None,
            refusal=protocol.box.refusal(invocation),
            cid=None if granted is None else granted[0],
        )

    @router.subscriber(subject(address, "vault", "content"))
    async def content(command: messages.ContentOf) -> messages.OwnContent:
        """Tell which object of this vault's own a resource sells."""
        own = protocol.box.content_by_commitment(bytes.fromhex(command.commitment))
        return messages.OwnContent(cid=None if own is None else own.cid)

    @router.subscriber(subject(address, "vault", "status"))
    async def status(_command: messages.Ask) -> messages.VaultStatus:
        """Tell the vault's own state."""
        return messages.VaultStatus(
            address=address,
            encryption_key=cids.of_raw(protocol.keys.public_document),
            pending_transactions=outbox.pending(),
        )


def _routes(content: SealedContent, token: str) -> list[BaseRoute]:
    async def put(request: Request) -> Response:
        require_token(request, token)
        kept, size = await content.put(request.stream())
        sealed = messages.SealedObject(cid=kept.cid, commitment=kept.commitment.hex(), size=size)
        return JSONResponse(sealed.model_dump(), status_code=201)

    async def own(request: Request) -> Response:
        require_token(request, token)
        return await _stream(content.own(Cid(request.path_params["cid"])))

    async def bought(request: Request) -> Response:
        require_token(request, token)
        invocation = InvocationId(request.path_params["invocation"])
        job = request.query_params.get("job", "")
        return await _stream(await content.bought(invocation, job))

    return [
        Route("/vault/objects", put, methods=["POST"]),
        Route("/vault/objects/{cid}", own),
        Route("/vault/invocations/{invocation:int}/content", bought),
    ]


async def _stream(plain: AsyncIterator[bytes]) -> Response:
    """Answer with plaintext; a fault in its first segment is a clear answer, a later one cuts it off."""
    first = await anext(plain, b"")

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in plain:
            yield piece

    return StreamingResponse(pieces(), media_type="application/octet-stream")


def main() -> None:
    """Run the vault alone."""
    node, settings = NodeSettings(), VaultSettings()
    keys = key_files.load(settings.path, settings.passphrase.get_secret_value())
    run(node, lambda broker: create(node, settings, broker, keys))


if __name__ == "__main__":
    main()

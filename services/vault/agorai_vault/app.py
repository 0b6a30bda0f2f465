"""The vault's wiring: keys, database, outbox, the invocation reconciler, commands and HTTP routes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
from faststream.nats import NatsBroker, NatsRouter
from nats.errors import Error as NatsError
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from agorai_shared import cid as cids
from agorai_shared import logging
from agorai_shared import vault as messages
from agorai_shared.answering import commands_of
from agorai_shared.bindings.fair_exchange import FairExchange
from agorai_shared.bindings.invocation import Delivered, Paid
from agorai_shared.bindings.voting_panel import VotingPanel
from agorai_shared.bus import inbox_of
from agorai_shared.chain import Chain, Finality
from agorai_shared.command import Commander, bus_of, subject
from agorai_shared.content import ContentStore
from agorai_shared.contract import Call
from agorai_shared.deployment import Deployment
from agorai_shared.events import BlockTick, ChainEvent
from agorai_shared.look_again import on_look_again
from agorai_shared.market import Market
from agorai_shared.negotiation import TOPIC
from agorai_shared.peer_messages import Message as PeerMessage
from agorai_shared.reconciler import Reconciler, Scope
from agorai_shared.rpc import Rpc
from agorai_shared.service import Service, require_token, run
from agorai_shared.settings import NodeSettings
from agorai_shared.standby import active
from agorai_shared.trail import Trail
from agorai_shared.trainer import Trainer
from agorai_shared.types import Address, Cid, InvocationId
from agorai_shared.verifier import Verifier
from agorai_shared.waking import on_final_events, stream_made
from agorai_vault import database, decide, signing_in
from agorai_vault import keys as key_files
from agorai_vault.account import AccountOnChain
from agorai_vault.envelopes import Envelopes
from agorai_vault.handlers import InvocationProtocol, SealedContent
from agorai_vault.keys import Keys
from agorai_vault.negotiating import Negotiations
from agorai_vault.outbox import Outbox
from agorai_vault.peers import Peers
from agorai_vault.permit import sign_permit
from agorai_vault.policy import check_step, check_target
from agorai_vault.settings import VaultSettings
from agorai_vault.trade import wiring
from agorai_vault.trade.handlers import TradeProtocol
from agorai_vault.trade.judging import Judge
from agorai_vault.trade.packing import Packing
from agorai_vault.trade.records import Records
from agorai_vault.trade.transcript import Transcript
from agorai_vault.trade.witness import Witness
from agorai_vault.transfer import wiring as transfer_wiring

log = logging.get(__name__)


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
        trail = Trail(broker, keys.address, "vault")
        account = AccountOnChain(chain, keys.address, deployment.chain_id)
        outbox = Outbox(
            connection,
            keys.account,
            account,
            trail.sent,
            stuck_after_s=settings.stuck_after_s,
            most_fee=int(settings.max_fee_gwei * 10**9),
        )
        protocol = InvocationProtocol(market, keys, database.Box(connection, keys.derive("box")), outbox)
        reconciler: Reconciler[decide.InvocationState, decide.Step] = Reconciler(
            protocol,
            Scope(deployment.chain_id, "Invocation", deployment.invocation),
            trail,
            clock=protocol.now,
        )
        router = NatsRouter()
        _wake(router, deployment.chain_id, protocol, reconciler, inbox_of(node.bus_user))
        strangers = await stack.enter_async_context(
            aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        )
        peers = Peers(connection, market, keys, strangers, _notice(broker, keys.address))
        negotiations = Negotiations(connection, market, peers)
        peers.on(TOPIC, negotiations)
        commander = Commander(bus_of(broker), keys.address, token)
        trades = _trades(protocol, connection, negotiations, Verifier(commander), Trainer(commander))
        trading: wiring.Trades = Reconciler(
            trades,
            Scope(deployment.chain_id, "FairExchange", deployment.fair_exchange),
            trail,
            clock=trades.now,
        )
        judge = Judge(trades.transcript, trades.panel, keys, trades.records)
        envelopes = Envelopes(market, keys)
        transfers, transferring = transfer_wiring.make(envelopes, outbox, connection, peers, trail)
        others = transfer_wiring.waking(transfers, transferring)
        wiring.wake(router, deployment.chain_id, trades, trading, inbox_of(node.bus_user), others)
        commands = commands_of(token)
        _commands(commands, protocol)
        _peer_commands(commands, peers, negotiations)
        _task_commands(commands, envelopes)
        _owner_commands(
            commands, keys, deployment.chain_id, lambda: database.snapshot(connection, settings.path)
        )
        wiring.commands(commands, trades, trading, judge)
        on_look_again(commands, keys.address, "vault", reconciler, trading, transferring)
        router.include_router(commands)

        def on_block(tick: BlockTick) -> None:
            outbox.on_block()
            reconciler.tick(tick.timestamp)
            trading.tick(tick.timestamp)
            transferring.tick(tick.timestamp)

        @asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with (
                outbox.running(),
                reconciler.running(),
                trading.running(),
                peers.running(),
                transferring.running(),
            ):
                yield

        async def chain_answers() -> None:
            await chain.head()
            await account.check_chain()

        yield Service(
            "vault",
            router,
            [
                *_routes(SealedContent(protocol), token),
                *_envelope_routes(envelopes, token),
                *wiring.routes(trades, judge, token, _stream),
                *transfer_wiring.routes(transfers.data, token, _stream),
                _inbox(peers),
            ],
            lambda: stream_made(broker, deployment.chain_id),
            background,
            {"chain": chain_answers},
            on_block=on_block,
        )


def _trades(
    protocol: InvocationProtocol,
    connection: sqlite3.Connection,
    negotiations: Negotiations,
    verifier: Verifier,
    trainer: Trainer,
) -> TradeProtocol:
    market, keys, box = protocol.market, protocol.keys, protocol.box
    exchange, panel = (
        FairExchange(market.deployment.fair_exchange),
        VotingPanel(market.deployment.voting_panel),
    )
    records, transcript = Records(connection, box), Transcript(market, exchange)
    listings, sold = negotiations.listings, negotiations.sold
    packing = Packing(
        market, exchange.address, keys.address, box, records, lambda resource: listings().get(resource), sold
    )
    return TradeProtocol(
        transcript=transcript,
        panel=panel,
        keys=keys,
        outbox=protocol.outbox,
        records=records,
        packing=packing,
        witness=Witness(transcript, panel, keys, box, records, packing, trainer),
        verifier=verifier,
        agreements=negotiations.bought,
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

    on_final_events(router, chain_id, "Invocation", f"vault-{protocol.keys.address}", on_event, inbox)


def _commands(router: NatsRouter, protocol: InvocationProtocol) -> None:
    address = protocol.keys.address
    outbox, deployment = protocol.outbox, protocol.market.deployment

    async def sent(command: messages.Send, function: str) -> messages.Outcome:
        data = bytes.fromhex(command.data.removeprefix("0x"))
        call = Call(command.to, data, command.contract, function, lambda _: None, command.value)
        return (await outbox.send(command.once, call)).outcome()

    @router.subscriber(subject(address, "vault", "send"), max_workers=16)
    async def send(command: messages.Send) -> messages.Outcome:
        """Send one call of a marketplace contract, once."""
        check_target(deployment, command)
        return await sent(command, command.function)

    @router.subscriber(subject(address, "vault", "step"), max_workers=16)
    async def step(command: messages.Send) -> messages.Outcome:
        """Send one call that is a step of a service's, once."""
        return await sent(command, check_step(deployment, command).name)

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


def _peer_commands(router: NatsRouter, peers: Peers, negotiations: Negotiations) -> None:
    address = peers.address

    @router.subscriber(subject(address, "vault", "tell"), max_workers=16)
    async def tell(command: messages.Tell) -> messages.Told:
        """Send a message to another member's node."""
        return messages.Told(id=(await peers.tell(command.to, command.topic, command.body)).id)

    @router.subscriber(subject(address, "vault", "block_peer"))
    async def block_peer(command: messages.BlockPeer) -> messages.BlockedPeers:
        """Take no messages of an account any more, or take them again."""
        peers.block(command.account, blocked=command.blocked)
        return messages.BlockedPeers(accounts=tuple(peers.blocked()))

    @router.subscriber(subject(address, "vault", "list_resource"))
    async def list_resource(command: messages.ListResource) -> messages.Listings:
        """Trade a model on given terms, or no more."""
        if command.listing is None:
            negotiations.unlist(command.resource)
        else:
            await negotiations.list_resource(command.listing)
        return messages.Listings(listings=tuple(negotiations.listings().values()))

    @router.subscriber(subject(address, "vault", "listings"))
    async def listings(_command: messages.ListingsOf) -> messages.Listings:
        """Tell what is listed."""
        return messages.Listings(listings=tuple(negotiations.listings().values()))

    @router.subscriber(subject(address, "vault", "ask"))
    async def ask(command: messages.AskFor) -> messages.Asked:
        """Ask what another's model costs, or offer a price for it."""
        made = await negotiations.ask(command.resource, command.price, command.verification, command.have)
        return messages.Asked(ask=made.ask.ask, other=made.other)

    @router.subscriber(subject(address, "vault", "opened"))
    async def opened(command: messages.TradeOpened) -> messages.Asks:
        """Note, as the seller, that the trade agreed on is opened, and tell the buyer."""
        negotiations.opened(command.other, command.ask, command.trade)
        return messages.Asks(asks=tuple(negotiations.latest(1)))

    @router.subscriber(subject(address, "vault", "asks"))
    async def asks(command: messages.AsksOf) -> messages.Asks:
        """Tell how negotiations stand."""
        return messages.Asks(asks=tuple(negotiations.latest(command.limit)))


def _task_commands(router: NatsRouter, envelopes: Envelopes) -> None:
    address = envelopes.keys.address

    @router.subscriber(subject(address, "vault", "task_key"))
    async def task_key(command: messages.TaskKeyOf) -> messages.PublicTaskKey:
        """Tell the public key of a task of this account's."""
        key = envelopes.task_key(bytes.fromhex(command.nonce))
        return messages.PublicTaskKey(public=key.public, address=key.address)

    @router.subscriber(subject(address, "vault", "reveal_task_key"))
    async def reveal_task_key(command: messages.RevealTaskKey) -> messages.RevealedTaskKey:
        """Give a task's private key away, which is to be put on the chain."""
        secret = envelopes.task_key(bytes.fromhex(command.nonce)).secret
        return messages.RevealedTaskKey(secret=f"{secret:064x}")


def _owner_commands(
    router: NatsRouter, keys: Keys, chain_id: int, take_snapshot: Callable[[], Awaitable[Path]]
) -> None:
    @router.subscriber(subject(keys.address, "vault", "sign_in"))
    async def sign_in(command: messages.SignIn) -> messages.SignedIn:
        """Sign a sign-in message of this account."""
        return messages.SignedIn(signature=signing_in.sign(keys, chain_id, command.message))

    @router.subscriber(subject(keys.address, "vault", "snapshot"))
    async def snapshot(_command: messages.Snapshot) -> messages.SnapshotWritten:
        """Write a consistent copy of the database."""
        return messages.SnapshotWritten(path=str(await take_snapshot()))


def _notice(broker: NatsBroker, address: Address) -> Callable[[PeerMessage], Awaitable[None]]:
    """Give what tells outside listeners, on `peer.<address>`, of a message; what it says stays in the vault."""

    async def notify(message: PeerMessage) -> None:
        notice = {"topic": message.topic, "sender": message.sender, "id": message.id}
        try:
            await broker.publish(notice, f"peer.{address.lower()}")
        except (NatsError, OSError) as error:  # it was taken all the same
            log.warning("peer.not_noticed", error=str(error) or type(error).__name__)

    return notify


def _inbox(peers: Peers) -> Route:
    async def arrive(request: Request) -> Response:
        """Take a sealed message from another member."""
        try:
            await peers.arrive(request.stream(), request.client.host if request.client else "")
        except ClientDisconnect:  # a stranger's going away is no fault of this node
            return Response(status_code=400)
        return Response(status_code=202)

    return Route("/peer", arrive, methods=["POST"])


def _routes(content: SealedContent, token: str) -> list[BaseRoute]:
    async def put(request: Request) -> Response:
        """Seal content into the store; gives its CID and the commitment to it."""
        require_token(request, token)
        kept, size = await content.put(request.stream())
        sealed = messages.SealedObject(cid=kept.cid, commitment=kept.commitment.hex(), size=size)
        return JSONResponse(sealed.model_dump(), status_code=201)

    async def own(request: Request) -> Response:
        """Give content that this vault sealed, in the clear."""
        require_token(request, token)
        return await _stream(content.own(Cid(request.path_params["cid"])))

    async def bought(request: Request) -> Response:
        """Give bought content in the clear, for the job that `job` names."""
        require_token(request, token)
        invocation = InvocationId(request.path_params["invocation"])
        job = request.query_params.get("job", "")
        return await _stream(await content.bought(invocation, job))

    return [
        Route("/vault/objects", put, methods=["POST"]),
        Route("/vault/objects/{cid}", own),
        Route("/vault/invocations/{invocation:int}/content", bought),
    ]


def _envelope_routes(envelopes: Envelopes, token: str) -> list[BaseRoute]:
    async def seal(request: Request) -> Response:
        """Seal bytes for the members that `for` names, and for the key of a task."""
        require_token(request, token)
        asked = messages.SealEnvelope.model_validate_json(request.query_params.get("for", ""))
        sealed = await envelopes.seal(
            request.stream(),
            asked.context,
            asked.members,
            asked.task,
            lenient=asked.lenient,
            inline=asked.inline,
        )
        return JSONResponse(sealed.model_dump(mode="json"), status_code=201)

    async def opened(request: Request) -> Response:
        """Open sealed bytes that are for this account, or for a task whose key is known."""
        require_token(request, token)
        asked = messages.OpenEnvelope.model_validate_json(await request.body())
        nonce = None if asked.nonce is None else bytes.fromhex(asked.nonce)
        return await _stream(await envelopes.open(asked.envelope, asked.context, asked.author, nonce))

    return [
        Route("/vault/envelopes", seal, methods=["POST"]),
        Route("/vault/envelopes/open", opened, methods=["POST"]),
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

    @asynccontextmanager
    async def build(broker: NatsBroker) -> AsyncIterator[Service]:
        async with active(settings.path, node), create(node, settings, broker, keys) as service:
            yield service

    run(node, build)


if __name__ == "__main__":
    main()

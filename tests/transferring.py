"""What tests of transfers of data are made of: commands as its three parties give them, and providers who cheat."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Self

from typer.testing import CliRunner

from agorai.cli.main import app
from agorai.demo.town import Town
from agorai.devchain import TOKEN
from agorai.home import Home
from agorai.transfers import Transfers
from agorai_shared import cid as cids
from agorai_shared.bindings.data_transfer import Initiated
from agorai_shared.shared_jwe import Envelope
from agorai_shared.types import Address, Cid, Wei
from agorai_shared.vault import SealEnvelope

FLOWERS: Final = Path(__file__).parents[1] / "docs" / "examples" / "flowers.csv"
AMOUNT: Final = Wei(3 * TOKEN + 1)


@dataclass
class Transferring:
    """A town whose owner sells flowers, for transfers of which Linhao is the authority, or else the panel."""

    folder: Path
    town: Town
    flowers: int = 0
    """The data set."""
    provider: str = "owner"
    consumer: str = "tommy"
    by_panel: bool = False

    async def laid(self) -> Self:
        """Give each client a home to which commands can be given, and publish the flowers."""
        for name, client in self.town.clients.items():
            (self.folder / name).mkdir()
            client.info.save(Home(self.folder / name).node_file)
        command = ("publish", "data", FLOWERS, "--target", "species", "--price", 1, "--no-quality")
        self.flowers = (await self.agorai(self.provider, *command))["resource"]
        return self

    def __getitem__(self, name: str) -> Transfers:
        return Transfers(self.town.clients[name])

    async def run(self, name: str, *arguments: object, status: int = 0) -> str:
        environment = {"AGORAI_HOME": str(self.folder / name)}
        found = await asyncio.to_thread(CliRunner().invoke, app, [*map(str, arguments)], env=environment)
        assert found.exit_code == status, found.output
        return found.output

    async def agorai(self, name: str, *arguments: object, status: int = 0) -> Any:
        return json.loads((await self.run(name, *arguments, "--json", status=status)).splitlines()[-1])

    async def refusal(self, name: str, *arguments: object) -> str:
        error = (await self.agorai(name, "transfer", *arguments, status=1))["error"]
        return f"{error['detail']} {error['remedy']}"

    async def coin(self, name: str) -> int:
        return (await self.town.clients[name].balances()).coin

    async def opened(self, duration: int = 600) -> int:
        consumer = self[self.consumer]
        authority = consumer.panel.address if self.by_panel else self.town.clients["linhao"].address
        return await consumer.init(self.flowers, AMOUNT, authority, duration)

    async def provided(self, duration: int = 600) -> int:
        transfer = await self.opened(duration)
        await self[self.provider].provide(transfer)
        return transfer

    async def raw(self, *, authority: Address | None = None, key: bytes = b"", schema: bytes = b"") -> int:
        """Open a transfer as the contract takes it, past what the SDK looks at."""
        tommy = self["tommy"]
        client, deal = tommy.client, (await tommy.look(await self.opened())).deal
        panel_size = 3 if authority == client.deployment.voting_panel else 0
        call = tommy.contract.init_transaction(
            await tommy._slot(), deal.data_provider, schema or deal.ipfs_schema_address,
            key or deal.ipfs_consumer_pub_key_address, authority or deal.authority, 600, panel_size,
        )  # fmt: skip
        sent = await tommy.send(replace(call, value=1))
        return (await client.market.emitted(sent, Initiated)).id

    async def hand_over(self, transfer: int, envelope: Envelope, data: Cid | None = None) -> None:
        """Provide whatever envelope, as the provider."""
        await self.hand_over_bytes(transfer, envelope.to_bytes(), data or Cid(envelope.cid))

    async def hand_over_bytes(self, transfer: int, key: bytes, data: Cid) -> None:
        provider = self[self.provider]
        stored = await provider.client.store.put_document(key)
        deal = (await provider.look(transfer)).deal
        await provider.send(
            provider.contract.provide_data(deal, cids.digest_of(stored), cids.digest_of(data))
        )

    async def sealed(self, content: bytes, context: str, *readers: str) -> Envelope:
        members = tuple(self.town.clients[name].address for name in readers)
        to = SealEnvelope(context=context, members=members)
        return await self.town.clients[self.provider].vault.seal_envelope(content, to)

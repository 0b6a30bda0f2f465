"""`agorai bus`: what a NATS server of one's own is told."""

from __future__ import annotations

from pathlib import Path

import typer

from agorai.cli.output import JSON, emit, out, run, styled
from agorai_shared.errors import InputError

app = typer.Typer(help="A bus for nodes whose services run apart.", no_args_is_help=True)


class TlsHalfError(InputError):
    """Of certificate and key only one is named."""

    def __init__(self) -> None:
        super().__init__("TLS needs a certificate and its key.", remedy="Name both --tls-cert and --tls-key.")


@app.command()
def config(
    node: list[str] = typer.Option(..., help="Account of a node; may be named several times."),
    chain_id: int | None = typer.Option(
        None, min=1, help="EIP-155 id of the chain; else the file's, or 31337 if it is new."
    ),
    output: Path = typer.Option(
        Path("nats.conf"), help="The server's file; what is in it stays unless it is named here."
    ),
    passwords: Path = typer.Option(Path("passwords"), help="Folder for each user's password, one file each."),
    store: str | None = typer.Option(
        None, help="Folder of the streams, as the server sees it; /data in a new file."
    ),
    tls_cert: str | None = typer.Option(None, help="The server's certificate, as the server sees it."),
    tls_key: str | None = typer.Option(None, help="Its private key."),
    tls_ca: str | None = typer.Option(None, help="Ask clients for a certificate of this authority."),
    route: list[str] = typer.Option([], help="A server of the cluster, host or host:port; name every one."),
    as_json: bool = JSON,
) -> None:
    """Write a NATS server's configuration: an account for the hub and each node, a user for each service."""
    from agorai import bus_config  # noqa: PLC0415 - the services, which help does without
    from agorai.client import address_of  # noqa: PLC0415

    async def work() -> None:
        if (tls_cert is None) != (tls_key is None) or (tls_ca and not tls_cert):
            raise TlsHalfError
        tls = bus_config.Tls(tls_cert, tls_key, tls_ca) if tls_cert and tls_key else None
        nodes = [address_of(one) for one in node]
        users = bus_config.write(output, passwords, chain_id, nodes, store=store, tls=tls, routes=route)

        def human() -> None:
            out.print(
                styled(
                    "[green]✓[/] {output}: {count} users, their passwords in {passwords}.",
                    output=output,
                    count=len(users),
                    passwords=passwords,
                )
            )

        emit({"output": str(output), "passwords": str(passwords), "users": users}, as_json, human)

    run(work, as_json)


@app.command()
def certificate(
    name: list[str] = typer.Option(..., help="Host name of the server, or of each of a cluster."),
    output: Path = typer.Option(Path("tls"), help="Folder for ca.pem, tls.crt and tls.key."),
    days: int = typer.Option(365, min=1, help="How long it is good."),
    as_json: bool = JSON,
) -> None:
    """Make a certificate for the servers of a bus, and the authority that services are told to believe."""
    from agorai import bus_certificates  # noqa: PLC0415 - `cryptography`, which help does without

    async def work() -> None:
        made = bus_certificates.make(output, *name, days=days)

        def human() -> None:
            out.print(
                styled("[green]✓[/] {certificate}, believed with {authority}.", certificate=made.certificate,
                       authority=made.authority)
            )  # fmt: skip

        paths = {"authority": made.authority, "certificate": made.certificate, "key": made.key}
        emit({what: str(path) for what, path in paths.items()}, as_json, human)

    run(work, as_json)

"""The `agorai` command."""


def main() -> None:
    """Run the command; Ctrl-C while it still loads ends it without a word, as later."""
    try:
        from agorai.cli.main import app  # noqa: PLC0415 - Ctrl-C may come meanwhile
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app()

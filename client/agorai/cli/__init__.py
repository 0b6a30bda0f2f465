"""The `agorai` command."""


def main() -> None:
    """Run the command; Ctrl-C while it still loads ends it without a word, as later."""
    try:
        from agorai.cli.main import app  # noqa: PLC0415 - what takes a second, in which Ctrl-C may come
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    app()

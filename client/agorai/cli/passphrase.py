"""Where the passphrase comes from: a file, the environment, or the person at the terminal."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from agorai_shared.errors import InputError


class PassphraseMissingError(InputError):
    """There is no passphrase and nobody to ask."""

    def __init__(self) -> None:
        super().__init__(
            "A passphrase is needed, and there is no terminal to ask at.",
            remedy="Set AGORAI_VAULT_PASSPHRASE, or name a file with AGORAI_VAULT_PASSPHRASE_FILE.",
        )


class PassphraseFileError(InputError):
    """The passphrase file cannot be read."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(
            f"The passphrase file {path} cannot be read: {why}.",
            remedy="Set AGORAI_VAULT_PASSPHRASE_FILE to a readable file.",
        )


def given() -> str | None:
    """Give the passphrase that the environment has, if it has one; nobody is asked.

    Raises
    ------
    PassphraseFileError
        The file that it names cannot be read.
    """
    if (passphrase := os.environ.get("AGORAI_VAULT_PASSPHRASE")) is not None:
        return passphrase
    if not (path := os.environ.get("AGORAI_VAULT_PASSPHRASE_FILE")):
        return None
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise PassphraseFileError(path, error.strerror or str(error)) from error


def ask_passphrase(*, new: bool) -> str:
    """Give the passphrase; a new one is asked for twice.

    Raises
    ------
    PassphraseMissingError
        If none is set and standard input is no terminal.
    PassphraseFileError
        The file that is named cannot be read.
    """
    if (passphrase := given()) is not None:
        return passphrase
    if not sys.stdin.isatty():
        raise PassphraseMissingError
    label = "Choose a passphrase for the new account" if new else "Passphrase"
    return str(typer.prompt(label, hide_input=True, confirmation_prompt=new, err=True))

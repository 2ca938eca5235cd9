"""Encrypts, decrypts and re-encrypts texts with the keys of a key file (Fernet, MultiFernet).

The key file has one Fernet key a line, the newest first. It lies in the data folder
(`settings.key`, mode 0400, made when the first secret is stored), or where BRIDGE_SETTINGS_KEY_FILE
says; then it is only read. More than one key is the state in the
middle of a rotation: the first encrypts, all of them decrypt.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import secrets
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from bridge.settings.errors import KeyFileError, SecretsUnreadableError

FILE_NAME = "settings.key"
MODE = 0o400


class KeyFile:
    """The keys in one file.

    Args:
        path: where it is.
        given: whether somebody else keeps it; then it is never made or changed here.
    """

    def __init__(self, path: Path, *, given: bool = False) -> None:
        self.path = path
        self.given = given

    def exists(self) -> bool:
        """Whether there is such a file."""
        return self.path.exists()

    def read(self) -> tuple[str, ...]:
        """The keys, newest first.

        Raises:
            KeyFileError: there is no usable file.
        """
        try:
            text = self.path.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise KeyFileError(
                f"cannot read the key file {self.path}: {reason}",
                next_step="Put the key file back; without it stored secrets cannot be opened",
            ) from None
        keys = tuple(line.strip() for line in text.splitlines() if line.strip())
        if not keys or not all(_is_key(key) for key in keys):
            raise KeyFileError(
                f"the key file {self.path} does not hold Fernet keys, one a line",
                next_step="Put the key file back; it holds lines of 44 characters ending in =",
            )
        return keys

    def read_or_create(self) -> tuple[str, ...]:
        """The keys; makes the file with a first one when there is none.

        Raises:
            KeyFileError: it is unusable, or missing where somebody else should keep it.
        """
        if not self.given and not self.exists():
            self.write((new_key(),))
        return self.read()

    def write(self, keys: tuple[str, ...]) -> None:
        """Replaces the file in one step, synced, so that a crash leaves the old or the new one.

        Raises:
            KeyFileError: it cannot be written here.
        """
        if self.given:
            raise KeyFileError(
                f"the key file {self.path} is given from outside and is not changed here",
                next_step="Add the new key as its first line, restart, and re-encrypt",
            )
        temporary = self.path.with_suffix(".new")
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
            _write_synced(temporary, "".join(f"{key}\n" for key in keys))
            temporary.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError as error:
            raise KeyFileError(f"cannot write the key file {self.path}: {error.strerror}") from None


def new_key() -> str:
    """A fresh Fernet key: 32 random bytes in URL-safe base64, as its specification says."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def _is_key(text: str) -> bool:
    try:
        return len(base64.urlsafe_b64decode(text)) == 32
    except (binascii.Error, ValueError):
        return False


def _write_synced(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, MODE)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


WORKER: Final = Path(__file__).with_name("fernet_worker.py")
WORK_SECONDS: Final = 20.0

Sealed = dict[str, str]
"""Secrets by name, each a Fernet token."""

Operation = Literal["encrypt", "decrypt", "rotate"]


class Cipher:
    """Secrets in, tokens out, and back. Keys travel to the worker on a pipe, never in argv."""

    def __init__(self, key_file: KeyFile) -> None:
        self.key_file = key_file

    async def encrypt(self, secrets: Mapping[str, str]) -> Sealed:
        """Each secret as a token made with the newest key; the key file is made if need be.

        Raises:
            KeyFileError: there is no usable key file.
        """
        if not secrets:
            return {}
        keys = await asyncio.to_thread(self.key_file.read_or_create)
        tokens = await self._work("encrypt", keys, list(secrets.values()))
        return {name: token or "" for name, token in zip(secrets, tokens, strict=True)}

    async def decrypt(self, sealed: Mapping[str, str]) -> dict[str, str]:
        """What was encrypted.

        Raises:
            KeyFileError: there is no usable key file.
            SecretsUnreadableError: none of its keys opens one of the tokens.
        """
        if not sealed:
            return {}
        keys = await asyncio.to_thread(self.key_file.read)
        return self._complete(sealed, await self._work("decrypt", keys, list(sealed.values())))

    async def rotate(self, keys: tuple[str, ...], sealed: Mapping[str, str]) -> Sealed:
        """The same secrets under the first of `keys`.

        Raises:
            SecretsUnreadableError: one of the tokens is opened by none of them.
        """
        if not sealed:
            return {}
        return self._complete(sealed, await self._work("rotate", keys, list(sealed.values())))

    def _complete(self, sealed: Mapping[str, str], outputs: list[str | None]) -> dict[str, str]:
        opened = {name: out for name, out in zip(sealed, outputs, strict=True) if out is not None}
        if len(opened) != len(sealed):
            raise SecretsUnreadableError(
                f"no key in {self.key_file.path} opens the stored secrets; they stay as they are"
            )
        return opened

    async def _work(
        self, operation: Operation, keys: tuple[str, ...], inputs: list[str]
    ) -> list[str | None]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", str(WORKER)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # a traceback could show a secret
            env={},
        )
        job = msgspec.json.encode({"operation": operation, "keys": keys, "inputs": inputs})
        try:
            async with asyncio.timeout(WORK_SECONDS):
                output, _ = await process.communicate(job)
        except TimeoutError:
            process.kill()
            await process.wait()
            raise KeyFileError("the secrets could not be processed in time") from None
        if process.returncode != 0:
            raise KeyFileError("the secrets could not be processed: the worker failed")
        return msgspec.json.decode(output, type=_Outputs).outputs


class _Outputs(msgspec.Struct):
    outputs: list[str | None]

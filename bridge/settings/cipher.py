"""Encrypts, decrypts and re-encrypts texts with the keys of a key file (Fernet, MultiFernet)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from bridge.settings.errors import KeyFileError, SecretsUnreadableError
from bridge.settings.key_file import KeyFile

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

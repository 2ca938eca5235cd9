"""Two families of clients of `./deploy.py mcp`: the SDK's own, and one written from the protocol.

`Spoken` knows nothing of the SDK: JSON-RPC messages, one a line, over the pipes of a process.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[3]
PROTOCOL = "2025-06-18"


def command(url: str, key_file: Path, scope: str) -> list[str]:
    """The command line of a server with a given address and key."""
    return [
        *(sys.executable, str(PROJECT / "deploy.py"), "mcp", "--scope", scope),
        *("--url", url, "--api-key-file", str(key_file)),
    ]


def environment(folder: Path) -> dict[str, str]:
    """Everything that the server writes stays in the folder."""
    return {**os.environ, "GANGWAY_SANDBOX_DIR": str(folder)}


class DiedError(Exception):
    """The server ended before it answered."""


class Spoken:
    """One server process, and what is said to it."""

    def __init__(self, words: list[str], folder: Path, person: Callable[[str], Any] | None) -> None:
        self._words, self._folder, self._person = words, folder, person
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.asked: list[str] = []
        self.process: asyncio.subprocess.Process
        self._reader: asyncio.Task[None]

    async def __aenter__(self) -> Spoken:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """A process, up to the end of the handshake."""
        self.process = await asyncio.create_subprocess_exec(
            *self._words,
            cwd=self._folder,
            env=environment(self._folder),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=2**24,
        )
        self._reader = asyncio.create_task(self._read())
        capabilities: dict[str, Any] = {"elicitation": {}} if self._person else {}
        self.welcome = await self.request(
            "initialize",
            {
                "protocolVersion": PROTOCOL,
                "capabilities": capabilities,
                "clientInfo": {"name": "spoken", "version": "1"},
            },
        )
        self._write({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def stop(self) -> int:
        """Closes its standard input, as a client that leaves; the exit code."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        code = await asyncio.wait_for(self.process.wait(), 20)
        await self._reader
        return code

    def kill(self) -> None:
        """SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """A request's result; DiedError when the server ends before it answers."""
        self._number += 1
        waiting = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = waiting
        self._write({"jsonrpc": "2.0", "id": self._number, "method": method, "params": params})
        answer = await asyncio.wait_for(waiting, 90)
        assert "error" not in answer, answer
        return answer["result"]

    async def call(self, tool: str, **arguments: Any) -> tuple[bool, Any]:
        """Whether a tool succeeded, and its decoded answer or its text."""
        result = await self.request("tools/call", {"name": tool, "arguments": arguments})
        text = result["content"][0]["text"]
        return (False, text) if result.get("isError") else (True, json.loads(text))

    def _write(self, message: dict[str, Any]) -> None:
        if self.process.stdin is None or self.process.stdin.is_closing():
            raise DiedError
        self.process.stdin.write(json.dumps(message).encode() + b"\n")

    async def _read(self) -> None:
        assert self.process.stdout is not None
        while line := await self.process.stdout.readline():
            message = json.loads(line)  # anything else on standard output breaks a client
            if "method" in message:
                if "id" in message:
                    self._answer(message)
                continue
            self._waiting.pop(message["id"]).set_result(message)
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(DiedError())
                waiting.exception()  # whoever waits still gets it
        self._waiting.clear()

    def _answer(self, message: dict[str, Any]) -> None:
        assert message["method"] == "elicitation/create", message
        assert self._person is not None
        said = message["params"]["message"]
        self.asked.append(said)
        result = self._person(said)
        self._write({"jsonrpc": "2.0", "id": message["id"], "result": result})

"""`./deploy.py mcp` on a sandbox: through the connection to the host, with a key of its own."""

from __future__ import annotations

import json
import signal
import stat
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.deploy.mcp.clients import Spoken

if TYPE_CHECKING:
    from tests.sandbox.stack import Sandbox

pytestmark = pytest.mark.timeout(180)


def keys(sandbox: Sandbox) -> list[dict[str, Any]]:
    """The keys that servers made, oldest first."""
    listed = json.loads(sandbox.deploy("apikey", "list", "--json").stdout)["keys"]
    return [key for key in listed if key["label"].startswith("mcp ")]


def agent(sandbox: Sandbox, scope: str) -> Spoken:
    words = [sys.executable, str(sandbox.project / "deploy.py"), "mcp", "--scope", scope]
    return Spoken(words, sandbox.folder, None)


async def test_the_key_lives_as_long_as_the_server(sandbox: Sandbox) -> None:
    async with agent(sandbox, "trade") as client:
        fine, health = await client.call("health")
        assert fine, health
        assert health["state"] == "ready"
        (key,) = keys(sandbox)
        assert (key["scope"], key["active"], key["label"]) == ("trade", True, "mcp (trade)")
        assert key["expiresAt"]
        order = {"symbol": "MSFT", "action": "BUY", "quantity": 1, "order_type": "MKT"}
        fine, preview = await client.call("preview_order", **order)
        assert fine, preview
        fine, placed = await client.call(
            "place_order", token=preview["token"], order=preview["order"]
        )
        assert fine, placed
        file = sandbox.base / "mcp" / "previews.sqlite3"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600

        # whoever revokes it ends the agent, and finds no other key in its place
        sandbox.deploy("apikey", "revoke", key["id"])
        for _ in range(2):
            fine, found = await client.call("executions")
            assert not fine
            assert "key-revoked" in str(found)
        assert [each["active"] for each in keys(sandbox)] == [False]
        assert await client.stop() == 0
    assert [each["active"] for each in keys(sandbox)] == [False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_is_stopped_revokes_its_key(
    sandbox: Sandbox, number: signal.Signals
) -> None:
    async with agent(sandbox, "read") as client:
        fine, _ = await client.call("positions")
        assert fine
        assert keys(sandbox)[-1]["active"]
        client.process.send_signal(number)
        assert await client.process.wait() == 130
    assert not keys(sandbox)[-1]["active"]

"""Every server version that changes a message, negotiated with the official client.

The old client speaks 100 to 157 and the new one up to 178 here. Below 111 the official client
itself refuses to place orders, because it cannot leave newer attributes out.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from tests.conformance.running import CLIENTS, Client, gateway, run

pytestmark = pytest.mark.conformance

AT_ONCE = 3
OLD, NEW = CLIENTS[2], CLIENTS[3]
READING = ("session", "contracts", "market", "history", "executions", "account")
TRADING = ("session", "contracts", "orders", "executions", "account", "others")
MARKET_VERSIONS = (100, 103, 104, 110, 113, 121, 124, 127, 130, 136, 140, 152)
ORDER_VERSIONS = (111, 128, 131, 136, 141, 144, 147, 150, 155)
NEW_VERSIONS = (158, 160, 162, 163, 165, 168, 169, 174, 175, 176, 177)


@pytest.mark.parametrize(
    ("client", "groups", "versions"),
    [
        pytest.param(OLD, READING, MARKET_VERSIONS, id="reading, old"),
        pytest.param(OLD, TRADING, ORDER_VERSIONS, id="trading, old"),
        pytest.param(NEW, READING, NEW_VERSIONS, id="reading, new"),
        pytest.param(NEW, TRADING, NEW_VERSIONS, id="trading, new"),
    ],
)
def test_every_message_parses_at_every_version(
    client: Client, groups: tuple[str, ...], versions: tuple[int, ...]
) -> None:
    client.command()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        shares = pool.map(
            partial(visits, client, groups), (versions[n::AT_ONCE] for n in range(AT_ONCE))
        )
        seen = {visit["session"]["serverVersion"]: visit for share in shares for visit in share}
    assert sorted(seen) == list(versions)
    problems = {version: visit["problems"] for version, visit in seen.items()}
    assert {version: found for version, found in problems.items() if found} == {}


def visits(client: Client, groups: tuple[str, ...], versions: tuple[int, ...]) -> list[Any]:
    """A visit for each version, to a gateway of their own."""
    with gateway() as at:
        return run(client, at, groups, *versions)

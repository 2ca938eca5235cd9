"""A gateway that floods: held up by TCP, bounded in memory, and everyone else has their turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bridge.rig import BridgeProcess, SimulatorProcess
from tests.hostile.between import Between, message
from tests.hostile.watched import Watched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_MEGABYTES = 96.0
SLOWEST_PING = 0.5
SECONDS = 2.0
MEGABYTE = "x" * 1_000_000


@pytest.fixture(scope="module")
def between(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Between, BridgeProcess]]:
    folder: Path = tmp_path_factory.mktemp("hostile-gateway")
    simulator = SimulatorProcess(folder / "simulator.log")
    relay = Between(simulator.port)
    bridge = BridgeProcess(folder / "bridge", relay.port)
    bridge.wait_for("ready")
    yield relay, bridge
    bridge.stop()
    relay.close()
    simulator.stop()


def status(number: int) -> bytes:
    return message(3, number, "Submitted", 0, 10, 0, number, 0, 0, 17, "", 0)


FLOODS = {
    "long-texts": message(4, 2, -1, 2104, MEGABYTE) * 4,
    "long-texts-about-orders": message(4, 2, 7, 201, MEGABYTE) * 4,
    "long-unknown": message(250, MEGABYTE) * 4,
    "long-status": message(3, 7, MEGABYTE, 0, 10, 0, 7, 0, 0, 17, "", 0) * 4,
    "texts-of-farms": b"".join(
        message(4, 2, -1, 2104, f"Market data farm connection is OK:farm{number}")
        for number in range(5000)
    ),
    "texts-of-errors": b"".join(message(4, 2, -1, 321, f"error {n}") for n in range(5000)),
    "texts-about-orders": b"".join(message(4, 2, n, 201, "Order rejected") for n in range(5000)),
    "broker-lost-and-back": (
        message(4, 2, -1, 1100, "lost") + message(4, 2, -1, 1102, "back, data maintained")
    )
    * 2000,
    "statuses-of-unknown-orders": b"".join(status(n) for n in range(5000)),
    "ticks-of-nobody": b"".join(message(1, 6, n, 1, 1.5, 100, 0) for n in range(5000)),
    "new-order-numbers": b"".join(message(9, 1, n) for n in range(5000)),
    "accounts": message(15, 1, ",".join(f"DU{n:07}" for n in range(20_000))),
    "unknown-kinds": b"".join(message(n, "x") for n in range(100, 200)) * 50,
    "empty": message("") * 20_000,
    "not-understood": message(3, "x") * 5000,
    "no-numbers": message("what", "is", "this") * 5000,
    "not-utf8": (b"\0\0\0\x084\0\xff\xfe\xff\0\0\0") * 5000,
}


@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_of_the_gateways_is_held_up(
    between: tuple[Between, BridgeProcess], name: str
) -> None:
    """Invariants: RSS at most 96 MB, a ping at most 0.5 s, and afterwards it is ready again."""
    relay, bridge = between
    bridge.client.delete("/trading/halt")
    bridge.wait_for("ready")
    watched = Watched(bridge)
    with watched.attacked(lambda: relay.pour(FLOODS[name], SECONDS), halt=False):
        pass
    print(f"{name}: {watched.most_megabytes:.1f} MB, slowest ping "
          f"{watched.slowest['ping'] * 1000:.0f} ms")  # fmt: skip
    assert watched.most_megabytes <= MOST_MEGABYTES
    assert watched.slowest["ping"] <= SLOWEST_PING
    bridge.wait_for("ready", 60)
    assert bridge.log.stat().st_size < 5_000_000

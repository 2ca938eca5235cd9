"""Every column of every table, damaged one at a time: a bridge starts all the same."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from bridge.environment import Environment
from bridge.process import Bridge
from bridge.store import StoreError
from tests.bridge.rig import ADMIN_KEY, BridgeProcess, SimulatorProcess

VALUES = (
    *("x'ff'", "'x'", "'[1]'", "'{}'", "'null'", "''", "-1", "9223372036854775807", "1e300"),
    "CAST(x'61ff62' AS TEXT)",  # one bit of a text has turned: it is no UTF-8
)
PATHS = (
    "/health",
    "/orders",
    "/executions",
    "/audit",
    "/journal",
    "/keys",
    "/connection/events",
    "/connection/settings",
    "/trading/halt",
    "/metrics",
)
PLACED = {
    "symbol": "AAPL",
    "action": "BUY",
    "quantity": 3,
    "orderType": "MKT",
}


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with rows in every table that a day of use fills."""
    folder = tmp_path_factory.mktemp("used")
    simulator = SimulatorProcess(folder / "simulator.log")
    bridge = BridgeProcess(folder, simulator.port)
    try:
        bridge.wait_for("ready")
        for key in ("one", "two"):
            headers = {"Idempotency-Key": key}
            bridge.client.post("/order", json=PLACED, headers=headers).raise_for_status()
        bridge.client.post("/keys", json={"label": "phone"}).raise_for_status()
        bridge.client.put("/connection/settings", json={"readOnly": False}).raise_for_status()
        bridge.client.post("/trading/halt", json={"reason": "lunch"}).raise_for_status()
        bridge.client.post("/connection/reconnect").raise_for_status()
        bridge.wait_for("halted")
    finally:
        bridge.stop()
        simulator.stop()
    return folder / "data"


def columns(path: Path) -> Iterator[tuple[str, str]]:
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        for (table,) in connection.execute(query).fetchall():
            if connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]:
                for row in connection.execute(f"PRAGMA table_info({table})").fetchall():
                    yield table, row[1]


def damage(path: Path, table: str, column: str, value: str) -> bool:
    """Puts the value into every row; False where the column's type does not let it in."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("DROP TRIGGER audit_keeps_what_it_has")
        try:
            connection.execute(f"UPDATE OR IGNORE {table} SET {column} = {value}")
        except sqlite3.IntegrityError:
            return False
    return True


async def start(folder: Path, what: str) -> StoreError | None:
    key = folder.with_name("admin.key")
    key.write_text(ADMIN_KEY)
    key.chmod(0o600)
    try:
        async with Bridge(Environment(data_dir=folder, tws_port=1, admin_key_file=key)) as bridge:
            await read_everything(bridge)
            return None
    except StoreError as error:
        return error
    except BaseException as error:
        error.add_note(what)
        raise


async def read_everything(bridge: Bridge) -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(bridge.app, raise_app_exceptions=False),
        base_url="http://bridge",
        headers={"X-API-KEY": ADMIN_KEY},
    ) as client:
        for path in PATHS:
            answer = await client.get(path)
            assert answer.status_code in {200, 503}, f"{path}: {answer.status_code} {answer.text}"
        headers = {"Idempotency-Key": "one"}
        again = await client.post("/order", json=PLACED, headers=headers)
        assert again.status_code != 500, again.text


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_it_starts_or_says_in_one_line_why_not(used: Path, tmp_path: Path) -> None:
    tried, refusals = 0, []
    folder = tmp_path / "data"
    for table, column in list(columns(used / "journal.sqlite3")):
        for value in VALUES:
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(used, folder)
            if damage(folder / "journal.sqlite3", table, column, value):
                tried += 1
                refusals.append(await start(folder, f"{table}.{column} = {value}"))
    told = [each for each in refusals if each is not None]
    assert tried > 150
    assert len(told) < tried / 20
    assert all("\n" not in each.detail and each.next_step for each in told)

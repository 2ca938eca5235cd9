"""The routes of the connection settings, through a whole bridge beside a whole simulator."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.tws.session import TwsSession
from simulator.app import Simulator
from simulator.options import Options
from tests.bridge.portal.running import Running, running
from tests.closed_port import closed_port

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "correct horse battery staple"


async def moved(bridge: Running, port: int) -> None:
    session = bridge.bridge.services[TwsSession]
    async with asyncio.timeout(30):
        while session.context.target.port != port or not session.accounts:
            await asyncio.sleep(0.01)
    await bridge.ready()


async def test_settings_come_from_the_environment_until_some_are_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        shown = await bridge.get("/connection/settings")
        assert shown["source"] == "environment"
        assert shown["port"] == bridge.simulator.ports["port"]
        assert shown["profiles"] == []
        assert shown["secretsSet"] == []


async def test_a_change_moves_the_running_session(tmp_path: Path) -> None:
    options = Options(port=0, portal_port=0, control_port=0, accounts=("DU7654321",))
    async with running(tmp_path) as bridge, Simulator(options) as other:
        await bridge.ready()
        body = {"profile": "other", "port": other.ports["port"], "clientId": 21}
        changed = await bridge.client.put("/connection/settings", json=body)
        assert changed.status_code == 200, changed.text
        assert changed.json()["active"] is True
        await moved(bridge, other.ports["port"])
        health = await bridge.get("/health")
        assert health["accounts"] == ["DU7654321"]
        assert health["clientId"] == 21
        back = await bridge.client.put(
            "/connection/settings", json={"profile": "other", "active": False}
        )
        assert back.json()["source"] == "stored"
        assert (await bridge.get("/connection/settings"))["source"] == "environment"
        await moved(bridge, bridge.simulator.ports["port"])
        assert (await bridge.get("/health"))["accounts"] == ["DU1234567"]


async def test_stored_settings_count_from_the_first_dial_of_the_next_process(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bridge:
        await bridge.client.put("/connection/settings", json={"clientId": 33})
    async with running(tmp_path, client_id=17) as bridge:
        assert bridge.bridge.services[TwsSession].client_id == 33


async def test_secrets_go_in_and_never_come_out(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        body = {"portalUsername": "me", "portalPassword": PASSWORD}
        changed = await bridge.client.put("/connection/settings", json=body)
        assert changed.json()["secretsSet"] == ["portalPassword"]
        assert PASSWORD not in changed.text
        assert PASSWORD not in (await bridge.client.get("/connection/settings")).text
        rotated = await bridge.client.post("/connection/settings/rotate-key")
        assert rotated.json() == {"secretsSealed": 1}
        everything = b"".join(
            file.read_bytes() for file in (tmp_path / "data").iterdir() if file.is_file()
        )
        assert PASSWORD.encode() not in everything


async def test_wrong_fields_are_listed_and_nothing_is_stored(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        for body, fields in (
            ({"port": 0, "clientId": "x"}, {"port", "clientId"}),
            ({"host": "two words", "portalUrl": "ftp://x"}, {"host", "portalUrl"}),
            ({"pasword": "x"}, {"pasword"}),
            ({"profile": "No Name"}, {"profile"}),
        ):
            answer = await bridge.client.put("/connection/settings", json=body)
            assert answer.status_code == 422, answer.text
            assert {error["field"] for error in answer.json()["errors"]} == fields
        assert (await bridge.get("/connection/settings"))["profiles"] == []
        unknown = await bridge.client.get("/connection/settings?profile=nowhere")
        assert unknown.status_code == 404


async def test_profiles_can_be_removed_unless_they_are_in_use(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        await bridge.client.put("/connection/settings", json={"profile": "a"})
        await bridge.client.put("/connection/settings", json={"profile": "b"})
        in_use = await bridge.client.delete("/connection/settings?profile=a")
        assert in_use.status_code == 409
        gone = await bridge.client.delete("/connection/settings?profile=b")
        assert gone.status_code == 204
        assert (await bridge.get("/connection/settings"))["profiles"] == ["a"]


async def test_a_trial_of_the_settings_in_use_and_of_others(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        await bridge.ready()
        good = await bridge.client.post("/connection/test")
        assert good.status_code == 200, good.text
        assert good.json()["ok"] is True, good.text
        assert [step["name"] for step in good.json()["steps"]] == [
            "resolve",
            "connect",
            "handshake",
            "accounts",
            "marketData",
        ]
        with closed_port() as port:
            bad = await bridge.client.post("/connection/test", json={"port": port})
        assert bad.json()["ok"] is False
        assert bad.json()["steps"][1]["nextStep"]
        assert (await bridge.get("/connection/settings"))["source"] == "environment"
        health = await bridge.get("/health")
        assert health["metrics"]["totalDisconnections"] == 0


async def test_the_kind_of_market_data_is_asked_for_anew_on_lines_that_are_open(
    tmp_path: Path,
) -> None:
    async with running(tmp_path) as bridge:
        await bridge.ready()
        assert (await bridge.get("/quote/AAPL"))["bid"]["tag"] == "live"
        assert (await bridge.get("/health"))["marketDataType"] == "live"
        body = {"marketDataType": "delayed-frozen"}
        assert (await bridge.client.put("/connection/settings", json=body)).status_code == 200
        async with asyncio.timeout(30):
            while (await bridge.get("/health"))["marketDataType"] != "delayed-frozen":
                await asyncio.sleep(0.05)
            while (await bridge.get("/quote/AAPL"))["bid"]["tag"] == "stale":
                await asyncio.sleep(0.05)
        assert (await bridge.get("/health"))["metrics"]["totalDisconnections"] == 0


async def test_read_only_and_the_usual_account_are_those_of_the_settings(tmp_path: Path) -> None:
    async with running(tmp_path) as bridge:
        await bridge.ready()
        order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "MKT"}
        body = {"readOnly": True, "account": "DU7654321"}
        await bridge.client.put("/connection/settings", json=body)
        refused = await bridge.client.post(
            "/order", json=order, headers={"Idempotency-Key": "settings-read-only"}
        )
        assert refused.status_code == 422, refused.text
        codes = {each["code"] for each in refused.json()["violations"]}
        assert {"read-only", "account-unknown"} <= codes
        body = {"readOnly": False, "account": "DU1234567"}
        await bridge.client.put("/connection/settings", json=body)
        taken = await bridge.client.post(
            "/order", json=order, headers={"Idempotency-Key": "settings-read-write"}
        )
        assert taken.status_code in {200, 201, 202}, taken.text
        assert taken.json()["account"] == "DU1234567"

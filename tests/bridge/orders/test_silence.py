"""A client that sends heartbeats and falls silent: what opens a position is cancelled, once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bridge.orders.cancel import CancelResult
from bridge.orders.silence import (
    FILE_NAME,
    LOOK_SECONDS,
    TELL_SECONDS,
    HeartbeatOffError,
    SilenceWatch,
)
from bridge.tws.errors import NotConnectedError
from tests.bridge.rig import BridgeProcess, SimulatorProcess, eventually
from tests.bridge.wound import WoundClock

SECONDS = 10.0


class Noted:
    """Stands where the audit log does."""

    def __init__(self) -> None:
        self.entries: list[tuple[Any, ...]] = []

    async def note(self, *entry: Any) -> None:
        self.entries.append(entry)


class Broker:
    """Takes cancels, or is away."""

    def __init__(self) -> None:
        self.cancels = 0
        self.away = False
        self.failing = False

    async def cancel(self) -> CancelResult:
        if self.away:
            raise NotConnectedError("away")
        self.cancels += 1
        return CancelResult(requested=("o1",), failed=("o2",) if self.failing else (), kept=("o3",))


class Watched:
    def __init__(self, folder: Path, clock: WoundClock | None = None, seconds: Any = SECONDS):
        self.clock, self.broker, self.noted = clock or WoundClock(), Broker(), Noted()
        self.told: list[str] = []
        self.watch = SilenceWatch(
            seconds,
            folder,
            self.clock,
            self.noted,  # type: ignore[arg-type]
            self.broker.cancel,
            lambda kind, **_: self.told.append(kind),
        )
        self.watch.load()


@pytest.fixture(autouse=True)
def patient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.orders.silence.KEEP_SECONDS", 20.0)


@pytest.fixture
def made(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_silence_is_dealt_with_once_and_a_heartbeat_ends_it(made: Watched) -> None:
    view = await made.watch.beat("bot")
    assert (view.armed, view.silent_after_seconds, view.survives_restart) == (True, SECONDS, True)
    made.clock.advance(SECONDS - 0.1)
    await made.watch.look()
    assert made.broker.cancels == 0
    made.clock.advance(0.2)
    for _ in range(3):
        await made.watch.look()
    assert made.broker.cancels == 1
    assert made.told == ["heartbeat-armed", "client-silent"]
    [(_, action, target, detail, result)] = made.noted.entries
    assert (action, target, result) == ("trading.silence", "bot", "ok")
    assert detail == {"cancelled": ["o1"], "kept": ["o3"]}
    need = made.watch.need()
    assert need
    assert "(bot)" in need.message
    await made.watch.beat("bot")
    assert made.watch.need() is None


async def test_each_heartbeat_gives_the_whole_time_anew(made: Watched) -> None:
    for _ in range(20):
        await made.watch.beat("bot")
        made.clock.advance(SECONDS - 1)
        await made.watch.look()
    assert made.broker.cancels == 0


async def test_who_leaves_or_never_came_is_not_watched(made: Watched) -> None:
    await made.watch.beat("bot")
    assert (await made.watch.leave("bot")).armed is False
    await made.watch.leave("other")
    made.clock.advance(SECONDS * 5)
    await made.watch.look()
    assert made.broker.cancels == 0


@pytest.mark.parametrize("trouble", ["away", "failing"])
async def test_what_could_not_be_sent_is_tried_again(made: Watched, trouble: str) -> None:
    await made.watch.beat("bot")
    setattr(made.broker, trouble, True)
    made.clock.advance(SECONDS + 1)
    await made.watch.look()
    assert "client-silent" not in made.told
    setattr(made.broker, trouble, False)
    await made.watch.look()
    assert "client-silent" in made.told


async def test_a_restart_forgets_nobody_and_gives_the_whole_time(tmp_path: Path) -> None:
    before = Watched(tmp_path)
    await before.watch.beat("bot")
    await before.watch.beat("phone")
    await before.watch.leave("phone")
    after = Watched(tmp_path)
    after.clock.advance(SECONDS - 0.1)
    await after.watch.look()
    assert after.broker.cancels == 0
    after.clock.advance(0.2)
    await after.watch.look()
    assert after.broker.cancels == 1
    last = Watched(tmp_path)
    last.clock.advance(SECONDS * 2)
    await last.watch.look()
    assert last.broker.cancels == 0  # it was dealt with before the restart


async def test_where_it_cannot_be_kept_the_answer_says_so(made: Watched, tmp_path: Path) -> None:
    (tmp_path / f"{FILE_NAME}.new").mkdir()
    assert (await made.watch.beat("bot")).survives_restart is False


@pytest.mark.parametrize("content", ["", "{", "[]", '{"armed": 3}', "\0\0"])
async def test_a_damaged_file_is_no_end(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE_NAME).write_text(content)
    made = Watched(tmp_path)
    need = made.watch.need()
    assert need
    assert "Which clients send heartbeats is not known" in need.message
    assert (await made.watch.beat("bot")).armed
    assert made.watch.need() is None


async def test_switched_off_nobody_can_arm_it(tmp_path: Path) -> None:
    with pytest.raises(HeartbeatOffError):
        await Watched(tmp_path, seconds=None).watch.beat("bot")


async def test_it_looks_by_itself_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    made = Watched(tmp_path)
    looks: list[float] = []
    look = made.watch.look

    async def counted() -> None:
        looks.append(made.clock.monotonic())
        if len(looks) == 1:
            raise RuntimeError("by the test")
        await look()

    made.watch.look = counted  # type: ignore[method-assign]
    made.watch.start()
    await made.watch.beat("phone")
    for number in range(1, 4):
        await _until(lambda number=number: len(looks) == number)  # type: ignore[misc]
        await made.clock.wind(LOOK_SECONDS)
    await made.clock.wind(SECONDS)
    await _until(lambda: made.broker.cancels == 1)
    await made.watch.stop()
    count = len(looks)
    await made.clock.wind(SECONDS)
    assert len(looks) == count


async def test_switched_off_it_does_not_look(tmp_path: Path) -> None:
    made = Watched(tmp_path, seconds=None)
    made.watch.start()
    assert made.watch._task is None
    await made.watch.stop()


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not happen")


def test_over_http_and_after_a_kill(tmp_path: Path) -> None:
    """A real bridge: its client falls silent, and so it does across a SIGKILL of the bridge."""
    rules = tmp_path / "trading.json"
    rules.write_text(json.dumps({"cancel_when_silent": 2}))
    simulator = SimulatorProcess(tmp_path / "simulator.log")
    order = {"symbol": "AAPL", "action": "BUY", "quantity": 1, "orderType": "LMT", "tif": "GTC"}

    def start() -> BridgeProcess:
        made = BridgeProcess(tmp_path / "bridge", simulator.port, BRIDGE_TRADING_FILE=str(rules))
        made.wait_for("ready")
        return made

    def working() -> int:
        book = simulator.control.get("/book").json()["orders"]
        return sum(each["status"] in {"Submitted", "PreSubmitted"} for each in book)

    def first_need() -> list[str]:
        return [each["code"] for each in bridge.get("/health").json()["needs"][:1]]

    async def dealt_with() -> None:
        await eventually(lambda: working() == 0, every=0.1)
        await eventually(lambda: first_need() == ["client-silent"], every=0.1)

    bridge = start()
    try:
        price = round(bridge.get("/quote/AAPL").json()["bid"]["value"] * 0.95, 2)
        for key in ("1", "2"):
            body = {**order, "limitPrice": price}
            headers = {"Idempotency-Key": key}
            assert bridge.client.post("/order", json=body, headers=headers).status_code == 201
            assert bridge.client.post("/trading/heartbeat").json()["armed"] is True
            if key == "2":
                bridge.stop(signal.SIGKILL)
                bridge = start()
            asyncio.run(dealt_with())
        assert bridge.client.delete("/trading/heartbeat").json()["armed"] is False
        assert bridge.get("/health").json()["needs"] == []
    finally:
        bridge.stop()
        simulator.stop()


async def test_while_the_process_is_held_up_nobody_is_silent(tmp_path: Path) -> None:
    """A machine that stands still for a while: heartbeats wait in the socket, and are read next."""
    made = Watched(tmp_path)
    made.watch.start()
    await made.watch.beat("bot")
    await made.clock.wind(LOOK_SECONDS)
    made.clock.advance(SECONDS * 3)  # one step: the look comes as late as that
    for _ in range(20):
        await asyncio.sleep(0)
    await made.clock.wind(SECONDS - 3 * LOOK_SECONDS)
    assert made.broker.cancels == 0
    await made.clock.wind(4 * LOOK_SECONDS)
    assert made.broker.cancels == 1, "it stays silent afterwards"
    await made.watch.stop()


@pytest.mark.parametrize(
    ("trouble", "why"), [("away", "away"), ("failing", "1 of them were not taken")]
)
async def test_that_orders_of_a_silent_client_cannot_be_cancelled_is_told_once(
    made: Watched, trouble: str, why: str
) -> None:
    waiting: list[tuple[str, str]] = []
    made.watch.not_dealt_with.listen(lambda key, why: waiting.append((key, why)))
    await made.watch.beat("bot")
    setattr(made.broker, trouble, True)
    made.clock.advance(SECONDS + 1)
    await made.watch.look()
    need = made.watch.need()
    assert need
    assert need.code == "client-silent"
    assert f"(bot), and its opening orders could not be cancelled yet: {why}" in need.message
    made.clock.advance(TELL_SECONDS - 1)
    await made.watch.look()
    assert waiting == [], "a gateway that restarts is away for a moment"
    for _ in range(5):
        made.clock.advance(1)
        await made.watch.look()
    assert waiting == [("bot", why)]
    setattr(made.broker, trouble, False)
    await made.watch.look()
    need = made.watch.need()
    assert need
    assert need.message.endswith("its opening orders were cancelled")


async def test_who_is_heard_again_needs_nobody(made: Watched) -> None:
    await made.watch.beat("bot")
    made.broker.away = True
    made.clock.advance(SECONDS + 1)
    await made.watch.look()
    assert made.watch.need()
    await made.watch.beat("bot")
    assert made.watch.need() is None


async def test_who_is_silent_needs_a_person_after_a_restart_too(tmp_path: Path) -> None:
    before = Watched(tmp_path)
    await before.watch.beat("bot")
    await before.watch.beat("phone")
    before.clock.advance(SECONDS + 1)
    await before.watch.look()
    after = Watched(tmp_path)
    need = after.watch.need()
    assert need
    assert "(bot, phone)" in need.message
    await after.watch.beat("bot")
    await after.watch.leave("phone")
    assert after.watch.need() is None
    assert Watched(tmp_path).watch.need() is None


@pytest.mark.parametrize("silent", ["3", '["bot"]', '{"bot": "yesterday"}'])
async def test_a_damaged_list_of_the_silent_is_no_end(tmp_path: Path, silent: str) -> None:
    (tmp_path / FILE_NAME).write_text(f'{{"armed": ["phone"], "silent": {silent}}}')
    made = Watched(tmp_path)
    assert made.watch.need() is None
    made.clock.advance(SECONDS + 1)
    await made.watch.look()
    assert made.broker.cancels == 1, "who was armed is watched all the same"


async def test_whose_key_was_revoked_needs_nobody(made: Watched) -> None:
    """It can never be heard again, so nothing else would end it."""
    for key in ("bot", "phone"):
        await made.watch.beat(key)
    made.clock.advance(SECONDS + 1)
    await made.watch.look()
    made.watch.exists = lambda key: key != "bot"
    need = made.watch.need()
    assert need
    assert "(phone)" in need.message
    made.watch.exists = lambda _: False
    assert made.watch.need() is None

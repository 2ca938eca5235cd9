"""Who is told of a failed deploy, and by whom: the running bridge, else its program beside it."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from bridge.login.model import replay
from infrastructure.apply.host import alarm as alarm_module
from infrastructure.apply.host.alarm import Alarm
from infrastructure.apply.host.store import Store
from infrastructure.release_files import ADMIN_KEY_FILE, ALERTS_FILE
from infrastructure.runtime.base import Container, HostFailure
from tests.deploy.apply.fake import FakeRuntime, FakeWire

FAILURE = HostFailure("bridge-unhealthy", "the bridge does not become healthy", "./deploy.py logs")


class Bridge(HTTPServer):
    """Answers as the bridge does, with one status for all."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.asked: list[tuple[str, str, str | None, Any]] = []


class Handler(BaseHTTPRequestHandler):
    server: Bridge

    def _answer(self) -> None:
        size = int(self.headers.get("Content-Length", 0))
        body = json.loads(self.rfile.read(size)) if size else None
        self.server.asked.append((self.command, self.path, self.headers["X-API-KEY"], body))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with Bridge(200) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "prod"))
    found.lock("me")
    secrets = found.release("old") / "secrets"
    secrets.mkdir(parents=True)
    (found.release("old") / ALERTS_FILE).write_text("json://localhost\n")
    (found.release("old") / ADMIN_KEY_FILE).write_text("the-key\n")
    found.switch("old")
    return found


@pytest.mark.parametrize("problem", [OSError(12, "Cannot allocate memory"), KeyError("State")])
def test_an_alarm_that_cannot_be_sent_is_said_and_hides_nothing(
    store: Store, problem: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime, wire = running("exited"), FakeWire()
    runtime.fails["aside bridge alerts tell deploy-failed"] = problem
    alarm(store, runtime, 1, wire).failed("`up`", "me", FAILURE, "It serves again.")
    (said,) = wire.told()
    assert said.startswith("nobody could be told of it: ")
    monkeypatch.setattr(runtime, "containers", lambda: 1 // 0)
    alarm(store, runtime, 1, wire).failed("`up`", "me", FAILURE, "It serves again.")
    assert len(wire.told()) == 2


def running(state: str = "running") -> FakeRuntime:
    return FakeRuntime(Container("bridge", "bridge-1", state=state))


def alarm(store: Store, runtime: FakeRuntime, port: int, wire: FakeWire | None = None) -> Alarm:
    return Alarm(store, runtime, wire or FakeWire(), {"bridge": {"port": port}})


def test_the_running_bridge_is_asked(store: Store, bridge: Bridge) -> None:
    runtime = running()
    alarm(store, runtime, bridge.server_port).failed("`up`", "me", FAILURE, "It serves again.")
    text = "`up` by me: the bridge does not become healthy.\n\nIt serves again.\n./deploy.py logs"
    wanted = {"event": "deploy-failed", "text": text}
    assert bridge.asked == [("POST", "/alerts", "the-key", wanted)]
    assert runtime.done == []


def test_a_text_is_no_longer_than_the_bridge_takes(store: Store, bridge: Bridge) -> None:
    long = HostFailure("x", "y" * 5000)
    alarm(store, running(), bridge.server_port).failed("`up`", "me", long, "")
    assert len(bridge.asked[0][3]["text"]) == 1000


@pytest.mark.parametrize(("status", "state"), [(404, "running"), (500, "running"), (200, "exited")])
def test_its_program_is_run_beside_it_when_it_does_not_tell(
    store: Store, bridge: Bridge, status: int, state: str
) -> None:
    bridge.status, runtime = status, running(state)
    alarm(store, runtime, bridge.server_port).failed("`up`", "me", FAILURE, "")
    assert runtime.done == ["aside bridge alerts tell deploy-failed"]
    assert "does not become healthy" in runtime.texts[0]


def test_that_nobody_could_be_told_is_said_and_is_no_failure(store: Store) -> None:
    runtime, wire = running("exited"), FakeWire()
    runtime.sends = False
    alarm(store, runtime, 9, wire).failed("`up`", "me", FAILURE, "")
    assert wire.told() == ["nobody could be told of it: error: no address"]
    runtime.fails["aside bridge alerts tell deploy-failed"] = HostFailure("docker-stuck", "stuck")
    alarm(store, runtime, 9, wire).failed("`up`", "me", FAILURE, "")
    assert wire.told()[1:] == ["nobody could be told of it: stuck"]


def test_without_addresses_nobody_is_asked(store: Store, bridge: Bridge) -> None:
    (store.release("old") / ALERTS_FILE).unlink()
    runtime = running("exited")
    one = alarm(store, runtime, bridge.server_port)
    one.failed("`up`", "me", FAILURE, "")
    one.waiting(replay("1 launch\n2 attempt\n3 push\n"))
    assert (bridge.asked, runtime.done) == ([], [])


def test_a_login_that_waits_is_left_to_the_bridge_where_one_answers(
    store: Store, bridge: Bridge
) -> None:
    runtime = running()
    alarm(store, runtime, bridge.server_port)._wait_and_tell("It waits.", "waiting-2fa")
    assert [asked[:2] for asked in bridge.asked] == [("GET", "/ping")]
    assert runtime.done == []


def test_a_login_that_waits_is_told_when_no_bridge_does(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alarm_module, "BRIDGE_STARTS_WITHIN", 0.1)
    runtime = running("exited")
    waits = replay("1 launch\n2 attempt\n3 push\n4 code\n")
    alarm(store, runtime, 9).waiting(waits)
    wait_for_text(runtime)
    assert runtime.done == ["aside bridge alerts tell waiting-2fa"]
    assert "a code has to be typed" in runtime.texts[0]
    assert "IBKR Mobile" not in runtime.texts[0]


def wait_for_text(runtime: FakeRuntime) -> None:
    deadline = time.monotonic() + 40
    while not runtime.texts and time.monotonic() < deadline:
        time.sleep(0.01)


def test_a_window_that_waits_is_told_as_that(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alarm_module, "BRIDGE_STARTS_WITHIN", 0.1)
    runtime = running("exited")
    alarm(store, runtime, 9).waiting(replay("1 launch\n2 attempt\n3 blocker Login Messages\n"))
    wait_for_text(runtime)
    assert runtime.done == ["aside bridge alerts tell login-blocked"]
    assert "Login Messages" in runtime.texts[0]


class Clock:
    """Time that passes by sleeping alone."""

    def __init__(self) -> None:
        self.now = 70.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def test_a_bridge_that_starts_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = Clock(), list[float]()
    monkeypatch.setattr(alarm_module, "time", clock)
    runtime = running("exited")
    one = alarm(store, runtime, 9)

    def ask(*_: object) -> int:
        asked.append(clock.now)
        return 0

    monkeypatch.setattr(one, "_ask", ask)
    one._wait_and_tell("It waits.", "waiting-2fa")
    assert asked == [70.0 + second for second in range(20)]
    assert runtime.texts == [
        "It waits.\n\nThe bridge does not run, and cannot say when it is done."
    ]
    monkeypatch.setattr(one, "_ask", lambda *_: 200 if clock.now > 95 else 0)
    one._wait_and_tell("It waits.", "waiting-2fa")
    assert (clock.now, len(runtime.texts)) == (96.0, 1), "it runs by now, and tells it by itself"


def test_what_a_login_waits_for_is_a_sentence(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    ended = threading.Event()

    def tell(_: Alarm, what: str, event: str) -> None:
        assert event == "waiting-2fa"
        told.append(what)
        ended.set()

    monkeypatch.setattr(Alarm, "_wait_and_tell", tell)
    login = replay("1 launch\n2 attempt\n3 push\n")
    alarm(store, running(), 9).waiting(login)
    assert ended.wait(40)
    assert told[0].startswith("Waiting for 2FA")
    assert login.told in f"w{told[0][1:]}"


def test_no_bridge_has_no_status(store: Store, bridge: Bridge) -> None:
    for runtime in (running("exited"), FakeRuntime()):
        assert alarm(store, runtime, bridge.server_port)._ask("GET", "/ping") == 0
    bridge.status = 418
    assert alarm(store, running(), bridge.server_port)._ask("GET", "/ping") == 418


def test_an_engine_that_does_not_answer_is_no_bridge(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = running()

    def stuck() -> list[Container]:
        raise HostFailure("docker-stuck", "stuck")

    monkeypatch.setattr(runtime, "containers", stuck)
    assert alarm(store, runtime, 9)._ask("GET", "/ping") == 0
    alarm(store, runtime, 9).failed("`up`", "me", FAILURE, "")
    assert runtime.done == ["aside bridge alerts tell deploy-failed"]


def test_the_program_beside_it_has_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[Any, ...]] = []
    runtime = running("exited")

    def aside(*all_of: Any) -> tuple[bool, str]:
        given.append(all_of)
        return True, ""

    monkeypatch.setattr(runtime, "aside", aside)
    alarm(store, runtime, 9).failed("`up`", "me", FAILURE, "")
    ((service, arguments, _, seconds),) = given
    assert (service, arguments, seconds) == ("bridge", ["alerts", "tell", "deploy-failed"], 60.0)

"""The wait for a login: whose budget, what is held, what passes by itself, and what is told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infrastructure.apply.host import health_gate as gate_module
from infrastructure.apply.host import operate
from infrastructure.apply.host.deploy import Deploy
from infrastructure.apply.host.health_gate import Gate, WaitingForPerson
from infrastructure.apply.host.main import Program
from infrastructure.apply.host.operate import Operator
from infrastructure.apply.host.store import Store
from infrastructure.apply.protocol.documents import Checks
from infrastructure.apply.protocol.events import Done
from infrastructure.apply.protocol.requests import ApplyRequest, RestartRequest
from infrastructure.runtime.base import Container, HostFailure
from tests.deploy.apply.fake import FakeRuntime, FakeWire

STAMP = "2026-11-21 03:14:39:375 IBC: "
PUSH = "detected dialog entitled: Second Factor Authentication; event=Opened"


class Clock:
    """Time that passes only when the gate sleeps."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(gate_module, "time", found)
    monkeypatch.setattr(gate_module, "POLL", 5.0)
    return found


class Gateway(FakeRuntime):
    """A gateway whose container writes down events as the clock goes on: `{second: event}`."""

    def __init__(self, clock: Clock, story: dict[float, str], **more: Any) -> None:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(clock.now))
        values = {"state": "running", "health": "starting", "since": started, **more}
        super().__init__(Container("gateway", "gateway-1", **values))
        self.clock, self.story, self.began = clock, story, clock.now

    def login_facts(self) -> dict[str, str]:
        passed = self.clock.now - self.began
        lines = [
            f"{int(self.began + second)} {event}\n"
            for second, event in self.story.items()
            if second <= passed
        ]
        return {"paper": "".join(lines)} if lines else {}


def gate(runtime: FakeRuntime, wire: FakeWire, wait: float = 300, person: float = 600) -> Gate:
    checks: Checks = {"gateway": {"twoFactorWait": person, "sessions": ["paper"]}}
    return Gate(runtime, wire, checks, wait)


def begun(**story: str) -> dict[float, str]:
    told = {float(second.removeprefix("at")): event for second, event in story.items()}
    return {0: "launch password", 1: "attempt 1", **told}


def test_one_budget_for_a_dialog_that_opens_again_and_again(clock: Clock) -> None:
    story = begun()
    for number in range(20):
        at = 10.0 + 190 * number
        story |= {at: "push", at + 182: "duration 182", at + 183: "asked-again"}
        story |= {at + 188: f"attempt {number + 2}"}
    began, wire = clock.now, FakeWire()
    with pytest.raises(WaitingForPerson) as caught:
        gate(Gateway(clock, story), wire).run()
    assert 600 <= clock.now - began <= 625
    assert caught.value.told == "waiting for 2FA: approve on IBKR Mobile"
    assert wire.told().count(caught.value.told) == 1


def test_the_wait_for_a_person_does_not_use_up_the_other_budget(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at10="push", at500="duration 40", at510="login"))
    gate(runtime, FakeWire(), wait=60).run()
    assert clock.now - runtime.began < 530


def test_what_is_held_is_not_stopped_and_told_with_its_reason(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at10="refused", at11="held bad-credentials"))
    runtime.logs["gateway-1"] = ["xkbcomp noise"] * 500 + [
        STAMP + "detected dialog entitled: Unrecognized Username or Password; event=Opened"
    ]
    with pytest.raises(HostFailure) as caught:
        gate(runtime, FakeWire()).run()
    assert caught.value.code == "bad-credentials"
    assert "noise" not in caught.value.details
    assert "Unrecognized" in caught.value.details
    assert runtime.done == [], "its container holds it by itself"


def test_a_window_waits_for_a_person(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at10="blocker Login Messages"))
    with pytest.raises(WaitingForPerson) as caught:
        gate(runtime, FakeWire(), person=30).run()
    assert caught.value.told == "a window waits for an answer: Login Messages"
    assert "vnc" in caught.value.hint


def test_a_broker_that_lets_nobody_in_fails_late_and_says_why(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at10="failed", at12="exit 0", at13="pause 60"))
    began = clock.now
    with pytest.raises(HostFailure) as caught:
        gate(runtime, FakeWire(), wait=200).run()
    assert clock.now - began >= 200
    assert caught.value.code == "gateway-unhealthy"
    assert "IBKR refuses logins without a reason" in caught.value.message
    assert "by themselves" in caught.value.hint


def test_a_gateway_that_ends_in_the_brokers_maintenance_is_left_to_itself(clock: Clock) -> None:
    class Ending(Gateway):
        def containers(self) -> list[Container]:
            away = 12 <= self.clock.now - self.began < 60
            self.existing[0].state = "restarting" if away else "running"
            return super().containers()

    runtime = Ending(clock, begun(at10="failed", at12="exit 1", at200="attempt 1", at210="login"))
    gate(runtime, FakeWire()).run()
    assert clock.now - runtime.began >= 210
    assert runtime.done == []


def test_one_that_ends_for_another_reason_is_stopped(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at0="launch password"))
    runtime.existing[0].state, runtime.existing[0].exit_code = "restarting", 1
    runtime.logs["gateway-1"] = ["Error: no jars"]
    with pytest.raises(HostFailure) as caught:
        gate(runtime, FakeWire()).run()
    assert caught.value.code == "gateway-ended"
    assert runtime.done == ["stop gateway-1"]


@pytest.mark.parametrize(("code", "named"), [(77, "bad-credentials"), (78, "configuration")])
def test_exit_codes_that_forbid_another_try(clock: Clock, code: int, named: str) -> None:
    runtime = Gateway(clock, {})
    runtime.existing[0].state, runtime.existing[0].exit_code = "restarting", code
    with pytest.raises(HostFailure) as caught:
        gate(runtime, FakeWire()).run()
    assert caught.value.code == named
    assert runtime.done == ["stop gateway-1"]


# --- what a person asks for -----------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(str(tmp_path / "prod"))
    found.lock("me")
    for name in ("old", "new"):
        found.release(name).mkdir(parents=True)
        (found.release(name) / "release.json").write_text("{}")
    found.switch("old")
    yield found
    found.unlock()


def played(clock: Clock) -> SimpleNamespace:
    """The module `time`, by this clock."""
    own = {name: getattr(clock, name) for name in ("time", "monotonic", "sleep")}
    return SimpleNamespace(**{**vars(time), **own})


def restart(store: Store, runtime: FakeRuntime, *, cold: bool) -> Done:
    checks: Checks = {"gateway": {"sessions": ["paper"], "twoFactorWait": 1}}
    request = RestartRequest("gateway", cold, [14004], checks, wait=30, by="me")
    return Operator(store, runtime, FakeWire()).restart(request)


class Soft(Gateway):
    def soft_restart(self, container: Container, ports: Any) -> bool:
        self.done.append("soft")
        return True


def test_a_cold_restart_begins_afresh_without_a_saved_session(store: Store, clock: Clock) -> None:
    runtime = Soft(clock, begun(at5="login"))
    restart(store, runtime, cold=True)
    assert runtime.afresh == ["gateway-1 cold"]
    assert runtime.done == ["restart gateway-1"]


def test_a_soft_restart_while_2fa_waits_begins_a_new_login(store: Store, clock: Clock) -> None:
    """There is no session to keep; the gateway's command server would refuse."""
    runtime = Soft(clock, begun(at2="push"))
    clock.now += 10
    restart(store, runtime, cold=False)
    assert "soft" not in runtime.done
    assert runtime.afresh == ["gateway-1"]


def test_a_gateway_that_is_logged_in_restarts_softly(store: Store, clock: Clock) -> None:
    runtime = Soft(clock, begun(at2="login", at20="login"))
    clock.now += 10
    with pytest.raises(HostFailure):  # the story has no second login after this moment
        restart(store, runtime, cold=False)
    assert runtime.done == ["soft"]
    assert runtime.afresh == []


@pytest.mark.parametrize(
    "story",
    [
        {0.0: "launch password", 1.0: "login", 5.0: "restarting"},
        {0.0: "launch password", 1.0: "login", 5.0: "restarting", 8.0: "launch token"},
    ],
    ids=["restarting", "begins with its token"],
)
def test_a_session_that_is_just_being_kept_is_not_broken_off(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, story: dict[float, str]
) -> None:
    """The nightly restart, or the one that was asked for before a connection was lost."""
    runtime = Soft(clock, {**story, 30.0: "login"})
    clock.now += 10
    monkeypatch.setattr(operate, "time", played(clock))
    assert restart(store, runtime, cold=False).kept
    assert (runtime.done, runtime.afresh) == ([], [])


def test_a_restart_that_hangs_is_no_session_that_is_kept(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = {0.0: "launch password", 1.0: "login", 5.0: "restarting", 1000.0: "login"}
    runtime = Soft(clock, story)
    clock.now += 700
    monkeypatch.setattr(operate, "time", played(clock))
    with contextlib.suppress(HostFailure):
        restart(store, runtime, cold=False)
    assert runtime.done[:1] == ["restart gateway-1"]


@pytest.mark.parametrize("own", ["login", "login\n{at} restarting"])
@pytest.mark.parametrize("other", ["push", "held bad-credentials"])
def test_one_session_is_not_ended_for_the_other(
    store: Store, clock: Clock, monkeypatch: pytest.MonkeyPatch, other: str, own: str
) -> None:
    runtime = Soft(clock, {})
    monkeypatch.setattr(operate, "time", played(clock))
    at = int(clock.now) - 100
    monkeypatch.setattr(
        runtime,
        "login_facts",
        lambda: {
            "live": f"{at} launch password\n{at + 1} {own.format(at=at + 2)}\n",
            "paper": f"{at} launch password\n{at + 1} {other}\n",
        },
    )
    checks: Checks = {"gateway": {"sessions": ["live", "paper"], "twoFactorWait": 1}}
    request = RestartRequest("gateway", False, [14003, 14004], checks, wait=30, by="me")
    with pytest.raises(HostFailure) as refused:
        Operator(store, runtime, FakeWire()).restart(request)
    assert refused.value.code == "soft-restart-refused"
    assert "live has a session" in refused.value.message
    assert (runtime.done, runtime.afresh) == ([], [])


def test_up_on_a_held_gateway_begins_afresh(clock: Clock) -> None:
    runtime = Gateway(clock, begun(at5="refused", at6="held bad-credentials"))
    clock.now += 10
    wire = FakeWire()
    program = Program(wire)
    program._chosen, program._found = runtime, runtime.existing
    program._free_held({"gateway": {"sessions": ["paper"]}})
    assert runtime.afresh == ["gateway-1 cold"]
    assert runtime.done == ["restart gateway-1"]
    assert "begins afresh" in wire.told()[0]
    program._free_held({"bridge": {}})
    runtime.story = begun(at5="login")
    program._free_held({"gateway": {"sessions": ["paper"]}})
    assert runtime.done == ["restart gateway-1"], "only what is held, and only when it is meant"


def test_a_new_gateway_begins_afresh_and_a_restored_one_does_not(store: Store) -> None:
    old = [
        Container(name, f"{name}-1", state="running", health="healthy", hash="old")
        for name in ("gateway", "bridge")
    ]
    runtime = FakeRuntime(*old)
    runtime.healthy["bridge-2"] = False
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update", "bridge": "update"},
        services=[],
        checks={"gateway": {"sessions": ["paper"], "twoFactorWait": 0}, "bridge": {}},
        wait=0.2,
    )
    with pytest.raises(HostFailure) as caught:
        Deploy(store, runtime, FakeWire(), request).run()
    assert runtime.afresh == ["gateway-2"]
    assert "start gateway-1" in runtime.done
    assert caught.value.restored


def test_a_restored_gateway_that_waits_for_2fa_is_not_called_serving(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Waiting(FakeRuntime):
        def start(self, containers: Any) -> None:
            super().start(containers)
            for one in containers:
                if one.id == "gateway-1":
                    one.health = "starting"
                    self.healthy["gateway-1"] = False
                    self.logs["gateway-1"] = [STAMP + PUSH]

    monkeypatch.setattr(gate_module, "POLL", 0.0)
    old = [
        Container(name, f"{name}-1", state="running", health="healthy", hash="old")
        for name in ("gateway", "bridge")
    ]
    runtime = Waiting(*old)
    runtime.healthy["bridge-2"] = False
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update", "bridge": "update"},
        services=[],
        checks={"gateway": {"sessions": ["paper"], "twoFactorWait": 0}, "bridge": {}},
        wait=0.2,
    )
    made = Deploy(store, runtime, FakeWire(), request)
    with pytest.raises(HostFailure) as caught:
        made.run()
    assert not caught.value.restored
    assert "put back, but does not serve yet: waiting for 2FA" in made._then


def test_no_gateway_takes_a_session_that_was_left_to_another_side(store: Store) -> None:
    runtime = FakeRuntime(Container("gateway", "gateway-1", state="running", health="healthy"))
    runtime.healthy["gateway-2"] = False
    runtime.logs["gateway-2"] = [STAMP + "let the other session proceed (scenario 2)"]
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update"},
        services=[],
        checks={"gateway": {"sessions": ["paper"]}},
        wait=0.2,
    )
    with pytest.raises(HostFailure) as caught:
        Deploy(store, runtime, FakeWire(), request).run()
    assert caught.value.code == "session-taken"
    assert "start gateway-1" not in runtime.done


def test_a_restart_says_how_it_went_and_how_long_it_took(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    moments = iter([100.0, 107.26, 108.34])
    clock = SimpleNamespace(monotonic=lambda: next(moments), time=time.time)
    monkeypatch.setattr(operate, "time", SimpleNamespace(**vars(clock), **STAMPS))
    runtime = FakeRuntime(Container("bridge", "bridge-1", state="running", health="healthy"))
    request = RestartRequest("bridge", False, [], {"bridge": {}}, wait=30, by="me")
    done = Operator(store, runtime, FakeWire()).restart(request)
    assert (done.result, done.healthy, done.restored, done.kept) == ("healthy", True, False, False)
    assert (done.release, done.seconds) == ("old", 8.3)
    last = store.ledger()[-1]
    assert (last["command"], last["result"], last["reason"]) == ("restart bridge", "healthy", "")
    assert (last["seconds"], last["by"], last["release"]) == (7.3, "me", "old")
    assert runtime.afresh == [], "only the gateway has a login"


def test_a_restart_that_nobody_saw_succeed_is_not_recorded_as_one(store: Store) -> None:
    runtime = FakeRuntime(Container("bridge", "bridge-1", state="running", health="healthy"))
    runtime.fails["restart bridge-1"] = TypeError("unknown")
    request = RestartRequest("bridge", False, [], {"bridge": {}}, wait=30, by="me")
    with pytest.raises(HostFailure, match="unexpected TypeError"):
        Operator(store, runtime, FakeWire()).restart(request)
    assert [entry["result"] for entry in store.ledger()] == ["failed"]


class Unreadable(FakeRuntime):
    """An engine whose answers nobody knows, once the container has been restarted."""

    def containers(self) -> list[Container]:
        if "restart bridge-1" in self.done:
            raise TypeError("'NoneType' object is not iterable")
        return super().containers()


def test_a_restart_whose_end_cannot_be_seen_is_recorded_as_failed(store: Store) -> None:
    runtime = Unreadable(Container("bridge", "bridge-1", state="running", health="healthy"))
    request = RestartRequest("bridge", False, [], {"bridge": {}}, wait=30, by="me")
    with pytest.raises(HostFailure, match="unexpected TypeError"):
        Operator(store, runtime, FakeWire()).restart(request)
    assert store.ledger()[-1]["result"] == "failed"


STAMPS = {"strftime": time.strftime, "gmtime": time.gmtime}


@pytest.mark.parametrize("service", ["bridge", "caddy", "portal"])
def test_only_a_gateway_is_asked_to_restart_inside(
    store: Store, clock: Clock, service: str
) -> None:
    runtime = Soft(clock, begun(at2="login"))
    runtime.existing = [Container(service, f"{service}-1", state="running", health="healthy")]
    request = RestartRequest(service, False, [14004], {service: {}}, wait=30, by="me")
    assert Operator(store, runtime, FakeWire()).restart(request).kept is False
    assert (runtime.done, runtime.afresh) == ([f"restart {service}-1"], [])


def test_a_gateway_that_takes_no_restart_goes_on_and_is_recorded(
    store: Store, clock: Clock
) -> None:
    class Refuses(Gateway):
        def soft_restart(self, container: Container, ports: Any) -> bool:
            raise HostFailure("soft-restart-refused", "IBC does not take the restart: no")

    runtime = Refuses(clock, begun(at2="login"))
    runtime.began -= 10
    with pytest.raises(HostFailure, match="does not take"):
        restart(store, runtime, cold=False)
    assert runtime.done == []
    assert store.ledger()[-1]["result"] == "failed"


class Starts(Gateway):
    """One that is not healthy at once."""

    def restart(self, container: Container) -> None:
        self.done.append(f"restart {container.id}")


def test_a_restart_that_waits_for_a_person_is_none_that_failed(store: Store, clock: Clock) -> None:
    runtime = Starts(clock, begun(at5="push"))
    done = restart(store, runtime, cold=True)
    assert (done.result, done.healthy) == ("waiting-2fa", False)
    assert done.told.startswith("waiting for 2FA")
    assert store.ledger()[-1]["result"] == "waiting-2fa"


def test_a_restart_that_fails_is_recorded_and_told(store: Store, clock: Clock) -> None:
    runtime = FakeRuntime(Container("bridge", "bridge-1", state="running"))
    runtime.fails["restart bridge-1"] = HostFailure("docker-stuck", "stuck")
    request = RestartRequest("bridge", False, [], {"bridge": {}}, wait=30, by="me")
    with pytest.raises(HostFailure):
        Operator(store, runtime, FakeWire()).restart(request)
    assert store.ledger()[-1]["reason"] == "stuck"
    runtime.fails.clear()
    runtime.healthy["bridge-1"] = False
    secrets = store.release("old") / "secrets"
    secrets.mkdir()
    (secrets / "bridge-alerts").write_text("json://localhost\n")

    class Ends(FakeRuntime):
        def restart(self, container: Container) -> None:
            container.state = "exited"
            container.exit_code = 3

    ends = Ends(Container("bridge", "bridge-1", state="running"))
    with pytest.raises(HostFailure) as failed:
        Operator(store, ends, FakeWire()).restart(request)
    assert failed.value.code == "bridge-ended"
    last = store.ledger()[-1]
    assert (last["command"], last["result"]) == ("restart bridge", "failed")
    assert last["reason"] == failed.value.message
    assert "aside bridge alerts tell deploy-failed" in ends.done
    assert "`restart bridge` by me: bridge ended on its own (exit code 3)" in ends.texts[0]
    assert "It was not put back." in ends.texts[0]


def test_a_restart_that_is_interrupted_is_recorded(store: Store, clock: Clock) -> None:
    runtime = Starts(clock, begun())
    checks: Checks = {"gateway": {"sessions": ["paper"], "twoFactorWait": 1}}
    request = RestartRequest("gateway", True, [14004], checks, wait=30, by="me")
    with pytest.raises(HostFailure, match="gateway goes on starting") as stopped:
        Operator(store, runtime, FakeWire(cancel_at="restarting")).restart(request)
    assert stopped.value.code == "interrupted"
    assert store.ledger()[-1]["result"] == "interrupted"


@pytest.mark.parametrize("code", [75, 76, 77, 78, 79, 1, None])
def test_a_gateway_that_ends_is_looked_at_by_its_exit_code(clock: Clock, code: int | None) -> None:
    runtime = Gateway(clock, begun(), state="exited", exit_code=code)
    with pytest.raises(HostFailure) as ended:
        gate(runtime, FakeWire()).run()
    known = {77: "bad-credentials", 78: "configuration"}
    assert (ended.value.code in known.values()) is (code in known)
    if code == 1:
        assert ended.value.message == "gateway ended on its own (exit code 1), and was stopped"
    if code is None:
        assert ended.value.message == "gateway ended on its own, and was stopped"


def test_a_healthy_gateway_needs_no_look_at_its_login(clock: Clock) -> None:
    runtime = Gateway(clock, {}, health="healthy")
    runtime.healthy["gateway-1"] = False  # the probe would say no; its own check said yes
    wire = FakeWire()
    gate(runtime, wire).run()
    assert [one["stage"] for one in wire.events] == ["ready"]
    assert clock.now == runtime.began


@pytest.mark.parametrize("health", ["starting", "none", "unhealthy"])
def test_one_that_is_not_healthy_yet_is_asked_once_it_is_logged_in(
    clock: Clock, health: str
) -> None:
    runtime = Probed(clock, begun(at20="login"), health=health)
    gate(runtime, FakeWire()).run()
    assert runtime.probed == [10, 10, 10, 10]
    assert clock.now == runtime.began + 35


class Probed(Gateway):
    """One whose API answers half a minute after it began."""

    def __init__(self, *all_of: Any, **more: Any) -> None:
        super().__init__(*all_of, **more)
        self.probed: list[float] = []

    def probe(self, container: Container, seconds: float) -> tuple[bool, str]:
        self.probed.append(seconds)
        return self.clock.now > self.began + 30, ""

"""When a stack is called healthy: a clock, containers and answers that follow a script.

Nothing here sleeps, and nothing runs: the gate asks its clock, its runtime and its questions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from infrastructure.apply.host.health_gate import (
    POLL,
    Gate,
    WaitingForPerson,
)
from infrastructure.apply.host.wire import Cancelled
from infrastructure.apply.protocol.documents import Checks
from infrastructure.health.probes import BRIDGE_PORT, reach
from infrastructure.runtime.base import Container, HostFailure
from tests.deploy.apply.fake import FakeRuntime, FakeWire

LOGIN: dict[float, str] = {0: "launch password", 1: "attempt 1"}
PUSH: dict[float, str] = LOGIN | {10: "push"}
BRIDGE: Checks = {"bridge": {"port": 8080}}
CADDY: Checks = {"caddy": {"address": "127.0.0.1", "port": 443, "name": "bridge.example"}}


Of = TypeVar("Of", int, bool)


class Script:
    """The clock, and all that happens at its seconds: `at` acts, `answers` speak for the bridge."""

    def __init__(self) -> None:
        self.began = self.now = 1_790_000_000.0
        self.at: dict[float, Callable[[], object]] = {}
        self.answers: dict[float, tuple[int, Any]] = {0: (200, {"state": "ready"})}
        self.serves: dict[float, tuple[bool, str]] = {0: (True, "")}
        self.asked: list[tuple[str, int, str]] = []

    @property
    def passed(self) -> float:
        return self.now - self.began

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.passed

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        for second in [second for second in self.at if second <= self.passed]:
            self.at.pop(second)()

    def ready(self, address: str, port: int, key: str) -> tuple[int, Any]:
        self.asked.append((address, port, key))
        return latest(self.answers, self.passed)

    def caddy(self, address: str, port: int, name: str) -> tuple[bool, str]:
        self.asked.append((address, port, name))
        return latest(self.serves, self.passed)


def latest(told: dict[float, tuple[Of, Any]], passed: float) -> tuple[Of, Any]:
    return told[max(second for second in told if second <= passed)]


class Stack(FakeRuntime):
    """Containers that run, and what the gateway's writes down: `{second: event}`."""

    def __init__(self, script: Script, *names: str, facts: dict[float, str] | None = None) -> None:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(script.now))
        super().__init__(
            *(
                Container(name, f"{name}-1", state="running", health="starting", since=since)
                for name in names
            )
        )
        self.script, self.facts_at = script, facts or {}

    def login_facts(self) -> dict[str, str]:
        lines = [
            f"{int(self.script.began + second)} {event}\n"
            for second, event in self.facts_at.items()
            if second <= self.script.passed
        ]
        return {"paper": "".join(lines)} if lines else {}


@pytest.fixture
def script() -> Script:
    return Script()


def wait(
    script: Script,
    runtime: FakeRuntime,
    checks: Checks,
    seconds: float = 60,
    wire: FakeWire | None = None,
    **more: Any,
) -> FakeWire:
    told = wire or FakeWire()
    more = {"stalled": dict, **more}  # this machine's own load is none of it
    Gate(runtime, told, checks, seconds, clock=script, questions=script, **more).run()
    return told


def gateway(person: float = 600) -> Checks:
    return {"gateway": {"sessions": ["paper"], "twoFactorWait": person}}


# --- a person is waited for -----------------------------------------------------------------------


@pytest.mark.parametrize("person", [30, 600])
def test_the_wait_for_2fa_has_its_own_budget(script: Script, person: float) -> None:
    waits: list[str] = []
    wire = FakeWire()
    with pytest.raises(WaitingForPerson) as caught:
        wait(
            script,
            Stack(script, "gateway", facts=PUSH),
            gateway(person),
            20,
            wire,
            on_waiting=lambda login: waits.append(login.told),
        )
    assert abs(script.passed - (10 + person)) <= 4 * POLL
    assert waits == [caught.value.told], "told once, when the wait begins"
    left = [event["left"] for event in wire.events if event["event"] == "waiting"]
    assert person - 1 <= left[0] <= person
    assert left[-1] == 0
    assert left == sorted(left, reverse=True)


def test_one_that_waits_at_the_first_look_is_told_once(script: Script) -> None:
    waits: list[str] = []
    runtime = Stack(script, "gateway", facts={0: "push", 60: "login"})
    wait(script, runtime, gateway(), 20, on_waiting=lambda login: waits.append(login.told))
    assert len(waits) == 1


def test_a_person_has_ten_minutes_where_nothing_else_is_said(script: Script) -> None:
    wire = FakeWire()
    checks: Checks = {"gateway": {"sessions": ["paper"]}}
    with pytest.raises(WaitingForPerson):
        wait(script, Stack(script, "gateway", facts={0: "push"}), checks, 20, wire)
    left = [event["left"] for event in wire.events if event["event"] == "waiting"]
    assert (left[0], left[-1]) == (600, 0)
    assert 600 <= script.passed <= 600 + 2 * POLL


def test_after_2fa_the_other_budget_goes_on_where_it_stood(script: Script) -> None:
    runtime = Stack(script, "gateway", facts=PUSH | {310: "login"})
    runtime.healthy["gateway-1"] = False
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, gateway(), 30)
    assert caught.value.code == "gateway-unhealthy"
    assert "logged in, but its API does not answer within 30 s" in caught.value.message
    assert 330 - 4 * POLL <= script.passed <= 330 + 4 * POLL


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("push", "waiting for 2FA: approve on IBKR Mobile"),
        ("blocker Login Messages", "a window waits for an answer: Login Messages"),
    ],
)
def test_ctrl_c_while_a_person_is_waited_for_leaves_the_login_alone(
    script: Script, event: str, told: str
) -> None:
    runtime, wire = Stack(script, "gateway", facts=LOGIN | {10: event}), FakeWire()
    script.at[40] = wire.cancel
    with pytest.raises(WaitingForPerson) as caught:
        wait(script, runtime, gateway(), 20, wire)
    assert script.passed < 42
    assert caught.value.told == told
    assert ("vnc" in caught.value.hint) == ("window" in told)
    assert runtime.done == []


def test_ctrl_c_before_that_is_a_stop(script: Script) -> None:
    runtime, wire = Stack(script, "gateway", facts=PUSH), FakeWire()
    script.at[5] = wire.cancel
    with pytest.raises(Cancelled):
        wait(script, runtime, gateway(), 20, wire)
    assert 5 <= script.passed < 10


def test_nobody_is_waited_for_once_the_client_is_gone(script: Script) -> None:
    wire = FakeWire()
    script.at[15] = wire.gone.set
    with pytest.raises(WaitingForPerson):
        wait(script, Stack(script, "gateway", facts=PUSH), gateway(), 20, wire)
    assert script.passed < 17


# --- the bridge -----------------------------------------------------------------------------------


def test_a_bridge_is_waited_for_until_it_is_connected(script: Script) -> None:
    script.answers = {0: (0, None), 5: (503, None), 9: (503, {"state": "connecting"})}
    script.answers[20] = (200, {"state": "ready"})
    wire = wait(script, Stack(script, "bridge"), BRIDGE, key=lambda: "first-key")
    assert 20 <= script.passed <= 20 + 2 * POLL
    assert wire.told() == ["connecting to the gateway", "bridge connected"]
    assert set(script.asked) == {("127.0.0.1", 8080, "first-key")}


def test_a_halted_bridge_is_healthy(script: Script) -> None:
    script.answers = {0: (503, {"state": "halted"})}
    wire = wait(script, Stack(script, "bridge"), BRIDGE)
    assert script.passed == 0
    assert wire.told()[-1] == "bridge connected"


def test_a_read_only_gateway_is_refused_at_once_with_what_to_do(script: Script) -> None:
    script.answers = {0: (503, {"state": "read-only"})}
    runtime = Stack(script, "bridge")
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, BRIDGE)
    assert script.passed == 0
    assert caught.value.code == "read-only-gateway"
    assert "refuses every order" in caught.value.message
    assert "gateway.read_only: false" in caught.value.hint
    assert "trading.read_only: true" in caught.value.hint
    assert runtime.done == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((0, None), ": no answer"),
        ((503, {"state": "connecting"}), ": /ready answers 503 connecting"),
        ((502, ["no object"]), ": /ready answers 502"),
    ],
)
def test_a_bridge_that_never_connects_fails_in_time_and_says_its_last_answer(
    script: Script, answer: tuple[int, Any], reason: str
) -> None:
    script.answers = {0: answer}
    runtime = Stack(script, "bridge")
    runtime.logs["bridge-1"] = ["the last words"]
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, BRIDGE, 60)
    assert 60 < script.passed <= 60 + 2 * POLL
    assert caught.value.code == "bridge-unhealthy"
    assert caught.value.message.endswith(f"within 60 s{reason}")
    assert caught.value.hint == "./deploy.py up --wait SECONDS gives it more time"
    assert caught.value.details == "the last words"


def test_a_bridge_without_a_port_is_asked_at_its_private_address(script: Script) -> None:
    runtime = Stack(script, "bridge")
    runtime.existing[0].addresses = ["172.30.0.3"]
    wait(script, runtime, {"bridge": {"port": 0}})
    assert script.asked == [("172.30.0.3", 8080, "")]


# --- containers that end --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bridge", "caddy", "gateway"])
def test_a_restart_loop_is_stopped_even_when_it_runs_at_each_look(
    script: Script, name: str
) -> None:
    runtime = Stack(script, name)
    runtime.healthy[f"{name}-1"] = False
    runtime.existing[0].restarts = 3  # from earlier days: these do not count
    script.at[20] = lambda: setattr(runtime.existing[0], "restarts", 4)
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, {name: {}})
    assert 20 <= script.passed <= 22
    assert caught.value.code == f"{name}-ended"
    assert runtime.done == [f"stop {name}-1"]


@pytest.mark.parametrize("state", ["exited", "dead", "restarting"])
def test_one_that_ended_is_stopped_and_its_exit_code_told(script: Script, state: str) -> None:
    runtime = Stack(script, "bridge")
    runtime.existing[0].state, runtime.existing[0].exit_code = state, 137
    runtime.logs["bridge-1"] = ["out of memory"]
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, BRIDGE)
    assert caught.value.message == "bridge ended on its own (exit code 137), and was stopped"
    assert caught.value.details == "out of memory"
    assert runtime.done == ["stop bridge-1"]


def test_one_that_ends_after_it_was_looked_at_is_noticed(script: Script) -> None:
    """The bridge waits for its gateway: that the gateway is gone says more than its own answer."""
    runtime = Stack(script, "gateway", "bridge", facts=LOGIN | {2: "login"})
    script.answers = {0: (503, {"state": "connecting"})}
    script.at[30] = lambda: setattr(runtime.existing[0], "state", "exited")
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, gateway() | BRIDGE)
    assert caught.value.code == "gateway-ended"
    assert 30 <= script.passed <= 32


def test_a_container_that_is_missing_is_named(script: Script) -> None:
    with pytest.raises(HostFailure) as caught:
        wait(script, Stack(script, "bridge"), {"caddy": {}})
    assert caught.value.code == "container-missing"
    assert "caddy" in caught.value.message


# --- Caddy, and the order -------------------------------------------------------------------------


def test_caddy_is_waited_for_but_not_its_public_certificate(script: Script) -> None:
    script.serves = {0: (False, "no answer on port 443: refused"), 8: (False, "no TLS for x yet")}
    public: Checks = {"caddy": {**CADDY["caddy"], "public": True}}
    wire = wait(script, Stack(script, "caddy"), public)
    assert 8 <= script.passed <= 8 + 2 * POLL
    assert wire.events[-1]["stage"] == "certificate"


def test_caddy_without_a_public_name_has_to_serve(script: Script) -> None:
    script.serves = {0: (False, "no TLS for x yet")}
    with pytest.raises(HostFailure) as caught:
        wait(script, Stack(script, "caddy"), CADDY, 30)
    assert caught.value.code == "caddy-unhealthy"
    assert caught.value.message == "Caddy does not serve within 30 s: no TLS for x yet"


def test_from_the_gateway_outwards(script: Script) -> None:
    runtime = Stack(script, "caddy", "bridge", "gateway", facts=LOGIN | {2: "login"})
    wire = wait(script, runtime, CADDY | BRIDGE | gateway())
    said = [event["service"] for event in wire.events if event["event"] == "stage"]
    assert said == sorted(said, key=["gateway", "bridge", "caddy"].index)
    assert set(said) == {"gateway", "bridge", "caddy"}


def test_other_jvm_flags_than_wanted_are_refused(script: Script) -> None:
    wanted: Checks = {"gateway": {**gateway()["gateway"], "jvm": ["-Xmx320m"]}}
    with pytest.raises(HostFailure) as caught:
        wait(script, Stack(script, "gateway", facts=LOGIN), wanted)
    assert caught.value.code == "jvm-flags"
    assert "-Xmx320m (is -Xmx256m)" in caught.value.message


# --- a busy machine -------------------------------------------------------------------------------


def test_a_busy_machine_comes_to_the_same_answer_later(script: Script) -> None:
    script.answers = {0: (503, {"state": "connecting"}), 200: (200, {"state": "ready"})}
    wait(
        script,
        Stack(script, "bridge"),
        BRIDGE,
        60,
        stretch=5.0,
        stalled=lambda: {"cpu": script.passed * 0.9, "io": script.passed * 0.1},
    )
    assert 200 <= script.passed <= 201


@pytest.mark.parametrize(
    ("share", "stretch", "ends"), [(0.0, 5.0, 60), (0.5, 5.0, 120), (1.0, 3.0, 180), (1.0, 1.0, 60)]
)
def test_the_budget_follows_what_the_machine_allows_and_has_an_end(
    script: Script, share: float, stretch: float, ends: float
) -> None:
    script.answers = {0: (503, {"state": "connecting"})}
    with pytest.raises(HostFailure) as caught:
        wait(
            script,
            Stack(script, "bridge"),
            BRIDGE,
            60,
            stretch=stretch,
            stalled=lambda: {"cpu": script.passed * share},
        )
    assert ends <= script.passed <= ends + 4 * POLL
    assert "within 60 s" in caught.value.message


def test_a_slow_machine_that_counts_nothing_is_waited_for_stage_by_stage(script: Script) -> None:
    """A gateway took most of the budget: what comes after it is reached later, too."""
    script.answers = {0: (503, {"state": "connecting"}), 75: (200, {"state": "ready"})}
    stack = Stack(script, "gateway", "bridge", facts={0: "launch password", 1: "attempt 1"})
    stack.healthy["gateway-1"] = True
    stack.facts_at[55] = "login"
    wait(script, stack, gateway() | BRIDGE, 60, stretch=3.0)
    assert 75 <= script.passed <= 76


def test_what_goes_round_in_circles_does_not_move(script: Script) -> None:
    facts: dict[float, str] = {0: "launch password"}
    for round_ in range(20):
        facts |= {round_ * 10 + 1: "attempt 1", round_ * 10 + 5: "launch password"}
    with pytest.raises(HostFailure):
        wait(script, Stack(script, "gateway", facts=facts), gateway(), 60, stretch=3.0)
    assert script.passed <= 100


# --- what to do about one that ended --------------------------------------------------------------


JAVA = "Unrecognized VM option 'UseWonders'"
MEMORY = "Could not reserve enough space for 900000KB object heap"


@pytest.mark.parametrize(
    ("name", "code", "line", "hint"),
    [
        ("gateway", 1, JAVA, "mend gateway.jvm in stack.yaml"),
        ("gateway", 1, MEMORY, "lower gateway.jvm.heap"),
        ("gateway", 137, MEMORY, "lower gateway.jvm.heap"),
        ("gateway", 137, "", "most often the memory was full"),
        ("gateway", 1, "no jars", "mend it (the end of gateway's log is above)"),
        ("bridge", 1, JAVA, "mend it (the end of bridge's log is above)"),
        ("bridge", 1, MEMORY, "mend it (the end of bridge's log is above)"),
        ("portal", 137, MEMORY, "most often the memory was full"),
        ("caddy", 136, "", "mend it (the end of caddy's log is above)"),
    ],
)
def test_what_to_do_about_one_that_ended_by_itself(
    script: Script, name: str, code: int, line: str, hint: str
) -> None:
    runtime = Stack(script, name)
    runtime.existing[0].state, runtime.existing[0].exit_code = "exited", code
    runtime.logs[f"{name}-1"] = [line]
    with pytest.raises(HostFailure) as caught:
        wait(script, runtime, {name: {}})
    assert caught.value.code == f"{name}-ended"
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize(
    ("published", "addresses", "found"),
    [
        (8080, ["192.0.2.1"], ("127.0.0.1", 8080)),
        (None, ["192.0.2.1", "192.0.2.2"], ("192.0.2.1", BRIDGE_PORT)),
        (None, [], ("127.0.0.1", BRIDGE_PORT)),
        (8080, [], ("127.0.0.1", 8080)),
    ],
)
def test_where_the_host_reaches_a_bridge(
    published: int | None, addresses: list[str], found: tuple[str, int]
) -> None:
    bridge = Container("bridge", "bridge-1", addresses=addresses)
    assert reach(bridge, published) == found

"""What a deploy does to containers, in which order, and how it puts things back."""

import contextlib
import dataclasses
import errno
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from infrastructure.apply.host import deploy as deploy_module
from infrastructure.apply.host import health_gate as gate_module
from infrastructure.apply.host import parking
from infrastructure.apply.host.deploy import LOGIN_TROUBLES, Deploy, _harmful
from infrastructure.apply.host.health_gate import Gate, WaitingForPerson
from infrastructure.apply.host.operate import Operator
from infrastructure.apply.host.store import NOTE, Store
from infrastructure.apply.protocol.documents import Check, Checks, ServiceImage
from infrastructure.apply.protocol.events import Done
from infrastructure.apply.protocol.requests import ApplyRequest, RollBackRequest
from infrastructure.release_files import ALERTS_FILE
from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.containers import Action
from tests.deploy.apply.fake import FakeRuntime, FakeWire

NAMES = ("gateway", "bridge", "caddy")


def running(name: str, **more: Any) -> Container:
    return Container(
        name, f"{name}-1", state="running", health="healthy", image_id="i", hash="old", **more
    )


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "POLL", 0.0)
    monkeypatch.setattr(gate_module, "LOOK", 0.0)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "prod"))
    found.lock("me")
    for name in ("old", "new"):
        found.release(name).mkdir(parents=True)
        (found.release(name) / "release.json").write_text("{}")
    found.switch("old")
    return found


def deploy(
    store: Store,
    runtime: FakeRuntime,
    changes: dict[str, Action],
    wire: FakeWire | None = None,
    *,
    builds: bool = False,
    images: dict[str, str] | None = None,
    command: str = "up",
    checks: Checks | None = None,
) -> Done:
    request = ApplyRequest(
        release="new",
        by="me",
        changes=changes,
        services=[
            ServiceImage(name, f"{name}:stable" if images else "i", builds) for name in changes
        ],
        checks={"gateway": {"twoFactorWait": 0}, "bridge": {}, "caddy": {}}
        if checks is None
        else checks,
        wait=0.2,
        images=images or {},
        command=command,
    )
    return Deploy(store, runtime, wire or FakeWire(), request).run()


def test_stop_first_one_after_the_other_and_the_old_ones_last(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    outcome = deploy(store, runtime, {"caddy": "update", "gateway": "update"})
    assert runtime.done == [
        *("check", "obtain", "create gateway caddy"),
        *("stop gateway-1", "start gateway-2", "stop caddy-1", "start caddy-2"),
        *("remove gateway-1", "remove caddy-1"),
    ]
    assert outcome.healthy is True
    assert store.current() == "new"
    assert store.ledger()[-1]["result"] == "healthy"
    assert store.pending() is None


def test_a_service_that_did_not_change_is_not_touched(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    deploy(store, runtime, {"bridge": "update"})
    assert not [action for action in runtime.done if "gateway" in action or "caddy" in action]


def test_failure_puts_the_old_containers_back(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["bridge-2"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert caught.value.code == "bridge-unhealthy"
    assert caught.value.restored
    assert runtime.done[3:] == [
        *("stop bridge-1", "start bridge-2"),
        *("stop bridge-2", "start bridge-1", "remove bridge-2"),
    ]
    assert store.current() == "old"
    assert store.ledger()[-1] | {"restored": True, "result": "failed"} == store.ledger()[-1]


def test_also_what_nobody_expected_puts_the_old_containers_back(store: Store) -> None:
    """A bug of ours, or an answer of the engine's that nobody knew, in the middle of an update."""
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.fails["start bridge-2"] = TypeError("'NoneType' object is not iterable")
    with pytest.raises(HostFailure, match="unexpected TypeError: 'NoneType'") as caught:
        deploy(store, runtime, {"bridge": "update"}, command="upgrade")
    assert caught.value.code == "unexpected"
    assert "Traceback" in caught.value.trace
    assert caught.value.details == ""
    assert caught.value.restored
    assert runtime.done[-1] == "remove bridge-2"
    assert (store.current(), store.pending(), store.refused()) == ("old", None, {})
    assert store.ledger()[-1]["restored"] is True


@pytest.mark.parametrize("problem", [HostFailure("docker-failed", "no disk"), KeyError("Health")])
def test_a_restore_that_fails_is_recorded_with_the_first_reason(
    store: Store, problem: Exception
) -> None:
    runtime, wire = FakeRuntime(*map(running, NAMES)), FakeWire()
    runtime.healthy["bridge-2"] = False
    runtime.fails["start bridge-1"] = problem
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire)
    assert (caught.value.code, caught.value.restored) == ("bridge-unhealthy", False)
    assert "the previous release could not be put back" in " ".join(wire.told())
    last = store.ledger()[-1]
    assert (last["result"], last["restored"]) == ("failed", False)
    assert store.pending() == {"release": "new", "previous": "old", "by": "me"}


@pytest.mark.parametrize("problem", [HostFailure("docker-failed", "no disk"), KeyError("Id")])
def test_what_cannot_be_tidied_up_is_no_failure(store: Store, problem: Exception) -> None:
    runtime, wire = FakeRuntime(*map(running, NAMES)), FakeWire()
    runtime.fails["remove bridge-1"] = problem
    assert deploy(store, runtime, {"bridge": "update"}, wire).healthy
    assert "could be removed, the next deploy tries again" in " ".join(wire.told())
    assert store.current() == "new"


def states(runtime: FakeRuntime, service: str = "") -> dict[str, str]:
    return {one.id: one.state for one in runtime.existing if service in ("", one.service)}


@pytest.mark.parametrize("step", ["stop caddy-2", "stop gateway-2", "stop bridge-2"])
def test_a_new_container_that_has_gone_by_itself_hinders_no_restore(
    store: Store, step: str
) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["bridge-2"] = False
    runtime.fails[step] = HostFailure("docker-failed", "docker stop: No such container: 2")
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, dict.fromkeys(NAMES, "update"))
    assert caught.value.restored
    assert states(runtime) == dict.fromkeys(("gateway-1", "bridge-1", "caddy-1"), "running")
    assert (store.current(), store.pending()) == ("old", None)


@pytest.mark.parametrize("error", [HostFailure("docker-stuck", "did not end"), OSError(12, "none")])
@pytest.mark.parametrize("what", ["stop", "start"])
@pytest.mark.parametrize("name", NAMES)
def test_whichever_step_of_the_way_back_fails_all_else_serves_again(
    store: Store, name: str, what: str, error: Exception
) -> None:
    runtime, wire = FakeRuntime(*map(running, NAMES)), FakeWire()
    runtime.healthy["bridge-2"] = False
    runtime.fails[f"{what} {name}-{2 if what == 'stop' else 1}"] = error
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, dict.fromkeys(NAMES, "update"), wire)
    assert (caught.value.code, caught.value.restored) == ("bridge-unhealthy", False)
    lost = {f"{name}-1"} if what == "start" or name == "gateway" else set()
    serves = {one for one, state in states(runtime).items() if state == "running"}
    assert {"gateway-1", "bridge-1", "caddy-1"} - serves == lost
    assert store.current() == "old"
    assert store.pending() is not None, "the next deploy still knows what served"
    assert name in wire.told()[-1]


def test_an_old_gateway_is_not_started_while_the_new_one_may_run(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["gateway-2"] = False
    runtime.fails["stop gateway-2"] = HostFailure("docker-stuck", "did not end within 400 s")
    with pytest.raises(HostFailure):
        deploy(store, runtime, {"gateway": "update", "bridge": "update"})
    assert "start gateway-1" not in runtime.done
    assert states(runtime, "gateway") == {"gateway-1": "exited", "gateway-2": "running"}


@pytest.mark.parametrize("room", [True, False])
def test_on_a_full_disk_the_old_containers_are_started_too(
    store: Store, monkeypatch: pytest.MonkeyPatch, room: bool
) -> None:
    """Removing the new ones may make the room that the link needs."""
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["bridge-2"] = False
    switch = store.switch

    def full(name: str | None) -> None:
        if name == "old" and not (room and "remove bridge-2" in runtime.done):
            raise HostFailure("disk-full", "the host's disk is full")
        switch(name)

    monkeypatch.setattr(store, "switch", full)
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert caught.value.restored is room
    assert states(runtime, "bridge")["bridge-1"] == "running"
    assert (store.pending() is None) is room


def test_what_serves_again_is_restored_whatever_cannot_be_tidied_up(store: Store) -> None:
    runtime = FakeRuntime(*(running(name, image="i:1") for name in NAMES))
    runtime.new_image = ("i:1", "fresh")
    runtime.healthy["bridge-2"] = False
    runtime.fails["rename i i:1"] = OSError(12, "Cannot allocate memory")
    runtime.fails["remove bridge-2"] = HostFailure("docker-failed", "it is busy")
    wire = FakeWire()
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire, builds=True)
    assert caught.value.restored
    assert "an image has not its name back" in " ".join(wire.told())


class Killed:
    """`old` -> `new` was killed: the healthy bridge of `old` is stopped, that of `new` starts."""

    def __init__(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(deploy_module, "RESTORED_WITHIN", 0.2)
        hashes = {"old": "old", "killed": "half", "new": "new"}
        for name, mark in hashes.items():
            store.release(name).mkdir(exist_ok=True)
            services = {**dict.fromkeys(NAMES, "old"), "bridge": mark}
            (store.release(name) / "release.json").write_text(json.dumps({"services": services}))
        store.begin(release="killed", previous="old", by="me")
        store.switch("killed")
        stopped = dataclasses.replace(running("bridge"), state="exited")
        half = Container("bridge", "bridge-2", 2, state="running", health="starting", hash="half")
        self.runtime = FakeRuntime(running("gateway"), stopped, half, running("caddy"))
        self.runtime.healthy["bridge-2"] = False


def test_after_a_killed_deploy_a_failure_goes_back_to_what_was_healthy(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Killed(store, monkeypatch).runtime
    runtime.healthy["bridge-3"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert caught.value.restored
    assert states(runtime, "bridge") == {"bridge-1": "running"}
    assert (store.current(), store.pending()) == ("old", None)
    assert store.ledger()[-1]["previous"] == "old"


def test_after_a_killed_deploy_the_old_ones_go_when_the_new_one_serves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Killed(store, monkeypatch).runtime
    assert deploy(store, runtime, {"bridge": "update"}).healthy
    assert states(runtime, "bridge") == {"bridge-3": "running"}
    assert runtime.done.index("start bridge-3") < runtime.done.index("remove bridge-1")


def test_of_a_killed_deploy_that_kept_nothing_of_before_what_runs_is_put_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Killed(store, monkeypatch).runtime
    runtime.existing = [one for one in runtime.existing if one.id != "bridge-1"]
    runtime.healthy |= {"bridge-2": True, "bridge-3": False}
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert caught.value.restored
    assert states(runtime, "bridge") == {"bridge-2": "running"}
    assert store.current() == "killed"


def test_a_killed_deploy_s_gateway_ends_before_another_one_starts(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Killed(store, monkeypatch).runtime
    runtime.existing[0].state = "exited"
    half = Container("gateway", "gateway-2", 2, state="running", health="healthy", hash="half")
    runtime.existing.append(half)
    runtime.healthy["bridge-3"] = False
    with pytest.raises(HostFailure):
        deploy(store, runtime, {"bridge": "update"})
    order = [did for did in runtime.done if did in ("stop gateway-2", "start gateway-1")]
    assert order == ["stop gateway-2", "start gateway-1"]
    assert states(runtime, "gateway") == {"gateway-1": "running"}


def test_the_marker_goes_before_what_was_replaced(store: Store) -> None:
    """Killed from here on, there is nothing to go back to: the new release was seen healthy."""
    marked: list[object] = []

    class Looking(FakeRuntime):
        def remove(self, containers: Sequence[Container]) -> None:
            marked.append(store.pending())
            super().remove(containers)

    deploy(store, Looking(*map(running, NAMES)), {"bridge": "update"})
    assert marked == [None]


@pytest.mark.parametrize("healthy", [True, False])
@pytest.mark.parametrize("what", ["end", "record", "pin", "prune"])
def test_what_comes_after_the_outcome_does_not_hide_it(
    store: Store, monkeypatch: pytest.MonkeyPatch, what: str, healthy: bool
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(store, what, fails)
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["bridge-2"] = healthy
    if healthy:
        assert deploy(store, runtime, {"bridge": "update"}).healthy
        return
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert (caught.value.code, caught.value.restored) == ("bridge-unhealthy", True)


def test_a_restore_that_is_not_what_it_was_is_not_called_restored(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["bridge-2"] = False
    runtime.healthy["bridge-1"] = False
    with pytest.raises(HostFailure) as caught:
        deploy_slow(store, runtime)
    assert not caught.value.restored


@pytest.mark.parametrize("changed", ["hash", "image_id"])
def test_a_restore_verifies_that_the_same_runs_as_before(store: Store, changed: str) -> None:
    """That the old container answers is not enough: it could run another configuration or image."""

    class Other(FakeRuntime):
        def start(self, containers: Sequence[Container]) -> None:
            super().start(containers)
            for index, one in enumerate(self.existing):
                if one in containers and one.id == "bridge-1":
                    self.existing[index] = dataclasses.replace(one)
                    setattr(self.existing[index], changed, "another")

    runtime, wire = Other(*map(running, NAMES)), FakeWire()
    runtime.healthy["bridge-2"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire)
    assert not caught.value.restored
    assert "bridge is not what it was before" in wire.told()


def deploy_slow(store: Store, runtime: FakeRuntime) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infrastructure.apply.host.deploy.RESTORED_WITHIN", 0.2)
        deploy(store, runtime, {"bridge": "update"})


@pytest.mark.parametrize("line", ["Too many failed login attempts", "Unrecognized Username"])
def test_no_gateway_logs_in_again_after_a_login_trouble(store: Store, line: str) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["gateway-2"] = False
    runtime.logs["gateway-2"] = [
        "Login attempt: 1",
        f"detected dialog entitled: {line} or Password; event=Opened",
    ]
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"gateway": "update"})
    assert caught.value.code in ("account-locked", "bad-credentials")
    assert not caught.value.restored
    assert "start gateway-1" not in runtime.done
    assert store.current() == "old"


@pytest.mark.parametrize("code", [*sorted(LOGIN_TROUBLES), "bridge-ended"])
def test_only_a_gateway_may_harm_a_login(code: str) -> None:
    for name in (*NAMES, "portal"):
        harmful = name == "gateway" and code != "bridge-ended"
        assert _harmful(Container(name, f"{name}-1"), code) is harmful


def test_a_login_trouble_stops_no_other_service(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["gateway-2"] = False
    runtime.logs["gateway-2"] = [
        "detected dialog entitled: Unrecognized Username or Password; event=Opened"
    ]
    with pytest.raises(HostFailure):
        deploy(store, runtime, {"gateway": "update", "bridge": "update"})
    assert "start gateway-1" not in runtime.done
    assert next(one for one in runtime.existing if one.id == "bridge-1").running


def test_waiting_for_a_person_keeps_the_new_release(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.healthy["gateway-2"] = False
    runtime.logs["gateway-2"] = [
        "Login attempt: 1",
        "detected dialog entitled: Second Factor Authentication; event=Opened",
    ]
    outcome = deploy(store, runtime, {"gateway": "update"})
    assert outcome.result == "waiting-2fa"
    assert store.current() == "new"
    assert "remove gateway-1" in runtime.done
    assert "stop gateway-2" not in runtime.done


def test_cancelling_restores(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    wire = FakeWire(cancel_at="starting bridge")
    runtime.healthy["bridge-2"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire)
    assert caught.value.code == "interrupted"
    assert caught.value.restored
    assert store.ledger()[-1]["result"] == "interrupted"


def test_cancelling_that_puts_nothing_back_says_so(store: Store) -> None:
    runtime, wire = FakeRuntime(*map(running, NAMES)), FakeWire(cancel_at="starting bridge")
    runtime.fails["start bridge-1"] = HostFailure("docker-failed", "docker start: no space left")
    with_alerts(store)
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update", "caddy": "update"}, wire)
    assert (caught.value.code, caught.value.restored) == ("interrupted", False)
    assert "not all is as it was" in caught.value.message
    assert "no space left" in caught.value.hint
    assert "aside bridge alerts tell deploy-failed" in runtime.done


def with_alerts(store: Store) -> None:
    for name in ("old", "new"):
        (store.release(name) / ALERTS_FILE).parent.mkdir(parents=True, exist_ok=True)
        (store.release(name) / ALERTS_FILE).write_text("ntfy://x")


def test_a_first_deploy_that_is_cancelled_tells_nobody_else(store: Store) -> None:
    store.switch(None)
    runtime, wire = FakeRuntime(), FakeWire(cancel_at="starting bridge")
    runtime.healthy["bridge-1"] = False
    with_alerts(store)
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, dict.fromkeys(NAMES, "create"), wire)
    assert caught.value.message == "interrupted"
    assert "Nothing ran before it" in caught.value.hint
    assert not [did for did in runtime.done if did.startswith("aside")]
    assert store.pending() is None


def test_a_first_deploy_that_fails_leaves_what_runs(store: Store) -> None:
    store.switch(None)
    runtime = FakeRuntime()
    runtime.healthy["bridge-1"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, dict.fromkeys(NAMES, "create"))
    assert not caught.value.restored
    assert store.current() == "new"
    assert not [action for action in runtime.done if action.startswith(("stop", "remove"))]


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("left", ["nothing", "stopped by hand"])
def test_where_nothing_ran_nothing_is_said_to_serve_again(
    store: Store, left: str, cancelled: bool
) -> None:
    """After `down`, too: a login that was just approved is not thrown away for nothing."""
    ended = list(map(running, NAMES)) if left != "nothing" else []
    for one in ended:
        one.state, one.health = "exited", "none"
    runtime, wire = FakeRuntime(*ended), FakeWire(cancel_at="starting caddy" if cancelled else "")
    runtime.healthy["caddy-2" if ended else "caddy-1"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, dict.fromkeys(NAMES, "create"), wire)
    assert caught.value.restored is False
    assert store.current() == "new"
    assert not [did for did in runtime.done if did.startswith(("stop gateway", "remove gateway"))]
    (entry,) = store.ledger()
    assert entry["restored"] is False
    assert not any("restoring" in text for text in wire.told())


def test_what_only_started_again_and_again_is_not_said_to_serve(store: Store) -> None:
    old = list(map(running, NAMES))
    for one in old:
        one.state, one.health = "restarting", "none"
    runtime = FakeRuntime(*old)
    runtime.fails["create caddy"] = HostFailure("docker-failed", "no such network")
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"caddy": "update"})
    assert store.current() == "old"
    assert caught.value.restored is False


def test_images_come_before_anything_is_touched(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.fails["obtain"] = HostFailure("image-unavailable", "no such image")
    with pytest.raises(HostFailure, match="no such image"):
        deploy(store, runtime, {"caddy": "update"})
    assert runtime.done == ["check", "obtain"]
    assert store.current() == "old"


def test_a_start_that_fails_restores(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    runtime.fails["start caddy-2"] = HostFailure("port-taken", "a port is taken")
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"caddy": "update"})
    assert caught.value.restored
    assert [one.id for one in runtime.existing if one.service == "caddy"] == ["caddy-1"]


def test_what_a_killed_deploy_left_is_removed_first(store: Store) -> None:
    left = Container("caddy", "caddy-2", 2, hash="half")
    runtime = FakeRuntime(*map(running, NAMES), left)
    deploy(store, runtime, {"bridge": "update"})
    assert "remove caddy-2" in runtime.done
    assert runtime.done.index("remove caddy-2") < runtime.done.index("create bridge")


@pytest.mark.parametrize("problem", [HostFailure("docker-failed", "it is busy"), OSError(5, "I/O")])
def test_what_cannot_be_removed_hinders_no_later_deploy(store: Store, problem: Exception) -> None:
    left = Container("caddy", "caddy-0", 0, state="exited", hash="half")
    runtime, wire = FakeRuntime(left, *map(running, NAMES)), FakeWire()
    runtime.fails["remove caddy-0"] = problem
    assert deploy(store, runtime, {"bridge": "update"}, wire).healthy
    assert "an old container of caddy stays" in wire.told()[0]


def test_a_second_gateway_that_runs_on_does(store: Store) -> None:
    left = Container("gateway", "gateway-0", 0, state="running", hash="half")
    runtime = FakeRuntime(left, *map(running, NAMES))
    runtime.fails["remove gateway-0"] = HostFailure("docker-failed", "it is busy")
    with pytest.raises(HostFailure, match="busy"):
        deploy(store, runtime, {"bridge": "update"})
    assert runtime.done == ["check", "obtain", "remove gateway-0"]


def test_removed_services_go_last(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES), running("portal"))
    deploy(store, runtime, {"portal": "remove"})
    assert runtime.done[-2:] == ["stop portal-1", "remove portal-1"]


def test_a_container_that_ends_is_stopped_at_once(store: Store) -> None:
    class Crashing(FakeRuntime):
        def start(self, containers: Any) -> None:
            super().start(containers)
            for one in containers:
                if one.id == "bridge-2":
                    one.state, one.health, one.exit_code = "restarting", "starting", 3

    runtime = Crashing(*map(running, NAMES))
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"})
    assert caught.value.code == "bridge-ended"
    assert caught.value.restored


def test_wrong_jvm_flags_fail_the_deploy(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update"},
        services=[],
        checks={"gateway": {"jvm": ["-Xmx999m"], "twoFactorWait": 0}},
        wait=0.2,
    )
    with pytest.raises(HostFailure, match=r"-Xmx999m \(is -Xmx256m\)"):
        Deploy(store, runtime, FakeWire(), request).run()


def test_a_stop_while_images_are_obtained_changes_nothing(store: Store) -> None:
    """The longest step of a first deploy, and the likeliest moment for Ctrl-C."""
    runtime, wire = FakeRuntime(*map(running, NAMES)), FakeWire()
    wire.cancel()
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire)
    assert caught.value.code == "interrupted"
    assert runtime.done == ["check", "obtain"]
    assert store.current() == "old"
    assert store.pending() is None


@pytest.mark.parametrize("cancelled", [True, False])
def test_what_was_built_and_not_started_keeps_no_name(store: Store, *, cancelled: bool) -> None:
    """`rebuild` that is stopped, or fails at another image: the next deploy starts what served."""

    class Builder(FakeRuntime):
        def obtain(self, *given: Any) -> None:
            self.images["i:1"] = "fresh"
            super().obtain(*given)

    runtime, wire = Builder(*(running(name, image="i:1") for name in NAMES)), FakeWire()
    if cancelled:
        wire.cancel()
    else:
        runtime.fails["obtain"] = HostFailure("image-unavailable", "no registry")
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update"}, wire, builds=True)
    assert caught.value.code == ("interrupted" if cancelled else "image-unavailable")
    assert runtime.done == ["check", "obtain", "rename i i:1", "drop fresh"]
    assert runtime.images == {"i:1": "i"}


@pytest.mark.parametrize("healthy", [True, False])
def test_a_rebuilt_image_keeps_its_name_only_when_it_serves(store: Store, healthy: bool) -> None:
    """A rebuild takes the name away from the image that served until then."""
    runtime = FakeRuntime(*(running(name, image="i:1") for name in NAMES))
    runtime.new_image = ("i:1", "fresh")
    runtime.healthy["bridge-2"] = healthy
    if healthy:
        deploy(store, runtime, {"bridge": "update"}, builds=True)
        assert runtime.done[-1] == "drop i"
        assert not [action for action in runtime.done if action.startswith("rename")]
        return
    with pytest.raises(HostFailure):
        deploy(store, runtime, {"bridge": "update"}, builds=True)
    assert runtime.done[-2:] == ["rename i i:1", "drop fresh"]


ENDS = {"live": "14003 PAUSE"}
LOGGED_IN = "1700000000 boot\n1700000001 parks\n1700000002 launch password\n1700000003 login\n"


def ends(store: Store, runtime: FakeRuntime, *, keep: bool, facts: str = LOGGED_IN) -> list[str]:
    """What a deploy does that exchanges a live gateway."""
    (store.release("old") / NOTE).write_text(json.dumps({"checks": {"gateway": {"ends": ENDS}}}))
    runtime.facts_of_logins = {"live": facts}
    check: Check = {"twoFactorWait": 0, "sessions": ["live"], "ends": ENDS}
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update"},
        services=[ServiceImage("gateway", "i", False)],
        checks={"gateway": check},
        wait=0.2,
        keep=keep,
    )
    Deploy(store, runtime, FakeWire(), request).run()
    return [did for did in runtime.done if did.startswith(("park", "stop"))]


@pytest.mark.parametrize(("keep", "word"), [(True, "PAUSE"), (False, "STOP")])
def test_a_gateway_ends_before_its_container(store: Store, keep: bool, word: str) -> None:
    """A token of another user would log that one in: only what the plan foresaw is kept."""
    runtime = FakeRuntime(running("gateway"))
    assert ends(store, runtime, keep=keep) == [f"park live 14003 {word}", "stop gateway-1"]


def test_a_gateway_that_does_not_end_is_stopped(store: Store) -> None:
    runtime = FakeRuntime(running("gateway"))
    runtime.parks = False
    assert ends(store, runtime, keep=True) == ["park live 14003 PAUSE", "stop gateway-1"]


@pytest.mark.parametrize(
    "facts",
    [
        LOGGED_IN.replace("1700000001 parks\n", ""),
        LOGGED_IN + "1700000004 exit 0\n1700000005 launch password\n1700000006 push\n",
        "",
    ],
    ids=["made by an earlier release", "waits for an approval", "nothing known"],
)
def test_only_what_is_logged_in_and_can_is_told_to_end(store: Store, facts: str) -> None:
    runtime = FakeRuntime(running("gateway"))
    if "push" in facts:
        runtime.existing[0].health = "starting"
    with contextlib.suppress(WaitingForPerson):
        assert ends(store, runtime, keep=True, facts=facts) == ["stop gateway-1"]
    assert not [did for did in runtime.done if did.startswith("park")]


def test_a_session_goes_back_when_the_new_release_fails(store: Store) -> None:
    runtime = FakeRuntime(running("gateway"), running("bridge"))
    (store.release("old") / NOTE).write_text(json.dumps({"checks": {"gateway": {"ends": ENDS}}}))
    runtime.facts_of_logins = {"live": LOGGED_IN}
    runtime.healthy["bridge-2"] = False
    check: Check = {"twoFactorWait": 0, "sessions": ["live"], "ends": ENDS}
    request = ApplyRequest(
        release="new",
        by="me",
        changes={"gateway": "update", "bridge": "update"},
        services=[ServiceImage(name, "i", False) for name in ("gateway", "bridge")],
        checks={"gateway": check, "bridge": {}},
        wait=0.2,
        keep=True,
    )
    with pytest.raises(HostFailure):
        Deploy(store, runtime, FakeWire(), request).run()
    parked = [did for did in runtime.done if did.startswith("park")]
    assert parked == ["park live 14003 PAUSE"] * 2


def with_images() -> FakeRuntime:
    runtime = FakeRuntime(*(running(name, image=f"{name}:stable") for name in NAMES))
    for one in runtime.existing:
        one.image_id = f"{one.service}-one"
        runtime.images[one.image] = one.image_id
    runtime.images["by digest"] = "gateway-two"
    runtime.new_image = ("gateway:stable", "gateway-two")
    return runtime


def test_a_full_disk_says_nothing_of_the_image(store: Store) -> None:
    runtime = with_images()
    runtime.fails["start gateway-2"] = OSError(errno.ENOSPC, "No space left on device")
    newer = {"gateway:stable": "gateway-two"}
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"gateway": "update"}, images=newer, command="upgrade")
    assert (caught.value.code, store.refused()) == ("disk-full", {})


def test_an_upgrade_moves_the_name_and_pins_what_serves(store: Store) -> None:
    runtime = with_images()
    newer = {"gateway:stable": "gateway-two"}
    deploy(store, runtime, {"gateway": "update"}, images=newer, command="upgrade")
    assert runtime.done.index("rename gateway-two gateway:stable") < runtime.done.index(
        "create gateway"
    )
    assert store.noted("new")["images"] == {
        "gateway:stable": "gateway-two",
        "bridge:stable": "bridge-one",
        "caddy:stable": "caddy-one",
    }
    assert store.refused() == {}


def test_an_upgrade_that_fails_gives_the_name_back_and_is_remembered(store: Store) -> None:
    runtime = with_images()
    runtime.healthy["gateway-2"] = False
    newer = {"gateway:stable": "gateway-two"}
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"gateway": "update"}, images=newer, command="upgrade")
    assert caught.value.restored
    assert runtime.images["gateway:stable"] == "gateway-one"
    [(refused, why)] = store.refused().items()
    assert refused == "sha256:of-gateway-two"
    assert "the gateway" in why


@pytest.mark.parametrize(
    ("fails", "why", "blamed"),
    [
        ("start caddy-2", HostFailure("port-taken", "a port is taken"), set()),
        ("stop gateway-1", HostFailure("docker-stuck", "no end"), set()),
        ("caddy", None, {"sha256:of-caddy-two"}),
        ("bridge", None, set()),  # which of the two lets it down is not known
        ("gateway", None, {"sha256:of-gateway-two"}),
    ],
)
def test_only_the_image_that_was_seen_to_fail_is_refused(
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    fails: str,
    why: HostFailure | None,
    blamed: set[str],
) -> None:
    monkeypatch.setattr(deploy_module, "RESTORED_WITHIN", 0.2)
    runtime = with_images()
    if why is not None:
        runtime.fails[fails] = why
    else:
        runtime.healthy["bridge-1" if fails == "bridge" else f"{fails}-2"] = False
        runtime.existing[1].health = "unhealthy" if fails == "bridge" else "healthy"
    runtime.images["caddy by digest"] = "caddy-two"
    newer = {"gateway:stable": "gateway-two", "caddy:stable": "caddy-two"}
    with pytest.raises(HostFailure):
        deploy(
            store,
            runtime,
            {"gateway": "update", "caddy": "update", "bridge": "unchanged"},
            images=newer,
            command="upgrade",
        )
    assert store.refused().keys() == blamed


@pytest.mark.parametrize(("taken", "refused"), [("gateway", True), ("caddy", False)])
def test_a_bridge_that_is_not_ready_condemns_only_a_new_gateway(
    store: Store, monkeypatch: pytest.MonkeyPatch, taken: str, refused: bool
) -> None:
    """Caddy has no part in a gateway that restarts at night meanwhile."""
    monkeypatch.setattr(deploy_module, "RESTORED_WITHIN", 0.2)
    runtime = with_images()
    runtime.healthy["bridge-1"] = False
    runtime.existing[1].health = "unhealthy"
    runtime.images["by digest"] = f"{taken}-two"
    runtime.new_image = (f"{taken}:stable", f"{taken}-two")
    with pytest.raises(HostFailure):
        deploy(
            store,
            runtime,
            {taken: "update", "bridge": "unchanged"},
            images={f"{taken}:stable": f"{taken}-two"},
            command="upgrade",
        )
    assert bool(store.refused()) is refused


def test_an_image_that_is_gone_stops_nothing(store: Store) -> None:
    runtime = with_images()
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"gateway": "update"}, images={"gateway:stable": "lost"})
    assert caught.value.code == "image-gone"
    assert runtime.done == ["check", "obtain"]


def test_a_rollback_takes_the_images_that_served_then(store: Store) -> None:
    runtime = with_images()
    (store.release("old") / "release.json").write_text(
        json.dumps({"services": dict.fromkeys(NAMES, "old")})
    )
    note = {"services": [], "checks": {}, "images": {"gateway:stable": "gateway-zero"}}
    (store.release("old") / "deploy.json").write_text(json.dumps(note))
    (store.release("old") / "compose.yaml").write_text("{}")
    runtime.images["kept"] = "gateway-zero"
    operator = Operator(store, runtime, FakeWire())
    assert operator.going_back("old").changes == {"gateway": "update"}
    runtime.new_image = ("gateway:stable", "gateway-zero")
    request = RollBackRequest("old", wait=0.2, by="me")
    assert operator.roll_back(request).healthy
    assert runtime.images["gateway:stable"] == "gateway-zero"
    assert not [action for action in runtime.done if "bridge" in action]


def test_what_is_newer_is_told_with_what_was_refused(store: Store) -> None:
    runtime = with_images()
    runtime.registry = {"gateway:stable": "sha256:of-gateway-two", "caddy:2": "sha256:of-caddy"}
    store.refuse("sha256:of-gateway-two", "it ended")
    found = Operator(store, runtime, FakeWire()).newer(
        {"gateway": "gateway:stable", "caddy": "caddy:2", "portal": "none:1"}
    )
    gateway, caddy, portal = found.services
    assert gateway.runs.digest == "sha256:of-gateway-one"
    assert gateway.found.digest == "sha256:of-gateway-two"
    assert gateway.refused.endswith(": it ended")
    assert (caddy.runs.name, caddy.found.digest) == ("caddy:stable", "sha256:of-caddy")
    assert (portal.found.digest, portal.why) == ("", "no such image")


class Clock:
    """Each look at it is a little later."""

    def __init__(self) -> None:
        self.now = 500.0

    def monotonic(self) -> float:
        self.now += 2.04
        return self.now


@pytest.mark.parametrize(
    ("gate", "before", "whole"),
    [
        (None, False, True),
        ({"bridge": {"port": 1}}, False, True),
        ({"bridge": {}}, False, False),
        ({}, False, False),
        ({}, True, True),
    ],
)
def test_what_was_looked_at_in_part_is_as_good_as_what_it_was_exchanged_in(
    store: Store, monkeypatch: pytest.MonkeyPatch, gate: Any, before: bool, whole: bool
) -> None:
    monkeypatch.setattr(Gate, "run", lambda *_: None)
    if before:
        store.record(release="old", command="up", result="healthy", whole=True)
    runtime = FakeRuntime(*map(running, NAMES))
    request = ApplyRequest("new", [], {}, {}, wait=0.2, by="me", gate=gate)
    assert Deploy(store, runtime, FakeWire(), request).run().healthy
    assert store.ledger()[-1]["whole"] is whole
    assert (store.proven(but=None) == "new") is whole


def test_how_long_it_took_is_told_and_recorded(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy_module, "time", Clock())
    done = deploy(store, FakeRuntime(), {}, checks={})
    assert (done.seconds, store.ledger()[-1]["seconds"]) == (2.0, 2.0)


def test_a_gateway_that_is_only_started_again_is_let_try_at_once(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    deploy(store, runtime, {"caddy": "restart", "gateway": "restart"})
    assert runtime.afresh == ["gateway-1"], "with the session that is saved"
    assert runtime.done[-2:] == ["restart gateway-1", "restart caddy-1"]


@pytest.mark.parametrize(
    "order", [("bridge", "portal", "gateway"), ("portal", "gateway", "bridge")]
)
def test_the_portal_comes_after_the_gateway_and_before_the_bridge(
    store: Store, order: tuple[str, ...]
) -> None:
    runtime = FakeRuntime(*map(running, order))
    deploy(store, runtime, dict.fromkeys(order, "update"), checks={})
    started = [done for done in runtime.done if done.startswith("start")]
    assert started == ["start gateway-2", "start portal-2", "start bridge-2"]


@pytest.mark.parametrize(
    "order", [("bridge", "portal", "gateway"), ("portal", "gateway", "bridge")]
)
def test_they_are_put_back_in_that_order_too(store: Store, order: tuple[str, ...]) -> None:
    runtime = FakeRuntime(*map(running, order))
    runtime.fails["start bridge-2"] = HostFailure("bridge-ended", "it ended")
    with pytest.raises(HostFailure):
        deploy(store, runtime, dict.fromkeys(order, "update"))
    back = [done for done in runtime.done if done.startswith("start") and done.endswith("-1")]
    assert back == ["start gateway-1", "start portal-1", "start bridge-1"]


@pytest.mark.parametrize("state", ["running", "restarting", "paused", "created", "dead"])
def test_only_what_runs_is_stopped(store: Store, state: str) -> None:
    one = running("bridge")
    one.state = state
    runtime = FakeRuntime(one)
    deploy(store, runtime, {"bridge": "update"}, checks={})
    assert ("stop bridge-1" in runtime.done) is (state in ("running", "restarting", "paused"))


def test_what_is_removed_goes(store: Store) -> None:
    runtime = FakeRuntime(*map(running, NAMES))
    deploy(store, runtime, {"caddy": "remove"}, checks={})
    assert runtime.done[2:] == ["stop caddy-1", "remove caddy-1"]


class ParksNothing(FakeRuntime):
    """One whose facts cannot be read now."""

    def login_facts(self) -> dict[str, str]:
        raise HostFailure("docker-stuck", "stuck")


@pytest.mark.parametrize(("ends", "state"), [({}, "running"), (ENDS, "exited")])
def test_where_nothing_can_be_told_to_end_nothing_is_asked(
    ends: dict[str, str], state: str
) -> None:
    gateway = Container("gateway", "gateway-1", state=state)
    runtime, wire = ParksNothing(gateway), FakeWire()
    parking.end(runtime, wire, gateway, {"ends": ends}, keep=True)
    parking.end(runtime, wire, gateway, {}, keep=True)
    assert (runtime.done, wire.told()) == ([], [])


@pytest.mark.parametrize(
    ("word", "keep", "sent", "told"),
    [
        ("PAUSE", True, "PAUSE", "the gateway ends and keeps its session"),
        ("PAUSE", False, "STOP", "the gateway ends and logs off"),
        ("STOP", True, "STOP", "the gateway ends and logs off"),
    ],
)
@pytest.mark.parametrize("parks", [True, False])
def test_how_a_gateway_that_is_logged_in_ends(
    word: str, keep: bool, sent: str, told: str, parks: bool
) -> None:
    gateway = Container("gateway", "gateway-1", state="running")
    runtime, wire = FakeRuntime(gateway), FakeWire()
    runtime.parks = parks
    now = int(time.time())
    lines = f"{now} launch password\n{now} parks\n{now} login\n"
    runtime.facts_of_logins = {"live": lines, "paper": f"{now} launch password\n{now} parks\n"}
    ends = {"live": f"14003 {word}", "paper": f"14004 {word}"}
    parking.end(runtime, wire, gateway, {"ends": ends}, keep=keep)
    assert runtime.done == [f"park live 14003 {sent}"]
    late = [] if parks else ["the gateway does not end by itself: it is stopped"]
    assert wire.told() == [told, *late]
    parking.end(runtime, wire, gateway, {"ends": {"live": "14003"}}, keep=keep)
    runtime.facts_of_logins = {"live": f"{now} launch password\n{now} login\n"}
    parking.end(runtime, wire, gateway, {"ends": ends}, keep=keep)
    assert len(runtime.done) == 1, "neither without a word nor where it cannot be"


@pytest.mark.parametrize("mounted", [None, {"r1"}, set()])
def test_where_it_cannot_be_seen_what_is_mounted_every_release_stays(
    store: Store, monkeypatch: pytest.MonkeyPatch, mounted: set[str] | None
) -> None:
    asked: list[list[int]] = []

    def seen(processes: Any) -> set[str] | None:
        asked.append(list(processes))
        return mounted

    monkeypatch.setattr(deploy_module, "mounted_releases", seen)
    for number in range(8):
        store.release(f"r{number}").mkdir()
        os.utime(store.release(f"r{number}"), (number, number))
    deploy(store, FakeRuntime(running("bridge", pid=7), running("caddy")), {}, checks={})
    gone = {f"r{number}" for number in range(8) if not store.release(f"r{number}").exists()}
    wanted = {"r0", "r1", "r2", "r3", "r4"} - (mounted or set())
    assert gone == (set() if mounted is None else wanted)
    assert asked == [[7]]

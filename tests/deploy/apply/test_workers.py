"""Workers on the host: when they start, their keys, and that nothing of theirs takes ours along."""

import stat
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infrastructure.apply.host import health_gate as gate_module
from infrastructure.apply.host import workers as workers_module
from infrastructure.apply.host.backup import FOLDERS
from infrastructure.apply.host.deploy import Deploy
from infrastructure.apply.host.operate import Operator
from infrastructure.apply.host.store import Store
from infrastructure.apply.host.workers import LABEL, Workers
from infrastructure.apply.protocol.documents import ServiceImage
from infrastructure.apply.protocol.events import Done
from infrastructure.apply.protocol.requests import ApplyRequest, RestartRequest
from infrastructure.health import pressure, probes
from infrastructure.release_files import WORKERS
from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.containers import Action
from tests.deploy.apply.fake import FakeRuntime, FakeWire

OWN = ("gateway", "bridge", "caddy")


class FakeBridge:
    """`/keys` and `/ready`, kept in memory; what does not answer has `silent`."""

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, Any]] = {}
        self.state = "ready"
        self.silent = False

    def ready(self, address: str, port: int, key: str) -> tuple[int, Any]:
        if self.silent:
            return 0, None
        return (200 if self.state == "ready" else 503), {"state": self.state}

    def bridge(
        self,
        address: str,
        port: int,
        path: str,
        key: str = "",
        seconds: float = 3.0,
        *,
        method: str = "GET",
        body: Any = None,
    ) -> tuple[int, Any]:
        if self.silent:
            return 0, None
        if method == "POST":
            identity = f"id{len(self.keys) + 1}"
            self.keys[identity] = {**body, "id": identity, "active": True}
            return 201, {**self.keys[identity], "key": f"gwk_{identity}"}
        if method == "DELETE":
            self.keys[path.rpartition("/")[2]]["active"] = False
            return 204, None
        return 200, {"keys": list(self.keys.values())}

    def active(self) -> dict[str, str]:
        return {one["id"]: one["scope"] for one in self.keys.values() if one["active"]}


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> FakeBridge:
    found = FakeBridge()
    monkeypatch.setattr(probes, "ready", found.ready)
    monkeypatch.setattr(probes, "bridge", found.bridge)
    monkeypatch.setattr(gate_module, "POLL", 0.0)
    monkeypatch.setattr(gate_module, "LOOK", 0.0)
    monkeypatch.setattr(workers_module, "POLL", 0.0)
    monkeypatch.setattr(workers_module, "SETTLES", 0.01)
    return found


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(str(tmp_path / "prod"))
    found.lock("me")
    for name in ("old", "new"):
        found.release(name).mkdir(parents=True)
        (found.release(name) / "release.json").write_text("{}")
    found.switch("old")
    (found.base / "data" / "bridge").mkdir(parents=True)
    return found


def running(name: str, **more: Any) -> Container:
    usual: dict[str, Any] = {
        "state": "running",
        "health": "healthy",
        "image_id": "i",
        "hash": "old",
    }
    return Container(name, f"{name}-1", **{**usual, **more})


def deploy(
    store: Store,
    runtime: FakeRuntime,
    changes: Mapping[str, Action],
    *workers: ServiceImage,
    wire: FakeWire | None = None,
    wait: float = 0.05,
    gate: Any = None,
) -> Done:
    request = ApplyRequest(
        release="new",
        by="me",
        changes=dict(changes),
        services=[*(ServiceImage(name, "i", builds=False) for name in OWN), *workers],
        checks={"gateway": {"twoFactorWait": 0}, "bridge": {"port": 1}, "caddy": {}},
        wait=wait,
        gate=gate,
    )
    store.note(request)
    return Deploy(store, runtime, wire or FakeWire(), request).run()


def bot(scope: str = "", needs: str = "") -> ServiceImage:
    return ServiceImage("bot", "b:1", builds=False, needs=needs, api_key=scope)


def folder(store: Store) -> Path:
    return store.base / "data" / WORKERS / "bot"


def key_of(store: Store) -> str:
    return (folder(store) / "api-key").read_text().strip()


def test_started_last_with_a_key_of_its_own(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    done = deploy(store, runtime, {"bot": "create", "bridge": "update"}, bot("trade"))
    assert runtime.done == [
        *("check", "obtain", "create bridge", "stop bridge-1", "start bridge-2"),
        *("remove bridge-1", "create bot", "start bot-1"),
    ]
    assert (done.healthy, done.workers) == (True, {})
    assert bridge.active() == {"id1": "trade"}
    assert bridge.keys["id1"]["label"] == f"{LABEL}bot"
    assert key_of(store) == "gwk_id1"
    file = (folder(store) / "api-key").resolve()
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert stat.S_IMODE(folder(store).stat().st_mode) == 0o700
    assert file.stat().st_uid == (store.base / "data" / "bridge").stat().st_uid


def test_its_key_is_on_the_disk_before_the_one_before_ends(
    store: Store, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would come back from a power cut with one that the bridge does not take."""
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    active: list[tuple[Path, dict[str, str]]] = []
    monkeypatch.setattr(
        workers_module, "sync_folder", lambda path: active.append((path, bridge.active()))
    )
    deploy(store, runtime, {"bot": "update"}, bot("read"))
    assert active == [(folder(store), {"id1": "trade", "id2": "read"})]


def test_no_backup_has_its_key() -> None:
    assert WORKERS not in FOLDERS


def test_a_changed_one_gets_another_key_and_the_old_one_ends(
    store: Store, bridge: FakeBridge
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    runtime.done.clear()
    deploy(store, runtime, {"bot": "update"}, bot("read"))
    assert runtime.done == [
        *("check", "obtain", "create bot", "stop bot-1", "start bot-2", "remove bot-1"),
    ]
    assert bridge.active() == {"id2": "read"}
    assert key_of(store) == "gwk_id2"
    assert len(list(folder(store).iterdir())) == 2
    deploy(store, runtime, {"bot": "update"}, bot())
    assert bridge.active() == {}
    assert list(folder(store).iterdir()) == []


def test_a_removed_one_is_stopped_and_its_key_ends(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    bridge.keys["mine"] = {"id": "mine", "label": "phone", "scope": "read", "active": True}
    done = deploy(store, runtime, {"bot": "remove"})
    assert runtime.done[-2:] == ["stop bot-1", "remove bot-1"]
    assert done.workers == {}
    assert bridge.active() == {"mine": "read"}
    assert not folder(store).exists()


def test_a_key_that_could_not_be_ended_is_ended_later(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    bridge.silent = True
    done = deploy(store, runtime, {"bot": "remove"}, gate={})
    assert "its key is not ended yet" in done.workers["bot"]
    assert "bot-1" not in {one.id for one in runtime.containers()}
    bridge.silent = False
    assert Workers(store, runtime, FakeWire(), [], 1).tidy() == {}
    assert bridge.active() == {}
    assert not folder(store).exists()


@pytest.mark.parametrize(
    ("status", "ended"), [(204, True), (404, True), (200, False), (405, False), (500, False)]
)
def test_a_key_has_ended_when_the_bridge_says_so(
    store: Store, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, status: int, ended: bool
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    ask = bridge.bridge

    def answers(*where: Any, method: str = "GET", body: Any = None) -> tuple[int, Any]:
        found = ask(*where, method=method, body=body)
        return (status, None) if method == "DELETE" else found

    monkeypatch.setattr(probes, "bridge", answers)
    left = Workers(store, runtime, FakeWire(), [], 1).tidy()
    assert list(left) == ([] if ended else ["bot"])
    assert folder(store).exists() is not ended


def test_a_key_that_a_killed_deploy_left_ends(store: Store, bridge: FakeBridge) -> None:
    """Made, and never written down: nobody has it, and it goes with the next look."""
    runtime = FakeRuntime(*map(running, OWN))
    bridge.bridge("", 1, "/keys", method="POST", body={"label": f"{LABEL}bot", "scope": "trade"})
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    assert bridge.active() == {"id2": "trade"}


def test_a_key_that_the_bridge_does_not_know_is_made_anew(store: Store, bridge: FakeBridge) -> None:
    """A restored journal, or a person's `apikey revoke`: also of one that ends over it."""
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    bridge.keys["id1"]["active"] = False
    next(one for one in runtime.existing if one.service == "bot").state = "restarting"
    Workers(store, runtime, FakeWire(), [bot("read")], 1).tidy()
    assert bridge.active() == {"id2": "read"}
    assert key_of(store) == "gwk_id2"
    assert runtime.done[-1] == "restart bot-1"


def test_one_that_ends_again_and_again_is_named_and_takes_nothing_along(
    store: Store, bridge: FakeBridge
) -> None:
    class Crashing(FakeRuntime):
        def start(self, containers: Any) -> None:
            super().start(containers)
            for one in containers:
                if one.service == "bot":
                    one.state, one.exit_code = "restarting", 1

    runtime = Crashing(*map(running, OWN))
    runtime.logs["bot-1"] = ["Traceback", "KeyError: 'x'", ""]
    wire = FakeWire()
    done = deploy(store, runtime, {"bridge": "update", "bot": "create"}, bot(), wire=wire)
    assert (done.healthy, done.restored) == (True, False)
    assert done.workers == {"bot": "ends again and again (exit code 1): KeyError: 'x'"}
    assert "worker bot: ends again and again (exit code 1): KeyError: 'x'" in wire.told()
    assert store.current() == "new"
    assert store.ledger()[-1]["result"] == "healthy"
    assert Workers(store, runtime, wire, [bot()], 1).ailing() == done.workers


def test_one_that_has_done_its_work_is_well(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot())
    runtime.existing[-1].state, runtime.existing[-1].exit_code = "exited", 0
    found = Workers(store, runtime, FakeWire(), [bot()], 1)
    assert found.settle(["bot"]) == {}
    runtime.existing[-1].exit_code = 3
    assert found.settle(["bot"]) == {"bot": "has ended (exit code 3)"}


@pytest.mark.parametrize("slow", [False, True])
def test_one_that_ends_late_is_seen_where_programs_wait(
    store: Store, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, slow: bool
) -> None:
    """Where it takes ten seconds to start, three say nothing yet about how it ends."""
    monkeypatch.setattr(workers_module, "SETTLES", 3.0)
    monkeypatch.setattr(workers_module, "POLL", 0.25)
    runtime = FakeRuntime(*map(running, OWN), running("bot"))
    passed = [0.0]

    class Passing:
        def time(self) -> float:
            return passed[0]

        def monotonic(self) -> float:
            return passed[0]

        def sleep(self, seconds: float, /) -> None:
            passed[0] += seconds
            if passed[0] >= 10:
                runtime.existing[-1].state, runtime.existing[-1].exit_code = "exited", 1

    monkeypatch.setattr(pressure, "stalled", lambda: {"cpu": passed[0] if slow else 0.0})
    found = Workers(store, runtime, FakeWire(), [bot()], 1, clock=Passing()).settle(["bot"])
    assert found == ({"bot": "has ended (exit code 1)"} if slow else {})


@pytest.mark.parametrize("state", ["waiting-2fa", "halted"])
def test_without_what_it_needs_the_old_one_goes_on(
    store: Store, bridge: FakeBridge, state: str
) -> None:
    runtime = FakeRuntime(*map(running, OWN), running("bot"))
    bridge.state = state
    done = deploy(store, runtime, {"bot": "update"}, bot("read", "bridge-ready"), gate={})
    assert (
        f"not started, because the bridge is not ready (/ready answers 503 {state})"
        in (done.workers["bot"])
    )
    assert runtime.done == ["check", "obtain"]
    assert bridge.active() == {}, "no key for what does not start"


def test_halted_is_not_waited_for(store: Store, bridge: FakeBridge) -> None:
    """Only a person lifts it; a test that waited would take an hour here."""
    runtime = FakeRuntime(*map(running, OWN))
    bridge.state = "halted"
    done = deploy(store, runtime, {"bot": "create"}, bot(needs="bridge-ready"), wait=3600)
    assert "halted" in done.workers["bot"]


def test_it_starts_when_ready_says_so(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    bridge.state = "connecting"
    looks: list[str] = []

    class Clock:
        def time(self) -> float:
            return 0.0

        def monotonic(self) -> float:
            return float(len(looks))

        def sleep(self, seconds: float) -> None:
            looks.append(bridge.state)
            bridge.state = "ready" if len(looks) > 2 else bridge.state

    wanted = [bot(needs="bridge-ready")]
    found = Workers(store, runtime, FakeWire(), wanted, 1, clock=Clock())
    assert found.exchange("new", {"bot": "create"}, 60) == {}
    assert looks[:3] == ["connecting"] * 3
    assert runtime.done == ["create bot", "start bot-1"]


def test_it_needs_the_gateway(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    runtime.healthy["gateway-1"] = False
    done = deploy(store, runtime, {"bot": "create"}, bot(needs="gateway"), gate={})
    assert "the gateway's API does not answer" in done.workers["bot"]
    runtime.healthy["gateway-1"] = True
    assert deploy(store, runtime, {"bot": "create"}, bot(needs="gateway")).workers == {}


def test_a_login_that_waits_keeps_only_those_that_need_it(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(running("gateway", health="starting"), *map(running, OWN[1:]))
    runtime.facts_of_logins = {
        "paper": "2026-01-01T00:00:00Z launch\n2026-01-01T00:00:01Z waiting-2fa push\n"
    }
    free = ServiceImage("free", "f:1", builds=False, api_key="read")
    runtime.logs["gateway-1"] = ["IBC: Second Factor Authentication initiated"]
    runtime.healthy["gateway-1"] = False
    bridge.state = "waiting-2fa"
    done = deploy(
        store, runtime, {"bot": "create", "free": "create"}, bot(needs="bridge-ready"), free
    )
    assert done.result == "waiting-2fa"
    assert list(done.workers) == ["bot"]
    assert "start free-1" in runtime.done
    assert bridge.active() == {"id1": "read"}


def test_a_failed_deploy_does_not_touch_workers(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN), running("bot", state="restarting", health="none"))
    runtime.healthy["bridge-2"] = False
    with pytest.raises(HostFailure) as caught:
        deploy(store, runtime, {"bridge": "update", "bot": "update"}, bot("trade"))
    assert caught.value.restored, "a worker that ends again and again is no reason"
    assert not [action for action in runtime.done if "bot" in action]
    assert bridge.active() == {}


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        (HostFailure("docker-failed", "no such command"), "no such command"),
        (TypeError("of a kind that nobody expected"), "unexpected TypeError: of a kind"),
    ],
)
def test_one_that_cannot_be_started_leaves_the_old_one_with_its_key(
    store: Store, bridge: FakeBridge, problem: Exception, said: str
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    runtime.fails["start bot-2"] = problem
    done = deploy(store, runtime, {"bot": "update"}, bot("trade"))
    assert list(done.workers) == ["bot"]
    assert done.workers["bot"].startswith(said)
    assert [one.id for one in runtime.existing if one.service == "bot" and one.running] == ["bot-1"]
    assert key_of(store) == "gwk_id1"
    assert bridge.active() == {"id1": "read"}


@pytest.mark.parametrize("also", ["stop bot-2", "start bot-1", "remove bot-2"])
def test_whichever_step_back_fails_the_old_one_goes_on_with_its_key(
    store: Store, bridge: FakeBridge, also: str
) -> None:
    runtime, wire = FakeRuntime(*map(running, OWN)), FakeWire()
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    runtime.fails["start bot-2"] = HostFailure("docker-failed", "no such command")
    runtime.fails[also] = OSError(12, "Cannot allocate memory")
    done = deploy(store, runtime, {"bot": "update"}, bot("read"), wire=wire)
    assert done.workers == {"bot": "no such command"}
    assert (folder(store) / "api-key").readlink() == Path("key-read-id1")
    assert "start bot-1" in runtime.done
    old = next(one for one in runtime.existing if one.id == "bot-1")
    assert old.running is (also != "start bot-1")
    assert "worker bot: " in " ".join(wire.told())


def test_an_old_one_that_cannot_be_removed_is_no_trouble_of_the_new_one(
    store: Store, bridge: FakeBridge
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    runtime.fails["remove bot-1"] = HostFailure("docker-failed", "it is busy")
    assert deploy(store, runtime, {"bot": "update"}, bot("read")).workers == {}


def test_one_that_could_not_be_restarted_keeps_the_key_that_it_runs_with(
    store: Store, bridge: FakeBridge
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    one = next(found for found in runtime.existing if found.id == "bot-1")
    runtime.fails["restart bot-1"] = HostFailure("docker-stuck", "did not end within 400 s")
    workers = Workers(store, runtime, FakeWire(), [bot("read")], 1)
    with pytest.raises(HostFailure, match="400 s"):
        workers.restart(one)
    assert (folder(store) / "api-key").readlink() == Path("key-read-id1")
    assert workers.tidy() == {}
    assert bridge.active() == {"id1": "read"}


def test_one_that_restarted_all_the_same_keeps_the_new_key(
    store: Store, bridge: FakeBridge
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    runtime.existing = [replace(one, since="now") for one in runtime.existing]
    runtime.fails["restart bot-1"] = HostFailure("docker-stuck", "did not end within 400 s")
    with pytest.raises(HostFailure):
        Workers(store, runtime, FakeWire(), [bot("read")], 1).restart(running("bot"))
    assert (folder(store) / "api-key").readlink() == Path("key-read-id2")


@pytest.mark.parametrize("had", [True, False])
def test_a_dead_key_is_told_and_mended_by_the_next_look(
    store: Store, bridge: FakeBridge, had: bool
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    bridge.keys = {f"x{at}": {"id": f"x{at}", "label": "o", "active": True} for at in range(4)}
    if not had:
        (folder(store) / "api-key").unlink()
    runtime.fails["restart bot-1"] = HostFailure("docker-stuck", "did not end within 400 s")
    workers = Workers(store, runtime, FakeWire(), [bot("read")], 1)
    assert "did not end within 400 s" in workers.tidy()["bot"]
    runtime.fails.clear()
    runtime.done.clear()
    assert workers.tidy() == {}
    assert runtime.done == ["restart bot-1"]
    (link,) = [(folder(store) / "api-key").readlink().name]
    assert bridge.keys[link.rpartition("-")[2]]["active"]


def test_a_bridge_that_makes_no_key(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN), running("bot"))
    bridge.silent = True
    done = deploy(store, runtime, {"bot": "update"}, bot("read"), gate={})
    assert done.workers == {"bot": "no key can be made: the bridge does not answer"}
    assert [one.id for one in runtime.existing if one.service == "bot"] == ["bot-1"]


@pytest.mark.parametrize("status", [200, 202, 403, 500])
def test_a_key_is_one_only_when_it_was_made(
    store: Store, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    made = {"id": "id9", "key": "gwk_id9"}
    monkeypatch.setattr(probes, "bridge", lambda *_, **__: (status, made))
    with pytest.raises(HostFailure, match=f"^no key can be made: the bridge answers {status}$"):
        Workers(store, runtime, FakeWire(), [], 1).renew("bot", "read")
    assert not folder(store).exists()


@pytest.mark.parametrize("status", [0, 199, 201, 403, 500])
def test_keys_that_the_bridge_does_not_tell_are_ended_later(
    store: Store, bridge: FakeBridge, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("trade"))
    monkeypatch.setattr(probes, "bridge", lambda *_, **__: (status, {"keys": []}))
    left = Workers(store, runtime, FakeWire(), [], 1).tidy()
    assert "the bridge is silent" in left["bot"]
    assert key_of(store) == "gwk_id1"


def test_one_that_is_made_anew_takes_the_place_of_what_was_left(
    store: Store, bridge: FakeBridge
) -> None:
    for action, expected in (("create", "create bot"), ("restart", "restart bot-1")):
        runtime = FakeRuntime(*map(running, OWN), running("bot"))
        changes: dict[str, Action] = {"bot": action}  # type: ignore[dict-item]
        Workers(store, runtime, FakeWire(), [bot()], 1).exchange("new", changes, 0.05)
        assert runtime.done[0] == expected
    runtime = FakeRuntime(*map(running, OWN))
    Workers(store, runtime, FakeWire(), [bot()], 1).exchange("new", {"bot": "restart"}, 0.05)
    assert runtime.done[0] == "create bot", "there is none to start again"


def test_interrupted_before_it_was_exchanged(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    bridge.state = "connecting"
    wire = FakeWire()
    wire.cancel()
    found = Workers(store, runtime, wire, [bot()], 1)
    assert "interrupted" in found.exchange("new", {"bot": "create"}, 60)["bot"]
    assert runtime.done == []


def restart(store: Store, runtime: FakeRuntime) -> Done:
    request = RestartRequest(
        "bot", cold=False, command_ports=[], checks={}, wait=1.0, by="me", stretch=1.0
    )
    return Operator(store, runtime, FakeWire()).restart(request)


def test_restart_gives_it_another_key(store: Store, bridge: FakeBridge) -> None:
    runtime = FakeRuntime(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot("read"))
    runtime.done.clear()
    assert restart(store, runtime).healthy is True
    assert runtime.done == ["restart bot-1"]
    assert bridge.active() == {"id2": "read"}
    assert store.ledger()[-1]["command"] == "restart bot"


def test_restart_says_that_it_ends(store: Store, bridge: FakeBridge) -> None:
    class Crashing(FakeRuntime):
        def restart(self, container: Container) -> None:
            super().restart(container)
            container.state, container.exit_code = "restarting", 2

    runtime = Crashing(*map(running, OWN))
    deploy(store, runtime, {"bot": "create"}, bot())
    runtime.logs["bot-1"] = ["no route"]
    with pytest.raises(HostFailure, match="worker bot ends again and again") as caught:
        restart(store, runtime)
    assert (caught.value.code, caught.value.details) == ("worker-ends", "no route")
    assert store.ledger()[-1]["result"] == "failed"

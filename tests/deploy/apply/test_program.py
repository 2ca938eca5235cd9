"""The program on the host, whole requests in and events out, with an engine in memory."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import json
import os
import signal
import socket
import tarfile
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from infrastructure.apply.host import backup, operate
from infrastructure.apply.host import main as program_module
from infrastructure.apply.host import wire as wire_module
from infrastructure.apply.host.deploy import Deploy
from infrastructure.apply.host.main import BIGGEST_DIFF, PIECE, Program
from infrastructure.apply.host.store import Store
from infrastructure.apply.host.wire import Cancelled, Wire
from infrastructure.apply.protocol import documents, encoding, events, requests
from infrastructure.release_files import COMPOSE_FILE
from infrastructure.runtime.base import Container, HostFailure
from tests.closed_port import closed_port
from tests.deploy.apply.fake import FakeLog, FakeRuntime

Event = dict[str, Any]


class Engine(FakeRuntime):
    """Says which images it lacks, and takes in what it is given."""

    loaded = b""
    takes: int | None = None

    def lacking(self, images: Any) -> list[str]:
        return [one for one in images if one not in self.images]

    def layers(self) -> list[list[str]]:
        return [["sha256:low", "sha256:high"]]

    def load(self, pieces: Iterable[bytes]) -> None:
        for piece in pieces:
            self.loaded += piece
            if self.takes is not None and len(self.loaded) >= self.takes:
                raise self.fails["load"]

    def controller(self, image: str) -> str | None:
        return f"controller of {image}"

    def down(self) -> None:
        self._do("down")
        super().down()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A stack that serves `r1`."""
    found = Store(str(tmp_path / "prod"))
    release(found, "r1", {"compose.yaml": b"old", "secrets/key": b"s"})
    found.switch("r1")
    return found


def release(store: Store, name: str, files: dict[str, bytes], **more: Any) -> None:
    folder = store.release(name)
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    manifest = {"files": {path: f"sum-{path}" for path in files}, "services": {}, **more}
    (folder / "release.json").write_text(json.dumps(manifest))


Ask = Callable[..., list[Event]]


@pytest.fixture
def ask(store: Store, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Opens a session on the store, and sends requests; bytes are what follows one."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def all_of(
        runtime: FakeRuntime, *asked: requests.Request | bytes, lock: bool = False
    ) -> list[Event]:
        monkeypatch.setattr(program_module, "choose", lambda *_: runtime)
        base = str(store.base)
        first = requests.OpenRequest(base, "p", "compose", "me", lock=lock)
        sent = [
            each if isinstance(each, bytes) else encoding.encode(each) for each in (first, *asked)
        ]
        program, target = Program(Wire(io.BytesIO(), io.BytesIO())), io.BytesIO()
        source, client = socket.socketpair()  # a client that stays until the program ends
        whole = b"".join(sent) + encoding.encode(requests.CloseRequest())
        with source, client, source.makefile("rb") as stream:
            threading.Thread(target=client.sendall, args=(whole,), daemon=True).start()
            program._wire = wire = Wire(stream, target)
            program.serve()
            client.close()
            wire.gone.wait(40 if wire._watching else 0)
        program._store.unlock()
        return [json.loads(line) for line in target.getvalue().splitlines()]

    return all_of


def named(events: list[Event], name: str) -> list[Event]:
    return [one for one in events if one["event"] == name]


GATEWAY: Any = {"service": "gateway", "id": "g", "state": "running", "health": "healthy"}


# --- what is there --------------------------------------------------------------------------------
def observe(release: str = "r2", **more: Any) -> requests.ObserveRequest:
    return requests.ObserveRequest(release, **more)


def test_what_is_there_with_the_text_of_what_will_differ(store: Store, ask: Ask) -> None:
    files = {
        "same": b"same",
        "other": b"text",
        "secrets/key": b"s",
        "image/layer": b"x",
        "longest": b"x" * BIGGEST_DIFF,
        "too-long": b"x" * (BIGGEST_DIFF + 1),
    }
    release(store, "r1", files)
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    sums["secrets/key"] = "a slow one"
    manifest = {"files": {**sums, "gone": "sum-gone"}}
    (store.release("r1") / "release.json").write_text(json.dumps(manifest))
    store.begin(release="r2")
    runtime = Engine(Container("bridge", "b", state="running", hash="h", image="i", exit_code=None))
    (found,) = ask(runtime, observe(files={"same": sums["same"], "other": "new"}))
    assert found["event"] == "observed"
    assert (found["release"], found["has"], found["pending"]) == ("r1", False, {"release": "r2"})
    assert (found["logins"], found["verifying"]) == ([], False)
    assert found["services"]["bridge"]["hash"] == "h"
    shown = {path for path, file in found["files"].items() if file["content"] is not None}
    assert shown == {"other", "longest"}
    assert found["files"].keys() == files.keys(), "what was deleted by hand is sent anew"
    (store.release("r1") / "other").write_text("edited by hand")
    (found,) = ask(runtime, observe(files={"other": sums["other"]}))
    assert base64.b64decode(found["files"]["other"]["content"]) == b"edited by hand"
    (found,) = ask(runtime, observe("r1", files={"other": sums["other"]}))
    assert found["files"]["other"] == {"digest": sums["other"], "content": None}
    (store.release("r1") / "other").write_text("text")
    (found,) = ask(runtime, observe(files={"same": sums["same"], "other": "new"}))
    assert base64.b64decode(found["files"]["other"]["content"]) == b"text"
    assert abs(found["time"] - time.time()) < 60


def verify(hashes: dict[str, str], **more: Any) -> requests.VerifyRequest:
    return requests.VerifyRequest(checks={}, wait=1, hashes=hashes, **more)


@pytest.mark.parametrize(
    ("release", "hashes", "state", "same"),
    [
        ("r1", {"bridge": "h"}, "running", True),
        ("r1", {"bridge": "h"}, "restarting", True),
        ("r1", {"bridge": "h"}, "exited", False),
        ("r1", {}, "exited", False),
        ("r1", {"bridge": "other"}, "running", False),
        ("r1", {"bridge": "h", "caddy": "h"}, "running", False),
        ("r0", {"bridge": "h"}, "running", False),
        ("r2", {"bridge": "h"}, "running", False),
    ],
)
def test_only_what_is_the_same_is_verified_at_once(
    ask: Ask, release: str, hashes: dict[str, str], state: str, same: bool
) -> None:
    runtime = Engine(Container("bridge", "b", state=state, hash="h"))
    events = ask(runtime, observe(release, verify=verify(hashes)))
    assert events[0]["verifying"] is same
    assert [one["event"] for one in events[1:]] == (["done"] if same else [])
    assert len(ask(runtime, observe(release))) == 1, "unless it is not asked for"


def test_a_deploy_that_was_killed_is_completed_by_a_healthy_look(store: Store, ask: Ask) -> None:
    store.begin(release="r1")
    runtime = Engine(
        Container("bridge", "new", 2, state="running", hash="h"),
        Container("bridge", "old", 1, state="exited"),
    )
    *_, done = ask(runtime, observe("r1", verify=verify({"bridge": "h"})))
    assert done == {
        **done,
        "event": "done",
        "result": "healthy",
        "release": "r1",
        "healthy": True,
        "restored": False,
        "seconds": 0,
    }
    assert runtime.done == ["remove old"]
    assert store.pending() is None
    ask(runtime, verify({}))
    assert runtime.done == ["remove old"]


def test_what_was_left_without_a_marker_goes_too_and_stops_no_look(store: Store, ask: Ask) -> None:
    runtime = Engine(
        Container("bridge", "old", 1, state="exited", hash="h0"),
        Container("bridge", "new", 2, state="running", hash="h", health="healthy"),
    )
    runtime.fails["remove old"] = HostFailure("docker-failed", "it is busy")
    *_, step, done = ask(runtime, verify({}))
    assert (step["text"], done["result"]) == (
        "an old container of bridge stays: it is busy",
        "healthy",
    )
    runtime.fails.clear()
    ask(runtime, verify({}))
    assert [one.id for one in runtime.existing] == ["new"]


def noted_with_checks(store: Store) -> None:
    note = {"services": [], "checks": {"caddy": {"port": 1}, "portal": {}}}
    (store.release("r1") / "deploy.json").write_text(json.dumps(note))


def test_a_release_that_became_healthy_later_is_recorded_once(store: Store, ask: Ask) -> None:
    """As after an approval that `up` did not wait for: `rollback` goes back to it."""
    noted_with_checks(store)
    store.record(release="r1", command="up", result="waiting-2fa")
    runtime = Engine(Container("portal", "p", state="running", image="p:1", image_id="sha256:p"))
    passes: Any = {"portal": {}, "caddy": {"port": 1}}
    runtime.existing.append(Container("caddy", "c", state="running"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infrastructure.apply.host.health_gate.Gate.run", lambda *_: None)
        for _ in range(2):
            assert ask(runtime, requests.VerifyRequest(passes, 1))[-1]["result"] == "healthy"
    waiting, proven = store.ledger()
    assert (proven["command"], proven["release"], proven["by"]) == ("up", "r1", "me")
    assert store.proven(but=None) == "r1"
    assert store.noted("r1")["images"] == {"p:1": "sha256:p"}
    assert waiting["result"] == "waiting-2fa"


@pytest.mark.parametrize("checks", [{"portal": {}}, {"portal": {}, "caddy": {}}])
def test_a_look_at_a_part_proves_nothing(store: Store, ask: Ask, checks: Any) -> None:
    noted_with_checks(store)
    runtime = Engine(
        Container("portal", "p", state="running"), Container("caddy", "c", state="running")
    )
    assert ask(runtime, requests.VerifyRequest(checks, 1))[-1]["result"] == "healthy"
    assert store.ledger() == []


def facts(**story: str) -> dict[str, str]:
    """What a container has written down of its login, a second apart, until now."""
    now = int(time.time()) - 5
    return {"paper": "".join(f"{now + at} {text}\n" for at, text in enumerate(story.values()))}


def test_a_login_that_waits_is_no_failure_of_a_look(ask: Ask) -> None:
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    runtime = Engine(Container("gateway", "g", state="running", health="starting", since=since))
    runtime.facts_of_logins = facts(a="launch password", b="push")
    checks: Any = {"gateway": {"sessions": ["paper"], "twoFactorWait": 0}}
    *_, done = ask(runtime, requests.VerifyRequest(checks, 1))
    assert (done["event"], done["result"]) == ("done", "waiting-2fa")
    assert done["told"].startswith("waiting for 2FA")
    assert (done["healthy"], done["restored"], done["seconds"]) == (False, False, 0)
    assert done["release"] == "r1"


def test_what_the_logins_are_is_told_to_a_plan_of_a_gateway_that_runs(ask: Ask) -> None:
    runtime = Engine(Container(**GATEWAY))
    runtime.facts_of_logins = facts(a="launch password", b="login")
    (found,) = ask(runtime, observe(sessions=["paper"]))
    (login,) = found["logins"]
    assert (login["session"], login["state"], login["parks"]) == ("paper", "logged-in", False)
    assert abs(login["since"] - time.time()) < 60
    assert ask(runtime, observe())[0]["logins"] == []
    runtime.existing[0].state = "exited"
    assert ask(runtime, observe(sessions=["paper"]))[0]["logins"] == []
    assert ask(Engine(), observe(sessions=["paper"]))[0]["logins"] == []


def held(state: str = "running") -> Engine:
    runtime = Engine(Container("gateway", "g", state=state, health="starting"))
    runtime.facts_of_logins = facts(a="launch password", b="refused", c="held bad-credentials")
    return runtime


@pytest.mark.parametrize(
    ("afresh", "state"), [(True, "running"), (False, "running"), (True, "exited")]
)
def test_a_held_login_begins_afresh_only_where_a_person_asks(
    ask: Ask, afresh: bool, state: str
) -> None:
    runtime = held(state)
    checks: Any = {"gateway": {"sessions": ["paper"]}}
    request = requests.VerifyRequest(checks, 0, afresh=afresh)
    events = ask(runtime, request)
    began = afresh and state == "running"
    assert runtime.afresh == (["g cold"] if began else [])
    assert ("restart g" in runtime.done) is began
    told = [one["text"] for one in named(events, "step")]
    assert any("the gateway's container begins afresh" in text for text in told) is began
    runtime = held()
    ask(runtime, requests.VerifyRequest({}, 0, afresh=True))
    assert runtime.afresh == [], "without a check of the gateway"
    assert ask(Engine(), requests.VerifyRequest({}, 0, afresh=True))[-1]["result"] == "healthy"


def test_a_look_that_is_interrupted_changes_nothing(ask: Ask) -> None:
    runtime = Engine(Container("gateway", "g", state="running", health="starting"))
    checks: Any = {"gateway": {"sessions": ["paper"]}}
    events = ask(runtime, requests.VerifyRequest(checks, 60), requests.CancelRequest())
    failed = events[-1]
    assert (failed["event"], failed["code"]) == ("failed", "interrupted")
    assert failed["message"] == "interrupted; nothing was changed"
    assert runtime.done == []


# --- images ---------------------------------------------------------------------------------------
def test_which_images_are_not_there(ask: Ask) -> None:
    runtime = Engine()
    runtime.images["b:1"] = "sha256:1"
    (found,) = ask(runtime, requests.LackingRequest(["b:1", "c:1"]))
    assert (found["images"], found["architecture"]) == (["c:1"], os.uname().machine)
    assert found["layers"] == [["sha256:low", "sha256:high"]]


def test_an_image_is_taken_in_by_pieces(ask: Ask) -> None:
    runtime = Engine()
    content = os.urandom(1000) + bytes(2 * PIECE)
    (loaded,) = ask(runtime, requests.LoadRequest(len(content), partial=False), content)
    assert loaded["refused"] is False
    assert runtime.loaded == content


@pytest.mark.parametrize(
    ("code", "partial", "refused"),
    [("image-unavailable", True, True), ("image-unavailable", False, None), ("other", True, None)],
)
def test_an_image_that_is_refused_leaves_the_wire_in_step(
    ask: Ask, code: str, partial: bool, refused: bool | None
) -> None:
    runtime = Engine()
    runtime.takes = 1
    runtime.fails["load"] = HostFailure(code, "it lacks layers")
    request = requests.LoadRequest(3 * PIECE, partial)
    first, second = ask(runtime, request, bytes(3 * PIECE), requests.HistoryRequest())
    assert first.get("refused") is refused
    assert first["event"] == ("loaded" if refused else "failed")
    assert second["event"] == "history"


def test_an_image_by_its_digest(ask: Ask) -> None:
    events = ask(Engine(), requests.FetchRequest("b:1", "sha256:of-7"))
    assert [one["event"] for one in events if one["event"] != "alive"] == ["step", "fetched"]
    assert events[0]["text"] == "pulling b:1"
    assert events[-1]["image"]["digest"] == "sha256:of-7"


def test_what_runs_and_what_its_name_means_at_the_registry(store: Store, ask: Ask) -> None:
    store.refuse("sha256:new", "bridge-ended")
    runtime = Engine(
        Container("bridge", "b", state="running", image="b:stable", image_id="sha256:1")
    )
    runtime.images = {"b:1": "sha256:1", "c:1": "sha256:2"}
    runtime.registry = {"b:1": "sha256:new"}
    (found,) = ask(runtime, requests.NewerRequest({"bridge": "b:1", "caddy": "c:1"}))
    bridge, caddy = found["services"]
    assert (bridge["service"], bridge["runs"]["name"], bridge["runs"]["id"]) == (
        *("bridge", "b:stable"),
        "sha256:1",
    )
    assert bridge["found"] == {**bridge["found"], "name": "b:1", "digest": "sha256:new"}
    assert (bridge["why"], bridge["refused"].endswith("bridge-ended")) == ("", True)
    assert (caddy["runs"]["name"], caddy["runs"]["id"]) == ("c:1", "sha256:2")
    assert (caddy["found"]["digest"], caddy["why"], caddy["refused"]) == ("", "no such image", "")


# --- deploys --------------------------------------------------------------------------------------
def test_a_release_is_unpacked_and_served(store: Store, ask: Ask) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in (("release.json", b'{"files": {}, "services": {}}'), ("x", b"new")):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o600
            tar.addfile(entry, io.BytesIO(content))
    content = buffer.getvalue()
    request = requests.ApplyRequest(
        *("r2", [], {}, {}, 1, "me", len(content)),
        folders=[documents.DataFolder("bridge", 0o700)],
    )
    done = ask(Engine(), request, content, lock=True)[-1]
    assert (done["event"], done["result"], done["release"]) == ("done", "healthy", "r2")
    assert store.current() == "r2"
    assert (store.release("r2") / "x").read_bytes() == b"new"
    assert store.noted("r2") == {"services": [], "checks": {}, "images": {}}
    assert (store.base / "data/bridge").is_dir()
    again = requests.ApplyRequest("r2", [], {}, {}, 1, "me")
    assert ask(Engine(), again)[-1]["result"] == "healthy", "without a tar it lies there already"
    (store.release("r2") / "deploy.json").unlink()
    assert ask(Engine(), again)[-1]["result"] == "healthy", "a power cut came before its note"
    assert store.noted("r2"), "or it could not be gone back to, and its workers lost their keys"


def test_what_a_cut_restore_left_is_seen_to_by_whoever_deploys_next(store: Store, ask: Ask) -> None:
    (store.base / ".restoring" / "gateway").mkdir(parents=True)
    (store.base / ".restoring" / "gateway" / "jts.ini").write_text("restored")
    (store.base / ".restoring" / "aside").write_text("before-now")
    looks = requests.HistoryRequest()
    assert not named(ask(Engine(), looks), "step")
    assert (store.base / ".restoring").exists(), "who only looks changes nothing"
    told = named(ask(Engine(), looks, lock=True), "step")
    assert [one["text"] for one in told] == ["an earlier restore did not end; this completes it"]
    assert (store.base / "data" / "gateway" / "jts.ini").read_text() == "restored"
    assert not named(ask(Engine(), looks, lock=True), "step")


@pytest.mark.parametrize("hold", [False, True])
def test_what_is_moved_away_is_held_until_its_client_goes(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch, hold: bool
) -> None:
    freed: list[str] = []
    monkeypatch.setattr(Store, "unlock", lambda _: freed.append("unlock"))

    def ledger(_: Store) -> list[documents.LedgerEntry]:
        freed.append("history")
        return []

    monkeypatch.setattr(Store, "ledger", ledger)
    ask(Engine(), requests.DownRequest("me", {}, hold), requests.HistoryRequest(), lock=True)
    assert freed[0] == ("history" if hold else "unlock")


def test_the_schedule_that_ends_is_told(store: Store, ask: Ask) -> None:
    settings = {"to": "/mnt/b", "every": 3600.0, "keep": 3, "since": 1.0}
    (store.base / "scheduled").mkdir()
    (store.base / "scheduled/backup.json").write_text(json.dumps(settings))
    (ended,) = ask(Engine(), requests.EndBackupsRequest())
    assert ended["changed"] is True
    assert {name: ended["backups"][name] for name in settings} == settings
    (again,) = ask(Engine(), requests.EndBackupsRequest())
    assert (again["changed"], again.get("backups")) == (False, None)


def test_where_it_was_moved_away_from_nothing_starts(earlier: Store, ask: Ask) -> None:
    """A second gateway would take the session of the one on the new machine."""
    assert ask(Engine(), requests.LeaveRequest("me@new"))[-1]["event"] == "left"
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w:gz"):
            pass
        archive = buffer.getvalue()
    up = requests.ApplyRequest("r3", [], {}, {}, 1, "me", tar=len(archive))
    back = requests.RollBackRequest("r1", 1, "me")
    for asked in ((up, archive), (back,)):
        runtime = Engine()
        refused, last = ask(runtime, *asked, requests.HistoryRequest(), lock=True)
        assert (refused["code"], last["event"]) == ("moved-away", "history")
        assert "moved to me@new at " in refused["message"]
        assert str(earlier.base / "moved.json") in refused["hint"]
        assert runtime.done == []
    assert ask(Engine(), requests.DownRequest("me", {}), lock=True)[-1]["event"] == "ended"
    (earlier.base / "moved.json").unlink()
    earlier.require_here()


def test_a_restore_that_cannot_end_keeps_nobody_from_stopping(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only from starting: a bridge would begin an empty journal beside the one that waits."""
    failure = HostFailure("restore-unfinished", "a restore cannot be completed: Device busy")
    monkeypatch.setattr(backup, "complete", lambda *_: failure)
    (store.base / "data" / ".restoring").mkdir(parents=True)
    runtime = Engine(Container(**GATEWAY))
    up = requests.ApplyRequest("r2", [], {}, {}, 1, "me")
    assert ask(runtime, up, lock=True)[-1]["code"] == "restore-unfinished"
    assert ask(runtime, requests.DownRequest("me", {}), lock=True)[-1]["event"] == "ended"
    assert runtime.done[-1] == "down"


def test_down_ends_the_gateway_first_and_is_recorded(store: Store, ask: Ask) -> None:
    store.begin(release="r1")
    runtime = Engine(Container(**GATEWAY))
    runtime.facts_of_logins = facts(a="launch password", b="parks", c="login")
    request = requests.DownRequest("me", {"paper": "7462 PAUSE"})
    events = ask(runtime, request)
    assert runtime.done[-1] == "down"
    assert (events[-1]["event"], events[-1]["release"]) == ("ended", "r1")
    assert [one["text"] for one in named(events, "step")][-1] == "stopping every service"
    assert store.pending() is None
    (entry,) = store.ledger()
    assert (entry["command"], entry["release"], entry["result"]) == ("down", "r1", "down")
    store.switch(None)
    assert ask(Engine(), request)[-1]["release"] is None
    assert len(store.ledger()) == 1, "of what was not there nothing is recorded"


def test_a_gateway_ends_and_restarts_as_it_was_deployed(store: Store, ask: Ask) -> None:
    """Not as stack.yaml says since: the paper session would be killed instead of logged off."""

    class Asked(Engine):
        def soft_restart(self, container: Container, ports: Any) -> bool:
            self._do(f"restart softly by {list(ports)}")
            return True

    gateway = {"ends": {"paper": "14004 STOP"}, "sessions": ["paper"]}
    note = {"services": [], "checks": {"gateway": gateway}}
    (store.release("r1") / "deploy.json").write_text(json.dumps(note))
    logged_in = facts(a="launch password", b="parks", c="login")
    runtime = Asked(Container(**GATEWAY))
    runtime.facts_of_logins = logged_in
    live: Any = {"ends": {"live": "14003 PAUSE"}, "sessions": ["live"]}
    again = requests.RestartRequest("gateway", False, [14003], {"gateway": live}, 30, "me")
    ask(runtime, again)
    assert "restart softly by [14004]" in runtime.done
    runtime = Asked(Container(**GATEWAY))
    runtime.facts_of_logins = logged_in
    ask(runtime, requests.DownRequest("me", live["ends"]))
    assert runtime.done == ["park paper 14004 STOP", "down"]


@pytest.mark.parametrize("what", ["end", "record"])
def test_what_comes_after_the_outcome_does_not_hide_it(
    store: Store, ask: Ask, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Store, what, fails)
    runtime = Engine(Container("bridge", "b", state="running", health="healthy"))
    again = requests.RestartRequest("bridge", False, [], {"bridge": {}}, wait=30, by="me")
    assert ask(runtime, again)[-1]["result"] == "healthy"
    *_, step, ended = ask(runtime, requests.DownRequest("me", {}))
    assert (ended["event"], runtime.existing) == ("ended", [])
    assert "No space left" in step["text"]


def test_a_gateway_that_cannot_be_asked_is_stopped_by_down(ask: Ask) -> None:
    class Silent(Engine):
        def login_facts(self) -> dict[str, str]:
            raise OSError(errno.EIO, "Input/output error")

    runtime = Silent(Container(**GATEWAY))
    *_, ended = ask(runtime, requests.DownRequest("me", {"paper": "14004 STOP"}))
    assert (ended["event"], runtime.done) == ("ended", ["down"])


def test_small_questions(store: Store, ask: Ask) -> None:
    store.record(release="r1", result="healthy")
    runtime = Engine(Container("bridge", "b", state="running", addresses=["192.0.2.7", "::1"]))
    runtime.facts_of_logins = {"paper": "1 login\n"}
    history, controller, logins, address = ask(
        runtime,
        requests.HistoryRequest(),
        requests.ControllerRequest("g:1"),
        requests.LoginFactsRequest(),
        requests.AddressRequest("bridge"),
    )
    assert (history["current"], len(history["entries"])) == ("r1", 1)
    assert controller["controller"] == "controller of g:1"
    assert logins["facts"] == {"paper": "1 login\n"}
    assert address["address"] == "192.0.2.7"
    runtime.existing[0].addresses = []
    assert ask(runtime, requests.AddressRequest("bridge"))[0]["address"] == "127.0.0.1"
    runtime.existing[0].state = "exited"
    assert ask(runtime, requests.AddressRequest("bridge"))[0]["code"] == "bridge-stopped"


def test_a_session_ends_where_the_client_closes_it(ask: Ask) -> None:
    history = requests.HistoryRequest()
    assert len(ask(Engine(), history, requests.CloseRequest(), history)) == 1
    lines = encoding.encode(history) + encoding.encode(history)[:-1]
    target = io.BytesIO()
    Program(Wire(io.BytesIO(lines), target)).serve()
    assert target.getvalue().count(b"\n") == 1, "a line that was cut is no request"


def test_a_fault_of_ours_is_an_answer(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = Engine()
    monkeypatch.setattr(runtime, "controller", lambda _: 1 / 0)
    failed, history = ask(runtime, requests.ControllerRequest("x"), requests.HistoryRequest())
    assert failed["code"] == "unexpected"
    assert failed["message"] == "unexpected ZeroDivisionError: division by zero"
    assert "Traceback" in failed["trace"]
    assert failed["details"] == ""
    assert failed["restored"] is False
    assert history["event"] == "history"


def test_without_the_lock_nothing_goes_on(store: Store, ask: Ask) -> None:
    other = Store(str(store.base))
    other.lock("anna")
    (failed,) = ask(Engine(), requests.HistoryRequest(), lock=True)
    assert (failed["event"], failed["code"]) == ("failed", "locked")
    assert ask(Engine(), requests.HistoryRequest())[0]["event"] == "history"
    other.unlock()
    assert ask(Engine(), requests.HistoryRequest(), lock=True)[0]["event"] == "history"


def test_the_lock_is_free_before_the_end_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    free: list[bool] = []

    class Watching(Wire):
        def emit(self, event: events.Event) -> None:
            if isinstance(event, events.Ended | events.History):
                free.append(Store(str(store.base))._free(os.open(store.base / "lock", os.O_RDWR)))

    runtime = Engine()
    monkeypatch.setattr(program_module, "choose", lambda *_: runtime)
    sent = [
        requests.OpenRequest(str(store.base), "p", "compose", "me", lock=True),
        requests.HistoryRequest(),
        requests.DownRequest("me", {}),
    ]
    lines = b"".join(encoding.encode(one) for one in sent)
    Program(Watching(io.BytesIO(lines), io.BytesIO())).serve()
    assert free == [False, True]


# --- the logins and the bridge --------------------------------------------------------------------
def answering(body: Any) -> tuple[int, list[bytes]]:
    """A bridge on a free port that gives one answer."""
    listener, asked = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        with listener:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(65_536))
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(body).encode())

    threading.Thread(target=serve, daemon=True).start()
    return listener.getsockname()[1], asked


def test_status_is_of_the_bridges_own_session(store: Store, ask: Ask) -> None:
    (store.release("r1") / "secrets/bridge-admin-key").write_text("k3y")
    runtime = Engine(
        Container("gateway", "g", state="running", health="starting"),
        Container("bridge", "b", state="running"),
    )
    now = int(time.time()) - 5
    runtime.facts_of_logins = {"live": f"{now} launch password\n{now} login\n"}
    port, asked = answering({"ok": 1})
    (status,) = ask(runtime, requests.StatusRequest(port, ["paper", "live"], "live"))
    assert (status["login"]["session"], status["login"]["state"]) == ("live", "logged-in")
    assert [one["session"] for one in status["logins"]] == ["paper", "live"]
    assert status["bridge"] == {"ok": 1}
    assert asked[0].startswith(b"GET /health HTTP")
    assert b"X-API-KEY: k3y" in asked[0]
    runtime.existing[1].state = "exited"
    (status,) = ask(runtime, requests.StatusRequest(port, ["paper", "live"], "gone"))
    assert status["login"]["session"] == "paper"
    assert status["bridge"] is None
    (status,) = ask(Engine(), requests.StatusRequest(port, ["paper"], "paper"))
    assert status["login"]["state"] == "stopped"


def test_status_asks_whether_caddy_reaches_the_bridge(ask: Ask) -> None:
    runtime = Engine(Container("caddy", "c", state="running", health="healthy"))
    with closed_port() as port:
        check: documents.Check = {"address": "127.0.0.1", "port": port, "name": "x", "public": True}
        asked = requests.StatusRequest(1, ["paper"], "paper", check)
        (status,) = ask(runtime, asked)
        assert status["caddy"] == f"no answer on port {port}: Connection refused"
        (status,) = ask(runtime, requests.StatusRequest(1, ["paper"], "paper"))
        assert status["caddy"] is None
        runtime.existing[0].state = "exited"
        (status,) = ask(runtime, asked)
        assert status["caddy"] is None


@pytest.mark.parametrize("public", [True, False])
def test_a_certificate_that_is_on_its_way_is_no_fault_of_caddys(ask: Ask, public: bool) -> None:
    runtime = Engine(Container("caddy", "c", state="running"))
    port, _ = answering({})  # without TLS
    check: documents.Check = {"address": "127.0.0.1", "port": port, "name": "x", "public": public}
    (status,) = ask(runtime, requests.StatusRequest(1, ["paper"], "paper", check))
    assert (status["caddy"] == "") is public
    assert status["caddy"] == "" or status["caddy"].startswith("no TLS for x yet")


def test_of_a_container_that_writes_nothing_down_its_log_is_read(ask: Ask) -> None:
    runtime = Engine(Container("gateway", "g", state="running", health="starting"))
    runtime.logs["g"] = [
        "2026-11-21 03:14:39:375 IBC: detected dialog entitled: "
        "Second Factor Authentication; event=Opened"
    ]
    (status,) = ask(runtime, requests.StatusRequest(1, ["paper"], "paper"))
    assert status["login"]["state"] == "waiting-2fa"
    runtime.existing[0].state = "exited"
    (status,) = ask(runtime, requests.StatusRequest(1, ["paper"], "paper"))
    assert status["login"]["state"] == "stopped"


def test_the_bridge_is_asked_with_a_key_that_stays_on_the_host(store: Store, ask: Ask) -> None:
    (store.release("r1") / "secrets/bridge-admin-key").write_text("k3y")
    runtime = Engine(Container("bridge", "b", state="running"))
    port, asked = answering([7])
    (found,) = ask(runtime, requests.AskBridgeRequest("PUT", "/x", port, {"a": 1}))
    assert (found["status"], found["body"]) == (200, [7])
    assert 0 <= found["seconds"] < 10
    assert asked[0].startswith(b"PUT /x HTTP")
    assert b"X-API-KEY: k3y" in asked[0]
    assert asked[0].endswith(b'{"a": 1}')
    assert "k3y" not in json.dumps(found)
    runtime.existing[0].state = "exited"
    assert ask(runtime, requests.AskBridgeRequest("GET", "/x", port))[0]["code"] == "bridge-stopped"
    (failed,) = ask(Engine(), requests.AskBridgeRequest("GET", "/x", port))
    assert (failed["code"], failed["hint"]) == ("no-such-service", "nothing is deployed")
    (failed,) = ask(Engine(Container("caddy", "c")), requests.AddressRequest("bridge"))
    assert failed["hint"] == "caddy"


# --- the screen -----------------------------------------------------------------------------------
class Screen:
    """A display that ends after some looks."""

    def __init__(self, looks: int) -> None:
        self.looks = looks
        self.password = ""
        self.closed = False

    def show(self, password: str) -> int:
        self.password = password
        return 5901

    @property
    def ended(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("cancelled", [False, True])
def test_the_screen_is_shown_until_somebody_ends_it(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    monkeypatch.setattr(operate, "POLL", 0.01)
    shown = Screen(1 << 30 if cancelled else 2)
    runtime = Engine(Container(**GATEWAY, addresses=["192.0.2.7"]))
    monkeypatch.setattr(runtime, "screen", lambda _: shown)
    more = [requests.CancelRequest()] if cancelled else []
    events = ask(runtime, requests.ScreenRequest("word"), *more)
    assert events[0] == {"event": "screen", "address": "192.0.2.7", "port": 5901}
    assert events[-1]["event"] == "ended"
    assert (shown.password, shown.closed) == ("word", True)
    runtime.existing[0].state = "exited"
    assert ask(runtime, requests.ScreenRequest("word"))[0]["code"] == "gateway-stopped"
    assert ask(runtime, requests.PictureRequest())[0]["code"] == "gateway-stopped"


def test_where_there_is_no_private_network_the_screen_is_on_loopback(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Engine(Container(**GATEWAY))
    monkeypatch.setattr(runtime, "screen", lambda _: Screen(0))
    assert ask(runtime, requests.ScreenRequest("word"))[0]["address"] == "127.0.0.1"
    both = Engine(Container(**GATEWAY, addresses=["192.0.2.7", "198.51.100.7"]))
    monkeypatch.setattr(both, "screen", lambda _: Screen(0))
    assert ask(both, requests.ScreenRequest("word"))[0]["address"] == "192.0.2.7"
    (found,) = ask(both, requests.AddressRequest("gateway"))
    assert found["address"] == "192.0.2.7"
    picture = ask(runtime, requests.PictureRequest())[0]
    assert base64.b64decode(picture["png"]) == b"a picture"


def test_a_code_is_typed_and_what_becomes_of_it_told(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operate, "POLL", 0.0)
    runtime = Engine(Container("gateway", "g", state="running", health="starting"))
    looks = [
        facts(a="launch password", b="code"),
        facts(a="launch password"),
        facts(a="launch password", b="login"),
    ]

    def next_facts() -> dict[str, str]:
        return looks.pop(0) if len(looks) > 1 else looks[0]

    monkeypatch.setattr(runtime, "login_facts", next_facts)
    asked = requests.StatusRequest(1, ["paper"], "paper")
    (status,) = ask(runtime, requests.TypeCodeRequest("123456", 30, asked))
    assert status["login"]["state"] == "logged-in"
    assert runtime.done == ["type 123456"]


@pytest.mark.parametrize("last", ["login", "held bad-credentials", "attempt 2"])
def test_a_code_that_nobody_asks_for_any_more_is_not_typed(ask: Ask, last: str) -> None:
    """A person waited for the SMS: Enter would go into whatever window is there."""
    runtime = Engine(Container("gateway", "g", state="running", health="starting"))
    runtime.facts_of_logins = facts(a="launch password", b="push", c=last)
    asked = requests.StatusRequest(1, ["paper"], "paper")
    (refused,) = ask(runtime, requests.TypeCodeRequest("123456", 30, asked))
    assert refused["code"] == "no-code-asked"
    assert runtime.done == []


# --- logs -----------------------------------------------------------------------------------------
class Logging(Engine):
    """Keeps how its logs were asked for."""

    def __init__(self, **logs: list[str]) -> None:
        super().__init__(*(Container(name, f"{name}-1", state="running") for name in logs))
        self.lines = logs
        self.asked: list[tuple[str, str, int, bool]] = []

    def read_log(self, container: Container, *, since: str, lines: int, follow: bool) -> FakeLog:
        self.asked.append((container.service, since, lines, follow))
        return FakeLog(self.lines[container.service])


def lines(events: list[Event]) -> list[tuple[str, str, str]]:
    return [(one["service"], one["time"], one["text"]) for one in named(events, "line")]


def test_logs_of_several_services_in_order_of_time(ask: Ask) -> None:
    runtime = Logging(
        bridge=["2026-01-01T00:00:01Z one", "2026-01-01T00:00:03Z three", "- and more"],
        caddy=["2026-01-01T00:00:02Z two words"],
    )
    events = ask(runtime, requests.LogsRequest([], "", 50, follow=False))
    assert lines(events) == [
        ("bridge", "2026-01-01T00:00:01Z", "one"),
        ("caddy", "2026-01-01T00:00:02Z", "two words"),
        ("bridge", "2026-01-01T00:00:03Z", "three"),
        ("bridge", "2026-01-01T00:00:03Z", "and more"),
    ]
    assert events[-1]["event"] == "ended"
    assert runtime.asked == [("bridge", "", 50, False), ("caddy", "", 50, False)]
    (failed,) = ask(runtime, requests.LogsRequest(["portal"], "", 1, follow=False))
    assert (failed["code"], failed["hint"]) == ("no-such-service", "bridge, caddy")


def test_the_lines_of_one_service_stay_as_they_are(ask: Ask) -> None:
    runtime = Logging(bridge=["2026-01-01T00:00:03Z b", "2026-01-01T00:00:01Z a"], caddy=[])
    events = ask(runtime, requests.LogsRequest(["bridge"], "2026-01-01", 0, follow=False))
    assert [text for _, _, text in lines(events)] == ["b", "a"]
    assert runtime.asked == [("bridge", "2026-01-01", 0, False)]


def test_logs_are_followed_until_all_have_ended(ask: Ask) -> None:
    runtime = Logging(bridge=["2026-01-01T00:00:01Z a", "- b"], caddy=["2026-01-01T00:00:01Z c"])
    source, client = socket.socketpair()  # a client that stays
    with source, client:
        target = io.BytesIO()
        wire = Wire(source.makefile("rb"), target)
        operate.Operator(Store("/x"), runtime, wire).logs(requests.LogsRequest([], "", 5, True))
    events = [json.loads(line) for line in target.getvalue().splitlines()]
    assert sorted(lines(events)) == [
        ("bridge", "2026-01-01T00:00:01Z", "a"),
        ("bridge", "2026-01-01T00:00:01Z", "b"),
        ("caddy", "2026-01-01T00:00:01Z", "c"),
    ]
    assert runtime.asked == [("bridge", "", 5, True), ("caddy", "", 5, True)]


@pytest.mark.parametrize("leaves", [False, True])
def test_following_ends_with_the_client(monkeypatch: pytest.MonkeyPatch, leaves: bool) -> None:
    monkeypatch.setattr(operate, "POLL", 0.01)
    ended = threading.Event()

    class Endless:
        def __init__(self, odd: bool) -> None:
            self.odd = odd

        def __iter__(self) -> Any:
            ended.wait(10)
            if self.odd:
                raise ValueError("closed while it was being read")
            return iter(())

        def close(self) -> None:
            ended.set()
            if self.odd:
                raise ValueError("generator already executing")

    runtime = Logging(bridge=[], caddy=[])
    monkeypatch.setattr(
        runtime, "read_log", lambda container, **_: Endless(container.service == "bridge")
    )
    source, client = socket.socketpair()
    with source:
        if leaves:
            client.close()
        else:
            client.sendall(encoding.encode(requests.CancelRequest()))
        wire = Wire(source.makefile("rb"), io.BytesIO())
        operate.Operator(Store("/x"), runtime, wire).logs(requests.LogsRequest([], "", 0, True))
        client.close()
    assert ended.is_set()


def test_an_age_is_a_moment_by_the_hosts_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.25)
    assert operate.moment("0s") == "2026-09-21T14:13:20.250Z"
    assert operate.moment("90s") == "2026-09-21T14:11:50.250Z"
    assert operate.moment("2h30m") == "2026-09-21T11:43:20.250Z"
    assert operate.moment("1d1s") == "2026-09-20T14:13:19.250Z"
    for other in ("2026-09-21", "5", "m", "1w", "1h "):
        assert operate.moment(other) == other


# --- rollback -------------------------------------------------------------------------------------
@pytest.fixture
def earlier(store: Store) -> Store:
    """`r1` serves; `r0-old` was healthy before, with another bridge."""
    release(store, "r0-old", {"compose.yaml": b"services: {}"}, services={"bridge": "old"})
    kept: Any = {"services": [], "checks": {}, "images": {"b:1": "sha256:old"}}
    (store.release("r0-old") / "deploy.json").write_text(json.dumps(kept))
    for name in ("r0-old", "r1"):
        store.record(release=name, result="healthy")
    return store


def running(mark: str, image_id: str = "sha256:old", image: str = "b:1") -> Engine:
    return Engine(
        Container("bridge", "b", state="running", hash=mark, image=image, image_id=image_id)
    )


@pytest.mark.parametrize("wanted", ["", "r0", "r0-old"])
def test_what_a_rollback_would_serve_and_change(earlier: Store, ask: Ask, wanted: str) -> None:
    (found,) = ask(running("new"), requests.GoingBackRequest(wanted))
    assert found == {
        "event": "going_back",
        "release": "r0-old",
        "previous": "r1",
        "changes": {"bridge": "update"},
        "definition": found["definition"],
        "secrets": [],
    }
    assert ask(running("old"), requests.GoingBackRequest(wanted))[0]["changes"] == {}
    moved = ask(running("old", "sha256:new"), requests.GoingBackRequest(wanted))[0]
    assert moved["changes"] == {"bridge": "update"}, "the same definition, from another image"
    other = ask(running("old", "sha256:new", "c:1"), requests.GoingBackRequest(wanted))[0]
    assert other["changes"] == {}, "of which nothing was pinned"
    gone = ask(Engine(Container("caddy", "c", state="running")), requests.GoingBackRequest(wanted))
    assert gone[0]["changes"] == {"bridge": "create", "caddy": "remove"}
    stopped = running("old", "sha256:new")
    stopped.existing[0].state = "exited"
    found = ask(stopped, requests.GoingBackRequest(wanted))[0]
    assert found["changes"] == {"bridge": "update"}


def test_the_definition_of_the_services_comes_along(earlier: Store, ask: Ask) -> None:
    path = earlier.release("r0-old") / COMPOSE_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("services: {b: 1}")
    assert ask(running("old"), requests.GoingBackRequest(""))[0]["definition"] == "services: {b: 1}"
    path.unlink()
    assert ask(running("old"), requests.GoingBackRequest(""))[0]["definition"] == ""


def test_secrets_that_were_others_then_are_named(earlier: Store, ask: Ask) -> None:
    """A password that was changed since would be typed again."""
    then = {"secrets/tws-password": "1", "secrets/key": "2", "secrets/gone": "3", "notes": "4"}
    now = {"secrets/tws-password": "9", "secrets/key": "2", "secrets/new": "3", "notes": "5"}
    for name, listed in (("r0-old", then), ("r1", now)):
        path = earlier.release(name) / "release.json"
        path.write_text(json.dumps({"files": listed, "services": {}}))
    assert ask(Engine(), requests.GoingBackRequest(""))[0]["secrets"] == ["tws-password"]


def test_a_rollback_needs_one_release_that_was_noted(earlier: Store, ask: Ask) -> None:
    release(earlier, "r0-other", {})
    (failed,) = ask(Engine(), requests.GoingBackRequest("r0"))
    assert failed["code"] == "no-release"
    assert failed["message"].startswith("'r0' begins 2 releases: ")
    assert "r0-other" in failed["message"]
    (failed,) = ask(Engine(), requests.GoingBackRequest("4f"))
    assert failed["message"] == "there is no release '4f' on the host"
    assert failed["hint"].startswith("kept are ")
    assert ask(Engine(), requests.GoingBackRequest("r0-other"))[0]["code"] == "no-release"
    assert ask(Engine(), requests.GoingBackRequest("x"))[0]["code"] == "no-release"
    (earlier.release("r0-old") / "release.json").write_text("{}")
    (failed,) = ask(Engine(), requests.GoingBackRequest("r0-old"))
    assert failed["message"] == "the list of release 'r0-old' is damaged on the host"
    (earlier.base / "ledger.jsonl").unlink()
    (failed,) = ask(Engine(), requests.GoingBackRequest(""))
    assert failed["message"] == "there is no earlier release that was healthy"


def test_without_any_release_there_is_nothing_to_go_back_to(tmp_path: Path) -> None:
    wire = Wire(io.BytesIO(), io.BytesIO())
    with pytest.raises(HostFailure) as refused:
        operate.Operator(Store(str(tmp_path)), Engine(), wire).going_back("r1")
    assert refused.value.hint == "nothing is deployed"


def test_a_rollback_serves_the_earlier_release(earlier: Store, ask: Ask) -> None:
    runtime = running("new", "sha256:new")
    runtime.new_hash, runtime.new_image = "old", ("b:1", "sha256:old")
    runtime.images = {"b:1": "sha256:new", "x": "sha256:old"}
    events = ask(runtime, requests.RollBackRequest("r0-old", 5, "me"))
    done = events[-1]
    assert (done["event"], done["result"], done["release"]) == ("done", "healthy", "r0-old")
    assert earlier.current() == "r0-old"
    assert "rename sha256:old b:1" in runtime.done
    last = earlier.ledger()[-1]
    assert (last["command"], last["result"], last["by"]) == ("rollback", "healthy", "me")


@pytest.mark.parametrize("stretch", [1.0, 3.0])
def test_a_rollback_may_take_as_long_as_any_deploy(
    earlier: Store, monkeypatch: pytest.MonkeyPatch, stretch: float
) -> None:
    taken: list[requests.ApplyRequest] = []

    class Recorded(Deploy):
        def run(self) -> events.Done:
            taken.append(self._request)
            return events.Done("healthy", "r0-old", True, False, 0)

    monkeypatch.setattr(operate, "Deploy", Recorded)
    wire = Wire(io.BytesIO(), io.BytesIO())
    request = requests.RollBackRequest("r0-old", 300, "me", stretch=stretch)
    operate.Operator(earlier, running("new", "sha256:new"), wire).roll_back(request)
    assert [(one.wait, one.stretch) for one in taken] == [(300, stretch)]


# --- without a session ----------------------------------------------------------------------------
def test_the_kill_switch_needs_no_session(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the engine nor another's lock holds it up."""
    Store(str(store.base)).lock("anna")
    (store.base / "data/bridge").mkdir(parents=True)
    chosen: list[tuple[Any, ...]] = []

    def choose(*all_of: Any) -> Engine:
        chosen.append(all_of)
        return Engine()

    monkeypatch.setattr(program_module, "choose", choose)
    base, target = str(store.base), io.BytesIO()
    with closed_port() as port:
        asked = [
            requests.HaltRequest(base, port, "me", "none"),
            requests.ResumeRequest(base, port, "me"),
            requests.CancelAllRequest(base, "p", "sandbox", "me", port),
        ]
        lines = b"".join(encoding.encode(one) for one in asked)
        Program(Wire(io.BytesIO(lines), target)).serve()
    halted, resumed, failed = (json.loads(line) for line in target.getvalue().splitlines())
    assert (halted["event"], halted["way"], halted["mark"]) == ("halted", "mark", "left")
    assert (resumed["event"], resumed["mark"]) == ("halted", "removed")
    assert failed["code"] == "gateway-unreachable"
    assert chosen[-1] == ("sandbox", store.base, "p", ())


# --- the wire -------------------------------------------------------------------------------------
def test_a_client_that_has_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def write(self, _: Any) -> int:
            raise BrokenPipeError

    redirected: list[tuple[str, int]] = []

    def noted(source: int, target: int) -> None:
        redirected.append((str(Path(f"/proc/self/fd/{source}").readlink()), target))

    monkeypatch.setattr(os, "dup2", noted)
    monkeypatch.setattr(
        wire_module, "sys", SimpleNamespace(stdout=FileNumber(101), stderr=FileNumber(102))
    )
    wire = Wire(io.BytesIO(), Broken())
    wire.emit(events.Alive())
    wire.emit(events.Alive())
    assert wire.gone.is_set()
    assert redirected == [("/dev/null", 101), ("/dev/null", 102)]


@pytest.mark.parametrize("patience", [0.05, 20])
def test_a_client_that_takes_nothing_counts_as_gone_where_the_lock_is_held(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    numbers = SimpleNamespace(stdout=FileNumber(101), stderr=FileNumber(102))
    monkeypatch.setattr(wire_module, "sys", numbers)
    reader, writer = os.pipe()
    taken: list[bytes] = []
    with os.fdopen(reader, "rb") as source, os.fdopen(writer, "wb", 0) as target:
        wire = Wire(io.BytesIO(), target)
        wire.patience = patience
        reads = threading.Thread(target=lambda: taken.extend(source), daemon=True)
        if patience > 1:
            reads.start()
        for _ in range(40):
            wire.emit(events.Step("x" * 9000))
        assert wire.gone.is_set() is (patience < 1)
        target.close()
        if patience > 1:
            reads.join(20)
    assert [len(line) for line in taken] == ([len(taken[0])] * 40 if taken else [])
    assert bool(taken) is (patience > 1)


def test_only_who_holds_the_lock_cannot_wait_for_a_client(ask: Ask, store: Store) -> None:
    seen: list[float | None] = []

    class Looking(Engine):
        def controller(self, image: str) -> str | None:
            seen.append(wires[-1].patience)
            return None

    wires: list[Wire] = []
    made = Wire.beat

    def kept(wire: Wire) -> None:
        wires.append(wire)
        made(wire)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Wire, "beat", kept)
        for lock in (False, True):
            ask(Looking(), requests.ControllerRequest("g:1"), lock=lock)
    assert seen == [None, wire_module.PATIENCE]


class FileNumber:
    """A stream of which only the descriptor is asked."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number


@pytest.mark.parametrize("work", ["down", "newer", "load", "facts"])
def test_whatever_takes_long_is_heard_of(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    monkeypatch.setattr(wire_module, "HEARTBEAT", 0.02)
    answers: list[bool] = []

    class Slow(Engine):
        def _waits(self) -> None:
            until = time.monotonic() + 20
            while not beats.is_set() and time.monotonic() < until:
                time.sleep(0.01)
            answers.append(beats.is_set())

        def down(self) -> None:
            self._waits()

        def at_registry(self, image: str) -> tuple[str, str]:
            self._waits()
            return "", "no answer"

        def load(self, pieces: Iterable[bytes]) -> None:
            super().load(pieces)
            self._waits()

        def facts(self) -> dict[str, Any]:
            self._waits()
            return {"engine": "", "compose": "", "services": {}}

    beats = threading.Event()
    emit = Wire.emit

    def heard(wire: Wire, event: events.Event) -> None:
        if isinstance(event, events.Alive):
            beats.set()
        emit(wire, event)

    monkeypatch.setattr(Wire, "emit", heard)
    asked: dict[str, list[requests.Request | bytes]] = {
        "down": [requests.DownRequest("me", {})],
        "newer": [requests.NewerRequest({"gateway": "g"})],
        "load": [requests.LoadRequest(3, partial=False), b"abc"],
        "facts": [requests.FactsRequest({})],
    }
    ask(Slow(), *asked[work])
    assert answers == [True]


def test_what_is_cut_is_not_taken_for_whole() -> None:
    wire = Wire(io.BytesIO(b"12345"), io.BytesIO())
    assert wire.read(3) == b"123"
    with pytest.raises(HostFailure) as refused:
        wire.read(3)
    assert refused.value.code == "interrupted"


def test_a_client_that_waits_hears_that_something_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wire_module.HEARTBEAT <= 5, "what a client waits for at least"
    monkeypatch.setattr(wire_module, "HEARTBEAT", 0.01)
    source, client = socket.socketpair()
    heard = threading.Event()

    class Hears(io.BytesIO):
        def write(self, line: Any) -> int:
            heard.set()
            return super().write(line)

    target = Hears()
    with source.makefile("rb") as stream:
        wire = Wire(stream, target)
        wire.watch()
        wire.watch()
        assert heard.wait(10)
        assert not wire.gone.is_set()
        client.sendall(encoding.encode(requests.HistoryRequest()))
        assert isinstance(wire.receive(), requests.HistoryRequest)
        wire.check()
        client.sendall(encoding.encode(requests.CancelRequest()))
        client.close()
        assert wire.receive() is None
    source.close()
    assert wire.gone.is_set()
    with pytest.raises(Cancelled):
        wire.check()
    wire.check()  # it is asked for once
    wire.cancel()
    with pytest.raises(Cancelled):
        wire.check()
    assert json.loads(target.getvalue().splitlines()[0]) == {"event": "alive"}


def test_runtimes_tell_by_the_events_name() -> None:
    target = io.BytesIO()
    Wire(io.BytesIO(), target).tell("step", text="building")
    assert json.loads(target.getvalue()) == {"event": "step", "text": "building"}


def test_signals_ask_for_an_orderly_end(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: dict[int, Any] = {}
    monkeypatch.setattr(signal, "signal", lambda number, what: taken.update({number: what}))
    wire = Wire(io.BytesIO(), io.BytesIO())
    with program_module._signals(wire):
        pass
    assert taken.pop(signal.SIGHUP) is signal.SIG_IGN
    assert taken.keys() == {signal.SIGTERM, signal.SIGINT}
    for stop in taken.values():
        stop(15, None)
        with pytest.raises(Cancelled):
            wire.check()


def test_the_bridge_gets_the_time_that_its_answer_takes(store: Store, ask: Ask) -> None:
    runtime = Engine(Container("bridge", "b", state="running"))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        request = requests.AskBridgeRequest("POST", "/alerts/test", port, within=0.2)
        (found,) = ask(runtime, request)
    assert found["status"] == 0
    assert found["seconds"] < 5


# --- what follows a request -----------------------------------------------------------------------
def test_a_release_may_follow_a_request_that_listens() -> None:
    """`upgrade --to` fetches an image, and then sends the release that names it."""
    fetch = encoding.encode(requests.FetchRequest("i", "sha256:x"))
    send = encoding.encode(requests.ApplyRequest("r2", [], {}, {}, 1.0, "me", tar=5))
    source, client = socket.socketpair()
    with source, client, source.makefile("rb") as stream:
        wire = Wire(stream, io.BytesIO())

        def received() -> bytes:
            request = wire.receive()
            return b"" if request is None else encoding.encode(request)

        client.sendall(fetch)
        assert received() == fetch
        wire.watch()
        client.sendall(send + b"a\nb\nc")
        assert received() == send
        assert wire.read(2) + wire.read(3) == b"a\nb\nc"
        client.sendall(encoding.encode(requests.CancelRequest()))
        assert wire._cancelled.wait(10)
        client.sendall(send + b"x\ny\nz" + fetch)
        assert received() == send  # refused before it was read
        assert received() == fetch
        client.sendall(send + b"a\n")
        assert received() == send
        client.shutdown(socket.SHUT_WR)
        with pytest.raises(HostFailure, match="before the release was whole"):
            wire.read(5)
        assert received() == b""
        assert wire.gone.wait(10)

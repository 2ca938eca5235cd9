"""The kill switch from the host: by the bridge, by the mark, and straight at the gateway."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import stat
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bridge import halt_mark
from infrastructure.apply.host import halt
from infrastructure.apply.host.store import Store
from infrastructure.apply.protocol import events, requests
from infrastructure.runtime.base import Container, HostFailure
from tests.closed_port import closed_port
from tests.deploy.apply.fake import FakeRuntime

Messages = list[tuple[str, ...]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A stack that serves release `r1`, with a key."""
    found = Store(str(tmp_path / "prod"))
    secrets = found.release("r1") / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "bridge-admin-key").write_text("k3y\n")
    found.switch("r1")
    (found.base / "data" / "bridge").mkdir(parents=True)
    return found


@pytest.fixture
def closed() -> Iterator[int]:
    """A port where nobody listens."""
    with closed_port() as port:
        yield port


# --- by the bridge, or by the mark ----------------------------------------------------------------
@contextlib.contextmanager
def bridge(status: int, answer: Any) -> Iterator[tuple[int, list[bytes]]]:
    """A bridge that gives one answer; its port, and what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(65_536))
                content = json.dumps(answer).encode()
                client.sendall(f"HTTP/1.1 {status} x\r\n\r\n".encode() + content)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(5)


def halted(store: Store, port: int, cancel: str = "none") -> events.Halted:
    return halt.halt(store, requests.HaltRequest(str(store.base), port, "me", cancel, "why"))


def resumed(store: Store, port: int) -> events.Halted:
    return halt.resume(store, requests.ResumeRequest(str(store.base), port, "me"))


@pytest.mark.parametrize(
    ("cancel", "keep", "every"),
    [("none", True, False), ("opening", False, False), ("all", False, True)],
)
def test_a_bridge_that_answers_halts(store: Store, cancel: str, keep: bool, every: bool) -> None:
    answer = {"halted": True, "survivesRestart": True}
    with bridge(200, answer) as (port, asked):
        found = halted(store, port, cancel)
    assert (found.way, found.answer, found.mark, found.status) == ("bridge", answer, "left", 200)
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /trading/halt HTTP")
    assert b"X-API-KEY: k3y" in head
    assert json.loads(body) == {"reason": "why", "keepOrders": keep, "everyClient": every}
    assert halt_mark.read(store.base / "data/bridge") is None, "the bridge leaves its own"
    (entry,) = store.ledger()
    assert entry == {**entry, "command": "halt", "release": "r1", "result": "by the bridge"}
    assert (entry["reason"], entry["by"]) == ("why", "me")


def test_a_bridge_whose_halt_would_end_with_it_gets_a_mark(store: Store) -> None:
    with bridge(200, {"halted": True}) as (port, _):
        found = halted(store, port, "opening")
    assert (found.way, found.mark) == ("bridge", "left")
    said = halt_mark.read(store.base / "data/bridge")
    assert said is not None
    assert (said["by"], said["reason"], said["cancel"]) == ("host", "why", "opening")


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (200, {"halted": False}),
        (200, [1]),
        (200, {"halted": "yes"}),
        (201, {"halted": True, "survivesRestart": True}),
        (503, {"halted": True, "survivesRestart": True}),
    ],
)
def test_any_other_answer_leaves_the_mark(store: Store, status: int, answer: Any) -> None:
    with bridge(status, answer) as (port, _):
        found = halted(store, port)
    assert (found.way, found.answer, found.mark, found.status) == ("mark", answer, "left", status)
    mark = store.base / "data/bridge" / halt_mark.NAME
    assert stat.S_IMODE(mark.stat().st_mode) == 0o600
    since = json.loads(mark.read_text())["since"]
    assert time.strftime("%Y-%m-%d", time.gmtime(time.time() - 60)) <= since[:10]
    assert (since[10], since[-1], len(since)) == ("T", "Z", 20)
    assert [entry["result"] for entry in store.ledger()] == ["by the mark"]


def test_a_bridge_that_accepts_and_says_nothing_holds_up_no_halt(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert halt.BRIDGE_SECONDS <= 3.0, "a person waits"
    monkeypatch.setattr(halt, "BRIDGE_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        found = halted(store, listener.getsockname()[1])
    assert (found.way, found.answer, found.mark, found.status) == ("mark", None, "left", 0)


def test_where_nothing_is_deployed_nothing_is_halted(tmp_path: Path, closed: int) -> None:
    with pytest.raises(HostFailure) as refused:
        halted(Store(str(tmp_path)), closed)
    assert refused.value.code == "nothing-deployed"


def test_a_full_disk_leaves_an_empty_mark(
    store: Store, monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(halt_mark, "write", full)
    monkeypatch.setattr(Store, "record", full)
    assert halted(store, closed).mark == "empty"
    assert halt_mark.read(store.base / "data/bridge") == {}
    monkeypatch.setattr(halt_mark, "leave_empty", full)
    assert halted(store, closed).mark == os.strerror(errno.ENOSPC)


def test_a_folder_that_is_missing_is_told(store: Store, closed: int) -> None:
    (store.base / "data/bridge").rmdir()
    assert halted(store, closed).mark == os.strerror(errno.ENOENT)


@pytest.mark.parametrize("user", [0, 1000])
def test_the_mark_belongs_to_the_bridge(
    store: Store, monkeypatch: pytest.MonkeyPatch, user: int, closed: int
) -> None:
    folder = store.base / "data/bridge"
    given: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: user)

    def give(descriptor: int, owner: int, group: int) -> None:
        given.append((os.fstat(descriptor).st_ino, owner, group))

    monkeypatch.setattr(os, "fchown", give)
    assert halted(store, closed).mark == "left"
    owner = folder.stat()
    mark = (folder / halt_mark.NAME).stat().st_ino
    assert given == ([(mark, owner.st_uid, owner.st_gid)] if user == 0 else [])


@pytest.mark.parametrize("name", [halt_mark.NAME, f"{halt_mark.NAME}.new"])
@pytest.mark.parametrize("full", [False, True])
def test_a_link_of_the_bridges_container_leads_the_mark_nowhere(
    store: Store, monkeypatch: pytest.MonkeyPatch, closed: int, name: str, full: bool
) -> None:
    """Root leaves it in a folder of another user's, who would have it write to any file."""
    victim, folder = store.base.parent / "victim", store.base / "data/bridge"
    victim.write_text("of the host's")
    (folder / name).symlink_to(victim)
    if full:
        monkeypatch.setattr(halt_mark, "write", no_room)
    assert halted(store, closed).mark == ("empty" if full else "left")
    assert victim.read_text() == "of the host's"
    mark = folder / halt_mark.NAME
    assert stat.S_ISREG(mark.lstat().st_mode)
    assert list(folder.iterdir()) == [mark]


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.timeout(20)
def test_a_pipe_in_the_marks_place_holds_up_nobody(store: Store, closed: int) -> None:
    folder = store.base / "data/bridge"
    os.mkfifo(folder / halt_mark.NAME)
    assert halt_mark.read(folder) == {}
    os.mkfifo(folder / f"{halt_mark.NAME}.new")
    assert halted(store, closed).mark == "left"


def test_half_a_mark_is_none(store: Store, monkeypatch: pytest.MonkeyPatch, closed: int) -> None:
    """A disk that takes a part of it: what it says would cancel nothing."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda to, content: real(to, content[:7]))
    assert halted(store, closed).mark == "empty"
    assert halt_mark.read(store.base / "data/bridge") == {}


def marked(store: Store) -> bool:
    return halt_mark.read(store.base / "data/bridge") is not None


def test_resuming_through_the_bridge_takes_the_mark_away(store: Store, closed: int) -> None:
    halted(store, closed)
    with bridge(200, {"halted": False}) as (port, asked):
        found = resumed(store, port)
    assert asked[0].startswith(b"DELETE /trading/halt HTTP")
    assert asked[0].endswith(b"\r\n\r\n"), "no body"
    assert (found.way, found.mark, found.status, marked(store)) == ("bridge", "removed", 200, False)
    last = store.ledger()[-1]
    assert (last["command"], last["result"], last["reason"]) == ("resume", "by the bridge", "")


@pytest.mark.parametrize(
    ("status", "answer"), [(200, {"halted": True}), (200, "odd"), (409, {"halted": False})]
)
def test_a_bridge_that_refuses_keeps_the_mark(
    store: Store, status: int, answer: Any, closed: int
) -> None:
    halted(store, closed)
    with bridge(status, answer) as (port, _):
        found = resumed(store, port)
    assert (found.way, found.mark, found.status, marked(store)) == ("mark", "kept", status, True)
    assert store.ledger()[-1]["result"] == "mark kept"


def test_without_a_bridge_resuming_takes_the_mark_away(
    store: Store, monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    halted(store, closed)

    def denied(_: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(halt_mark, "remove", denied)
        assert resumed(store, closed).mark == os.strerror(errno.EROFS)
    found = resumed(store, closed)
    assert (found.way, found.mark, found.status, marked(store)) == ("mark", "removed", 0, False)
    assert store.ledger()[-1]["result"] == "mark removed"


# --- straight at the gateway ----------------------------------------------------------------------
def frame(*fields: str) -> bytes:
    content = "".join(f"{field}\0" for field in fields).encode()
    return struct.pack(">I", len(content)) + content


class Gateway:
    """Answers as a gateway does; `lists` are the open orders at each question, None: no end.

    `cut`: bytes a piece, so that frames come in parts. `in_use`: client ids that another has.
    """

    def __init__(self, *lists: Messages | None, cut: int = 0, in_use: int = 0) -> None:
        self.lists = list(lists)
        self.cut = cut
        self.in_use = in_use
        self.hello = frame("176", "20260213 14:30:00 UTC")
        self.heard: list[list[str]] = []
        self.told = threading.Event()
        """It has heard of a global cancel."""
        self.then: bytes | None = b""
        """What it says instead of the open orders; None: it hangs up."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, contextlib.suppress(OSError):
                    self._talk(client)

    def _say(self, client: socket.socket, content: bytes) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        step = self.cut or len(content) or 1
        for at in range(0, len(content), step):
            client.sendall(content[at : at + step])

    def _talk(self, client: socket.socket) -> None:
        with client.makefile("rb") as stream:
            assert stream.read(4) == b"API\0"
            (size,) = struct.unpack(">I", stream.read(4))
            self.heard.append([stream.read(size).decode()])
            self._say(client, self.hello)
            while head := stream.read(4):
                (size,) = struct.unpack(">I", head)
                fields = stream.read(size).decode().split("\0")[:-1]
                self.heard.append(fields)
                if fields[0] == "71" and self.in_use:
                    self.in_use -= 1
                    text = "Unable to connect as the client id is already in use."
                    self._say(client, frame("4", "2", "-1", "326", text))
                elif fields[0] == "71":
                    notices = frame("4", "2", "-1", "2104", "Market data farm connection is OK")
                    self._say(client, frame("15", "1", "DU1") + notices + frame("9", "1", "7"))
                elif fields[0] == "58":
                    self.told.set()
                elif fields[0] == "16" and self.then is None:
                    return
                elif fields[0] == "16":
                    self._say(client, self.then) if self.then else self._orders(client)

    def _orders(self, client: socket.socket) -> None:
        found = self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]
        said = b"".join(frame(*each) for each in found or [])
        self._say(client, said if found is None else said + frame("53", "1"))


class Clock:
    """The time of the program alone; sleeping winds it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    fake = SimpleNamespace(
        monotonic=found.monotonic, sleep=found.sleep, strftime=time.strftime, gmtime=time.gmtime
    )
    monkeypatch.setattr(halt, "time", fake)
    return found


ORDER = ("5", "1", "265598", "AAPL")


@pytest.mark.parametrize("cut", [0, 1, 5])
def test_the_cancel_goes_before_the_question(clock: Clock, cut: int) -> None:
    with Gateway([], cut=cut) as gateway:
        found = halt.global_cancel("127.0.0.1", gateway.port)
    assert (found.left, found.errors) == (0, [])
    client = str(halt.CLIENT_IDS[0])
    assert gateway.heard == [["v157..178"], ["71", "2", client, ""], ["58", "1"], ["16", "1"]]
    assert halt.CLIENT_IDS == (1_000_017, 1_000_018, 1_000_019), "the bridge is given none above"


def test_it_looks_until_nothing_is_open(clock: Clock) -> None:
    with Gateway([ORDER, ORDER], [ORDER], []) as gateway:
        assert halt.global_cancel("127.0.0.1", gateway.port).left == 0
    assert clock.slept == [0.2, 0.2]


def test_what_is_left_when_the_time_is_up_is_told(clock: Clock) -> None:
    with Gateway([ORDER, ORDER, ("3", "1", "Submitted"), ORDER]) as gateway:
        assert halt.global_cancel("127.0.0.1", gateway.port, 2.0).left == 3
    assert len(clock.slept) == 5, "the last second is kept for the answer"


def test_what_the_gateway_says_is_told_but_not_that_data_flows(clock: Clock) -> None:
    said: Messages = [
        ("4", "2", "-1", "2106", "HMDS data farm connection is OK"),
        *(("4", "2", str(at), "201", "x" * 300) for at in range(7)),
        ("4", "2", "7", "201"),
    ]
    with Gateway(said) as gateway:
        found = halt.global_cancel("127.0.0.1", gateway.port)
    assert found.errors == [("201 " + "x" * 300)[:200]] * 5


def test_an_error_is_told_as_far_as_it_goes(clock: Clock) -> None:
    said: Messages = [
        ("4", "2", "7"),
        ("4", "2", "7", "2100"),
        ("4", "2", "7", "201"),
        ("4", "2", "7", "201", "why"),
    ]
    with Gateway(said) as gateway:
        found = halt.global_cancel("127.0.0.1", gateway.port)
    assert [each.strip() for each in found.errors] == ["201", "201 why"]


def test_the_gateway_has_ten_seconds_in_all(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []

    class Busy(halt.Api):
        def __init__(self, address: str, port: int, client_id: int, until: float) -> None:
            asked.append((client_id, until))
            clock.now += 3

        def __exit__(self, *_: object) -> None: ...

        def ready(self) -> bool:
            return False

    monkeypatch.setattr(halt, "Api", Busy)
    for seconds in ({}, {"seconds": 4.0}):
        asked.clear()
        until = clock.now + seconds.get("seconds", 10.0)
        with pytest.raises(HostFailure, match="is in use"):
            halt.global_cancel("192.0.2.1", 4002, **seconds)
        assert asked == [(one, until) for one in halt.CLIENT_IDS]


def test_another_client_id_is_taken_when_one_is_in_use(clock: Clock) -> None:
    with Gateway([], in_use=2) as gateway:
        assert halt.global_cancel("127.0.0.1", gateway.port).left == 0
    starts = [fields[2] for fields in gateway.heard if fields[0] == "71"]
    assert starts == [str(one) for one in halt.CLIENT_IDS]
    with Gateway([], in_use=3) as gateway, pytest.raises(HostFailure) as failed:
        halt.global_cancel("127.0.0.1", gateway.port)
    assert failed.value.code == "gateway-unreachable"
    assert f"client id {halt.CLIENT_IDS[-1]} is in use" in failed.value.message
    assert "NO order was cancelled" in failed.value.message


def test_a_gateway_that_does_not_say_what_is_open_was_told_to_cancel() -> None:
    with Gateway(None) as gateway:
        found = halt.global_cancel("127.0.0.1", gateway.port, 0.3)
    assert (found.left, found.errors) == (None, [])
    assert ["58", "1"] in gateway.heard


@pytest.mark.parametrize(
    ("then", "why"),
    [(None, "it hangs up"), (struct.pack(">I", 1 << 30), "it speaks another language")],
)
def test_what_goes_wrong_after_the_cancel_takes_nothing_back(
    clock: Clock, then: bytes | None, why: str
) -> None:
    with Gateway([]) as gateway:
        gateway.then = then
        found = halt.global_cancel("127.0.0.1", gateway.port)
    assert (found.left, found.errors) == (None, [why])


def test_one_that_accepts_and_says_nothing_is_left_in_time() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(HostFailure, match="accepts, but does not answer in time; NO order"),
    ):
        halt.global_cancel("127.0.0.1", listener.getsockname()[1], 0.1)


def test_where_nobody_listens_the_cause_is_told(closed: int) -> None:
    with pytest.raises(HostFailure, match="refused; NO order was cancelled"):
        halt.global_cancel("127.0.0.1", closed)


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        (b"", "it hangs up"),
        (frame("SSH-2.0"), "another language"),
        (struct.pack(">I", halt.BIGGEST + 1), "another language"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "another language"),
    ],
)
def test_what_is_no_gateway_is_told(clock: Clock, hello: bytes, why: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(64)
                client.sendall(hello)

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(HostFailure, match=why):
            halt.global_cancel("127.0.0.1", listener.getsockname()[1], 5.0)


def test_the_longest_message_is_still_one(clock: Clock) -> None:
    long: Messages = [("5", "x" * (halt.BIGGEST - 3))]
    with Gateway(long, []) as gateway:
        assert halt.global_cancel("127.0.0.1", gateway.port).left == 0
    assert halt.BIGGEST == 1 << 20


def cancelled(store: Store, port: int, address: str, runtime: FakeRuntime) -> events.Cancelled:
    request = requests.CancelAllRequest(str(store.base), "p", "compose", "me", port, address)
    return halt.cancel_all(store, request, lambda: runtime)


@pytest.mark.parametrize("sessions", [["paper"], ["live", "paper"], [[]], 7, None])
def test_the_cancel_goes_to_the_session_that_was_deployed(
    store: Store, monkeypatch: pytest.MonkeyPatch, sessions: Any
) -> None:
    """With another mode in stack.yaml, not deployed yet, nobody listens on that one's port."""
    asked: list[int] = []

    def told(address: str, port: int) -> events.Cancelled:
        asked.append(port)
        return events.Cancelled(0, [])

    monkeypatch.setattr(halt, "global_cancel", told)
    if sessions is not None:
        note = {"services": [], "checks": {"gateway": {"sessions": sessions}}}
        (store.release("r1") / "deploy.json").write_text(json.dumps(note))
    relays = {"live": 4003, "paper": 4004}
    request = requests.CancelAllRequest(
        *(str(store.base), "p", "compose", "me", 4003, "127.0.0.1"), relays=relays
    )
    halt.cancel_all(store, request, FakeRuntime)
    assert asked == [4004 if sessions == ["paper"] else 4003]


def test_the_gateway_is_found_where_its_container_is(store: Store, clock: Clock) -> None:
    runtime = FakeRuntime(
        Container("gateway", "g", state="running", addresses=["127.0.0.1", "192.0.2.1"])
    )
    with Gateway([]) as gateway:
        assert cancelled(store, gateway.port, "", runtime).left == 0
        assert cancelled(store, gateway.port, "127.0.0.1", FakeRuntime()).left == 0
    last = store.ledger()[-1]
    assert (last["command"], last["result"]) == ("halt", "global cancel, 0 left open")
    for existing in ((), (Container("gateway", "g", state="running"),)):
        with pytest.raises(HostFailure, match="the gateway does not run"):
            cancelled(store, gateway.port, "", FakeRuntime(*existing))


def test_a_cancel_that_is_late_is_sent_all_the_same(clock: Clock) -> None:
    with Gateway([]) as gateway, halt.Api("127.0.0.1", gateway.port, 7, clock.now + 5) as api:
        assert api.ready()
        clock.now += 10
        assert api.cancel_everything().left is None
        assert gateway.told.wait(5)

"""The sandbox's runtime with real processes under a real supervisord."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from infrastructure.runtime.sandbox.runtime import SandboxRuntime
from tests.closed_port import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.runtime.base import Container

RELEASE = "r1"
SAID = '\'a\' "quoted" 50% value, with commas # and ; more "\'"'


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def service(command: list[str], **fields: object) -> dict[str, object]:
    return {
        "image": "none",
        "command": command,
        "environment": {},
        "folder": "/",
        "probe": [],
        "grace": 3,
        **fields,
    }


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def runtime(tmp_path: Path, port: int) -> Iterator[SandboxRuntime]:
    base = tmp_path / "stack"
    folder = base / "releases" / RELEASE
    (folder / "image").mkdir(parents=True)
    (folder / "image" / "hello.txt").write_text("hello")
    web = ["{python}", "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    defined = {
        "web": service(
            web,
            image="gangway/web:1",
            folder="{image}",
            probe=["http", f"http://127.0.0.1:{port}/hello.txt"],
        ),
        "crash": service(["{python}", "-c", "print('boom 100%', flush=True); raise SystemExit(7)"]),
        "told": service(
            [
                "{python}",
                "-c",
                "import os, sys, time; print(os.environ['SAID'], sys.argv[1], flush=True);"
                " time.sleep(60)",
                "an # argument",
            ],
            environment={"SAID": SAID},
        ),
    }
    (folder / "sandbox.json").write_text(json.dumps({"services": defined}))
    manifest = {"id": RELEASE, "files": {}, "services": {name: f"h-{name}" for name in defined}}
    (folder / "release.json").write_text(json.dumps(manifest))
    found = SandboxRuntime(base)
    yield found
    found.down()


def one(runtime: SandboxRuntime, identity: str) -> Container:
    return next(item for item in runtime.containers() if item.id == identity)


def readable(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def ended(pid: int) -> bool:
    """Gone, or only waiting for its parent to take notice."""
    status = readable(Path(f"/proc/{pid}/stat"))
    return not status or status.rpartition(b")")[2].split()[0] == b"Z"


def test_a_service_lives_from_creation_to_removal(
    runtime: SandboxRuntime, tmp_path: Path, port: int
) -> None:
    told: list[tuple[str, str]] = []
    runtime.obtain(
        RELEASE,
        [{"name": "web", "image": "gangway/web:1", "builds": True}],
        lambda event, text: told.append((event, text)),
    )
    assert told == [("step", "unpacking web")]
    (made,) = runtime.create(RELEASE, ["web"])
    assert (made.id, made.state, made.hash) == ("web-1", "created", "h-web")
    runtime.start([made])
    until(lambda: one(runtime, "web-1").health == "healthy")
    assert runtime.probe(one(runtime, "web-1"), 2)[0]
    assert "http.server" in runtime.programs(one(runtime, "web-1"))[0]
    until(lambda: "GET /hello.txt" in runtime.log(one(runtime, "web-1"), 50))

    first = one(runtime, "web-1").since
    runtime.restart(one(runtime, "web-1"))
    until(lambda: one(runtime, "web-1").health == "healthy")
    assert one(runtime, "web-1").since >= first

    runtime.stop([one(runtime, "web-1")])
    assert one(runtime, "web-1").state == "exited"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
    runtime.remove([one(runtime, "web-1")])
    assert runtime.containers() == []
    assert list((tmp_path / "stack" / "images").iterdir()) == []


def test_a_second_process_of_a_service_stands_beside_the_first(runtime: SandboxRuntime) -> None:
    runtime.create(RELEASE, ["told"])
    (second,) = runtime.create(RELEASE, ["told"])
    assert (second.id, second.number) == ("told-2", 2)
    assert {item.id for item in runtime.containers()} == {"told-1", "told-2"}


def test_a_crashing_program_is_given_up_and_its_log_is_kept(runtime: SandboxRuntime) -> None:
    (made,) = runtime.create(RELEASE, ["crash"])
    runtime.start([made])
    until(lambda: one(runtime, "crash-1").state == "dead", 90)
    assert "boom 100%" in runtime.log(made, 5)
    assert (
        one(runtime, "crash-1").exit_code is None
    )  # supervisord keeps no status of a program that it gave up
    assert next(iter(runtime.follow(made))) == "boom 100%"


def test_environment_values_arrive_whole_and_nothing_of_the_callers(
    runtime: SandboxRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWS_PASSWORD", "must not travel")
    (made,) = runtime.create(RELEASE, ["told"])
    runtime.start([made])
    until(lambda: f"{SAID} an # argument" in runtime.log(made, 5))
    environments = [readable(path) for path in Path("/proc").glob("[0-9]*/environ")]
    ours = [text for text in environments if b"SAID=" in text]
    assert ours
    assert not any(b"must not travel" in text for text in ours)


def test_lines_since_a_time_and_those_that_tell_none(runtime: SandboxRuntime) -> None:
    (made,) = runtime.create(RELEASE, ["told"])
    old, new = (json.dumps({"timestamp": f"2026-01-0{day}T00:00:00Z"}) for day in (1, 3))
    log = runtime._log(made.id)

    def since(text: str) -> list[str]:
        log.write_text(text)
        found = runtime.read_log(made, since="2026-01-02", lines=0, follow=False)
        return [line.partition(" ")[2] for line in found]

    assert since(f"{old}\nof the old\n{new}\nof the new\n") == [new, "of the new"]
    assert since("a program\nwithout times\n") == ["a program", "without times"]


def test_a_log_is_followed_into_the_next_one(runtime: SandboxRuntime) -> None:
    """supervisord begins a new file when one is full; the new one is shorter."""
    (made,) = runtime.create(RELEASE, ["told"])
    runtime.start([made])
    lines = runtime.follow(made)
    assert next(lines) == f"{SAID} an # argument"
    log = runtime._log(made.id)
    log.replace(log.with_name(f"{log.name}.1"))
    log.write_text("next\n")
    assert next(lines) == "next"


def test_down_leaves_no_process_and_no_socket(runtime: SandboxRuntime, tmp_path: Path) -> None:
    (made,) = runtime.create(RELEASE, ["told"])
    runtime.start([made])
    pid = int((tmp_path / "stack" / "run" / "supervisord.pid").read_text())
    runtime.down()
    until(lambda: ended(pid))
    assert runtime.containers() == []


def test_a_services_program_runs_once_beside_it(runtime: SandboxRuntime, tmp_path: Path) -> None:
    base = tmp_path / "stack"
    (base / "current").symlink_to(base / "releases" / RELEASE)
    script = "import os, sys; print(os.environ['SAID'], sys.argv[1:], input()); exit(int(input()))"
    path = base / "current" / "sandbox.json"
    known = json.loads(path.read_text())
    known["services"]["web"] = service(["{python}", "-c", script], environment={"SAID": "hi"})
    path.write_text(json.dumps(known))
    assert runtime.aside("web", ["tell", "x"], "text\n0\n", 60) == (True, "hi ['tell', 'x'] text")
    assert runtime.aside("web", [], "text\n3\n", 60) == (False, "hi [] text")
    assert runtime.aside("told", [], "", 0.5) == (False, "TimeoutExpired")
    assert runtime.containers() == []

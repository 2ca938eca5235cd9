"""Deploys that fail: the whole text that a person sees, the line that explains, one command.

The command line, the host's program and SSH are the real ones; Docker's words and the containers
of a gateway are played. `docs/troubleshooting.md` lists the same ones, by their code.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import textwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from infrastructure.apply.exchange import failure
from infrastructure.apply.host import health_gate
from infrastructure.apply.host.deploy import Deploy
from infrastructure.apply.host.store import Store
from infrastructure.apply.protocol import documents, events, requests
from infrastructure.apply.session import Session
from infrastructure.cli import output
from infrastructure.errors import WaitingForPerson
from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.compose import _known
from tests.closed_port import free_port
from tests.deploy.apply.fake import FakeRuntime, FakeWire
from tests.deploy.transport.server import new_key, server
from tests.docs.pages import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from syrupy.assertion import SnapshotAssertion

    from infrastructure.config import Target

COMMAND = re.compile(r"(?:\./deploy\.py|sudo|ssh-keygen|ssh-add|ssh|ss)(?: --?\S+)* [\w.-]+")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the host's files get owners")
PAGE = (PROJECT / "docs" / "troubleshooting.md").read_text()


def held(shown: str, snapshot: SnapshotAssertion, code: str, why: str, command: str) -> None:
    """The whole text; its error has the line that explains, its hint one command alone.

    The page names the code.
    """
    assert shown == snapshot
    lines = shown.splitlines()
    (error,) = [line for line in lines if line.startswith("error: ")]
    assert why in error
    (hint,) = [line for line in lines if line.startswith("hint: ")]
    assert command in hint
    assert len(COMMAND.findall(hint)) == 1, hint
    assert f"| `{code}` |" in PAGE.partition("## Broken deploys")[2], code


# --- the whole command line -------------------------------------------------------------------
@pytest.fixture
def up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Runs `up` in an empty folder, with Docker's words played; its error."""
    tools = tmp_path / "bin"
    tools.mkdir()
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")

    def run(stack: str, *, docker: str = "", code: int = 1, password: bool = True) -> str:
        text = textwrap.dedent(stack)
        if "address: local" in text and "port: " not in text:  # others may have the usual ones
            http, https, own = free_port(), free_port(), free_port()
            text += f"    caddy: {{http_port: {http}, https_port: {https}}}\n"
            text += f"    bridge: {{port: {own}}}\n"
        (tmp_path / "stack.yaml").write_text(text)
        if password:
            stored = tmp_path / ".gangway/secrets/prod/tws-password"
            stored.parent.mkdir(parents=True, mode=0o700)
            stored.write_text("of-the-tests")
            stored.chmod(0o400)
        if docker:
            (tools / "docker").write_text(f"#!/bin/sh\n{DOCKER.format(said=docker)}")
            (tools / "docker").chmod(stat.S_IRWXU)
        done = subprocess.run(
            [sys.executable, str(PROJECT / "deploy.py"), "--quiet", "up", "--yes"],
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        shown = done.stderr.replace(str(tmp_path), "FOLDER")
        return shown[shown.index("error: ") :]

    return run


DOCKER = """case " $* " in
*" --version "*) echo "Docker version 27.1.2, build 1"; exit ;;
esac
{said}
case " $* " in
*" compose version "*) echo 2.29.1 ;;
*" version "*) echo 27.1.2 ;;
*" image inspect "*) exit 1 ;;
esac
"""
LOCAL = """\
targets:
  prod:
    host: {{address: local, sudo: false}}
    folder: {folder}
    gateway:
      username: alice
"""


def says(words: str, text: str) -> str:
    """Docker's answer to a command with these words."""
    return f'case " $* " in *" {words} "*) echo "{text}" >&2; exit 1 ;; esac'


def test_a_secret_is_missing(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    shown = up(LOCAL.format(folder=tmp_path / "there"), password=False, code=2)
    command = "./deploy.py --target prod secrets set tws-password"
    held(shown, snapshot, "missing-secret", "'tws-password' is not there", command)


def test_there_is_no_docker(
    up: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    snapshot: SnapshotAssertion,
) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for name in ("sh", "id"):
        (only / name).symlink_to(shutil.which(name) or name)
    monkeypatch.setenv("PATH", str(only))
    shown = up(LOCAL.format(folder=tmp_path / "there"))
    held(shown, snapshot, "docker-missing", "there is no Docker", "./deploy.py prepare")


def test_the_engine_does_not_run(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    said = "Cannot connect to the Docker daemon at unix:///x. Is the docker daemon running?"
    shown = up(LOCAL.format(folder=tmp_path / "there"), docker=f'echo "{said}" >&2; exit 1')
    held(shown, snapshot, "docker-not-running", "does not run", "sudo systemctl start docker")


def test_compose_is_older_than_the_engine_talks_to(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    said = "client version 1.41 is too old. Minimum supported API version is 1.44"
    shown = up(LOCAL.format(folder=tmp_path / "there"), docker=f'echo "{said}" >&2; exit 1')
    command = "sudo apt-get install --only-upgrade 'docker-compose*'"
    held(shown, snapshot, "compose-too-old", "older than its engine", command)


@needs_root
def test_a_tag_that_does_not_exist(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    stack = LOCAL + "      image: ghcr.io/gnzsnz/ib-gateway:10.99.9z\n"
    reason = "Error response from daemon: manifest unknown"
    shown = up(stack.format(folder=tmp_path / "there"), docker=says("pull", reason))
    why = "ib-gateway:10.99.9z cannot be pulled: Error response from daemon: manifest unknown"
    held(shown, snapshot, "image-unavailable", why, "./deploy.py up")


@needs_root
def test_the_disk_is_full(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    reason = "failed to register layer: write /usr/lib/jvm: no space left on device"
    shown = up(LOCAL.format(folder=tmp_path / "there"), docker=says("pull", reason))
    held(shown, snapshot, "disk-full", "write /usr/lib/jvm: no space left", "./deploy.py doctor")


REMOTE = """\
targets:
  prod:
    host: {{address: 127.0.0.1, port: {port}, user: me, identity: {key}, known_hosts: {known}}}
    gateway:
      username: alice
"""


def test_the_key_is_refused(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with server(folder) as host:
        new_key(tmp_path / "other")
        stack = REMOTE.format(port=host.port, key=tmp_path / "other", known=host.known())
        shown = up(stack, code=5).replace(str(host.port), "PORT")
    shown = re.sub(r"(let us in: ).*", r"\1…", shown)  # in the words of whatever asked
    held(shown, snapshot, "host-unreachable", "me@127.0.0.1:PORT does not let us in", "ssh")


def test_the_hosts_key_has_changed(
    up: Callable[..., str], tmp_path: Path, snapshot: SnapshotAssertion
) -> None:
    folder = tmp_path / "ssh"
    folder.mkdir()
    with server(folder) as host:
        known = host.known(new_key(folder / "before"))
        stack = REMOTE.format(port=host.port, key=host.client_key, known=known)
        shown = up(stack, code=5)
        shown = shown.replace(host.fingerprint, "SHA256:…").replace(str(host.port), "PORT")
    command = "ssh-keygen -R '[127.0.0.1]:PORT'"
    held(shown, snapshot, "host-key-changed", "[127.0.0.1]:PORT has CHANGED", command)


# --- a deploy whose containers are played -----------------------------------------------------
@pytest.fixture
def deployed(
    tmp_path: Path,
    make: Callable[..., Target],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Updates one service of a healthy stack with this runtime; what the client shows."""
    monkeypatch.setattr(health_gate, "POLL", 0.0)
    monkeypatch.setattr(health_gate, "LOOK", 0.0)

    def run(runtime: FakeRuntime, service: str) -> str:
        store = Store(str(tmp_path / "prod"))
        store.lock("me")
        for name in ("old", "new"):
            store.release(name).mkdir(parents=True)
            (store.release(name) / "release.json").write_text("{}")
        store.switch("old")
        request = requests.ApplyRequest(
            release="new",
            by="me",
            changes={service: "update"},
            services=[documents.ServiceImage(service, "i", builds=False)],
            checks={"gateway": {"twoFactorWait": 0}, "bridge": {}, "caddy": {}},
            wait=5,
        )
        with pytest.raises(HostFailure) as caught:
            Deploy(store, runtime, FakeWire(), request).run()
        event = events.Failed(**caught.value.as_event())
        output.failure(failure(event, make()), as_json=False, verbose=False)
        return capsys.readouterr().err.replace(str(tmp_path), "FOLDER")

    return run


def a_stack() -> list[Container]:
    names = ("gateway", "bridge", "caddy")
    return [
        Container(name, f"{name}-1", state="running", health="healthy", image_id="i", hash="old")
        for name in names
    ]


class Ends(FakeRuntime):
    """The new container of a service ends with this code, having said this."""

    def __init__(self, service: str, code: int, log: str) -> None:
        super().__init__(*a_stack())
        self._which, self._code = f"{service}-2", code
        self.logs[self._which] = textwrap.dedent(log).strip().splitlines()

    def start(self, containers: Sequence[Container]) -> None:
        super().start(containers)
        for one in containers:
            if one.id == self._which:
                one.state, one.health, one.exit_code = "exited", "none", self._code


def test_wrong_jvm_flags(deployed: Callable[..., str], snapshot: SnapshotAssertion) -> None:
    log = """
        Unrecognized VM option 'NoSuchOption'
        Error: Could not create the Java Virtual Machine.
        Error: A fatal exception has occurred. Program will exit.
    """
    shown = deployed(Ends("gateway", 1, log), "gateway")
    why = "(exit code 1), and was stopped: Unrecognized VM option 'NoSuchOption'"
    held(shown, snapshot, "gateway-ended", why, "mend gateway.jvm in stack.yaml")


def test_a_heap_that_the_machine_has_not(
    deployed: Callable[..., str], snapshot: SnapshotAssertion
) -> None:
    log = """
        Error occurred during initialization of VM
        Could not reserve enough space for 4194304KB object heap
    """
    shown = deployed(Ends("gateway", 1, log), "gateway")
    why = "was stopped: Could not reserve enough space for 4194304KB object heap"
    held(shown, snapshot, "gateway-ended", why, "lower gateway.jvm.heap")


def test_a_gateway_that_is_killed_again_and_again(
    deployed: Callable[..., str], snapshot: SnapshotAssertion
) -> None:
    shown = deployed(Ends("gateway", 137, "Starting IBC version 3.23.0"), "gateway")
    held(shown, snapshot, "gateway-ended", "(exit code 137), and was", "./deploy.py doctor")


def test_a_bridge_that_does_not_start(
    deployed: Callable[..., str], snapshot: SnapshotAssertion, tmp_path: Path
) -> None:
    """Bad Python, said by Python itself."""
    package = tmp_path / "bridge"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("from bridge import orders\n")
    (package / "orders.py").write_text("def place(order:\n")
    run = [sys.executable, "-m", "bridge"]
    said = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False).stderr
    shown = deployed(Ends("bridge", 1, said), "bridge")
    lines = shown.splitlines(keepends=True)
    why = "was stopped: SyntaxError: "
    assert "(bridge/orders.py, line 1)" in lines[-2]
    alone = re.sub(r"SyntaxError: .* \(", "SyntaxError: … (", "".join(lines[-2:]))
    held(alone, snapshot, "bridge-ended", why, "then ./deploy.py up")


def test_a_password_that_is_wrong(
    deployed: Callable[..., str], snapshot: SnapshotAssertion
) -> None:
    window = "detected dialog entitled: Unrecognized Username or Password; event=Opened"
    log = f"""
        2026-11-27 10:00:01:000 IBC: Login attempt: 1
        2026-11-27 10:00:03:000 IBC: {window}
    """
    runtime = a_gateway_that_says(log)
    shown = deployed(runtime, "gateway")
    why = "IBKR does not accept the user name or password"
    held(shown, snapshot, "bad-credentials", why, "./deploy.py secrets set tws-password")
    assert runtime.done.count("start gateway-2") == 1, "no second attempt"


def a_gateway_that_says(log: str) -> FakeRuntime:
    runtime = FakeRuntime(*a_stack())
    runtime.healthy["gateway-2"] = False
    runtime.logs["gateway-2"] = textwrap.dedent(log).strip().splitlines()
    return runtime


def test_a_port_that_is_taken(deployed: Callable[..., str], snapshot: SnapshotAssertion) -> None:
    runtime = FakeRuntime(*a_stack())
    said = "failed to bind host port for 0.0.0.0:443: address already in use"
    known = _known(f"Error response from daemon: {said}")
    assert known is not None
    runtime.fails["start caddy-2"] = known
    shown = deployed(runtime, "caddy")
    held(shown, snapshot, "port-taken", "port 443 is taken by something else", "ss -ltnp")


def test_a_second_factor_that_nobody_approves(
    make: Callable[..., Target],
    snapshot: SnapshotAssertion,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nothing is torn down; exit code 4."""
    done = events.Done("waiting-2fa", "new", healthy=False, restored=False, seconds=600)
    done.told = "waiting for 2FA: approve on IBKR Mobile"
    session = Session.__new__(Session)
    exchange = SimpleNamespace(until=lambda *_: done)
    monkeypatch.setattr(session, "_exchange", exchange, raising=False)
    monkeypatch.setattr(session, "_work", 1.0, raising=False)
    with pytest.raises(WaitingForPerson) as caught:
        session._outcome()
    code = output.failure(caught.value, as_json=False, verbose=False)
    assert code == 4
    why = "still waiting for 2FA: approve on IBKR Mobile; nothing was torn down"
    held(capsys.readouterr().err, snapshot, "waiting-2fa", why, "./deploy.py status")

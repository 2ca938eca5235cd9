"""The way to the host: keys are verified, one deploy at a time, and a lost client does no harm."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.closed_port import free_port
from tests.engine.parts import ssh
from tests.engine.parts.relay import Relay
from tests.engine.parts.ssh import fingerprint, make_key
from tests.engine.parts.stack import Stack


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.1)


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Standard error up to the line that holds these words."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if words in line:
            return seen
    raise AssertionError(f"it ended before {words!r}:\n{seen}")


# --- host keys --------------------------------------------------------------------------------
def test_an_unknown_key_is_refused(stack: Stack) -> None:
    known = stack.known_hosts.read_text()
    stack.known_hosts.write_text("")
    try:
        done = stack.deploy("plan", "--json")
        mark = fingerprint(stack.server.host_key)
        assert done.code == 5
        assert done.document["error"] == "host-key-unknown"
        assert mark in done.err
        assert f"--trust-host-key {mark}" in done.err
        assert stack.deploy("plan", "--trust-host-key", mark).code == 0
        other = "SHA256:" + "A" * 43
        assert stack.deploy("plan", "--trust-host-key", other).code == 5
    finally:
        stack.known_hosts.write_text(known)


def test_a_changed_key_is_refused(stack: Stack, tmp_path: Path) -> None:
    known = stack.known_hosts.read_text()
    kind, key, *_ = Path(f"{make_key(tmp_path / 'other')}.pub").read_text().split()
    stack.known_hosts.write_text(f"[127.0.0.1]:{stack.server.port} {kind} {key}\n")
    before = stack.started()
    try:
        done = stack.deploy("up", "--yes", "--json")
        assert done.code == 5
        assert done.document["error"] == "host-key-changed"
        assert fingerprint(stack.server.host_key) in done.err
        assert "ssh-keygen -R" in done.err
    finally:
        stack.known_hosts.write_text(known)
    assert stack.started() == before


def test_ssh_config_and_jump_host(stack: Stack, tmp_path: Path) -> None:
    jump = ssh.start(tmp_path / "jump")
    try:
        (stack.home / ".ssh/config").write_text(
            f"Host gate\n  HostName 127.0.0.1\n  Port {jump.port}\n  User root\n"
            f"  IdentityFile {jump.client_key}\n"
            f"Host vm\n  HostName 127.0.0.1\n  Port {stack.server.port}\n  User root\n"
            f"  IdentityFile {stack.server.client_key}\n"
        )
        stack.settings["host"] = {"address": "vm", "known_hosts": str(stack.known_hosts)}
        assert stack.deploy("plan").code == 0
        stack.settings["host"]["jump"] = "gate"
        done = stack.deploy("plan")
        assert done.code == 5, "the jump host's key is not known yet"
        assert str(jump.port) in done.err
        with stack.known_hosts.open("a") as file:
            file.write(jump.known_hosts_line())
        done = stack.deploy("plan")
        assert done.code == 0, done.err
        assert "Accepted publickey" in jump.logged()
    finally:
        (stack.home / ".ssh/config").unlink()
        jump.stop()


def test_an_agent_holds_the_key(stack: Stack, tmp_path: Path) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        wait_until(socket.exists, "the agent listens")
        environment = os.environ | {"SSH_AUTH_SOCK": str(socket)}
        key = str(stack.server.client_key)
        subprocess.run(["ssh-add", "-q", key], env=environment, check=True)
        del stack.settings["host"]["identity"]
        assert stack.deploy("plan", SSH_AUTH_SOCK=str(socket)).code == 0
        assert stack.deploy("plan").code == 5
    finally:
        agent.terminate()
        agent.wait(10)


def test_a_host_that_is_not_there(stack: Stack) -> None:
    stack.settings["host"]["port"] = free_port()
    done = stack.deploy("plan", "--json")
    assert done.code == 5
    assert done.document["error"] == "host-unreachable"
    stack.settings["host"]["address"] = "no-such-host.invalid"
    done = stack.deploy("plan")
    assert done.code == 5
    assert "there is no host named" in done.err


def test_a_key_that_is_not_let_in(stack: Stack, tmp_path: Path) -> None:
    stack.settings["host"]["identity"] = str(make_key(tmp_path / "stranger"))
    done = stack.deploy("plan")
    assert done.code == 5
    assert "does not let us in" in done.err


# --- one at a time, and lost clients ----------------------------------------------------------
@pytest.fixture(scope="module")
def _slow(make_stack: Callable[[str], Stack]) -> Stack:
    stack = make_stack("slow")
    stack.up()
    return stack


@pytest.fixture
def slow(_slow: Stack) -> Stack:
    """A stack that is up, with a pending change whose login takes long."""
    _slow.settings["host"]["port"] = _slow.server.port
    _slow.known_hosts.write_text(_slow.server.known_hosts_line())
    _slow.settings["gateway"] |= {"username": "slow-6", "jvm": {"heap": 256 + len(_slow.ledger())}}
    return _slow


def test_two_at_once(slow: Stack) -> None:
    first = slow.start("up", "--yes")
    read_until(first, "logging in")
    second = slow.deploy("up", "--yes", "--json")
    assert second.code == 6
    assert second.document["error"] == "locked"
    assert "another deploy is under way" in second.err
    assert slow.deploy("status").code == 0, "looking needs no lock"
    first.communicate(timeout=60)
    assert first.returncode == 0
    assert slow.up("--json").document["changed"] is False


def test_a_killed_client_leaves_the_host_to_end_it(slow: Stack) -> None:
    entries = len(slow.ledger())
    process = slow.start("up", "--yes")
    read_until(process, "logging in")
    process.kill()
    process.communicate()
    wait_until(lambda: len(slow.ledger()) == entries + 1, "the host ends it")
    assert slow.ledger()[-1]["result"] == "healthy"
    done = slow.up("--json")
    assert done.document["changed"] is False
    assert done.document["healthy"] is True


def test_a_lost_connection(slow: Stack) -> None:
    entries = len(slow.ledger())
    with Relay(slow.server.port) as relay:
        slow.known_hosts.write_text(slow.server.known_hosts_line(relay.port))
        slow.settings["host"]["port"] = relay.port
        process = slow.start("up", "--yes", "--json")
        read_until(process, "logging in")
        relay.cut()
        out, err = process.communicate(timeout=60)
    assert process.returncode == 5, err
    assert "was lost" in err
    assert "connection-lost" in out
    wait_until(lambda: len(slow.ledger()) == entries + 1, "the host ends it")
    assert slow.ledger()[-1]["result"] == "healthy"


def test_an_interrupted_client_restores(slow: Stack) -> None:
    release, before = slow.release(), slow.started()
    process = slow.start("up", "--yes")
    read_until(process, "logging in")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130, err
    assert "the previous release serves again" in err
    assert slow.release() == release
    assert slow.started()["gateway"][0] == before["gateway"][0]
    assert slow.ledger()[-1]["result"] == "interrupted"


def test_a_killed_remote_program(slow: Stack) -> None:
    process = slow.start("up", "--yes")
    read_until(process, "logging in")
    for pid in remote_programs(slow):
        os.kill(pid, signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: the program on 127.0.0.1" in err
    done = slow.up("--json")
    assert "did not end; this one completes it" in done.err
    assert done.document["healthy"] is True
    assert len(slow.started()) == 3, "one container a service"
    assert not (slow.base / "pending.json").exists()


def remote_programs(stack: Stack) -> list[int]:
    """The programs that our own SSH server runs for a deploy."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"infrastructure.apply.host" in command and descends(folder, stack):
                found.append(int(folder.name))
        except OSError:
            continue
    assert found
    return found


def descends(folder: Path, stack: Stack) -> bool:
    parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
    if parent == stack.server.process.pid:
        return True
    return parent > 1 and descends(Path(f"/proc/{parent}"), stack)

"""What goes wrong on the host: the old release serves again, the message says why."""

import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.engine.parts import ssh
from tests.engine.parts.engine import docker
from tests.engine.parts.ssh import SshServer
from tests.engine.parts.stack import Stack, checkout

DOCKER = shutil.which("docker") or "docker"


def break_bridge(scratch: Path, name: str) -> Path:
    product = checkout(scratch / name)
    (product / "bridge/__main__.py").write_text("raise SystemExit('the bridge is broken')\n")
    return product


def test_a_broken_bridge_brings_the_old_release_back(stack: Stack, scratch: Path) -> None:
    before, release = stack.started(), stack.release()
    stack.product = break_bridge(scratch, "broken")
    done = stack.up("--json", code=1)
    assert done.document["restored"] is True
    assert done.document["healthy"] is False
    assert done.document["error"] == "bridge-ended"
    assert "the bridge is broken" in done.err
    assert "the previous release serves again" in done.err
    assert stack.release() == release
    after = stack.started()
    assert after["gateway"] == before["gateway"]
    assert after["bridge"][0] == before["bridge"][0]
    assert stack.ledger()[-1]["restored"] is True
    assert not (stack.base / "pending.json").exists()
    assert stack.deploy("status", "--json").document["healthy"] is True


def test_a_bridge_that_never_connects_is_no_success(stack: Stack) -> None:
    before = stack.started()
    stack.settings["bridge"]["log_level"] = "debug"
    gateway = before["gateway"][0]
    docker("exec", gateway, "pkill", "-STOP", "socat")
    try:
        done = stack.up("--json", "--wait", "8", code=1)
    finally:
        docker("exec", gateway, "pkill", "-CONT", "socat")
    assert done.document["error"] == "bridge-unhealthy"
    assert stack.started()["gateway"] == before["gateway"]


def test_wrong_jvm_flags_end_the_deploy_and_the_old_gateway_returns(stack: Stack) -> None:
    before = stack.started()
    stack.settings["gateway"]["jvm"] = {"options": ["-XX:+NoSuchOption"]}
    done = stack.up("--json", code=1)
    assert done.document["restored"] is True, done.err
    assert stack.started()["gateway"][0] == before["gateway"][0]
    assert stack.container("gateway")["State"]["Running"]
    assert stack.deploy("up", "--yes").code == 1, "the same mistake fails the same way"


def test_an_image_that_cannot_be_had_changes_nothing(stack: Stack) -> None:
    before, release = stack.started(), stack.release()
    stack.settings["caddy"]["image"] = "registry.invalid/caddy:2"
    done = stack.up("--json", code=1)
    assert done.document["error"] == "image-unavailable"
    assert "registry.invalid/caddy:2" in done.err
    assert stack.started() == before
    assert stack.release() == release


def test_a_taken_port_is_refused_before_anything_stops(stack: Stack) -> None:
    before, release = stack.started(), stack.release()
    stack.settings["caddy"]["https_port"] = stack.server.port
    done = stack.up("--json", code=1)
    assert done.document["error"] == "port-taken"
    assert done.document["restored"] is False
    assert (stack.started(), stack.release()) == (before, release)


def test_a_second_stack_with_the_same_port_is_refused_before_it_begins(
    stack: Stack, make_stack: Callable[[str], Stack]
) -> None:
    before, other = stack.started(), make_stack("second")
    taken = stack.settings["caddy"]["https_port"]
    other.settings["caddy"]["https_port"] = taken
    done = other.up("--json", code=1)
    assert done.document["error"] == "port-taken"
    caddy = stack.container("caddy")["Name"].lstrip("/")  # another one after each update
    assert f"port {taken} is taken by {caddy}" in done.err
    assert "caddy.https_port" in done.err
    label = f"label=com.docker.compose.project={other.project}"
    assert docker("ps", "-aq", "--filter", label).split() == []
    assert stack.started() == before


def test_a_first_deploy_that_fails_is_completed_by_the_next(
    make_stack: Callable[[str], Stack], scratch: Path
) -> None:
    stack = make_stack("half")
    good = stack.product
    stack.product = break_bridge(scratch, "half-broken")
    done = stack.up("--json", code=1)
    assert done.document["restored"] is False
    gateway = stack.container("gateway")["Id"]
    stack.product = good
    stack.up()
    assert stack.container("gateway")["Id"] == gateway, "its login is not thrown away"


@pytest.fixture
def tiny_disk(scratch: Path) -> Iterator[Path]:
    folder = scratch / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing(
    make_stack: Callable[[str], Stack], tiny_disk: Path
) -> None:
    stack = make_stack("full")
    stack.settings["folder"] = str(tiny_disk)
    done = stack.up("--json", code=1)
    assert done.document["error"] == "disk-full"
    assert not any((tiny_disk / stack.name / "releases").glob("*"))
    assert stack.deploy("plan").code == 0


@pytest.fixture
def host_without(scratch: Path) -> Iterator[Callable[..., SshServer]]:
    """SSH servers whose commands see only these programs."""
    running: list[SshServer] = []

    def start(name: str, *, docker_script: str = "", hidden: tuple[str, ...] = ()) -> SshServer:
        tools = scratch / name / "bin"
        tools.mkdir(parents=True)
        for program in ("sh", "id"):
            (tools / program).symlink_to(shutil.which(program) or program)
        (tools / "python3").symlink_to(Path(sys.executable).resolve())
        if docker_script:
            (tools / "docker").write_text(f"#!/bin/sh\n{docker_script}\n")
            (tools / "docker").chmod(stat.S_IRWXU)
        seen = {"PATH": str(tools)}
        running.append(ssh.start(scratch / name / "ssh", environment=seen, hidden=hidden))
        return running[-1]

    yield start
    for server in running:
        server.stop()


def on_host(make_stack: Callable[[str], Stack], name: str, server: SshServer) -> Stack:
    stack = make_stack(name)
    stack.known_hosts.write_text(server.known_hosts_line())
    stack.settings["host"] |= {"port": server.port, "identity": str(server.client_key)}
    return stack


def test_no_docker(
    make_stack: Callable[[str], Stack], host_without: Callable[..., SshServer]
) -> None:
    stack = on_host(make_stack, "bare", host_without("bare"))
    done = stack.up("--json", code=1)
    assert done.document["error"] == "docker-missing"
    assert "hint: ./deploy.py prepare" in done.err


def test_only_compose_v1(
    make_stack: Callable[[str], Stack], host_without: Callable[..., SshServer]
) -> None:
    script = (
        f'[ "$1" = compose ] || exec {DOCKER} "$@"\n'
        "echo \"docker: 'compose' is not a docker command.\" >&2\nexit 1"
    )
    stack = on_host(make_stack, "old", host_without("old", docker_script=script))
    done = stack.up("--json", code=1)
    assert done.document["error"] == "compose-missing"


def test_docker_does_not_run(
    make_stack: Callable[[str], Stack], host_without: Callable[..., SshServer]
) -> None:
    script = f'DOCKER_HOST=unix:///nonexistent/docker.sock exec {DOCKER} "$@"'
    stack = on_host(make_stack, "off", host_without("off", docker_script=script))
    done = stack.up("--json", code=1)
    assert done.document["error"] == "docker-not-running"


def test_no_python(
    make_stack: Callable[[str], Stack], host_without: Callable[..., SshServer]
) -> None:
    server = host_without("nopy", hidden=("/usr/bin/python3",))
    (server.folder.parent / "bin" / "python3").unlink()
    done = on_host(make_stack, "nopy", server).up(code=1)
    assert "there is no python3" in done.err


def test_a_disk_that_fills_up_while_building(
    make_stack: Callable[[str], Stack], host_without: Callable[..., SshServer]
) -> None:
    script = (
        f'case " $* " in *" build "*) ;; *) exec {DOCKER} "$@" ;; esac\n'
        "echo 'write /var/lib/docker/tmp: no space left on device' >&2\nexit 1"
    )
    stack = on_host(make_stack, "filling", host_without("filling", docker_script=script))
    done = stack.up("--json", code=1)
    assert done.document["error"] == "disk-full"
    assert not os.path.lexists(stack.base / "current")

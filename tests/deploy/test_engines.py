"""Engines that are not as they should be: named before anything is stopped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from infrastructure.runtime import compose
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.compose import ComposeRuntime

DOCKER = """#!/bin/sh
case "$*" in
--version) echo "{version}" ;;
"image inspect --format {{{{.Architecture}}}} "*) echo "{architecture}" ;;
"compose version"*) {compose} ;;
esac
"""


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "docker"


def there(
    engine: Path,
    version: str = "Docker version 27.1.2, build 1",
    architecture: str = "",
    compose: str = "echo 2.29.1",
) -> ComposeRuntime:
    engine.write_text(DOCKER.format(version=version, architecture=architecture, compose=compose))
    engine.chmod(0o755)
    return ComposeRuntime(engine.parent, "gangway-x")


def test_an_engine_as_it_should_be_is_taken(engine: Path) -> None:
    there(engine).check()


def test_podmans_docker_is_refused_with_the_reason(engine: Path) -> None:
    with pytest.raises(HostFailure, match="do not come back after a reboot") as caught:
        there(engine, "podman version 5.4.2").check()
    assert caught.value.code == "podman"


def test_a_compose_that_is_too_old_for_its_engine_is_named(engine: Path) -> None:
    said = (
        "Error response from daemon: client version 1.41 is too old."
        " Minimum supported API version is 1.44, please upgrade your client"
    )
    runtime = there(engine, compose=f"echo '{said}' >&2; exit 1")
    with pytest.raises(HostFailure) as caught:
        runtime._run(["docker", "compose", "version"])
    assert caught.value.code == "compose-too-old"


@pytest.mark.parametrize(("machine", "fits"), [("x86_64", False), ("aarch64", True)])
def test_an_image_for_another_machine_is_refused(
    engine: Path, monkeypatch: pytest.MonkeyPatch, machine: str, fits: bool
) -> None:
    """A free ARM machine: what it pulls or is sent has to be for it."""
    name = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((*name[:4], machine)))
    runtime = there(engine, architecture="arm64")
    services = [{"name": "gateway", "image": "ghcr.io/gnzsnz/ib-gateway:stable", "builds": False}]
    if fits:
        runtime.obtain("r1", services, lambda *_, **__: None)
        return
    with pytest.raises(HostFailure) as caught:
        runtime.obtain("r1", services, lambda *_, **__: None)
    assert caught.value.code == "architecture"
    assert "is for arm64, and the host is amd64" in caught.value.message


@pytest.mark.parametrize(
    ("reason", "fails", "tries"),
    [
        ("unexpected EOF", 2, 3),
        ("net/http: TLS handshake timeout", 9, 3),
        ("manifest unknown", 9, 1),
        ("failed to resolve reference caddy:2: caddy:2: not found", 9, 1),
        ("pull access denied for x, repository does not exist", 9, 1),
        ("write /var/lib/docker: no space left on device", 9, 1),
    ],
)
def test_a_pull_that_breaks_off_is_tried_again_by_every_command(
    engine: Path, monkeypatch: pytest.MonkeyPatch, reason: str, fails: int, tries: int
) -> None:
    """`up` and `upgrade` alike; not what another try would only hear again."""
    monkeypatch.setattr(compose, "PULL_PAUSE", 0.0)
    runtime = there(engine)
    count = engine.parent / "tries"
    pull = f"""
case " $* " in *" inspect "*) exit 1 ;; *" pull "*)
    echo >>{count}
    [ $(wc -l <{count}) -gt {fails} ] && exit 0
    echo "Error response from daemon: {reason}" >&2
    exit 1 ;;
esac
"""
    engine.write_text(engine.read_text() + pull)
    for way in (
        lambda: runtime.obtain(
            "r1", [{"name": "caddy", "image": "caddy:2", "builds": False}], lambda *_, **__: None
        ),
        lambda: runtime.fetch("caddy:2", "sha256:" + "a" * 64),
    ):
        count.write_text("")
        if fails < tries:
            way()
        else:
            with pytest.raises(HostFailure) as caught:
                way()
            assert caught.value.code in ("image-unavailable", "disk-full")
        assert len(count.read_text()) == tries

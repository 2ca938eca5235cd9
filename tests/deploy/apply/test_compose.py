"""The Docker Compose runtime, where no engine is needed."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.compose import ComposeRuntime
from tests.deploy.apply.test_containers import inspected

GATEWAY = Container("gateway", "gateway-1", state="running")


@pytest.fixture
def runtime(tmp_path: Path) -> ComposeRuntime:
    return ComposeRuntime(tmp_path, "gangway-prod")


@pytest.mark.parametrize("quick", [True, False], ids=["by its socket", "by docker"])
def test_nothing_is_done_to_a_stack_of_the_same_name_from_another_folder(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    """Every command opens the stack with a look at its containers, and `down` does too."""
    (runtime._base / "current").mkdir()
    (runtime._base / "current" / "compose.yaml").write_text("{}")
    item = inspected("gateway")
    item["Config"]["Labels"]["com.docker.compose.project.working_dir"] = "/srv/prod/current"
    ran: list[str] = []

    def run(command: list[str], *_: object) -> subprocess.CompletedProcess[str]:
        ran.append(command[1])
        return subprocess.CompletedProcess(command, 0, json.dumps([item]), "")

    monkeypatch.setattr(runtime, "_try", run)
    answer = json.dumps([item]) if quick else None
    monkeypatch.setattr("infrastructure.runtime.containers.inspect_project", lambda _: answer)
    for use in (runtime.containers, runtime.down):
        with pytest.raises(HostFailure) as caught:
            use()
        assert caught.value.code == "name-taken"
    assert not {"rm", "stop", "compose"} & set(ran)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(12, "Cannot allocate memory"), "docker-failed"),
        (FileNotFoundError(), "docker-missing"),
    ],
)
def test_a_command_that_cannot_be_started_is_a_failure_with_a_code(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch, error: OSError, code: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(subprocess, "Popen", fails)
    monkeypatch.setattr("infrastructure.runtime.containers.top", lambda _: None)
    release = runtime._base / "releases" / "r1"
    release.mkdir(parents=True)
    (release / "compose.yaml").write_text("{}")
    uses: list[Any] = [
        lambda: runtime.stop([GATEWAY]),
        lambda: runtime.load([b"x"]),
        lambda: runtime._build(release, "bridge", lambda *_, **__: None, fresh=False),
        lambda: runtime.follow(GATEWAY),
        lambda: runtime.screen(GATEWAY),
        lambda: runtime.picture(GATEWAY),
    ]
    for use in uses:
        with pytest.raises(HostFailure) as caught:
            use()
        assert caught.value.code == code


def test_where_no_temporary_file_can_be_made_nothing_is_loaded(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(HostFailure) as caught:
        runtime.load([b"x"])
    assert caught.value.code == "disk-full"

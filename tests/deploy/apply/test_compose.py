"""The Docker Compose runtime, where no engine is needed."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from infrastructure.runtime.base import Container, HostFailure
from infrastructure.runtime.compose import ComposeRuntime, built_from
from tests.deploy.apply.test_containers import inspected
from tests.deploy.conftest import rendered, target_of

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
    (release / "compose.yaml").write_text("    context: /x/current/image\n")
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


@pytest.mark.parametrize(
    "folder",
    [
        "/opt/gangway",
        "/srv/bö se",
        "/srv/it's: #1",
        "/srv/a$b",
        '/srv/a\\b"c',
        "/srv/\U0001f600",
        "/1e5",
    ],
)
def test_images_are_built_from_the_release_that_is_deployed(tmp_path: Path, folder: str) -> None:
    """Wherever it lies: else a release would be built from the sources of the one before it."""
    (tmp_path / "bot").mkdir()
    (tmp_path / "bot/Dockerfile").write_text("FROM x\n")
    target = target_of(tmp_path, folder=folder, workers={"bot": {"build": "bot"}})
    release = rendered(target)
    place = Path(target.base) / "releases" / release.id
    text = built_from(release.file("compose.yaml").content.decode(), place)
    services = yaml.safe_load(text)["services"]
    found = {name: one["build"]["context"] for name, one in services.items() if "build" in one}
    assert found == {
        "bridge": f"{place}/image".replace("$", "$$"),
        "bot": f"{place}/workers/bot".replace("$", "$$"),
    }


def test_what_names_no_source_is_not_built(tmp_path: Path) -> None:
    with pytest.raises(HostFailure) as caught:
        built_from("services: {}\n", tmp_path)
    assert caught.value.code == "bad-release"


@pytest.mark.parametrize("answers", ["OK OK", "OK no", "no OK", "no no", "stuck OK"])
def test_every_session_is_told_to_restart_whatever_another_says(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    words, told = answers.split(), []

    def tell(command: list[str], *_: object) -> subprocess.CompletedProcess[str]:
        told.append(command[-1])
        word = words[len(told) - 1]
        if word == "stuck":
            raise HostFailure("docker-stuck", "did not end")
        return subprocess.CompletedProcess(command, 0, f"{word}\n", "")

    monkeypatch.setattr(runtime, "_try", tell)
    if answers == "OK OK":
        assert runtime.soft_restart(GATEWAY, [7462, 7463])
    else:
        with pytest.raises(HostFailure) as caught:
            runtime.soft_restart(GATEWAY, [7462, 7463])
        assert caught.value.code == "soft-restart-refused"
        assert ("the other session restarts" in caught.value.message) is ("OK" in words)
    assert told == ["7462", "7463"]


def test_where_no_temporary_file_can_be_made_nothing_is_loaded(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(HostFailure) as caught:
        runtime.load([b"x"])
    assert caught.value.code == "disk-full"


@pytest.mark.parametrize(("code", "how"), [(0, ""), (99, "typed"), (1, "refused")])
def test_a_code_goes_into_the_window_that_asks(
    runtime: ComposeRuntime, monkeypatch: pytest.MonkeyPatch, code: int, how: str
) -> None:
    """By the container's own hook, which gives that window the keys; an earlier one has none."""
    asked: list[tuple[str, str]] = []
    typed: list[str] = []

    def run(command: list[str], _: float, text: str = "") -> subprocess.CompletedProcess[str]:
        asked.append((command[-1], text))
        return subprocess.CompletedProcess(command, code, "", "")

    class Viewed:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def type_line(self, text: str) -> None:
            typed.append(text)

    monkeypatch.setattr(runtime, "_try", run)
    monkeypatch.setattr(runtime, "_viewer", lambda _: Viewed())
    if how == "refused":
        with pytest.raises(HostFailure):
            runtime.type_code(GATEWAY, "123456")
    else:
        runtime.type_code(GATEWAY, "123456")
    assert typed == (["123456"] if how == "typed" else [])
    ((script, text),) = asked
    assert ("second-factor.sh" in script, text) == (True, "123456\n")
    assert "123456" not in script

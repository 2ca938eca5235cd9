"""What logs in: recognised by its image, rendered its way, refused where it cannot be driven."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest
import yaml

from bridge.restart_calendar import RestartCalendar
from infrastructure.cli import main, status_view
from infrastructure.cli.host import decided, undecided, with_controller
from infrastructure.cli.settings import Settings
from infrastructure.errors import ConfigError, UsageError
from infrastructure.runtime.containers import controller_of
from tests.deploy.conftest import rendered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from infrastructure.apply.session import Session
    from infrastructure.config import Target

OTHER = "registry.example/me/gateway:1"


def image(**config: Any) -> str:
    return json.dumps([{"RepoTags": ["me/gateway:1"], "Config": config}])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("[]", None),
        (image(Env=["IBC_PATH=/home/ibgateway/ibc"]), "ibc"),
        (image(Env=None, Labels=None), "ibc"),
        (image(Env=["USE_IBG_CONTROLLER=yes"]), "ibg-controller"),
        (image(Labels={"org.opencontainers.image.title": "ibg-controller"}), "ibg-controller"),
        (image(Env=["IBC_APP_DIR=/app"]), "ibcontroller"),
        (image(Entrypoint=["ibcontroller", "run"]), "ibcontroller"),
    ],
)
def test_the_image_tells(text: str, found: str | None) -> None:
    assert controller_of(text) == found


class Host:
    """Stands for the session: what the host says of the image."""

    def __init__(self, says: str | None) -> None:
        self._says = says

    def controller(self, image: str) -> str | None:
        return self._says

    def open(self) -> None: ...

    def status(self) -> None: ...

    def facts(self) -> None: ...


def asked(target: Target, says: str | None) -> str:
    return with_controller(target, cast("Session", Host(says))).stack.gateway.controller


def test_the_host_is_only_asked_when_nothing_else_tells(make: Callable[..., Target]) -> None:
    assert not undecided(make())
    assert not undecided(make(gateway={"image": OTHER, "controller": "ibc"}))
    assert undecided(make(gateway={"image": OTHER}))


def test_auto_is_what_the_host_says(make: Callable[..., Target]) -> None:
    target = make(gateway={"image": OTHER})
    assert asked(target, "ibg-controller") == "ibg-controller"
    assert asked(target, "ibc") == "ibc"
    assert asked(target, None) == "ibc"
    named = make(gateway={"image": "registry.example/ibg-controller:1"})
    assert asked(named, None) == "ibg-controller"
    with pytest.raises(UsageError, match="ibcontroller"):
        asked(target, "ibcontroller")


@pytest.mark.parametrize("shape", ["release", "kubernetes"])
def test_where_no_host_is_asked_the_images_name_tells(
    make: Callable[..., Target],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    shape: str,
) -> None:
    """As a deploy would decide: a password that is escaped for the other one is a refused login."""
    word = {"file": "word"}
    make(gateway={"image": "registry.example/ibg-controller:1", "password": word})
    (tmp_path / "word").write_bytes(rb"pa\ss")
    (tmp_path / "word").chmod(0o600)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["render", "--format", shape, "--out", "out"])
    told = capfd.readouterr().err
    assert ended.value.code in (0, None), told
    assert "by its name it is ibg-controller" in told
    (found,) = (tmp_path / "out").rglob("tws-password")
    assert found.read_bytes() == rb"pa\ss"
    assert any(
        b"USE_IBG_CONTROLLER" in path.read_bytes() for path in (tmp_path / "out").rglob("*.yaml")
    )


def test_ibcontroller_is_refused_with_the_reason(make: Callable[..., Target]) -> None:
    with pytest.raises(ConfigError) as caught:
        make(gateway={"controller": "ibcontroller"})
    said = [problem.message for problem in caught.value.problems()]
    assert any("no gateway image with ibcontroller is published yet" in text for text in said)


def service(target: Target) -> dict[str, Any]:
    text = next(one.content for one in rendered(target).files if one.path == "compose.yaml")
    found: dict[str, Any] = yaml.safe_load(text)["services"]["gateway"]
    return found


def test_ibg_controller_gets_its_own_variables(make: Callable[..., Target]) -> None:
    settings = {"image": OTHER, "controller": "ibg-controller", "auto_logoff": "23:30"}
    gateway = service(make(gateway=settings))
    environment = gateway["environment"]
    assert environment["USE_IBG_CONTROLLER"] == "yes"
    assert environment["AUTO_LOGOFF_TIME"] == "23:30"
    assert environment["CONTROLLER_COMMAND_SERVER_PORT"] == "14004"
    assert environment["CONTROLLER_COMMAND_SERVER_HOST"] == "127.0.0.1"
    assert not {"BYPASS_WARNING", "TWS_COLD_RESTART"} & set(environment)
    assert gateway["stop_grace_period"] == "90s"


def test_auto_renders_as_ibc(make: Callable[..., Target]) -> None:
    gateway = service(make())
    assert "USE_IBG_CONTROLLER" not in gateway["environment"]
    assert gateway == service(make(gateway={"controller": "ibc"}))


def resolved(target: Target, says: str) -> Target:
    return with_controller(target, cast("Session", Host(says)))


def test_no_sunday_restart_is_announced_that_nobody_carries_out(
    make: Callable[..., Target], tmp_path: Path
) -> None:
    """The broker's own end of the week's session shows instead."""
    target = make(gateway={"mode": "live", "image": OTHER, "cold_restart": "09:00"})
    sunday = datetime(2026, 7, 5, 4, tzinfo=UTC)
    for says, at in (("ibc", "2026-07-05 13:00"), ("ibg-controller", "2026-07-05 05:00")):
        files = {one.path: one.content for one in rendered(resolved(target, says)).files}
        file = tmp_path / says
        file.write_bytes(files["bridge/restarts.json"])
        due = RestartCalendar.load(file).following(sunday)
        assert due is not None
        assert (due.kind, f"{due.at:%Y-%m-%d %H:%M}") == ("cold", at)


def test_status_takes_the_restarts_of_what_the_host_has(
    make: Callable[..., Target], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def more(target: Target, *_: object) -> dict[str, object]:
        seen.append(target.stack.gateway.controller)
        return {}

    monkeypatch.setattr(status_view, "document", lambda *_: {})
    monkeypatch.setattr(status_view, "more", more)
    for says in ("ibc", "ibg-controller", "ibcontroller"):
        status_view.look(make(gateway={"image": OTHER}), cast("Session", Host(says)))
    assert seen == ["ibc", "ibg-controller", "auto"]


def test_what_is_odd_with_the_hosts_controller_is_said(
    make: Callable[..., Target], capfd: pytest.CaptureFixture[str]
) -> None:
    target = make(gateway={"image": OTHER, "cold_restart": "09:00"})
    for says, said in (("ibc", False), ("ibg-controller", True)):
        decided(Settings(), target, cast("Session", Host(says)))
        assert ("nobody restarts the gateway" in capfd.readouterr().err) is said

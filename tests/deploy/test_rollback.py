"""`rollback` as a command: what it asks a person before it does it."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import typer

from infrastructure.apply.session import Outcome
from infrastructure.cli import host, main
from infrastructure.cli.commands import rollback
from infrastructure.plan import compute
from infrastructure.plan.compute import Change, Plan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.mark.parametrize(
    ("service", "action", "secrets", "asks"),
    [
        ("bot", "remove", [], True),
        ("bot", "update", ["tws-password"], False),
        ("gateway", "update", ["bridge-admin-key"], False),
        ("gateway", "update", ["bridge-admin-key", "tws-password"], True),
        ("portal", "update", ["portal-password"], True),
    ],
)
def test_it_asks_before_a_part_goes_or_an_old_password_is_typed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    service: str,
    action: Any,
    secrets: list[str],
    asks: bool,
) -> None:
    """As `up` does: the release before may have been without a worker that runs now."""
    done: list[str] = []
    plan = Plan("old", "new", (Change(service, action, "as in release old"),))

    def roll_back(*_: object, **__: object) -> Outcome:
        done.append("back")
        return Outcome("old", healthy=True, restored=False, seconds=1.0)

    session = SimpleNamespace(
        open=lambda **_: None,
        going_back=lambda _: SimpleNamespace(
            release="old", changes=[], definition="", secrets=secrets
        ),
        roll_back=roll_back,
    )

    @contextmanager
    def connected(*_: Any) -> Iterator[Any]:
        yield session

    def refused(*_: object, **__: object) -> None:
        raise typer.Abort

    monkeypatch.setattr(host, "connected", connected)
    monkeypatch.setattr(compute, "back_to", lambda *_: plan)
    monkeypatch.setattr(rollback, "confirm", refused)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["rollback"])
    assert (ended.value.code, done) == ((130, []) if asks else (0, ["back"]))
    warned = "release old has another" in capfd.readouterr().err
    assert warned is (asks and action != "remove")

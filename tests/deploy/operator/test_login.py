"""`login`: of two sessions the one that waits, and what its exit code says."""

from __future__ import annotations

import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from bridge.login import states
from infrastructure.cli import host, main
from infrastructure.cli.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config import Target


def state(session: str, name: str, kind: str | None = None, code: str | None = None) -> Any:
    found = dict.fromkeys(("window", "until", "since", "retryAt"))
    return {"session": session, "state": name, "kind": kind, "code": code, **found}


@pytest.mark.parametrize(
    ("logins", "told", "code"),
    [
        ([state("paper", states.LOGGED_IN)], states.LOGGED_IN, 0),
        ([state("paper", states.HELD, code="account-locked")], states.HELD, 4),
        ([state("live", states.LOGGED_IN), state("paper", states.WAITING_2FA, "push")],
         states.WAITING_2FA, 4),
        ([state("live", states.HELD, code="bad-credentials"), state("paper", states.LOGGED_IN)],
         states.HELD, 4),
    ],
    ids=["logged in", "held", "the other one waits", "this one is held"],
)  # fmt: skip
def test_whoever_waits_for_a_person_is_told(
    make: Callable[..., Target],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    logins: list[Any],
    told: str,
    code: int,
) -> None:
    status = SimpleNamespace(login=logins[0], logins=logins)
    session = SimpleNamespace(open=lambda: None, status=lambda: status)

    @contextmanager
    def connected(*_: object) -> Iterator[Any]:
        yield session

    target = make()
    monkeypatch.setattr(host, "connected", connected)
    monkeypatch.setattr(Settings, "target", lambda _: target)
    with pytest.raises(SystemExit) as ended:
        main(["login", "--json"])
    assert ended.value.code == code
    assert json.loads(capfd.readouterr().out)["login"]["state"] == told

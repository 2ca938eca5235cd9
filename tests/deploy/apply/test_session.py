"""How the host's answers become errors with exit codes."""

import time
from pathlib import Path
from typing import Any

import pytest

from infrastructure.apply.host.store import Store
from infrastructure.apply.session import Session, failure, unanswered
from infrastructure.config import load
from infrastructure.errors import DeployFailed, DeployLocked
from infrastructure.transport.local import LocalTransport


def event(code: str, **more: Any) -> dict[str, Any]:
    return {"code": code, "message": "m", "hint": "h", "details": "", "restored": False, **more}


@pytest.mark.parametrize(
    ("code", "exit_code"), [("locked", 6), ("interrupted", 130), ("docker-missing", 1)]
)
def test_exit_codes(code: str, exit_code: int) -> None:
    assert failure(event(code)).exit_code == exit_code


def test_a_restored_release_is_said() -> None:
    error = failure(event("bridge-ended", restored=True))
    assert isinstance(error, DeployFailed)
    assert error.restored
    assert error.message == "m; the previous release serves again"


@pytest.mark.parametrize(
    ("code", "errors", "expected"),
    [
        (1, "sudo: a password is required\n", "sudo-denied"),
        (127, "python3: not found\n", "python-missing"),
        (-1, "", "host-program-ended"),
        (2, "Traceback\nKeyError: 1\n", "host-program-ended"),
    ],
)
def test_silence_is_explained(code: int, errors: str, expected: str) -> None:
    error = unanswered("vm", code, errors)
    assert error.code == expected
    assert "Traceback" not in error.message


class Deaf:
    def event(self, event: dict[str, Any]) -> None:
        """Nobody listens."""


def test_who_holds_the_lock_is_said_also_when_the_host_was_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host's program ends with its answer while the client still renders."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path))
    target = load()
    other = Store(str(target.base))
    other.lock("alice@laptop")
    try:
        with Session(LocalTransport(), target, Deaf()) as session:
            session.begin(lock=True)
            time.sleep(1.5)
            with pytest.raises(DeployLocked, match="alice@laptop"):
                session.observe()
    finally:
        other.unlock()

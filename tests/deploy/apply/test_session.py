"""How the host's answers become errors with exit codes."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from infrastructure.apply.exchange import Exchange, failure, unanswered
from infrastructure.apply.host.store import Store
from infrastructure.apply.protocol import events
from infrastructure.apply.session import Session
from infrastructure.cli import output
from infrastructure.config import load
from infrastructure.config.sandbox import sandbox
from infrastructure.errors import DeployFailed, DeployLocked, Interrupted
from infrastructure.transport.base import LocalTransport


def event(code: str, details: str = "", *, restored: bool = False) -> events.Failed:
    return events.Failed(code, "m", "h", details, restored)


@pytest.mark.parametrize(
    ("code", "exit_code"), [("locked", 6), ("interrupted", 130), ("docker-missing", 1)]
)
def test_exit_codes(code: str, exit_code: int) -> None:
    assert failure(event(code), sandbox()).exit_code == exit_code


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("listen tcp 127.0.0.1:8443: bind: address already in use", "caddy.https_port"),
        ("error: cannot listen on 127.0.0.1:8080: Address already in use", "bridge.port"),
        (
            "attempting to bind on address ('127.0.0.1', 4002): address already in use",
            "simulated.tws_port",
        ),
        ("Bind for 0.0.0.0:8443 failed: port is already allocated", "caddy.https_port"),
    ],
)
def test_a_taken_port_names_its_key(text: str, key: str) -> None:
    target = sandbox()  # whose ports are free ones of this machine
    stack = target.stack
    for usual, ours in ((8443, stack.caddy.https_port), (8080, stack.bridge.port)):
        text = text.replace(f":{usual}", f":{ours}")
    text = text.replace("4002", str(stack.simulated.tws_port))
    error = failure(event("caddy-ended", details=f"starting\n{text}"), target)
    assert (error.code, error.exit_code) == ("port-taken", 1)
    assert key in error.hint
    other = failure(event("caddy-ended", details=text.replace("already", "not")), target)
    assert other.code == "caddy-ended"


def test_a_restored_release_is_said() -> None:
    error = failure(event("bridge-ended", restored=True), sandbox())
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
    assert "up again" not in error.hint, "after a `down` that would start what was to stop"


class Interrupting:
    """A host's stream in which Ctrl-C comes while it sends, or waits for an answer."""

    def __init__(self, at: str) -> None:
        self._at = at

    def send(self, request: object) -> None:
        """Nothing goes anywhere."""

    def pour(self, *_: object) -> None:
        if self._at == "pour":
            raise KeyboardInterrupt

    def until(self, *_: object) -> None:
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("at", "work", "said"),
    [
        ("until", lambda session: session.down(), "the host goes on stopping"),
        ("until", lambda session: session.restore(b"x"), "the host goes on putting"),
        ("pour", lambda session: session.restore(b"x"), "nothing was put back"),
        ("until", lambda session: session.backup(), "no backup was written"),
    ],
)
def test_ctrl_c_says_what_the_host_goes_on_with(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    at: str,
    work: Callable[[Session], object],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path))
    session = Session.__new__(Session)
    monkeypatch.setattr(session, "_exchange", Interrupting(at), raising=False)
    monkeypatch.setattr(session, "_target", load(), raising=False)
    monkeypatch.setattr(session, "_sandbox", 1, raising=False)
    with pytest.raises(Interrupted, match=said):
        work(session)


@pytest.mark.parametrize("verbose", [True, False])
def test_where_in_a_program_is_shown_only_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], verbose: bool
) -> None:
    errors = 'Traceback (most recent call last):\n  File "<gangway>"\nSyntaxError: x\n'
    ended = unanswered("vm", 1, errors)
    unexpected = failure(event("unexpected"), sandbox())
    unexpected.trace = errors
    for error in (ended, unexpected):
        output.failure(error, as_json=False, verbose=verbose)
        said = capsys.readouterr().err
        assert ('File "<gangway>"' in said) is verbose
        assert "error: " in said
    output.failure(
        failure(event("x", details="a log's tail"), sandbox()), as_json=False, verbose=False
    )
    assert "a log's tail" in capsys.readouterr().err


def test_where_in_the_host_s_program_comes_with_its_answer() -> None:
    exchange = Exchange.__new__(Exchange)
    exchange._target = sandbox()
    failed = event("unexpected")
    failed.trace = "Traceback"
    with pytest.raises(DeployFailed) as caught:
        exchange._raise(failed)
    assert caught.value.trace == "Traceback"


class Deaf:
    def event(self, event: events.Event) -> None:
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

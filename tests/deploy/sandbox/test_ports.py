"""The sandbox's ports: the usual ones when they are free, kept while it runs."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from infrastructure.config import Target, load
from infrastructure.config.sandbox import USUAL, clear, keep, reserved


@pytest.fixture(autouse=True)
def _ports_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The usual ports may be taken on this machine; those that the kernel gives are not."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in USUAL]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [int(each.getsockname()[1]) for each in sockets]
    usual = dict(zip(USUAL, ports, strict=True))
    monkeypatch.setattr("infrastructure.config.sandbox.USUAL", usual)


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "box"))
    return load()


def test_looking_leaves_nothing_behind(target: Target, tmp_path: Path) -> None:
    assert load().stack == target.stack
    assert list(tmp_path.iterdir()) == []


def test_ports_are_kept_and_never_shared(target: Target) -> None:
    keep(target)
    base = Path(target.base)
    first = reserved(base)
    assert first.keys() == USUAL.keys()
    assert len(set(first.values())) == len(first)
    assert first["bridge"] == target.stack.bridge.port
    assert first["control"] == target.stack.simulated.control_port
    clear(target)
    assert not base.exists()


def test_a_port_taken_since_is_stepped_over_unless_we_run_on_it(target: Target) -> None:
    keep(target)
    base = Path(target.base)
    kept = reserved(base)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", kept["portal"]))
        taken.listen()
        assert reserved(base)["portal"] != kept["portal"]
        assert reserved(base)["bridge"] == kept["bridge"]
        (base / "run").mkdir()
        (base / "run" / "supervisord.pid").write_text(f"{os.getpid()}\n")
        assert reserved(base) == kept
    (base / "run" / "supervisord.pid").write_text("not a number")
    assert reserved(base) == kept


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"bridge": 1}'])
def test_a_damaged_file_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "ports.json").write_text(text)
    assert reserved(tmp_path).keys() == USUAL.keys()


def test_two_sandboxes_at_once_share_no_port(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(target)
    first = reserved(Path(target.base))
    with ExitStack() as stack:
        for port in first.values():
            holder = stack.enter_context(socket.socket())
            holder.bind(("127.0.0.1", port))
            holder.listen()
        monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "other"))
        other = load()
        keep(other)
        second = reserved(Path(other.base))
    assert not set(first.values()) & set(second.values())
    assert len(set(second.values())) == len(second)

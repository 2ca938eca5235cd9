"""A host that is not what it seems: whatever it says is data, and has an end."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import unicodedata
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import pytest

from infrastructure.apply.protocol import encoding
from infrastructure.cli import main
from infrastructure.cli.output import dumps, one_line, safe
from infrastructure.errors import GangwayError, HostUnreachable
from infrastructure.transport.base import LONGEST_LINE, LocalTransport
from tests.deploy.transport.server import PROJECT, new_key, server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ACTS = "\x1b[2J\x1b]52;c;ZXZpbA==\x07\x9b31m\u202e\u2066\u200f\x7f\r\x00\u2028\ud800[/red]"
"""Clears a screen, sets the clipboard, colours, turns a line around, goes back to its beginning."""
COMMANDS = (("plan",), ("status",), ("history",), ("logs",), ("down", "--yes"))


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def secret(tmp_path: Path) -> None:
    """The password's file."""
    (tmp_path / "password").write_text("of-the-tests")
    (tmp_path / "password").chmod(0o600)


def configure(tmp_path: Path, port: int, known: str = "known_hosts") -> None:
    """A stack.yaml with this port as its host."""
    (tmp_path / "stack.yaml").write_text(
        json.dumps(
            {
                "targets": {
                    "prod": {
                        "host": {
                            "address": "127.0.0.1",
                            "port": port,
                            "user": "deploy",
                            "identity": str(tmp_path / "client"),
                            "known_hosts": str(tmp_path / known),
                            "sudo": False,
                        },
                        "gateway": {
                            "username": "alice",
                            "password": {"file": str(tmp_path / "password")},
                        },
                    }
                }
            }
        )
    )


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Runs the command line against a port of this machine."""
    before, hook = signal.getsignal(signal.SIGTERM), threading.excepthook
    monkeypatch.chdir(tmp_path)
    secret(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)

    def run(port: int, *words: str, known: str = "known_hosts") -> Ended:
        configure(tmp_path, port, known)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)
    threading.excepthook = hook


def harmless(text: str) -> bool:
    return all(
        letter in "\n\t" or unicodedata.category(letter) not in {"Cc", "Cf", "Cs", "Zl", "Zp"}
        for letter in text
    )


# --- a host that hangs up ----------------------------------------------------------------------
@contextlib.contextmanager
def hangs_up(said: bytes) -> Iterator[int]:
    """Takes a connection, perhaps says something, and closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        connection.sendall(said)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-x\r\n", b"\x1b[2Jgo away\r\n"])
@pytest.mark.parametrize("command", [("plan",), ("status",), ("down", "--yes")])
def test_no_library_speaks_on_the_terminal(
    command: tuple[str, ...], said: bytes, run: Callable[..., Ended], tmp_path: Path
) -> None:
    new_key(tmp_path / "client")
    with hangs_up(said) as port:
        configure(tmp_path, port)
        # a process of its own: the test runner's handlers would hide what Python prints by itself
        done = subprocess.run(
            [sys.executable, str(PROJECT / "deploy.py"), *command],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            timeout=60,
            check=False,
        )
    ended = Ended(done.returncode, done.stdout, done.stderr)
    assert ended.code == 5, ended.err
    assert [line.split(":")[0] for line in ended.err.splitlines()] == ["error", "hint"], ended.err
    assert "Traceback" not in ended.err


def test_a_missing_identity_is_named(run: Callable[..., Ended]) -> None:
    with hangs_up(b"") as port:
        ended = run(port, "status")
    assert ended.code == 2
    assert "there is no identity file" in ended.err


# --- a host that answers -----------------------------------------------------------------------
def said(**event: Any) -> str:
    return json.dumps(event)


HELLO = said(event="hello").replace(" ", "")
OBSERVED: dict[str, Any] = {
    "event": "observed",
    "release": None,
    "files": {},
    "services": {},
    "has": False,
    "pending": None,
    "verifying": False,
}
SERVICE = {
    "name": ACTS,
    "state": ACTS,
    "health": ACTS,
    "image": ACTS,
    "image_id": "",
    "hash": ACTS,
    "since": ACTS,
    "exit_code": None,
}
LINES = {
    "a list": "[1,2]",
    "a number": "7",
    "null": "null",
    "no event": "{}",
    "an event of no kind": said(event=["observed"]),
    "deep": "[" * 100_000,
    "no json": ACTS.encode("utf-8", "replace").decode(),
    "nothing in it": said(event="observed"),
    "lists for mappings": said(**{**OBSERVED, "files": [], "services": [1]}),
    "text for mappings": said(**{**OBSERVED, "services": {"bridge": "up"}}),
    "no base64": said(**{**OBSERVED, "files": {"x": {"digest": "", "content": "\u0001a"}}}),
    "a failure of no words": said(event="failed", code=1, message=None),
    "a failure that acts": said(
        event="failed",
        code="x",
        message=ACTS + "\nerror: no",
        hint=ACTS,
        details=ACTS,
        restored=False,
    ),
    "steps that act": "\n".join(
        [
            said(event="step", text=ACTS),
            said(event="stage", service=ACTS, text=ACTS),
            said(event="build", service=ACTS, step=1, steps=2, text=ACTS),
            said(event="failed", code="x", message="no", hint="", details="", restored=False),
        ]
    ),
    "services that act": said(**{**OBSERVED, "release": ACTS, "services": {ACTS: SERVICE}}),
    "history that acts": said(**OBSERVED)
    + "\n"
    + said(
        event="history",
        current=None,
        entries=[{"time": ACTS, "release": ACTS, "result": ACTS, "reason": ACTS, "by": ACTS}],
    ),
    "log lines that act": said(**OBSERVED)
    + "\n"
    + said(event="line", service=ACTS, time=ACTS, text=ACTS + '{"event": "x"}')
    + "\n"
    + said(event="line", service="bridge", time="", text=json.dumps({"event": ACTS, ACTS: ACTS}))
    + "\n"
    + said(event="ended"),
    "an endless line": "x" * (LONGEST_LINE + 70_000),
}


@pytest.mark.parametrize("name", LINES)
def test_what_a_host_says_is_data(
    name: str, run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.apply.exchange.SILENCE", 1.0)
    (tmp_path / "says").write_text(f"{HELLO}\n{LINES[name]}\n")
    with server(tmp_path, f"cat '{tmp_path}/says'; cat >/dev/null") as machine:
        machine.known()
        for words in COMMANDS:
            for more in ((), ("--json",)):
                ended = run(machine.port, *words, *more)
                told = f"{words} {more}: {ended}"
                assert harmless(ended.out), told
                assert harmless(ended.err), told
                assert "unexpected" not in ended.err, told
                assert "Traceback" not in ended.err, told
                assert "\nerror: no" not in ended.err.replace("error: no\n", ""), told
                assert ended.code in {0, 1, 5}, told
                if more:
                    assert [json.loads(line) for line in ended.out.splitlines()], told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Welcome to vm!", "answers something else: 'Welcome to vm!"),
        ("Welcome\n" * 300, "answers something else: 'Welcome"),
        (ACTS, "answers something else"),
    ],
)
def test_what_never_becomes_our_program_is_named(
    text: str,
    told: str,
    run: Callable[..., Ended],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infrastructure.apply.exchange.SILENCE", 4.0)
    (tmp_path / "says").write_bytes(f"{text}\n".encode("utf-8", "surrogatepass"))
    with server(tmp_path, f"cat '{tmp_path}/says'; cat >/dev/null") as machine:
        machine.known()
        ended = run(machine.port, "plan")
    assert ended.code == 1
    assert told in ended.err
    assert harmless(ended.err)


def test_a_line_has_an_end(tmp_path: Path) -> None:
    with LocalTransport() as transport:
        program = transport.start(["sh", "-c", "yes | tr -d '\\n' | head -c 3000000"])
        with pytest.raises(GangwayError) as caught:
            list(program.lines(30))
        program.wait(5)
    assert caught.value.code == "protocol"


def test_bytes_without_a_line_are_silence() -> None:
    with LocalTransport() as transport:
        program = transport.start(["sh", "-c", "while printf x; do sleep 0.05; done"])
        with pytest.raises(HostUnreachable):
            list(program.lines(0.4))
        program.wait(0.01)


def test_a_stream_of_steps_has_a_deadline(
    run: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infrastructure.apply.session.ANSWER_WITHIN", 1.0)
    step = said(event="step", text="nearly there")
    endless = f"echo '{HELLO}'; while printf '%s\\n' '{step}'; do sleep 0.05; done"
    with server(tmp_path, endless) as machine:
        machine.known()
        ended = run(machine.port, "status", "--quiet")
    assert ended.code == 5
    assert "gave no answer within 1 seconds" in ended.err


# --- keys --------------------------------------------------------------------------------------
def test_a_changed_key_names_the_entry_to_remove(run: Callable[..., Ended], tmp_path: Path) -> None:
    import asyncssh

    with server(tmp_path) as machine:
        machine.known(asyncssh.generate_private_key("ssh-ed25519"))
        ended = run(machine.port, "status")
    assert ended.code == 5
    assert f"ssh-keygen -R '[127.0.0.1]:{machine.port}'" in ended.err


def test_an_unknown_key_is_compared_in_the_console(
    run: Callable[..., Ended], tmp_path: Path
) -> None:
    with server(tmp_path) as machine:
        unknown = run(machine.port, "status", known="none")
        wrong = run(machine.port, "--trust-host-key", "SHA256:" + "a" * 43, "status", known="none")
    assert "console" in unknown.err
    assert f"--trust-host-key {machine.fingerprint}" in unknown.err
    assert (unknown.code, wrong.code) == (5, 5)
    assert "is not the one you gave" in wrong.err
    assert "--trust-host-key" not in wrong.err


# --- shown, and written ------------------------------------------------------------------------
def test_every_letter_that_acts_is_shown_as_data() -> None:
    for number in range(sys.maxunicode + 1):
        letter = chr(number)
        assert harmless(safe(letter)) or letter in "\n\t"
        assert harmless(one_line(letter))
        assert "\n" not in one_line(letter)
    every = "".join(map(chr, range(0x3000))) + ACTS + "\U000e0041é😀"
    assert json.loads(dumps({every: every})) == {every: every}
    assert harmless(dumps(every))
    assert dumps("é") == '"é"'


@dataclass
class Shape:
    a: list[str]
    c: Optional[int]  # noqa: UP045 - as the host reads it
    b: dict[str, int] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("value", "wrong"),
    [
        ({"a": [1], "c": 1}, "'a'"),
        ({"a": [], "c": True}, "'c'"),
        ({"a": [], "c": 1, "b": []}, "'b'"),
        ({"a": []}, "'c' is missing"),
        ([], "no mapping"),
    ],
)
def test_shapes_are_judged(value: Any, wrong: str) -> None:
    with pytest.raises(encoding.Misshapen, match=wrong):
        encoding.read(Shape, value)


def test_what_is_more_than_the_shape_is_left_out() -> None:
    assert encoding.read(Shape, {"a": ["x"], "c": None, "d": 1}) == Shape(["x"], None)


def test_render_follows_no_link(run: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "client").write_text("key")
    (tmp_path / "public").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "secrets").symlink_to(tmp_path / "public")
    ended = run(22, "render", "--out", str(out))
    assert ended.code == 2
    assert "symbolic link" in ended.err
    assert list((tmp_path / "public").iterdir()) == []
    (out / "secrets").unlink()
    victim = tmp_path / "victim"
    victim.write_text("before")
    (out / "secrets").mkdir()
    (out / "secrets" / "tws-password").symlink_to(victim)
    assert run(22, "render", "--out", str(out)).code == 0
    assert victim.read_text() == "before"
    assert stat.S_IMODE((out / "secrets" / "tws-password").stat().st_mode) == 0o400


def test_what_is_written_is_its_owners_alone(run: Callable[..., Ended], tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        words = ("--name", "prod", "--host", "a@vm", "--mode", "paper", "--yes")
        assert run(22, "--config", str(tmp_path / "new.yaml"), "init", *words).code == 0
    finally:
        assert os.umask(before) == 0
    assert stat.S_IMODE((tmp_path / "new.yaml").stat().st_mode) == 0o600

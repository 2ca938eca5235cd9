"""The program as a package that pip installed, in any folder; the tab key in three shells."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.conformance.running import absent

PROJECT = Path(__file__).resolve().parents[2]
UV = PROJECT / ".venv" / "bin" / "uv"
STACK = "targets:\n  prod:\n    host: a@203.0.113.7\n    gateway:\n      username: alice\n"
pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The command `gangway`, installed from a wheel into an environment of its own."""
    folder = tmp_path_factory.mktemp("installed")
    build = ("build", "--wheel", "--no-build-isolation", "--python", sys.executable)
    uv(*build, "--out-dir", str(folder), str(PROJECT))
    uv("venv", "--python", sys.executable, str(folder / "venv"))
    (wheel,) = folder.glob("*.whl")
    install = ("pip", "install", "--python", str(folder / "venv/bin/python"), str(wheel))
    if (done := uv_ended(*install, "--offline")).returncode:  # what the cache does not hold yet
        done = uv_ended(*install)
    if done.returncode:
        absent(f"no registry for pip: {done.stderr[-300:]}")
    return folder / "venv" / "bin" / "gangway"


def uv_ended(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(UV), "--quiet", *words], capture_output=True, text=True, check=False, timeout=150
    )


def uv(*words: str) -> None:
    done = uv_ended(*words)
    assert done.returncode == 0, done.stderr


def run(
    command: Path, folder: Path, *words: str, code: int = 0, said: str = ""
) -> subprocess.CompletedProcess[str]:
    """The command in a folder that has nothing to do with the checkout."""
    done = subprocess.run(
        [str(command), *words],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_STATE_HOME": str(folder / "state")},
        input=said,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "deploy.py" not in done.stdout + done.stderr
    return done


def test_the_first_commands_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    helped = run(installed, tmp_path, "--help").stdout
    assert helped.startswith("Usage: gangway [OPTIONS] COMMAND")
    assert "Try it without an account: gangway up" in helped
    assert run(installed, tmp_path, "up", "--help").stdout.count("gangway") > 3
    assert run(installed, tmp_path, "apikey", "create", "--help").stdout.count("gangway") > 1
    assert run(installed, tmp_path, "--version").stdout == "gangway 0.1.0\n"
    wrong = run(installed, tmp_path, "--config", "none.yaml", "plan", code=2)
    assert wrong.stderr == "error: there is no none.yaml\nhint: gangway init writes one\n"
    assert run(installed, tmp_path, "plan", "--no", code=2).stderr.endswith("gangway plan --help\n")

    made = run(installed, tmp_path, "init", "--host", "a@203.0.113.7", "--username", "u", "--yes")
    assert "next: gangway --target prod secrets set tws-password" in made.stderr
    assert "deploy.py" not in (tmp_path / "stack.yaml").read_text()
    lacking = run(installed, tmp_path, "plan", "--json", code=2)
    (problem,) = json.loads(lacking.stdout)["problems"]
    assert problem["hint"] == "gangway --target prod secrets set tws-password"
    run(installed, tmp_path, "secrets", "set", "tws-password", said="of-the-tests\n")
    run(installed, tmp_path, "config", "--check")


def test_a_release_has_the_same_bytes_whoever_renders_it(installed: Path, tmp_path: Path) -> None:
    """Else two operators of one host would undo each other's deploys."""
    (tmp_path / "stack.yaml").write_text(STACK)
    run(installed, tmp_path, "secrets", "set", "tws-password", said="of-the-tests\n")
    run(installed, tmp_path, "render", "--out", "theirs")
    ours = [sys.executable, str(PROJECT / "deploy.py"), "render", "--out", "ours"]
    subprocess.run(ours, cwd=tmp_path, check=True, capture_output=True)
    found = contents(tmp_path / "theirs")
    assert len(found) > 100
    assert found == contents(tmp_path / "ours")


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_sandbox_of_an_installed_program(installed: Path, tmp_path: Path) -> None:
    """Its files lie in the user's folder for state, and nothing is left of it."""
    try:
        up = run(installed, tmp_path, "up", "--json")
        assert json.loads(up.stdout)["healthy"] is True
        assert "gangway --target sandbox down" in up.stderr
        assert (tmp_path / "state" / "gangway" / "sandbox" / "current").exists()
        assert json.loads(run(installed, tmp_path, "status", "--json").stdout)["healthy"] is True
        (tmp_path / "stack.yaml").write_text(STACK + "  more:\n    host: b@203.0.113.8\n")
        several = run(installed, tmp_path, "--target", "prod,more", "plan", code=2).stderr
        assert "prod | hint: gangway --target prod secrets set tws-password" in several
    finally:
        run(installed, tmp_path, "--target", "sandbox", "down")
    assert not (tmp_path / "state" / "gangway" / "sandbox").exists()


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$({command} completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -U compinit && compinit -u -D; eval "$({command} completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "--interactive"], "{command} completion fish | source"),
}
LINES = [
    ("resta", ["restart"]),
    ("up --on", ["up", "--only"]),
    ("--target pr", ["--target", "prod"]),
    ("--target x,pr", ["--target", "x,prod"]),
    ("restart ga", ["restart", "gateway"]),
]


@pytest.mark.shells
@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("program", ["gangway", "./deploy.py"])
def test_the_tab_key(installed: Path, tmp_path: Path, shell: str, program: str) -> None:
    (tmp_path / "stack.yaml").write_text(STACK)
    path = f"{installed.parent}:/usr/bin:/bin"
    (tmp_path / "deploy.py").symlink_to(PROJECT / "deploy.py")
    (tmp_path / ".venv").symlink_to(PROJECT / ".venv")
    command, load = SHELLS[shell]
    terminal = Terminal(command, tmp_path, path)
    try:
        terminal.send(load.format(command=program) + "; printf 'lo%s\\n' aded\r")
        terminal.until("loaded")
        for typed, expected in LINES:
            # The line becomes an argument of printf before it runs: what stands on it is told.
            terminal.send(f"{program} {typed}\t\x01printf '<%s>' \x05 end\r")
            said = "".join(f"<{word}>" for word in [program, *expected, "end"])
            terminal.until(said)
    finally:
        terminal.close()


class Terminal:
    """A shell on a terminal of its own, as a person has it before them."""

    def __init__(self, command: list[str], folder: Path, path: str) -> None:
        master, slave = pty.openpty()
        self._master, self._shown = master, ""
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *command],
            cwd=folder,
            env={"PATH": path, "HOME": str(folder), "TERM": "xterm", "LANG": "C.UTF-8"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
        )
        os.close(slave)

    def send(self, text: str) -> None:
        """What is typed."""
        os.write(self._master, text.encode())

    def until(self, text: str) -> None:
        """Waits for a text, and forgets what was shown up to it."""
        deadline = time.monotonic() + 40
        while text not in self._shown:
            assert time.monotonic() < deadline, f"no {text!r} in {self._shown[-2000:]!r}"
            if select.select([self._master], [], [], 0.2)[0]:
                read = os.read(self._master, 4096).decode(errors="replace")
                self._shown += re.sub(r"\x1b(\[[0-9;?]*[A-Za-z]|[()=>].?|\][^\x07]*\x07)", "", read)
        self._shown = self._shown.partition(text)[2]

    def close(self) -> None:
        """Ends the shell."""
        self._process.kill()
        self._process.wait(10)
        with suppress(OSError):
            os.close(self._master)

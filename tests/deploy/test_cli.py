"""The command line as a person and a script meet it, run as a subprocess where it matters."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from infrastructure.cli import host, main
from infrastructure.cli.app import ENTRIES
from infrastructure.cli.reference import generated
from infrastructure.cli.running import hoist, plain_look
from infrastructure.config import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.cli.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}


class Ended(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Gangway(Protocol):
    """Runs the command line in a folder of its own, without a terminal."""

    def __call__(self, *words: str, stdin: bytes = b"") -> Ended: ...


@pytest.fixture
def gangway(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Gangway]:
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GANGWAY_SANDBOX_DIR", str(tmp_path / "sandbox"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str, stdin: bytes = b"") -> Ended:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


GOOD = """
targets:
  prod:
    host: ubuntu@203.0.113.7
    gateway: {username: alice}
"""
BAD = GOOD + "    profil: small\n    caddy: {domain: x}\n"


def test_generated_files_are_current() -> None:
    stale = [
        str(path.relative_to(PROJECT))
        for path, content in generated().items()
        if path.read_text(encoding="utf-8") != content
    ]
    assert stale == [], "run scripts/reference"


def test_help_lists_every_command_and_is_kept_ready(gangway: Gangway, tmp_path: Path) -> None:
    done = gangway("--help")
    assert done.returncode == 0
    for entry in ENTRIES.values():
        assert f"  {entry.name} " in done.stdout
    bare = gangway()
    assert (bare.returncode, bare.stdout, bare.stderr) == (2, "", done.stdout)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_every_command_has_help_with_examples(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from infrastructure.cli.app import app

    app([name, "--help"], prog_name="deploy.py", standalone_mode=False)
    text = capsys.readouterr().out
    if "Commands:" in text:
        return
    assert "./deploy.py" in text, f"{name} has no example"


def test_the_command_starts_in_its_own_environment(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(PROJECT / "deploy.py"), "config", "--check"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, "GANGWAY_SANDBOX_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (0, "the built-in target is valid: sandbox\n")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["plan", "--json"], ["--json", "plan"]),
        (["plan", "--check", "--target", "a"], ["--target", "a", "plan", "--check"]),
        (["--config=x", "up", "-v", "--yes"], ["--config=x", "-v", "up", "--yes"]),
        (["logs", "--", "--json"], ["logs", "--", "--json"]),
        (["up", "--target"], ["--target", "up"]),
    ],
)
def test_global_options_may_stand_anywhere(words: list[str], expected: list[str]) -> None:
    assert hoist(words) == expected


def test_problems_are_lines_with_places_and_hints(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(BAD.lstrip())
    done = gangway("config")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: stored secret 'tws-password' is not there\n"
        "  at: stack.yaml:4:5 gateway.password\n"
        "hint: ./deploy.py --target prod secrets set tws-password\n"
        "error: unknown key 'profil'\n"
        "  at: stack.yaml:5:5 profil\n"
        "hint: did you mean 'profile'?\n"
        "error: 'x' is no domain name\n"
        "  at: stack.yaml:6:21 caddy.domain\n"
        "hint: a name such as trade.example.org that points to the host; leave it out for none\n"
    )


def test_problems_as_one_json_document(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(BAD.lstrip())
    done = gangway("config", "--json")
    document = json.loads(done.stdout)
    assert (document["error"], document["exitCode"]) == ("config-invalid", 2)
    assert document["problems"][1] == {
        "code": "unknown-key",
        "message": "unknown key 'profil'",
        "file": "stack.yaml",
        "line": 5,
        "column": 5,
        "path": "profil",
        "hint": "did you mean 'profile'?",
    }


@pytest.mark.parametrize(
    ("words", "message", "hint"),
    [
        (["confg"], "there is no command 'confg'", "did you mean 'config'?"),
        (["UP"], "there is no command 'UP'", "did you mean 'up'?"),
        (["init", "--host", "box", "--image-tag", "", "--yes"], "--image-tag is empty", ""),
        (["logs", "--since", "soon"], "--since: 'soon' is no time", "10m, 2h"),
        (["logs", "--since", "10x"], "--since: '10x' is no time", "10m, 2h"),
        (["config", "--chek"], "no such option: --chek", ""),
        (
            ["config", "extra"],
            "got unexpected extra argument(s) (extra)",
            "./deploy.py config --help",
        ),
        (["--config", "none.yaml", "config"], "there is no none.yaml", "./deploy.py init"),
        (["--target", "x", "config"], "there is no stack.yaml", "./deploy.py init"),
        (["init", "--yes"], "Host (user@host:port) is needed", "--host"),
    ],
)
def test_wrong_usage_is_exit_2_with_a_hint(
    gangway: Gangway, tmp_path: Path, words: list[str], message: str, hint: str
) -> None:
    done = gangway(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}")
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["apikey", "create", "etf", "--scope", "trade", "--symbols", ""],
            "what follows --symbols",
        ),
        (
            ["apikey", "create", "etf", "--scope", "trade", "--account", " "],
            "what follows --account",
        ),
        (["apikey", "create", "etf", "--from=", "--symbols", "SPY"], "--from"),
        (["apikey", "create", "etf", "--expires", ""], "what follows --expires"),
        (["apikey", "create", "init", "--symbols", ""], "what follows --symbols"),
        (["restore", "--from", "/mnt", "--snapshot", ""], "what follows --snapshot"),
        (["rollback", ""], "what follows rollback"),
        (["render", "--out", ""], "what follows --out"),
        (["logs", "gateway", "--since", ""], "what follows --since"),
        (["up", "--only", ""], "what follows --only"),
        (["--config", "", "plan"], "what follows --config"),
        (["plan", "--target="], "--target"),
        (["init", "--config", "", "--yes"], "what follows --config"),
        ([""], "the first word"),
    ],
)
def test_a_variable_that_is_not_set_means_neither_all_nor_no_bound(
    gangway: Gangway, tmp_path: Path, words: list[str], message: str
) -> None:
    """An empty `--symbols` made a key that trades everything, an empty id took the latest."""
    (tmp_path / "stack.yaml").write_text(GOOD)
    done = gangway(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message} is empty\n")
    assert "hint: leave it out" in done.stderr


@pytest.mark.parametrize("option", ["--account", "--symbols", "--from"])
@pytest.mark.parametrize("none", [",", " , ,"])
def test_a_bound_of_no_words_is_refused(
    gangway: Gangway, monkeypatch: pytest.MonkeyPatch, option: str, none: str
) -> None:
    from infrastructure.cli.commands import apikey

    asked: list[object] = []
    monkeypatch.setattr(apikey, "ask_bridge", lambda *words: asked.append(words))
    done = gangway("apikey", "create", "etf", "--scope", "trade", option, "A", option, none)
    assert (done.returncode, asked) == (2, [])
    assert done.stderr.startswith(f"error: {option} names none\n")
    assert "hint: leave it out for no bound" in done.stderr


@pytest.mark.parametrize("words", [["secrets"], ["apikey"], ["nonsense"], ["config", "extra"]])
def test_with_json_a_mistake_is_one_document(gangway: Gangway, words: list[str]) -> None:
    done = gangway(*words, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["exitCode"] == 2


def test_a_bundle_that_cannot_be_written_is_said_in_one_document(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(PROJECT / "deploy.py"), "doctor", "--bundle", "no/x.tar.gz", "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, "GANGWAY_SANDBOX_DIR": str(tmp_path)},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: cannot write no/x.tar.gz: there is no folder no\nhint: make it\n"
    )
    assert json.loads(done.stdout)["error"] == "usage"


@pytest.mark.parametrize("words", [("doctor", "--bundle"), ("login", "--screenshot")])
def test_what_a_command_writes_takes_no_other_files_place(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, str],
) -> None:
    """A slip of the hand cost the configuration: `doctor --bundle stack.yaml`."""
    monkeypatch.chdir(tmp_path)
    stack = "targets: {prod: {host: me@192.0.2.1, gateway: {username: alice}}}\n"
    (tmp_path / "stack.yaml").write_text(stack)
    with pytest.raises(SystemExit) as ended:
        main([*words, "stack.yaml"])
    assert ended.value.code == 2
    assert "error: stack.yaml is there already\nhint: choose" in capsys.readouterr().err
    assert (tmp_path / "stack.yaml").read_text() == stack


def test_a_bug_of_ours_is_one_line_and_v_shows_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from infrastructure.cli import running
    from infrastructure.cli.settings import Settings

    def broken(_self: object) -> None:
        raise RuntimeError("first line\nsecond")

    monkeypatch.setattr(Settings, "target", broken)
    assert running._run(["config"]) == 1
    assert capsys.readouterr().err == (
        "error: unexpected RuntimeError: first line\nhint: run again with -v for the details\n"
    )
    assert running._run(["-v", "config"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_init_with_flags_gives_a_valid_file(gangway: Gangway, tmp_path: Path) -> None:
    done = gangway(
        *["init", "--name", "prod", "--host", "ubuntu@203.0.113.7:2222", "--identity", "~/.ssh/vm"],
        *["--mode", "live", "--domain", "trade.example.org", "--image-tag", "10.45.1j", "--yes"],
    )
    assert (done.returncode, done.stdout) == (0, "")
    shown = json.loads(gangway("config", "--json").stdout)
    assert shown["target"] == "prod"
    assert shown["host"]["user"] == "ubuntu"
    assert shown["host"]["port"] == 2222
    assert shown["host"]["identity"] == "~/.ssh/vm"
    assert shown["gateway"]["image"] == "ghcr.io/gnzsnz/ib-gateway:10.45.1j"
    assert shown["gateway"]["password"] == "<stored secret 'tws-password'>"
    assert shown["caddy"]["domain"] == "trade.example.org"
    assert gangway("config", "--check").returncode == 0


def test_init_adds_a_target_and_keeps_what_was_there(gangway: Gangway, tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text("# mine\n" + GOOD.lstrip() + "\n# the end\ndefaults: {profile: small}\n")
    done = gangway("init", "--name", "test", "--host", "box", "--yes")
    assert done.returncode == 0, done.stderr
    text = path.read_text()
    assert text.startswith("# mine\ntargets:\n  prod:\n")
    assert text.rstrip().endswith("defaults: {profile: small}")
    for name in ("prod", "test"):
        assert gangway("--target", name, "config", "--check").returncode == 0
    again = gangway("init", "--name", "test", "--host", "box", "--yes")
    assert again.returncode == 2
    assert "already has a target 'test'" in again.stderr
    assert path.read_text() == text


SHARED = """
defaults:
  profile: small
  gateway: {mode: live, time_zone: Europe/Berlin, image: "ghcr.io/gnzsnz/ib-gateway:latest"}
  trading: {max_notional: 5000}
"""


@pytest.mark.parametrize(
    ("flags", "differs"),
    [
        ((), {}),
        (("--profile", "standard"), {"profile": "standard"}),
        (("--mode", "paper"), {"mode": "paper"}),
        (("--image-tag", "stable"), {"image": "ghcr.io/gnzsnz/ib-gateway:stable"}),
    ],
)
def test_a_target_of_init_takes_what_defaults_say(
    gangway: Gangway, tmp_path: Path, flags: tuple[str, ...], differs: dict[str, str]
) -> None:
    """Above all a limit of money that was made for every target."""
    (tmp_path / "stack.yaml").write_text(SHARED + GOOD)
    assert gangway("init", "--name", "paper", "--host", "box", "--yes", *flags).returncode == 0
    shown = json.loads(gangway("--target", "paper", "config", "--json").stdout)
    expected = {
        "profile": "small",
        "mode": "live",
        "time_zone": "Europe/Berlin",
        "image": "ghcr.io/gnzsnz/ib-gateway:latest",
        **differs,
    }
    found = {key: shown.get(key) or shown["gateway"].get(key) for key in expected}
    assert found == expected
    assert shown["trading"]["max_notional"] == 5000
    assert "# as defaults say: max_notional: 5000" in (tmp_path / "stack.yaml").read_text()


def test_a_target_of_init_keeps_what_all_targets_share(gangway: Gangway, tmp_path: Path) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text("defaults: {caddy: {listen: 127.0.0.1}}\n" + GOOD.lstrip())
    assert gangway("init", "--name", "paper", "--host", "u@192.0.2.2", "--yes").returncode == 0
    shown = json.loads(gangway("--target", "paper", "config", "--json").stdout)
    assert shown["caddy"]["listen"] == "127.0.0.1"


@pytest.mark.parametrize(
    "text",
    [
        "targets:\n    prod:\n        host: a@192.0.2.1\n# the end\n",
        '"targets":\n  prod:\n    host: a@192.0.2.1\n',
        "targets:\n prod: {host: a@192.0.2.1}\ndefaults: {}\n",
        "defaults: {profile: small}\n'targets' :\n   # of mine\n\n   prod: {host: a@192.0.2.1}\n",
        "targets:\n  prod: {host: a@192.0.2.1}\n...\n",
        "# nothing but words\n",
    ],
)
def test_init_indents_like_the_targets_that_are_there(
    gangway: Gangway, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(text)
    done = gangway("init", "--name", "test", "--host", "box", "--yes")
    assert done.returncode == 0, done.stderr
    added = [line for line in path.read_text().splitlines() if line not in text.splitlines()]
    assert set(text.splitlines()) <= set(path.read_text().splitlines())
    assert "test:" in " ".join(added)
    assert gangway("--target", "test", "config", "--check").returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "targets: {prod: {host: a@192.0.2.1}}\n",
        "targets: {\n  prod: {host: a@192.0.2.1}\n}\n",
        "{targets: {prod: {host: a@192.0.2.1}}}\n",
    ],
)
def test_init_says_what_to_write_where_it_cannot(
    gangway: Gangway, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "stack.yaml"
    path.write_text(text)
    done = gangway("init", "--name", "test", "--host", "box", "--yes")
    assert done.returncode == 2
    assert "a target cannot be added to stack.yaml the way it is laid out" in done.stderr
    assert "stack.yaml:1:" in done.stderr
    assert "  test:\n    # The machine" in done.stderr
    assert """    host: "box"\n""" in done.stderr
    assert path.read_text() == text


def test_init_names_the_place_of_what_was_wrong_before(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text("targets:\n  prod: {host: a}\n  prod: {host: b}\n")
    done = gangway("init", "--name", "test", "--host", "box", "--yes")
    assert done.returncode == 2
    assert "'prod' is set twice" in done.stderr
    assert "stack.yaml:3:3" in done.stderr


@pytest.mark.parametrize("mode", [0o644, 0o600])
def test_init_writes_to_where_a_link_leads(gangway: Gangway, tmp_path: Path, mode: int) -> None:
    """The secrets are stored beside the file itself."""
    real = tmp_path / "elsewhere" / "mine.yaml"
    real.parent.mkdir()
    real.write_text(GOOD)
    real.chmod(mode)
    link = tmp_path / "stack.yaml"
    link.symlink_to("elsewhere/mine.yaml")
    assert gangway("init", "--name", "test", "--host", "box", "--yes").returncode == 0
    assert link.is_symlink()
    assert "  test:\n" in real.read_text()
    assert real.stat().st_mode & 0o777 == mode
    assert [path.name for path in real.parent.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize(
    ("flag", "value", "message"),
    [
        ("--mode", "demo", "mode must be 'paper', 'live' or 'both'"),
        ("--host", "a b", "--host: 'a b' is not user@host:port"),
        ("--domain", "nodots", "'nodots' is no domain name"),
        ("--name", "A B", "'A B' is no target name"),
        ("--image-tag", "a b", "is no image with a tag or digest"),
    ],
)
def test_init_refuses_what_would_not_load(
    gangway: Gangway, tmp_path: Path, flag: str, value: str, message: str
) -> None:
    done = gangway("init", "--host", "box", "--yes", flag, value)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "stack.yaml").exists()


@pytest.mark.parametrize("content", [b"\xff\xfe", None, b"targets: &t {a: *t}"])
def test_init_says_when_it_cannot_read_what_is_there(
    gangway: Gangway, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "stack.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    done = gangway("init", "--host", "box", "--name", "other", "--yes")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "unexpected" not in done.stderr
    if content is not None:
        assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ([], 200),
        (["--since", "1h"], 0),
        (["--since", "1h", "--lines", "1"], 1),
        (["--since", "1h", "--follow", "-n", "2"], 2),
        (["--lines", "0"], 0),
    ],
)
def test_logs_asks_for_as_many_lines_as_were_named(
    gangway: Gangway,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    lines: int,
) -> None:
    asked: list[int] = []

    class Session:
        def open(self) -> None: ...

        def logs(self, *_: object, lines: int, **__: object) -> list[object]:
            asked.append(lines)
            return []

    monkeypatch.setattr(host, "connected", lambda *_: contextlib.nullcontext(Session()))
    (tmp_path / "stack.yaml").write_text(GOOD)
    assert gangway("logs", "bridge", *words).returncode == 0
    assert asked == [lines]


def test_render_writes_what_is_pushed(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    listing = json.loads(gangway("render", "--json").stdout)
    missing = gangway("render", "--out", "out")
    assert missing.returncode == 2
    assert "stored secret 'tws-password' is not there" in missing.stderr
    assert not (tmp_path / "out").exists()
    gangway("secrets", "set", "tws-password", stdin=b"hunter2\n")
    done = gangway("render", "--out", "out")
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out"
    assert out.stat().st_mode & 0o777 == 0o700
    for item in listing["files"]:
        assert f"{(out / item['path']).stat().st_mode & 0o777:04o}" == item["mode"]
    assert (out / "secrets" / "tws-password").read_bytes() == b"hunter2"
    assert gangway("render", "--out", "out").returncode == 0
    gangway("render", "--out", "bare", "--no-secrets")
    assert not (tmp_path / "bare" / "secrets").exists()


def test_manifests_of_every_target_come_with_their_warnings(
    gangway: Gangway, tmp_path: Path
) -> None:
    """As for a host: without --target they were read and not told."""
    (tmp_path / "stack.yaml").write_text(GOOD.replace("alice", "alice, existing_session: manual"))
    done = gangway("render", "--format", "kubernetes", "--no-secrets")
    assert done.returncode == 0, done.stderr
    assert "existing_session: manual hangs" in done.stderr


def test_secrets_from_stdin_file_and_command(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(
        GOOD.replace("alice", "alice, password: {command: printf 'from a command'}")
    )
    source = tmp_path / "source"
    source.write_text("my-own-key-0123456789\n")
    done = gangway("secrets", "set", "bridge-admin-key", "--file", "source")
    assert done.returncode == 0, done.stderr
    path = tmp_path / ".gangway/secrets/prod/bridge-admin-key"
    assert path.read_bytes() == b"my-own-key-0123456789"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / ".gangway" / ".gitignore").read_text() == "*\n"
    rows = json.loads(gangway("secrets", "list", "--json").stdout)["secrets"]
    assert [(row["name"], row["state"]) for row in rows] == [
        ("tws-password", "command"),
        ("bridge-admin-key", "set"),
    ]
    assert gangway("secrets", "check").returncode == 0


def test_a_store_that_cannot_be_made_is_told_in_one_line(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    (tmp_path / ".gangway").write_text("no folder")
    done = gangway("--json", "secrets", "set", "tws-password", stdin=b"hunter2")
    assert (done.returncode, json.loads(done.stdout)["error"]) == (1, "local-file")
    assert done.stderr.startswith("error: ")
    assert ".gangway" in done.stderr
    assert "cannot be used: Not a directory" in done.stderr


def test_a_secret_is_on_the_disk_before_it_is_called_stored(
    gangway: Gangway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some are made up here and held nowhere else."""
    (tmp_path / "stack.yaml").write_text(GOOD)
    real, synced = os.fsync, list[int]()

    def sync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", sync)
    assert gangway("secrets", "set", "tws-password", stdin=b"hunter2").returncode == 0
    (value,) = (tmp_path / ".gangway/secrets").glob("*/tws-password")
    wanted = [value, value.parent, value.parents[1], value.parents[2], tmp_path]
    assert {path.stat().st_ino for path in wanted} <= set(synced)
    assert list(value.parent.iterdir()) == [value]

    def full(_: int) -> None:
        raise OSError(28, "No space left on device", "x")

    monkeypatch.setattr(os, "fsync", full)
    assert gangway("secrets", "set", "tws-password", stdin=b"another").returncode == 1
    assert value.read_text() == "hunter2"
    assert list(value.parent.iterdir()) == [value]


def test_a_code_that_is_no_text_is_no_code(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    done = gangway("login", "--code", "-", stdin=b"123\xe9456\n")
    assert done.returncode == 2
    assert done.stderr.startswith("error: that is no code\n")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program x", "command no-such-program is not installed"),
        ("false", "command false ended with exit code 1"),
        ("printf ''", "command printf is empty"),
        ("printf 'a\\nb'", "command printf has more than one line"),
        ("printf '\\342\\202\\254'", "holds a character outside Latin-1"),
    ],
)
def test_secrets_check_says_what_is_wrong(
    gangway: Gangway, tmp_path: Path, command: str, message: str
) -> None:
    quoted = command.replace("\\", "\\\\")
    text = GOOD.replace("alice", f'alice, password: {{command: "{quoted}"}}')
    (tmp_path / "stack.yaml").write_text(text.lstrip())
    done = gangway("secrets", "check")
    assert done.returncode == 2
    assert message in done.stderr
    assert "at: stack.yaml:4:42 gateway.password" in done.stderr


STORED_USER = "targets: {prod: {host: box, gateway: {mode: paper}}}\n"


@pytest.mark.parametrize("name", [b" alice smith $(x) \r\n", b"ali\xc3\xa7e", b"a" * 65, b" \n"])
def test_a_stored_user_is_held_to_what_a_written_one_is_held_to(
    gangway: Gangway, tmp_path: Path, name: bytes
) -> None:
    (tmp_path / "stack.yaml").write_text(STORED_USER)
    done = gangway("secrets", "set", "tws-username", stdin=name)
    assert done.returncode == 2
    assert "secret 'tws-username' cannot be used: a user name has only letters" in done.stderr
    path = tmp_path / ".gangway/secrets/prod/tws-username"
    assert not path.exists()
    gangway("secrets", "set", "tws-password", stdin=b"hunter2")
    path.write_bytes(name)
    path.chmod(0o600)
    for words in (["secrets", "check"], ["render", "--out", "out"]):
        done = gangway(*words)
        assert done.returncode == 2, words
        assert "tws-username" in done.stderr
        assert "at: stack.yaml:1:" in done.stderr


def test_blanks_around_a_stored_user_are_left_out(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(STORED_USER)
    gangway("secrets", "set", "tws-password", stdin=b"hunter2")
    path = tmp_path / ".gangway/secrets/prod/tws-username"
    assert gangway("secrets", "set", "tws-username", stdin=b"  alice \r\n").returncode == 0
    assert path.read_bytes() == b"alice"
    path.write_bytes(b" bob \r\n")  # with an editor
    assert gangway("secrets", "check").returncode == 0
    assert gangway("render", "--out", "out").returncode == 0
    assert "TWS_USERID: bob\n" in (tmp_path / "out/compose.yaml").read_text()


def test_a_stored_user_may_not_be_the_portals(gangway: Gangway, tmp_path: Path) -> None:
    portal = "portal: {enabled: yes, username: Alice}, profile: standard, host: box"
    (tmp_path / "stack.yaml").write_text(STORED_USER.replace("host: box", portal))
    for name in ("tws-password", "portal-password"):
        gangway("secrets", "set", name, stdin=b"hunter2")
    done = gangway("secrets", "set", "tws-username", stdin=b"alice")
    assert done.returncode == 2
    assert "each login would end the other's session" in done.stderr
    assert gangway("secrets", "set", "tws-username", stdin=b"carol").returncode == 0
    (tmp_path / ".gangway/secrets/prod/tws-username").write_bytes(b"alice")
    done = gangway("secrets", "check")
    assert done.returncode == 2
    assert "each login would end the other's session" in done.stderr
    assert "portal.username" in done.stderr
    rows = json.loads(gangway("secrets", "list", "--json").stdout)["secrets"]
    assert {row["name"]: row["state"] for row in rows}["tws-username"] == "unusable"


def test_a_secret_that_others_can_read_is_refused(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD.replace("alice", "alice, password: {file: pw}"))
    path = tmp_path / "pw"
    path.write_text("hunter2")
    path.chmod(0o644)
    done = gangway("secrets", "check")
    assert done.returncode == 2
    assert "can be read by others" in done.stderr
    path.chmod(0o600)
    assert gangway("secrets", "check").returncode == 0


def test_a_value_on_the_command_line_is_no_option(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    done = gangway("secrets", "set", "tws-password", "hunter2")
    assert done.returncode == 2
    assert not (tmp_path / ".gangway").exists()
    unknown = gangway("secrets", "set", "tws-pasword", stdin=b"x")
    assert "it stores tws-password, bridge-admin-key" in unknown.stderr


def test_no_secret_in_any_output(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    gangway("secrets", "set", "tws-password", stdin=b"hunter2")
    for words in (["config"], ["render"], ["secrets", "list"], ["secrets", "check"]):
        for extra in ([], ["--json"], ["-v"]):
            done = gangway(*words, *extra)
            assert done.returncode == 0, done.stderr
            assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt, EOFError])
def test_interrupted_is_130(
    gangway: Gangway, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    from infrastructure.cli.settings import Settings

    def interrupted(_self: object) -> None:
        raise error

    monkeypatch.setattr(Settings, "target", interrupted)
    done = gangway("config", "--json")
    assert done.returncode == 130
    assert done.stderr.strip() == "error: interrupted"
    assert json.loads(done.stdout)["error"] == "interrupted"


@pytest.mark.parametrize("module", ["infrastructure.cli", "typer", "pydantic", "yaml"])
def test_ctrl_c_while_modules_load_is_one_line(tmp_path: Path, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT, str(PROJECT / "deploy.py"), module],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**ENVIRONMENT, "GANGWAY_SANDBOX_DIR": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (130, "error: interrupted\n")


INTERRUPTED_IMPORT = """
import os, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
path, module = sys.argv[1:]
sys.argv = [path, "config", "--check"]
sys.path[0] = os.path.dirname(path)
asked = []
def hook(event, arguments):
    if event == "import" and arguments[0] == module and not asked:
        asked.append(module)
        signal.raise_signal(signal.SIGINT)
sys.addaudithook(hook)
runpy.run_path(path, run_name="__main__")
"""
"""Runs the command, and interrupts it when it imports a module."""


def on_terminal(folder: Path, words: list[str], answers: list[str]) -> str:
    """Runs the command on a terminal of its own, typing each answer at its question."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "deploy.py"), *words],
        cwd=folder,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**ENVIRONMENT, "TERM": "dumb"},
        close_fds=True,
    )
    os.close(slave)
    shown, answered, open_questions = b"", 0, list(answers)
    with contextlib.suppress(OSError):  # how a terminal says that its last program has ended
        while select.select([master], [], [], 30)[0]:
            shown += os.read(master, 4096)
            if shown[answered:].endswith(b": ") and open_questions:
                os.write(master, open_questions.pop(0).encode() + b"\n")
                answered = len(shown)
    os.close(master)
    with process:
        assert process.wait(30) == 0, shown
    return shown.decode()


def test_a_terminal_that_cannot_do_colours_gets_none(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    shown = on_terminal(tmp_path, ["config", "--check"], [])
    assert "warning: stored secret" in shown
    assert "\x1b" not in shown


def test_a_secret_typed_at_the_prompt_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    shown = on_terminal(tmp_path, ["secrets", "set", "tws-password"], ["hunter2", "hunter2"])
    assert "hunter2" not in shown
    path = tmp_path / ".gangway/secrets/prod/tws-password"
    assert path.read_bytes() == b"hunter2"


def test_the_wizard_asks_for_what_the_flags_leave_open(tmp_path: Path) -> None:
    shown = on_terminal(
        tmp_path,
        ["init", "--name", "prod", "--host", "ubuntu@203.0.113.7"],
        ["/nowhere", "", "lvie", "live", "alice", "n", "trade.example", "", ""],
    )
    assert "there is no file /nowhere" in shown
    assert "gateway.mode must be 'paper', 'live' or 'both'" in shown or "must be 'paper'" in shown
    assert "did you mean 'live'?" in shown
    assert "Sundays at 09:00 America/New_York" in shown
    assert "Target name" not in shown
    assert "Mode (paper or live)" in shown
    target = load(tmp_path / "stack.yaml")
    assert (target.stack.gateway.mode, target.stack.gateway.username) == ("live", "alice")
    assert (target.stack.caddy.domain, target.stack.profile) == ("trade.example", "e2-micro")
    assert target.stack.gateway.two_factor.asked is False


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deploy.py con", "config"),
        ("deploy.py secrets li", "list"),
        ("deploy.py restart ga", "gateway"),
        ("deploy.py logs br", "bridge"),
        ("deploy.py up --only ca", "caddy"),
        ("deploy.py completion fi", "fish"),
        ("deploy.py --target pr", "prod"),
        ("deploy.py --target = pr", "prod"),  # as bash parts --target=pr
        ("deploy.py --target =", "prod"),
        ("deploy.py --config = stack.yaml --target = pr", "prod"),
    ],
)
def test_completion_in_bash(gangway: Gangway, tmp_path: Path, line: str, expected: str) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    script = gangway("completion", "bash").stdout
    words = line.split()
    driver = (
        f"{script}\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}\n"
        f'_deploypy_completion "{PROJECT}/deploy.py"; printf "%s\\n" "${{COMPREPLY[@]}}"'
    )
    done = subprocess.run(
        ["bash", "-c", driver],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=ENVIRONMENT,
    )
    assert done.stdout.split() == [expected], done.stderr


def test_schema_accepts_what_loads(
    gangway: Gangway, tmp_path: Path, write: Callable[[str], Path]
) -> None:
    from jsonschema import Draft202012Validator  # type: ignore[import-untyped]

    document = json.loads(gangway("config", "--schema").stdout)
    validator = Draft202012Validator(document)
    validator.check_schema(document)
    good = {"targets": {"prod": {"host": "a@b", "gateway": {"mode": "paper"}}}}
    assert list(validator.iter_errors(good)) == []
    assert list(validator.iter_errors({"targets": {"prod": {"host": "a", "profil": "x"}}}))


def test_config_shows_what_takes_effect(gangway: Gangway, tmp_path: Path) -> None:
    (tmp_path / "stack.yaml").write_text(GOOD)
    shown = json.loads(gangway("--json", "config").stdout)
    gateway = shown["gateway"]
    assert gateway["jvm"]["heap"] == 256
    times = (gateway["auto_restart"], gateway["auto_logoff"], gateway["cold_restart"])
    assert times == ("off", "23:30", "off")
    assert all(isinstance(shown["limits"][name], int) for name in ("gateway", "bridge", "caddy"))


def test_a_secret_before_init_is_told_what_comes_first(gangway: Gangway) -> None:
    done = gangway("secrets", "set", "tws-password", stdin=b"hunter2")
    assert done.returncode == 2
    assert "hint: first: ./deploy.py init" in done.stderr


@pytest.mark.parametrize("address", ["my-topic", "nonsense://token-4711", "discord://"])
def test_an_address_for_alerts_is_checked_and_never_shown(
    gangway: Gangway, tmp_path: Path, address: str
) -> None:
    (tmp_path / "stack.yaml").write_text(
        GOOD.rstrip() + "\n    alerts:\n      urls: [{stored: alert-url}]\n"
    )
    done = gangway("secrets", "set", "alert-url", stdin=address.encode())
    assert done.returncode == 2
    assert "ntfy://my-topic, tgram://TOKEN/CHAT or discord://ID/TOKEN" in done.stderr
    assert "4711" not in done.stdout + done.stderr
    assert gangway("secrets", "set", "alert-url", stdin=b"ntfy://my-topic").returncode == 0
    assert gangway("secrets", "set", "tws-password", stdin=b"hunter2").returncode == 0
    assert gangway("secrets", "check").returncode == 0


# --- plan and status are read without typer -------------------------------------------------------
WORDS = (
    *("plan", "status", "--check", "--watch", "--all", "--json", "-v", "--verbose", "-q"),
    *("--quiet", "--target", "prod", "a,b", "--target=prod", "--config", "--config=x.yaml"),
    *("--trust-host-key", "--trust-host-key=SHA256:abc", "--help", "--version", "-qv", "--", "up"),
    *("--config=", "--target=--json", "--json=yes"),
)


@given(st.lists(st.sampled_from(WORDS), max_size=7))
@example(["plan"])
@example(["status", "--json", "--target", "prod"])
@example(["--target", "one", "--target=prod", "plan", "-v", "-q", "--check", "--config", "prod"])
@example(["plan", "--trust-host-key", "SHA256:abc", "--verbose", "--quiet"])
def test_what_is_read_without_typer_means_the_same_to_typer(words: list[str]) -> None:
    """The quick way may leave a line to typer; it may never read one otherwise."""
    from infrastructure.cli import app, plan_view, status_view
    from infrastructure.cli.commands import status

    called: list[tuple[object, ...]] = []

    def seen(look: str, current: Settings, **options: bool) -> None:
        called.append((look, vars(current) | {"out": current.out.json}, options))

    ordered = hoist(words)
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(io.StringIO()):
        patch.setattr(plan_view, "show", functools.partial(seen, "plan"))
        patch.setattr(status_view, "show", functools.partial(seen, "status"))
        patch.setattr(status, "show", functools.partial(seen, "status"))
        quick = plain_look(ordered)
        if quick is None:
            return
        quick()
        assert app.run(ordered, as_json=False, verbose=False) == 0
    first, second = called
    assert first == second


@pytest.mark.parametrize(
    ("words", "quick"),
    [
        ("plan", True),
        ("plan --check --json --target prod --config other.yaml -v -q", True),
        ("status --trust-host-key SHA256:abc", True),
        ("status --watch", False),
        ("plan --all", False),
        ("plan --target a,b", False),
        ("plan --help", False),
        ("--check plan", False),
        ("plan extra", False),
        ("plan --target --json", False),
        ("-qv plan", False),
        ("plan -- status", False),
        ("up", False),
        ("--target", False),
        ("", False),
    ],
)
def test_which_lines_are_read_without_typer(words: str, quick: bool) -> None:
    assert (plain_look(hoist(words.split())) is not None) is quick


@pytest.mark.parametrize(
    ("redirected", "code", "said"),
    [
        ("completion bash >&-", 0, ""),
        ("completion bash >/dev/full", 1, "cannot write what was found: No space left"),
        ("nonsense 2>&-", 2, ""),
        ("completion bash <&-", 0, ""),
        ("--help >&-", 0, ""),
    ],
)
def test_a_stream_that_is_closed_or_full_is_no_traceback(
    tmp_path: Path, redirected: str, code: int, said: str
) -> None:
    done = subprocess.run(
        ["sh", "-c", f"'{PROJECT}/deploy.py' {redirected}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env=ENVIRONMENT,
    )
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr


@pytest.mark.parametrize("name", ["a b", "BAD:1", "x", "x:1\nkind: Pod"])
def test_a_name_of_the_bridges_image_that_is_none(gangway: Gangway, name: str) -> None:
    done = gangway("render", "--format", "kubernetes", "--bridge-image", name)
    assert done.returncode == 2
    assert "is no image with a tag or digest" in done.stderr
    assert "hint: " in done.stderr


@pytest.mark.parametrize(("sent", "code"), [(True, 0), (False, 1)])
def test_a_test_message_gets_the_minute_that_it_may_take(
    gangway: Gangway, monkeypatch: pytest.MonkeyPatch, *, sent: bool, code: int
) -> None:
    from infrastructure.cli.commands import alerts

    asked: list[tuple[str, str, float]] = []

    def ask(_: object, method: str, path: str, within: float = 10.0) -> object:
        asked.append((method, path, within))
        return {"services": [{"service": "ntfy", "sent": sent}]}

    monkeypatch.setattr(alerts, "ask_bridge", ask)
    assert gangway("alerts", "test").returncode == code
    ((method, path, within),) = asked
    assert (method, path) == ("POST", "/alerts/test")
    assert within > 60

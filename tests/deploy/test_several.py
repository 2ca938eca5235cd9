"""`--all` and `--target a,b`: a command a target, one exit code, second factors in a row."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from infrastructure.cli import main, several

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = """
import json, os, sys, time
from pathlib import Path
here = Path(__file__).parent
words = sys.argv[1:]
name = words[words.index("--target") + 1]
plays = json.loads((here / "plays.json").read_text())[name]
command = next(word for word in words if word in ("up", "plan", "status"))
def note(what):
    with (here / "notes").open("a") as notes:
        notes.write(json.dumps([command, name, what, time.monotonic(), words]) + "\\n")
note("begin")
if command == "up":
    time.sleep(0.4)
    until = time.monotonic() + 30
    while time.monotonic() < until:  # as long as it takes on a busy machine
        begun = [json.loads(line)[:3] for line in (here / "notes").read_text().splitlines()]
        if all(["up", other, "begin"] in begun for other in plays.get("beside", [])):
            break
        time.sleep(0.02)
print("looking at", name, file=sys.stderr)
if "--json" in words:
    document = {"changed": True, "twoFactorExpected": plays.get("factor", False)}
    document["changes"] = [{"service": "gateway", "action": plays.get("gateway", "unchanged")}]
    print(json.dumps(document))
else:
    print(command, "of", name)
note("end")
sys.stdout.flush()
code = plays.get(command, 0)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str, list[Any]]]:
    """Runs a command over targets whose own commands are played."""
    program = tmp_path / "deploy.py"
    program.write_text(TARGET)
    monkeypatch.setattr(several, "PROGRAM", program)
    monkeypatch.chdir(tmp_path)

    def run(plays: dict[str, Any], *words: str) -> tuple[int, str, str, list[Any]]:
        targets = {
            name: {
                "gateway": {"username": play.get("user", f"alice-{name}")},
                "host": play.get("host", f"me@{name}.example.org"),
            }
            for name, play in plays.items()
        }
        (tmp_path / "stack.yaml").write_text(yaml.safe_dump({"targets": targets}))
        (tmp_path / "plays.json").write_text(json.dumps(plays))
        monkeypatch.setattr(sys, "argv", ["deploy.py", *words])
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        notes = tmp_path / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        assert isinstance(ended.value.code, int)
        return ended.value.code, *capfd.readouterr(), [json.loads(line) for line in lines]

    return run


def spans(notes: list[Any], command: str) -> dict[str, tuple[float, float]]:
    """When each target's command began and ended."""
    at = {(name, what): moment for word, name, what, moment, _ in notes if word == command}
    return {name: (at[name, "begin"], at[name, "end"]) for name, what in at if what == "begin"}


def test_second_factors_come_one_after_the_other_and_the_rest_at_once(run: Any) -> None:
    plays = {
        "a": {"factor": True, "beside": ["b", "d"]},
        "b": {"beside": ["d"]},
        "c": {"factor": True},
        "d": {"beside": ["b"]},
    }
    code, out, err, notes = run(plays, "up", "--all", "--yes")
    assert code == 0, err
    when = spans(notes, "up")
    assert when["a"][1] <= when["c"][0], "a person has one phone"
    assert when["b"][0] < when["a"][1]
    assert when["b"][0] < when["d"][1]
    assert when["d"][0] < when["b"][1]
    assert out.splitlines() == [f"{name} | up of {name}" for name in plays]
    assert "a: changes, and a second factor to approve" in err
    assert "c | looking at c" in err
    assert all("--yes" in words and "--all" not in words for c, *_, words in notes if c == "up")


def test_stacks_of_one_host_come_one_after_the_other(run: Any) -> None:
    """Each looks whether it fits beside what runs there: at once, neither would see the other."""
    one = {"host": "me@vm.example.org", "beside": ["d"]}
    other = one | {"host": "you@VM.example.org:22"}
    plays = {"a": one | {"factor": True}, "b": one, "c": other, "d": {}}
    code, _, err, notes = run(plays, "up", "--all", "--yes")
    assert code == 0, err
    when = spans(notes, "up")
    there = sorted(when[name] for name in "abc")
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(there))
    assert when["d"][0] < there[0][1]


@pytest.mark.parametrize(
    ("codes", "whole"),
    [((0, 0), 0), ((0, 4), 4), ((4, 1), 1), ((5, 4), 5), ((3, 0), 3), ((6, 5), 5)],
)
def test_one_exit_code(run: Any, codes: tuple[int, int], whole: int) -> None:
    plays = {name: {"status": code} for name, code in zip("ab", codes, strict=True)}
    code, out, _, _ = run(plays, "--json", "status", "--target", "a,b")
    assert code == whole
    found = json.loads(out)["targets"]
    assert [found[name]["code"] for name in "ab"] == list(codes)
    assert found["a"]["result"]["changed"] is True


@pytest.mark.parametrize("other", [0, 3, 4])
def test_a_command_that_a_signal_has_ended_has_failed(run: Any, other: int) -> None:
    code, out, _, _ = run(
        {"a": {"status": -9}, "b": {"status": other}}, "status", "--all", "--json"
    )
    assert code == 1
    assert json.loads(out)["targets"]["a"]["code"] == 1


@pytest.mark.parametrize(
    ("action", "before", "asked"),
    [
        ("create", "old.example.org", True),
        ("restart", "old.example.org", True),
        ("create", "a.example.org", False),
        ("unchanged", "old.example.org", False),
        ("create", "", False),
    ],
)
def test_a_gateway_that_may_run_elsewhere_is_told_before_anything_begins(
    run: Any, tmp_path: Path, action: str, before: str, asked: bool
) -> None:
    if before:
        (tmp_path / ".gangway/hosts").mkdir(parents=True)
        (tmp_path / ".gangway/hosts/a").write_text(f"{before}\n")
    code, _, err, _ = run({"a": {"gateway": action}, "b": {}}, "up", "--all", "--yes")
    assert code == 0, err
    assert (f"a was last started on {before}: if it runs there" in err) is asked


def test_what_waits_for_its_host_is_not_begun_after_an_interrupt(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted = threading.Event()
    begun: list[str] = []

    class Turn:
        """The host is free when the one before has ended."""

        def __enter__(self) -> None:
            assert interrupted.wait(30)
            time.sleep(0.3)

        def __exit__(self, *_: object) -> None: ...

    def one(_: Any, name: str, words: Any, *, aloud: bool) -> several.Ended:
        if "plan" in words:
            plan = {"changed": True, "twoFactorExpected": name == "a"}
            return several.Ended(name, 0, json.dumps(plan))
        begun.append(name)
        interrupted.set()
        raise KeyboardInterrupt

    monkeypatch.setattr(several, "_one", one)
    monkeypatch.setattr(several, "_turns", lambda _: {"a": contextlib.nullcontext(), "b": Turn()})
    code, *_ = run({"a": {}, "b": {}}, "up", "--all", "--yes")
    assert (code, begun) == (130, ["a"])


def test_when_one_cannot_be_planned_nothing_is_changed_anywhere(run: Any) -> None:
    code, _, err, notes = run({"a": {}, "b": {"plan": 5}}, "up", "--all", "--yes")
    assert code == 5
    assert "b: cannot be planned; nothing was changed anywhere" in err
    assert spans(notes, "up") == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("up", "--all", "--target", "a"), "--all and --target: one of the two"),
        (("plan", "--target", "a,x"), "there is no target 'x'"),
        (("status", "--all", "--watch"), "--watch looks at one target"),
        (
            ("plan", "--all", "--trust-host-key", f"SHA256:{'a' * 43}"),
            "--trust-host-key is the key of one host",
        ),
    ],
)
def test_mistakes_are_told_before_anything_begins(run: Any, words: Any, said: str) -> None:
    code, _, err, notes = run({"a": {}, "b": {}}, *words)
    assert (code, notes) == (2, [])
    assert said in err


def test_two_of_the_same_user_are_not_started_together(run: Any) -> None:
    """The second login would end the session of the first, each time."""
    plays = {"a": {"user": "Alice"}, "b": {}, "c": {"user": "alice"}}
    code, _, err, notes = run(plays, "up", "--all", "--yes")
    assert (code, notes) == (2, [])
    assert "a and c log in as the same user" in err
    assert run(plays, "up", "--target", "a,b", "--yes")[0] == 0
    assert run(plays, "status", "--all")[0] == 0


def test_stacks_of_one_host_share_its_key(run: Any) -> None:
    one = {"host": "me@vm.example.org"}
    words = ("plan", "--all", "--trust-host-key", f"SHA256:{'a' * 43}")
    assert run({"a": one, "b": one}, *words)[0] == 0


def test_one_target_alone_stays_as_it_was(run: Any) -> None:
    code, _, err, notes = run({"a": {}, "b": {}}, "plan", "--target", "x")
    assert (code, notes) == (2, [])
    assert "has no target 'x'" in err

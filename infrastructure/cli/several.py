"""`up`, `plan` and `status` of several targets: `--all`, or `--target a,b`.

Each target is a command of its own, so that nothing of one reaches another: hosts in parallel,
their lines apart by the target's name, one exit code. Stacks that share a host come up one after
the other, because each is held against what runs there already. So do second factors, because a
person has one phone: targets whose plan expects one are taken in the file's order.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.errors import Problem, UsageError
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target

PROGRAM = PROJECT / "deploy.py"
WORST = (130, 1, 2, 5, 6, 4, 3)
"""Exit codes, the one that needs somebody first: the first one that a target ended with is told."""
AT_ONCE = 8

All = Annotated[bool, typer.Option("--all", help="Every target of the file")]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a target's command ended, and what it printed on stdout."""

    name: str
    code: int
    text: str

    @property
    def document(self) -> Any:
        """Its JSON document; None when it printed none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def chosen(current: Settings, every: bool) -> list[str]:
    """The targets that are meant, when it is not one alone."""
    named = (current.target_name or "").split(",") if current.target_name else []
    if not every and len(named) < 2:
        return []
    if every and named:
        raise UsageError("--all and --target: one of the two", hint="leave --target out")
    from infrastructure.config import DEFAULT_FILE, load_all

    found = load_all(current.config or DEFAULT_FILE)
    known = [target.name for target in found]
    wanted = known if every else [name.strip() for name in named if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise UsageError(
            f"there is no target '{unknown[0]}'",
            hint=f"there are {', '.join(known)}",
            code="unknown-target",
        )
    hosts = {one.stack.host.address.lower() for one in found if one.name in wanted}
    if current.trust_host_key and len(hosts) > 1:  # each other one would be called exchanged
        raise UsageError(
            "--trust-host-key is the key of one host, and these targets have several",
            hint="--target with the one that it is of; or host.trust_host_key in stack.yaml",
        )
    return list(dict.fromkeys(wanted))


def plan_or_status(current: Settings, names: Sequence[str]) -> int:
    """Every target at once."""
    return _told(current, _together(current, names, _words()))


def up(current: Settings, names: Sequence[str], *, yes: bool) -> int:
    """Those without an approval at once, the others meanwhile one after the other."""
    from infrastructure.cli.app import confirm
    from infrastructure.config import DEFAULT_FILE, load_all

    every = load_all(current.config or DEFAULT_FILE)
    found = [target for target in every if target.name in names]
    _require_users_of_their_own(found)
    behind = _left_behind(found)
    quiet = [word for word in _options() if word not in ("--json", "--yes", "-y")]
    looked = _together(current, names, [*quiet, "plan", "--json"], aloud=False)
    broken = [one for one in looked if one.document is None or one.code]
    if broken:
        for one in broken:
            current.out.say(f"{one.name}: cannot be planned; nothing was changed anywhere")
        return _told(current, broken)
    asked = [one.name for one in looked if one.document.get("twoFactorExpected")]
    for one in looked:
        changed = "changes" if one.document.get("changed") else "nothing to do"
        factor = ", and a second factor to approve" if one.name in asked else ""
        current.out.say(f"{one.name}: {changed}{factor}")
        if _starts_gateway(one.document) and (left := behind.get(one.name)):
            current.out.warn(left)
    confirm(current, yes=yes)
    words = [*(word for word in _words() if word not in ("--yes", "-y")), "--yes"]
    free = [name for name in names if name not in asked]
    turns, stop = _turns(found), threading.Event()
    with ThreadPoolExecutor(1) as beside:
        others = beside.submit(_together, current, free, words, turns, stop=stop) if free else None
        try:
            done = [_in_turn(current, name, words, turns, stop=stop) for name in asked]
            done += others.result() if others is not None else []
        except BaseException:
            stop.set()  # what waits for its host is not begun any more
            raise
    return _told(current, sorted(done, key=lambda one: names.index(one.name)))


def _require_users_of_their_own(found: Sequence[Target]) -> None:
    """One after the other, each would take the session of the one before."""
    from infrastructure.config import same_login

    two = same_login.first_two(found)
    if two is not None:
        one, other = two
        raise UsageError(
            f"{one.name} and {other.name} log in as the same user, which has one session",
            other.place("gateway", "username"),
            "a user of its own for each; or name in --target those that shall run",
            code="unsafe",
        )


def _left_behind(found: Sequence[Target]) -> dict[str, Problem]:
    """Of the targets that were last started elsewhere: what to say before they are started here."""
    from infrastructure.cli import whereabouts

    told = {one.name: whereabouts.left_behind(one) for one in found}
    return {name: problem for name, problem in told.items() if problem is not None}


def _starts_gateway(planned: Any) -> bool:
    """Whether a plan does anything to the gateway: what runs already starts no second one."""
    changes = planned.get("changes", ())
    return any(one["service"] == "gateway" and one["action"] != "unchanged" for one in changes)


def _words() -> list[str]:
    """This command's words without what chooses targets."""
    words, given = [], iter(sys.argv[1:])
    for word in given:
        if word == "--target":
            next(given, None)
        elif word != "--all" and not word.startswith("--target="):
            words.append(word)
    return words


def _options() -> list[str]:
    """Of these the options of the whole program: a file, how much to say."""
    from infrastructure.cli.running import hoist

    front = hoist(_words())
    kept: list[str] = []
    while front and front[0].startswith("-"):
        takes = front[0] in ("--config", "--trust-host-key")
        kept += front[: 2 if takes else 1]
        del front[: 2 if takes else 1]
    return kept


def _turns(found: Sequence[Target]) -> dict[str, threading.Lock]:
    """One for each host, by the names of its targets."""
    hosts: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
    return {target.name: hosts[target.stack.host.address.lower()] for target in found}


def _together(
    current: Settings,
    names: Sequence[str],
    words: Sequence[str],
    turns: Mapping[str, threading.Lock] | None = None,
    *,
    aloud: bool = True,
    stop: threading.Event | None = None,
) -> list[Ended]:
    def one(name: str) -> Ended:
        return _in_turn(current, name, words, turns or {}, aloud=aloud, stop=stop)

    with ThreadPoolExecutor(max(1, len(names) if turns else min(AT_ONCE, len(names)))) as pool:
        return list(pool.map(one, names))


def _in_turn(
    current: Settings,
    name: str,
    words: Sequence[str],
    turns: Mapping[str, threading.Lock],
    *,
    aloud: bool = True,
    stop: threading.Event | None = None,
) -> Ended:
    with turns.get(name, nullcontext()):
        if stop is not None and stop.is_set():
            return Ended(name, 130, "")
        return _one(current, name, words, aloud=aloud)


def _one(current: Settings, name: str, words: Sequence[str], *, aloud: bool) -> Ended:
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), "--target", name, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        with ThreadPoolExecutor(1) as reader:
            said = reader.submit(_pass_on, current, name, process.stderr or (), aloud)
            text = process.stdout.read() if process.stdout else ""
            said.result()
        code = process.wait()
        return Ended(name, 1 if code < 0 else code, text)  # what a signal has ended has failed


def _pass_on(current: Settings, name: str, lines: Iterable[str], aloud: bool) -> None:
    for line in lines:
        if aloud:
            current.out.say(f"{name} | {line.rstrip()}")


def _told(current: Settings, done: Sequence[Ended]) -> int:
    """Prints each target's result apart; the exit code of the whole."""
    current.out.document(
        {"targets": {one.name: {"code": one.code, "result": one.document} for one in done}}
    )
    for one in done:
        current.out.data("".join(f"{one.name} | {line}\n" for line in one.text.splitlines()))
    codes = {one.code for one in done}
    return next((code for code in WORST if code in codes), max(codes, default=0))

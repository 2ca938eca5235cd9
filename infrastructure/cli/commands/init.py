"""`init`: a short wizard, or flags only."""

from __future__ import annotations

import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.settings import settings
from infrastructure.errors import ConfigError, UsageError
from infrastructure.program import worded

if TYPE_CHECKING:
    from infrastructure.config.document import Document

TEMPLATE_NAME = "stack.yaml.j2"
HEAD = """\
# Where and how to run the stack. Every key, with its default: docs/configuration.md
# Check it with ./deploy.py config --check; no secret ever stands in this file.

targets:
"""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the wizard or the flags say."""

    name: str
    host: str
    username: str | None = None
    asked: bool = True
    mode: str = "paper"
    identity: str | None = None
    domain: str | None = None
    image_tag: str = "stable"
    profile: str = "e2-micro"
    inherited: Mapping[str, str] = field(default_factory=dict)
    """What the file's `defaults` say for every target, by dotted key: not said again."""

    @property
    def image(self) -> str:
        """The image with the tag, or with a digest when that was given."""
        separator = "@" if self.image_tag.startswith("sha256:") else ":"
        return f"ghcr.io/gnzsnz/ib-gateway{separator}{self.image_tag}"


def init(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="The target's name, such as prod")] = None,
    host: Annotated[
        str | None, typer.Option(metavar="USER@HOST[:PORT]", help="The machine, as for ssh")
    ] = None,
    identity: Annotated[
        str | None, typer.Option(metavar="FILE", help="Private key for the machine")
    ] = None,
    mode: Annotated[str | None, typer.Option(metavar="paper|live", help="Account kind")] = None,
    username: Annotated[str | None, typer.Option(help="IBKR user name")] = None,
    domain: Annotated[
        str | None, typer.Option(metavar="NAME", help="Public name, for a real certificate")
    ] = None,
    image_tag: Annotated[
        str | None,
        typer.Option(
            metavar="TAG", help="The gateway image's tag or sha256:… digest", show_default="stable"
        ),
    ] = None,
    profile: Annotated[
        str | None, typer.Option(metavar="SIZE", help="e2-micro, small or standard")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; use the defaults")] = False,
) -> None:
    """Write a commented stack.yaml, or add a target to the one that is there.

    What the flags leave open is asked for on a terminal.

    \b
    Examples:
      ./deploy.py init
      ./deploy.py init --name prod --host ubuntu@203.0.113.7 --mode paper --yes
    """
    from infrastructure.config.loading import DEFAULT_FILE, read_text

    if image_tag is not None and not image_tag.strip():
        raise UsageError("--image-tag is empty", hint="such as stable, latest or 10.45.1j")
    current = settings(context)
    path = Path(current.config or DEFAULT_FILE)
    ask = _Asker(silent=yes)
    existing = read_text(path) if path.exists() else None
    shared = _shared(path, existing)
    mode_of_all, profile_of_all = shared.get("gateway.mode"), shared.get("profile")
    answers = Answers(
        name=ask("Target name", name or current.target_name, "prod", _name_objection),
        host=ask("Host (user@host:port)", host, None, _of("host")),
        identity=ask(_identity_question(), identity, "", _identity_objection) or None,
        mode=ask("Mode (paper or live)", mode, mode_of_all or "paper", _of("gateway", "mode")),
        username=ask("IBKR user name (empty: store it later)", username, "", _of(*_USERNAME))
        or None,
        asked=ask.yes("Does this user approve logins on a phone (2FA)?", default=True),
        domain=ask("Domain (empty: none)", domain, "", _of("caddy", "domain")) or None,
        image_tag=image_tag or "stable",
        profile=ask(_SIZE, profile, profile_of_all or "e2-micro", _of("profile")),
    )
    said = {"profile": answers.profile, "gateway.mode": answers.mode, "gateway.image": image_tag}
    inherited = {key: value for key, value in shared.items() if (said.get(key) or value) == value}
    answers = replace(answers, inherited=inherited)
    target = _write(path, existing, answers)
    done = "added to" if existing else "written:"
    current.out.say(f"target {target} {done} {path}")
    for line in _about_restarts(path, target):
        current.out.say(line)
    for secret in ("tws-password",) if answers.username else ("tws-username", "tws-password"):
        current.out.say(f"next: ./deploy.py --target {target} secrets set {secret}")
    current.out.document({"file": str(path), "target": target})


def _shared(path: Path, existing: str | None) -> dict[str, str]:
    """What `defaults` of the file say, by dotted key; nothing of a file that cannot be read."""
    if existing is None:
        return {}
    from infrastructure.config.places import parse

    values = parse(existing, str(path)).values
    return dict(_flat(values.get("defaults") if isinstance(values, dict) else None))


def _flat(section: object, *above: str) -> Iterator[tuple[str, str]]:
    if isinstance(section, dict):
        for key, value in section.items():
            yield from _flat(value, *above, str(key))
    elif section is not None and above:
        yield ".".join(above), str(section)


Objection = Callable[[str], tuple[str, str] | None]
"""What is wrong with an answer, and a hint; None: it will do."""
_USERNAME = ("gateway", "username")
_SIZE = "Size (e2-micro, small, standard)"


class _Asker:
    """Asks on a terminal, again until the answer will do; takes flags and defaults without one."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent or not sys.stdin.isatty()

    def __call__(
        self, question: str, given: str | None, default: str | None, objection: Objection
    ) -> str:
        if given is not None:
            return given
        if self._silent and default is None:
            raise UsageError(f"{question} is needed", hint="give it as a flag: --host USER@HOST")
        if self._silent:
            return default or ""
        while True:
            answer = str(typer.prompt(question, default=default, err=True)).strip()
            wrong = objection(answer) if answer else None
            if wrong is None:
                return answer
            typer.echo("  " + "; ".join(part for part in wrong if part), err=True)

    def yes(self, question: str, *, default: bool) -> bool:
        """A yes or no."""
        return default if self._silent else typer.confirm(question, default=default, err=True)


def _of(*path: str) -> Objection:
    """The objection of stack.yaml's own rules to a value at this path of a target."""

    def objection(answer: str) -> tuple[str, str] | None:
        from infrastructure.config.loading import objection

        return objection(path, answer)

    return objection


def _name_objection(answer: str) -> tuple[str, str] | None:
    from infrastructure.config.loading import valid_name

    return None if valid_name(answer) else (f"'{answer}' is no target name", "a-z, 0-9, dash")


def _identity_question() -> str:
    found = sorted(Path("~/.ssh").expanduser().glob("id_*.pub"))
    there = (
        ", ".join(f"~/.ssh/{path.stem}" for path in found[:3]) or "none yet: ssh-keygen -t ed25519"
    )
    return f"SSH key file (empty: as ssh chooses; found: {there})"


def _identity_objection(answer: str) -> tuple[str, str] | None:
    path = Path(answer).expanduser()
    if answer.endswith(".pub"):
        return "that is the public half", f"the private key is {answer.removesuffix('.pub')}"
    return None if path.is_file() else (f"there is no file {answer}", "")


def _about_restarts(path: Path, name: str) -> Iterator[str]:
    """When the gateway restarts, in its own zone and here, and when a phone is needed."""
    import datetime as dt
    from zoneinfo import ZoneInfo

    from infrastructure.config.loading import load
    from infrastructure.config.schedule import calendar
    from infrastructure.plan.forecast import of_login

    target = load(path, name)
    planned = calendar(target)
    for each in planned.restarts:
        due = next(each.around(dt.datetime.now(dt.UTC), ZoneInfo(planned.time_zone)))
        here = due.at.astimezone()
        when = "Sundays" if each.day else "daily"
        told = f"{when} at {each.at} {planned.time_zone} ({here:%H:%M} here)"
        asks = each.kind != "auto-restart" and of_login(target).expected
        word = {"auto-restart": "restart", "auto-logoff": "log-off and login"}.get(
            each.kind, "cold restart"
        )
        yield f"{word}: {told}{'; a login to approve on the phone' if asks else ''}"


def _write(path: Path, existing: str | None, answers: Answers) -> str:
    from pydantic import ValidationError

    from infrastructure.config.loading import load_text

    try:
        content = _extended(path, existing, answers) if existing else HEAD + _target_text(answers)
        load_text(content, str(path), answers.name)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--host: {reason}") from None
    except ConfigError as error:
        # The secrets are stored after this; they are not what is wrong.
        first = next(p for p in error.problems() if p.code != "missing-secret")
        raise UsageError(first.message, hint=first.hint, code=first.code) from None
    try:
        _put(path.resolve(), worded(content))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None
    return answers.name


def _put(path: Path, content: str) -> None:
    """Replaces the file at once; whoever could read it can read it still."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(content, encoding="utf-8")
    if path.exists():
        temporary.chmod(stat.S_IMODE(path.stat().st_mode))
    temporary.replace(path)


def _target_text(answers: Answers) -> str:
    """One target, indented to stand below `targets:`."""
    from infrastructure.config.host import Host
    from infrastructure.render.model import TEMPLATES, render

    host = Host.model_validate(answers.host)
    return render(TEMPLATES / TEMPLATE_NAME, answers=answers, host=host)


def _extended(path: Path, existing: str, answers: Answers) -> str:
    """The file with the new target; UsageError for one that cannot take it, such as flow style."""
    from infrastructure.config.places import parse

    before = parse(existing, str(path))
    if before.problems:
        first = before.problems[0]
        raise UsageError(first.message, first.place, first.hint, first.code)
    _refuse_twice(before, path, answers.name)
    content = _added(existing, before, answers)
    if not _only_adds(before, parse(content, str(path)), answers.name):
        raise UsageError(
            f"a target cannot be added to {path} the way it is laid out",
            before.place(("targets",), key=True),
            hint="write these lines below targets: yourself, indented like the targets there",
            code="file-layout",
            details=_target_text(answers),
        )
    return content


def _only_adds(before: Document, after: Document, name: str) -> bool:
    """Whether a file came out with all that it held, and the target."""
    if after.problems or not isinstance(after.values, dict):
        return False
    old = before.values if isinstance(before.values, dict) else {}
    targets = dict(after.values.get("targets") or {})
    new = targets.pop(name, None)
    return new is not None and {**after.values, "targets": targets} == {
        **old,
        "targets": old.get("targets") or {},
    }


def _added(existing: str, document: Document, answers: Answers) -> str:
    """An existing file with one more target; comments and order stay as they are."""
    key = ("targets",)
    if key not in document.keys:
        return existing.rstrip("\n") + "\n\ntargets:\n" + _target_text(answers)
    lines = existing.rstrip("\n").split("\n")
    start = end = document.keys[key][0]  # the line after that of the key
    while end < len(lines) and (not lines[end].strip() or lines[end][0] in " #\t"):
        end += 1
    while not lines[end - 1].strip():
        end -= 1
    siblings = [at for path, at in document.keys.items() if len(path) == 2 and path[:1] == key]
    columns = [column for line, column in siblings if start < line <= end]
    new = _indented(_target_text(answers), columns[0] - 1 if columns else len(INDENT))
    return "\n".join([*lines[:end], "", *new, *lines[end:]]) + "\n"


INDENT = "  "
"""Of a target as it is rendered."""


def _indented(text: str, columns: int) -> list[str]:
    """The lines of a target, as deep as those that stand there."""
    lines = text.rstrip("\n").split("\n")
    return [" " * columns + line.removeprefix(INDENT) if line else "" for line in lines]


def _refuse_twice(document: Document, path: Path, name: str) -> None:
    values = document.values
    if isinstance(values, dict) and name in (values.get("targets") or {}):
        raise UsageError(
            f"{path} already has a target '{name}'",
            hint="edit it there, or choose another --name",
            code="target-exists",
        )

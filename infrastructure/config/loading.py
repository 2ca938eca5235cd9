"""Reads stack.yaml: every problem at once, each with its place and a hint.

What pydantic found is turned into sentences with a place, a hint and a suggestion.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from infrastructure import files
from infrastructure.config import same_login
from infrastructure.config.base import is_section
from infrastructure.config.checks import check
from infrastructure.config.models import Stack
from infrastructure.config.places import parse
from infrastructure.config.secrets import missing
from infrastructure.config.target import Target
from infrastructure.config.worker_files import missing_folders
from infrastructure.errors import ConfigError, Place, Problem, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from infrastructure.config.base import Placer
    from infrastructure.config.document import Document

DEFAULT_FILE = "stack.yaml"
SANDBOX = "sandbox"
_HINTS = {
    "password": "./deploy.py secrets set NAME stores it; or give {file: …} or {command: …}",
    "time_zone": "a name such as America/New_York or Europe/Berlin",
    "auto_restart": "24 hours ('23:30') or '11:30 PM'; off switches it off",
    "auto_logoff": "24 hours ('23:30') or '11:30 PM'; off switches it off",
    "cold_restart": "24 hours ('09:00') or '9:00 AM'; off switches it off",
    "username": "your IBKR user name",
    "host": "user@host:port; local: this machine; or the keys address, user, port, identity, jump",
    "domain": "a name such as trade.example.org that points to the host; leave it out for none",
    "heap": "megabytes as a plain number, without a unit, 128 at least",
    "trust_host_key": "ssh-keygen -lf FILE prints it",
    "listen": "0.0.0.0 for every address of the host, or one of its own",
    "names": "a list, such as [trade.lan, 192.0.2.7]; without brackets in an address",
    "email": "such as me@example.org; it may be left out",
    "environment": "NAME: 'value', one a line, the value in quotes",
    "max_body": "such as 1MB",
    "url": "such as https://192.0.2.9:5000",
    "publish_api": "such as 127.0.0.1:4001; from elsewhere use ./deploy.py tunnel api",
    "image": "such as ghcr.io/gnzsnz/ib-gateway:stable or …@sha256:…",
    "save_settings": "'Every 30 mins', 'Every 2 hours' or times such as '08:00 17:30'",
    "read_timeout": "such as 60s",
    "write_timeout": "such as 30s",
    "dial_timeout": "such as 2s or 500ms",
    "response_timeout": "such as 35s",
    "stream_timeout": "such as 24h",
    "urls": "{stored: alert-url}, and the address by ./deploy.py secrets set alert-url, such as "
    "ntfy://my-topic, tgram://TOKEN/CHAT or discord://ID/TOKEN",
    "options": "one option a line, such as -XX:+UseStringDeduplication",
}


def load(file: str | Path | None = None, name: str | None = None) -> Target:
    """The target of this name; without one, the only target, or the sandbox if there is no file.

    Raises ConfigError with all problems, UsageError when the file or the target is not there.
    """
    path = Path(file or DEFAULT_FILE)
    if not os.path.lexists(path):
        if file is None and name in {None, SANDBOX}:
            from infrastructure.config.sandbox import sandbox

            return sandbox()
        raise UsageError(
            f"there is no {path}", hint="./deploy.py init writes one", code="no-configuration"
        )
    return _chosen(_read(path), path, name)


def load_text(text: str, file: str, name: str) -> Target:
    """The target as this text will load once it is written to `file`."""
    return _chosen(_checked(parse(text, file), Path(file)), Path(file), name)


def _chosen(document: Document, path: Path, name: str | None) -> Target:
    names = _names(document)
    if name == SANDBOX and SANDBOX not in names:
        from infrastructure.config.sandbox import sandbox

        return sandbox()
    if name is None:
        if len(names) != 1:
            raise UsageError(
                f"{path} has {len(names)} targets: {', '.join(names) or 'none'}",
                hint="choose one with --target NAME",
                code="target-needed",
            )
        name = names[0]
    if name not in names:
        raise UsageError(
            f"{path} has no target '{name}'",
            hint=f"it has {', '.join(names) or 'none'}",
            code="unknown-target",
        )
    return _target(document, path, name)


def load_all(file: str | Path) -> list[Target]:
    """Every target of the file; raises ConfigError with the problems of all of them."""
    path = Path(file)
    document = _read(path)
    targets, problems = [], []
    for name in _names(document):
        try:
            targets.append(_target(document, path, name))
        except ConfigError as error:
            problems += error.problems()
    if problems:
        raise _error(path, problems)
    return targets


def on_same_host(target: Target) -> list[Target]:
    """The file's other targets on this target's host; those with problems are left out."""
    if target.document is None or target.file is None:
        return []
    found = []
    for name in _names(target.document):
        with contextlib.suppress(ConfigError):
            if name != target.name:
                found.append(_target(target.document, target.file, name))
    here = target.stack.host.address.lower()
    return [other for other in found if other.stack.host.address.lower() == here]


def _read(path: Path) -> Document:
    return _checked(parse(read_text(path), str(path)), path)


def read_text(path: Path) -> str:
    """The file's text; raises UsageError when it cannot be read."""
    try:
        return files.text(path, encoding="utf-8-sig", pipes=False)  # it is read more than once
    except FileNotFoundError:
        raise UsageError(
            f"there is no {path}", hint="./deploy.py init writes one", code="no-configuration"
        ) from None
    except OSError as error:
        hint = "a text file in UTF-8, such as ./deploy.py init writes"
        message = f"cannot read {path}: {error.strerror}"
        raise UsageError(message, hint=hint, code="no-configuration") from None


def _checked(document: Document, path: Path) -> Document:
    problems = document.problems
    if not problems and document.values is None:
        problems.append(
            Problem("the file is empty", Place(str(path), 1, 1), "./deploy.py init fills it")
        )
    elif not problems and not isinstance(document.values, dict):
        problems.append(
            Problem(
                "the file must be a mapping", Place(str(path), 1, 1), "./deploy.py init writes one"
            )
        )
    if not problems:
        problems += _top_level(document)
    if problems:
        raise _error(path, problems)
    return document


def _top_level(document: Document) -> list[Problem]:
    problems = [
        unknown_key(document.place((key,), key=True), key, ["targets", "defaults"])
        for key in document.values
        if key not in {"targets", "defaults"}
    ]
    if not isinstance(document.values.get("defaults") or {}, dict):
        place = document.place(("defaults",))
        problems.append(Problem("a mapping (keys below it) is wanted here", place))
    targets = document.values.get("targets")
    if targets is None and any("'targets'" in problem.hint for problem in problems):
        return problems  # misspelt: that is the cause
    if not isinstance(targets, dict) or not targets:
        place = document.place(("targets",))
        problems.append(
            Problem("there are no targets", place, "write `targets:` and below it a name: settings")
        )
        return problems
    for name in targets:
        if not valid_name(str(name)):
            place = document.place(("targets", name), key=True)
            problems.append(
                Problem(f"'{name}' is no target name", place, "a-z, 0-9 and dash, 32 at most")
            )
    return problems


def valid_name(name: str) -> bool:
    """Whether a target may be called so."""
    return re.fullmatch(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?", name) is not None


def _names(document: Document) -> list[str]:
    return [str(name) for name in document.values["targets"]]


def _target(document: Document, path: Path, name: str) -> Target:
    own = document.values["targets"][name]
    values = _merge(document.values.get("defaults") or {}, own)
    problems: list[Problem] = []
    stack: Stack | None = None
    for _ in range(2):
        try:
            stack = Stack.model_validate(values)
            break
        except ValidationError as error:
            if problems:
                break
            problems = causes([explain(document, name, item) for item in error.errors()])
            values = _without(values, [item["loc"] for item in error.errors()])
    place = _placer(document, name)
    found = check(stack, place) if stack else ([], [])
    problems += found[0]
    if len(document.values["targets"]) > 1:
        found[1].extend(same_login.warnings(name, _merged(document), place))
    target = Target(name, stack, path, document, tuple(found[1])) if stack else None
    if problems or target is None:
        said = {problem.place for problem in problems}
        absent = [*missing(target), *missing_folders(target)] if target else []
        raise _error(path, problems + [item for item in absent if item.place not in said])
    return target


def _placer(document: Document, name: str) -> Placer:
    def place(*at: str | int) -> Place:
        return document.target_place(name, at)

    return place


def _merged(document: Document) -> dict[str, Any]:
    """The values of every target, with what the defaults say."""
    shared = document.values.get("defaults") or {}
    return {str(name): _merge(shared, own) for name, own in document.values["targets"].items()}


def _merge(base: Any, over: Any, kind: Any = Stack) -> Any:
    """Both, with what stands in `over` first; a section that is empty there takes nothing away."""
    if over is None and is_section(kind):
        return base
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: _merge(base[key], over[key], _below(kind, key))
            if key in base and key in over
            else over.get(key, base.get(key))
            for key in [*base, *(key for key in over if key not in base)]
        }
    return over


def _below(kind: Any, key: Any) -> Any:
    """The type of what stands under this key of a section or mapping; None: nobody knows it."""
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    section = model_in(kind)
    field = section.model_fields.get(str(key)) if section else None
    return field.annotation if field else None


def _without(values: Any, locations: list[tuple[int | str, ...]]) -> Any:
    """A copy without the values at fault, so that the checks across values can still run."""
    values = copy.deepcopy(values)
    for location in locations:
        parent: Any = values
        for part in location[:-1]:
            if isinstance(parent, dict) and part in parent:
                parent = parent[part]
        if isinstance(parent, dict):
            parent.pop(location[-1] if location else None, None)
    return values


def _error(path: Path, problems: list[Problem]) -> ConfigError:
    ordered = sorted(problems, key=lambda p: (p.place or Place("")).line)
    plural = "problem" if len(ordered) == 1 else "problems"
    return ConfigError(f"{path} has {len(ordered)} {plural}", found=tuple(ordered))


def explain(document: Document, name: str, error: Mapping[str, Any]) -> Problem:
    """One pydantic error as a problem; `name` is the target's."""
    location = tuple(part for part in error["loc"] if part != "[key]")
    kind = error["type"]
    place = document.target_place(name, location, key=kind == "extra_forbidden")
    if kind == "extra_forbidden":
        return unknown_key(place, str(location[-1]), known_keys(location[:-1]))
    if kind == "missing":
        key = str(location[-1])
        return Problem(f"'{key}' is missing", place, _HINTS.get(key, ""), code="missing-key")
    return Problem(_message(error), place, _hint(location, error), code="bad-value")


def causes(problems: list[Problem]) -> list[Problem]:
    """Without those that only follow from another: a key is missing because it was misspelt."""
    meant = {
        (problem.place.path.rpartition(".")[0], problem.hint)
        for problem in problems
        if problem.code == "unknown-key" and problem.place
    }
    return [problem for problem in problems if not _follows(problem, meant)]


def _follows(problem: Problem, meant: set[tuple[str, str]]) -> bool:
    if problem.code != "missing-key" or problem.place is None:
        return False
    section, _, key = problem.place.path.rpartition(".")
    return (section, f"did you mean '{key}'?") in meant


def objection(path: tuple[str, ...], value: object) -> tuple[str, str] | None:
    """What is wrong with one value of a target, and a hint; None: it will load."""
    nested: object = value
    for key in reversed(path):
        nested = {key: nested}
    try:
        Stack.model_validate({"host": "user@192.0.2.1", **nested})  # type: ignore[dict-item]
    except ValidationError as error:
        for each in error.errors():
            if each["loc"][: len(path)] == path:
                return _message(each), _hint(each["loc"], each)
    return None


def unknown_key(place: Place, key: str, known: Iterable[str]) -> Problem:
    """The problem of a key that nothing reads, with the likely one that was meant."""
    names = sorted(known)
    close = difflib.get_close_matches(key.lower().replace("-", "_"), names, 1, 0.6)
    hint = f"did you mean '{close[0]}'?" if close else f"known here: {', '.join(names)}"
    return Problem(f"unknown key '{key}'", place, hint, code="unknown-key")


def known_keys(path: Iterable[str | int]) -> list[str]:
    """The keys that the section at this path of a target has."""
    section: type[BaseModel] = Stack
    for part in path:
        field = section.model_fields.get(str(part))
        if field is None:
            continue
        inner = model_in(field.annotation)
        if inner is None:
            return []
        section = inner
    return list(section.model_fields)


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model inside a field's type, also inside Optional or tuple; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = model_in(inner)
        if found is not None:
            return found
    return None


def _message(error: Mapping[str, Any]) -> str:
    kind, message = error["type"], str(error["msg"])
    if kind == "literal_error":
        return f"{error['loc'][-1]} must be {error['ctx']['expected']}"
    if kind in {"model_type", "dict_type"}:
        return "a mapping (keys below it) is wanted here"
    if kind in {"bool_parsing", "bool_type"}:
        return "true or false is wanted here"
    if kind in {"int_parsing", "int_type", "int_from_float", "float_parsing", "float_type"}:
        return "a number is wanted here"
    if kind == "string_type":
        return "text is wanted here"
    if kind in {"tuple_type", "list_type"}:
        return "a list is wanted here"
    message = message.removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:] if message.startswith("Should") else message


def _hint(location: tuple[int | str, ...], error: Mapping[str, Any]) -> str:
    if error["type"] == "literal_error":
        expected = str(error["ctx"]["expected"]).replace("'", "").replace(" or ", ", ")
        given = str(error.get("input", ""))
        close = difflib.get_close_matches(given.lower(), expected.split(", "), 1, 0.5)
        return f"did you mean '{close[0]}'?" if close else ""
    if error["type"] == "string_type" and isinstance(error.get("input"), int | float):
        return "put it in quotes"
    for part in reversed(location):
        if isinstance(part, str):
            key = "password" if "password" in part or part == "admin_key" else part
            if key in _HINTS:
                return _HINTS[key]
    return ""

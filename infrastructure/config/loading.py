"""Reads stack.yaml: every problem at once, each with its place and a hint."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from infrastructure.config.checks import check
from infrastructure.config.explain import causes, explain, unknown_key
from infrastructure.config.models import Stack
from infrastructure.config.places import parse
from infrastructure.config.secrets import missing
from infrastructure.config.target import Target
from infrastructure.config.worker_files import missing_folders
from infrastructure.errors import ConfigError, Place, Problem, UsageError

if TYPE_CHECKING:
    from infrastructure.config.document import Document

DEFAULT_FILE = "stack.yaml"
SANDBOX = "sandbox"


def load(file: str | Path | None = None, name: str | None = None) -> Target:
    """The target of this name; without one, the only target, or the sandbox if there is no file.

    Raises ConfigError with all problems, UsageError when the file or the target is not there.
    """
    path = Path(file or DEFAULT_FILE)
    if not path.exists():
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


def _read(path: Path) -> Document:
    return _checked(parse(read_text(path), str(path)), path)


def read_text(path: Path) -> str:
    """The file's text; raises UsageError when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}", code="no-configuration"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"cannot read {path}: it is no UTF-8 text",
            hint="save it as UTF-8; nothing but text belongs there",
            code="no-configuration",
        ) from error


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
    values = _merge(document.values.get("defaults") or {}, own if own is not None else {})
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
    found = check(stack, lambda *at: document.target_place(name, at)) if stack else ([], [])
    problems += found[0]
    target = Target(name, stack, path, document, tuple(found[1])) if stack else None
    if problems or target is None:
        said = {problem.place for problem in problems}
        absent = [*missing(target), *missing_folders(target)] if target else []
        raise _error(path, problems + [item for item in absent if item.place not in said])
    return target


def _merge(base: Any, over: Any) -> Any:
    if isinstance(base, dict) and isinstance(over, dict):
        return {
            key: _merge(base[key], over[key])
            if key in base and key in over
            else over.get(key, base.get(key))
            for key in [*base, *(key for key in over if key not in base)]
        }
    return over


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

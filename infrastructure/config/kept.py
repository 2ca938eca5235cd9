"""A configuration that was checked before, without reading it again and without the models.

`load` gives what `loading.load` gives: for the same bytes of the same file, the same target and the
same program, where that went well before. Nothing of a secret is kept: stack.yaml holds none, and
one that seems to is not kept. Secrets are read each time, as they are anyway.
"""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

from infrastructure import files, kept
from infrastructure.config import plain
from infrastructure.config.document import Document
from infrastructure.config.target import Target
from infrastructure.errors import Place, Problem

DEFAULT_FILE, SANDBOX = "stack.yaml", "sandbox"


class Question(NamedTuple):
    """All that a checked configuration depends on beside the program."""

    path: Path | None
    """None: the built-in target."""
    name: str | None
    content: bytes
    status: tuple[int, ...] = ()
    """Of the file; no part of the key."""

    @property
    def key(self) -> str:
        return kept.key("configuration", repr((self.path, self.name)).encode(), self.content)


def load(file: str | Path | None = None, name: str | None = None) -> Target:
    """As `loading.load`, with what it raises."""
    asked = question(file, name)
    found = None if asked is None else known(asked)
    if found is not None:
        return found
    if asked is not None and asked.path is None:
        from infrastructure.config.sandbox import sandbox

        target = sandbox(json.loads(asked.content))
        remember(asked, target)
        return target
    from infrastructure.config.loading import load as load_anew

    target = load_anew(file, name)
    if asked is not None and question(file, name) == asked:
        remember(asked, target)
    return target


def question(file: str | Path | None, name: str | None) -> Question | None:
    """What has to be the same; None when only `loading.load` knows what to say."""
    path = Path(file or DEFAULT_FILE)
    try:
        content, status = files.content(path, pipes=False), path.stat()
    except FileNotFoundError:
        if file is not None or name not in {None, SANDBOX}:
            return None
        from infrastructure.config.sandbox import settings

        return Question(None, SANDBOX, json.dumps(settings()).encode())
    except OSError:
        return None
    times = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return Question(path, name, content, times)


def known(asked: Question) -> Target | None:
    """The target as it was checked before; None when it was not."""
    found = kept.fetch(asked.key)
    try:
        return None if found is None else _target(found, asked.path)
    except (ValueError, TypeError, KeyError):
        return None


def remember(asked: Question, target: Target) -> None:
    """Keeps a target that was checked, but for one that may hold what is nobody's business."""
    from infrastructure.config.worker_checks import telltale

    stack = target.stack
    environments = [each.environment for each in stack.workers.values()]
    if target.file != asked.path or any(map(telltale, [stack.gateway.environment, *environments])):
        return
    document = target.document
    try:
        value = {
            "name": target.name,
            "stack": plain.written(target.stack),
            "warnings": [astuple(problem) for problem in target.warnings],
            "document": document and _document(document),
        }
    except TypeError:  # a value that would not come back the same
        return
    kept.keep(asked.key, value)


def _document(document: Document) -> dict[str, Any]:
    return {
        "file": document.file,
        "values": document.values,
        "keys": list(document.keys.items()),
        "positions": list(document.positions.items()),
    }


def _target(found: dict[str, Any], path: Path | None) -> Target:
    document = found["document"]
    warnings = [
        Problem(message, place and Place(*place), hint, code)
        for message, place, hint, code in found["warnings"]
    ]
    return Target(
        found["name"],
        plain.read(found["stack"]),
        path,
        document
        and Document(
            document["file"],
            document["values"],
            _places(document["keys"]),
            _places(document["positions"]),
        ),
        tuple(warnings),
    )


def _places(found: list[Any]) -> dict[tuple[str | int, ...], tuple[int, int]]:
    return {tuple(path): (line, column) for path, (line, column) in found}

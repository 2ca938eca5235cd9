"""On which host this machine has last started a target.

One that is started elsewhere as well, after `host` was changed in stack.yaml by hand, would share
its login with the one that was left behind. A line in `.gangway/hosts/<target>` beside stack.yaml;
it is a help and no lock: where it cannot be read or written nothing is said.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from infrastructure import files
from infrastructure.errors import Problem

if TYPE_CHECKING:
    from pathlib import Path

    from infrastructure.config import Target


def _file(target: Target) -> Path | None:
    if target.file is None or target.stack.runtime == "sandbox":
        return None
    return target.file.resolve().parent / ".gangway" / "hosts" / target.name


def _here(target: Target) -> str:
    """Where the target is; a user or another port is no other machine."""
    return target.stack.host.address.lower()


def _noted(target: Target) -> str:
    path = _file(target)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return "" if path is None else files.text(path, pipes=False).strip()
    return ""


def left_behind(target: Target) -> Problem | None:
    """What to say before its gateway is started on a host where none of it runs."""
    before = _noted(target)
    if not before or before == _here(target):
        return None
    return Problem(
        f"{target.name} was last started on {before}: if it runs there still, the two gateways end"
        " each other's session, with an approval each time",
        target.place("host"),
        f"with host: {before} in stack.yaml ./deploy.py down ends it there, or move --to"
        f" {target.stack.host.address} takes its journal along",
    )


def note(target: Target) -> None:
    """It was started there."""
    path = _file(target)
    if path is None or _noted(target) == _here(target):
        return
    previous = os.umask(0o077)
    try:
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            ignore = path.parents[1] / ".gitignore"
            if not ignore.exists():
                ignore.write_text("*\n", encoding="utf-8")
            files.write_over(path, f"{_here(target)}\n".encode())
    finally:
        os.umask(previous)


def forget(target: Target) -> None:
    """It was stopped there."""
    path = _file(target)
    if path is not None and _noted(target) == _here(target):
        with contextlib.suppress(OSError):
            path.unlink()

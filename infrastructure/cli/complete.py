"""What the tab key offers besides commands and options. Asks no host: it must answer at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer  # noqa: TC002 - typer reads the annotations

from infrastructure.errors import GangwayError

if TYPE_CHECKING:
    from collections.abc import Iterable

SERVICES = ("gateway", "bridge", "caddy", "portal")
SHELLS = ("bash", "zsh", "fish")


def services(incomplete: str) -> list[str]:
    """Services of a stack."""
    return _starting(SERVICES, incomplete)


def shells(incomplete: str) -> list[str]:
    """Shells that `completion` knows."""
    return _starting(SHELLS, incomplete)


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Targets of the configuration that the line names, or of stack.yaml."""
    from infrastructure.config.places import parse

    file = Path(ctx.params.get("config") or "stack.yaml")
    try:
        found = parse(file.read_text(encoding="utf-8"), str(file)).values["targets"]
        return _starting([str(name) for name in found], incomplete)
    except (OSError, ValueError, KeyError, TypeError, GangwayError):
        return []  # a file that cannot be read is told of when the command runs


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]

"""Options that several commands share, and the question that `--yes` answers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from infrastructure.cli.settings import Settings

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")]
Wait = Annotated[
    float | None,
    typer.Option("--wait", min=1, metavar="SECONDS", help="Until healthy, 2FA not counted"),
]


def confirm(
    current: Settings, question: str = "go on?", *, yes: bool, default: bool = True
) -> None:
    """Asks a person on a terminal; with `--yes`, `--json` or no terminal the answer is yes.

    Raises:
        typer.Abort: the person does not want it.
    """
    if not yes and not current.out.json and sys.stdin.isatty():
        typer.confirm(question, default=default, abort=True, err=True)

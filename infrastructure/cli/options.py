"""Options before the command (`Settings`), those that several share, and `--yes`."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from infrastructure.cli.output import Output

if TYPE_CHECKING:
    from infrastructure.config import Target


@dataclass
class Settings:
    """The global options, and where output goes."""

    config: str | None = None
    target_name: str | None = None
    verbose: bool = False
    quiet: bool = False
    trust_host_key: str | None = None
    lock_wait: float = 0.0
    out: Output = field(default_factory=Output)

    def target(self) -> Target:
        """The checked target; warnings about it are printed once."""
        from infrastructure.config import load

        target = load(self.config, self.target_name)
        for warning in target.warnings:
            self.out.warn(warning)
        return target


def settings(context: typer.Context) -> Settings:
    """The settings of a command's context."""
    found = context.find_object(Settings)
    if found is None:
        raise RuntimeError("the command was not called through infrastructure.cli.main")
    return found


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

"""What a command is told before its own options, and where its output goes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infrastructure import kept
from infrastructure.cli.output import Output

if TYPE_CHECKING:
    import typer

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
        if kept.in_use():
            from infrastructure.config.kept import load
        else:
            from infrastructure.config.loading import load
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

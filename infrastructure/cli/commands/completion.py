"""`completion bash|zsh|fish`: the shell's part of tab completion."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from infrastructure.cli import COMPLETE_VARIABLE
from infrastructure.cli.complete import SHELLS, shells
from infrastructure.errors import UsageError


def command(
    shell: Annotated[
        str,
        typer.Argument(metavar="bash|zsh|fish", help="The shell's name", autocompletion=shells),
    ],
) -> None:
    """Print the script that completes commands and options with the tab key.

    \b
    Examples:
      eval "$(./deploy.py completion bash)"
      ./deploy.py completion fish > ~/.config/fish/completions/deploy.py.fish
    """
    if shell not in SHELLS:
        raise UsageError(f"no completion for '{shell}'", hint=f"one of {', '.join(SHELLS)}")
    typer.echo(script(shell))


def script(shell: str) -> str:
    """Typer's script, calling this checkout's deploy.py wherever the shell stands."""
    from typer._completion_shared import get_completion_script

    name = "deploy.py"
    path = shlex.quote(str(Path(__file__).resolve().parents[3] / name))
    text = get_completion_script(prog_name=name, complete_var=COMPLETE_VARIABLE, shell=shell)
    text = text.replace(f"complete_zsh {name}", f"complete_zsh {path}")
    return text.replace(f"(commandline -cp) {name}", f"(commandline -cp) {path}")

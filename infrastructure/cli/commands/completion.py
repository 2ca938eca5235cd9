"""`completion bash|zsh|fish`, and what the tab key offers; asks no host, to answer at once."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infrastructure.errors import GangwayError, UsageError
from infrastructure.program import COMPLETE_VARIABLE, INSTALLED, NAME, PROJECT

if TYPE_CHECKING:
    from collections.abc import Iterable, MutableMapping


SERVICES = ("gateway", "bridge", "caddy", "portal")
SHELLS = ("bash", "zsh", "fish")


def services(ctx: typer.Context, incomplete: str) -> list[str]:
    """Services of a stack, and its workers."""
    return _starting([*SERVICES, *_workers(ctx)], incomplete)


def workers(ctx: typer.Context, incomplete: str) -> list[str]:
    """Workers of the target that the line names, or of any."""
    return _starting(_workers(ctx), incomplete)


def shells(incomplete: str) -> list[str]:
    """Shells that `completion` knows."""
    return _starting(SHELLS, incomplete)


def as_typed(environment: MutableMapping[str, str]) -> None:
    """Gives bash's words back as they were typed: bash parts them at `=`, too.

    `--target=pr` comes as three words, of which the one in the middle is none.
    """
    words, at = environment.get("COMP_WORDS", "").split("\n"), environment.get("COMP_CWORD", "")
    if not at.isdigit():
        return
    words = words[: int(at) + 1]
    kept = [
        word
        for place, word in enumerate(words)
        if not (word == "=" and words[place - 1].startswith("--") and place < len(words) - 1)
    ]
    environment["COMP_WORDS"], environment["COMP_CWORD"] = "\n".join(kept), str(len(kept) - 1)


def targets(ctx: typer.Context, incomplete: str) -> list[str]:
    """Targets of the file that the line names, or of stack.yaml; also one more of several."""
    before, comma, begun = incomplete.rpartition(",")
    others = [name for name in _targets(ctx) if name not in before.split(",")]
    return [f"{before}{comma}{name}" for name in _starting(others, begun)]


def _targets(ctx: typer.Context) -> dict[str, Any]:
    """What stack.yaml says of each; nothing of a file that cannot be read: the command tells."""
    from infrastructure.config.places import parse
    from infrastructure.files import text

    file = Path(ctx.find_root().params.get("config") or "stack.yaml")
    try:
        found = parse(text(file, pipes=False), str(file)).values["targets"]
        return {str(name): values for name, values in found.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, GangwayError):
        return {}


def _workers(ctx: typer.Context) -> list[str]:
    chosen = ctx.find_root().params.get("target")
    found: dict[str, None] = {}
    for name, values in _targets(ctx).items():
        named = values.get("workers") if isinstance(values, dict) else None
        if isinstance(named, dict) and chosen in (None, name):
            found |= dict.fromkeys(map(str, named))
    return list(found)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def completion(
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
    """Typer's script, calling this very program wherever the shell stands."""
    from typer._completion_shared import get_completion_script

    text = get_completion_script(prog_name=NAME, complete_var=COMPLETE_VARIABLE, shell=shell)
    folder = Path(sys.executable).parent if INSTALLED else PROJECT
    path = shlex.quote(str(folder / NAME))
    text = text.replace(f"complete_zsh {NAME}", f"complete_zsh {path}")
    return text.replace(f"(commandline -cp) {NAME}", f"(commandline -cp) {path}")

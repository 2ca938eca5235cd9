"""What this program is called, and where its files lie: a checkout, or an installed package.

All texts name `./deploy.py`, the command of a checkout. Where the program was installed, people
type `gangway`: what they are shown passes `worded` on its way out, and nothing else does, so that
a release has the same bytes whoever renders it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT: Final = Path(__file__).resolve().parents[1]
"""The folder with `infrastructure/`, `bridge/`, `simulator/` and `templates/`."""
INSTALLED: Final = (PROJECT / "__init__.py").exists()
"""Whether it is the package `gangway` (infrastructure/installed.py); a checkout's root is none."""
NAME: Final = "gangway" if INSTALLED else "deploy.py"
"""The program's name, as usage and completion have it."""
COMPLETE_VARIABLE: Final = "_DEPLOY_COMPLETE"
"""Set by the shell's script while it asks for completions; without a dot, which sh would drop."""

_SAID: Final = {
    "scripts/setup mcp": "pipx install --force '.[mcp]' in the checkout",
    "make setup": "pipx reinstall ib-gangway",
    "./deploy.py": NAME,
}


def worded(text: str) -> str:
    """A text for people, with the commands that they have."""
    if INSTALLED:
        for ours, theirs in _SAID.items():
            text = text.replace(ours, theirs)
    return text


def files_below(folder: Path, left_out: frozenset[str] = frozenset()) -> Iterator[str]:
    """The files below a folder, as `a/b.py`, in the order of `sorted(folder.rglob("*"))`.

    `left_out`: names of folders. Hundreds of files are looked at with each plan, for which
    pathlib takes as long as all that follows.
    """
    with os.scandir(folder) as found:
        entries = sorted(found, key=lambda entry: entry.name)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name not in left_out:
                below = files_below(folder / entry.name, left_out)
                yield from (f"{entry.name}/{name}" for name in below)
        elif entry.is_file():
            yield entry.name


def own_folder() -> Path:
    """Where the sandbox lives unless told otherwise: beside the checkout's files, else in `~`."""
    if not INSTALLED:
        return PROJECT / ".gangway"
    state = os.environ.get("XDG_STATE_HOME", "")
    return Path(state if state.startswith("/") else "~/.local/state").expanduser() / "gangway"

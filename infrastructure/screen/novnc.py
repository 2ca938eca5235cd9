"""noVNC's own files, read out of the package that carries them, without importing it.

The package `novnc` is the JavaScript client in an archive, plus a server that is not used here:
its import would unpack the archive and load that server.
"""

from __future__ import annotations

import importlib.util
import zipfile
from pathlib import Path

from infrastructure.errors import UsageError

ARCHIVE = "resources/novnc_server.zip"
WANTED = ("core/", "vendor/")
"""The client itself, and what it unpacks with; its own page and tools stay where they are."""


def files() -> dict[str, bytes]:
    """`{path: content}` of the client's scripts, such as `core/rfb.js`.

    Raises:
        UsageError: the package is not installed, or holds something else.
    """
    found = importlib.util.find_spec("novnc")
    if found is None or found.origin is None:
        raise UsageError(
            "the screen cannot be shown in the browser: noVNC is not installed",
            hint="make setup installs it; ./deploy.py vnc works with any VNC viewer",
            code="no-web-viewer",
        )
    return read(Path(found.origin).parent / ARCHIVE)


def read(archive: Path) -> dict[str, bytes]:
    """The client's scripts in an archive.

    Raises:
        UsageError: it cannot be read, or has no client in it.
    """
    try:
        with zipfile.ZipFile(archive) as packed:
            names = [name for name in packed.namelist() if _wanted(name)]
            scripts = {name: packed.read(name) for name in names}
    except (OSError, zipfile.BadZipFile):
        scripts = {}
    if "core/rfb.js" not in scripts:
        raise UsageError(
            "the installed package novnc holds no noVNC client",
            hint="make setup installs the right one; ./deploy.py vnc works with any VNC viewer",
            code="no-web-viewer",
        )
    return scripts


def _wanted(name: str) -> bool:
    return name.startswith(WANTED) and name.endswith(".js") and ".." not in name

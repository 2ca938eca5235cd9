"""The first key's file, `BRIDGE_ADMIN_KEY_FILE`: who may read it, and what a key is."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

SHORTEST: Final = 16
FEWEST_DIFFERENT: Final = 6
_EVERYBODY: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH


class KeyFileError(Exception):
    """Why the file cannot be used, and what would be right."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def read_key(path: Path) -> str:
    """The key in `path`.

    Raises:
        KeyFileError: everybody on this machine could read it, or it could be guessed.
        OSError: it cannot be read.
    """
    if path.stat().st_mode & _EVERYBODY:
        raise KeyFileError("everybody on this machine may use the file", f"chmod 600 {path}")
    try:
        key = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise KeyFileError("it holds no text", "write one line: the key") from None
    if not key:
        raise KeyFileError("it is empty", "write a key into it: openssl rand -base64 32")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise KeyFileError("it holds more than one word", "write one line: the key")
    if len(key) < SHORTEST or len(set(key)) < FEWEST_DIFFERENT:
        raise KeyFileError(
            f"the key can be guessed: it has fewer than {SHORTEST} characters, or too few different"
            " ones",
            "openssl rand -base64 32 makes a good one",
        )
    return key

"""What the gateway's own login says, where a hook beside the gateway writes it to a file.

One word: ``waiting-2fa`` while a second factor is asked for, ``bad-credentials`` or ``locked`` when
only a person can help, anything else (``starting``, ``logged-in`` ...) otherwise. Without the file
the bridge has to guess from how connections end.
"""

from __future__ import annotations

from pathlib import Path


def word(file: Path | None) -> str | None:
    """The word in the file; None when there is none to ask."""
    if file is None:
        return None
    try:
        return next(iter(file.read_text(encoding="utf-8", errors="replace").split()), "")
    except OSError:
        return None


def waiting_for_2fa(file: Path | None) -> bool | None:
    """True or false as the file says; None when there is none to ask."""
    said = word(file)
    return None if said is None else said == "waiting-2fa"

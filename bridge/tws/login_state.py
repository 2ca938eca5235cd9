"""The login as the gateway's container writes it down, for whoever asks in the bridge.

A hook beside the gateway appends events to a file (`bridge.login.model.replay`); without the file
nothing is known, and the bridge has to guess from how connections end. One word alone, a state of
`bridge.login.states`, is taken as well: any other helper beside a gateway may write that.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bridge.login import states
from bridge.login.model import Login, replay

MOST_BYTES: Final = 262_144
"""The hook keeps its file far smaller; of a bigger one only the end is read."""


class LoginFile:
    """One session's file, read again only when it has changed."""

    def __init__(self, file: Path | None, session: str | None = None) -> None:
        self._file = file
        self.session = session
        self._seen: tuple[int, int, int] | None = None
        self._login: Login | None = None

    def read(self, now: float) -> Login | None:
        """The login at this moment (seconds since 1970); None without a file."""
        if self._file is None:
            return None
        try:
            status = self._file.stat()
            seen = (status.st_ino, status.st_mtime_ns, status.st_size)
            if seen != self._seen or self._login is None:
                self._login = self._parsed(status.st_size, status.st_mtime)
                self._seen = seen
        except OSError:
            self._login = self._seen = None
            return None
        self._login.look(now)
        return self._login

    def _parsed(self, size: int, written: float) -> Login:
        assert self._file is not None  # noqa: S101 - read() has looked
        with self._file.open("rb") as content:
            content.seek(max(0, size - MOST_BYTES))
            text = content.read(MOST_BYTES).decode("utf-8", "replace")
        word = text.strip()
        if word not in states.STATES:
            return replay(text, self.session)
        login = Login(self.session)
        login.state, login.since = word, written
        return login


def waiting_for_2fa(file: LoginFile, now: float) -> bool | None:
    """Whether a second factor is asked for; None when there is no file to ask."""
    login = file.read(now)
    return None if login is None else login.state == states.WAITING_2FA

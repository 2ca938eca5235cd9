"""The gateway's log lines to login states. Pure; standard library, Python 3.9.

The lines are IBC's and the image's start script's (docs/gateway-image.md). Repeated failures are
counted, because the image starts over without delay and IBKR locks accounts that fail too often.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

STARTING = "starting"
LOGGING_IN = "logging-in"
WAITING = "waiting-for-2fa"
DONE = "logged-in"
FAILED = "failed"

RELAUNCH_LIMIT = 2
"""So many failed launches are a loop: the next attempt is one too many."""

SECOND_FACTOR_SECONDS = 180
"""IBKR's own limit for one approval."""


@dataclass(frozen=True)
class Trouble:
    """Why the gateway will not log in on its own. `stop`: trying again does harm."""

    code: str
    message: str
    hint: str
    stop: bool = True


BAD_CREDENTIALS = Trouble(
    "bad-credentials",
    "IBKR does not accept the user name or password",
    "correct gateway.username or the password, then run up again; "
    "repeated attempts would lock the account",
)
LOCKED = Trouble(
    "account-locked",
    "IBKR refuses logins for now: too many failed attempts",
    "wait as long as IBKR says, check the password in IBKR's own web login, then run up again",
)
LOOP = Trouble(
    "relaunch-loop",
    "the login fails again and again",
    "look at the log above; ./deploy.py vnc shows the gateway's screen",
)
NO_DIALOG = Trouble(
    "login-dialog-missing",
    "the gateway's login window does not appear in time, again and again",
    "the machine is too slow or short of memory: raise gateway.login_dialog_timeout, or add swap",
)
NEEDS_PERSON = Trouble(
    "session-taken",
    "the user is logged in elsewhere, and gateway.existing_session is manual",
    "end the other session, or set gateway.existing_session to primary",
    stop=False,
)
YIELDED = Trouble(
    "session-taken",
    "the user is logged in elsewhere, and that session was left alone",
    "end the other session, or set gateway.existing_session to primary",
)

_EVENTS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("waiting", re.compile(r"entitled: Second Factor Authentication; event=Opened")),
    ("waiting", re.compile(r"Second Factor Authentication initiated")),
    ("closed", re.compile(r"entitled: Second Factor Authentication; event=Closed")),
    ("done", re.compile(r"Login has completed")),
    ("credentials", re.compile(r"entitled: Unrecognized Username or Password; event=Opened")),
    ("locked", re.compile(r"Too many failed login attempts")),
    ("attempt", re.compile(r"Login attempt: (\d+)")),
    ("refused", re.compile(r"Login failed|Login error message:")),
    ("dialog", re.compile(r"failed to display login dialog")),
    ("yielded", re.compile(r"\(scenario 4\)")),
    ("person", re.compile(r"User must choose whether to continue")),
    ("exited", re.compile(r"IBC returned exit status (\d+)")),
    ("soft", re.compile(r"autorestart file found at")),
)


@dataclass
class Login:
    """Follows one gateway's log. `feed` returns a line for a person when something changed."""

    state: str = STARTING
    attempts: int = 0
    exits: int = 0
    refusals: int = 0
    dialogs: int = 0
    trouble: Trouble | None = None

    def feed(self, line: str) -> str | None:
        """Takes one line of the log; what a person should be told, if anything."""
        for name, pattern in _EVENTS:
            match = pattern.search(line)
            if match:
                told: str | None = getattr(self, "_" + name)(match)
                return told
        return None

    def _become(self, state: str, text: str) -> str | None:
        if self.state == state:
            return None
        self.state = state
        return text

    def _fail(self, trouble: Trouble) -> str:
        self.state = FAILED
        self.trouble = trouble
        return trouble.message

    def _attempt(self, match: re.Match[str]) -> str:
        self.state = LOGGING_IN
        self.attempts += 1
        return "logging in" if self.attempts == 1 else f"logging in (attempt {self.attempts})"

    def _waiting(self, _: re.Match[str]) -> str | None:
        return self._become(WAITING, "waiting for 2FA: approve on IBKR Mobile")

    def _closed(self, _: re.Match[str]) -> str | None:
        return self._become(LOGGING_IN, "the 2FA dialog has closed")

    def _done(self, _: re.Match[str]) -> str | None:
        self.exits = self.refusals = self.dialogs = 0
        return self._become(DONE, "logged in")

    def _credentials(self, _: re.Match[str]) -> str:
        return self._fail(BAD_CREDENTIALS)

    def _locked(self, _: re.Match[str]) -> str:
        return self._fail(LOCKED)

    def _refused(self, _: re.Match[str]) -> str:
        self.refusals += 1
        return self._fail(LOOP) if self.refusals >= RELAUNCH_LIMIT else "the login failed"

    def _dialog(self, _: re.Match[str]) -> str:
        self.dialogs += 1
        return self._fail(NO_DIALOG) if self.dialogs >= RELAUNCH_LIMIT else "no login window yet"

    def _yielded(self, _: re.Match[str]) -> str:
        return self._fail(YIELDED)

    def _person(self, _: re.Match[str]) -> str:
        return self._fail(NEEDS_PERSON)

    def _exited(self, match: re.Match[str]) -> str | None:
        if self.state in (DONE, FAILED):
            return self._become(STARTING, "restarting") if self.state == DONE else None
        self.state = STARTING
        self.exits += 1
        if self.exits > RELAUNCH_LIMIT:
            return self._fail(LOOP)
        return f"the gateway ended with status {match[1]} before it was logged in"

    def _soft(self, _: re.Match[str]) -> None:
        self.exits = max(0, self.exits - 1)

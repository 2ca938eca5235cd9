"""One session's login: what is so now, drawn from events in their order.

`note` takes an event with its time (seconds since 1970), `feed` a line of a log, `look` only the
time. What a new login begins with forgets the trouble of the last one. A login that is held stays
so until a launch: nothing launches while it is held, so a launch means that a person has acted.
"""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable

from bridge.login import states
from bridge.login.lines import IBC, WORD_LENGTH, events, source
from bridge.login.spacing import maintenance_until
from bridge.login.states import TROUBLES, WHY, Trouble

APPROVAL_SECONDS = 180
"""IBKR's own limit for one approval."""
WINDOW_PATIENCE = 60
"""An unknown window that is open for so long waits for somebody."""
TYPES_WITHIN = 300
"""Gangway types three codes in half of it: what still asks for one then waits for somebody."""
PASSWORD, TOKEN = "password", "token"
_SECOND_FACTOR = "Second Factor Authentication"
_EXISTING = "Existing session detected"
_WINDOWS_COUNT = (states.STARTING, states.LOGGING_IN, states.RESTARTING, states.LOGGED_IN)
_SPACED_OUT = (states.STARTING, states.WAITING_BROKER)
_OWN_MEANING = (
    _SECOND_FACTOR,
    _EXISTING,
    "Unrecognized",
    "Login",
    "Security Code",
    "Enter",
    "Challenge",
    "Too many",
)
_EXITS = {
    75: "second-factor-unfinished",
    77: "bad-credentials",
    78: "configuration",
    87: "second-factor-unfinished",
    88: "login-dialog-missing",
}
_HEALTH = {
    "LOGIN": "logging-in",
    "POST_LOGIN": "logging-in",
    "DISCLAIMERS": "logging-in",
    "API_WAIT": "logging-in",
    "CONFIG": "logging-in",
    "COMMAND_SERVER": "logging-in",
    "TWO_FA": "asked",
    "READY": "login",
    "MONITORING": "login",
}
"""What ibg-controller's states (`/health` of its image) mean; others are a start."""


class Login:
    """Follows one session. `state` and its fields are the words of `/health`.

    `whole` is false for a log that may lack its beginning: then a refusal is not blamed on a
    password that was not seen to be typed. Else it is, because trying again could lock the account.
    """

    def __init__(
        self,
        session: str | None = None,
        controller: str | None = None,
        *,
        whole: bool = True,
    ) -> None:
        self.session = session
        self.controller = controller
        self.state = states.UNKNOWN
        self.since: float | None = None
        self.kind: str | None = None
        self.why: str | None = None
        self.until: float | None = None
        self.retry_at: float | None = None
        self.window: str | None = None
        self.trouble: Trouble | None = None
        self.began: str | None = None
        self.attempts = 0
        self.launches = 0
        self.asked_since: float | None = None
        """Since when one approval is asked for, however often its dialog has been opened."""
        self.seen = False
        self.parks = False
        """Whether its container can end the gateway with its session kept (`login.sh park`)."""
        self.types = False
        """Whether gangway types the codes (`gateway.two_factor.totp`) and has not given up."""
        self.requested: dict[str, float] = {}
        """When the controller took what the bridge asks of it (a gateway hangs), by the word."""
        self._totp = False
        self._whole = whole
        self._typed = False
        self._token = False
        self._fresh = False
        self._parked = False
        self._completed = False
        self._answered = False
        self._next_kind: str | None = None
        self._open: dict[str, float] = {}
        self._at = self._next_launch = 0.0

    # --- in -----------------------------------------------------------------------------------
    def feed(self, line: str, at: float) -> str | None:
        """Takes a line of a log; one line for a person when something has changed."""
        self.controller = source(line) or self.controller
        told = self.look(at)
        for event, argument in events(line):
            told = self.note(event, at, argument) or told
        return told

    def note(self, event: str, at: float, argument: str = "") -> str | None:
        """Takes an event; one line for a person when something has changed. Unknown ones pass."""
        before = self._shape()
        self._at = at
        self.seen = True
        if event in HANDLERS and self._counts(event):
            handler: Callable[[str], None] = getattr(self, HANDLERS[event])
            handler(argument)
            if event not in ("launch", "start"):
                self._fresh = False
        return self._changed(before)

    def look(self, now: float) -> str | None:
        """Takes the time: a window that nobody has answered for a minute is what blocks.

        And a code that nobody has typed for minutes is not typed by itself.
        """
        before = self._shape()
        self._at = now
        if self.state in _WINDOWS_COUNT:
            for title, opened in self._open.items():
                if now - opened >= WINDOW_PATIENCE:
                    self._block(title, "window")
                    break
        if self.automatic and now - (self.asked_since or now) >= TYPES_WITHIN:
            self._on_untyped("")
        return self._changed(before)

    def resume(self, at: float) -> None:
        """It was logged in until now, and restarts inside its container."""
        self._at, self._completed = at, True
        self._become(states.RESTARTING)
        self.since = at

    # --- out ----------------------------------------------------------------------------------
    @property
    def told(self) -> str:
        """The state in one line, for a person."""
        if self.automatic:
            return states.TYPED
        text = states.told(self.state, self.kind, self.trouble, self.window)
        if self.retry_at is None or self.state not in _SPACED_OUT:
            return text
        if self.trouble is None:
            text = states.SPACED_OUT
        moment = time.strftime("%H:%M", time.gmtime(self.retry_at))
        return f"{text}; the next attempt is at {moment} UTC"

    @property
    def code(self) -> str | None:
        """The code of the trouble."""
        return self.trouble.code if self.trouble else None

    @property
    def automatic(self) -> bool:
        """Whether the second factor that is asked for needs no person."""
        return self.state == states.WAITING_2FA and self.kind == states.CODE and self.types

    @property
    def held(self) -> bool:
        """Whether nothing is tried until a person acts."""
        return self.state == states.HELD

    def shown(self) -> dict[str, object]:
        """The `login` object of `/health`; times in ISO 8601 UTC."""
        return {
            "state": self.state,
            "since": iso(self.since),
            "kind": self.kind,
            "why": self.why,
            "until": iso(self.until),
            "retryAt": iso(self.retry_at),
            "window": self.window,
            "code": self.code,
            "controller": self.controller,
            "session": self.session,
        }

    def _shape(self) -> tuple[object, ...]:
        return (self.automatic, self.state, self.kind, self.why, self.window, self.code)

    def _changed(self, before: tuple[object, ...]) -> str | None:
        if self._shape() == before:
            return None
        if self.state != before[1]:
            self.since = self._at
        return self.told

    def _counts(self, event: str) -> bool:
        """Whether an event still says something: what is held or parked hears few."""
        if self._parked:  # the log's last lines may come after the container's own word
            return event in _ENDS_A_REST
        return self.state != states.HELD or event in _ENDS_A_HOLD

    # --- transitions --------------------------------------------------------------------------
    def _become(
        self,
        state: str,
        *,
        kind: str | None = None,
        why: str | None = None,
        until: float | None = None,
        retry_at: float | None = None,
        window: str | None = None,
        code: str | None = None,
    ) -> None:
        self.state, self.kind, self.why, self.window = state, kind, why, window
        if state in _SPACED_OUT and self._next_launch > self._at:
            # What the log still says of the attempt before comes late on a busy machine.
            retry_at = max(self._next_launch, retry_at or 0.0)
        self.until, self.retry_at = until, retry_at
        self.trouble = TROUBLES[code] if code else None
        if state != states.WAITING_2FA:
            self.asked_since = None

    def _hold(self, code: str) -> None:
        self._become(states.HELD, code=code)

    def _block(self, title: str, code: str) -> None:
        self._become(states.BLOCKED, window=title, code=code)

    def _ask(self, kind: str | None, *, until: float | None) -> None:
        since = self.asked_since if self.state == states.WAITING_2FA else None
        code = None if kind == states.CODE and self.types else states.KIND.get(kind or "")
        self._become(states.WAITING_2FA, kind=kind, until=until, code=code)
        self.asked_since = self._at if since is None else since

    def _refuse(self, why: str, retry_at: float | None = None) -> None:
        """A transient refusal; in the broker's maintenance it is that, whatever the words."""
        if why == states.NO_ANSWER and maintenance_until(self._at):
            why = states.MAINTENANCE
        if self.state == states.WAITING_BROKER and self.why == why and retry_at is None:
            return
        self._become(states.WAITING_BROKER, why=why, retry_at=retry_at, code=WHY[why])

    # --- launches -----------------------------------------------------------------------------
    def _on_begin(self, _: str) -> None:
        self._parked = False
        self._token = self._completed = False
        self.types = self._totp
        self._next_launch = 0.0
        self._open.clear()
        self._become(states.STARTING)

    def _on_boot(self, _: str) -> None:
        self._parked = False
        self.types = self._totp = self.parks = False
        if self.state not in _SPACED_OUT:
            self._become(states.STARTING)

    def _on_launch(self, argument: str) -> None:
        self._parked = False
        self._token = argument == TOKEN if argument else self._token
        resumed = self.state == states.RESTARTING and self._token and self.code is None
        self.launches += 1
        self.began = TOKEN if self._token else PASSWORD
        self._token = self._completed = self._answered = self._typed = False
        self._next_kind, self._next_launch = None, 0.0
        self._open.clear()
        self._become(states.RESTARTING if resumed else states.STARTING)
        self._fresh = True

    def _on_start(self, argument: str) -> None:
        waits = self._next_launch > self._at  # so it is of the attempt before, and comes late
        if not self._fresh and not waits:
            self._on_launch("")

    def _on_token(self, _: str) -> None:
        self._token = True

    def _on_exit(self, argument: str) -> None:
        status = _number(argument)
        if status in (77, 78):
            self._hold(_EXITS[status])
        elif self._completed:
            self._become(states.RESTARTING)
        elif self.state in (states.WAITING_BROKER, states.STOPPED) or self.code:
            return
        else:
            self._become(states.STARTING, code=_EXITS.get(status, "gateway-ended"))

    def _on_finished(self, _: str) -> None:
        if self.state != states.WAITING_BROKER and self.code is None:
            self._become(states.STOPPED)

    def _on_stopped(self, _: str) -> None:
        self._become(states.STOPPED)

    def _on_restarting(self, _: str) -> None:
        if self._completed:
            self._become(states.RESTARTING)

    def _on_pause(self, argument: str) -> None:
        self.retry_at = self._next_launch = self._at + _number(argument)
        if self.state not in _SPACED_OUT:
            self._become(states.STARTING, code=self.code, retry_at=self.retry_at)

    def _on_held(self, argument: str) -> None:
        self._hold(argument if argument in TROUBLES else "login-exhausted")

    # --- the login itself ---------------------------------------------------------------------
    def _on_attempt(self, _: str) -> None:
        self.attempts += 1
        if self.began is None:
            self._on_launch("")
        self._typed = True
        self._answered, self._next_kind = False, None
        if self.state != states.WAITING_2FA:
            self._become(states.LOGGING_IN)

    def _on_logging_in(self, _: str) -> None:
        if self.state in (states.UNKNOWN, states.STARTING, states.WAITING_2FA):
            self._become(states.LOGGING_IN)

    def _on_login(self, _: str) -> None:
        self._completed = True
        self.types = self._totp  # three codes anew
        self._open.clear()
        if self.state != states.LOGGED_IN:
            self._become(states.LOGGED_IN)

    def _on_refused(self, _: str) -> None:
        if self.began == TOKEN:
            self._become(states.RESTARTING, code="token-refused")
        elif not (self._typed or self._whole):
            self._become(states.UNKNOWN, code="refused-unclear")
        else:
            self._hold("bad-credentials")

    def _on_failed(self, _: str) -> None:
        self._refuse(states.MAINTENANCE)

    def _on_no_answer(self, _: str) -> None:
        self._refuse(states.NO_ANSWER)

    def _on_silent(self, _: str) -> None:
        if not self._answered:
            self._refuse(states.NO_ANSWER)

    def _on_throttled(self, argument: str) -> None:
        self._refuse(states.THROTTLED, self._at + _number(argument) if argument else None)

    def _on_locked(self, _: str) -> None:
        self._hold("account-locked")

    def _on_passkey(self, _: str) -> None:
        self._hold("passkey-required")

    def _on_several(self, _: str) -> None:
        self._hold("several-paper-users")

    def _on_expired(self, _: str) -> None:
        self._hold("password-expired")

    def _on_exhausted(self, _: str) -> None:
        self._hold("login-exhausted")

    def _on_yielded(self, _: str) -> None:
        self._hold("session-taken")

    def _on_choice(self, _: str) -> None:
        self._block(_EXISTING, "session-choice")

    def _on_no_window(self, _: str) -> None:
        self._become(states.STARTING, code="login-dialog-missing")

    def _on_no_token(self, _: str) -> None:
        self._token = False

    def _on_resumes(self, _: str) -> None:
        self.began = TOKEN
        if self.state in (states.STARTING, states.UNKNOWN):
            self._become(states.RESTARTING)

    def _on_token_refused(self, _: str) -> None:
        self.began = TOKEN
        self._become(states.LOGGING_IN, code="token-refused")

    # --- the second factor --------------------------------------------------------------------
    def _on_push(self, _: str) -> None:
        asked = self.state == states.WAITING_2FA
        kind = self.kind if asked and self.kind and self.until else states.PUSH
        self._ask(kind, until=self._at + APPROVAL_SECONDS)

    def _on_push_device(self, _: str) -> None:
        self._ask(states.PUSH, until=self._at + APPROVAL_SECONDS)

    def _on_code(self, _: str) -> None:
        self._ask(states.CODE, until=self._at + APPROVAL_SECONDS)

    def _on_device(self, _: str) -> None:
        self._ask(states.DEVICE, until=self.until or self._at + APPROVAL_SECONDS)

    def _on_parks(self, _: str) -> None:
        self.parks = True

    def _on_parked(self, _: str) -> None:
        self._parked = True
        self._become(states.STOPPED)

    def _on_requested(self, argument: str) -> None:
        self.requested[argument[:WORD_LENGTH]] = self._at

    def _on_totp(self, _: str) -> None:
        self.types = self._totp = True

    def _on_untyped(self, _: str) -> None:
        """Three codes were not taken, or the seed gives none: a person is needed."""
        self.types = False
        if self.state == states.WAITING_2FA and self.kind == states.CODE:
            self._ask(states.CODE, until=self.until)

    def _on_asked(self, _: str) -> None:
        self._ask(self.kind, until=self._at + APPROVAL_SECONDS)

    def _on_duration(self, _: str) -> None:
        """The dialog has closed; the next line tells how it goes on."""
        if self.state == states.WAITING_2FA:
            self.until = None

    def _on_asked_again(self, _: str) -> None:
        self._ask(self.kind or states.PUSH, until=None)

    def _on_not_asked_again(self, _: str) -> None:
        if not self._completed and self.state == states.WAITING_2FA:
            self._block(_SECOND_FACTOR, "second-factor-expired")

    def _on_ends_soon(self, argument: str) -> None:
        self._become(states.LOGGING_IN, until=self._at + _number(argument))

    def _on_unfinished(self, _: str) -> None:
        self._become(states.STARTING, code="second-factor-unfinished")

    def _on_unapproved(self, _: str) -> None:
        self._become(states.LOGGING_IN, code="second-factor-unfinished")

    def _on_answered(self, _: str) -> None:
        self._answered = True

    def _on_by_push(self, _: str) -> None:
        self._next_kind = states.PUSH

    def _on_by_code(self, _: str) -> None:
        self._next_kind = self._next_kind or states.CODE

    def _on_by_passkey(self, _: str) -> None:
        self._next_kind = self._next_kind or states.PASSKEY

    def _on_by_several(self, _: str) -> None:
        self._next_kind = None  # a list is shown, and nothing is sent yet

    def _on_challenge(self, _: str) -> None:
        self._ask(self._next_kind or self.kind, until=self._at + APPROVAL_SECONDS)

    def _on_authenticated(self, _: str) -> None:
        self._become(states.LOGGING_IN)

    def _on_unanswered(self, _: str) -> None:
        if self.state == states.WAITING_2FA:
            self.until = None
        else:
            self._refuse(states.NO_ANSWER)

    # --- windows ------------------------------------------------------------------------------
    def _on_opened(self, argument: str) -> None:
        # Only IBC says when a window has closed; of others it is known while a login is under way.
        known = not self._completed or self.controller == IBC
        if argument and known and not argument.startswith(_OWN_MEANING):
            self._open[argument] = self._at

    def _on_closed(self, argument: str) -> None:
        self._open.pop(argument, None)
        if self.state == states.BLOCKED and self.window == argument:
            self._become(states.LOGGED_IN if self._completed else states.LOGGING_IN)

    def _on_blocker(self, argument: str) -> None:
        if "asskey" in argument:
            self._ask(states.PASSKEY, until=None)
        else:
            self._block(argument, "window")

    # --- ibg-controller's own /health -----------------------------------------------------------
    def _on_controller(self, argument: str) -> None:
        event = _HEALTH.get(argument.upper())
        if event is None:
            if self.state in (states.UNKNOWN, states.STOPPED, states.LOGGED_IN):
                self._become(states.STARTING)
        elif event != "logging-in" or self.state != states.LOGGING_IN:
            self.note(event, self._at)


_ENDS_A_REST = ("launch", "begin", "boot", "held", "stopped")
_ENDS_A_HOLD = ("launch", "start", "begin", "login")
HANDLERS: dict[str, str] = {
    name[4:].replace("_", "-"): name for name in vars(Login) if name.startswith("_on_")
}
"""Every event that means something, and the method that takes it."""


_LONGEST = 7 * 86_400
_LINE = re.compile(r"([0-9]{1,11}) +([a-z0-9-]+)(?: +(.*))?")


def _number(argument: str) -> int:
    """Seconds, or an exit code; 0 for what is none: a line may have been torn."""
    known = argument.isascii() and argument.isdigit()
    return min(int(argument[:9]), _LONGEST) if known else 0


def iso(at: float | None) -> str | None:
    """Seconds since 1970 as ISO 8601 UTC."""
    if at is None:
        return None
    return dt.datetime.fromtimestamp(int(at), dt.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: UP017 - Python 3.9


def replay(text: str, session: str | None = None, into: Login | None = None) -> Login:
    """The login that a container has written down: a line is `SECONDS EVENT [ARGUMENT]`."""
    login = into or Login(session)
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        at, event, argument = float(match[1]), match[2], match[3] or ""
        if event == "by":
            login.controller = argument
            continue
        login.look(at)
        login.note(event, at, argument)
    return login

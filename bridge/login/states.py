"""What a person is told of a login: the words of each state, each trouble and its mend."""

from __future__ import annotations

from dataclasses import dataclass

STARTING = "starting"
LOGGING_IN = "logging-in"
WAITING_2FA = "waiting-2fa"
WAITING_BROKER = "waiting-broker"
LOGGED_IN = "logged-in"
RESTARTING = "restarting"
BLOCKED = "blocked"
HELD = "held"
STOPPED = "stopped"
UNKNOWN = "unknown"
STATES = (
    STARTING,
    LOGGING_IN,
    WAITING_2FA,
    WAITING_BROKER,
    LOGGED_IN,
    RESTARTING,
    BLOCKED,
    HELD,
    STOPPED,
    UNKNOWN,
)
FOR_A_PERSON = (HELD, BLOCKED, WAITING_2FA)
"""States in which nothing goes on before somebody acts."""

PUSH, CODE, DEVICE, PASSKEY = "push", "code", "device", "passkey"
MAINTENANCE, NO_ANSWER, THROTTLED = "maintenance", "no-answer", "throttled"

TYPED = "waiting for 2FA: gangway types the code by itself"
AFRESH = "./deploy.py restart gateway --cold begins afresh"
SCREEN = "./deploy.py vnc --web shows the gateway's screen"


@dataclass(frozen=True)
class Trouble:
    """Why a login does not go on by itself. `held`: nothing is tried until a person acts."""

    code: str
    message: str
    hint: str
    held: bool = False

    def shown(self) -> dict[str, object]:
        return {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "held": self.held,
        }


_ALL = (
    Trouble(
        "bad-credentials",
        "IBKR does not accept the user name or password",
        "correct gateway.username or the password (./deploy.py secrets set tws-password), then run"
        " up; nothing is tried until then, because repeated attempts would lock the account",
        held=True,
    ),
    Trouble(
        "account-locked",
        "IBKR refuses logins for now: too many failed attempts",
        f"wait as long as IBKR says and check the password in IBKR's own web login; then {AFRESH}",
        held=True,
    ),
    Trouble(
        "passkey-required",
        "IBKR demands a passkey, which the gateway's image cannot give",
        f"choose another second factor for this user in IBKR's settings; then {AFRESH}",
        held=True,
    ),
    Trouble(
        "several-paper-users",
        "IBKR does not know which paper user is meant: this name belongs to several",
        "set gateway.username to the paper user's own name (IBKR's settings list it), then run up",
        held=True,
    ),
    Trouble(
        "session-taken",
        "the user is logged in elsewhere, and that session was left alone",
        f"end the other session; then {AFRESH}",
        held=True,
    ),
    Trouble(
        "configuration",
        "the login controller refuses its configuration",
        f"see ./deploy.py logs gateway for the setting, mend it, then run up; {AFRESH}",
        held=True,
    ),
    Trouble(
        "login-exhausted",
        "the login controller has given up",
        f"see ./deploy.py logs gateway; then {AFRESH}",
        held=True,
    ),
    Trouble(
        "token-refused",
        "IBKR no longer takes the saved session",
        "nothing: gangway begins one full login by itself; it may ask for the second factor",
    ),
    Trouble(
        "refused-unclear",
        "IBKR refused a login whose beginning is not in this log",
        "give a log from the gateway's start on: a password that is refused is held until a person"
        " acts, a saved session that is refused is followed by one full login by itself",
    ),
    Trouble(
        "broker-maintenance",
        "IBKR refuses logins without a reason, as in its maintenance",
        "nothing: the next attempts are made by themselves, with growing pauses; a password that is"
        " wrong looks different",
    ),
    Trouble(
        "broker-no-answer",
        "IBKR does not answer the login",
        "nothing yet: the next attempts are made by themselves, with growing pauses; if it lasts,"
        " log in to IBKR Mobile once, which frees a session that still holds the place",
    ),
    Trouble(
        "broker-throttled",
        "IBKR lets this user wait before the next login",
        "nothing: the next attempt is made by itself when the wait is over",
    ),
    Trouble(
        "login-dialog-missing",
        "the gateway's login window does not appear in time",
        "the machine is too slow or short of memory: raise gateway.login_dialog_timeout, or add"
        " swap",
    ),
    Trouble(
        "gateway-ended",
        "the gateway ended before it was logged in",
        "it is started again, with growing pauses; ./deploy.py logs gateway --explain tells more",
    ),
    Trouble(
        "second-factor-device",
        "the gateway asks which second factor to use, and nothing was sent to a phone",
        "set gateway.two_factor.device to an entry of its list, exactly, then run up;"
        f" ./deploy.py login --screenshot FILE shows the list; {SCREEN}",
    ),
    Trouble(
        "second-factor-code",
        "the gateway waits for a code to be typed, and nothing was sent to a phone",
        "type the code with ./deploy.py login, which asks for it (--code - reads it from standard"
        " input)",
    ),
    Trouble(
        "second-factor-passkey",
        "the gateway waits for a passkey in a browser of its own",
        f"choose another second factor for this user in IBKR's settings; {SCREEN}",
    ),
    Trouble(
        "second-factor-expired",
        "nobody approved the login in time, and nobody asks again (gateway.two_factor.relogin)",
        AFRESH,
    ),
    Trouble(
        "second-factor-unfinished",
        "the second factor was not given in time, and the gateway ended",
        "nothing: it is asked for again by itself, with growing pauses; approve it then",
    ),
    Trouble(
        "password-expired",
        "IBKR wants a new password for this user",
        "change it in IBKR's web login, ./deploy.py secrets set tws-password, then run up",
        held=True,
    ),
    Trouble(
        "window",
        "a window of the gateway waits for an answer",
        f"answer it: {SCREEN}",
    ),
    Trouble(
        "session-choice",
        "the user is logged in elsewhere, and gateway.existing_session leaves the choice to you",
        f"end the other session, or answer the window: {SCREEN}",
    ),
)
TROUBLES = {trouble.code: trouble for trouble in _ALL}
HELD_CODES = tuple(trouble.code for trouble in _ALL if trouble.held)
WHY = {
    MAINTENANCE: "broker-maintenance",
    NO_ANSWER: "broker-no-answer",
    THROTTLED: "broker-throttled",
}
KIND = {
    CODE: "second-factor-code",
    DEVICE: "second-factor-device",
    PASSKEY: "second-factor-passkey",
}

_ASKED = {
    PUSH: "waiting for 2FA: approve on IBKR Mobile",
    CODE: "waiting for 2FA: a code has to be typed (./deploy.py login)",
    DEVICE: "waiting for 2FA: the device has to be chosen; nothing was sent to a phone",
    PASSKEY: "waiting for 2FA: the gateway wants a passkey",
    None: "waiting for 2FA",
}
SPACED_OUT = "waiting: a row of login attempts could lock the account, so they are spaced out"
_TOLD = {
    STARTING: "starting",
    LOGGING_IN: "logging in",
    LOGGED_IN: "logged in",
    RESTARTING: "restarting",
    STOPPED: "stopped",
    UNKNOWN: "nothing is known of the login",
}


def told(state: str, kind: str | None, trouble: Trouble | None, window: str | None) -> str:
    """A state in one line."""
    if state == WAITING_2FA:
        return _ASKED[kind]
    if state == BLOCKED and window:
        return f"a window waits for an answer: {window}"
    if trouble is not None and state != LOGGED_IN:
        return trouble.message
    return _TOLD.get(state, state.replace("-", " "))

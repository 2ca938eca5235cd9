"""Lines of a log to events: the one table, for Python and for the shell in the container.

Sources: the classes of IBC 3.24 and 3.25 (texts and window titles), the messages of ibcontroller
0.1.4, IBKR's launcher.log, the log tokens of ibg-controller; docs/gateway-image.md. The patterns
are POSIX extended regular expressions, which bash and Python read alike. Every row that matches
counts, in this order; `ignore` ends the search. Nothing of a line is kept but the event, a number
that its row asks for, or the words of a window's title that cannot be an address, an id or a hash.
"""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple


class Row(NamedTuple):
    """An event, its pattern, and whether the pattern's first group is the event's argument."""

    event: str
    pattern: str
    argument: bool = False

    @property
    def takes(self) -> str:
        """What the first group is: `number`, `title`, or `no` argument at all."""
        return "no" if not self.argument else "number" if "([0-9]+)" in self.pattern else "title"


IBC = "ibc"
IBCONTROLLER = "ibcontroller"
IBG_CONTROLLER = "ibg-controller"
LAUNCHER = "launcher.log"

RELEVANT = (
    "IBC|unprompted|agent process|^stopped: |entitled|autorestart|ALERT_|gangway: |Gateway "
    "| - |login attempts"
)
"""A line without any of these is of no interest; looked for before the rows."""

_BLOCKERS = (
    r"(Login Messages|Password Notice|Password Expir[a-z]*|"
    r"API client needs write access action confirmation|"
)
"""Windows that no controller answers."""
_STARTING = r"(Loading|Authenticating|Requesting|Starting|IBKR Gateway|IB Gateway|Interactive Brok)"
"""The titles of the gateway's own frames while it starts."""

ROWS: tuple[Row, ...] = (
    # A window has up to eight events; only that it opened or closed says something.
    Row("ignore", r"; event=(Act|Deact|Foc|Lost|Closing|Deicon|Icon|State)"),
    Row("ignore", r"instance of control is not created yet"),
    # --- IBC and the image's start script
    Row("start", r"Starting Gateway( |$)"),
    Row("attempt", r"IBC: Login attempt: ([0-9]+)", True),
    Row("push", r"entitled: Second Factor Authentication; event=Opened"),
    Row("push", r"IBC: (Second Factor Authentication initiated|Login frame has now become Second)"),
    Row("code", r"entitled: (Security Code|Enter [^;]*[Cc]ode|Challenge)[^;]*; event=Opened"),
    Row("code", r"IBC: Selected second factor device: .*([Aa]uthenticator|SMS|[Cc]ode|[Cc]ard)"),
    Row("push-device", r"IBC: Selected second factor device: .*IB Key"),
    Row("device", r"You should specify the required second factor device"),
    Row("device", r"could not find second factor device"),
    Row("duration", r"IBC: Duration since login: ([0-9]+) seconds", True),
    Row("asked-again", r"[Rr]e-login after second factor authentication timeout in "),
    Row("not-asked-again", r"[Rr]e-login after second factor authentication timeout not"),
    Row("ends-soon", r"IBC: If login has not completed, IBC will exit in ([0-9]+)", True),
    Row("unfinished", r"IBC closing because login has not completed after Second Factor"),
    Row("login", r"IBC: Login has completed"),
    Row(
        "passkey",
        r"(IBC:|IBController >) (Connection to server failed|Login failed|Login error)"
        r".*[Pp]ass ?[Kk]ey",
    ),
    Row("passkey", r" - Authorization failed: .*[Pp]ass ?[Kk]ey"),
    Row(
        "several",
        r"(IBC:|IBController >) Connection to server failed.*multiple Paper Trading users",
    ),
    Row("failed", r"IBC: (Login failed|Login error message|Login Error dialog)"),
    Row("failed", r"entitled: (Login failed|Login Error); event=Opened"),
    Row("failed", r"system is not currently available|not currently available; event=Opened"),
    Row("no-answer", r"IBC: Connection to server failed"),
    Row("refused", r"entitled: Unrecognized Username or Password; event=Opened"),
    Row("locked", r"Too many failed login attempts"),
    Row("no-window", r"failed to display login dialog"),
    Row("yielded", r"\(scenario [246]\)"),
    Row("choice", r"\(scenario 1\)|User must choose whether to continue"),
    Row("token", r"autorestart file found at|AUTORESTART_OPTION is -Drestart="),
    Row("no-token", r"autorestart file not found|so they've all been deleted"),
    Row("resumes", r"IBC: Re-starting session"),
    Row(
        "restarting",
        r"IBC will (cold-)?restart shortly|IBC: (Auto restart|Cold restart) in progress",
    ),
    Row("exit", r"IBC returned exit status ([0-9]+)", True),
    Row("finished", r"^Gateway finished|IBC: Gateway finished"),
    Row(
        "blocker",
        rf"entitled: {_BLOCKERS}"
        r"[^;]*(obsolete|Obsolete|no longer supported|[Pp]asskey)[^;]*); event=Opened",
        True,
    ),
    Row("opened", r"detected dialog entitled: ([^;]*); event=Opened", True),
    Row("closed", r"detected dialog entitled: ([^;]*); event=Closed", True),
    Row("closed", r"detected frame entitled: ([^;]*); event=Closed", True),
    # --- ibcontroller
    Row("start", r"IBController > (startup state: [A-Z_]+ -> LAUNCHING|launching instance)"),
    Row("logging-in", r"IBController > startup state: [A-Z_]+ -> LOGGING_IN"),
    Row("attempt", r"IBController > credentials submitted, awaiting outcome"),
    Row("resumes", r"IBController > .* -- skipping credential fill"),
    Row("asked", r"IBController > second factor authentication in progress"),
    Row("login", r"IBController > (login completed|startup state: [A-Z_]+ -> READY)"),
    Row("refused", r"IBController > unrecognized username or password -- login rejected"),
    Row(
        "failed", r"IBController > (login failed -- transient|login error:|transient login failure)"
    ),
    Row("throttled", r"too many failed login attempts -- retrying in ([0-9]+)", True),
    Row("locked", r"too many failed login attempts -- relogin disabled"),
    Row("no-window", r"IBController > login frame never appeared"),
    Row(
        "yielded",
        r"existing session detected -- (secondary|second attempt|primaryoverride), ending",
    ),
    Row("choice", r"existing session detected -- manual"),
    # It names the class of a window and its title, and never says that one has closed.
    Row("ignore", rf"unprompted window: [^ ]+ '{_STARTING}"),
    Row("ignore", r"unprompted window: [^ ]+ '[^']*Configuration"),
    Row("code", r"unprompted window: [^ ]+ '(Security Code|Enter [^']*[Cc]ode|Challenge)"),
    Row(
        "blocker",
        rf"unprompted window: [^ ]+ '{_BLOCKERS}Re-login is required|"
        r"[^']*(obsolete|Obsolete|no longer supported|[Pp]asskey)[^']*)'",
        True,
    ),
    Row("opened", r"unprompted window: [^ ]+ '([^']*)'", True),
    Row("no-answer", r"IBController > Connection to server failed"),
    Row("unfinished", r"IBController > cycle aborted: login did not complete within"),
    Row("exit", r"agent process exited on its own \(returncode=([0-9]+)\)", True),
    Row("exit", r"IBController > PROCESS_(EXITED|CLOSED) during"),
    Row("restarting", r"IBController > (mfa_timeout_action=restart|cold_restart_time reached)"),
    Row("restarting", r"Gateway restarted on its own schedule"),
    Row("finished", r"^stopped: [A-Z_]+$"),
    # --- launcher.log
    Row("start", r" - -+ *IB GATEWAY RESTART"),
    Row("resumes", r" - Running in auto-restart mode"),
    Row("attempt", r" - LauncherLoginThread\.runLoginWithUI\(\)\[.*loginAttempt=([0-9]+)", True),
    Row("answered", r" - NS_AUTH_START "),
    Row("token-refused", r" - NS_AUTH_START .*pwd=1 .*initialTokenType=(SOFT|TST)"),
    Row("by-push", r" - NS_AUTH_START .*token\(s\)=\[.*IB ?Key"),
    Row(
        "by-code", r" - NS_AUTH_START .*token\(s\)=\[.*(SMS|[Cc]ard|[Cc]ode|[Aa]uthenticator|TOTP)"
    ),
    Row("by-passkey", r" - NS_AUTH_START .*token\(s\)=\[.*([Pp]asskey|FIDO|WebAuthn)"),
    Row("by-several", r" - NS_AUTH_START .*token\(s\)=\[\[[^]]*\]\["),
    Row("challenge", r" - Received CHALLENGE"),
    Row("authenticated", r" - ### onAuthenticationCompleted .*authenticated=true"),
    Row("unanswered", r" - Authorization failed: SUPPRESS_MESSAGE_BOX"),
    Row(
        "refused",
        r" - (AUTH_RESULT indicates wrong password|Authorization failed: Invalid username)",
    ),
    Row(  # with any other reason than SUPPRESS_MESSAGE_BOX and Invalid username
        "failed",
        r" - Authorization failed: ([^SI]|S[^U]|SU[^P]|I[^n]|In[^v]|Inv[^a]|Invalid [^u])",
    ),
    Row("silent", r" - (Authentication timeout|AuthTimeoutMonitor-CCP: Timeout!)"),
    Row("login", r" - Switching to a new encrypted log"),
    # --- ibg-controller
    Row("throttled", r"ALERT_CCP_PERSISTENT( |:|$)"),
    Row("locked", r"ALERT_CCP_PERSISTENT_HALT"),
    Row("unapproved", r"ALERT_2FA_FAILED"),
    Row("exhausted", r"ALERT_JVM_RESTART_EXHAUSTED"),
    Row("expired", r"ALERT_PASSWORD_EXPIRED"),
    Row("failed", r"ALERT_IBKR_MAINTENANCE_RECOVERY"),
    Row("controller", r"gangway: controller ([A-Z_]+)$", True),
    # --- what our own hook prints
    Row("pause", r"gangway: the next login attempt is in ([0-9]+) s", True),
    Row("held", r"gangway: the login is held: ([a-z-]+)", True),
)

_TITLE = r"[^A-Za-z_ .,'-]"
_TELLTALE = r"[0-9@/:]|[.]."
_SOURCES = (
    (IBCONTROLLER, r"IBController > "),
    (IBC, r" IBC: |IBC returned exit status|Starting IBC version"),
    (IBG_CONTROLLER, r"ALERT_[A-Z0-9]+|ibg[-_]controller"),
    (LAUNCHER, r"^[0-9-]{10} [0-9:]{8}\.[0-9]{3} [A-Z]+ +(\[|[A-Z]{2} )"),
)
TITLE_LENGTH = 60
WORD_LENGTH = 20
NUMBER_LENGTH = 9
"""Digits of a number that are read; more are not a number of anything here."""


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """When a line is read: a deploy only wants the table, and compiling takes longer than it."""
    return re.compile(pattern)


def events(line: str) -> list[tuple[str, str]]:
    """The events in a line, each with its argument or an empty text."""
    if _compiled(RELEVANT).search(line) is None:
        return []
    found = []
    for row in ROWS:
        match = _compiled(row.pattern).search(line)
        if match is None:
            continue
        if row.event == "ignore":
            break
        found.append((row.event, "" if row.takes == "no" else plain(match[1], row.takes)))
    return found


def plain(text: str, takes: str) -> str:
    """A number's digits; of a title the words without digits, dots inside, or great length."""
    if takes == "number":
        return text[:NUMBER_LENGTH]
    kept = (
        _compiled(_TITLE).sub("", word)
        for word in text.split(" ")
        if len(word.encode()) <= WORD_LENGTH and not _compiled(_TELLTALE).search(word)
    )
    return " ".join(word for word in kept if word)[:TITLE_LENGTH].strip()


def source(line: str) -> str | None:
    """Which program wrote a line; None when it does not tell."""
    return next((name for name, pattern in _SOURCES if _compiled(pattern).search(line)), None)


def shell_table() -> str:
    """The same table for bash: event, what its argument is, pattern; tabs between."""
    rows = [f"{row.event}\t{row.takes}\t{row.pattern}\n" for row in ROWS]
    return f"relevant\tno\t{RELEVANT}\n" + "".join(rows)

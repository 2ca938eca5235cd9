"""The model of the login: lines of every controller to states, and what is not counted twice."""

from __future__ import annotations

import pytest

from bridge.login import states
from bridge.login.lines import ROWS, events, source
from bridge.login.model import HANDLERS, TYPES_WITHIN, Login, replay
from bridge.login.spacing import Launches
from bridge.tws.advice import of_login

IBC = "2026-11-21 03:14:39:375 IBC: "
DIALOG = "detected dialog entitled: "
NOON = 1_763_740_800.0  # 2025-11-21 16:00 UTC, 11:00 in New York: no maintenance
NIGHT = 1_763_701_200.0  # 05:00 UTC, 00:00 in New York


class Tale:
    """A login that is told line by line, ten seconds apart."""

    def __init__(self, *lines: str, start: float = NOON) -> None:
        self.login = Login("paper")
        self.now = start
        self.told: list[str] = []
        self.add(*lines)

    def add(self, *lines: str, seconds: float = 10) -> Tale:
        for line in lines:
            self.now += seconds
            text = self.login.feed(line, self.now)
            if text:
                self.told.append(text)
        return self

    def ibc(self, *lines: str, seconds: float = 10) -> Tale:
        return self.add(*(IBC + line for line in lines), seconds=seconds)

    def shape(self) -> tuple[str | None, ...]:
        return self.login.state, self.login.code


def begun() -> Tale:
    return Tale("Starting Gateway with this command:").ibc("Login attempt: 1")


def window(title: str) -> list[str]:
    """A window as IBC really logs it: with all of its events."""
    return [
        f"{DIALOG}{title}; event={event}" for event in ("Activated", "Focused", "Opened", "Closing")
    ]


PUSH = window("Second Factor Authentication")


def test_every_event_of_the_table_means_something() -> None:
    assert {row.event for row in ROWS} - {"ignore"} <= set(HANDLERS)


def test_a_plain_login() -> None:
    tale = begun().ibc("Click button: I understand and accept", "Found Gateway main window")
    assert tale.shape() == ("logging-in", None)
    tale.ibc("Login has completed", "Configuration tasks completed")
    assert tale.shape() == ("logged-in", None)
    assert tale.told == ["starting", "logging in", "logged in"]
    assert tale.login.controller == "ibc"


def test_one_failed_window_counts_once_and_is_not_a_refusal() -> None:
    """The title stands in four lines of one window; IBC then says it once more itself."""
    tale = begun().ibc(*window("Login failed"), "Login failed", "Cold restart in progress")
    tale.add("IBC returned exit status 0", "IBC will cold-restart shortly")
    assert tale.shape() == ("waiting-broker", "broker-maintenance")
    assert not tale.login.held
    assert len([text for text in tale.told if "refuses" in text]) == 1


@pytest.mark.parametrize(
    ("line", "start", "why"),
    [
        ("Login failed", NOON, "maintenance"),
        ("Login error message: x", NOON, "maintenance"),
        ("Login Error dialog encountered", NOON, "maintenance"),
        ("Connection to server failed: no route", NOON, "no-answer"),
        ("Connection to server failed: no route", NIGHT + 3000, "maintenance"),
    ],
)
def test_what_passes_by_itself_is_never_held(line: str, start: float, why: str) -> None:
    tale = Tale("Starting Gateway with this command:", start=start).ibc("Login attempt: 1")
    for _ in range(100):
        tale.ibc(line, "Cold restart in progress").add(
            "IBC returned exit status 0",
            "IBC will cold-restart shortly",
            "Starting Gateway with this command:",
            seconds=1,
        )
        tale.ibc("Login attempt: 1", seconds=1)
    tale.ibc(line)
    assert (tale.login.state, tale.login.why) == ("waiting-broker", why)
    assert tale.login.trouble
    assert not tale.login.trouble.held


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (f"{DIALOG}Unrecognized Username or Password; event=Opened", "bad-credentials"),
        ("Too many failed login attempts. Please wait 15 minutes before", "account-locked"),
        ("Connection to server failed: log in with Passkey first", "passkey-required"),
        ("End this session and let the other session proceed (scenario 2)", "session-taken"),
        ("Other session must be primary, so end this session (scenario 4)", "session-taken"),
        ("Other session may be primary, so end this session (scenario 6)", "session-taken"),
    ],
)
def test_what_only_a_person_can_mend_is_held(line: str, code: str) -> None:
    tale = begun().ibc(line).add("IBC returned exit status 137", "Gateway finished")
    tale.ibc("Login failed")
    assert tale.shape() == ("held", code)
    assert tale.login.trouble
    assert tale.login.trouble.held
    tale.add("Starting Gateway with this command:")
    assert tale.shape() == ("starting", None), "a new login forgets the old trouble"


def test_the_hint_of_a_taken_session_does_not_name_what_is_set() -> None:
    hint = states.TROUBLES["session-taken"].hint
    assert hint.startswith("end the other session")
    assert "existing_session" not in hint


@pytest.mark.parametrize("scenario", [3, 5])
def test_a_session_that_is_taken_over_goes_on(scenario: int) -> None:
    assert begun().ibc(f"so continue this one (scenario {scenario})").shape() == (
        "logging-in",
        None,
    )


def test_a_refused_token_is_no_refused_password() -> None:
    tale = begun().ibc("Login has completed")
    tale.add(
        "IBC returned exit status 0",
        "autorestart file found at /x/y/autorestart: authentication will not be required",
        "IBC will restart shortly",
        "Starting Gateway with this command:",
    )
    assert tale.shape() == ("restarting", None)
    tale.ibc("Re-starting session", *window("Unrecognized Username or Password"))
    assert tale.shape() == ("restarting", "token-refused")
    tale.add(
        "IBC returned exit status 137",
        "autorestart file not found: full authentication will be required",
        "Starting Gateway with this command:",
    ).ibc("Login attempt: 1", *window("Unrecognized Username or Password"))
    assert tale.shape() == ("held", "bad-credentials"), "the full login was refused as well"


def test_a_soft_restart_is_not_told_as_an_early_end() -> None:
    tale = begun().ibc("Login has completed")
    for _ in range(3):
        tale.add(
            "IBC returned exit status 0",
            "autorestart file found at /x/y/autorestart: authentication will not be required",
            "AUTORESTART_OPTION is -Drestart=y",
            "IBC will restart shortly",
            "Starting Gateway with this command:",
        ).ibc("Re-starting session", "Login has completed")
    assert tale.told[2:] == ["logged in", *["restarting", "logged in"] * 3]


def test_one_approval_however_often_its_dialog_opens() -> None:
    tale = begun().ibc(*PUSH, "Second Factor Authentication initiated")
    assert tale.login.until == tale.login.asked_since + 180 + 20  # type: ignore[operator]
    since = tale.login.asked_since
    for attempt in range(2, 6):
        tale.ibc(
            f"{DIALOG}Second Factor Authentication; event=Closed",
            "Duration since login: 183 seconds",
            "Re-login after second factor authentication timeout in 5 second",
            f"Login attempt: {attempt}",
            *PUSH,
        )
        assert tale.shape() == ("waiting-2fa", None)
    assert tale.login.asked_since == since
    assert tale.told.count("waiting for 2FA: approve on IBKR Mobile") == 1
    tale.ibc("If login has not completed, IBC will exit in 60 seconds")
    assert tale.shape() == ("logging-in", None)
    tale.ibc("Login has completed")
    assert tale.shape() == ("logged-in", None)


def test_nobody_asks_again_without_relogin() -> None:
    tale = begun().ibc(*PUSH, f"{DIALOG}Second Factor Authentication; event=Closed")
    tale.ibc(
        "Duration since login: 183 seconds",
        "Re-login after second factor authentication timeout not required",
    )
    assert tale.shape() == ("blocked", "second-factor-expired")
    assert tale.login.window == "Second Factor Authentication"


def test_a_late_approval_still_logs_in() -> None:
    tale = begun().ibc(
        *PUSH,
        "Duration since login: 178 seconds",
        "If login has not completed, IBC will exit in 60 seconds",
    )
    assert tale.shape() == ("logging-in", None)
    assert tale.ibc("Login has completed").shape() == ("logged-in", None)


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        (PUSH, "push"),
        (["Login frame has now become SecondFactorAuthenticationDialog"], "push"),
        ([*PUSH, "You should specify the required second factor device using x"], "device"),
        ([*PUSH, "could not find second factor device 'IB Key' in the list"], "device"),
        ([*PUSH, "Selected second factor device: Mobile Authenticator app"], "code"),
        ([*PUSH, "Selected second factor device: IB Key"], "push"),
        (window("Security Code Card Authentication"), "code"),
        (window("Enter Passkey"), "passkey"),
    ],
)
def test_the_kind_of_the_second_factor(lines: list[str], kind: str) -> None:
    tale = begun().ibc(*lines)
    assert (tale.login.state, tale.login.kind) == ("waiting-2fa", kind)
    if kind != "push":
        assert "IBKR Mobile" not in tale.login.told
    if kind == "code":
        tale.ibc("Second Factor Authentication initiated")
        assert tale.login.kind == "code"


def test_a_window_that_nobody_answers() -> None:
    tale = begun().ibc(*window("Important Notice 12345"))
    assert tale.shape() == ("logging-in", None)
    tale.login.look(tale.now + 60)
    assert (tale.login.state, tale.login.window) == ("blocked", "Important Notice")
    tale.ibc(f"{DIALOG}Important Notice 12345; event=Closed")
    assert tale.shape() == ("logging-in", None)


def test_a_known_blocker_is_told_at_once_also_after_the_login() -> None:
    tale = begun().ibc("Login has completed")
    title = "API client needs write access action confirmation"
    tale.ibc(*window(title))
    assert (tale.login.state, tale.login.window) == ("blocked", title)
    tale.ibc(f"{DIALOG}{title}; event=Closed")
    assert tale.shape() == ("logged-in", None)


@pytest.mark.parametrize(
    ("status", "shape"),
    [
        (1, ("starting", "gateway-ended")),
        (83, ("starting", "gateway-ended")),
        (87, ("starting", "second-factor-unfinished")),
        (88, ("starting", "login-dialog-missing")),
        (77, ("held", "bad-credentials")),
        (78, ("held", "configuration")),
    ],
)
def test_exits(status: int, shape: tuple[str, str]) -> None:
    assert begun().add(f"IBC returned exit status {status}").shape() == shape


def test_an_orderly_log_off_is_no_trouble() -> None:
    tale = begun().ibc("Login has completed").add("IBC returned exit status 0", "Gateway finished")
    assert tale.shape() == ("stopped", None)


# --- ibcontroller --------------------------------------------------------------------------------

CONTROLLER = "2026-11-28 15:00:00,123 INFO ibcontroller.login: IBController > "


def driven(*lines: str) -> Tale:
    tale = Tale(CONTROLLER + "startup state: LAUNCHING -> LOGGING_IN")
    return tale.add(*(CONTROLLER + line for line in lines))


@pytest.mark.parametrize(
    ("lines", "shape"),
    [
        ([], ("logging-in", None)),
        (["credentials submitted, awaiting outcome"], ("logging-in", None)),
        (["second factor authentication in progress"], ("waiting-2fa", None)),
        (["login completed"], ("logged-in", None)),
        (["startup state: APPLYING_SETTINGS -> READY"], ("logged-in", None)),
        (
            ["unrecognized username or password -- login rejected"],
            ("held", "bad-credentials"),
        ),
        (["login failed -- transient, relaunching"], ("waiting-broker", "broker-maintenance")),
        (["login error: a | b"], ("waiting-broker", "broker-maintenance")),
        (["login frame never appeared -- relaunching"], ("starting", "login-dialog-missing")),
        (
            ["existing session detected -- secondary, ending this session"],
            ("held", "session-taken"),
        ),
        (
            ["existing session detected -- second attempt, ending this session"],
            ("held", "session-taken"),
        ),
        (
            ["existing session detected -- manual, leaving for the user"],
            ("blocked", "session-choice"),
        ),
        (
            ["existing session detected -- first attempt, continuing this session"],
            ("logging-in", None),
        ),
    ],
)
def test_ibcontroller(lines: list[str], shape: tuple[str, str | None]) -> None:
    tale = driven(*lines)
    assert tale.shape() == shape
    assert tale.login.controller == "ibcontroller"


def test_ibcontroller_waits_by_itself_when_throttled() -> None:
    tale = Tale(CONTROLLER + "startup state: X -> LAUNCHING").add(
        "2026-11-28 15:00:09,123 WARNING ibcontroller.recognisers: too many failed login attempts"
        " -- retrying in 900s"
    )
    assert (tale.login.state, tale.login.why) == ("waiting-broker", "throttled")
    assert tale.login.retry_at == tale.now + 900


def test_ibcontroller_with_a_token() -> None:
    tale = driven("restart hash given -- skipping credential fill")
    tale.add(CONTROLLER + "unrecognized username or password -- login rejected")
    assert tale.login.code == "token-refused"


# --- launcher.log --------------------------------------------------------------------------------


def launched(*messages: str) -> Tale:
    stamp = "2026-11-28 10:00:00.123 INFO  [JTS-Login] - "
    return Tale(*(stamp + text for text in ("----- IB GATEWAY RESTART -----", ATTEMPT, *messages)))


ATTEMPT = "LauncherLoginThread.runLoginWithUI()[user=x loginAttempt=1 z]"
AUTH = "NS_AUTH_START version=1 pwd=1 soft=0 token(s)=[5.2|IB Key|] initialTokenType=PWD x"


@pytest.mark.parametrize(
    ("messages", "shape", "kind"),
    [
        ([], ("logging-in", None), None),
        ([AUTH, "Received CHALLENGE"], ("waiting-2fa", None), "push"),
        (
            [AUTH.replace("[5.2|IB Key|]", "[[IB Key][SMS]]"), "Received CHALLENGE"],
            ("waiting-2fa", None),
            None,
        ),
        (
            [AUTH.replace("IB Key", "SMS"), "Received CHALLENGE"],
            ("waiting-2fa", "second-factor-code"),
            "code",
        ),
        (
            [AUTH, "Received CHALLENGE", "### onAuthenticationCompleted x; authenticated=true"],
            ("logging-in", None),
            None,
        ),
        (
            [AUTH, "Received CHALLENGE", "Authorization failed: SUPPRESS_MESSAGE_BOX."],
            ("waiting-2fa", None),
            "push",
        ),
        (["AUTH_RESULT indicates wrong password"], ("held", "bad-credentials"), None),
        (
            ["Authorization failed: Invalid username or password"],
            ("held", "bad-credentials"),
            None,
        ),
        (["Authorization failed: Server closed"], ("waiting-broker", "broker-maintenance"), None),
        *(
            ([f"Authorization failed: {reason}"], ("waiting-broker", "broker-maintenance"), None)
            for reason in ("Internal error", "Suspended", "SUSPENDED", "Invalid session", "Insane")
        ),
        (["Authentication timeout"], ("waiting-broker", "broker-no-answer"), None),
        ([AUTH, "Authentication timeout"], ("logging-in", None), None),
        (
            ["Too many failed login attempts. Please wait 5 minutes & 2 seconds before"],
            ("held", "account-locked"),
            None,
        ),
        ([AUTH, "Switching to a new encrypted log"], ("logged-in", None), None),
        (
            ["Running in auto-restart mode", AUTH.replace("=PWD", "=SOFT")],
            ("logging-in", "token-refused"),
            None,
        ),
    ],
)
def test_launcher_log(messages: list[str], shape: tuple[str, str | None], kind: str | None) -> None:
    tale = launched(*messages)
    assert tale.shape() == shape
    assert tale.login.kind == kind
    assert source("2026-11-28 10:00:00.123 INFO  [JTS-Login] - x") == "launcher.log"


# --- ibg-controller ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("LAUNCHING", "starting"),
        ("LOGIN", "logging-in"),
        ("TWO_FA", "waiting-2fa"),
        ("API_WAIT", "logging-in"),
        ("MONITORING", "logged-in"),
    ],
)
def test_ibg_controllers_own_states(word: str, state: str) -> None:
    login = replay(f"1763740800 by ibg-controller\n1763740801 controller {word}\n")
    assert (login.state, login.controller) == (state, "ibg-controller")
    assert "IBKR Mobile" not in login.told


@pytest.mark.parametrize(
    ("token", "shape"),
    [
        ("ALERT_CCP_PERSISTENT", ("waiting-broker", "broker-throttled")),
        ("ALERT_CCP_PERSISTENT_HALT", ("held", "account-locked")),
        ("ALERT_2FA_FAILED", ("logging-in", "second-factor-unfinished")),
        ("ALERT_JVM_RESTART_EXHAUSTED", ("held", "login-exhausted")),
        ("ALERT_PASSWORD_EXPIRED", ("held", "password-expired")),
        ("ALERT_IBKR_MAINTENANCE_RECOVERY", ("waiting-broker", "broker-maintenance")),
    ],
)
def test_ibg_controllers_alerts(token: str, shape: tuple[str, str]) -> None:
    login = Login()
    login.feed(f"2026-11-28 10:00:00 ERROR {token}", NOON)
    assert (login.state, login.code) == shape
    assert login.controller == "ibg-controller"


# --- what is written down ------------------------------------------------------------------------


def test_a_replay_of_what_a_container_wrote_down() -> None:
    login = replay(
        "1763740800 by ibc\n1763740800 begin\n1763740801 launch password\n1763740802 start\n"
        "1763740805 attempt 1\n1763740810 failed\nnonsense\n1763740811 exit 0\n"
        "1763740811 pause 50\n",
        "live",
    )
    shown = login.shown()
    assert shown == {
        "state": "waiting-broker",
        "since": "2025-11-21T16:00:10Z",
        "kind": None,
        "why": "maintenance",
        "until": None,
        "retryAt": "2025-11-21T16:01:01Z",
        "window": None,
        "code": "broker-maintenance",
        "controller": "ibc",
        "session": "live",
    }
    assert login.launches == 1


@pytest.mark.parametrize(
    "line",
    [
        "² launch",
        "99999999999999999999999 launch",
        "1763740800 exit abc",
        "1763740800 exit ²",
        "1763740800 pause 61763740810 held x",
        "1763740800 pause 99999999999999999",
        "1763740800 ends-soon x",
        "1763740800 throttled 999999999999999999",
        "1763740800 lau1763740801 launch password",
    ],
)
def test_a_torn_line_is_survived(line: str) -> None:
    """A full disk, or a power cut, while the container writes down: /health still answers."""
    login = replay(f"1763740799 launch password\n{line}\n1763740812 attempt 1\n")
    login.shown()
    assert login.attempts == 1
    Launches.read(line, 1763740812).next(1763740812)


@pytest.mark.parametrize(
    "line",
    [
        f"{IBC}If login has not completed, IBC will exit in 99999999999999999999 seconds",
        f"gangway: the next login attempt is in {'9' * 30} s (row):",
        f"IBC returned exit status {'9' * 30}",
        f"{IBC}Login attempt: {'9' * 5000}",
    ],
)
def test_a_number_out_of_all_bounds_is_survived(line: str) -> None:
    login = Login()
    login.feed(line, NOON)
    login.shown()
    assert all(len(argument) < 10 for _, argument in events(line))


def test_nothing_is_known_of_nothing() -> None:
    assert replay("").state == "unknown"


def test_no_address_id_or_hash_leaves_a_line() -> None:
    secret = "U1234567 203.0.113.9 f3a9c0ffee"
    found = events(f"{IBC}{DIALOG}Notice {secret} (x@y.z); event=Opened")
    assert found == [("opened", "Notice")]


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("4915112345", ""),
        ("Login to gdc1.example.com failed", "Login to failed"),
        ("No route to host.example.com", "No route to"),
        ("2001:db8::dead:beef", ""),
        ("fe80::abcd is away", "is away"),
        ("Order f3a9c0ffee. Confirm", "Order Confirm"),
        ("Token deadbeefdeadbeefdeadbeef", "Token"),
        ("me@example and /home/someone", "and"),
        ("Please re-enter. Ok", "Please re-enter. Ok"),
    ],
)
def test_of_a_title_only_words_are_kept(title: str, kept: str) -> None:
    assert events(f"{IBC}{DIALOG}{title}; event=Opened")[-1] == ("opened", kept)


CHALLENGED = [
    "by ibc",
    "boot",
    "totp",
    "launch password",
    "attempt 1",
    "by-code",
    "code",
]


def written(*events: str) -> Login:
    return replay("\n".join(f"{1_700_000_000 + at} {event}" for at, event in enumerate(events)))


def test_a_code_that_gangway_types_needs_no_person() -> None:
    login = written(*CHALLENGED, "typed")
    assert (login.state, login.kind, login.code) == ("waiting-2fa", "code", None)
    assert login.automatic
    assert login.told == "waiting for 2FA: gangway types the code by itself"
    assert written(*CHALLENGED, "typed", "login").state == "logged-in"


def test_codes_that_are_not_taken_ask_a_person() -> None:
    login = written(*CHALLENGED, "typed", "code", "typed", "code", "typed", "untyped")
    assert (login.state, login.kind, login.code) == ("waiting-2fa", "code", "second-factor-code")
    assert not login.automatic
    assert "./deploy.py login" in login.told
    again = written(*CHALLENGED, "untyped", "boot", "totp", "launch password", "code")
    assert again.automatic


def test_a_push_is_never_typed() -> None:
    login = written("boot", "totp", "launch password", "by-push", "challenge")
    assert (login.kind, login.automatic) == ("push", False)


def test_a_window_that_stays_open_after_the_login_is_named() -> None:
    tale = begun().ibc("Login has completed")
    tale.ibc(*window("A notice of a new kind"), seconds=5)
    assert tale.login.state == "logged-in"
    tale.login.look(tale.now + 61)
    assert (tale.login.state, tale.login.window) == ("blocked", "A notice of a new kind")
    tale.ibc(f"{DIALOG}A notice of a new kind; event=Closed")
    assert tale.shape() == ("logged-in", None)


def test_a_window_that_closes_in_time_is_no_trouble() -> None:
    tale = begun().ibc("Login has completed")
    tale.ibc(*window("IB Gateway Configuration"), seconds=20)
    tale.ibc(f"{DIALOG}IB Gateway Configuration; event=Closed")
    tale.login.look(tale.now + 600)
    assert tale.shape() == ("logged-in", None)


def test_a_controller_that_never_tells_of_a_close_blocks_nothing_after_the_login() -> None:
    tale = driven("startup state: APPLYING_SETTINGS -> READY")
    tale.add("2026-01-01 IBController > unhandled unprompted window: javax.swing.JDialog 'Notice'")
    tale.login.look(tale.now + 600)
    assert tale.login.state == "logged-in"


def test_the_last_lines_of_a_log_do_not_raise_what_is_parked() -> None:
    """They are recorded by another process than the one that parks."""
    told = "1763740799 launch password\n1763740812 login\n1763740900 parked\n"
    assert replay(told + "1763740900 login\n").state == "stopped"
    again = told + "1763741200 launch token\n1763741230 login\n"
    assert replay(again).state == "logged-in"


@pytest.mark.parametrize("late", ["failed", "no-answer", "exit 0", "exit 1", "restarting", ""])
def test_what_the_log_says_late_does_not_take_the_next_attempt_back(late: str) -> None:
    """On a busy machine: another process reads the log than the one that spaces attempts out."""
    before = "1763740800 launch password\n1763740805 attempt\n"
    login = replay(f"{before}1763740811 pause 49\n1763740812 {late}\n")
    assert login.retry_at == 1763740860
    assert login.told.endswith("the next attempt is at 16:01 UTC")
    login.note("launch", 1763740860, "password")
    assert login.shown()["retryAt"] is None
    login.note("failed", 1763740870)
    assert login.shown()["retryAt"] is None, "of the attempt after it"


def test_all_that_the_log_says_of_an_attempt_may_come_after_the_next_pause() -> None:
    """The reader of the log is a whole attempt behind: it is one attempt, and the pause stays."""
    said = ["start", "attempt", "failed", "exit 0"]
    lines = "".join(f"176374081{second} {each}\n" for second, each in enumerate(said, 1))
    login = replay(f"1763740800 launch password\n1763740811 pause 49\n{lines}")
    assert (login.state, login.retry_at, login.launches) == ("waiting-broker", 1763740860, 1)
    login.note("start", 1763740860)
    assert (login.state, login.retry_at, login.launches) == ("starting", None, 2)


def test_a_broker_that_names_a_later_moment_is_believed() -> None:
    login = replay("1763740800 attempt\n1763740811 pause 49\n1763740812 throttled 900\n")
    assert login.retry_at == 1763741712


def test_a_login_that_waits_its_turn_says_until_when() -> None:
    """Not "starting" for twenty minutes, and no restart is advised."""
    login = replay("1763740799 begin\n1763740800 boot\n1763740801 pause 1196\n")
    assert login.state == "starting"
    assert login.told.startswith("waiting: ")
    assert login.told.endswith("the next attempt is at 16:19 UTC")
    said = of_login(login, 1763740801 + 1100)
    assert said.startswith("Nothing: the gateway is waiting: ")
    assert said.endswith("a restart would not make it sooner")
    login.note("launch", 1763741997, "password")
    assert login.told == "starting"


def test_after_a_login_gangway_types_again() -> None:
    """Three codes were not taken on Sunday, a person typed one, and the next Sunday comes."""
    failed = [*CHALLENGED, "typed", "code", "typed", "code", "typed", "untyped"]
    for ended in ("login", "begin"):
        login = written(*failed, ended, "launch password", "attempt 1", "by-code", "code")
        assert login.automatic, ended
    without = [event for event in failed if event != "totp"]
    assert not written(*without, "login", "launch password", "attempt 1", "code").automatic


def test_a_code_that_is_not_typed_for_minutes_needs_a_person() -> None:
    """What types it has died, or cannot write down what it does."""
    login = written(*CHALLENGED)
    asked = login.asked_since
    assert asked
    login.look(asked + TYPES_WITHIN - 1)
    assert login.automatic
    told = login.look(asked + TYPES_WITHIN)
    assert told == "waiting for 2FA: a code has to be typed (./deploy.py login)"
    assert (login.state, login.code, login.automatic) == (
        "waiting-2fa",
        "second-factor-code",
        False,
    )
    login.note("login", asked + 2 * TYPES_WITHIN)
    assert login.types

"""The kit's own hooks around the real IBC: what the container does, and what it writes down."""

import datetime as dt
import itertools
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from bridge.alerts.messages import AlertKind
from bridge.alerts.watch import _condition
from bridge.login.model import Login, replay
from bridge.tws import advice
from infrastructure.config import Target, load
from infrastructure.plan.forecast import of_login
from tests.deploy.conftest import rendered
from tests.login.parts.controllers import PROJECT
from tests.login.parts.session import Session, broker_clock

Make = Callable[..., Session]
pytestmark = [pytest.mark.controllers, pytest.mark.timeout(180)]
LIVE = {"TRADING_MODE": "live"}
PORTS = itertools.count(1000 + os.getpid() % 800)


@pytest.fixture
def hooked(make_session: Make, tmp_path: Path) -> Make:
    """Sessions whose home has been prepared by a rendered release's start hooks."""
    config = tmp_path / "stack.yaml"
    config.write_text("targets: {prod: {host: ubuntu@203.0.113.7, gateway: {username: alice}}}\n")
    for file in rendered(load(config)).files:
        if file.path.startswith("gateway/"):
            path = tmp_path / "kit" / file.path.removeprefix("gateway/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.content)

    def make(
        *script: str,
        variables: dict[str, str] | None = None,
        settings: dict[str, str] | None = None,
    ) -> Session:
        # IBC's command server listens at 1SOCAT_PORT: below what other tests take, one for each.
        own = {"SOCAT_PORT": str(next(PORTS))} | (variables or {})
        session = make_session(*script, variables=own, settings=settings)
        session.hooks(tmp_path / "kit")
        return session

    return make


def seen(session: Session) -> Login:
    """The login as the bridge and the host read it from the container's file."""
    file = session.home / "state" / f"login-{session.variables['TRADING_MODE']}"
    return replay(file.read_text() if file.exists() else "")


def reaches(session: Session, state: str, seconds: float = 40) -> Login:
    session.until(lambda: seen(session).state == state, f"never {state}", seconds)
    return seen(session)


def java_runs(session: Session) -> bool:
    numbers = [line.split()[2] for line in session.record("launch")]
    return any(
        path.read_text().strip() == "java"
        for number in numbers
        if (path := Path(f"/proc/{number}/comm")).exists()
    )


def test_hooks_leave_the_end_as_it_is(hooked: Make) -> None:
    """A script that ends through another descriptor ends at once, with its own code."""
    session = hooked("ok", variables={"TWOFA_TIMEOUT_ACTION": "bogus"})
    session.start_ibc()
    assert session.ended() == 3
    assert "must be either 'restart' or 'exit'" in session.log


@pytest.mark.parametrize("code", [0, 1, 134])
def test_the_end_of_java_is_the_end_of_the_container(hooked: Make, code: int) -> None:
    session = hooked(f"crash-{code}")
    session.start_ibc()
    assert session.ended() == code
    assert seen(session).state in {"starting", "stopped"}


def test_an_approval_is_followed(hooked: Make) -> None:
    session = hooked("twofa", variables=LIVE)
    session.start_ibc()
    asked = reaches(session, "waiting-2fa")
    session.until(lambda: seen(session).kind == "push", "no kind")
    assert asked.until is not None
    session.approve()
    reaches(session, "logged-in")
    session.do("logoff")
    assert session.ended() == 0


def test_a_code_is_no_push(hooked: Make) -> None:
    """IBC says the same of both; IBKR's own file tells them apart."""
    session = hooked("code-123456", variables=LIVE)
    session.start_ibc()
    reaches(session, "waiting-2fa")
    session.until(lambda: seen(session).kind == "code", "still taken for a push")
    assert "IBKR Mobile" not in seen(session).told


def test_the_device_to_choose_tells_a_code_from_a_push(hooked: Make) -> None:
    """IBC 3.24 does not say which device it has chosen, as 3.25 does: without that line, too."""
    session = hooked("device-123456", variables=LIVE | {"TWOFA_DEVICE": "Mobile Authenticator app"})
    session.start_ibc()
    session.wait_for("Second Factor Authentication initiated")
    session.until(lambda: seen(session).kind == "code", "still taken for a push")
    lines = [line for line in session.log.splitlines() if "Selected second factor" not in line]
    assert lines != session.log.splitlines(), "the package's IBC is no longer 3.25"
    facts = session.home / "state" / "login-live"
    facts.unlink()
    record = ["bash", str(session.kit / "login.sh"), "record"]
    subprocess.run(record, input="\n".join(lines), env=session.environment(), text=True, check=True)
    assert (seen(session).state, seen(session).kind) == ("waiting-2fa", "code")


def test_a_refused_password_is_tried_once_and_held(hooked: Make) -> None:
    session = hooked("refused")
    session.start_ibc()
    login = reaches(session, "held")
    assert login.code == "bad-credentials"
    session.until(lambda: not java_runs(session), "Java still runs")
    session.wait_for("the container stays up without a gateway")
    assert session.record("typed") == ["typed password"]
    assert session.process
    began = time.monotonic()
    session.process.terminate()
    assert session.ended() == 143
    assert time.monotonic() - began < 10, "a stop that meets a held login is quick"


def test_a_transient_refusal_is_spaced_out_and_never_held(hooked: Make) -> None:
    session = hooked("failed")
    session.start_ibc()
    session.wait_for("gangway: the next login attempt is in")
    time.sleep(3)
    login = seen(session)
    assert (login.state, login.held) == ("waiting-broker", False)
    assert session.record("typed") == ["typed password"]


def test_in_the_brokers_maintenance_the_next_attempt_waits_longer(hooked: Make) -> None:
    session = hooked("failed", variables={"GANGWAY_NEW_YORK": broker_clock(1)})
    session.start_ibc()
    session.wait_for("(maintenance): attempts are spaced out")
    assert seen(session).retry_at is not None
    assert session.record("typed") == ["typed password"]


def test_after_a_java_that_could_not_start_the_next_login_does_not_wait(hooked: Make) -> None:
    """As in a deploy with wrong flags, in the maintenance: it has asked the broker for nothing."""
    session = hooked("ok", variables={"GANGWAY_NEW_YORK": broker_clock(1)})
    options = session.program / "ibgateway.vmoptions"
    right = options.read_text()
    options.write_text(right + "-XX:+NoSuchOption\n")
    session.start_ibc()
    assert session.ended() == 1
    options.write_text(right)
    session.start_ibc()
    reaches(session, "logged-in")
    assert " pause " not in (session.home / "state" / "login-paper").read_text()


NAMED = {
    "passkey": "passkey-required",
    "multiple": "several-paper-users",
    "locked-287": "account-locked",
}


@pytest.mark.parametrize("step", NAMED)
def test_a_cause_that_names_itself_is_held(hooked: Make, step: str) -> None:
    session = hooked(step)
    session.start_ibc()
    login = reaches(session, "held")
    assert login.code == NAMED[step]
    session.until(lambda: not java_runs(session), "Java still runs")
    assert session.record("typed") == ["typed password"]


@pytest.mark.parametrize(("action", "step"), [("secondary", "taken"), ("primary", "takentwice")])
def test_a_session_left_to_another_is_held(hooked: Make, action: str, step: str) -> None:
    session = hooked(step, variables={"EXISTING_SESSION_DETECTED_ACTION": action})
    session.start_ibc()
    assert reaches(session, "held").code == "session-taken"
    session.wait_for("the container stays up without a gateway")
    assert session.record("typed") == ["typed password"]


def test_a_soft_restart_is_no_failure(hooked: Make) -> None:
    session = hooked("ok", variables=LIVE)
    session.start_ibc()
    reaches(session, "logged-in")
    session.do("restart")
    session.wait_for("IBC: Login has completed", 2, 90)
    assert reaches(session, "logged-in").code is None
    assert session.record("typed") == ["typed password"]
    assert "gangway: the next login attempt" not in session.log


def test_a_refused_token_means_one_cold_start(hooked: Make) -> None:
    """Where the password is refused then, it is held: one try of it, not two."""
    session = hooked("ok", "tokenrefused", "refused", variables=LIVE)
    session.start_ibc()
    reaches(session, "logged-in")
    facts = session.home / "state" / "login-live"
    long_ago = [line.split(" ", 1) for line in facts.read_text().splitlines()]
    facts.write_text("".join(f"{int(at) - 86400} {rest}\n" for at, rest in long_ago))
    session.do("restart")
    session.until(lambda: "token refused" in session.record(), "the token was not tried")
    session.until(lambda: len(session.record("launch")) == 3, "no cold start", 100)
    assert reaches(session, "held").code == "bad-credentials"
    assert session.record("typed") == ["typed password"] * 2


def test_a_clock_that_is_set_back_ends_a_wait_for_the_next_attempt(tmp_path: Path) -> None:
    """The next attempt is reckoned anew: not at the time that the wrong clock said."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))
    offset, state = tmp_path / "offset", tmp_path / "state"
    state.mkdir()
    offset.write_text("+0")
    (state / "login-paper").write_text(f"{int(time.time())} launch password\n")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
    }
    script = PROJECT / "templates" / "gateway" / "login.sh"
    gate = subprocess.Popen(["bash", str(script), "gate"], env=environment)
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            gate.wait(3)
        offset.write_text("-2d")
        assert gate.wait(40) == 0
    finally:
        gate.kill()


SEED = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


def with_seed(session: Session, seed: str = SEED) -> Session:
    file = session.home / "totp-seed"
    file.write_text(seed)
    session.variables |= {
        "TWOFA_DEVICE": "Mobile Authenticator app",
        "GANGWAY_TOTP_FILE": str(file),
    }
    return session


def nowhere(session: Session, secret: str) -> bool:
    """Whether no process of the gateway shows it in its arguments or its environment."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            shown = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except OSError:
            continue
        if str(session.home).encode() in shown and secret.encode() in shown:
            return False
    return True


def test_a_code_of_the_seed_is_typed_without_a_person(hooked: Make) -> None:
    session = with_seed(hooked(f"totp-{SEED}", variables=LIVE))
    session.start_ibc()
    hidden = []

    def logged_in() -> bool:
        hidden.append(nowhere(session, SEED))
        return seen(session).state == "logged-in"

    session.until(logged_in, "no login", 90)
    assert session.record("code") == ["code right"]
    assert all(hidden)
    facts = (session.home / "state" / "login-live").read_text()
    assert SEED not in facts + session.log
    assert facts.count(" typed\n") == 1


def test_a_wrong_seed_stops_after_three_codes_in_three_half_minutes(hooked: Make) -> None:
    session = with_seed(hooked(f"totp-{SEED}", variables=LIVE), SEED[::-1].replace("0", "A"))
    # Begun now, the first code is typed as a half minute begins, and the third one's turn comes
    # when IBC ends the gateway, a minute after the first: it would be lost with it, and counted.
    session.until(lambda: 15 <= time.time() % 30 < 17, "the clock stands still")
    session.start_ibc()
    session.until(lambda: len(session.record("code")) == 3, "no three codes", 190)
    session.until(lambda: seen(session).code == "second-factor-code", "nobody is asked", 60)
    time.sleep(35)
    assert session.record("code") == ["code wrong"] * 3
    lines = (session.home / "state" / "login-live").read_text().splitlines()
    windows = [int(line.split()[0]) // 30 for line in lines if line.endswith(" typed")]
    assert len(windows) == len(set(windows)) == 3


def left_in_memory() -> set[str]:
    """Segments of shared memory that no process has open: they stay until their container ends."""
    rows = [line.split() for line in Path("/proc/sysvipc/shm").read_text().splitlines()[1:]]
    return {number for _, number, _, _, _, _, attached, *_ in rows if attached == "0"}


@pytest.mark.parametrize("there", ["halfcode", "unfocused"])
def test_a_code_gets_into_the_field_whatever_is_there(hooked: Make, there: str) -> None:
    """Half of a code that never got its Enter, or a person's; another window that has the keys."""
    session = hooked(f"{there}-123456", variables=LIVE)
    session.variables["TWOFA_DEVICE"] = "Mobile Authenticator app"
    session.start_ibc()
    session.until(lambda: seen(session).kind == "code", "no code is asked for")
    time.sleep(1)  # the window comes to the front
    script = str(session.kit / "second-factor.sh")
    before = left_in_memory()
    done = subprocess.run(
        ["bash", script, "type"],
        env=session.environment(),
        input="123456\n",
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert left_in_memory() <= before
    reaches(session, "logged-in")
    assert session.record("code") == ["code right"]


def test_a_push_is_not_answered_with_a_code(hooked: Make) -> None:
    session = with_seed(hooked("twofa-20", variables=LIVE))
    session.variables["TWOFA_DEVICE"] = "IB Key"
    session.start_ibc()
    reaches(session, "waiting-2fa")
    reaches(session, "logged-in", 60)
    assert " typed" not in (session.home / "state" / "login-live").read_text()


EXCHANGES = int(os.environ.get("GANGWAY_EXCHANGES", "2"))
WORK = 150.0


def park(session: Session, word: str) -> subprocess.CompletedProcess[str]:
    """As a deploy does before it stops the container."""
    port = f"1{session.variables['SOCAT_PORT']}"
    command = ["bash", str(session.kit / "login.sh"), "park", port, word, "100"]
    return subprocess.run(
        command, env=session.environment(), capture_output=True, text=True, check=False
    )


def exchange(session: Session, spoil: Callable[[Session], None] = lambda _: None) -> None:
    """The container ends with its session kept, and a new one starts on the same folders."""
    done = park(session, "PAUSE")
    assert done.returncode == 0, done.stdout + session.log[-3000:]
    assert session.process is not None
    began = time.monotonic()
    session.process.terminate()
    session.process.wait(60)
    assert time.monotonic() - began < 15, "what rests is stopped at once"
    spoil(session)
    (session.home / "state" / "afresh").write_text("\n")  # a person has asked for this start
    session.hooks(session.kit)
    session.start_ibc()
    session.until(lambda: seen(session).state == "logged-in", "not logged in again", WORK)


def token(session: Session) -> Path:
    [found] = session.tws.glob("*/autorestart")
    return found


def exchanged(hooked: Make, *script: str, port: int) -> Session:
    session = hooked(*script, variables=LIVE | {"SOCAT_PORT": str(port)})
    session.start_ibc()
    reaches(session, "logged-in", WORK)
    assert seen(session).parks
    return session


def test_an_exchange_keeps_the_session(hooked: Make) -> None:
    session = exchanged(hooked, "ok", port=4710)
    for _ in range(EXCHANGES):
        session.wait_for("Configuration tasks completed")
        exchange(session)
    assert session.record("typed") == ["typed password"], "that of the first login"
    assert session.record("token") == ["token accepted"] * EXCHANGES


def expired(session: Session) -> None:
    token(session).write_text(f"issued={int(time.time()) - 8 * 86_400}\n")


def misplaced(session: Session) -> None:
    token(session).rename(session.tws / "autorestart")


def stale(session: Session) -> None:
    old = time.time() - 1200
    os.utime(token(session), (old, old))


def garbled(session: Session) -> None:
    token(session).write_text("nothing that IBKR has written\n")


@pytest.mark.parametrize(
    ("script", "spoil"),
    [
        (("ok", "tokenrefused", "ok"), lambda _: None),
        (("ok",), expired),
        (("ok",), misplaced),
        (("ok",), stale),
        (("ok",), garbled),
    ],
    ids=["refused", "expired", "misplaced", "stale", "garbled"],
)
def test_a_session_that_is_not_taken_costs_one_full_login(
    hooked: Make, script: tuple[str, ...], spoil: Callable[[Session], None]
) -> None:
    session = exchanged(hooked, *script, port=4711)
    exchange(session, spoil)
    assert session.record("typed") == ["typed password"] * 2
    time.sleep(3)
    assert seen(session).state == "logged-in"


def test_a_log_off_leaves_no_session_behind(hooked: Make) -> None:
    session = exchanged(hooked, "ok", port=4712)
    assert park(session, "STOP").returncode == 0
    assert not list(session.tws.glob("**/autorestart"))
    assert seen(session).state == "stopped"
    assert session.process is not None
    assert session.process.poll() is None, "the engine would start it again"


def test_what_cannot_be_parked_is_told_and_goes_on(hooked: Make) -> None:
    session = hooked("ok", variables=LIVE | {"SOCAT_PORT": "4713"})
    session.start_ibc()
    reaches(session, "logged-in", WORK)
    session.variables["SOCAT_PORT"] = "4799"
    assert park(session, "PAUSE").returncode == 1
    assert not (session.home / "state" / "parked-live").exists()
    assert seen(session).state == "logged-in"


def test_any_window_that_stays_open_is_named_after_a_minute(hooked: Make) -> None:
    session = hooked("ok", variables=LIVE | {"SOCAT_PORT": "4714"})
    session.start_ibc()
    reaches(session, "logged-in", WORK)
    session.wait_for("Trader Workstation Configuration; event=Closed")
    session.do("window A notice of a new kind")
    session.wait_for("entitled: A notice of a new kind; event=Opened")
    session.until(lambda: later(session).state == "blocked", "not named")
    assert later(session).window == "A notice of a new kind"
    assert later(session).code == "window"


def later(session: Session) -> Login:
    """The login as it will be in a minute."""
    found = seen(session)
    found.look(time.time() + 61)
    return found


@pytest.mark.timeout(660)
@pytest.mark.slow
def test_a_sunday_passes_without_a_person(hooked: Make) -> None:
    """The week's full restart, wound: the broker asks for a code again, and gets it."""
    session = with_seed(hooked(f"totp-{SEED}", variables=LIVE | {"TWS_COLD_RESTART": "00:00"}))
    midnight = dt.datetime(2026, 12, 6, tzinfo=ZoneInfo("America/New_York")).timestamp()
    session.clock = f"{int(midnight - 200 - time.time()):+d}"  # the first login lasts two minutes
    session.start_ibc()
    session.until(lambda: len(session.record("login")) == 2, "no login on Sunday", 600)
    assert session.record("code") == ["code right"] * 2
    assert session.record("typed") == ["typed password"] * 2
    assert "IBC will cold-restart shortly" in session.log


FACTORS = {
    # script: state, kind, trouble, alert, what a person is told (the page, alerts, status)
    "twofa": (
        "waiting-2fa",
        "push",
        None,
        AlertKind.WAITING_2FA,
        "Approve the login on IBKR Mobile",
    ),
    "code-123456": (
        *("waiting-2fa", "code", "second-factor-code", AlertKind.WAITING_2FA),
        "type the code with ./deploy.py login",
    ),
    f"totp-{SEED}": ("waiting-2fa", "code", None, None, "types the code of the second factor"),
    "passkey": (
        *("held", None, "passkey-required", AlertKind.LOGIN_BLOCKED),
        "IBKR demands a passkey",
    ),
}


@pytest.mark.parametrize("script", FACTORS)
def test_every_second_factor_is_told_alike_everywhere(
    hooked: Make, script: str, tmp_path: Path
) -> None:
    """Plan, state, page and alert, by what the real IBC and IBKR's file say."""
    state, kind, code, alert, told = FACTORS[script]
    totp = script.startswith("totp")
    session = hooked(script, variables=LIVE)
    if totp:
        with_seed(session)
    session.start_ibc()
    reaches(session, state, WORK)
    if kind:
        session.until(lambda: seen(session).kind == kind, f"no {kind}")
    login = seen(session)
    assert login.code == code
    assert _condition(login) is alert
    assert told in advice.of_login(login)
    plan = of_login(target(tmp_path / "plan", totp=totp))
    assert plan.expected != totp
    assert ("gangway types the code" in plan.reason) == totp


def target(folder: Path, *, totp: bool) -> Target:
    folder.mkdir()
    more = ", two_factor: {totp: {i_accept_one_factor: true}}" if totp else ""
    file = folder / "stack.yaml"
    file.write_text(
        "targets: {prod: {host: ubuntu@203.0.113.7,"
        f" gateway: {{username: alice, mode: live{more}}}}}}}\n"
    )
    return load(file)

"""What the real controllers print, kept as files for tests that need no Java.

    python -m tests.login.captures [NAME...]

runs each scenario under the real IBC and the real ibcontroller and writes, in tests/login/logs,
NAME.ibc.log and NAME.ibcontroller.log, and IBKR's own log of both runs, NAME.launcher.log and
NAME.ibcontroller.launcher.log.
Folders of this machine are replaced, and what the controllers say of the machine is left out:
settings, system properties, environment, commands.
"""

import re
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from time import sleep

from tests.login.parts.controllers import Display, compile_standin, java_home
from tests.login.parts.session import Session

LOGS = Path(__file__).parent / "logs"
LOGGED_IN = ("IBC: Login has completed\n", "startup state: APPLYING_SETTINGS -> READY")
ENDED = ("Gateway finished", "")


@dataclass(frozen=True)
class Capture:
    """One scenario. `until` and `times`: what ends it, in IBC's words and in ibcontroller's; an
    empty word waits for the controller's own end. `then`: commands once it has logged in.
    """

    script: tuple[str, ...]
    until: tuple[str, str] = LOGGED_IN
    times: tuple[int, int] = (1, 1)
    variables: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)  # IBC's own, of config.ini
    own: dict[str, str] = field(default_factory=dict)  # ibcontroller's own
    then: tuple[str, ...] = ()
    after: float = 0.5
    clock: str = ""  # what the clock says at the start, in New York
    without: tuple[str, ...] = ()  # controllers that cannot play it


OPENED = "entitled: {}; event=Opened"
SECOND_FACTOR = OPENED.format("Second Factor Authentication")
MFA = "second factor authentication in progress"
LIVE = {"TRADING_MODE": "live"}
SATURDAY_NIGHT = "2026-11-28 23:59:05"

CAPTURES: dict[str, Capture] = {
    "ok": Capture(("ok",)),
    "live": Capture(("ok",), variables=LIVE),
    "push-approved": Capture(("twofa-2",), variables=LIVE),
    "push-waiting": Capture(("twofa",), (SECOND_FACTOR, MFA), variables=LIVE, after=1.5),
    "push-unanswered": Capture(
        ("unanswered", "unanswered", "twofa-1"),
        variables=LIVE,
    ),
    "push-unanswered-once": Capture(
        ("unanswered",),
        ("timeout not required", ""),
        variables=LIVE | {"RELOGIN_AFTER_TWOFA_TIMEOUT": "no", "TWOFA_TIMEOUT_ACTION": "exit"},
        after=2,
    ),
    "push-closed-early": Capture(
        ("unanswered-2", "ok"),
        variables=LIVE | {"TWOFA_EXIT_INTERVAL": "3"},
        own={"IBC_MFA_TIMEOUT": "30"},
    ),
    "push-closed-early-exit": Capture(
        ("unanswered-2",),
        ENDED,
        variables=LIVE | {"TWOFA_EXIT_INTERVAL": "3", "TWOFA_TIMEOUT_ACTION": "exit"},
        own={"IBC_MFA_TIMEOUT": "30"},
    ),
    "push-in-frame": Capture(("frame-2",), variables=LIVE, without=("ibcontroller",)),
    "device-chosen": Capture(("device-2",), variables=LIVE, without=("ibcontroller",)),
    "device-unknown": Capture(
        ("device",),
        ("could not find second factor device", MFA),
        variables=LIVE | {"TWOFA_DEVICE": "Token of old"},
        after=1.5,
    ),
    "device-unset": Capture(
        ("device",),
        ("You should specify the required second factor device", MFA),
        variables=LIVE | {"TWOFA_DEVICE": ""},
        after=1.5,
    ),
    "code-waiting": Capture(("code-123456",), (SECOND_FACTOR, MFA), variables=LIVE, after=1.5),
    "card-waiting": Capture(
        ("card-123456",),
        (OPENED.format("Security Code Card Authentication"), "'Security Code Card Authentication'"),
        variables=LIVE,
        after=1.5,
    ),
    "wrong-password": Capture(
        ("refused",), (OPENED.format("Unrecognized Username or Password"), ""), after=1.5
    ),
    "failed-once": Capture(("failed", "ok")),
    "failed-loop": Capture(
        ("failed",), ("IBC returned exit status 0", "relaunching with a full"), (3, 3), after=0
    ),
    "error-once": Capture(("error", "ok")),
    "unreachable-once": Capture(("unreachable", "ok")),
    "passkey": Capture(
        ("passkey",), ("IBC returned exit status 0", "relaunching with a full"), (2, 2), after=0
    ),
    "multiple-users": Capture(("multiple",), ("IBC returned exit status 0", ""), after=0),
    "no-answer": Capture(("silent-2", "ok")),
    "too-many": Capture(("locked-2", "ok")),
    "too-many-held": Capture(
        ("locked-287",),
        ("Too many failed login attempts", ""),
        variables={"RELOGIN_AFTER_TWOFA_TIMEOUT": "no"},
        after=1.5,
    ),
    "session-manual": Capture(
        ("taken",),
        ("(scenario 1)", "manual, leaving"),
        variables={"EXISTING_SESSION_DETECTED_ACTION": "manual"},
        after=1.5,
    ),
    "session-secondary": Capture(
        ("taken",), ENDED, variables={"EXISTING_SESSION_DETECTED_ACTION": "secondary"}
    ),
    "session-taken": Capture(("taken",)),
    "session-yielded": Capture(("takentwice",), ENDED),
    "session-lost": Capture(
        ("ok",), ("(scenario 3)", "'Re-login is required'"), then=("taken",), after=1.5
    ),
    "session-lost-twice": Capture(
        ("ok",), ENDED, then=("taken", "taken"), without=("ibcontroller",)
    ),
    "session-kept": Capture(
        ("ok",), ("(scenario 5)", "primary, continuing this"), then=("existing",), after=1.5
    ),
    "session-given-up": Capture(
        ("ok",),
        ENDED,
        variables={"EXISTING_SESSION_DETECTED_ACTION": "primaryoverride"},
        then=("existing",),
    ),
    "token-accepted": Capture(("ok",), times=(2, 2), variables=LIVE, then=("restart",)),
    "token-refused": Capture(
        ("ok", "tokenrefused", "ok"),
        (OPENED.format("Unrecognized Username or Password"), ""),
        variables=LIVE,
        then=("restart",),
        after=1.5,
    ),
    "token-failed": Capture(
        ("ok", "tokenfailed", "ok"), times=(2, 2), variables=LIVE, then=("restart",)
    ),
    "token-unreachable": Capture(
        ("ok", "tokenunreachable", "ok"), times=(2, 2), variables=LIVE, then=("restart",)
    ),
    "logoff": Capture(("ok",), ENDED, then=("logoff",)),
    "cold-restart": Capture(
        ("ok",),
        times=(2, 2),
        variables=LIVE | {"TWS_COLD_RESTART": "00:00"},
        clock=SATURDAY_NIGHT,
    ),
    "no-dialog": Capture(
        ("nodialog", "nodialog", "ok"),
        settings={"LoginDialogDisplayTimeout": "3"},
        own={"IBC_LOGIN_DIALOG_DISPLAY_TIMEOUT": "4"},
    ),
    "cannot-start": Capture(
        ("entry",),
        ("exit status 83", "login frame never appeared -- relaunching"),
        own={"IBC_LOGIN_DIALOG_DISPLAY_TIMEOUT": "4"},
        after=1,
    ),
    "crash": Capture(("crash-3",), ENDED),
    "crash-later": Capture(("ok",), ENDED, then=("crash 134",)),
    "write-access": Capture(
        ("ok",),
        (OPENED.format("API client needs write access action confirmation"), "write access action"),
        then=("write-access",),
        after=1.5,
    ),
    "login-messages": Capture(
        ("messages",), (OPENED.format("Login Messages"), "'Login Messages'"), after=1.5
    ),
    "window-blocks": Capture(
        ("blocked",),
        (OPENED.format("Order confirmation of a new kind"), "'Order confirmation of a new kind'"),
        after=1.5,
    ),
}  # fmt: skip


def play(session: Session, capture: Capture, controller: str) -> None:
    """Runs the scenario under the controller until it has shown what it is for."""
    at = 0 if controller == "ibc" else 1
    session.script(*capture.script)
    if controller == "ibc":
        session.start_ibc()
    else:
        session.start_ibcontroller(**capture.own)
    if capture.then:
        session.until(lambda: "login complete" in session.record(), "no login")
        session.wait_for(LOGGED_IN[at])
        session.wait_for(("Configuration tasks completed", LOGGED_IN[1])[at])
        sleep(0.5)
    for command in capture.then:
        session.do(command)
        sleep(1)
    if words := capture.until[at]:
        session.wait_for(words, capture.times[at], 600)
    else:
        session.ended(300)
    sleep(capture.after)


def take(standin: Path, display: str, name: str, controller: str) -> dict[str, str]:
    """The files of one run, by name."""
    capture = CAPTURES[name]
    session = Session(
        standin, display, dict(capture.variables), dict(capture.settings), clock=capture.clock
    )
    try:
        play(session, capture, controller)
        launcher = (
            f"{name}.launcher.log" if controller == "ibc" else f"{name}.{controller}.launcher.log"
        )
        return {
            f"{name}.{controller}.log": clean(session.log, session.home),
            launcher: session.launcher,
        }
    finally:
        session.stop()


_LEFT_OUT = re.compile(
    r"^(IBC Settings:\n.*?End IBC Settings\n|System Properties\n-+\n.*?\n-{20,}\n"
    r"|Operating system: .*?\n"
    r"|Java VM Options=.*?\n|Classpath=.*?\n|extra_java_options.*?\n| +java\.runtime\.version.*?\n"
    r"|Location of java executable=.*?\n|Starting Gateway with this command:\n.*?\n"
    r"|IBController > (env|config) .*?\n|IBController > (Environment variable|Config): ?\n"
    r"|[^\n]*IBController > launch command for .*?\n)",
    re.DOTALL | re.MULTILINE,
)


def clean(log: str, home: Path) -> str:
    """The log without what it says of the machine."""
    text = _LEFT_OUT.sub("", log.replace("\r", ""))
    return text.replace(str(home), "/home/ibgateway").replace(str(java_home()), "/usr/lib/jvm/java")


def main(names: list[str]) -> None:
    LOGS.mkdir(exist_ok=True)
    display = Display()
    with tempfile.TemporaryDirectory() as folder:
        standin = compile_standin(Path(folder))
        jobs = [
            _job(standin, display.name, name, controller)
            for name in names or CAPTURES
            for controller in ("ibc", "ibcontroller")
            if controller not in CAPTURES[name].without
        ]
        with ThreadPoolExecutor(3) as pool:
            for files in pool.map(lambda job: job(), jobs):
                for name, text in files.items():
                    (LOGS / name).write_text(text)
                    print(f"{name}: {len(text.splitlines())} lines")
    display.stop()


def _job(standin: Path, display: str, name: str, controller: str) -> Callable[[], dict[str, str]]:
    def job() -> dict[str, str]:
        try:
            return take(standin, display, name, controller)
        except (AssertionError, OSError, ValueError) as failure:
            print(f"{name}.{controller}: {str(failure)[:6000]}", file=sys.stderr)
            return {}

    return job


if __name__ == "__main__":
    main(sys.argv[1:])

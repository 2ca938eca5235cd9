"""Each promise about the login, tried with each witness: IBC's log, ibcontroller's, IBKR's own.

The logs are what the real controllers printed (tests/login/captures.py). A cell is what the model
must make of them, or why the witness cannot tell.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import pytest

from bridge.login.model import Login
from infrastructure.diagnose.timeline import Timeline
from tests.login.captures import LOGS

WITNESSES = ("ibc", "ibcontroller", "launcher")


@dataclass(frozen=True)
class Case:
    """What a recorded log comes to. `never`: a state that must not occur; `once`: one that occurs
    exactly once; `later`: seconds after the log's last line, when it is looked at.
    """

    capture: str
    state: str
    code: str | None = None
    held: bool = False
    kind: str | None = None
    attempts: int | None = None
    launches: int | None = None
    never: str = ""
    once: str = ""
    later: float = 0
    window: str | None = None


Cell = list[Case] | str
HELD_PASSWORD = Case("wrong-password", "held", "bad-credentials", held=True, attempts=1)
LOCKED = Case("too-many-held", "held", "account-locked", held=True)
TRANSIENT = [
    Case("failed-once", "logged-in", never="held", once="waiting-broker", attempts=2),
    Case("error-once", "logged-in", never="held", once="waiting-broker", attempts=2),
    Case("unreachable-once", "logged-in", never="held", once="waiting-broker", attempts=2),
    Case("no-answer", "logged-in", never="held", attempts=2),
]
TOKENS = [
    Case("token-accepted", "logged-in", never="held"),
    Case("token-failed", "logged-in", never="held"),
    Case("token-unreachable", "logged-in", never="held"),
]
TAKEN = [
    Case("session-secondary", "held", "session-taken", held=True),
    Case("session-yielded", "held", "session-taken", held=True),
    Case("session-given-up", "held", "session-taken", held=True),
    Case("session-manual", "blocked", "session-choice", window="Existing session detected"),
    Case("session-taken", "logged-in"),
    Case("session-kept", "logged-in"),
]
SILENT = "IBKR's file says nothing of this window, and is silent once the login is complete"
HOST = "the host's own words and deeds, the same whatever drives the gateway: tests/deploy"

MATRIX: dict[str, dict[str, Cell]] = {
    "1 one refusal counts once": {
        "ibc": TRANSIENT[:1],
        "ibcontroller": TRANSIENT[:1],
        "launcher": TRANSIENT[:1],
    },
    "2 transient is not refused": {
        "ibc": [
            *TRANSIENT,
            *TOKENS,
            HELD_PASSWORD,
            LOCKED,
            Case("failed-loop", "waiting-broker", "broker-maintenance", never="held", attempts=3),
            Case("passkey", "held", "passkey-required", held=True),
            Case("multiple-users", "held", "several-paper-users", held=True),
            Case("token-refused", "restarting", "token-refused", never="held"),
        ],
        "ibcontroller": [
            *TRANSIENT,
            *TOKENS,
            HELD_PASSWORD,
            LOCKED,
            Case("failed-loop", "starting", never="held", attempts=3),
            Case("passkey", "starting", launches=3),
            Case("multiple-users", "held", "several-paper-users", held=True),
            Case("too-many", "logged-in", never="held"),
            Case("token-refused", "restarting", "token-refused", never="held"),
        ],
        "launcher": [
            *TRANSIENT,
            *TOKENS,
            HELD_PASSWORD,
            LOCKED,
            Case("failed-loop", "waiting-broker", "broker-maintenance", never="held", attempts=3),
            Case("passkey", "held", "passkey-required", held=True),
            Case("token-refused", "restarting", "token-refused", never="held"),
        ],
    },
    "3 a loop is launches without a login": {
        "ibc": [
            Case("failed-loop", "waiting-broker", "broker-maintenance", launches=3),
            Case("no-dialog", "logged-in", launches=3, attempts=1),
            Case("cannot-start", "starting", "gateway-ended", launches=1, attempts=0),
            Case("crash", "starting", "gateway-ended", launches=1),
        ],
        "ibcontroller": [
            Case("failed-loop", "starting", launches=4),
            Case("no-dialog", "logged-in", launches=3, attempts=1),
            Case("cannot-start", "logging-in", launches=2, attempts=0),
            Case("crash", "starting", "gateway-ended", launches=1),
        ],
        "launcher": [
            Case("failed-loop", "waiting-broker", "broker-maintenance", launches=3),
            # A start after which nothing happened is not told from the next one.
            Case("no-dialog", "logged-in", attempts=1),
            Case("cannot-start", "starting", launches=1, attempts=0),
            Case("crash", "logging-in", launches=1),
        ],
    },
    "4 one budget for one approval": {
        "ibc": [
            Case("push-unanswered", "logged-in", attempts=3, never="held"),
            Case("push-waiting", "waiting-2fa", kind="push"),
            Case("push-approved", "logged-in", once="waiting-2fa"),
            Case("push-closed-early-exit", "starting", "second-factor-unfinished"),
        ],
        "ibcontroller": [
            Case("push-unanswered", "logged-in", attempts=3, never="held"),
            Case("push-waiting", "waiting-2fa"),
            Case("push-approved", "logged-in", once="waiting-2fa"),
            Case("push-closed-early-exit", "starting", "second-factor-unfinished"),
        ],
        "launcher": [
            Case("push-unanswered", "logged-in", attempts=3, never="held"),
            Case("push-waiting", "waiting-2fa", kind="push"),
            Case("push-approved", "logged-in", once="waiting-2fa"),
        ],
    },
    "5 one login for each session": {
        "ibc": [
            Case("push-waiting", "waiting-2fa", kind="push"),
            Case("ok", "logged-in", never="waiting-2fa"),
        ],
        "ibcontroller": [
            Case("push-waiting", "waiting-2fa"),
            Case("ok", "logged-in", never="waiting-2fa"),
        ],
        "launcher": [
            Case("push-waiting", "waiting-2fa", kind="push"),
            Case("ok", "logged-in", never="waiting-2fa"),
        ],
    },
    "6 a session taken by another": {
        "ibc": [*TAKEN, Case("session-lost-twice", "held", "session-taken", held=True)],
        "ibcontroller": [
            *TAKEN,
            Case("session-lost", "blocked", "window", window="Re-login is required"),
        ],
        "launcher": SILENT,
    },
    "7 nothing was sent": {
        "ibc": [
            Case("device-unknown", "waiting-2fa", "second-factor-device", kind="device"),
            Case("device-unset", "waiting-2fa", "second-factor-device", kind="device"),
            Case("card-waiting", "waiting-2fa", "second-factor-code", kind="code"),
            # Of a code IBC says the same as of a push: IBKR's own file tells them apart, below.
            Case("device-chosen", "logged-in"),
            Case("push-in-frame", "logged-in", once="waiting-2fa"),
        ],
        "ibcontroller": [
            # A list, a code and a push have one title, and it says no more: no kind is claimed.
            Case("device-unknown", "waiting-2fa"),
            Case("code-waiting", "waiting-2fa"),
            Case("card-waiting", "waiting-2fa", "second-factor-code", kind="code"),
        ],
        "launcher": [
            Case("code-waiting", "waiting-2fa", "second-factor-code", kind="code"),
            Case("card-waiting", "waiting-2fa", "second-factor-code", kind="code"),
        ],
    },
    "8 passwords with outer blanks": {
        "ibc": "run with the real IBC: test_blanks_around_a_password_do_not_pass_ibc",
        "ibcontroller": "run with the real one: test_blanks_around_a_password_pass_ibcontroller",
        "launcher": "no password is in IBKR's file",
    },
    "9 hooks never change how the container ends": {
        "ibc": "run with the real start script: test_hooks_leave_the_end_as_it_is",
        "ibcontroller": "the hooks extend the start script of the controller that the image has",
        "launcher": "IBKR's program knows nothing of hooks",
    },
    "10 what up and restore say": {"ibc": HOST, "ibcontroller": HOST, "launcher": HOST},
    "11 excerpts that explain": {"ibc": HOST, "ibcontroller": HOST, "launcher": HOST},
    "12 restarts are not failures": {
        "ibc": [
            Case("token-accepted", "logged-in", once="restarting", never="stopped"),
            Case("cold-restart", "logged-in", once="restarting", attempts=2),
            Case(
                "push-unanswered-once", "blocked", "second-factor-expired",
                window="Second Factor Authentication",
            ),
            Case("logoff", "stopped"),
            Case("crash-later", "stopped"),
        ],
        "ibcontroller": [
            Case("token-accepted", "logged-in", once="restarting", never="stopped"),
            Case("cold-restart", "logged-in", attempts=2),
            Case("push-unanswered-once", "starting", "second-factor-unfinished"),
            Case("logoff", "stopped"),
            Case("crash-later", "stopped"),
        ],
        "launcher": [
            Case("token-accepted", "logged-in", once="restarting"),
            Case("cold-restart", "logged-in", attempts=2),
        ],
    },
    "windows that nobody answers": {
        "ibc": [
            Case("login-messages", "blocked", "window", window="Login Messages"),
            Case("window-blocks", "logging-in"),
            Case(
                "window-blocks", "blocked", "window", later=61,
                window="Order confirmation of a new kind",
            ),
            Case(
                "write-access", "blocked", "window",
                window="API client needs write access action confirmation",
            ),
        ],
        "ibcontroller": [
            Case("login-messages", "blocked", "window", window="Login Messages"),
            Case(
                "window-blocks", "blocked", "window", later=61,
                window="Order confirmation of a new kind",
            ),
            Case(
                "write-access", "blocked", "window",
                window="API client needs write access action confirmation",
            ),
            Case("ok", "logged-in", later=600),
            Case("push-waiting", "waiting-2fa", later=90),
        ],
        "launcher": SILENT,
    },
}  # fmt: skip


def cells() -> Iterator[object]:
    for promise, row in MATRIX.items():
        for witness, cell in row.items():
            for case in cell if isinstance(cell, list) else ():
                name = f"{promise.split(' ', 1)[0]}-{witness}-{case.capture}-{case.later}"
                yield pytest.param(witness, case, id=name)


def follow(witness: str, capture: str) -> Timeline:
    found = Timeline()
    for line in (LOGS / f"{capture}.{witness}.log").read_text().splitlines():
        found.add(line)
    return found


def test_every_cell_has_a_case_or_a_reason() -> None:
    numbers = {promise.split(" ", 1)[0] for promise in MATRIX}
    assert numbers >= {str(number) for number in range(1, 13)}
    for row in MATRIX.values():
        assert tuple(row) == WITNESSES
        assert all(len(cell) > (20 if isinstance(cell, str) else 0) for cell in row.values())


@pytest.mark.parametrize(("witness", "case"), list(cells()))
def test_the_witness_is_understood(witness: str, case: Case) -> None:
    timeline = follow(witness, case.capture)
    login = timeline._login
    shown = timeline.shown(timeline._at + case.later)
    states = [one["state"] for one in shown["events"]]
    assert shown["source"] == {"launcher": "launcher.log"}.get(witness, witness)
    assert (shown["state"], login.code, login.held) == (case.state, case.code, case.held), states
    assert login.kind == case.kind
    assert login.window == case.window
    if case.attempts is not None:
        assert shown["attempts"] == case.attempts
    if case.launches is not None:
        assert login.launches == case.launches
    assert not case.never or case.never not in states
    if case.once:
        runs = [one for one, before in zip(states, ["", *states], strict=False) if one != before]
        assert runs.count(case.once) == 1, states


def test_the_budget_of_an_approval_survives_a_dialog_that_opens_again() -> None:
    """IBC opens the dialog anew after IBKR's three minutes: the person is asked since the first."""
    timeline = Timeline()
    asked = []
    for line in (LOGS / "push-unanswered.ibc.log").read_text().splitlines():
        timeline.add(line)
        if "entitled: Second Factor Authentication; event=Opened" in line:
            asked.append(timeline._login.asked_since)
    assert len(asked) == 3
    assert len(set(asked)) == 1


@pytest.mark.parametrize(
    ("capture", "kind"),
    [("code-waiting", "code"), ("card-waiting", "code"), ("push-waiting", "push")],
)
@pytest.mark.parametrize("late", [0, 900], ids=["in time", "a second late"])
def test_ibkrs_own_file_tells_a_code_from_a_push(capture: str, kind: str, late: int) -> None:
    """As in the container, where both logs are followed; neither is sure to be read first."""
    lines = []
    for witness, delay in (("ibc", 0), ("launcher", late)):
        for line in (LOGS / f"{capture}.{witness}.log").read_text().splitlines():
            if found := re.match(r"(\S+ \d\d:\d\d:\d\d)[:.](\d{3}) ", line):
                at = datetime.fromisoformat(f"{found[1]}+00:00").timestamp() * 1000 + int(found[2])
                lines.append((at + delay, line))
    login = Login()
    for at, line in sorted(lines):
        login.feed(line, at / 1000)
    assert (login.state, login.kind) == ("waiting-2fa", kind)
    assert ("IBKR Mobile" in login.told) == (kind == "push")


@pytest.mark.parametrize("name", sorted(path.name for path in LOGS.iterdir()))
def test_nothing_private_of_a_log_is_shown(name: str) -> None:
    timeline = Timeline()
    for line in (LOGS / name).read_text().splitlines():
        timeline.add(line)
    text = repr(timeline.shown())
    for private in ("198.51.100.7", "5f3a9c10", "77f0c2", "DU0000001", "3344"):
        assert private not in text

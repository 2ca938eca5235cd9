"""Every advice, in the state in which it is given: it names what a user has, and is no "Nothing"
while nothing works for more than a moment.
"""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bridge.login import states
from bridge.login.model import Login
from bridge.restart_calendar import RestartCalendar, RestartRule
from bridge.tws import advice
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import ConnectionState as State
from bridge.tws.connection_state import DialProblem, Facts
from infrastructure.config.gateway import DEAD, OWNED
from tests.bridge.tws.test_state import every_fact
from tests.bridge.wound import WoundClock

ROOT = Path(__file__).resolve().parents[2]
OF_THE_IMAGE = re.compile(rf"\b(?:{'|'.join(sorted({*OWNED, *DEAD} - {'TZ'}, key=len)[::-1])})\b")
OF_THE_BRIDGE = re.compile(r"\bBRIDGE_[A-Z_]+\b")
BY_HAND_ALONE = {"BRIDGE_LISTEN", "BRIDGE_ADMIN_KEY_FILE", "BRIDGE_DATA_DIR"}
NOT_FOR_PEOPLE = {"infrastructure/runtime/commands.py"}
"""It holds commands that a container runs."""
HOUR = 3600.0


def sentences() -> Iterator[tuple[str, str]]:
    """Every text of more than a word in the product's code, and where it is."""
    for folder in ("bridge", "infrastructure"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if str(path.relative_to(ROOT)) in NOT_FOR_PEOPLE:
                continue
            tree = ast.parse(path.read_text())
            documentation = {
                id(each.value) for each in ast.walk(tree) if isinstance(each, ast.Expr)
            }
            for each in ast.walk(tree):
                if isinstance(each, ast.Constant) and id(each) not in documentation:
                    text = each.value
                    if isinstance(text, str) and " " in text.strip():
                        yield f"{path.relative_to(ROOT)}:{each.lineno}", text


def test_no_text_names_a_variable_where_stack_yaml_is_what_a_user_has() -> None:
    seen = 0
    for place, text in sentences():
        seen += 1
        assert not OF_THE_IMAGE.search(text), (place, text)
        named = set(OF_THE_BRIDGE.findall(text)) - BY_HAND_ALONE
        assert not named or "stack.yaml" in text or "deploy" in text, (place, text)
    assert seen > 1000


def a_link(
    facts: Facts, folder: Path, login: Login | None = None
) -> tuple[ConnectionContext, WoundClock]:
    clock = WoundClock(datetime(2026, 3, 4, 15, 0, tzinfo=UTC))
    context = ConnectionContext(Target(login_state_file=folder / "login.json"), clock)
    fields = {name: getattr(facts, name) for name in Facts.__struct_fields__}
    context.status.update(**fields)
    if login is not None:
        context.login = lambda: login  # type: ignore[method-assign]
    return context, clock


def test_nothing_is_said_for_a_moment_only(tmp_path: Path) -> None:
    states = set()
    for facts in every_fact():
        context, clock = a_link(facts, tmp_path)
        states.add(context.status.state)
        at_once = advice.next_action(context.situation())
        assert len(at_once) > 20 or at_once == advice.ALL_IS_WELL
        clock.advance(HOUR)
        later = advice.next_action(context.situation())
        ready = context.status.state is State.READY
        assert (later == advice.ALL_IS_WELL) is ready, (facts, later)
        assert ready or not later.startswith("Nothing"), (facts, later)
    assert states >= set(State) - {State.HALTED, State.READ_ONLY}


@pytest.mark.parametrize("state", states.STATES)
def test_nor_about_a_login_that_does_not_end(tmp_path: Path, state: str) -> None:
    for code, facts in itertools.product(
        (None, *states.TROUBLES),
        (Facts(started=True, problem=DialProblem.CLOSED), Facts(started=True, logging_in=True)),
    ):
        login = Login("live")
        login.state, login.trouble = state, states.TROUBLES.get(code or "")
        context, clock = a_link(facts, tmp_path, login)
        login.since = clock.now().timestamp()
        assert len(advice.next_action(context.situation())) > 20
        clock.advance(HOUR)
        later = advice.next_action(context.situation())
        assert not later.startswith("Nothing"), (state, code, later)


def test_a_planned_restart_says_until_when(tmp_path: Path) -> None:
    """The one "Nothing" that may last: it names its end, and ends with it."""
    clock = WoundClock(datetime(2026, 3, 5, 4, 45, 30, tzinfo=UTC))
    calendar = RestartCalendar((RestartRule("auto-restart", "23:45", None, 6),))
    context = ConnectionContext(Target(restarts=calendar), clock)
    context.status.update(started=True, problem=DialProblem.REFUSED)
    said = advice.next_action(context.situation())
    assert said.startswith("Nothing: the gateway's planned restart")
    assert "04:51 UTC" in said
    clock.advance(HOUR)
    assert not advice.next_action(context.situation()).startswith("Nothing")


@pytest.mark.parametrize("types", [False, True])
def test_a_sunday_asks_nobody_where_gangway_types_the_code(tmp_path: Path, *, types: bool) -> None:
    clock = WoundClock(datetime(2026, 3, 8, 13, 1, tzinfo=UTC))  # 09:01 in New York
    calendar = RestartCalendar((RestartRule("cold", "09:00", "Sun", 15),))
    facts = tmp_path / "login-live"
    totp = "100 totp\n" if types else ""
    facts.write_text(f"100 boot\n{totp}100 launch password\n101 attempt 1\n")
    context = ConnectionContext(Target(restarts=calendar, login_state_file=facts), clock)
    context.status.update(started=True, problem=DialProblem.REFUSED)
    said = advice.next_action(context.situation())
    assert "logs in anew, as every Sunday" in said
    assert ("approve the login on your phone" in said) is not types
    assert said.startswith("Nothing") is types


def test_a_gateway_that_hangs_for_long_is_not_to_be_waited_for(tmp_path: Path) -> None:
    context, clock = a_link(Facts(started=True, problem=DialProblem.SILENT), tmp_path)
    assert advice.next_action(context.situation()).startswith("Wait a minute")
    clock.advance(HOUR)
    assert advice.next_action(context.situation()).startswith(
        "The gateway has answered nothing since 15:00 UTC"
    )

"""Rules on positions and prices of a file: what the file may hold."""

from __future__ import annotations

import math
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from bridge.rules.model import RulesInvalidError, read
from bridge.rules.trial import moments_of, moments_of_csv, positions_of, run

AT = "2026-06-01T15:00:00Z"
HELD = {"symbol": "AAPL", "quantity": 100, "average_cost": 100}


def test_two_accounts_may_hold_the_same() -> None:
    held = positions_of([HELD | {"account": name} for name in ("A", "B")])
    stop = read([{"id": "r", "match": {"symbol": "AAPL"}, "stop_loss": {"percent": 5}}])
    moments = moments_of([{"at": AT, "AAPL": [90, 90]}])
    found = run(stop, held, moments, zone=ZoneInfo("America/New_York"))
    assert [each.account for each in found.happenings] == ["A", "B"]


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["quantity", "average_cost", "multiplier"])
def test_a_number_that_is_none_is_refused(name: str, number: float) -> None:
    with pytest.raises(RulesInvalidError, match="AAPL: a number is not finite"):
        positions_of([HELD | {name: number}])


@pytest.mark.parametrize("number", [math.nan, math.inf, 10**400])
def test_so_is_such_a_price(number: Any) -> None:
    with pytest.raises(RulesInvalidError, match="a price is a finite number"):
        moments_of([{"at": AT, "AAPL": [90, number]}])


def test_so_is_one_of_a_table() -> None:
    with pytest.raises(RulesInvalidError, match="line 2: bid and ask are numbers"):
        moments_of_csv(f"at,name,bid,ask\n{AT},AAPL,nan,90\n")

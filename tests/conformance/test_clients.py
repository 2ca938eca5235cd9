"""Five independent clients see the same gateway: every group of requests, orders and faults."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance.running import ALL_GROUPS, CLIENTS, Client, gateway, run

pytestmark = pytest.mark.conformance

CONTRACTS = {
    "conId": 265598,
    "longName": "APPLE INC",
    "tick": 0.01,
    "futures": True,
    "unknown": 200,
    "chain": True,
    "option": True,
}
HISTORY = {
    "bars": {"TRADES": True, "MIDPOINT": True, "BID_ASK": True, "TRADES kept": True},
    "none": 200,
}
LEDGER = {"CashBalance", "ExchangeRate", "RealizedPnL", "UnrealizedPnL", "NetLiquidation"}


@dataclass(frozen=True)
class Visit:
    """What a client saw, and what the gateway's own record says."""

    client: Client
    seen: dict[str, Any]
    book: dict[str, Any]


@pytest.fixture(scope="module", params=CLIENTS, ids=lambda client: client.name)
def visit(request: pytest.FixtureRequest) -> Iterator[Visit]:
    client: Client = request.param
    client.command()
    with gateway() as at:
        (seen,) = run(client, at, ALL_GROUPS)
        yield Visit(client, seen, at.book())


def test_no_message_is_unknown_or_cannot_be_parsed(visit: Visit) -> None:
    assert visit.seen["problems"] == []
    assert visit.seen["selftest"]["found"] >= 3


def test_the_session_is_set_up(visit: Visit) -> None:
    session = visit.seen["session"]
    assert session["serverVersion"] == visit.client.version
    assert session["accounts"] == ["DU1234567"]
    assert session["time"] > 1_700_000_000


def test_contracts_market_data_and_history_come(visit: Visit) -> None:
    assert visit.seen["contracts"] == CONTRACTS
    assert visit.seen["market"] == {"prices": [1, 2, 4], "unknown": 200}
    assert visit.seen["history"] == HISTORY


def test_a_market_order_fills_as_the_book_has_it(visit: Visit) -> None:
    market = visit.seen["orders"]["market"]
    fill = visit.book["fills"][0]
    assert market["statuses"] == ["PendingSubmit", "PreSubmitted", "Submitted", "Filled"]
    assert market["state"] == "Filled"
    assert market["orderRef"] == fill["orderRef"] == "market"
    assert [market[name] for name in ("execId", "permId", "price", "side", "commission")] == [
        fill[name] for name in ("execId", "permId", "price", "side", "commission")
    ]
    assert market["shares"] == fill["quantity"] == 100


def test_orders_rest_change_and_end_in_order(visit: Visit) -> None:
    orders = visit.seen["orders"]
    words = [word for word in orders["resting"] if word != "PendingCancel"]
    assert list(dict.fromkeys(words)) == [
        "PendingSubmit",
        "PreSubmitted",
        "Submitted",
        "Cancelled",
    ]
    assert orders["modified"] == 11.0
    assert orders["open"] == ["resting"]
    assert orders["bracket"] == ["Submitted", "PreSubmitted", "PreSubmitted"]
    assert orders["refused"] == [110, 200, 10147]
    assert [status for _, status in orders["completed"]] == ["Filled", *["Cancelled"] * 4]


def test_what_if_tells_margin_and_commission(visit: Visit) -> None:
    asked = visit.seen["orders"]["whatIf"]
    assert asked["commission"] == 1.0
    price = visit.book["fills"][0]["price"]
    assert asked["after"] == pytest.approx(200 * price * 0.3, rel=0.01)


def test_executions_and_the_account_agree_with_the_book(visit: Visit) -> None:
    fill = visit.book["fills"][0]
    assert visit.seen["executions"] == {"all": [fill["execId"]], "none": 0}
    account = visit.seen["account"]
    cost = fill["price"] + fill["commission"] / 100
    assert account["positions"] == {"AAPL": [100, pytest.approx(cost)]}
    assert account["held"] == 100
    assert account["portfolio"] == ["AAPL"]
    assert set(account["summary"]) >= LEDGER
    daily, unrealized, realized = account["pnl"]
    assert daily == pytest.approx(unrealized, abs=0.01)
    assert realized == 0
    assert account["net"] == pytest.approx(1_000_000 + daily, abs=50)


def test_faults_are_lived_through(visit: Visit) -> None:
    faults = visit.seen["faults"]
    words = ("PendingSubmit", "PreSubmitted", "Submitted")
    assert faults["duplicates"] == [word for word in words for _ in (1, 2)]
    assert faults["early"] == "Submitted"
    assert faults["unacknowledged"] == []
    lost = [each for each in visit.book["orders"] if each["orderRef"] == "unacknowledged"]
    assert len(lost) == 1
    asked = [each for each in visit.book["requests"] if each.get("orderRef") == "unacknowledged"]
    assert len(asked) == 1

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from simulator.contracts.catalog import Catalog
from simulator.contracts.contract import Contract
from simulator.market.market import Market
from simulator.trading.order import Identifiers, Status
from tests.simulator.trading.broker import APPLE, EURO, FUTURE, INDEX, OPTION, Broker, eastern


@pytest.fixture
def broker() -> Broker:
    return Broker()


def test_a_market_order_goes_through_every_status(broker: Broker) -> None:
    broker.place(1)
    assert broker.go() == [
        "1 PendingSubmit 0",
        "1 PreSubmitted 0",
        "1 Submitted 0",
        "1 BOT 100 @ 100.01",
        "1 Filled 100",
        "1 fee 1",
    ]


def test_a_limit_far_away_rests_and_fills_at_its_own_price_when_reached(broker: Broker) -> None:
    broker.place(1, orderType="LMT", lmtPrice=90)
    assert broker.go()[-1] == "1 Submitted 0"
    broker.price(89.5, 89.6)
    assert broker.go() == ["1 BOT 100 @ 90", "1 Filled 100", "1 fee 1"]
    assert broker.engine.book.executions[0].liquidity == 1


def test_a_marketable_limit_takes_the_better_price(broker: Broker) -> None:
    broker.place(1, action="SELL", orderType="LMT", lmtPrice=90)
    assert "1 SLD 100 @ 99.99" in broker.go()
    assert broker.engine.book.executions[0].liquidity == 2


def test_a_large_order_fills_in_parts_of_what_the_market_shows(broker: Broker) -> None:
    broker.price(99.99, 100.01, size=40)
    broker.place(1)
    broker.go()
    assert broker.go() == ["1 BOT 40 @ 100.01", "1 Submitted 80", "1 fee 0"]
    assert broker.go() == ["1 BOT 20 @ 100.01", "1 Filled 100", "1 fee 0"]
    assert sum(each.commission for each in broker.diary.executions) == 1.0


def test_a_stop_waits_for_its_trigger(broker: Broker) -> None:
    broker.place(1, action="SELL", orderType="STP", auxPrice=95)
    assert broker.go()[-1] == "1 PreSubmitted 0 (trigger)"
    broker.price(94, 94.2)
    assert broker.go() == ["1 Submitted 0", "1 SLD 100 @ 94", "1 Filled 100", "1 fee 1"]


def test_a_stop_limit_rests_at_its_limit_once_triggered(broker: Broker) -> None:
    broker.place(1, action="SELL", orderType="STP LMT", auxPrice=95, lmtPrice=94.5)
    broker.go()
    broker.price(93, 93.2)
    assert broker.go() == ["1 Submitted 0"]
    broker.price(94.6, 94.8)
    assert "1 SLD 100 @ 94.5" in broker.go()


@pytest.mark.parametrize("trail", [{"auxPrice": 2}, {"trailingPercent": 2}])
def test_a_trailing_stop_follows_the_market_one_way_only(
    broker: Broker, trail: dict[str, Any]
) -> None:
    order = broker.place(1, action="SELL", orderType="TRAIL", **trail)
    broker.go()
    assert order is not None
    assert order.stop == pytest.approx(98)
    broker.price(110, 110)
    broker.go()
    risen = order.stop
    assert risen == pytest.approx(108 if "auxPrice" in trail else 107.8)
    broker.price(109, 109)
    broker.go()
    assert order.stop == risen
    broker.price(107, 107.1)
    assert "1 SLD 100 @ 107" in broker.go()


def test_a_market_on_close_order_waits_for_the_close(broker: Broker) -> None:
    broker.place(1, orderType="MOC")
    assert broker.go()[-1] == "1 PreSubmitted 0"
    broker.at = eastern("2026-11-23 16:00")
    assert "1 BOT 100 @ 100" in broker.go(0)


def test_immediate_or_cancel_leaves_nothing_behind(broker: Broker) -> None:
    broker.price(99.99, 100.01, size=40)
    broker.place(1, tif="IOC")
    assert broker.go()[-5:] == [
        "1 BOT 40 @ 100.01",
        "1 Submitted 40",
        "1 fee 1",
        "1 Cancelled 40",
        "1 error 202",
    ]


def test_fill_or_kill_takes_all_or_nothing(broker: Broker) -> None:
    broker.price(99.99, 100.01, size=40)
    broker.place(1, tif="FOK")
    assert broker.go()[-2:] == ["1 Cancelled 0", "1 error 202"]


def test_a_day_order_expires_and_a_gtc_order_does_not(broker: Broker) -> None:
    broker.place(1, orderType="LMT", lmtPrice=50)
    broker.place(2, orderType="LMT", lmtPrice=50, tif="GTC")
    broker.go()
    broker.at = eastern("2026-11-23 16:00")
    assert broker.go(0) == ["1 Cancelled 0", "1 error 202", "2 PreSubmitted 0"]
    broker.at = eastern("2026-11-24 09:30")
    assert broker.go(0) == ["2 Submitted 0"]


def test_a_good_till_date_order_ends_at_its_moment(broker: Broker) -> None:
    broker.place(
        1, orderType="LMT", lmtPrice=50, tif="GTD", goodTillDate="20261125 12:00:00 US/Eastern"
    )
    broker.go()
    broker.at = eastern("2026-11-25 11:59")
    broker.go(0)
    assert broker.go(60) == ["1 Cancelled 0", "1 error 202"]


def test_an_order_for_the_open_is_matched_there(broker: Broker) -> None:
    broker.place(1, tif="OPG")
    assert broker.go()[-1] == "1 PreSubmitted 0"
    broker.at = eastern("2026-11-24 09:30")
    assert "1 BOT 100 @ 100" in broker.go(0)


def test_outside_hours_an_order_waits_with_a_warning_unless_it_may_trade_then(
    broker: Broker,
) -> None:
    broker.at = eastern("2026-11-23 08:00")
    broker.place(1)
    broker.place(2, orderType="LMT", lmtPrice=101, outsideRth=1)
    assert broker.go() == [
        "1 PendingSubmit 0",
        "1 error 399",
        "1 PreSubmitted 0",
        "2 PendingSubmit 0",
        "2 PreSubmitted 0",
        "2 Submitted 0",
        "2 BOT 100 @ 100.01",
        "2 Filled 100",
        "2 fee 1",
    ]
    broker.at = eastern("2026-11-23 09:30")
    assert broker.go(0)[0] == "1 Submitted 0"


def test_a_bracket_waits_for_the_last_leg_and_then_for_the_parent(broker: Broker) -> None:
    broker.place(1, orderType="LMT", lmtPrice=95, transmit=0)
    child: dict[str, Any] = {"action": "SELL", "parentId": 1}
    broker.place(2, orderType="LMT", lmtPrice=110, transmit=0, **child)
    assert broker.go() == []
    broker.place(3, orderType="STP", auxPrice=90, **child)
    assert [line for line in broker.go() if "PendingSubmit" not in line] == [
        "1 PreSubmitted 0",
        "1 Submitted 0",
        "2 PreSubmitted 0 (child)",
        "3 PreSubmitted 0 (child,trigger)",
    ]
    broker.price(94.9, 95)
    assert broker.go() == [
        "1 BOT 100 @ 95",
        "1 Filled 100",
        "1 fee 1",
        "2 Submitted 0",
        "3 PreSubmitted 0 (trigger)",
    ]
    broker.price(110, 110.2)
    assert broker.go() == [
        "2 SLD 100 @ 110",
        "2 Filled 100",
        "2 fee 1",
        "3 Cancelled 0",
        "3 error 202",
    ]


def test_cancelling_a_parent_cancels_its_children(broker: Broker) -> None:
    broker.place(1, orderType="LMT", lmtPrice=95, transmit=0)
    broker.place(2, action="SELL", orderType="LMT", lmtPrice=110, parentId=1)
    broker.go()
    broker.engine.cancel(1, 1, broker.at)
    assert broker.go() == ["1 Cancelled 0", "1 error 202", "2 Cancelled 0", "2 error 202"]


def test_one_cancels_all(broker: Broker) -> None:
    group: dict[str, Any] = {"ocaGroup": "one", "ocaType": 1, "orderType": "LMT"}
    broker.place(1, lmtPrice=95, **group)
    broker.place(2, lmtPrice=94, **group)
    broker.go()
    broker.price(94.9, 95)
    assert broker.go()[-2:] == ["2 Cancelled 0", "2 error 202"]


def test_a_reducing_group_takes_what_was_filled_from_the_others(broker: Broker) -> None:
    group: dict[str, Any] = {"ocaGroup": "one", "ocaType": 3, "orderType": "LMT"}
    broker.place(1, lmtPrice=95, **group)
    other = broker.place(2, lmtPrice=94, **group)
    broker.go()
    broker.price(94.9, 95, size=30)
    broker.go()
    assert other is not None
    assert other.remaining == 70


def test_a_change_keeps_the_permanent_id(broker: Broker) -> None:
    first = broker.place(1, orderType="LMT", lmtPrice=90)
    broker.go()
    second = broker.place(1, orderType="LMT", lmtPrice=101, totalQuantity=50)
    assert second is first
    assert broker.go() == ["1 Submitted 0", "1 BOT 50 @ 100.01", "1 Filled 50", "1 fee 1"]


def test_what_if_asks_and_places_nothing(broker: Broker) -> None:
    assert broker.place(1, whatIf=1) is None
    (preview,) = broker.diary.previews
    assert preview.commission == 1.0
    assert preview.after.initial == pytest.approx(3000, rel=0.01)
    assert broker.engine.book.orders == []


@pytest.mark.parametrize(
    ("code", "contract", "sent"),
    [
        (110, None, {"orderType": "LMT", "lmtPrice": 90.001}),
        (110, FUTURE, {"orderType": "LMT", "lmtPrice": 90.1}),
        (434, None, {"totalQuantity": 0}),
        (387, None, {"orderType": "PEG BENCH"}),
        (203, INDEX, {}),
        (321, None, {"action": "HOLD"}),
        (321, None, {"account": "U999"}),
        (321, None, {"orderType": "LMT"}),
        (113, None, {"orderType": "MOC", "tif": "GTC"}),
        (135, None, {"parentId": 77}),
        (391, None, {"tif": "GTD", "goodTillDate": "soon"}),
        (10243, OPTION, {"totalQuantity": 1.5}),
        (10052, None, {"tif": "WEEK"}),
        (10268, None, {"eTradeOnly": 1}),
    ],
)
def test_what_the_gateway_refuses(
    broker: Broker, code: int, contract: Contract | None, sent: dict[str, Any]
) -> None:
    assert broker.place(1, contract or APPLE, **sent) is None
    assert broker.go() == [f"1 error {code}"]
    assert broker.engine.book.orders == []


def test_the_broker_rejects_what_the_account_cannot_carry(broker: Broker) -> None:
    order = broker.place(1, totalQuantity=100_000)
    assert order is not None
    assert broker.go() == ["1 PendingSubmit 0", "1 error 201", "1 Inactive 0"]
    broker.engine.cancel(1, 1, broker.at)
    assert broker.go() == ["1 error 161"]


def test_order_ids_are_used_once(broker: Broker) -> None:
    broker.place(5)
    broker.go()
    broker.place(5)
    broker.place(4)
    assert broker.go() == ["5 error 104", "4 error 103"]
    assert broker.engine.book.next_order_id(1) == 6
    broker.place(1, client=2)
    assert "1 Filled 100" in broker.go()


def test_cancelling_says_why_it_cannot(broker: Broker) -> None:
    broker.place(1)
    broker.go()
    broker.engine.cancel(1, 1, broker.at)
    broker.engine.cancel(1, 9, broker.at)
    assert broker.go() == ["1 error 10148", "9 error 10147"]


def test_global_cancel_takes_every_clients_orders(broker: Broker) -> None:
    first = broker.place(1, orderType="LMT", lmtPrice=50)
    second = broker.place(1, client=2, orderType="LMT", lmtPrice=50)
    broker.engine.cancel_all(broker.at)
    assert first is not None
    assert second is not None
    assert first.status is second.status is Status.CANCELLED


def test_several_accounts_need_one_to_be_named() -> None:
    broker = Broker(("DU1", "DU2"))
    broker.place(1)
    assert broker.go() == ["1 error 435"]
    broker.place(2, account="DU2")
    broker.go()
    assert broker.ledger.accounts["DU2"].held(265598) == 100
    assert broker.ledger.accounts["DU1"].held(265598) == 0


def test_withheld_fills_come_later(broker: Broker) -> None:
    broker.place(1)
    broker.engine.advance(broker.at + 1, fills=False)
    assert broker.diary.take()[-1] == "1 Submitted 0"
    assert "1 Filled 100" in broker.go(2)


def test_an_order_touched_while_the_clock_was_wound_fills(broker: Broker) -> None:
    broker.place(1, contract=EURO, orderType="LMT", lmtPrice=100.5, totalQuantity=500)
    assert "1 Filled 500" in broker.go(3600)


def test_identifiers_look_like_the_brokers_and_never_repeat(broker: Broker) -> None:
    for order_id in range(1, 4):
        broker.place(order_id)
    broker.go()
    ids = [execution.exec_id for execution in broker.engine.book.executions]
    assert len(set(ids)) == 3
    assert all(len(each) == 23 and each.endswith(".01.01") for each in ids)
    later = Identifiers(broker.at + 1, 1)
    assert later.exec_id() not in ids
    assert later.perm_id() not in {order.perm_id for order in broker.engine.book.orders}


def test_at_night_a_stock_trades_at_the_overnight_venue_alone() -> None:
    market = Market(Catalog(), 1, "exchange")
    night, day = replace(APPLE, exchange="OVERNIGHT"), APPLE
    moments = {text: eastern(f"2026-11-{text}") for text in ("24 02:00", "24 03:55", "24 10:00")}
    assert [market.phase(night, each).name for each in moments.values()] == [
        "REGULAR",
        "CLOSED",
        "CLOSED",
    ]
    assert market.phase(day, moments["24 02:00"]).name == "CLOSED"
    evening = eastern("2026-11-24 12:00")
    assert market.next_open(night, evening) == eastern("2026-11-24 20:00")
    assert market.day_end(night, evening, outside=False) == eastern("2026-11-25 03:50")
    friday = eastern("2026-11-27 12:00")  # Friday: the next night is Sunday's
    assert market.next_open(night, friday) == eastern("2026-11-29 20:00")


@pytest.mark.parametrize(
    ("sent", "code"), [({"orderType": "MKT"}, 387), ({"orderType": "LMT", "tif": "GTC"}, 10052)]
)
def test_the_overnight_venue_takes_limit_orders_for_the_night(
    broker: Broker, sent: dict[str, Any], code: int
) -> None:
    broker.place(1, replace(APPLE, exchange="OVERNIGHT"), lmtPrice=90, **sent)
    assert broker.diary.take() == [f"1 error {code}"]
    assert broker.place(2, replace(APPLE, exchange="OVERNIGHT"), orderType="LMT", lmtPrice=90)

"""Orders of other clients, as they are shown and cancelled, over a broker in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import structs

from bridge.model import OpenOrder, Order, OrderState, OrderStatus
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderNotOpenError,
    OrderPendingError,
    UnknownOrderError,
)
from bridge.orders.other_clients import Other, OtherClientsOrders, _record, _view
from bridge.store.orders import State, Status
from bridge.tws.errors import NotConnectedError, OrderRefusedError
from bridge.tws.gateway import Gateway
from tests.bridge.orders.fake_broker import BookedOrder, FakeBroker
from tests.bridge.orders.order_rig import CALLER, Rig, opened
from tests.bridge.orders.samples import AAPL, NOON

THEIRS = 7


def theirs(**changes: Any) -> Order:
    fields: dict[str, Any] = {
        "order_id": 3,
        "perm_id": 555,
        "client_id": THEIRS,
        "account": "DU1234567",
        "action": "SELL",
        "quantity": 4.0,
        "order_type": "LMT",
        "limit_price": 9.5,
        "order_ref": "their-word",
    }
    return Order(**(fields | changes))


def other(word: str = "Submitted", last: OrderStatus | None = None, **changes: Any) -> Other:
    order = theirs(**changes)
    state = OrderState(status=word, warning_text="it rests")
    return Other(OpenOrder(order_id=order.order_id, contract=AAPL, order=order, state=state), last)


def last(word: str, filled: float = 0.0, price: float = 0.0) -> OrderStatus:
    return OrderStatus(
        order_id=3, status=word, filled=filled, remaining=4.0 - filled,
        average_fill_price=price, perm_id=555, client_id=THEIRS,
    )  # fmt: skip


def test_as_it_was_listed() -> None:
    record = _record(other(filled_quantity=1.0), NOON)
    assert (record.id, record.group_id, record.role) == ("perm-555", "perm-555", "other")
    assert (record.state, record.status) == (State.ACKNOWLEDGED, Status.SUBMITTED)
    assert (record.filled, record.average_price, record.notional) == (1.0, None, 0.0)
    assert (record.client_id, record.broker_order_id, record.perm_id) == (THEIRS, 3, 555)
    assert (record.warning, record.ended_at, record.created_at) == ("it rests", None, NOON)
    assert record.terms.limit_price == 9.5


def test_its_last_status_outranks_the_list() -> None:
    record = _record(other(last=last("Filled", 4.0, 9.6), filled_quantity=1.0), NOON)
    assert (record.state, record.status) == (State.TERMINAL, Status.FILLED)
    assert (record.filled, record.average_price, record.ended_at) == (4.0, 9.6, NOON)
    assert _record(other(last=last("Submitted", 0.0)), NOON).average_price is None
    assert _record(other("Odd"), NOON).status is Status.UNKNOWN
    assert _record(other(filled_quantity=None), NOON).filled == 0.0


@pytest.mark.parametrize(
    ("kind", "price", "shown"),
    [
        *(("LMT", 0.0, 0.0), ("LMT", 9.5, 9.5), ("MKT", 0.0, None), ("MKT", 5.0, None)),
        *(("REL", 0.0, None), ("REL", 5.0, 5.0), ("Odd", 5.0, None)),
    ],
)
def test_where_there_is_no_limit_the_broker_says_zero(
    kind: str, price: float, shown: float | None
) -> None:
    record = _record(other(order_type=kind, limit_price=price), NOON)
    assert record.terms.limit_price == shown


def test_what_is_shown_says_where_to_change_it() -> None:
    working, ended = _view(other(), NOON), _view(other("Cancelled"), NOON)
    assert working.created_at is None
    assert "scope admin cancels it" in (working.next_step or "")
    assert ended.next_step is None


@asynccontextmanager
async def rig(folder: Path, **changes: Any) -> AsyncIterator[tuple[Rig, OtherClientsOrders]]:
    """A bridge whose broker has an order of another client's in its book."""
    broker = FakeBroker()
    async with opened(folder, broker) as found:
        broker.book[3] = BookedOrder(theirs(**changes), AAPL)
        orders = found.services[OtherClientsOrders]
        orders.answer_seconds = 5.0
        yield found, orders


def borrowing(broker: FakeBroker, asked: list[int]) -> Callable[[int], Any]:
    @asynccontextmanager
    async def borrow(client_id: int) -> AsyncIterator[Gateway]:
        asked.append(client_id)
        yield cast("Gateway", broker)

    return borrow


async def test_those_of_others_are_listed_and_ours_are_not(tmp_path: Path) -> None:
    async with rig(tmp_path) as (found, orders):
        ours = await found.place(limit_price=99.0)
        assert [each.order_id for each in await orders.listed()] == ["perm-555"]
        assert [each.perm_id for each in await orders.records()] == [555]
        assert (await orders.order(555)).order_id == "perm-555"
        with pytest.raises(UnknownOrderError, match="perm-556"):
            await orders.order(556)
        book = found.broker.book
        book[3].order = structs.replace(book[3].order, perm_id=0)
        assert await orders.listed() == (), "one without a number cannot be named"
        own = next(each for number, each in book.items() if number != 3)
        book[3].order = structs.replace(
            book[3].order, perm_id=556, client_id=found.broker.client_id
        )
        assert len(await orders.listed()) == 1, "by hand of ours, but none that we wrote down"
        book[3].order = structs.replace(book[3].order, order_ref=own.order.order_ref)
        assert await orders.listed() == ()
        assert ours.order_id


async def test_one_is_cancelled_under_its_clients_id(tmp_path: Path) -> None:
    asked: list[int] = []
    async with rig(tmp_path) as (found, orders):
        orders.borrow = borrowing(found.broker, asked)
        view = await orders.cancel(555, CALLER)
        assert (view.order_id, view.status) == ("perm-555", "Cancelled")
        assert asked == [THEIRS]
        assert found.broker.wire == [("cancel", 3)]
        orders.borrow = None
        found.broker.book[3].status = "Submitted"
        with pytest.raises(NotConnectedError, match="client id 7"):
            await orders.cancel(555, CALLER)


@pytest.mark.parametrize(("client_id", "number"), [(0, 3), (0, 0), (THEIRS, 0)])
async def test_one_without_a_number_gets_it_on_being_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client_id: int, number: int
) -> None:
    async with rig(tmp_path, client_id=client_id) as (found, orders):
        broker = found.broker
        orders.borrow = borrowing(broker, [])
        row = broker.book[3].shown()
        broker.book[3].shown = lambda: structs.replace(row, order_id=number)  # type: ignore[method-assign]
        lists: list[list[OpenOrder]] = [[structs.replace(row, order_id=0)]]

        async def open_orders(*, timeout: float = 10.0) -> tuple[OpenOrder, ...]:
            return tuple(lists[0])

        monkeypatch.setattr(broker, "open_orders", open_orders, raising=False)
        with pytest.raises(ChangeRejectedError, match="no number to cancel it by"):
            await orders.cancel(555, CALLER)
        stranger = structs.replace(row.order, perm_id=7)
        lists[0] = [structs.replace(row, order=stranger, order_id=9), row]
        assert (await orders.cancel(555, CALLER)).status == "Cancelled"
        assert broker.wire == [("cancel", 3)]


async def test_what_the_broker_says_to_a_cancel(tmp_path: Path) -> None:
    async with rig(tmp_path) as (found, orders):
        broker = found.broker
        orders.borrow = borrowing(broker, [])
        broker.quiet = True
        loop = asyncio.get_running_loop()

        def says(*what: tuple[Any, Any]) -> None:
            broker.book[3].status = "Submitted"
            real = FakeBroker.cancel_order

            async def cancel_order(order_id: int) -> None:
                await real(broker, order_id)
                for event, said in what:
                    loop.call_soon(event.emit, *said)

            broker.cancel_order = cancel_order  # type: ignore[method-assign]

        status, error = broker.events.order_status, broker.events.order_error
        no = OrderRefusedError("no", broker_code=10147, broker_text="it is not found")
        warned = OrderRefusedError("hm", broker_code=2109, broker_text="a warning")
        stranger = structs.replace(last("Cancelled"), perm_id=7)
        says(
            (status, (stranger,)),
            (status, (last("Submitted"),)),
            (error, (9, no)),
            (error, (3, warned)),
            (error, (3, no)),
            (status, (last("Cancelled"),)),
        )
        with pytest.raises(ChangeRejectedError, match="10147: it is not found") as refused:
            await orders.cancel(555, CALLER)
        assert refused.value.extra["brokerCode"] == 10147
        says((status, (last("Filled", 4.0),)))
        with pytest.raises(OrderNotOpenError, match="is Filled already"):
            await orders.cancel(555, CALLER)
        orders.answer_seconds = 0.05
        says()
        with pytest.raises(OrderPendingError, match="has not answered in time"):
            await orders.cancel(555, CALLER)

"""Values that the tests of this folder share."""

from datetime import UTC, datetime, timedelta
from typing import Any

from bridge.model import (
    CommissionReport,
    Contract,
    Execution,
    OpenOrder,
    Order,
    OrderState,
    OrderStatus,
)
from bridge.store.orders import OrderRecord

NOON = datetime(2026, 2, 13, 17, 0, tzinfo=UTC)
AAPL = Contract(con_id=265598, symbol="AAPL", sec_type="STK", exchange="SMART", currency="USD")


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def record(**changes: Any) -> OrderRecord:
    number = changes.get("broker_order_id", 7)
    fields: dict[str, Any] = {
        "id": f"o{number}",
        "order_ref": f"gw-{number}",
        "key_digest": "k" * 64,
        "role": "single",
        "group_id": f"o{number}",
        "parent_id": None,
        "api_key_id": "phone",
        "account": "DU1234567",
        "symbol": "AAPL",
        "contract": AAPL,
        "terms": Order(
            order_id=number,
            client_id=17,
            quantity=10.0,
            limit_price=100.0,
            order_ref=f"gw-{number}",
        ),
        "client_id": 17,
        "broker_order_id": number,
        "notional": 1000.0,
        "created_at": NOON,
        "updated_at": NOON,
    }
    return OrderRecord(**(fields | changes))


def status(word: str, filled: float = 0.0, **changes: Any) -> OrderStatus:
    fields: dict[str, Any] = {
        "order_id": 7,
        "status": word,
        "filled": filled,
        "remaining": 10.0 - filled,
        "perm_id": 900,
        "client_id": 17,
        "average_fill_price": 99.5 if filled else 0.0,
    }
    return OrderStatus(**(fields | changes))


def open_order(word: str, terms: Order | None = None, **state: Any) -> OpenOrder:
    order = terms or Order(
        order_id=7, client_id=17, perm_id=900, quantity=10.0, limit_price=100.0, order_ref="gw-7"
    )
    return OpenOrder(
        order_id=order.order_id, contract=AAPL, order=order, state=OrderState(status=word, **state)
    )


def execution(number: int = 1, quantity: float = 10.0, **changes: Any) -> Execution:
    fields: dict[str, Any] = {
        "exec_id": f"{number:08x}.6553d8a1.01.01",
        "time": at(number),
        "contract": AAPL,
        "account": "DU1234567",
        "side": "BOT",
        "quantity": quantity,
        "price": 99.5,
        "perm_id": 900,
        "client_id": 17,
        "order_id": 7,
        "order_ref": "gw-7",
        "cumulative_quantity": quantity,
        "average_price": 99.5,
    }
    return Execution(**(fields | changes))


def commission(number: int = 1, amount: float = 1.0, **changes: Any) -> CommissionReport:
    fields: dict[str, Any] = {
        "exec_id": f"{number:08x}.6553d8a1.01.01",
        "commission": amount,
        "currency": "USD",
    }
    return CommissionReport(**(fields | changes))

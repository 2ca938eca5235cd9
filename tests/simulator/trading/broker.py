"""A broker with a market that a test sets by hand, and a listener that writes everything down."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from simulator.contracts.contract import Contract, legs_of
from simulator.market.market import Market, Phase, Quote, combined_quote
from simulator.trading.engine import Engine
from simulator.trading.ledger import Ledger
from simulator.trading.order import Identifiers
from simulator.trading.terms import Terms
from simulator.trading.timing import EASTERN

if TYPE_CHECKING:
    from simulator.trading.ledger import Preview
    from simulator.trading.order import Execution, Order


APPLE = Contract(
    265598, "AAPL", "STK", primary_exchange="NASDAQ", local_symbol="AAPL", trading_class="NMS"
)
FUTURE = Contract(
    *(495512552, "ES", "FUT", "USD", "CME"), expiry="20261218", multiplier="50", min_tick=0.25
)
OPTION = Contract(
    *(700000001, "AAPL", "OPT"),
    trading_class="AAPL",
    expiry="20261218",
    strike=200.0,
    right="C",
    multiplier="100",
)
INDEX = Contract(416904, "SPX", "IND", exchange="CBOE")
EURO = Contract(12087792, "EUR", "CASH", exchange="IDEALPRO", min_tick=0.00005)


def eastern(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d %H:%M").replace(tzinfo=EASTERN).timestamp()


class HandMarket(Market):
    """Regular hours 09:30-16:00, extended 04:00-20:00, Monday to Friday."""

    def __init__(self) -> None:
        self.quotes: dict[int, Quote] = {}

    def quote(self, contract: Contract, at: float) -> Quote:
        if legs_of(contract):
            return combined_quote(self, contract, at)
        return self.quotes.get(contract.con_id, Quote(99.99, 100.01, 100.0, 1000, 1000))

    def phase(self, contract: Contract, at: float) -> Phase:
        now = datetime.fromtimestamp(at, EASTERN)
        clock = now.hour * 60 + now.minute
        if now.weekday() > 4 or not 240 <= clock < 1200:
            return Phase.CLOSED
        return Phase.REGULAR if 570 <= clock < 960 else Phase.EXTENDED

    def _next(self, at: float, hour: int, minute: int) -> float:
        moment = datetime.fromtimestamp(at, EASTERN).replace(
            hour=hour, minute=minute, second=0, microsecond=0
        )
        while moment.timestamp() <= at or moment.weekday() > 4:
            moment += timedelta(days=1)
        return moment.timestamp()

    def next_open(self, contract: Contract, at: float) -> float:
        return self._next(at, 9, 30)

    def next_close(self, contract: Contract, at: float) -> float:
        return self._next(at, 16, 0)

    def day_end(self, contract: Contract, at: float, *, outside: bool) -> float:
        return self._next(at, 20, 0) if outside else self._next(at, 16, 0)

    def midnight(self, at: float) -> float:
        now = datetime.fromtimestamp(at, EASTERN)
        return now.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()

    def rate(self, currency: str, at: float) -> float:
        return 1.1


@dataclass
class Diary:
    """Everything that a gateway would send, as short lines."""

    lines: list[str] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    executions: list[Execution] = field(default_factory=list)

    def order_shown(self, order: Order) -> None:
        held = f" ({order.why_held})" if order.why_held else ""
        self.lines.append(f"{order.order_id} {order.status.value} {order.filled:g}{held}")

    def status_changed(self, order: Order) -> None:
        self.order_shown(order)

    def executed(self, execution: Execution) -> None:
        self.executions.append(execution)
        self.lines.append(
            f"{execution.order.order_id} {execution.side} "
            f"{execution.quantity:g} @ {execution.price:g}"
        )

    def commissioned(self, execution: Execution) -> None:
        self.lines.append(f"{execution.order.order_id} fee {execution.commission:g}")

    def account_changed(self, account: str) -> None:
        self.lines.append(f"account {account}")

    def previewed(self, order: Order, preview: Preview) -> None:
        self.previews.append(preview)

    def message(self, client_id: int, order_id: int, code: int, text: str) -> None:
        self.lines.append(f"{order_id} error {code}")

    def take(self) -> list[str]:
        taken, self.lines = self.lines, []
        return taken


def terms(**sent: Any) -> Terms:
    """The terms of a placeOrder with these fields; a market order to buy 100 shares for the day."""
    values = {"action": "BUY", "totalQuantity": "100", "orderType": "MKT", "tif": "DAY"}
    values |= {"transmit": "1", **{name: str(value) for name, value in sent.items()}}
    return Terms.read(values)


class Broker:
    """Client 1 at a broker, on a Monday at ten."""

    def __init__(self, accounts: tuple[str, ...] = ("DU1",)) -> None:
        self.at = eastern("2026-11-23 10:00")
        self.market = HandMarket()
        self.diary = Diary()
        self.ledger = Ledger(accounts, self.market, self.at)
        self.engine = Engine(
            self.market, self.ledger, Identifiers(self.at, 1), self.diary, accounts
        )

    def place(
        self, order_id: int, contract: Contract = APPLE, client: int = 1, **sent: Any
    ) -> Order | None:
        return self.engine.place(client, order_id, contract, terms(**sent), self.at)

    def go(self, seconds: float = 0.1) -> list[str]:
        """Let time pass, and give what was said since the last time."""
        self.at += seconds
        self.engine.advance(self.at)
        return self.diary.take()

    def price(self, bid: float, ask: float, contract: Contract = APPLE, size: float = 1000) -> None:
        self.market.quotes[contract.con_id] = Quote(bid, ask, (bid + ask) / 2, size, size)

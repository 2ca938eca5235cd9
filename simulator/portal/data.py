"""What the Web API tells of the broker's data: accounts, orders, trades, contracts, prices.

The shapes are those of its public documents, over the same book, ledger and market as the TWS API
has.  Only the calls that the bridge passes through are here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from simulator.clock import EASTERN
from simulator.contracts.details import describe
from simulator.market import bars
from simulator.market.calendar import Span, day_of
from simulator.tws.account_messages import summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulator.contracts.contract import Contract
    from simulator.http import Request
    from simulator.trading.ledger import Position
    from simulator.trading.order import Execution, Order
    from simulator.tws.trading import Trading
    from simulator.world import World

PAGE = 30
"""Positions on a page."""
SNAPSHOT = {"31": "last", "84": "bid", "86": "ask", "85": "ask_size", "88": "bid_size"}
"""Field of a snapshot -> what it is of a quote."""
UNITS = {"min": ("S", 60), "h": ("S", 3600), "d": ("D", 1), "w": ("W", 1), "m": ("M", 1)}
UNITS["y"] = ("Y", 1)
Answer = tuple[int, Any]


def refused(status: int, text: str) -> Answer:
    """An error with its status."""
    return status, {"error": text, "statusCode": status}


class PortalData:
    """Answers the data calls below `/v1/api`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._fixed: dict[str, Callable[[Request], Answer]] = {
            "/iserver/account/orders": self._orders,
            "/iserver/account/trades": self._trades,
            "/iserver/account/pnl/partitioned": self._profit,
            "/iserver/marketdata/snapshot": self._snapshot,
            "/iserver/marketdata/history": self._history,
            "/iserver/secdef/search": self._search,
            "/trsrv/secdef": self._definitions,
            "/trsrv/stocks": self._stocks,
            "/portfolio/subaccounts": lambda _: (200, [{"id": each} for each in world.accounts]),
        }

    def answer(self, endpoint: str, request: Request) -> Answer | None:
        """Status and body; None when this is no data call."""
        if request.method != "GET":
            return None
        if endpoint in self._fixed:
            return self._fixed[endpoint](request)
        match endpoint.strip("/").split("/"):
            case ["iserver", "contract", number, "info"]:
                return self._info(number)
            case ["portfolio", account, what, *rest] if unquote(account) in self.world.accounts:
                return self._portfolio(unquote(account), what, rest)
            case ["portfolio", _, "summary" | "ledger" | "positions" | "position", *_]:
                return refused(400, "Bad Request: invalid account")
        return None

    # parts of the world

    @property
    def _trading(self) -> Trading:
        trading = self.world.trading
        if trading is None:
            raise LookupError("nothing trades here")
        return trading

    def _contract(self, text: str) -> Contract | None:
        number = int(text) if text.isdecimal() and len(text) < 12 else 0
        return self.world.catalog.by_id(number)

    # orders and trades

    def _orders(self, _: Request) -> Answer:
        orders = [each for each in self._trading.engine.book.orders if each.transmitted]
        return 200, {"orders": [self._order(each) for each in orders[-200:]], "snapshot": True}

    def _order(self, order: Order) -> dict[str, Any]:
        return {
            "acct": order.account,
            "account": order.account,
            "conid": order.contract.con_id,
            "orderId": order.perm_id,
            "cashCcy": order.contract.currency,
            "ticker": order.contract.symbol,
            "secType": order.contract.sec_type,
            "listingExchange": order.contract.primary_exchange or order.contract.exchange,
            "remainingQuantity": order.remaining,
            "filledQuantity": order.filled,
            "totalSize": order.quantity,
            "side": order.terms.action,
            "orderType": order.terms.order_type,
            "origOrderType": order.terms.order_type,
            "price": "" if order.limit is None else f"{order.limit}",
            "avgPrice": f"{order.average_price}",
            "timeInForce": order.terms.tif or "DAY",
            "status": order.status.value,
            "order_ref": order.terms.order_ref,
            "lastExecutionTime_r": int((order.completed_at or order.placed_at) * 1000),
        }

    def _trades(self, request: Request) -> Answer:
        text = request.query.get("days", "1")
        days = min(int(text), 7) if text.isdecimal() and len(text) < 4 else 1
        since = self.world.clock.time() - 86_400.0 * days
        found = [each for each in self._trading.engine.book.executions if each.at >= since]
        return 200, [self._trade(each) for each in found]

    def _trade(self, fill: Execution) -> dict[str, Any]:
        when = datetime.fromtimestamp(fill.at, UTC)
        return {
            "execution_id": fill.exec_id,
            "symbol": fill.contract.symbol,
            "side": "B" if fill.side == "BOT" else "S",
            "order_ref": fill.order.terms.order_ref,
            "trade_time": f"{when:%Y%m%d-%H:%M:%S}",
            "trade_time_r": int(fill.at * 1000),
            "size": fill.quantity,
            "price": f"{fill.price}",
            "exchange": fill.exchange,
            "commission": f"{fill.commission}",
            "net_amount": round(
                fill.quantity * fill.price * float(fill.contract.multiplier or 1), 6
            ),
            "account": fill.order.account,
            "accountCode": fill.order.account,
            "conid": fill.contract.con_id,
            "sec_type": fill.contract.sec_type,
        }

    def _profit(self, _: Request) -> Answer:
        ledger, now = self._trading.ledger, self.world.clock.time()
        found = {}
        for name, account in ledger.accounts.items():
            profit, funds = ledger.profit(account, now), ledger.funds(account, now)
            found[f"{name}.Core"] = {
                "rowType": 1,
                "dpl": round(profit.daily, 2),
                "upl": round(profit.unrealized, 2),
                "nl": round(funds.equity, 2),
                "el": round(funds.equity - funds.maintenance, 2),
            }
        return 200, {"upnl": found}

    # contracts and prices

    def _snapshot(self, request: Request) -> Answer:
        texts = [each for each in request.query.get("conids", "").split(",") if each]
        if not texts:
            return refused(400, "Bad Request: conids are missing")
        wanted = [each for each in request.query.get("fields", "31,84,86").split(",") if each]
        now, rows = self.world.clock.time(), []
        for text in texts:
            contract = self._contract(text)
            if contract is None:
                return refused(400, f"Bad Request: unknown conid {text}")
            quote = self.world.market.quote(contract, now)
            row: dict[str, Any] = {"conid": contract.con_id, "conidEx": text}
            row |= {"_updated": int(now * 1000), "server_id": "q0", "6509": "RpB"}
            for each in wanted:
                if each == "55":
                    row[each] = contract.symbol
                elif each in SNAPSHOT:
                    row[each] = f"{getattr(quote, SNAPSHOT[each]):g}"
            rows.append(row)
        return 200, rows

    def _history(self, request: Request) -> Answer:
        contract = self._contract(request.query.get("conid", ""))
        if contract is None:
            return refused(400, "Bad Request: unknown conid")
        size = _size(request.query.get("bar", "5min"))
        stretch = self._stretch(contract, request)
        if size is None or stretch is None:
            return refused(400, "Bad Request: period or bar is invalid")
        if (stretch.end - stretch.start) / size > 50_000:
            return refused(400, "Bad Request: too many bars")
        kind = "TRADES" if contract.kind in ("STK", "OPT", "FUT", "IND") else "MIDPOINT"
        liquid = request.query.get("outsideRth", "false") != "true"
        found = bars.bars(self.world.market, contract, kind, size, stretch, liquid=liquid)
        shown = [
            {"t": int(each.start * 1000), "o": each.open, "c": each.close, "h": each.high}
            | {"l": each.low, "v": max(each.volume, 0.0)}
            for each in list(found)[-1000:]
        ]
        start = datetime.fromtimestamp(stretch.start, EASTERN)
        head = {"symbol": contract.symbol, "text": contract.symbol, "priceFactor": 100}
        head |= {"startTime": f"{start:%Y%m%d-%H:%M:%S}", "barLength": int(size)}
        return 200, head | {"points": max(len(shown) - 1, 0), "data": shown}

    def _stretch(self, contract: Contract, request: Request) -> Span | None:
        now = self.world.clock.time()
        number, unit = _split(request.query.get("period", "1d"))
        end = bars.parse_end(request.query.get("startTime", ""), now)
        if unit not in UNITS or not 0 < number <= 1000 or end is None:
            return None
        letter, factor = UNITS[unit]
        liquid = request.query.get("outsideRth", "false") != "true"
        end = min(end, now)
        market = self.world.market
        start = bars.start_of(market, contract, end, number * factor, letter, liquid=liquid)
        return Span(start, end)

    def _info(self, text: str) -> Answer:
        contract = self._contract(text)
        if contract is None:
            return refused(400, f"Bad Request: unknown conid {text[:20]}")
        about = describe(self.world.catalog, contract, day_of(self.world.clock.time()))
        return 200, {
            "con_id": contract.con_id,
            "symbol": contract.symbol,
            "instrument_type": contract.sec_type,
            "currency": contract.currency,
            "exchange": contract.exchange,
            "valid_exchanges": about["valid_exchanges"],
            "local_symbol": contract.local_symbol,
            "trading_class": contract.trading_class,
            "company_name": about["long_name"],
            "industry": about["industry"],
            "category": about["category"],
            "multiplier": contract.multiplier or None,
            "maturity_date": contract.expiry or None,
            "contract_month": about["contract_month"] or None,
            "underlying_con_id": contract.under_id,
            "r_t_h": True,
            "text": None,
        }

    def _search(self, request: Request) -> Answer:
        pattern = request.query.get("symbol", "")
        if not pattern:
            return refused(400, "Bad Request: symbol is missing")
        rows = []
        for each in self.world.catalog.matching(pattern):
            contract = each.contract
            kinds = [contract.sec_type]
            kinds += ["OPT"] if self.world.catalog.classes_on(contract.con_id) else []
            rows.append(
                {
                    "conid": str(contract.con_id),
                    "companyHeader": f"{each.name} - {contract.primary_exchange}",
                    "companyName": each.name,
                    "symbol": contract.symbol,
                    "description": contract.primary_exchange or contract.exchange,
                    "sections": [{"secType": kind} for kind in kinds],
                }
            )
        return 200, rows

    def _definitions(self, request: Request) -> Answer:
        rows = []
        for text in request.query.get("conids", "").split(","):
            contract = self._contract(text)
            if contract:
                about = describe(self.world.catalog, contract, day_of(self.world.clock.time()))
                rows.append(
                    {
                        "conid": contract.con_id,
                        "currency": contract.currency,
                        "name": about["long_name"],
                        "assetClass": contract.sec_type,
                        "expiry": contract.expiry or None,
                        "ticker": contract.symbol,
                        "strike": f"{contract.strike:g}",
                        "multiplier": contract.size if contract.multiplier else 0.0,
                        "listingExchange": contract.primary_exchange or contract.exchange,
                    }
                )
        return 200, {"secdef": rows}

    def _stocks(self, request: Request) -> Answer:
        found: dict[str, Any] = {}
        for symbol in filter(None, request.query.get("symbols", "").upper().split(",")):
            rows = [
                {
                    "name": each.name,
                    "assetClass": "STK",
                    "contracts": [
                        {
                            "conid": each.contract.con_id,
                            "exchange": each.contract.primary_exchange,
                            "isUS": each.contract.currency == "USD",
                        }
                    ],
                }
                for each in self.world.catalog.instruments.values()
                if each.contract.sec_type == "STK" and each.contract.symbol == symbol
            ]
            found[symbol] = rows
        return 200, found

    # portfolio

    def _portfolio(self, name: str, what: str, rest: list[str]) -> Answer | None:
        ledger, now = self._trading.ledger, self.world.clock.time()
        account = ledger.accounts[name]
        if what == "summary" and not rest:
            values = {}
            for tag, value, currency in summary(ledger, account, now):
                amount = float(value) if currency else 0.0
                text = None if currency else value
                values[tag.lower()] = {"amount": amount, "currency": currency or None}
                values[tag.lower()] |= {
                    "isNull": False,
                    "value": text,
                    "timestamp": int(now * 1000),
                }
            return 200, values
        if what == "ledger" and not rest:
            return 200, self._ledger(name)
        held = account.open_positions()
        match what, rest:
            case "positions", [page] if page.isdecimal() and len(page) < 6:
                begin = int(page) * PAGE
                return 200, [self._position(name, each) for each in held[begin : begin + PAGE]]
            case "position", [number]:
                chosen = [each for each in held if str(each.contract.con_id) == number]
                return 200, [self._position(name, each) for each in chosen]
        return None

    def _ledger(self, name: str) -> dict[str, Any]:
        ledger, now = self._trading.ledger, self.world.clock.time()
        account = ledger.accounts[name]
        profit, funds = ledger.profit(account, now), ledger.funds(account, now)
        rows = {}
        for currency, cash in {**account.cash, "BASE": account.cash.get("USD", 0.0)}.items():
            rows[currency] = {
                "currency": currency,
                "cashbalance": round(cash, 2),
                "settledcash": round(cash, 2),
                "exchangerate": 1.0 if currency == "BASE" else round(ledger.rate(currency, now), 6),
                "netliquidationvalue": round(funds.equity if currency == "BASE" else cash, 2),
                "unrealizedpnl": round(profit.unrealized, 2) if currency == "BASE" else 0.0,
                "realizedpnl": round(profit.realized, 2) if currency == "BASE" else 0.0,
                "timestamp": int(now),
            }
        return rows

    def _position(self, name: str, position: Position) -> dict[str, Any]:
        now, contract = self.world.clock.time(), position.contract
        price = self._trading.ledger.price(contract, now)
        return {
            "acctId": name,
            "conid": contract.con_id,
            "contractDesc": contract.local_symbol or contract.symbol,
            "position": position.quantity,
            "mktPrice": price,
            "mktValue": round(position.value(price), 2),
            "currency": contract.currency,
            "avgCost": position.average_cost,
            "avgPrice": position.average_cost / position.multiplier,
            "realizedPnl": round(position.realized, 2),
            "unrealizedPnl": round(position.unrealized(price), 2),
            "assetClass": contract.sec_type,
            "ticker": contract.symbol,
            "expiry": contract.expiry or None,
            "strike": contract.strike,
            "putOrCall": contract.right or None,
            "multiplier": position.multiplier,
        }


def _split(text: str) -> tuple[int, str]:
    digits = text[: len(text) - len(text.lstrip("0123456789"))]
    return (int(digits) if digits and len(digits) < 6 else 0), text[len(digits) :].lower()


def _size(text: str) -> float | None:
    """Seconds of a bar such as `5min`, `1h`, `1d`."""
    number, unit = _split(text)
    name = {"min": "min" if number == 1 else "mins", "h": "hour" if number == 1 else "hours"}
    found = bars.bar_size(f"{number} {name.get(unit, {'d': 'day'}.get(unit, unit))}")
    if unit in ("w", "m"):
        found = bars.bar_size(f"{number}{unit.upper()}")
    return found[1] if found else None

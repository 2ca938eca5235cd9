"""What an agent can call: thin over the bridge's routes, with answers of a bounded length.

The texts here are all that a model is told; together they stay under 8,000 tokens.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import anyio.to_thread
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from infrastructure.errors import GangwayError
from infrastructure.mcp.bridge import BridgeClient, NoAnswerError
from infrastructure.mcp.placing import Placing, refusal

Scope = Literal["read", "trade"]
SecType = Literal["STK", "OPT", "FUT", "CASH", "IND", "CFD", "FOP", "CRYPTO", "BOND", "FUND"]
Symbol = Annotated[str, Field(description="Broker's symbol, e.g. AAPL, BRK B, ES, EUR")]
Time = Annotated[str, Field(description="ISO 8601, UTC if without a zone")]
_HEALTH: Final = (
    *("status", "state", "since", "connected", "tradingMode", "marketDataType", "nextAction"),
    *("needs", "login", "nextRestart", "lastIbErrorMessage", "lastReconnectError"),
)
_BAR: Final = ("time", "open", "high", "low", "close", "volume")


async def in_thread(work: Callable[[], Any]) -> str:
    """The work's result as compact JSON; what a person would be told as the tool's error."""
    try:
        found = await anyio.to_thread.run_sync(work)
    except GangwayError as error:
        raise said(error) from None
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def said(error: GangwayError) -> ToolError:
    """The error as a model is told it: code, message, what to do."""
    parts = [f"{error.code}: {error.message}", error.details, error.hint]
    if isinstance(error, NoAnswerError):
        parts.append("nothing is known of what became of the request")
    return ToolError("; ".join(part for part in parts if part))


def zoned(text: str) -> str:
    """A time without a zone as UTC, which the tools promise; what is no time the bridge refuses."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    return text if moment.tzinfo is not None else moment.replace(tzinfo=UTC).isoformat()


def lean(value: Any) -> Any:
    """Without what is not there: nulls, empty texts and lists."""
    if isinstance(value, dict):
        kept = {name: lean(each) for name, each in value.items()}
        return {name: each for name, each in kept.items() if each not in (None, "", [], {})}
    return [lean(each) for each in value] if isinstance(value, list) else value


class ReadTools:
    """Tools that look and change nothing."""

    def __init__(self, bridge: BridgeClient) -> None:
        self._bridge = bridge

    def _get(self, path: str, **query: Any) -> Any:
        answer = self._bridge.request("GET", path, query=query)
        if answer.status != 200:
            raise refusal(answer)
        return lean(answer.body)

    async def health(self) -> str:
        """Whether orders and data flow now; if not, why, and what a person must do."""

        def work() -> Any:
            found = self._get("/health")
            return {name: found[name] for name in _HEALTH if name in found}

        return await in_thread(work)

    async def find_contracts(
        self, pattern: Annotated[str, Field(description="Beginning of a symbol or name")]
    ) -> str:
        """Search instruments; gives conId and kind."""
        return await in_thread(lambda: self._get("/contracts/search", pattern=pattern))

    async def quotes(
        self, symbols: Annotated[list[str], Field(min_length=1, max_length=50)]
    ) -> str:
        """Quotes of US stocks. Each value has a tag (live, delayed, frozen, stale) and age in s."""
        return await in_thread(lambda: self._get("/quotes", symbols=",".join(symbols)))

    async def quote(
        self,
        symbol: Symbol,
        sec_type: SecType = "STK",
        expiration: str = "",
        strike: float | None = None,
        right: Literal["C", "P"] | None = None,
        exchange: str = "",
        currency: str = "",
        con_id: int = 0,
    ) -> str:
        """Quote of one instrument of any kind, with greeks of an option."""
        from urllib.parse import quote

        query = _instrument(sec_type, expiration, strike, right, exchange, currency, con_id)
        return await in_thread(lambda: self._get(f"/quote/{quote(symbol, safe='')}", **query))

    async def option_chain(
        self, symbol: Symbol, sec_type: SecType = "STK", exchange: str = "", currency: str = ""
    ) -> str:
        """Expirations (with days to expiry) and strikes of an underlying."""
        query = {"secType": sec_type, "exchange": exchange, "currency": currency}
        return await in_thread(lambda: self._get("/options/chain", symbol=symbol, **query))

    async def option_quotes(
        self,
        symbol: Symbol,
        expiration: Annotated[str, Field(description="YYYYMMDD; empty: the nearest")] = "",
        right: Literal["C", "P"] | None = None,
        strike_min: float | None = None,
        strike_max: float | None = None,
        count: Annotated[int, Field(ge=1, le=40, description="Strikes near the money")] = 6,
    ) -> str:
        """Bid, ask, implied volatility, greeks, open interest for a slice of one expiration."""
        query = {"right": right, "strikeMin": strike_min, "strikeMax": strike_max, "count": count}
        return await in_thread(
            lambda: self._get("/options/quotes", symbol=symbol, expiration=expiration, **query)
        )

    async def history(
        self,
        symbol: Symbol,
        duration: Annotated[str, Field(description="'30 D', '6 M', '1 Y', '3600 S'")] = "1 D",
        bar_size: Annotated[str, Field(description="'1 min', '5 mins', '1 hour', '1 day'")] = (
            "5 mins"
        ),
        sec_type: SecType = "STK",
        expiration: str = "",
        strike: float | None = None,
        right: Literal["C", "P"] | None = None,
        exchange: str = "",
        currency: str = "",
        con_id: int = 0,
        what_to_show: Annotated[str, Field(description="TRADES, MIDPOINT, BID, ASK, …")] = "",
        use_rth: Annotated[bool, Field(description="Regular hours only")] = True,
        end: Time = "",
        limit: Annotated[int, Field(ge=1, le=1000, description="The newest bars only")] = 200,
    ) -> str:
        """Price bars, oldest first, as rows under their columns."""
        query = _instrument(sec_type, expiration, strike, right, exchange, currency, con_id)
        query |= {"whatToShow": what_to_show, "useRth": use_rth, "end": zoned(end)}
        query |= {"duration": duration, "barSize": bar_size}

        def work() -> Any:
            found = self._get("/history", symbol=symbol, **query)
            bars = found.pop("bars", [])
            rows = [[bar.get(name) for name in _BAR] for bar in bars[-limit:]]
            return {**found, "count": len(bars), "columns": _BAR, "rows": rows}

        return await in_thread(work)

    async def positions(self, account: str = "") -> str:
        """What is held, with its average cost."""
        return await in_thread(lambda: self._get("/positions", account=account))

    async def account(self, account: str = "") -> str:
        """Net liquidation, cash, buying power and margin of each account."""

        def work() -> Any:
            found = self._get("/account", account=account)
            for each in found.get("accounts", []):
                each.pop("values", None)
            return found

        return await in_thread(work)

    async def pnl(self, account: str = "") -> str:
        """Profit and loss: of the day, unrealized, realized."""
        return await in_thread(lambda: self._get("/pnl", account=account))

    async def executions(
        self,
        since: Time = "",
        until: Time = "",
        symbol: str = "",
        account: str = "",
        cursor: str = "",
        limit: Annotated[int, Field(ge=1, le=200)] = 50,
    ) -> str:
        """Fills with commission and realized profit, oldest first; nextCursor leads on."""
        query = {"since": since, "until": until, "symbol": symbol, "account": account}
        return await in_thread(
            lambda: self._get("/executions", **query, cursor=cursor, limit=limit)
        )

    async def orders(
        self,
        open_only: bool = True,
        cursor: str = "",
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> str:
        """Orders, newest first. One of status Unknown may have been placed: never repeat it."""
        query = {"open": open_only, "cursor": cursor, "limit": limit}
        return await in_thread(lambda: self._get("/orders", **query))


class TradeTools:
    """Orders in two steps, and what takes back."""

    def __init__(self, bridge: BridgeClient, placing: Placing) -> None:
        self._bridge, self._placing = bridge, placing

    async def preview_order(
        self,
        symbol: Symbol,
        action: Literal["BUY", "SELL"],
        quantity: Annotated[float, Field(gt=0)],
        order_type: Annotated[str, Field(description="MKT, LMT, STP, STP_LMT, …")],
        limit_price: float | None = None,
        stop_price: float | None = None,
        tif: Annotated[str, Field(description="DAY, GTC, IOC, …")] = "DAY",
        account: str = "",
        sec_type: SecType | None = None,
        expiration: str = "",
        strike: float | None = None,
        right: Literal["C", "P"] | None = None,
        exchange: str = "",
        currency: str = "",
        con_id: int = 0,
        outside_rth: bool = False,
        take_profit: Annotated[float | None, Field(description="Limit that closes it")] = None,
        stop_loss: Annotated[float | None, Field(description="Stop that closes it")] = None,
        more: Annotated[
            dict[str, Any] | None,
            Field(description="Other fields of the bridge's POST /order, by its names"),
        ] = None,
    ) -> str:
        """Step 1 of 2: margin, commission and broken rules of an order; nothing is sent.

        If accepted it gives `order` and `token` for place_order, valid for 120 s and one order.
        Each new preview is a new order: to retry an order, use its token again.
        """
        body = _instrument(sec_type, expiration, strike, right, exchange, currency, con_id)
        body |= {"symbol": symbol, "action": action, "quantity": quantity, "tif": tif}
        body |= {"orderType": order_type, "limitPrice": limit_price, "stopPrice": stop_price}
        body |= {"account": account, "outsideRth": outside_rth or None}
        body |= {"bracket": _bracket(take_profit, stop_loss)}
        wanted = {name: value for name, value in body.items() if value not in (None, "")}
        if twice := sorted(wanted.keys() & (more or {}).keys()):
            raise ToolError(f"`more` names {', '.join(twice)} a second time")
        return await in_thread(lambda: self._placing.preview({**wanted, **(more or {})}))

    async def cancel_order(self, order_id: str) -> str:
        """Cancel one order of this bridge. It may be a stop that protects a position."""
        from urllib.parse import quote

        return await in_thread(lambda: self._done("DELETE", f"/order/{quote(order_id, safe='')}"))

    async def halt_trading(self, reason: str) -> str:
        """Emergency stop: no order goes out until a person resumes; what opens is cancelled."""
        return await in_thread(lambda: self._done("POST", "/trading/halt", {"reason": reason}))

    def _done(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._bridge.request(method, path, body=body)
        if answer.status != 200:
            raise refusal(answer)
        return lean(answer.body)


def _instrument(
    sec_type: str | None,
    expiration: str,
    strike: float | None,
    right: str | None,
    exchange: str,
    currency: str,
    con_id: int,
) -> dict[str, Any]:
    return {
        "secType": None if con_id and sec_type == "STK" else sec_type,  # a conId says the kind
        "expiration": expiration,
        "strike": strike,
        "right": right,
        "exchange": exchange,
        "currency": currency,
        "conId": con_id or None,
    }


def _bracket(take_profit: float | None, stop_loss: float | None) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    if take_profit is not None:
        found["takeProfit"] = {"limitPrice": take_profit}
    if stop_loss is not None:
        found["stopLoss"] = {"stopPrice": stop_loss}
    return found or None

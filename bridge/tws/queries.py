"""What can be read from a gateway: contracts, history, orders, positions, accounts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from bridge import broker_time, model
from bridge.tws import convert
from bridge.tws.client import execution_filter_object
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.errors import (
    PacingLimitedError,
    UnknownContractError,
    UnreadableAnswerError,
)
from bridge.tws.pacing import HistoryKey, HistoryRules, Lane
from bridge.tws.requester import Requester
from bridge.tws.requests import Key, Kind, market_rule_key

TIME_GAP = 1.1  # the gateway ignores a question for its time within a second of its last answer
SYMBOLS_GAP = 1.05  # and allows one symbol search a second
PROBE_SYMBOL = "IBM"
PROBE_SECONDS = 10.0


class Queries:
    """What a session can be asked; the rules of ``bridge.tws.gateway`` hold for each."""

    def __init__(self, context: ConnectionContext, requester: Requester) -> None:
        self._context = context
        self._requester = requester
        self.history_rules = HistoryRules()
        self._time_answered = self._symbols_asked = context.clock.monotonic() - 60

    async def current_time(self, *, timeout: float = 5.0) -> datetime:
        """The gateway's clock, whole seconds."""
        return await self._requester.together((Kind.CURRENT_TIME,), timeout, self._ask_time)

    def time_gap(self) -> float:
        """How long the gateway would still ignore the question."""
        return max(0.0, self._time_answered + TIME_GAP - self._context.clock.monotonic())

    async def _ask_time(self, timeout: float) -> datetime:
        clock, gap = self._context.clock, self.time_gap()
        self._context.require(upstream=False)
        if gap > 0:
            await clock.sleep(gap)
        answer = await self._requester.by_key(
            Kind.CURRENT_TIME,
            Key.CURRENT_TIME,
            lambda send: send.reqCurrentTime(),
            lane=Lane.ORDER,
            timeout=max(0.05, timeout - gap),
        )
        self._time_answered = clock.monotonic()
        if answer[0] is None:
            raise UnreadableAnswerError("the gateway's clock shows no time")
        moment = datetime.fromtimestamp(answer[0], UTC)
        self._context.gateway_time(moment)
        return moment

    async def contract_details(
        self,
        contract: model.Contract,
        *,
        lane: Lane = Lane.INTERACTIVE,
        timeout: float = 10.0,
    ) -> tuple[model.ContractDetails, ...]:
        """Every contract that fits; none: ``UnknownContractError``."""
        wanted = convert.to_contract(contract)
        found = await self._requester.by_id(
            Kind.CONTRACT_DETAILS,
            lambda send, request_id: send.reqContractDetails(request_id, wanted),
            lane=lane,
            timeout=timeout,
        )
        if not found:
            raise UnknownContractError(f"no contract fits {contract.symbol or contract.con_id}")
        return tuple(found)

    async def matching_symbols(
        self, pattern: str, *, timeout: float = 10.0
    ) -> tuple[model.ContractMatch, ...]:
        """A symbol search (at most 16; the broker allows one a second, so it may queue)."""
        self._context.require()
        clock = self._context.clock
        wait = self._symbols_asked + SYMBOLS_GAP - clock.monotonic()
        if wait > timeout:
            raise PacingLimitedError("one symbol search a second", retry_after=wait)
        self._symbols_asked = clock.monotonic() + max(0.0, wait)
        if wait > 0:
            await clock.sleep(wait)
        return tuple(
            await self._requester.by_id(
                Kind.MATCHING_SYMBOLS,
                lambda send, request_id: send.reqMatchingSymbols(request_id, pattern),
                lane=Lane.INTERACTIVE,
                timeout=timeout - max(0.0, wait),
            )
        )

    async def broker_answers(self) -> None:
        """Returns when the broker itself has answered a symbol search; sent even while it is lost.

        Raises:
            TwsError: it did not, or the gateway refused.
        """
        await self._requester.by_id(
            Kind.UPSTREAM_PROBE,
            lambda send, request_id: send.reqMatchingSymbols(request_id, PROBE_SYMBOL),
            lane=Lane.ORDER,
            timeout=PROBE_SECONDS,
            upstream=False,
        )

    async def option_parameters(
        self, underlying: model.Contract, *, timeout: float = 15.0
    ) -> tuple[model.OptionParameters, ...]:
        """The option chains of a qualified underlying (``con_id`` needed)."""
        exchange = underlying.exchange if underlying.sec_type == "FUT" else ""
        return tuple(
            await self._requester.by_id(
                Kind.OPTION_PARAMETERS,
                lambda send, request_id: send.reqSecDefOptParams(
                    request_id, underlying.symbol, exchange, underlying.sec_type, underlying.con_id
                ),
                lane=Lane.BULK,
                timeout=timeout,
            )
        )

    async def market_rule(
        self, rule_id: int, *, timeout: float = 10.0
    ) -> tuple[model.PriceIncrement, ...]:
        """A price ladder, ascending."""
        return tuple(
            await self._requester.by_key(
                Kind.MARKET_RULE,
                market_rule_key(rule_id),
                lambda send: send.reqMarketRule(rule_id),
                lane=Lane.ORDER,
                timeout=timeout,
            )
        )

    async def historical_bars(
        self, request: model.HistoryRequest, *, timeout: float = 60.0
    ) -> tuple[model.Bar, ...]:
        """Bars, oldest first.

        ``PacingLimitedError`` when the rules need a longer wait than ``timeout`` allows.
        """
        left = timeout - await self._history_turn(request, timeout)
        contract = convert.to_contract(request.contract)
        end = broker_time.written(request.end)
        bars = await self._requester.by_id(
            Kind.HISTORY,
            lambda send, request_id: send.reqHistoricalData(
                request_id,
                contract,
                end,
                request.duration,
                request.bar_size,
                request.what_to_show,
                int(request.use_rth),
                2,
                False,
                [],
            ),
            lane=Lane.BULK,
            timeout=left,
            cancel=lambda send, request_id: send.cancelHistoricalData(request_id),
        )
        return tuple(bars)

    async def _history_turn(self, request: model.HistoryRequest, timeout: float) -> float:
        """Waits until the rules allow it and books it; the seconds that took."""
        clock, contract = self._context.clock, request.contract
        name = (
            f"{contract.con_id}/{contract.symbol}/{contract.sec_type}/{contract.expiration}"
            f"/{contract.strike}/{contract.right}/{contract.exchange}/{request.what_to_show}"
        )
        whole = f"{name}/{request.duration}/{request.bar_size}/{request.use_rth}/{request.end}"
        key = HistoryKey(name, whole, 2 if request.what_to_show == "BID_ASK" else 1)
        begun = clock.monotonic()
        while True:
            self._context.require()
            wait = self.history_rules.wait(key, clock.monotonic())
            if not wait:
                self.history_rules.sent(key, clock.monotonic())
                return clock.monotonic() - begun
            if clock.monotonic() - begun + wait > timeout - 1.0:
                raise PacingLimitedError(
                    f"the broker's history rules need {wait:.0f} s more", retry_after=wait
                )
            await clock.sleep(wait)

    async def open_orders(self, *, timeout: float = 10.0) -> tuple[model.OpenOrder, ...]:
        """The open orders of this client id."""
        return await self._orders(Kind.OPEN_ORDERS, lambda send: send.reqOpenOrders(), timeout)

    async def all_open_orders(
        self, *, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[model.OpenOrder, ...]:
        """The open orders of every client."""
        return await self._orders(
            Kind.ALL_OPEN_ORDERS, lambda send: send.reqAllOpenOrders(), timeout, lane
        )

    async def _orders(
        self,
        kind: Kind,
        write: Callable[[Any], None],
        timeout: float,
        lane: Lane = Lane.ORDER,
    ) -> tuple[model.OpenOrder, ...]:
        found = await self._requester.by_key(
            kind, Key.OPEN_ORDERS, write, lane=lane, timeout=timeout
        )
        # An order may change while the list is on its way: what came last counts.
        latest = {(o.order.client_id, o.order_id, o.order.perm_id): o for o in found}
        return tuple(latest.values())

    async def completed_orders(self, *, timeout: float = 10.0) -> tuple[model.OpenOrder, ...]:
        """The day's orders that are done, whoever placed them.

        Their order ids may be 0: use ``perm_id`` and ``order_ref``.
        """
        return tuple(
            await self._requester.by_key(
                Kind.COMPLETED_ORDERS,
                Key.COMPLETED_ORDERS,
                lambda send: send.reqCompletedOrders(False),
                lane=Lane.ORDER,
                timeout=timeout,
            )
        )

    async def executions(self, *, timeout: float = 15.0) -> tuple[model.Execution, ...]:
        """The day's executions.

        Each also goes through ``events.execution``, commissions through ``events.commission``.
        """
        return tuple(
            await self._requester.by_id(
                Kind.EXECUTIONS,
                lambda send, request_id: send.reqExecutions(request_id, execution_filter_object()),
                lane=Lane.ORDER,
                timeout=timeout,
            )
        )

    async def positions(
        self, *, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[model.Position, ...]:
        """Every account's positions, asked for now.

        From then on the gateway tells of changes, as ``events.position``: to ask is to subscribe,
        for as long as the connection lasts. Orders wait for it, and share it with whoever asks.
        """
        found = await self._requester.by_key(
            Kind.POSITIONS,
            Key.POSITIONS,
            lambda send: send.reqPositions(),
            lane=lane,
            timeout=timeout,
        )
        # One may change while the list is on its way: what came last counts.
        return tuple({(each.account, each.contract.con_id): each for each in found}.values())

    async def what_if(
        self,
        contract: model.Contract,
        order: model.Order,
        *,
        order_id: int | None = None,
        written: Callable[[], None] | None = None,
        timeout: float = 10.0,
    ) -> model.OrderState:
        """Margin and commission of an order that is not placed.

        It takes an order id (a fresh one, if none is given), and the gateway takes ids only in
        rising order: ``written`` is called when it is on the wire.
        """
        wanted, asked = convert.to_contract(contract), convert.to_order(order)
        asked.whatIf, asked.transmit = True, True

        def write(send: Any, number: int) -> None:
            send.placeOrder(number, wanted, asked)
            if written:
                written()

        answer = await self._requester.by_id(
            Kind.WHAT_IF,
            write,
            lane=Lane.ORDER,  # it holds the orders' turn, which no reader may lengthen
            timeout=timeout,
            request_id=self._context.take_order_id() if order_id is None else order_id,
        )
        state: model.OrderState = answer[0]
        return state

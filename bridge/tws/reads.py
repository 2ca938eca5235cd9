"""What can be read from a gateway: contracts, history, orders, positions, accounts."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Any

from bridge import broker_time, model
from bridge.clock import TimerClock
from bridge.tws import convert
from bridge.tws.asking import Asker
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.errors import (
    PacingLimitedError,
    UnknownContractError,
    UnreadableAnswerError,
)
from bridge.tws.pacing import HistoryKey, HistoryRules, Lane
from bridge.tws.requests import CURRENT_TIME

SUMMARY_TAGS = (
    "AccountType,NetLiquidation,TotalCashValue,SettledCash,AccruedCash,BuyingPower,EquityWithLoanValue,"
    "PreviousDayEquityWithLoanValue,GrossPositionValue,RegTEquity,RegTMargin,SMA,InitMarginReq,MaintMarginReq,"
    "AvailableFunds,ExcessLiquidity,Cushion,FullInitMarginReq,FullMaintMarginReq,FullAvailableFunds,"
    "FullExcessLiquidity,LookAheadNextChange,LookAheadInitMarginReq,LookAheadMaintMarginReq,"
    "LookAheadAvailableFunds,LookAheadExcessLiquidity,HighestSeverity,DayTradesRemaining,Leverage"
)
TIME_GAP = 1.1  # the gateway ignores a question for its time within a second of its last answer
SYMBOLS_GAP = 1.05  # and allows one symbol search a second
PROBE_SYMBOL = "IBM"
PROBE_SECONDS = 10.0


class Reads:
    """The reading half of a session; see ``bridge.tws.gateway.Gateway`` for what each promises."""

    def __init__(self, target: Target, clock: TimerClock, random: Random | None = None) -> None:
        self.context = ConnectionContext(target, clock, random)
        self._asker = Asker(self.context)
        self.history_rules = HistoryRules()
        self._time_answered = self._symbols_asked = clock.monotonic() - 60

    async def current_time(self, *, timeout: float = 5.0) -> datetime:
        """The gateway's clock, whole seconds."""
        return await self._asker.together(("currentTime",), timeout, self._ask_time)

    def _time_gap(self) -> float:
        """How long the gateway would still ignore the question."""
        return max(0.0, self._time_answered + TIME_GAP - self.context.clock.monotonic())

    async def _ask_time(self, timeout: float) -> datetime:
        clock, gap = self.context.clock, self._time_gap()
        self.context.require(upstream=False)
        if gap > 0:
            await clock.sleep(gap)
        answer = await self._asker.by_key(
            "currentTime",
            CURRENT_TIME,
            lambda send: send.reqCurrentTime(),
            lane=Lane.ORDER,
            timeout=max(0.05, timeout - gap),
        )
        self._time_answered = clock.monotonic()
        if answer[0] is None:
            raise UnreadableAnswerError("the gateway's clock shows no time")
        moment = datetime.fromtimestamp(answer[0], UTC)
        self.context.gateway_time(moment)
        return moment

    async def contract_details(
        self,
        contract: model.Contract,
        *,
        lane: Lane = Lane.INTERACTIVE,
        timeout: float = 10.0,
    ) -> tuple[model.ContractDetails, ...]:
        """Every contract that fits."""
        wanted = convert.to_contract(contract)
        found = await self._asker.by_id(
            "contractDetails",
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
        """A symbol search."""
        self.context.require()
        clock = self.context.clock
        wait = self._symbols_asked + SYMBOLS_GAP - clock.monotonic()
        if wait > timeout:
            raise PacingLimitedError("one symbol search a second", retry_after=wait)
        self._symbols_asked = clock.monotonic() + max(0.0, wait)
        if wait > 0:
            await clock.sleep(wait)
        return tuple(
            await self._asker.by_id(
                "matchingSymbols",
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
        await self._asker.by_id(
            "upstream-probe",
            lambda send, request_id: send.reqMatchingSymbols(request_id, PROBE_SYMBOL),
            lane=Lane.ORDER,
            timeout=PROBE_SECONDS,
            upstream=False,
        )

    async def option_parameters(
        self, underlying: model.Contract, *, timeout: float = 15.0
    ) -> tuple[model.OptionParameters, ...]:
        """The option chains of a qualified underlying."""
        exchange = underlying.exchange if underlying.sec_type == "FUT" else ""
        return tuple(
            await self._asker.by_id(
                "optionParameters",
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
        """A price ladder."""

        async def ask(left: float) -> tuple[model.PriceIncrement, ...]:
            return tuple(
                await self._asker.by_key(
                    "marketRule",
                    f"market-rule-{rule_id}",
                    lambda send: send.reqMarketRule(rule_id),
                    lane=Lane.INTERACTIVE,
                    timeout=left,
                )
            )

        return await self._asker.together(("marketRule", rule_id), timeout, ask)

    async def historical_bars(
        self, request: model.HistoryRequest, *, lane: Lane = Lane.BULK, timeout: float = 60.0
    ) -> tuple[model.Bar, ...]:
        """Bars, oldest first."""
        left = timeout - await self._history_turn(request, timeout)
        contract = convert.to_contract(request.contract)
        end = broker_time.written(request.end)
        bars = await self._asker.by_id(
            "history",
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
            lane=lane,
            timeout=left,
            cancel=lambda send, request_id: send.cancelHistoricalData(request_id),
        )
        return tuple(bars)

    async def _history_turn(self, request: model.HistoryRequest, timeout: float) -> float:
        """Waits until the rules allow it and books it; the seconds that took."""
        clock, contract = self.context.clock, request.contract
        name = (
            f"{contract.con_id}/{contract.symbol}/{contract.sec_type}/{contract.expiration}"
            f"/{contract.strike}/{contract.right}/{contract.exchange}/{request.what_to_show}"
        )
        whole = f"{name}/{request.duration}/{request.bar_size}/{request.use_rth}/{request.end}"
        key = HistoryKey(name, whole, 2 if request.what_to_show == "BID_ASK" else 1)
        begun = clock.monotonic()
        while True:
            self.context.require()
            wait = self.history_rules.wait(key, clock.monotonic())
            if not wait:
                self.history_rules.sent(key, clock.monotonic())
                return clock.monotonic() - begun
            if clock.monotonic() - begun + wait > timeout - 1.0:
                raise PacingLimitedError(
                    f"the broker's history rules need {wait:.0f} s more", retry_after=wait
                )
            await clock.sleep(wait)

    async def head_timestamp(
        self,
        contract: model.Contract,
        what_to_show: str = "TRADES",
        *,
        use_rth: bool = True,
        timeout: float = 15.0,
    ) -> datetime:
        """The earliest moment with history."""
        wanted = convert.to_contract(contract)
        answer = await self._asker.by_id(
            "headTimestamp",
            lambda send, request_id: send.reqHeadTimeStamp(
                request_id, wanted, what_to_show, use_rth, 2
            ),
            lane=Lane.BULK,
            timeout=timeout,
            cancel=lambda send, request_id: send.cancelHeadTimeStamp(request_id),
        )
        found = convert.parse_moment(answer[0], self.context.target.time_zone)
        if found is None:
            raise UnreadableAnswerError("the gateway names no earliest moment")
        return found

    async def open_orders(
        self, *, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[model.OpenOrder, ...]:
        """The open orders of this client id."""
        return await self._orders("openOrders", lambda send: send.reqOpenOrders(), lane, timeout)

    async def all_open_orders(
        self, *, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[model.OpenOrder, ...]:
        """The open orders of every client."""
        return await self._orders(
            "allOpenOrders", lambda send: send.reqAllOpenOrders(), lane, timeout
        )

    async def _orders(
        self, kind: str, write: Callable[[Any], None], lane: Lane, timeout: float
    ) -> tuple[model.OpenOrder, ...]:
        async def ask(left: float) -> tuple[model.OpenOrder, ...]:
            found = await self._asker.by_key(kind, "open-orders", write, lane=lane, timeout=left)
            # An order may change while the list is on its way: the last word counts.
            return tuple(
                {(o.order.client_id, o.order_id, o.order.perm_id): o for o in found}.values()
            )

        return await self._asker.together((kind,), timeout, ask)

    async def completed_orders(
        self, *, api_only: bool = False, lane: Lane = Lane.ORDER, timeout: float = 10.0
    ) -> tuple[model.OpenOrder, ...]:
        """The day's orders that are done."""

        async def ask(left: float) -> tuple[model.OpenOrder, ...]:
            return tuple(
                await self._asker.by_key(
                    "completedOrders",
                    "completed-orders",
                    lambda send: send.reqCompletedOrders(api_only),
                    lane=lane,
                    timeout=left,
                )
            )

        return await self._asker.together(("completedOrders", api_only), timeout, ask)

    async def executions(
        self,
        query: model.ExecutionFilter | None = None,
        *,
        lane: Lane = Lane.ORDER,
        timeout: float = 15.0,
    ) -> tuple[model.Execution, ...]:
        """The day's executions."""
        wanted = convert.to_filter(query or model.ExecutionFilter())
        return tuple(
            await self._asker.by_id(
                "executions",
                lambda send, request_id: send.reqExecutions(request_id, wanted),
                lane=lane,
                timeout=timeout,
            )
        )

    async def positions(self, *, timeout: float = 10.0) -> tuple[model.Position, ...]:
        """Every account's positions."""

        async def ask(left: float) -> tuple[model.Position, ...]:
            found = await self._asker.by_key(
                "positions",
                "positions",
                lambda send: send.reqPositions(),
                lane=Lane.INTERACTIVE,
                timeout=left,
            )
            wire = self.context.wire
            if wire:  # it is a subscription to the broker; only the list was wanted
                self.context.pacer.submit(Lane.INTERACTIVE, wire.send.cancelPositions)
            return tuple(found)

        return await self._asker.together(("positions",), timeout, ask)

    async def account_summary(
        self, tags: tuple[str, ...] = (), *, group: str = "All", timeout: float = 10.0
    ) -> tuple[model.AccountValue, ...]:
        """An account summary."""
        names = ",".join(tags) or SUMMARY_TAGS

        async def ask(left: float) -> tuple[model.AccountValue, ...]:
            request_id = self.context.requests.new_id()
            found = await self._asker.by_id(
                "accountSummary",
                lambda send, number: send.reqAccountSummary(number, group, names),
                lane=Lane.INTERACTIVE,
                timeout=left,
                cancel=lambda send, number: send.cancelAccountSummary(number),
                request_id=request_id,
            )
            wire = self.context.wire
            if wire:  # at most two of these subscriptions may live at once
                self.context.pacer.submit(
                    Lane.INTERACTIVE, lambda: wire.send.cancelAccountSummary(request_id)
                )
            return tuple(found)

        return await self._asker.together(("accountSummary", group, names), timeout, ask)

    async def what_if(
        self,
        contract: model.Contract,
        order: model.Order,
        *,
        order_id: int | None = None,
        written: Callable[[], None] | None = None,
        timeout: float = 10.0,
    ) -> model.OrderState:
        """Margin and commission of an order that is not placed."""
        wanted, asked = convert.to_contract(contract), convert.to_order(order)
        asked.whatIf, asked.transmit = True, True

        def write(send: Any, number: int) -> None:
            send.placeOrder(number, wanted, asked)
            if written:
                written()

        answer = await self._asker.by_id(
            "what-if",
            write,
            lane=Lane.INTERACTIVE,
            timeout=timeout,
            request_id=self.next_order_id() if order_id is None else order_id,
        )
        state: model.OrderState = answer[0]
        return state

    @property
    def next_valid_id(self) -> int | None:
        """What the gateway named as its next order id when this connection began."""
        return self.context.next_valid_id

    def next_order_id(self) -> int:
        """A fresh order id."""
        following = self.context.next_order_id
        if following is None:
            raise self.context.why_not()
        self.context.next_order_id = following + 1
        return following

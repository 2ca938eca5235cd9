"""Everyone's quotes over the shared market-data lines."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from bridge.callers import BRIDGE, ORDER_CHECKS, Holder
from bridge.clock import Clock, repeat, settle
from bridge.errors import BridgeError, Kind
from bridge.market.contracts import ContractService
from bridge.market.errors import LinesExhaustedError, NoQuoteError
from bridge.market.line_pool import LinePool
from bridge.market.quote_line import LineKey, LineWatcher, QuoteLine, line_key
from bridge.market.quote_values import QuoteSlot
from bridge.market.views import FailedQuote, Notice, Quote, Quotes, quote_view
from bridge.model import Contract
from bridge.tws.connection_state import ConnectionState
from bridge.tws.errors import TwsError
from bridge.tws.gateway import Gateway
from bridge.tws.pacing import Lane

CAPACITY = 100
"""Market-data lines of an account without boosters."""

RESERVED_PERCENT = 10
"""Of the lines: kept for looking at the market before an order is let through."""

FOR_TRADERS_PERCENT = 20
"""Of the lines: kept from keys of scope read."""

ONE_KEY_PERCENT = 60
"""Of the lines: as many as one key below scope admin may hold."""

FIRST_VALUE_SECONDS = 4.0
MAINTENANCE_SECONDS = 1.0
REFUSAL_SECONDS = 10.0
"""A refusal is told again for this long, so that polling does not become a storm of requests."""

FARM_SECONDS = 10.0
"""A farm that is broken for so long no longer serves what has been silent for as long."""

_MEANINGS = {
    10197: "another session of this user holds live market data",
    10167: "no live subscription: the gateway shows delayed data",
}

NO_TERMS: Final[Mapping[str, Any]] = {}


class QuoteService(LineWatcher):
    """Opens, shares and closes lines; answers with what they hold."""

    def __init__(
        self, gateway: Gateway, contracts: ContractService, clock: Clock, capacity: int = CAPACITY
    ) -> None:
        self.pool: LinePool[LineKey] = LinePool(
            capacity,
            clock,
            reserved=capacity * RESERVED_PERCENT // 100,
            for_traders=capacity * FOR_TRADERS_PERCENT // 100,
            one_key=math.ceil(capacity * ONE_KEY_PERCENT / 100),
        )
        self._gateway = gateway
        self._contracts = contracts
        self._clock = clock
        self._lines: dict[LineKey, QuoteLine] = {}
        self._numbered: dict[int, QuoteLine] = {}
        self._further = 0
        self._watchers: list[LineWatcher] = [self]
        self._refusals: dict[LineKey, tuple[float, TwsError]] = {}
        self._broken: dict[str, float] = {}  # data farms, and since when (monotonic)
        self._task: asyncio.Task[None] | None = None
        gateway.events.state.listen(self._state_changed)
        gateway.events.farm.listen(self._farm_said)
        gateway.events.lost.listen(lambda _: self._broken.clear())
        gateway.events.upstream_lost.listen(self._broken.clear)

    # life ---------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begins to look after the lines."""
        maintained = repeat(self._clock, MAINTENANCE_SECONDS, "market-data-lines", self.maintain)
        self._task = asyncio.create_task(maintained, name="market-data-lines")

    async def stop(self) -> None:
        """Gives every line back."""
        await settle(self._task)
        self._task = None
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._numbered.clear()

    def maintain(self) -> None:
        """Closes lines that nobody wants any more, and tries live again where it is due."""
        for key in self.pool.expired():
            self._close(key)
        limit = self._clock.monotonic() - REFUSAL_SECONDS
        self._refusals = {key: each for key, each in self._refusals.items() if each[0] > limit}
        self._doubt_the_silent()
        probing = sum(line.probing for line in self._lines.values())
        ready = self._gateway.state is ConnectionState.READY
        for line in tuple(self._lines.values()):
            before = line.probing
            line.maintain(may_probe=self.pool.spare() - probing > 0, may_renew=ready)
            probing += line.probing - before

    def _farm_said(self, name: str, well: bool) -> None:
        """A line does not say which farm it is of; one that goes on to tick is of another."""
        if not well:
            self._broken.setdefault(name, self._clock.monotonic())
        elif self._broken.pop(name, None) is not None:
            for line in self._lines.values():
                line.hope()

    def _doubt_the_silent(self) -> None:
        limit = self._clock.monotonic() - FARM_SECONDS
        long_ago = [since for since in self._broken.values() if since <= limit]
        if long_ago:
            for line in self._lines.values():
                line.doubt_if_silent(max(long_ago))

    def watch(self, watcher: LineWatcher) -> None:
        """Adds someone who wants to hear of every line."""
        self._watchers.append(watcher)

    # lines --------------------------------------------------------------------------------------

    def take(self, contract: Contract, holder: Holder = BRIDGE) -> QuoteLine:
        """Holds the line of a qualified contract, opening it if need be; `give` it back.

        What an order check asks for passes whatever else waits to be written.

        Raises:
            LinesExhaustedError: every line is held, or this holder has its share.
            RequestRefusedError: the broker refused it just now.
        """
        key = line_key(contract)
        lane = Lane.ORDER if holder.rank >= ORDER_CHECKS.rank else Lane.INTERACTIVE
        refused_at, refusal = self._refusals.get(key, (0.0, None))
        if refusal is not None and self._clock.monotonic() - refused_at < REFUSAL_SECONDS:
            only_full = refusal.kind is Kind.LIMITED and lane is Lane.ORDER
            if not only_full:
                raise refusal
        evicted = self.pool.take(key, holder)
        if evicted is not None:
            self._close(evicted, for_order=lane is Lane.ORDER)
        line = self._lines.get(key)
        if line is None:
            self._make_room_for_one(for_order=lane is Lane.ORDER)
            line = self._lines[key] = self._made(contract)
            line.open(lane)
        else:
            line.retry(lane)
            if lane is Lane.ORDER:
                line.hasten()
                if self._gateway.state is ConnectionState.READY:
                    line.renew_for_order()
        return line

    def give(self, line: QuoteLine, holder: Holder = BRIDGE) -> None:
        """The holder needs the line no more."""
        key = line.key
        self.pool.give(key, holder)
        if line.error is not None and not self.pool.holders(key):
            self.pool.drop(key)
            self._close(key)

    @contextmanager
    def holding(self, contract: Contract, holder: Holder = BRIDGE) -> Iterator[QuoteLine]:
        """`take` and `give` around a block."""
        line = self.take(contract, holder)
        try:
            yield line
        finally:
            self.give(line, holder)

    def line(self, number: int) -> QuoteLine | None:
        """The open line of this number."""
        return self._numbered.get(number)

    def line_of(self, con_id: int) -> QuoteLine | None:
        """An open line of a contract, whichever exchange its quotes are from."""
        found = self._numbered.get(con_id)
        if found is not None:
            return found
        return next((line for key, line in self._lines.items() if key[0] == con_id), None)

    def _make_room_for_one(self, *, for_order: bool) -> None:
        """A second line, on which live is tried again, is one too many before a first one."""
        probing = [line for line in self._lines.values() if line.probing]
        if probing and self.pool.open + len(probing) > self.pool.capacity:
            probing[0].end_probe(for_order=for_order)

    def _made(self, contract: Contract) -> QuoteLine:
        """A line; those of one contract at several exchanges are told apart by their numbers."""
        line = QuoteLine(self._gateway, contract, self._clock, self._watchers)
        if line.number in self._numbered:
            self._further -= 1
            line.number = self._further
        self._numbered[line.number] = line
        return line

    def _close(self, key: LineKey, *, for_order: bool = False) -> None:
        line = self._lines.pop(key, None)
        if line is not None:
            self._numbered.pop(line.number, None)
            line.close(for_order=for_order)

    # reading ------------------------------------------------------------------------------------

    async def quote(
        self,
        contract: Contract,
        *,
        complete: Callable[[QuoteSlot], bool] | None = None,
        timeout: float = FIRST_VALUE_SECONDS,
        terms: Mapping[str, Any] = NO_TERMS,
        holder: Holder = BRIDGE,
    ) -> Quote:
        """A qualified contract's quote, once its first values have come; `terms` go along.

        Raises:
            NotConnectedError: there is no session.
            LinesExhaustedError: every line is held, or the request still waits to be written.
            RequestRefusedError: the broker gives neither live nor delayed data.
            NoQuoteError: nothing came in time.
        """
        self._gateway.require_ready()
        with self.holding(contract, holder) as line:
            came = await line.wait(complete or basics_known, timeout)
            if not came:
                self._explain_silence(line)
            return self.view(line, terms)

    async def quotes(self, contracts: Sequence[Contract], holder: Holder = BRIDGE) -> Quotes:
        """Several quotes at once; what fails for one leaves the others alone."""
        self._gateway.require_ready()
        results = await asyncio.gather(
            *(self._one_of_many(contract, holder) for contract in contracts)
        )
        return Quotes(
            quotes=tuple(item for item in results if isinstance(item, Quote)),
            failed=tuple(item for item in results if isinstance(item, FailedQuote)),
        )

    async def _one_of_many(self, contract: Contract, holder: Holder) -> Quote | FailedQuote:
        try:
            if not contract.con_id:
                contract = (await self._contracts.resolve(contract)).contract
            return await self.quote(contract, holder=holder)
        except BridgeError as error:
            return failed_quote(contract, error)

    def view(self, line: QuoteLine, terms: Mapping[str, Any] = NO_TERMS) -> Quote:
        """What a line holds now."""
        return quote_view(
            line.contract,
            line.slot,
            self._clock.monotonic(),
            self._clock.now(),
            notice=_notice(line),
            **terms,
        )

    def _explain_silence(self, line: QuoteLine) -> None:
        if line.error is not None:
            raise line.error
        self._gateway.require_ready()
        if not line.asked:
            raise LinesExhaustedError(
                f"the request for {line.contract.symbol} still waits for its turn", retry_after=2.0
            )
        raise NoQuoteError(f"no value for {line.contract.symbol} came in time")

    def _state_changed(self, old: ConnectionState, new: ConnectionState) -> None:
        """A session that competes for one line competes for all; its end is good news for all."""
        if new is ConnectionState.SESSION_CONFLICT:
            for line in self._lines.values():
                line.doubt()
        elif old is ConnectionState.SESSION_CONFLICT:
            self._refusals.clear()
            for line in self._lines.values():
                line.fallback.hurry(self._clock.monotonic())

    # what the lines tell ------------------------------------------------------------------------

    def refused(self, line: QuoteLine, error: TwsError) -> None:
        """Remembered for a moment."""
        self._refusals[line.key] = (self._clock.monotonic(), error)


def basics_known(slot: QuoteSlot) -> bool:
    """Bid, ask and a last or previous price are known (that there is none counts)."""
    return slot.fresh("bid") and slot.fresh("ask") and (slot.fresh("last") or slot.fresh("close"))


def greeks_known(slot: QuoteSlot) -> bool:
    """The same, with the model's computation and the open interest."""
    return (
        slot.fresh("bid")
        and slot.fresh("ask")
        and slot.fresh("delta")
        and slot.fresh("openInterest")
    )


def failed_quote(contract: Contract, error: BridgeError) -> FailedQuote:
    """Why there is none, beside those that there are."""
    symbol = contract.local_symbol or contract.symbol
    return FailedQuote(
        symbol=symbol, code=error.code, detail=error.detail, next_step=error.next_step
    )


def _notice(line: QuoteLine) -> Notice | None:
    if line.error is not None:
        return Notice(broker_code=line.error.broker_code, detail=line.error.detail)
    cause = line.fallback.cause
    if cause is None:
        return None
    detail = _MEANINGS.get(cause, "no live subscription: delayed data was requested instead")
    return Notice(broker_code=cause, detail=detail)

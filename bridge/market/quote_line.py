"""One open market-data line: its values, its fall from live to delayed, and its way back.

A line listens to one channel (a request at the gateway). When live is to be tried again it opens a
second one beside it, so that delayed values go on until the first live one has come.

    LIVE --354, 10089, 10090, 10168, 10186, 10197--> DELAYED --refused too--> NOTHING
      ^                                                 |                        |
      +------------- live data came on a probe ---------+------------------------+

10167 ("displaying delayed market data") needs no new request: the line carries delayed data by
itself, and only the way back is ours. After 10197 another session holds live data, which may end
any minute: live is tried again sooner than after a missing subscription, which lasts until someone
buys it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Final

from bridge.clock import Clock
from bridge.market.quote_values import QuoteSlot
from bridge.model import Contract, MarketDataType, Tick
from bridge.tws.errors import TwsError
from bridge.tws.gateway import Gateway, Subscription
from bridge.tws.pacing import Lane

COMPETING: Final = frozenset({10197})
NOT_SUBSCRIBED: Final = frozenset({354, 10089, 10090, 10167, 10168, 10186})
FALLBACK_CODES: Final = COMPETING | NOT_SUBSCRIBED

COMPETING_SECONDS: Final = 30.0
NOT_SUBSCRIBED_SECONDS: Final = 300.0
LONGEST_SECONDS: Final = 3600.0

RENEW_SECONDS: Final = 5.0
"""A line whose prices do not come within so long after an interruption is asked for anew, once."""

_PRICES: Final = ("bid", "ask", "last")

_LATE: Final = frozenset({MarketDataType.DELAYED, MarketDataType.DELAYED_FROZEN})


class Feed(Enum):
    """What an instrument gets now."""

    LIVE = "live"
    DELAYED = "delayed"
    NOTHING = "nothing"


class Fallback:
    """When one instrument's data turns from live to delayed, and when live is tried again.

    Pure: it is told what the broker said and answers what to request next. Times are monotonic
    seconds.
    """

    def __init__(self) -> None:
        self.feed = Feed.LIVE
        self.cause: int | None = None
        self.probe_at: float | None = None
        self._wait = 0.0

    @property
    def wanted(self) -> MarketDataType:
        """The kind to request after a refusal or an interruption."""
        return MarketDataType.LIVE if self.feed is Feed.LIVE else MarketDataType.DELAYED

    def refused(self, code: int | None, now: float) -> bool:
        """The broker refused the line. True: request it again, as `wanted`, at once."""
        self._schedule(code, now)
        if self.feed is Feed.LIVE and code in FALLBACK_CODES:
            self.feed = Feed.DELAYED
            return True
        self.feed = Feed.NOTHING
        return False

    def delivered(self, kind: MarketDataType, now: float) -> None:
        """The line carries data of this kind."""
        if kind in {MarketDataType.LIVE, MarketDataType.FROZEN}:
            self.recovered()
        elif self.feed is Feed.LIVE:
            self.feed = Feed.DELAYED
            self._schedule(10167, now)

    def probe_failed(self, code: int | None, now: float) -> None:
        """Live was tried and refused again: wait longer."""
        self._schedule(code, now)

    def recovered(self) -> None:
        """Live data is there."""
        self.feed = Feed.LIVE
        self.cause = None
        self.probe_at = None
        self._wait = 0.0

    def hurry(self, now: float) -> None:
        """Something changed (the other session ended, a reconnect): try live at the next chance."""
        if self.probe_at is not None:
            self.probe_at = now
            self._wait = 0.0

    def probe_due(self, now: float) -> bool:
        """Whether live is to be tried now; the next time is then a full wait away."""
        if self.probe_at is None or now < self.probe_at:
            return False
        self.probe_at = now + max(self._wait, COMPETING_SECONDS)
        return True

    def _schedule(self, code: int | None, now: float) -> None:
        soon = code is None or code in COMPETING  # without a code nobody but the bridge refused
        base = COMPETING_SECONDS if soon else NOT_SUBSCRIBED_SECONDS
        self._wait = min(max(self._wait * 2, base), LONGEST_SECONDS)
        self.cause = code
        self.probe_at = now + self._wait


_OPTION_TICKS = (100, 101, 104, 106)
"""Option volume, option open interest, historical volatility, implied volatility."""
GENERIC_TICKS: Final = {
    "OPT": _OPTION_TICKS,
    "FOP": _OPTION_TICKS,
    "STK": _OPTION_TICKS,
    "IND": _OPTION_TICKS,
    "FUT": (588,),  # futures open interest
}
"""What is asked for beside the usual ticks, by the kind (IBKR, "Generic tick types")."""


UNPRICED_SECONDS = 1.0
"""So long after a line was asked for bid and ask may come behind its first value."""
_UNQUOTED: Final = frozenset({"IND"})
"""Kinds that have no bid and ask."""

LineKey = tuple[int, str]
"""A contract's number, and the exchange that its quotes are from: each has another bid."""


def line_key(contract: Contract) -> LineKey:
    """What a line of this qualified contract is known by."""
    return contract.con_id, contract.exchange


class LineWatcher:
    """What a line tells of itself; override what matters."""

    def changed(self, line: QuoteLine, fields: tuple[str, ...]) -> None:
        """These fields have new values."""

    def interrupted(self, line: QuoteLine) -> None:
        """All values are stale from now on."""

    def restored(self, line: QuoteLine) -> None:
        """The line is open again."""

    def refused(self, line: QuoteLine, error: TwsError) -> None:
        """The broker gives neither live nor delayed data."""


class _Channel:
    """One request at the gateway, telling its line."""

    __slots__ = ("_line", "dead", "kind", "probe", "subscription")

    def __init__(self, line: QuoteLine, kind: MarketDataType, *, probe: bool) -> None:
        self._line = line
        self.kind = kind
        self.probe = probe
        self.dead = False
        self.subscription: Subscription | None = None

    def cancel(self, *, for_order: bool = False) -> None:
        if self.subscription is None:
            return
        if for_order:
            self.subscription.make_way()
        else:
            self.subscription.cancel()

    def tick(self, tick: Tick) -> None:
        self._line.channel_tick(self, tick)

    def market_data_type(self, kind: MarketDataType) -> None:
        self._line.channel_kind(self, kind)

    def failed(self, error: TwsError) -> None:
        self.dead = True
        self._line.channel_failed(self, error)

    def interrupted(self) -> None:
        self._line.channel_interrupted(self)

    def restored(self) -> None:
        self._line.channel_restored(self)


class QuoteLine:
    """One instrument's line. `contract` is qualified (its `con_id` is set).

    `number` is its own among the open lines: the contract's, where no other line has that.
    """

    def __init__(
        self, gateway: Gateway, contract: Contract, clock: Clock, watchers: Sequence[LineWatcher]
    ) -> None:
        self.contract = contract
        self.key = line_key(contract)
        self.number = contract.con_id
        self.slot = QuoteSlot(contract)
        self.fallback = Fallback()
        self.error: TwsError | None = None
        self.label = ""  # for whoever publishes the line: its constant part, made once
        self._gateway = gateway
        self._clock = clock
        self._watchers = watchers
        self._channel: _Channel | None = None
        self._probe: _Channel | None = None
        self._lane = Lane.INTERACTIVE
        self._opened_at = float("-inf")
        self._interrupted = False  # and not looked at since
        self._silent_since: float | None = None
        self._waiters: set[asyncio.Event] = set()

    # opening and closing ------------------------------------------------------------------------

    def open(self, lane: Lane | None = None) -> None:
        """Requests the line, as live as it may be; without a lane on the one of the last time."""
        self._lane = lane or self._lane
        self._opened_at = self._clock.monotonic()
        self._drop_channel(for_order=self._lane is Lane.ORDER)
        channel = self._request(self.fallback.wanted, lane=self._lane)
        if not channel.dead:
            self._channel = channel

    def close(self, *, for_order: bool = False) -> None:
        """Gives the line back; `for_order`: before the one that an order's check asks for next."""
        self._drop_probe()
        self._drop_channel(for_order=for_order)

    @property
    def asked(self) -> bool:
        """Whether the request is on the wire, and does not wait for its turn."""
        channel = self._channel
        return channel is not None and (channel.subscription is None or channel.subscription.asked)

    def hasten(self) -> None:
        """Passes whatever waits to be written, if this line's request waits too."""
        if self._channel is not None and not self.asked:
            self.open(Lane.ORDER)

    def renew_for_order(self) -> None:
        """Asks anew, at once, for prices that have not come back since an interruption.

        The broker has kept the line (1102), but what has not changed may never tick again. It is
        asked once for each interruption, as by `maintain`, and what it held stays stale.
        """
        if self._interrupted and self.asked and not self.slot.came_back(_PRICES):
            self._interrupted, self._silent_since = False, None
            self.open(Lane.ORDER)

    def retry(self, lane: Lane = Lane.INTERACTIVE) -> None:
        """Someone asks again for what was refused: from live downwards, once more."""
        if self._channel is None:
            self.error = None
            self.fallback.feed = Feed.LIVE
            self.open(lane)

    def doubt(self) -> None:
        """Live values may have stopped without a word: stale until they tick again."""
        if self._channel is not None and self.fallback.feed is Feed.LIVE:
            self._interrupted = True
            self.slot.interrupted()
            for watcher in self._watchers:
                watcher.interrupted(self)

    def doubt_if_silent(self, since: float) -> None:
        """Its data farm may be the one that broke then: doubts what there is, unless it ticks."""
        if self._channel is not None and self.slot.heard_at() < since:
            self._interrupted = self._interrupted or bool(self.slot.fresh_fields())
            self._doubted()

    def hope(self) -> None:
        """A data farm is well again: what has not come back by itself may be asked for anew."""
        if not self.slot.came_back(_PRICES):
            self._interrupted = True

    def maintain(self, *, may_probe: bool, may_renew: bool = False) -> None:
        """To be called now and then.

        Asks anew for what stays silent, where there is a session (`may_renew`), and tries live
        again when its time has come and there is room.
        """
        self._renew_if_silent(may_renew=may_renew)
        if self._probe is not None or not self.fallback.probe_due(self._clock.monotonic()):
            return
        if self.fallback.feed is Feed.NOTHING:
            self.retry()
        elif may_probe:
            probe = self._request(MarketDataType.LIVE, probe=True)
            self._probe = None if probe.dead else probe

    def _renew_if_silent(self, *, may_renew: bool) -> None:
        """What does not change does not tick, and would be stale for hours though it is known."""
        now = self._clock.monotonic()
        if not may_renew or not self._interrupted or not self.asked:
            self._silent_since = None
        elif self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since >= RENEW_SECONDS:
            self._interrupted, self._silent_since = False, None
            if not self.slot.came_back(_PRICES):
                self.open(Lane.INTERACTIVE)

    def end_probe(self, *, for_order: bool) -> None:
        """Gives the second channel back; live is tried again when its next time has come."""
        self._drop_probe(for_order=for_order)

    @property
    def probing(self) -> bool:
        """Whether a second channel is open beside the first."""
        return self._probe is not None

    def _request(
        self, kind: MarketDataType, *, probe: bool = False, lane: Lane = Lane.INTERACTIVE
    ) -> _Channel:
        """A new channel; `dead` when it was refused while it was being asked for."""
        channel = _Channel(self, kind, probe=probe)
        channel.subscription = self._gateway.subscribe_market_data(
            self.contract,
            channel,
            generic_ticks=GENERIC_TICKS.get(self.contract.sec_type, ()),
            kind=kind,
            lane=lane,
        )
        return channel

    def _drop_channel(self, *, for_order: bool = False) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.cancel(for_order=for_order)

    def _drop_probe(self, *, for_order: bool = False) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            probe.cancel(for_order=for_order)

    # what the channels tell ---------------------------------------------------------------------

    def channel_tick(self, channel: _Channel, tick: Tick) -> None:
        if channel is self._probe:
            if tick.delayed or channel.kind is not MarketDataType.LIVE:
                return
            self._promote(channel)
        elif channel is not self._channel and self._channel is not None:
            return
        self.error = None
        fields = self.slot.apply(tick, self._clock.monotonic(), self._clock.now())
        if fields:
            for watcher in self._watchers:
                watcher.changed(self, fields)
            self._wake()

    def channel_kind(self, channel: _Channel, kind: MarketDataType) -> None:
        """The channel says what it carries."""
        channel.kind = kind
        now = self._clock.monotonic()
        if channel is self._probe:
            if kind in _LATE:
                self._drop_probe()
                self.fallback.probe_failed(10167, now)
            return
        if kind in _LATE and self.slot.kind not in _LATE:
            self._doubted()
        self.slot.kind = kind
        self.fallback.delivered(kind, now)

    def channel_failed(self, channel: _Channel, error: TwsError) -> None:
        """The broker refused the channel."""
        now = self._clock.monotonic()
        if channel.probe:
            self._probe = None
            self.fallback.probe_failed(error.broker_code, now)
            return
        if self._channel is not None and channel is not self._channel:
            return
        self._channel = None
        self._doubted()
        if self.fallback.refused(error.broker_code, now):
            self.slot.kind = MarketDataType.DELAYED
            self.open()
            return
        self.error = error
        for watcher in self._watchers:
            watcher.refused(self, error)
        self._wake()

    def _doubted(self) -> None:
        """What there is was live, and is not any more: stale until it comes again."""
        if self.slot.fresh_fields():
            self.slot.interrupted()
            for watcher in self._watchers:
                watcher.interrupted(self)

    def channel_interrupted(self, channel: _Channel) -> None:
        """The connection or the farm is gone."""
        if channel is self._probe:
            self._drop_probe()
            return
        self._interrupted = True
        self.slot.interrupted()
        for watcher in self._watchers:
            watcher.interrupted(self)

    def channel_restored(self, channel: _Channel) -> None:
        if channel is self._channel:
            self.fallback.hurry(self._clock.monotonic())
            for watcher in self._watchers:
                watcher.restored(self)

    def _promote(self, channel: _Channel) -> None:
        self._drop_channel()
        self._channel, self._probe = channel, None
        channel.probe = False
        self.slot.kind = MarketDataType.LIVE
        self.fallback.recovered()

    # waiting ------------------------------------------------------------------------------------

    async def wait(
        self, complete: Callable[[QuoteSlot], bool], timeout: float, settle: float = 0.25
    ) -> bool:
        """Until `complete`, or until no value came for `settle` seconds after a first one.

        The day before's close may come long before bid and ask: while neither is there, that is no
        price to go by yet, and just after the line was opened they are waited for a little longer.

        Returns whether anything fresh came within `timeout` seconds. Ends early, with the refusal
        in `error`, when the broker gives no data at all.
        """
        woken = asyncio.Event()
        self._waiters.add(woken)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            while self.error is None and not complete(self.slot):
                left = deadline - loop.time()
                if left <= 0:
                    break
                try:
                    async with asyncio.timeout(min(left, self._pause(settle))):
                        await woken.wait()
                except TimeoutError:
                    break
                woken.clear()
        finally:
            self._waiters.discard(woken)
        return bool(self.slot.fresh_fields())

    def _pause(self, settle: float) -> float:
        """For how long the next value is waited for."""
        if not self.slot.fresh_fields():
            return float("inf")
        if self.slot.fresh("bid") or self.slot.fresh("ask"):
            return settle
        if self.contract.sec_type in _UNQUOTED:
            return settle
        return max(settle, self._opened_at + UNPRICED_SECONDS - self._clock.monotonic())

    def _wake(self) -> None:
        for waiter in self._waiters:
            waiter.set()

"""Bars of any length: cut into requests, what is settled from the cache, the rest paced."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from msgspec import Raw, Struct, json

from bridge.broker_time import exchange_day, exchange_zone
from bridge.clock import Clock
from bridge.market.contracts import ContractService
from bridge.market.errors import InvalidFieldError
from bridge.market.history_plan import (
    BarSize,
    Duration,
    HistoryPlan,
    pages_needed,
    parse_bar_size,
    parse_duration,
)
from bridge.market.views import History
from bridge.model import Bar, Contract, ContractDetails, HistoryRequest
from bridge.single_flight import SingleFlight
from bridge.tws.errors import NoHistoryError, RequestTimedOutError
from bridge.tws.gateway import Gateway

SETTLED_AFTER = timedelta(minutes=5)
"""Trades are reported and corrected late; what ended longer ago than this is settled."""

_BAR_BYTES = 320
"""A bar held as a struct of floats with its time, measured with tracemalloc and rounded up."""


class PageKey(Struct, frozen=True, kw_only=True):
    """The name of a page: everything that decides its bars.

    The exchange's day on which it was asked for is there because splits rewrite the past between
    sessions: a page never outlives the day.
    """

    con_id: int
    exchange: str
    bar_size: str
    what_to_show: str
    use_rth: bool
    end: datetime
    duration: str
    asked_on: date


def is_settled(end: datetime | None, now: datetime) -> bool:
    """Whether everything before `end` is final."""
    return end is not None and end <= now - SETTLED_AFTER


class HistoryCache:
    """Pages of history that can no longer change, within a bound of memory.

    Least recently used pages go first; an entry larger than everything is not kept.
    """

    def __init__(self, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._most_bars = max_bytes // _BAR_BYTES
        self._pages: OrderedDict[PageKey, tuple[Bar, ...]] = OrderedDict()
        self._bars = 0
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._pages)

    @property
    def bars(self) -> int:
        """How many bars are held; an empty page counts as one."""
        return self._bars

    def get(self, key: PageKey) -> tuple[Bar, ...] | None:
        """The page, or None."""
        page = self._pages.get(key)
        if page is None:
            self.misses += 1
            return None
        self._pages.move_to_end(key)
        self.hits += 1
        return page

    def put(self, key: PageKey, bars: Sequence[Bar]) -> None:
        """Keeps a page, dropping pages of earlier days and then the least recently used."""
        self._forget(key)
        self._drop_earlier_days(key.asked_on)
        size = max(len(bars), 1)
        if size > self._most_bars:
            return
        while self._bars + size > self._most_bars:
            _, page = self._pages.popitem(last=False)
            self._bars -= max(len(page), 1)
        self._pages[key] = tuple(bars)
        self._bars += size

    def _forget(self, key: PageKey) -> None:
        page = self._pages.pop(key, None)
        if page is not None:
            self._bars -= max(len(page), 1)

    def _drop_earlier_days(self, today: date) -> None:
        for key in [key for key in self._pages if key.asked_on < today - timedelta(days=1)]:
            self._forget(key)


SAME_REQUEST_SECONDS = 15.0
"""The broker forbids identical requests within this time: the answer is shared instead."""

ENDS_NOW_SECONDS = 1.0
"""Those who ask for the newest bars within so little time of one another get the same answer."""

EMPTY_SECONDS = 600.0
"""So long a stretch without bars is believed: a farm may have been down for that moment."""

MOST_PAGES = 30
DEADLINE_SECONDS = 55.0
"""For all pages of one answer; pages that came stay in the cache for the next attempt."""

ADJUSTED: Final = "ADJUSTED_LAST"
"""Adjusted for splits and dividends: given only up to now, and in one request."""
_STOCK = (
    "TRADES",
    "MIDPOINT",
    "BID",
    "ASK",
    "BID_ASK",
    ADJUSTED,
    "HISTORICAL_VOLATILITY",
    "OPTION_IMPLIED_VOLATILITY",
    "FEE_RATE",
)
_PRICES = ("TRADES", "MIDPOINT", "BID", "ASK", "BID_ASK")
_NO_TRADES = ("MIDPOINT", "BID", "ASK", "BID_ASK")
WHAT_TO_SHOW: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "STK": _STOCK,
        "OPT": ("MIDPOINT", "TRADES", "BID", "ASK", "BID_ASK"),
        "FOP": _PRICES,
        "FUT": _PRICES,
        "CONTFUT": _PRICES,
        "CASH": _NO_TRADES,
        "CMDTY": _NO_TRADES,
        "CFD": _NO_TRADES,
        "CRYPTO": ("AGGTRADES", *_NO_TRADES),
        "IND": ("TRADES", "HISTORICAL_VOLATILITY", "OPTION_IMPLIED_VOLATILITY"),
        "BOND": _PRICES,
        "FUND": ("TRADES", "MIDPOINT"),
    }
)
"""What the broker has for each kind of instrument; the first is the default."""


class HistoryQuery(Struct, frozen=True, kw_only=True):
    """What a caller wants; `what_to_show` None: the usual for the instrument."""

    contract: Contract
    duration: str = "1 D"
    bar_size: str = "5 mins"
    what_to_show: str | None = None
    use_rth: bool = True
    end: datetime | None = None


class _Checked(Struct, frozen=True, kw_only=True):
    duration: Duration
    size: BarSize
    what: str
    use_rth: bool
    end: datetime | None


class Answer(NamedTuple):
    """A whole answer as JSON, and until when it may be given again."""

    body: bytes
    settled: bool
    pages: int
    day: date
    zone: ZoneInfo
    until: float


class Answers:
    """Answers as they were sent: to encode thousands of bars takes longer than all the rest.

    One of the past holds for the exchange's day, as its pages do; one that ends now for a second.
    """

    def __init__(self, most_bytes: int = 4 * 1024 * 1024) -> None:
        self._most = most_bytes
        self._held = 0
        self._answers: OrderedDict[HistoryQuery, Answer] = OrderedDict()

    def get(self, query: HistoryQuery, now: datetime, monotonic: float) -> Answer | None:
        """The answer to this very query, if it still holds."""
        answer = self._answers.get(query)
        if answer is None:
            return None
        if monotonic >= answer.until or exchange_day(answer.zone, now) != answer.day:
            self._forget(query)
            return None
        self._answers.move_to_end(query)
        return answer

    def put(self, query: HistoryQuery, answer: Answer) -> None:
        """Keeps an answer; those that were not asked for go first."""
        self._forget(query)
        if len(answer.body) > self._most:
            return
        while self._held + len(answer.body) > self._most:
            self._forget(next(iter(self._answers)))
        self._answers[query] = answer
        self._held += len(answer.body)

    def _forget(self, query: HistoryQuery) -> None:
        answer = self._answers.pop(query, None)
        if answer is not None:
            self._held -= len(answer.body)


class HistoryService:
    """History with a memory. Pacing itself is the gateway's lane, which waits or refuses."""

    def __init__(
        self,
        gateway: Gateway,
        contracts: ContractService,
        clock: Clock,
        cache: HistoryCache | None = None,
    ) -> None:
        self.cache = cache or HistoryCache()
        self._answers = Answers()
        self._empty: dict[PageKey, float] = {}  # until when (monotonic) that is believed
        self._gateway = gateway
        self._contracts = contracts
        self._clock = clock
        self._recent: SingleFlight[HistoryRequest, tuple[Bar, ...]] = SingleFlight(
            clock, seconds=SAME_REQUEST_SECONDS, size=8
        )

    async def encoded(self, query: HistoryQuery) -> Raw:
        """`bars` as JSON, from what was sent before where that still holds. Raises as `bars`."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        kept = self._answers.get(query, now, monotonic)
        if kept is not None:
            if not kept.settled:
                self._gateway.require_ready()
            self.cache.hits += kept.pages
            return Raw(kept.body)
        answer, final_until = await self._read(query)
        settled = final_until > monotonic
        body = json.encode(answer)
        if settled or query.end is None:
            zone = ZoneInfo(answer.time_zone)
            until = final_until if settled else self._clock.monotonic() + ENDS_NOW_SECONDS
            pages = answer.cached_pages
            self._answers.put(
                query, Answer(body, settled, pages, exchange_day(zone, now), zone, until)
            )
        return Raw(body)

    async def bars(self, query: HistoryQuery) -> History:
        """The bars that the query means.

        Raises:
            InvalidFieldError: a field is wrong, or too much is asked for at once.
            PacingLimitedError: the broker's rules need a longer wait than an answer may take.
            NoHistoryError: the broker refuses.
        """
        answer, _ = await self._read(query)
        return answer

    async def _read(self, query: HistoryQuery) -> tuple[History, float]:
        """The bars, and until when (monotonic) the same would be answered without a request."""
        details = None
        if not query.contract.sec_type:  # named by its number alone: what it is has to be known
            details = await self._contracts.named(query.contract)
        checked = self._checked(query, (details or query).contract.sec_type)
        details = details or await self._contracts.named(query.contract)
        if not is_settled(checked.end, self._clock.now()):
            self._gateway.require_ready()
        reading = _Reading(self, details, checked)
        return await reading.run(), reading.final_until

    def _checked(self, query: HistoryQuery, sec_type: str) -> _Checked:
        duration, size = parse_duration(query.duration), parse_bar_size(query.bar_size)
        what = _checked_what(query, sec_type)
        if size.daily and duration.unit == "S":
            raise InvalidFieldError("duration", f"bars of {size.text} need days or longer")
        pages = pages_needed(duration, size)
        if what == ADJUSTED:
            _check_adjusted(query, size, pages)
        elif pages > MOST_PAGES:
            raise InvalidFieldError(
                "duration",
                f"{duration.text} of {size.text} takes about {pages} requests; at most {MOST_PAGES}"
                f" of {size.longest.text} are made for one answer, so page with end",
                code="too-long",
            )
        if query.end is not None and query.end > self._clock.now():
            raise InvalidFieldError("end", "lies in the future")
        return _Checked(
            duration=duration, size=size, what=what, use_rth=query.use_rth, end=query.end
        )

    async def page(self, request: HistoryRequest, timeout: float) -> tuple[Bar, ...]:
        """One request to the broker, shared with whoever asks the same."""
        return await self._recent.get(
            request, lambda: self._gateway.queries.historical_bars(request, timeout=timeout)
        )

    def kept(self, key: PageKey) -> tuple[tuple[Bar, ...] | None, float]:
        """A page of the past that was asked for before, and until when it is believed."""
        page = self.cache.get(key)
        until = float("inf") if page else self._empty.get(key, 0.0)
        return (page if self._clock.monotonic() < until else None), until

    def keep(self, key: PageKey, bars: tuple[Bar, ...]) -> None:
        """Keeps a page of the past."""
        now = self._clock.monotonic()
        self._empty = {each: until for each, until in self._empty.items() if until > now}
        if not bars:
            self._empty[key] = now + EMPTY_SECONDS
        self.cache.put(key, bars)

    @property
    def clock(self) -> Clock:
        return self._clock


def _check_adjusted(query: HistoryQuery, size: BarSize, pages: int) -> None:
    if query.end is not None:
        raise InvalidFieldError("end", f"{ADJUSTED} always ends now, by the broker's rule")
    if pages > 1 and not size.daily:
        raise InvalidFieldError(
            "duration", f"{ADJUSTED} is one request, by the broker's rule: take bars of a day"
        )


class _Reading:
    """One answer in the making."""

    def __init__(self, service: HistoryService, details: ContractDetails, wanted: _Checked) -> None:
        self._service = service
        self._contract = details.contract
        self._wanted = wanted
        self._zone = exchange_zone(details.time_zone, details.contract)
        self._now = service.clock.now()
        self._deadline = service.clock.monotonic() + DEADLINE_SECONDS
        self._requests = 0
        self._cached = 0
        self.final_until = float("inf")

    async def run(self) -> History:
        wanted = self._wanted
        plan = HistoryPlan(
            wanted.duration,
            wanted.size,
            wanted.end,
            self._now,
            self._zone,
            whole=wanted.what == ADJUSTED,
        )
        while (page := plan.next_page()) is not None:
            end, duration = page
            plan.took(await self._page(end, duration), end, self._now)
        return History(
            symbol=self._contract.symbol,
            con_id=self._contract.con_id,
            sec_type=self._contract.sec_type,
            duration=wanted.duration.text,
            bar_size=wanted.size.text,
            what_to_show=wanted.what,
            use_rth=wanted.use_rth,
            time_zone=self._zone.key,
            end=wanted.end or self._now,
            bars=plan.bars(),
            requests=self._requests,
            cached_pages=self._cached,
        )

    async def _page(self, end: datetime | None, duration: str) -> tuple[Bar, ...]:
        key = self._key(end, duration)
        if key is not None:
            kept, until = self._service.kept(key)
            if kept is not None:
                self._cached += 1
                self.final_until = min(self.final_until, until)
                return kept
        self.final_until = 0.0
        bars = await self._ask(end, duration)
        if key is not None:
            self._service.keep(key, bars)
        return bars

    async def _ask(self, end: datetime | None, duration: str) -> tuple[Bar, ...]:
        left = self._deadline - self._service.clock.monotonic()
        if left <= 0 or self._requests >= 2 * MOST_PAGES:
            raise RequestTimedOutError(
                "the pages did not all come in time",
                next_step="Ask again: the pages that came are kept",
                retry_after=1.0,
            )
        self._requests += 1
        request = HistoryRequest(
            contract=self._contract,
            duration=duration,
            bar_size=self._wanted.size.text,
            what_to_show=self._wanted.what,
            use_rth=self._wanted.use_rth,
            end=end,
        )
        try:
            return await self._service.page(request, left)
        except NoHistoryError as error:
            # The broker refuses a stretch without bars as it refuses a senseless request: only the
            # text tells them apart.
            if "no data" in (error.broker_text or error.detail).lower():
                return ()
            raise

    def _key(self, end: datetime | None, duration: str) -> PageKey | None:
        if end is None or not is_settled(end, self._now):
            return None
        return PageKey(
            con_id=self._contract.con_id,
            exchange=self._contract.exchange,
            bar_size=self._wanted.size.text,
            what_to_show=self._wanted.what,
            use_rth=self._wanted.use_rth,
            end=end,
            duration=duration,
            asked_on=exchange_day(self._zone, self._now),
        )


def _checked_what(query: HistoryQuery, sec_type: str) -> str:
    allowed = WHAT_TO_SHOW.get(sec_type, _PRICES)
    what = (query.what_to_show or allowed[0]).upper()
    if what not in allowed:
        raise InvalidFieldError(
            "whatToShow",
            f"{what!r} is not known for {sec_type}; one of {', '.join(allowed)}",
        )
    return what

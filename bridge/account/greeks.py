"""Greeks of options that are held, from the quotes' lines that are open.

Nothing is kept here: a value is what its line says at that moment. What no line is open for is
asked for in the background while somebody reads, within the reader's share of the lines and only as
long as some are spare; such a line is held by nobody, so it is the first to go when another needs
one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from bridge.callers import Holder
from bridge.clock import Clock, settle
from bridge.errors import BridgeError
from bridge.market.contracts import ContractService
from bridge.market.quote_values import QuoteValue, Tag
from bridge.market.quotes import QuoteService
from bridge.model import Contract

NAMES: Final = ("delta", "gamma", "theta", "vega", "impliedVolatility")
OPTIONS: Final = frozenset({"OPT", "FOP"})
MOST_ASKED: Final = 40
"""Options that lines are asked for at once."""
TOUCH_SECONDS: Final = 25.0
"""A line that is read is kept from closing this often; one that was refused is tried again."""


Greeks = dict[str, Any]
"""Those of one option, for one share of what it is on, by the names of `PositionView`'s members.

Those that are not known are missing. `greeks_tag` is that of the worst of them, `greeks_age` that
of the oldest, in seconds.
"""

_TAGS: Final[tuple[Tag, ...]] = ("live", "frozen", "delayed", "stale")
_FIELDS: Final = {"impliedVolatility": "implied_volatility"}


class PositionGreeks:
    """Reads them from the lines, and sees to it that there are some."""

    def __init__(self, quotes: QuoteService, contracts: ContractService, clock: Clock) -> None:
        self._quotes = quotes
        self._contracts = contracts
        self._clock = clock
        self._touched: dict[int, float] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, con_id: int) -> Greeks:
        """What the option's line says now."""
        line = self._quotes.line_of(con_id)
        if line is None:
            return {}
        return greeks_of(line.slot.view(self._clock.monotonic(), NAMES))

    def want(self, contracts: Iterable[Contract], holder: Holder) -> None:
        """Somebody reads those of these contracts."""
        now = self._clock.monotonic()
        options = [each for each in contracts if each.sec_type in OPTIONS][:MOST_ASKED]
        wanted = {each.con_id for each in options}
        self._touched = {
            con_id: at
            for con_id, at in self._touched.items()
            if con_id in wanted and now - at < TOUCH_SECONDS
        }
        due = [each for each in options if each.con_id not in self._touched]
        if due and (self._task is None or self._task.done()):
            self._touched.update((each.con_id, now) for each in due)
            self._task = asyncio.create_task(self._ask(due, holder), name="position-greeks")

    async def stop(self) -> None:
        """Asks no more; the lines close by themselves."""
        await settle(self._task)

    async def _ask(self, contracts: list[Contract], holder: Holder) -> None:
        for contract in contracts:
            try:
                await self._touch(contract, holder)
            except BridgeError:  # no line, no contract: then there are no greeks
                continue

    async def _touch(self, contract: Contract, holder: Holder) -> None:
        line = self._quotes.line_of(contract.con_id)
        if line is not None:
            contract = line.contract  # the broker names no exchange of a position
        else:
            pool = self._quotes.pool
            if pool.spare() <= 0 or pool.available(holder) <= 0:
                return
            named = Contract(
                con_id=contract.con_id, sec_type=contract.sec_type, exchange="", currency=""
            )
            contract = (await self._contracts.named(named)).contract
            if pool.spare() <= 0:
                return
        self._quotes.give(self._quotes.take(contract, holder), holder)


def greeks_of(values: dict[str, QuoteValue]) -> Greeks:
    """The greeks among a quote's values."""
    known = {name: each for name, each in values.items() if isinstance(each.value, float | int)}
    if not known:
        return {}
    return {
        **{_FIELDS.get(name, name): each.value for name, each in known.items()},
        "greeks_tag": max((each.tag for each in known.values()), key=_TAGS.index),
        "greeks_age": max(each.age for each in known.values()),
    }

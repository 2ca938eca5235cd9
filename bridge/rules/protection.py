"""A stop at the broker beside a rule, for the time that nobody here can act.

It stands where the rule itself would close, is as large as what is held less what works already,
moves only towards the price, and is cancelled before the rule closes, when the position is gone and
when the rule is taken away. Its order is written down in the rule's memory before it is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from msgspec import structs

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.model import OpenOrder
from bridge.orders.request import ChangeRequest, OrderRequest
from bridge.quantity import SLACK, exact
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.closing_steps import Working
from bridge.rules.evaluation import Guard, Memory, stop_beyond_reach, stop_price
from bridge.rules.holdings import Holding
from bridge.rules.journal import Place, RuleJournal, named
from bridge.rules.model import Rule
from bridge.rules.trouble import Troubles, lasting, reason
from bridge.rules.watch import HoldingWatch
from bridge.store.rules import RuleEvent

log = structlog.get_logger(__name__)

MOVE_SECONDS: Final = 10.0
"""A stop that follows a price is moved at most so often."""
MOVE_PERCENT: Final = 0.1
"""And only when it gets nearer by so much of the price."""


@dataclass(frozen=True)
class Tended:
    """The memory with its stop as it is now; `event` and `detail` are to be told.

    `unsure`: nobody knows yet what the stop is.
    """

    memory: Memory
    event: str = ""
    detail: dict[str, Any] | None = None
    unsure: bool = False


@dataclass(kw_only=True, eq=False)
class Protection:
    """Keeps stops at the broker. What goes wrong with one concerns its holding alone."""

    orders: ClosingOrders
    journal: RuleJournal
    watch: HoldingWatch
    clock: Clock
    _troubles: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self._troubles = Troubles(clock=self.clock)

    async def follow(self, wanted: Mapping[Place, tuple[Rule, Holding]], *, judging: bool) -> None:
        """A stop for each holding whose rule wants one; the others' are taken away.

        Args:
            wanted: where a stop belongs.
            judging: whether anything is judged now; else none is sent or moved.

        Raises:
            TwsError: the broker does not say what is open; none is sent or moved.
        """
        for key in set(self._troubles.of()) - wanted.keys():
            self._troubles.over(key)
        for place in [each for each, memory in self.journal.memories.items() if memory.guard]:
            if place not in wanted:
                await self.take_away(place)
        if not wanted or not judging:
            return
        listed = await self.orders.listed()  # once for all of them
        for place, (rule, holding) in wanted.items():
            if not self._troubles.rests(place):
                await self._guarded(place, rule, holding, listed)

    async def _guarded(
        self, place: Place, rule: Rule, holding: Holding, listed: tuple[OpenOrder, ...]
    ) -> None:
        """One stop; when something goes wrong, the others and the closes do not wait for it."""
        try:
            await self._look_after(place, rule, holding, listed)
        except Exception as error:
            if isinstance(error, BridgeError):
                log.warning("stop-not-changed", rule=place[0], reason=error.detail)
            else:
                log.exception("stop-not-changed", rule=place[0])
            if self._troubles.add(place, lasting=lasting(error)):
                await self._tell_of_trouble(place, holding, reason(error))

    async def _tell_of_trouble(self, place: Place, holding: Holding, why: str) -> None:
        memory = self.journal.memories.get(place)
        guard = None if memory is None else memory.guard
        detail: dict[str, Any] = {"why": why, "held": holding.units}
        if guard is not None and not guard.ended and not guard.anew:
            detail |= {"stop": guard.stop, "covered": guard.units}
        try:
            await self._tell(place, holding, "unprotected", detail)
        except BridgeError as error:
            log.warning("stop-trouble-not-told", rule=place[0], reason=error.detail)
        else:
            self._troubles.told(place)

    async def _look_after(
        self, place: Place, rule: Rule, holding: Holding, listed: tuple[OpenOrder, ...]
    ) -> None:
        memory, now = self.journal.memories[place], self.clock.now()
        beyond = stop_beyond_reach(rule, holding, memory)
        if beyond is not None and (memory.guard is None or memory.guard.anew):
            why = f"its stop would stand at {beyond:.6g}: no price gets there"
            if self._troubles.add(place, lasting=True):
                await self._tell_of_trouble(place, holding, why)
            return
        planned = await self.planned(rule, holding, memory, now)
        if planned is not None:
            await self.journal.keep(place, planned)
            tended = await self.send(holding, planned)
        else:
            tended = await self.tend(rule, holding, memory, now, listed)
        await self._tended(place, holding, tended)
        if not tended.unsure and self._troubles.over(place) and not tended.event:
            await self._tell_well(place, holding)

    async def _tell_well(self, place: Place, holding: Holding) -> None:
        """People were told that it could not follow, and it stands where it should."""
        guard = self.journal.memories[place].guard
        if guard is not None and not guard.ended and not guard.anew:
            detail = {"stop": guard.stop, "quantity": guard.units}
            await self._tell(place, holding, "protected", detail)

    async def take_away(self, place: Place) -> None:
        """Cancels the stop of this memory, or tries to: each turn does so again."""
        try:
            await self._take_away(place)
        except BridgeError as error:
            log.warning("stop-not-taken-away", rule=place[0], reason=error.detail)
        except Exception:
            log.exception("stop-not-taken-away", rule=place[0])

    async def _take_away(self, place: Place) -> None:
        """It is `anew` once it has certainly ended."""
        memory = self.journal.memories[place]
        guard = memory.guard
        if guard is None or guard.anew:
            return
        state = await self.withdraw(memory)
        if state.state in {"open", "unknown"}:
            return
        anew = structs.replace(memory, guard=structs.replace(guard, anew=True))
        event, detail = "", {"reason": "the stop at the broker", "quantity": state.filled}
        if state.state == "filled" and not guard.ended:
            event = "closed"
        holding = self.watch.holding(place[1])
        await self._tended(place, holding, Tended(anew, event, detail))

    async def _tended(self, place: Place, holding: Holding | None, tended: Tended) -> None:
        if tended.memory != self.journal.memories.get(place):
            await self.journal.keep(place, tended.memory)
        if tended.event:
            await self._tell(place, holding, tended.event, tended.detail or {})

    async def _tell(
        self, place: Place, holding: Holding | None, kind: str, detail: dict[str, Any]
    ) -> None:
        which = {"holding": place[1]} if holding is None else named(holding)
        now = self.clock.now()
        await self.journal.tell(
            RuleEvent(at=now, kind=kind, rule=place[0], detail={**which, **detail})
        )

    async def planned(
        self, rule: Rule, holding: Holding, memory: Memory, now: datetime
    ) -> Memory | None:
        """The memory with a new stop that is to be sent; to be kept first. None: nothing is new.

        One that somebody cancelled, or that was refused, is not replaced for this holding.
        """
        guard = memory.guard
        if guard is not None and not guard.anew:
            state = await self._state(memory)
            if guard.ended or state.state != "unsent":
                return None
        stop = stop_price(rule, holding, memory)
        units = exact(holding.units - await self.orders.working(holding))
        if stop is None or units <= 0:
            return None
        number = 1 if guard is None else guard.number + 1
        key = f"rule-{_digest(rule, holding, memory)}-stop-{number}"
        made = Guard(number=number, key=key, stop=stop, units=units, at=now)
        return structs.replace(memory, guard=made)

    async def send(self, holding: Holding, memory: Memory) -> Tended:
        """Sends the stop that the memory has; it was kept before."""
        guard = memory.guard
        if guard is None:
            return Tended(memory)
        contract = holding.legs[0].contract
        request = OrderRequest(
            symbol=contract.symbol,
            con_id=contract.con_id,
            action="SELL" if holding.direction > 0 else "BUY",
            quantity=guard.units,
            order_type="STP",
            stop_price=guard.stop,
            tif="GTC",
            account=holding.account,
            round_to_tick=True,
        )
        try:
            await self.orders.place(guard.key, request)
        except BridgeError as error:
            state = await self._state(memory)
            if state.state not in {"unsent", "refused"}:
                return Tended(memory, unsure=True)  # looked at again at the next turn
            ended = structs.replace(memory, guard=structs.replace(guard, ended=True))
            return Tended(ended, "unprotected", {"why": error.detail})
        return Tended(memory, "protected", {"stop": guard.stop, "quantity": guard.units})

    async def tend(
        self,
        rule: Rule,
        holding: Holding,
        memory: Memory,
        now: datetime,
        listed: tuple[OpenOrder, ...],
    ) -> Tended:
        """Looks after a stop that is out: its size follows the position, its price the rule."""
        guard = memory.guard
        if guard is None or guard.ended or guard.anew:
            return Tended(memory)
        state = await self._state(memory)
        if state.state == "filled":
            return Tended(memory)  # the position will be gone in a moment
        if state.state in {"cancelled", "refused"}:
            ended = structs.replace(memory, guard=structs.replace(guard, ended=True))
            why = state.reason or f"the stop at the broker is {state.state}"
            return Tended(ended, "unprotected", {"why": why})
        if state.state != "open":
            return Tended(memory, unsure=True)
        units = exact(holding.units - await self.orders.working(holding, guard.key, listed))
        wanted = stop_price(rule, holding, memory)
        moved = wanted if wanted is not None and _nearer(guard, wanted, holding, now) else None
        whole = exact(units + state.filled)
        size = None if abs(whole - guard.units) < SLACK else whole
        if units <= 0 or (moved is None and size is None):
            return Tended(memory)
        change = ChangeRequest(quantity=size, stop_price=moved, round_to_tick=True)
        await self.orders.change_order(guard.key, change)
        after = structs.replace(
            guard,
            stop=guard.stop if moved is None else moved,
            units=guard.units if size is None else size,
            at=now,
        )
        detail = {"stop": after.stop, "quantity": after.units}
        return Tended(structs.replace(memory, guard=after), "protected", detail)

    async def withdraw(self, memory: Memory) -> Working:
        """Takes a stop away; what is known of its order then."""
        if memory.guard is None:
            return Working(state="unsent")
        state = await self._state(memory)
        if state.state == "open":
            try:
                await self.orders.cancel_order(memory.guard.key)
            except BridgeError as error:
                log.warning("stop-not-cancelled", key=memory.guard.key, reason=error.detail)
            state = await self._state(memory)
        return state

    async def _state(self, memory: Memory) -> Working:
        if memory.guard is None:
            return Working(state="unsent")
        return await self.orders.state_of(memory.guard.key)


def _digest(rule: Rule, holding: Holding, memory: Memory) -> str:
    begun = (memory.made_at or memory.first_seen).isoformat()
    text = f"{rule.id}|{holding.key}|{begun}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _nearer(guard: Guard, wanted: float, holding: Holding, now: datetime) -> bool:
    gain = (wanted - guard.stop) * holding.direction
    waited = (now - guard.at).total_seconds() >= MOVE_SECONDS
    return waited and gain > abs(guard.stop) * MOVE_PERCENT / 100

"""A stop at the broker beside a rule, for the time that nobody here can act.

There is one for each holding: where the nearest of its rules would close, as large as what is held
less what works already. Prices move it only nearer. It is cancelled before a rule closes, when the
position is gone and when the rules are taken away. Its order is written down in a rule's memory
before it is sent.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final

import msgspec
import structlog
from msgspec import structs

from bridge.clock import Clock, passed
from bridge.errors import BridgeError
from bridge.model import OpenOrder
from bridge.orders.errors import TradingHaltedError
from bridge.orders.request import ChangeRequest, OrderRequest
from bridge.quantity import SLACK, exact, figure, plain
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.closing_steps import CANCEL_SECONDS, Working
from bridge.rules.evaluation import Guard, Memory, stop_beyond_reach, stop_price
from bridge.rules.holdings import Holding
from bridge.rules.journal import Place, RuleJournal, named
from bridge.rules.model import Rule
from bridge.rules.trouble import Troubles, forbidden, lasting, pause, reason
from bridge.rules.watch import HoldingWatch
from bridge.side_by_side import side_by_side
from bridge.store.rules import RuleEvent

log = structlog.get_logger(__name__)

MOVE_SECONDS: Final = 10.0
"""A stop that follows a price is moved at most so often."""
MOVE_PERCENT: Final = 0.1
"""And only when it gets nearer by so much of the price."""
SETTLING_SECONDS: Final = 3.0
"""After a stop has filled, the position that it closed is there for a moment still."""
_ALL_CLOSED: Final = "orders that work already close all that is held"


@dataclass(frozen=True)
class Tended:
    """The memory with its stop as it is now; `event` and `detail` are to be told.

    `unsure`: nobody knows yet what the stop is.
    """

    memory: Memory
    event: str = ""
    detail: dict[str, Any] | None = None
    unsure: bool = False


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What the rules want of a holding's stop: `stop` is where, None nowhere now.

    `beyond`: where it would stand, when no price gets there. `terms` is another when the rules are.
    """

    holding: Holding
    stop: float | None
    beyond: float | None
    terms: str


@dataclass(kw_only=True, eq=False)
class Protection:
    """Keeps stops at the broker. What goes wrong with one concerns its holding alone.

    `halted` says whether trading is: then no change is sent. `hurried` says whether something else
    has to be done at once: then the others are looked after in the next turn.
    """

    orders: ClosingOrders
    journal: RuleJournal
    watch: HoldingWatch
    clock: Clock
    halted: Callable[[], bool]
    hurried: Callable[[], bool]
    _last: Place | None = field(default=None, init=False)
    """The one that was looked after last."""
    _troubles: Troubles = field(init=False)
    _cancels: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self._troubles = Troubles(clock=self.clock)
        self._cancels = Troubles(clock=self.clock)

    async def make_way(self, wanted: Mapping[Place, tuple[Rule, Holding]]) -> None:
        """Takes all stops away but one for each holding that rules want one for.

        Of what the gateway may not have listed yet they stay.
        """
        kept, memories = self._chosen(wanted), self.journal.memories
        out = [each for each, memory in memories.items() if memory.guard and each not in kept]
        await self.take_all_away(each for each in out if not self.watch.may_come_yet(each[1]))

    async def follow(self, wanted: Mapping[Place, tuple[Rule, Holding]], *, judging: bool) -> None:
        """One stop for each holding that rules want one for.

        Args:
            wanted: which rules want one for which holding.
            judging: whether anything is judged now; else none is sent or moved. While trading is
                halted those that have become too large are cancelled: people close by hand then.

        Raises:
            TwsError: the broker does not say what is open; none is sent or moved.
        """
        chosen = self._chosen(wanted)
        for key in set(self._troubles.of()) - chosen.keys():
            self._troubles.over(key)
        if not chosen or not (judging or self.halted()):
            return
        listed = await self.orders.listed()  # once for all of them
        for place in self._in_turn(chosen):
            self._last = place
            if not self._troubles.rests(place):
                await self._guarded(place, chosen[place], listed, judging=judging)
            if self.hurried():
                self.journal.soon()
                return

    def _in_turn(self, chosen: Mapping[Place, Wish]) -> list[Place]:
        """Those first that the last turn had no time for."""
        places, last = list(chosen), self._last
        first = places.index(last) + 1 if last is not None and last in chosen else 0
        return places[first:] + places[:first]

    def _chosen(self, wanted: Mapping[Place, tuple[Rule, Holding]]) -> dict[Place, Wish]:
        """Which rule keeps the stop of each holding: the one that has it already goes on.

        It stands for all of them, at the nearest level. One that somebody cancelled, or that was
        refused, is replaced by none of the others'.
        """
        by_holding: dict[str, list[Place]] = defaultdict(list)
        for place in wanted:
            by_holding[place[1]].append(place)
        chosen = {}
        for places in by_holding.values():
            memories = self.journal.memories
            levels = [(wanted[each][0], memories[each]) for each in places]
            wish = _wish(wanted[places[0]][1], levels)

            def rank(place: Place, direction: int = wish.holding.direction) -> tuple[int, float]:
                guard = self.journal.memories[place].guard
                if guard is None or guard.anew:
                    return (2, 0.0)
                return (1 if guard.ended else 0, -direction * guard.stop)

            chosen[min(places, key=rank)] = wish
        return chosen

    async def _guarded(
        self, place: Place, wish: Wish, listed: tuple[OpenOrder, ...], *, judging: bool
    ) -> None:
        """One stop; when something goes wrong, the others and the closes do not wait for it."""
        try:
            if judging:
                await self._look_after(place, wish, listed)
            else:
                await self._not_too_large(place, wish, listed)
        except Exception as error:
            if isinstance(error, BridgeError):
                log.warning("stop-not-changed", rule=place[0], reason=error.detail)
            else:
                log.exception("stop-not-changed", rule=place[0])
            await self._in_trouble(place, wish.holding, reason(error), lasting=lasting(error))

    async def _in_trouble(self, place: Place, holding: Holding, why: str, *, lasting: bool) -> None:
        """Tells people when it is time to."""
        if not self._troubles.add(place, lasting=lasting):
            return
        detail: dict[str, Any] = {"why": why, "held": holding.units}
        memory = self.journal.memories.get(place)
        if memory is not None and memory.guard is not None and not memory.guard.anew:
            state = await self._state(memory)
            if state.state in {"open", "unknown"} and not state.idle:  # else it covers nothing
                covered = exact(_whole(memory.guard, state) - state.filled)
                detail |= {"stop": memory.guard.stop, "covered": covered}
        try:
            await self._tell(place, holding, "unprotected", detail)
        except BridgeError as error:
            log.warning("stop-trouble-not-told", rule=place[0], reason=error.detail)
        else:
            self._troubles.told(place)

    async def _look_after(self, place: Place, wish: Wish, listed: tuple[OpenOrder, ...]) -> None:
        tended = await self._looked_after(place, wish, listed)
        if tended is None:
            return
        await self._tended(place, wish.holding, tended)
        if not tended.unsure and self._troubles.over(place) and not tended.event:
            await self._tell_well(place, wish.holding)

    async def _looked_after(
        self, place: Place, wish: Wish, listed: tuple[OpenOrder, ...]
    ) -> Tended | None:
        """None: there can be none now, and people are told why."""
        memory = self.journal.memories[place]
        guard = memory.guard
        none = guard is None or guard.anew or (guard.ended and _may_follow(guard, wish))
        if guard is not None and not none and guard.ended:
            return Tended(memory)  # a person's word: not replaced until the rules are others
        if guard is not None and not none and guard.withdrawn:
            return await self._without(place)
        state = Working(state="unsent") if none else await self._state(memory)
        if state.state != "unsent":
            return await self._as_it_works(place, wish, state, listed)
        if wish.stop is None and wish.beyond is not None:
            why = f"its stop would stand at {figure(wish.beyond)}: no price gets there"
            await self._in_trouble(place, wish.holding, why, lasting=True)
            return None
        if wish.stop is None:
            return Tended(memory)
        others = await self.orders.working(wish.holding)
        units = wish.holding.fitting(wish.holding.units - others)
        if units <= 0:
            await self._in_trouble(place, wish.holding, _ALL_CLOSED, lasting=False)
            return None
        planned = self._planned(place, wish, wish.stop, units)
        await self.journal.keep(place, planned)
        return await self.send(place, wish.holding, planned)

    async def _as_it_works(
        self, place: Place, wish: Wish, state: Working, listed: tuple[OpenOrder, ...]
    ) -> Tended:
        """One that the broker holds back follows as well, but protects nothing: people are told."""
        tended = await self.tend(place, wish, state, listed)
        if tended.unsure or not state.idle:
            return tended
        await self._in_trouble(place, wish.holding, state.held_back, lasting=False)
        return Tended(tended.memory, unsure=True)

    async def _not_too_large(self, place: Place, wish: Wish, listed: tuple[OpenOrder, ...]) -> None:
        """While trading is halted: what would turn the position round goes, all else stays."""
        memory = self.journal.memories[place]
        guard = memory.guard
        if guard is None or guard.anew or guard.ended:
            return
        state = await self._state(memory)
        if state.state != "open":
            return
        if guard.withdrawn:
            await self._without(place)
            return
        others = await self.orders.working(wish.holding, guard.key, listed)
        if _is_too_large(guard, state, exact(wish.holding.units - others)):
            await self._without_what_is_too_large(place, wish, "trading is halted")

    async def _without_what_is_too_large(self, place: Place, wish: Wish, cause: str) -> Tended:
        tended = await self._without(place)
        why = (
            f"it was for more than is left to close, and cannot be made smaller ({cause}): it is"
            " cancelled, and another follows as soon as one may be sent"
        )
        await self._in_trouble(place, wish.holding, why, lasting=True)
        return tended

    async def _without(self, place: Place) -> Tended:
        """Takes the stop away, to make another when it has certainly ended."""
        await self._take_away(place)
        memory = self.journal.memories[place]
        if memory.guard is not None and memory.guard.anew:
            self.journal.soon()
        return Tended(memory, unsure=True)

    async def _tell_well(self, place: Place, holding: Holding) -> None:
        """People were told that it could not follow, and it stands where it should."""
        guard = self.journal.memories[place].guard
        if guard is not None and not guard.ended and not guard.anew:
            detail = {"stop": guard.stop, "quantity": guard.units}
            await self._tell(place, holding, "protected", detail)

    async def take_all_away(self, places: Iterable[Place]) -> None:
        """`take_away` of each, a few side by side."""
        await side_by_side(partial(self.take_away, each) for each in places)

    async def take_away(self, place: Place) -> None:
        """Cancels the stop of this memory, or tries to: each turn does so again."""
        try:
            await self._take_away(place)
        except BridgeError as error:
            log.warning("stop-not-taken-away", rule=place[0], reason=error.detail)
        except Exception:
            log.exception("stop-not-taken-away", rule=place[0])

    async def _take_away(self, place: Place) -> None:
        """It is `anew` once it has certainly ended.

        That it is us who cancel is written down first: its end is nobody else's word then.
        """
        memory = self.journal.memories[place]
        guard = memory.guard
        if guard is None or guard.anew:
            return
        if not guard.withdrawn and not guard.ended:
            guard = structs.replace(guard, withdrawn=True)
            memory = structs.replace(memory, guard=guard)
            await self.journal.keep(place, memory)
        state = await self.withdraw(memory)
        if state.state in {"open", "unknown"}:
            await self._in_the_way(place, guard, state)
            return
        self._cancels.over(guard.key)
        anew = structs.replace(memory, guard=structs.replace(guard, anew=True))
        event, detail = "", {"reason": "the stop at the broker", "quantity": state.filled}
        if state.state == "filled" and not guard.ended:
            event = "closed"
        holding = self.watch.holding(place[1])
        await self._tended(place, holding, Tended(anew, event, detail))

    async def _in_the_way(self, place: Place, guard: Guard, state: Working) -> None:
        """Tells people, when it stays so, of a stop that ought to have gone: it may open one."""
        if not self._cancels.add(guard.key, lasting=False):
            return
        why = f"it stands at {figure(guard.stop)} and may open a position: cancel it in TWS"
        left = exact(_whole(guard, state) - state.filled)
        detail = {"leftover": True, "stop": guard.stop, "quantity": left, "why": why}
        await self._tell(place, self.watch.holding(place[1]), "waits", detail)
        self._cancels.told(guard.key)

    async def _tended(self, place: Place, holding: Holding | None, tended: Tended) -> None:
        now = self.journal.memories.get(place, tended.memory)
        memory = structs.replace(now, guard=tended.memory.guard)  # a tick may have seen more since
        if memory != self.journal.memories.get(place):
            await self.journal.keep(place, memory)
        if tended.event:
            await self._tell(place, holding, tended.event, tended.detail or {})

    async def _tell(
        self, place: Place, holding: Holding | None, kind: str, detail: dict[str, Any]
    ) -> None:
        memory = self.journal.memories.get(place)
        known = memory.guard.named if memory is not None and memory.guard is not None else {}
        which = (known or {"holding": place[1]}) if holding is None else named(holding)
        now = self.clock.now()
        await self.journal.tell(
            RuleEvent(at=now, kind=kind, rule=place[0], detail={**which, **detail})
        )

    def _planned(self, place: Place, wish: Wish, stop: float, units: float) -> Memory:
        """The memory with a new stop that is to be sent; to be kept first."""
        memory = self.journal.memories[place]
        number = 1 if memory.guard is None else memory.guard.number + 1
        made = Guard(
            number=number,
            key=f"rule-{_digest(place, memory)}-stop-{number}",
            stop=stop,
            units=units,
            at=self.clock.now(),
            terms=wish.terms,
            named=named(wish.holding),
        )
        return structs.replace(memory, guard=made)

    async def send(self, place: Place, holding: Holding, memory: Memory) -> Tended:
        """Sends the stop that the memory has; it was kept before.

        Raises:
            BridgeError: it did not get out, and may at another time.
        """
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
            if state.state == "unsent" and (forbidden(error) or not lasting(error)):
                self._troubles.rest(place, pause(error))
                raise
            ended = structs.replace(memory, guard=structs.replace(guard, ended=True))
            return Tended(ended, "unprotected", {"why": error.detail})
        return Tended(memory, "protected", {"stop": guard.stop, "quantity": guard.units})

    async def tend(
        self, place: Place, wish: Wish, state: Working, listed: tuple[OpenOrder, ...]
    ) -> Tended:
        """Looks after a stop that is out: its size follows the position, its price the rules.

        Raises:
            BridgeError: it goes on as it was.
        """
        memory = self.journal.memories[place]
        guard = memory.guard
        if guard is None:
            return Tended(memory)
        if state.state == "filled":
            return self._filled(memory, guard, wish.holding, state)
        if state.state in {"cancelled", "refused"}:
            ended = structs.replace(memory, guard=structs.replace(guard, ended=True))
            why = state.reason or f"the stop at the broker is {state.state}"
            return Tended(ended, "unprotected", {"why": why})
        if state.state != "open":
            return Tended(memory, unsure=True)
        others = await self.orders.working(wish.holding, guard.key, listed)
        filled = state.filled
        units = exact(wish.holding.fitting(wish.holding.units - others + filled) - filled)
        if units <= 0:  # beside them it would be larger than what is held
            await self._in_trouble(place, wish.holding, _ALL_CLOSED, lasting=False)
            return await self._without(place)
        if wish.stop is None and wish.holding.priced and _changed(guard, wish):
            return await self._without(place)
        try:
            return await self._moved(memory, guard, wish, state, units)
        except BridgeError as error:
            if not (isinstance(error, TradingHaltedError) or lasting(error)):
                raise
            now = await self._state(memory)  # it may have filled, or ended, since it was looked at
            if now.state != "open" or not _is_too_large(guard, now, units):
                raise
            return await self._without_what_is_too_large(place, wish, error.detail)

    async def _moved(
        self, memory: Memory, guard: Guard, wish: Wish, state: Working, units: float
    ) -> Tended:
        """What the broker has counts, not what was intended: a change may not have got there.

        While the contract's details are not known, it only gets smaller.
        """
        size, whole = _size(guard, state, units), _whole(guard, state)
        known = wish.holding.priced
        if size is not None and size > whole and not known:
            size = None
        stop = _level(guard, wish, self.clock.now(), _stands(guard, wish, state))
        after = structs.replace(
            guard,
            stop=guard.stop if stop is None else stop,
            units=whole if size is None else size,
            at=guard.at if stop is None and size is None else self.clock.now(),
            terms=wish.terms if known else guard.terms,
            named=named(wish.holding),
        )
        kept = structs.replace(memory, guard=after)
        if stop is None and size is None:
            return Tended(kept)
        change = ChangeRequest(quantity=size, stop_price=stop, round_to_tick=True)
        await self.orders.change_order(guard.key, change)
        return Tended(kept, "protected", {"stop": after.stop, "quantity": after.units})

    def _filled(self, memory: Memory, guard: Guard, holding: Holding, state: Working) -> Tended:
        """The position will be gone in a moment; what is held still then gets another stop."""
        ended_at = state.ended_at
        if ended_at is not None and not passed(ended_at, self.clock.now(), SETTLING_SECONDS):
            loop = asyncio.get_running_loop()
            loop.call_later(SETTLING_SECONDS + 0.1, self.journal.soon)
            return Tended(memory, unsure=True)
        self.journal.soon()
        anew = structs.replace(memory, guard=structs.replace(guard, anew=True))
        detail = {
            "reason": "the stop at the broker",
            "quantity": state.filled,
            "held": holding.units,
            "why": f"{plain(holding.units)} are held still",
        }
        return Tended(anew, "closed", detail)

    async def withdraw(self, memory: Memory) -> Working:
        """Takes a stop away; what is known of its order then."""
        if memory.guard is None:
            return Working(state="unsent")
        state, key = await self._state(memory), memory.guard.key
        if state.state == "open" and not self._cancels.rests(key):
            try:
                await self.orders.cancel_order(key)
            except BridgeError as error:
                log.warning("stop-not-cancelled", key=key, reason=error.detail)
                self._cancels.rest(key, CANCEL_SECONDS)
            state = await self._state(memory)
        return state

    async def _state(self, memory: Memory) -> Working:
        if memory.guard is None:
            return Working(state="unsent")
        return await self.orders.state_of(memory.guard.key)


def _wish(holding: Holding, levels: list[tuple[Rule, Memory]]) -> Wish:
    """What all these rules together want of the one stop: the nearest of their levels."""
    nearest = max if holding.direction > 0 else min
    stops = [stop_price(rule, holding, memory) for rule, memory in levels]
    beyond = [stop_beyond_reach(rule, holding, memory) for rule, memory in levels]
    said = sorted((rule.id, rule.stop_loss, rule.trailing) for rule, _ in levels)
    return Wish(
        holding=holding,
        stop=nearest((each for each in stops if each is not None), default=None),
        beyond=nearest((each for each in beyond if each is not None), default=None),
        terms=hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:16],
    )


def _digest(place: Place, memory: Memory) -> str:
    begun = (memory.made_at or memory.first_seen).isoformat()
    return hashlib.sha256(f"{place[0]}|{place[1]}|{begun}".encode()).hexdigest()[:24]


def _changed(guard: Guard, wish: Wish) -> bool:
    """Whether the rules say something else than when it was put there."""
    return bool(guard.terms) and guard.terms != wish.terms


def _may_follow(guard: Guard, wish: Wish) -> bool:
    """Whether another stop may be sent after one that has ended.

    Also after one of an earlier release for a size that no order has: it never got out.
    """
    return _changed(guard, wish) or wish.holding.fitting(guard.units) < guard.units - SLACK


def _whole(guard: Guard, state: Working) -> float:
    return guard.units if state.quantity is None else state.quantity


def _is_too_large(guard: Guard, state: Working, units: float) -> bool:
    """Whether more of it may still fill than is left to close."""
    return exact(_whole(guard, state) - state.filled) > max(0.0, units) + SLACK


def _size(guard: Guard, state: Working, units: float) -> float | None:
    """The order's new quantity, to be left for so many units; None: it stays.

    One that has begun to fill only gets smaller: what is held may be of before the fill. The rest
    gets a stop of its own when this one is filled.
    """
    wanted, present = exact(units + state.filled), _whole(guard, state)
    if abs(wanted - present) < SLACK or (wanted > present and state.filled > 0):
        return None
    return wanted


def _stands(guard: Guard, wish: Wish, state: Working) -> float:
    """Where it stands: a person may have moved it nearer than it was asked for.

    The broker's price is the one that was asked for, or on the tick that is further away.
    """
    nearer = max if wish.holding.direction > 0 else min
    return guard.stop if state.stop is None else nearer(guard.stop, state.stop)


def _level(guard: Guard, wish: Wish, now: datetime, stands: float) -> float | None:
    """Where it is to stand; None: it stays where it `stands`.

    A price moves it only nearer, and not at every tick; a person who writes the rules anew may also
    loosen them.
    """
    if wish.stop is None:
        return None
    gain = (wish.stop - stands) * wish.holding.direction
    if _changed(guard, wish):
        return wish.stop if abs(gain) > SLACK else None
    enough = gain > abs(stands) * MOVE_PERCENT / 100
    return wish.stop if enough and passed(guard.at, now, MOVE_SECONDS) else None

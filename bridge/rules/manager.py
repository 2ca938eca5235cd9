"""The position manager: looks, judges, decides once, closes, and tells of all of it.

One task takes turns: after a tick, a fill, a change of the rules, and every 30 seconds at least.

    may anything be judged now? ── no ──> nothing is, and why is shown
        │ yes
    positions (asked again when something moved) ──> judge ──> decisions
        │
    one transaction: memory, decision, event ──> closes, step by step, each written down before it
    is sent

Nothing is judged while the session is not ready, trading is halted (but for closing, where that is
allowed), the gateway is about to restart, or the journal cannot be written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import structlog
from msgspec import Struct, structs

from bridge.account.held_before import HeldBefore
from bridge.clock import Clock, settle
from bridge.errors import BridgeError
from bridge.model import OrderStatus, Position
from bridge.orders.halt import HaltSwitch
from bridge.restart_calendar import RestartCalendar
from bridge.rules.closing import Closes
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.evaluation import (
    Judgement,
    Market,
    Memory,
    Standing,
    is_of_earlier,
    judge,
    remembered,
    standing_of,
)
from bridge.rules.holdings import Holding, fits
from bridge.rules.journal import Place, RuleJournal
from bridge.rules.model import Rule, RuleSet, wording
from bridge.rules.protection import Protection
from bridge.rules.unjudged import AGAIN_SECONDS, NO_DETAILS, Unjudged
from bridge.rules.watch import HoldingWatch
from bridge.services import Need
from bridge.store import Database
from bridge.store.condition import JournalCondition
from bridge.store.rules import RuleEvent
from bridge.tws.gateway import Gateway

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 30.0
"""Positions are asked for at least so often."""
CLOSING_SECONDS: Final = 1.0
"""A turn at least so often while something is being closed."""
RESTING_SECONDS: Final = 60.0
RESTING_TURN_SECONDS: Final = 5.0
"""After which a close that does not get on is looked at less often, and how often then."""
SETTLING_SECONDS: Final = 3.0
"""How long a position is there before it is judged: its executions come a moment after it."""
GATHER_SECONDS: Final = 0.05
"""Ticks of one moment are judged together."""
_UNSEEN: Final = "nothing is judged, and nothing closed: {}"
_UNFOLLOWED: Final = "stops at the broker are neither sent nor moved: {}"
REFUSALS_SECONDS: Final = 30.0
"""So often it is looked at what settings refuse: they hardly change, and turns are many."""
MOST_STATUSES: Final = 5000
"""Of the latest orders is remembered what the broker said of them."""


class Terms(Struct, frozen=True, kw_only=True):
    """What holds for all rules."""

    rules: RuleSet = RuleSet()
    version: int = 0


class Circumstances(Struct, frozen=True):
    """What the manager is given."""

    database: Database
    gateway: Gateway
    clock: Clock
    watch: HoldingWatch
    orders: ClosingOrders
    halt: HaltSwitch
    condition: JournalCondition
    restarts: RestartCalendar
    guard_seconds: float
    late: Callable[[], tuple[HeldBefore, ...]] = tuple
    """What was held before a login, and may only not be listed again yet."""


class PositionManager:
    """One for each bridge. `happened` is emitted with each event once it is in the journal."""

    def __init__(self, given: Circumstances) -> None:
        self.waits: str | None = "it has not begun"
        self._given = given
        self._clock = given.clock
        self._terms = Terms()
        self._wordings: dict[str, str] = {}
        self._decided: list[tuple[Rule, Holding, Judgement]] = []
        self._moved: set[int] = set()
        self._gathering: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._stale = True
        self._statuses: dict[tuple[int, int, int], tuple[str, float, float]] = {}
        self._task: asyncio.Task[None] | None = None
        self._journal = RuleJournal(database=given.database, clock=given.clock, soon=self._wake.set)
        self.happened = self._journal.happened
        self._unjudged = Unjudged(clock=given.clock, tell=self._tell)
        self._refusals: list[tuple[Rule, Holding, str]] = []
        self._refusals_of: RuleSet | None = None
        self._refusals_at = float("-inf")
        self._protection = Protection(
            orders=given.orders,
            journal=self._journal,
            watch=given.watch,
            clock=given.clock,
            halted=lambda: given.halt.halt is not None,
            hurried=lambda: bool(self._decided),
        )
        self._closes = Closes(
            journal=self._journal,
            orders=given.orders,
            watch=given.watch,
            halt=given.halt,
            clock=given.clock,
            pause=self._pause,
            ended=self.look_again,
        )
        given.watch.moved = self._price_moved
        given.watch.direction_of = self._direction_of
        given.watch.answered = self.look_again
        given.gateway.events.ready.listen(self.look_again)
        given.gateway.events.position.listen(self._position_changed)
        given.gateway.events.execution.listen(lambda _: self.look_again())
        given.gateway.events.order_status.listen(self._status_changed)

    # life ---------------------------------------------------------------------------------------

    async def start(self, terms: Terms) -> None:
        """Takes over what the last process left, and begins."""
        self._take(terms)
        self._closes.take_over(await self._journal.load())
        for place, memory in tuple(self._journal.memories.items()):
            now = self._wordings.get(place[0])
            if memory.wording and now and memory.wording != now:
                self._changed(place, memory)
        for event in self._journal.damaged:
            try:
                await self._journal.tell(event)
            except BridgeError as error:
                log.warning("damage-not-told", rule=event.rule, reason=error.detail)
        self._unjudged.recall(await self._journal.waits_since(AGAIN_SECONDS))
        self._task = asyncio.create_task(self._run(), name="position-manager")

    async def stop(self) -> None:
        """Ends; what is working at the broker goes on."""
        await settle(self._task)
        self._task = None
        try:
            await self._journal.keep_changed()
        except BridgeError as error:
            log.warning("high-water-marks-not-kept", reason=error.detail)
        await self._given.watch.stop()

    def adopt(self, terms: Terms) -> None:
        """Goes on with other rules. One that is another than before may decide anew."""
        old = self._terms.rules
        before = {rule.id: (rule, old.mode_of(rule)) for rule in old.rules}
        self._take(terms)
        self._decided.clear()
        for rule in terms.rules.rules:
            if before.get(rule.id) == (rule, terms.rules.mode_of(rule)):
                continue
            for place, memory in tuple(self._journal.memories.items()):
                if place[0] == rule.id:
                    self._changed(place, memory)
        self.look_again()

    def _take(self, terms: Terms) -> None:
        rules = terms.rules
        self._terms = terms
        self._wordings = {each.id: wording(each, rules.mode_of(each)) for each in rules.rules}

    def _changed(self, place: Place, memory: Memory) -> None:
        """The rule is another than before: it may act once more, but not beside its own close."""
        again = memory if self._closes.of(place[1]) else _begun_anew(memory)
        self._journal.note(place, structs.replace(again, wording=self._wordings[place[0]]))

    def look_again(self) -> None:
        """Something may have changed the positions."""
        self._stale = True
        self._wake.set()

    def _position_changed(self, position: Position) -> None:
        """The answers to what is asked for come this way, too: only another size is news."""
        if self._given.watch.is_news(position):
            self.look_again()

    def _status_changed(self, status: OrderStatus) -> None:
        """A list of open orders, which turns ask for, repeats all of them: that is no news."""
        order = (status.client_id, status.order_id, status.perm_id)
        now = (status.status, status.filled, status.remaining)
        if self._statuses.pop(order, None) != now:
            self._wake.set()
        self._statuses[order] = now
        if len(self._statuses) > MOST_STATUSES:
            del self._statuses[next(iter(self._statuses))]

    # what is seen -------------------------------------------------------------------------------

    @property
    def rules(self) -> RuleSet:
        """The rules of the moment."""
        return self._terms.rules

    def standing(self) -> list[Standing]:
        """How each rule stands to each holding at this moment; a level once shown never loosens."""
        found: list[Standing] = []
        for holding in self._given.watch.holdings:
            try:
                found += self._standing_of(holding)
            except Exception:  # of this one; the others are shown
                log.exception("rules-standing-failed", holding=holding.key)
        return found

    def _standing_of(self, holding: Holding) -> list[Standing]:
        found = []
        closing = self._closes.of(holding.key)
        by = None if closing is None else f"rule {closing.rule} closes it"
        waits, market = self.waits or by, self._given.watch.market(holding)
        for rule in self._rules_for(holding):
            place = (rule.id, holding.key)
            followed = waits is None and self._memory(place, holding) is not None
            judged = self._judged(rule, holding, market if followed else _still(market))
            if judged is None:
                memory = remembered(holding, self._clock.now())
                judged = Judgement(
                    rule=rule.id, holding=holding.key, memory=memory, waits=NO_DETAILS
                )
            elif followed:  # a price between two turns may have moved what is shown
                mark = structs.replace(judged.memory, decided=self._decided_of(place))
                self._journal.note(place, mark)
            shown = standing_of(judged, holding, self._terms.rules.mode_of(rule))
            before = self._stop_of_earlier(place, holding)
            found.append(structs.replace(shown, waits=waits or before or shown.waits))
        return found

    def _decided_of(self, place: Place) -> bool:
        memory = self._journal.memories.get(place)
        return memory is not None and memory.decided

    @property
    def holdings(self) -> int:
        """How many holdings some rule is for."""
        return len(self._given.watch.holdings)

    # turns --------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._wake.clear()
            try:
                await self.turn()
            except BridgeError as error:
                self.waits = error.detail
                log.warning("rules-turn-failed", reason=error.detail, code=error.code)
                await self._unjudged.blind(_UNSEEN.format(self.waits))
            except Exception:
                self.waits = "an error of the bridge; see its log"
                log.exception("rules-turn-failed")
                await self._unjudged.blind(_UNSEEN.format(self.waits))
            await self._woken_within(self._patience())

    def _patience(self) -> float:
        """How long nothing need be looked at."""
        if not self._closes.running:
            return RESTING_TURN_SECONDS if self._stale else LOOK_SECONDS
        now = self._clock.now()
        moved = max(each.stepped_at or each.began_at for each in self._closes.running.values())
        resting = (now - moved).total_seconds() > RESTING_SECONDS
        return RESTING_TURN_SECONDS if resting else CLOSING_SECONDS

    async def _woken_within(self, seconds: float) -> None:
        waking = asyncio.ensure_future(self._wake.wait())
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        try:
            await asyncio.wait({waking, sleeping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waking.cancel()
            sleeping.cancel()

    async def turn(self) -> None:
        """One look at everything."""
        self.waits = self._pause()
        if self._nothing_to_do() or self._away() is not None:
            self._decided.clear()  # it holds for the prices of then, whenever this is over
            self._rest()
            await self._journal.keep_now_and_then()
            return
        if self._stale or self._closes.running or self._given.watch.age() >= LOOK_SECONDS:
            await self._look()
        self._unjudged.begin()
        self._unjudged.unclear(self._given.watch.unclear)
        if self.waits is None:
            for holding in self._given.watch.holdings:
                self._judge_alone(holding)
            self._note_refusals()
        else:
            self._decided.clear()  # whatever it was, it is judged again when that is over
        await self._carry_through()
        await self._protection.make_way(self._wants_stop())
        await self._closes.advance_all(self._terms.rules)
        await self._tell_of_the_unjudged()
        unfollowed = await self._follow()
        if unfollowed is None:
            self._unjudged.sees()
        else:
            await self._unjudged.blind(_UNFOLLOWED.format(unfollowed))
        await self._journal.keep_now_and_then()
        self.waits = self.waits or unfollowed

    async def _follow(self) -> str | None:
        """Looks after the stops; why that was not possible. No close waits for it."""
        try:
            await self._protection.follow(self._wants_stop(), judging=self.waits is None)
        except BridgeError as error:
            log.warning("stops-not-followed", reason=error.detail)
            return error.detail
        return None

    async def _tell(self, event: RuleEvent) -> None:
        await self._journal.tell(event)

    async def _tell_of_the_unjudged(self) -> None:
        if self.waits is None:
            await self._unjudged.tell_of_it()
        else:
            self._wait()

    def _rest(self) -> None:
        """There is nothing to look at, or no way to it."""
        self._unjudged.sees()
        if self._nothing_to_do():
            self._unjudged.forget()
        else:
            self._wait()

    def _wait(self) -> None:
        watch = self._given.watch
        self._unjudged.wait((*watch.holdings, *watch.unclear))

    def need(self) -> Need | None:
        """What people were told of, and is still judged by no rule."""
        return self._unjudged.need()

    async def _look(self) -> None:
        """Asks for the positions; when that fails they are asked for again soon."""
        self._stale = False
        try:
            closing = frozenset(each.holding for each in self._closes.running.values())
            await self._given.watch.look(self._terms.rules, closing)
            await self._forget_what_is_gone()
        except BaseException:
            self._stale = True
            self._decided.clear()
            raise

    def _nothing_to_do(self) -> bool:
        kept = self._closes.running or self._journal.memories
        return not self._terms.rules.rules and not kept

    def _away(self) -> str | None:
        """Why not even a close that has begun can go on."""
        try:
            self._given.gateway.require_ready()
        except BridgeError as error:
            return error.detail
        return None if self._given.condition.writable else "the journal cannot be written"

    def _pause(self) -> str | None:
        """Why nothing is judged now."""
        away = self._away()
        if away is not None:
            return away
        now = self._clock.now()
        left = self._given.restarts.seconds_left(now)
        if self._given.restarts.active(now) is not None or (
            left is not None and left <= self._given.guard_seconds
        ):
            return "the gateway is about to restart"
        halt = self._given.halt.halt
        if halt is not None and not halt.allow_closing:
            return "trading is halted"
        return None

    # judging ------------------------------------------------------------------------------------

    def _price_moved(self, con_id: int) -> None:
        self._moved.add(con_id)
        if self._gathering is None:
            loop = asyncio.get_running_loop()
            self._gathering = loop.call_later(GATHER_SECONDS, self._judge_moved)

    def _judge_moved(self) -> None:
        """Ticks came: what they touch is judged at once, from positions that are known."""
        self._gathering = None
        moved, self._moved = self._moved, set()
        watch = self._given.watch
        if self._stale or watch.age() > 2 * LOOK_SECONDS or self._pause() is not None:
            return
        for holding in watch.holdings:
            if any(self._touches(holding, con_id) for con_id in moved):
                self._judge_alone(holding)
        if self._decided:
            self._wake.set()

    def _touches(self, holding: Holding, con_id: int) -> bool:
        return any(
            con_id in {leg.contract.con_id, self._given.watch.underlying(leg.contract.con_id)}
            for leg in holding.legs
        )

    def _rules_for(self, holding: Holding) -> list[Rule]:
        return [
            rule for rule in self._terms.rules.rules if rule.enabled and fits(rule.match, holding)
        ]

    def _judged(self, rule: Rule, holding: Holding, market: Market | None) -> Judgement | None:
        if market is None:
            return None
        memory = self._memory((rule.id, holding.key), holding)
        memory = memory or remembered(holding, self._clock.now())
        known = structs.replace(memory, wording=self._wordings[rule.id])
        return judge(rule, holding, market, known)

    def _memory(self, place: Place, holding: Holding) -> Memory | None:
        """What is remembered of this position; None: nothing, or that of one held before it."""
        memory = self._journal.memories.get(place)
        return None if memory is None or is_of_earlier(memory, holding) else memory

    def _direction_of(self, holding: Holding) -> int:
        """The direction that it has as it was kept: by its close, or in any rule's memory."""
        close = self._closes.of(holding.key)
        if close is not None:
            return close.direction
        kept = (
            memory.direction
            for place, memory in self._journal.memories.items()
            if place[1] == holding.key and not is_of_earlier(memory, holding)
        )
        return next((each for each in kept if each), 0)

    def _note_refusals(self) -> None:
        """What orders of rules would be refused for, before it matters."""
        now, rules = self._clock.monotonic(), self._terms.rules
        if rules is not self._refusals_of or now - self._refusals_at >= REFUSALS_SECONDS:
            self._refusals_of, self._refusals_at = rules, now
            try:
                self._refusals = list(self._refused())
            except Exception:  # a warning is not worth a close
                log.exception("refusals-not-known")
        if self._refusals:
            held = {each.key for each in self._given.watch.holdings}
            for rule, holding, why in self._refusals:
                if holding.key in held:
                    self._unjudged.refused(rule.id, holding, why)

    def _refused(self) -> Iterator[tuple[Rule, Holding, str]]:
        for holding in self._given.watch.holdings:
            asked: dict[bool, str] = {}
            for rule in self._rules_for(holding):
                if self._terms.rules.mode_of(rule) != "trade":
                    continue
                market = rule.close.order == "market"
                if market not in asked:
                    asked[market] = self._given.orders.refused(holding, market=market)
                if asked[market]:
                    yield rule, holding, asked[market]

    def _judge_alone(self, holding: Holding) -> None:
        """An error of the bridge about one holding keeps nobody from judging the others."""
        try:
            self._judge(holding)
        except Exception:
            log.exception("rules-judgement-failed", holding=holding.key)
            self._unjudged.fails("a rule", holding)

    def _judge(self, holding: Holding) -> None:
        """Remembers and decides; a holding that is being closed is judged by nobody."""
        if self._closes.of(holding.key) is not None:
            return
        market = self._given.watch.market(holding)
        for rule in self._rules_for(holding):
            if market is None:
                self._unjudged.without_details(rule.id, holding)
            elif self._decides(rule, holding, market):
                return

    def _decides(self, rule: Rule, holding: Holding, market: Market | None) -> bool:
        """Whether this rule closes it. An error about one rule is no other rule's: they go on."""
        try:
            judged = self._judged(rule, holding, market)
        except Exception:
            log.exception("rules-judgement-failed", rule=rule.id, holding=holding.key)
            self._unjudged.fails(rule.id, holding)
            return False
        if judged is None or self._is_new((rule.id, holding.key), holding):
            return False
        self._unjudged.judged(judged, holding)
        if holding.whole <= 0:
            self._unjudged.too_small(rule.id, holding)
            return False
        if judged.decision is None:
            self._journal.note((rule.id, holding.key), judged.memory)
            return False
        if not any(each[1].key == holding.key for each in self._decided):
            self._decided.append((rule, holding, judged))
        return True

    def _is_new(self, place: Place, holding: Holding) -> bool:
        """A position that has just appeared may be a part of something: it is looked at again.

        Nor is one judged that was opened again while the stop of the one before it is out.
        """
        memory, now = self._memory(place, holding), self._clock.now()
        if memory is None:
            if self._stop_of_earlier(place, holding) is not None or self._may_be_a_leg(holding):
                return True
            first = structs.replace(remembered(holding, now), wording=self._wordings[place[0]])
            self._journal.note(place, first)
            asyncio.get_running_loop().call_later(SETTLING_SECONDS + 0.1, self.look_again)
            return True
        return _settles(memory, now)

    def _may_be_a_leg(self, holding: Holding) -> bool:
        """Whether a login lists it before something else that it may have been opened with."""
        late = {(each.account, each.symbol) for each in self._given.late()}
        return any((holding.account, leg.contract.symbol) in late for leg in holding.legs)

    def _stop_of_earlier(self, place: Place, holding: Holding) -> str | None:
        """Why a position that was opened again is not judged yet, if that is why."""
        memory = self._journal.memories.get(place)
        if not _guarded(memory) or self._memory(place, holding) is not None:
            return None
        return "the stop of the position before it is being cancelled"

    # deciding -----------------------------------------------------------------------------------

    async def _carry_through(self) -> None:
        decided, self._decided = self._decided, []
        for rule, holding, judged in decided:
            held = self._given.watch.holding(holding.key)
            if held is None or is_of_earlier(judged.memory, held):
                continue
            if self._closes.of(holding.key) is None:
                await self._begin(rule, holding, self._with_guard(judged))

    def _with_guard(self, judged: Judgement) -> Judgement:
        """With the stop as it is now: one may have gone out since a tick has decided."""
        kept = self._journal.memories.get((judged.rule, judged.holding))
        if kept is None:
            return judged
        memory = structs.replace(judged.memory, guard=kept.guard)
        return structs.replace(judged, memory=memory)

    async def _begin(self, rule: Rule, holding: Holding, judged: Judgement) -> None:
        """What cannot be begun is decided again at the next turn; the others go on."""
        try:
            await self._closes.begin(rule, self._terms.rules.mode_of(rule), holding, judged)
        except BridgeError as error:
            log.warning("close-not-begun", rule=rule.id, reason=error.detail)

    def _wants_stop(self) -> dict[Place, tuple[Rule, Holding]]:
        """Where a stop belongs: not where a close has begun, or has ended without one.

        Nor at what has just appeared: it may be a leg of something, or gone already.
        """
        found = {}
        for holding in self._given.watch.holdings:
            if self._closes.of(holding.key) is not None or holding.whole <= 0:
                continue
            for rule in self._rules_for(holding):
                memory = self._memory((rule.id, holding.key), holding)
                trades = self._terms.rules.mode_of(rule) == "trade"
                if rule.protect != "broker" or not trades:
                    continue
                if memory and not memory.decided and not _settles(memory, self._clock.now()):
                    found[rule.id, holding.key] = (rule, holding)
        return found

    async def _forget_what_is_gone(self) -> None:
        """Ends what is about positions that are held no more; not what may not be listed yet."""
        watch = self._given.watch
        kept = {each.key for each in watch.holdings}
        kept |= {each.holding for each in self._closes.running.values()}
        kept |= {key for _, key in self._journal.memories if watch.may_come_yet(key)}
        out = [each for each in self._journal.memories if each[1] not in kept]
        await self._protection.take_all_away(out)
        gone = [
            place
            for place, memory in self._journal.memories.items()
            if place[1] not in kept and not _guarded(memory)
        ]
        await self._journal.forget(gone)


def _still(market: Market | None) -> Market | None:
    """The same, but no price in it moves a high-water mark."""
    return None if market is None else structs.replace(market, followed=False)


def _guarded(memory: Memory | None) -> bool:
    """Whether its stop may still be out."""
    return memory is not None and memory.guard is not None and not memory.guard.anew


def _settles(memory: Memory, now: datetime) -> bool:
    """Whether it began so lately that what it is about is looked at again first."""
    made = memory.made_at
    return made is not None and 0 <= (now - made).total_seconds() < SETTLING_SECONDS


def _begun_anew(memory: Memory) -> Memory:
    """What is remembered for a rule that is another than before: it may act once more."""
    guard = memory.guard
    if guard is not None and guard.ended:
        guard = structs.replace(guard, ended=False, anew=True)
    again = structs.replace(memory, guard=guard)
    if not memory.decided:
        return again
    return structs.replace(again, decided=False, round=memory.round + 1)

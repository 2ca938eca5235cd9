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
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import structlog
from msgspec import Struct, structs

from bridge.clock import Clock
from bridge.errors import BridgeError, Kind
from bridge.model import Position
from bridge.orders.errors import OrderPendingError
from bridge.orders.halt import HaltSwitch
from bridge.restart_calendar import RestartCalendar
from bridge.rules.closing import (
    Cancel,
    Change,
    Close,
    Scene,
    Send,
    Step,
    Wait,
    following,
)
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.evaluation import (
    Judgement,
    Market,
    Memory,
    Price,
    Standing,
    judge,
    price_of,
    remembered,
    standing_of,
)
from bridge.rules.holdings import Holding, fits
from bridge.rules.model import Closing, Rule, RuleSet
from bridge.rules.protection import Protection, Tended
from bridge.rules.watch import HoldingWatch
from bridge.store import Database
from bridge.store import rules as store
from bridge.store.condition import JournalCondition
from bridge.store.rules import RuleEvent
from bridge.tws.gateway import Gateway, Signal

log = structlog.get_logger(__name__)

LOOK_SECONDS: Final = 30.0
"""Positions are asked for at least so often."""
CLOSING_SECONDS: Final = 1.0
"""A turn at least so often while something is being closed."""
RESTING_SECONDS: Final = 60.0
RESTING_TURN_SECONDS: Final = 5.0
"""After which a close that does not get on is looked at less often, and how often then."""
PATIENCE_SECONDS: Final = 10.0
"""After which people are told that a close cannot begin."""
SETTLING_SECONDS: Final = 3.0
"""How long a position is there before it is judged: its executions come a moment after it."""
GATHER_SECONDS: Final = 0.05
"""Ticks of one moment are judged together."""
KEEP_SECONDS: Final = 1.0
"""High-water marks are kept so often; each decision at once."""


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
    protection: Protection
    halt: HaltSwitch
    journal: JournalCondition
    restarts: RestartCalendar
    guard_seconds: float


class PositionManager:
    """One for each bridge. `happened` is emitted with each event once it is in the journal."""

    def __init__(self, given: Circumstances) -> None:
        self.happened: Signal[[RuleEvent]] = Signal("rule-event")
        self.waits: str | None = "it has not begun"
        self.closes: dict[str, Close] = {}
        self._given = given
        self._clock = given.clock
        self._terms = Terms()
        self._memories: dict[tuple[str, str], Memory] = {}
        self._changed: set[tuple[str, str]] = set()
        self._decided: list[tuple[Rule, Holding, Judgement]] = []
        self._moved: set[int] = set()
        self._gathering: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
        self._waiting: set[str] = set()
        self._stale = True
        self._kept_at = 0.0
        self._task: asyncio.Task[None] | None = None
        given.watch.moved = self._price_moved
        given.gateway.events.ready.listen(self.look_again)
        given.gateway.events.position.listen(self._position_told)
        given.gateway.events.execution.listen(lambda _: self.look_again())
        given.gateway.events.order_status.listen(lambda _: self._wake.set())

    # life ---------------------------------------------------------------------------------------

    async def start(self, terms: Terms) -> None:
        """Takes over what the last process left, and begins."""
        self._terms = terms
        memories, closes = await self._given.database.read(
            lambda connection: (store.memories(connection), store.open_closes(connection))
        )
        for place, text in memories.items():
            self._memories[place] = msgspec.json.decode(text, type=Memory)
        for text in closes:
            close = msgspec.json.decode(text, type=Close)
            self.closes[close.id] = close
        self._task = asyncio.create_task(self._run(), name="position-manager")

    async def stop(self) -> None:
        """Ends; what is working at the broker goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        try:
            await self._keep_memories()
        except BridgeError as error:
            log.warning("high-water-marks-not-kept", reason=error.detail)
        await self._given.watch.stop()

    def adopt(self, terms: Terms) -> None:
        """Goes on with other rules. One that is another than before may decide anew."""
        old = self._terms.rules
        before = {rule.id: (rule, old.mode_of(rule)) for rule in old.rules}
        self._terms = terms
        for rule in terms.rules.rules:
            if before.get(rule.id) == (rule, terms.rules.mode_of(rule)):
                continue
            for place, memory in tuple(self._memories.items()):
                if place[0] != rule.id or self._closing(place[1]):
                    continue
                self._remember(place, _begun_anew(memory))
        self.look_again()

    def look_again(self) -> None:
        """Something may have changed the positions."""
        self._stale = True
        self._wake.set()

    def _position_told(self, position: Position) -> None:
        """The answers to what is asked for come this way, too: only another size is news."""
        if self._given.watch.is_news(position):
            self.look_again()

    # what is seen -------------------------------------------------------------------------------

    def standing(self) -> list[Standing]:
        """How each rule stands to each holding at this moment; a level once shown never loosens."""
        found = []
        for holding in self._given.watch.holdings:
            market = self._given.watch.market(holding)
            for rule in self._rules_for(holding):
                judged = self._judged(rule, holding, market)
                if judged is not None:
                    if self.waits is None and judged.decision is None:
                        self._keep_mark((rule.id, holding.key), judged.memory)
                    shown = standing_of(judged, holding, self._terms.rules.mode_of(rule))
                    closing = self._closing(holding.key)
                    by = None if closing is None else f"rule {closing.rule} closes it"
                    waits = self.waits or by or shown.waits
                    found.append(structs.replace(shown, waits=waits))
        return found

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
            except Exception:
                self.waits = "an error of the bridge; see its log"
                log.exception("rules-turn-failed")
            await self._woken_within(self._patience())

    def _patience(self) -> float:
        """How long nothing need be looked at."""
        if not self.closes:
            return RESTING_TURN_SECONDS if self._stale else LOOK_SECONDS
        now = self._clock.now()
        moved = max(each.stepped_at or each.began_at for each in self.closes.values())
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
            await self._keep_now_and_then()
            return
        if self._stale or self.closes or self._given.watch.age() >= LOOK_SECONDS:
            await self._look()
        if self.waits is None:
            for holding in self._given.watch.holdings:
                self._judge(holding)
        else:
            self._decided.clear()  # whatever it was, it is judged again when that is over
        await self._carry_through()
        await self._protect()
        for close in tuple(self.closes.values()):
            await self._advance(close)
        await self._keep_now_and_then()

    async def _look(self) -> None:
        """Asks for the positions; when that fails they are asked for again soon."""
        self._stale = False
        try:
            closing = frozenset(each.holding for each in self.closes.values())
            await self._given.watch.look(self._terms.rules, closing)
        except BaseException:
            self._stale = True
            raise
        await self._forget_what_is_gone()

    def _nothing_to_do(self) -> bool:
        return not self._terms.rules.rules and not self.closes and not self._memories

    def _away(self) -> str | None:
        """Why not even a close that has begun can go on."""
        try:
            self._given.gateway.require_ready()
        except BridgeError as error:
            return error.detail
        return None if self._given.journal.writable else "the journal cannot be written"

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
                self._judge(holding)
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
        memory = self._memories.get((rule.id, holding.key))
        return judge(rule, holding, market, memory or remembered(holding, self._clock.now()))

    def _judge(self, holding: Holding) -> None:
        """Remembers and decides; a holding that is being closed is judged by nobody."""
        if self._closing(holding.key) is not None:
            return
        market = self._given.watch.market(holding)
        for rule in self._rules_for(holding) if market is not None else ():
            judged = self._judged(rule, holding, market)
            if judged is None:
                continue
            if self._is_new((rule.id, holding.key), holding):
                continue
            if judged.decision is not None:
                if not any(each[1].key == holding.key for each in self._decided):
                    self._decided.append((rule, holding, judged))
                return
            self._remember((rule.id, holding.key), judged.memory)

    def _is_new(self, place: tuple[str, str], holding: Holding) -> bool:
        """A position that has just appeared may be a part of something: it is looked at again."""
        memory, now = self._memories.get(place), self._clock.now()
        if memory is None:
            self._remember(place, remembered(holding, now))
            asyncio.get_running_loop().call_later(SETTLING_SECONDS + 0.1, self.look_again)
            return True
        made = memory.made_at
        return made is not None and 0 <= (now - made).total_seconds() < SETTLING_SECONDS

    def _closing(self, holding: str) -> Close | None:
        return next((each for each in self.closes.values() if each.holding == holding), None)

    def _keep_mark(self, place: tuple[str, str], memory: Memory) -> None:
        """A price between two turns may have moved what was shown to somebody."""
        if place in self._memories and self._closing(place[1]) is None:
            self._remember(place, memory)

    def _remember(self, place: tuple[str, str], memory: Memory) -> None:
        if self._memories.get(place) != memory:
            if not self._changed:  # kept soon, also when no further tick comes
                asyncio.get_running_loop().call_later(KEEP_SECONDS, self._wake.set)
            self._memories[place] = memory
            self._changed.add(place)

    # deciding -----------------------------------------------------------------------------------

    async def _carry_through(self) -> None:
        decided, self._decided = self._decided, []
        for rule, holding, judged in decided:
            held = self._given.watch.holding(holding.key) is not None
            if held and self._closing(holding.key) is None:
                await self._decide(rule, holding, judged)

    async def _decide(self, rule: Rule, holding: Holding, judged: Judgement) -> None:
        """Writes a decision down: from here on it is carried out, whatever restarts."""
        decision = judged.decision
        if decision is None:
            return
        mode = self._terms.rules.mode_of(rule)
        now = self._clock.now()
        close = Close(
            id=decision.id,
            rule=rule.id,
            holding=holding.key,
            trigger=decision.trigger,
            reason=decision.reason,
            began_at=now,
            units=holding.units,
            direction=holding.direction,
        )
        event = RuleEvent(
            at=now,
            kind="decided" if mode == "trade" else "simulated",
            rule=rule.id,
            detail={
                **_named(holding),
                "trigger": decision.trigger,
                "reason": decision.reason,
                "price": decision.price,
                "profit": decision.profit,
                "action": close.action,
                "quantity": holding.units,
                "order": rule.close.order,
            },
        )
        place = (rule.id, holding.key)

        def write(connection: sqlite3.Connection) -> RuleEvent:
            store.remember(connection, *place, msgspec.json.encode(judged.memory))
            if mode == "trade":
                store.save_close(connection, close.id, msgspec.json.encode(close), ended=False)
            return store.add_event(connection, event)

        kept = await self._given.database.write(write)
        self._memories[place] = judged.memory
        self._changed.discard(place)
        if mode == "trade":
            self.closes[close.id] = close
        self.happened.emit(kept)

    # stops at the broker ------------------------------------------------------------------------

    async def _protect(self) -> None:
        """A stop for each holding whose rule wants one; the others' are taken away."""
        wanted = self._wants_stop()
        for place in [each for each, memory in self._memories.items() if memory.guard]:
            if place not in wanted:
                await self._unprotect(place)
        for place, (rule, holding) in wanted.items() if self.waits is None else ():
            await self._tend(place, rule, holding)

    def _wants_stop(self) -> dict[tuple[str, str], tuple[Rule, Holding]]:
        """Where a stop belongs: not where a close has begun, or has ended without one."""
        found = {}
        for holding in self._given.watch.holdings:
            if self._closing(holding.key) is not None:
                continue
            for rule in self._rules_for(holding):
                memory = self._memories.get((rule.id, holding.key))
                trades = self._terms.rules.mode_of(rule) == "trade"
                if rule.protect == "broker" and trades and memory and not memory.decided:
                    found[rule.id, holding.key] = (rule, holding)
        return found

    async def _tend(self, place: tuple[str, str], rule: Rule, holding: Holding) -> None:
        protection, now = self._given.protection, self._clock.now()
        memory = self._memories[place]
        planned = await protection.planned(rule, holding, memory, now)
        if planned is not None:
            await self._keep_memory(place, planned)
            tended = await protection.send(rule, holding, planned)
        else:
            tended = await protection.tend(rule, holding, memory, now)
        await self._tended(place, holding, tended)

    async def _unprotect(self, place: tuple[str, str]) -> None:
        memory = self._memories[place]
        guard = memory.guard
        if guard is None or guard.anew:
            return
        state = await self._given.protection.withdraw(memory)
        if state.state in {"open", "unknown"}:
            return
        anew = structs.replace(memory, guard=structs.replace(guard, anew=True))
        event, detail = "", {"reason": "the stop at the broker", "quantity": state.filled}
        if state.state == "filled" and not guard.ended:
            event = "closed"
        holding = self._given.watch.holding(place[1])
        await self._tended(place, holding, Tended(anew, event, detail))

    async def _tended(
        self, place: tuple[str, str], holding: Holding | None, tended: Tended
    ) -> None:
        if tended.memory != self._memories.get(place):
            await self._keep_memory(place, tended.memory)
        if tended.event:
            event = RuleEvent(
                at=self._clock.now(),
                kind=tended.event,
                rule=place[0],
                detail={
                    **({"holding": place[1]} if holding is None else _named(holding)),
                    **(tended.detail or {}),
                },
            )
            kept = await self._given.database.write(
                lambda connection: store.add_event(connection, event), durable=False
            )
            self.happened.emit(kept)

    async def _keep_memory(self, place: tuple[str, str], memory: Memory) -> None:
        """Before something is sent on the strength of it."""
        content = msgspec.json.encode(memory)
        await self._given.database.write(
            lambda connection: store.remember(connection, *place, content)
        )
        self._memories[place] = memory
        self._changed.discard(place)

    # closing ------------------------------------------------------------------------------------

    async def _advance(self, close: Close) -> None:
        """The next step of a close; more than one when one leads to another at once."""
        rule = next((each for each in self._terms.rules.rules if each.id == close.rule), None)
        holding = self._given.watch.holding(close.holding)
        scene = await self._scene(close, rule, holding)
        after, step = following(close, rule.close if rule else Closing(), scene)
        if isinstance(step, Change | Cancel) or after != close:
            await self._keep_close(after, before=close)
        if isinstance(step, Wait):
            await self._told_to_wait(after, step)
            return
        await self._act(close, after, step, holding, rule)

    async def _told_to_wait(self, close: Close, step: Wait) -> None:
        """Once, when a close cannot begin for a while: somebody may have to act."""
        begun = (self._clock.now() - close.began_at).total_seconds()
        if close.attempt is None and begun > PATIENCE_SECONDS and close.id not in self._waiting:
            self._waiting.add(close.id)
            if close.outcome is None:
                await self._tell(close, "waits", why=step.reason)

    async def _scene(self, close: Close, rule: Rule | None, holding: Holding | None) -> Scene:
        market = None if holding is None else self._given.watch.market(holding)
        allowed = rule.allow_quotes if rule is not None else ()
        price, bad = Price(), "no quote"
        if holding is not None and market is not None:
            price, bad_or_none = price_of(holding, market.prices, allowed)
            bad = bad_or_none or ""
        outside = rule is not None and rule.outside_rth
        running = market is not None and (market.open or (outside and market.open_outside))
        halt = self._given.halt.halt
        return Scene(
            now=self._clock.now(),
            price=price,
            price_bad=bad or None,
            tick=0.0 if holding is None else self._given.watch.tick(holding),
            held=0.0 if holding is None else holding.units,
            others=0.0 if holding is None else await self._given.orders.others(holding, close),
            order=await self._given.orders.state(close),
            may_begin=self._pause() is None and running,
            may_change=halt is None,
            expires=not running,
            called_off=rule is None
            or not rule.enabled
            or self._terms.rules.mode_of(rule) == "simulate",
        )

    async def _act(
        self,
        before: Close,
        after: Close,
        step: Step,
        holding: Holding | None,
        rule: Rule | None,
    ) -> None:
        orders = self._given.orders
        try:
            if isinstance(step, Send) and holding is not None:
                await orders.send(
                    holding, after, step, outside=rule is not None and rule.outside_rth
                )
            elif isinstance(step, Change):
                await orders.change(after, step)
            elif isinstance(step, Cancel):
                await orders.cancel(after)
        except OrderPendingError:
            return  # its fate is looked up at the next turn
        except BridgeError as error:
            await self._failed(before, after, step, error)
            return
        if isinstance(step, Send):
            sent = {"action": after.action, "quantity": step.units, "limit": step.limit}
            await self._tell(after, "order", **sent)

    async def _failed(self, before: Close, after: Close, step: Step, error: BridgeError) -> None:
        """What was not done is tried again; an order that was refused not at once."""
        log.warning("rules-step-failed", close=after.id, step=type(step).__name__, why=error.detail)
        if not isinstance(step, Send):
            await self._keep_close(before, before=after)
            return
        attempt = after.attempt
        state = await self._given.orders.state(after)
        if attempt is None or state is None or state.state != "unsent" or not _lasting(error):
            return
        refused = structs.replace(after, attempt=structs.replace(attempt, refused=error.detail))
        await self._keep_close(refused, before=after)

    async def _keep_close(self, close: Close, *, before: Close) -> None:
        over = close.outcome is not None
        event = self._event(close, close.outcome or "", **_result(close)) if over else None

        done = close.outcome in {"closed", "gone"}
        over_for = [
            place
            for place, memory in self._memories.items()
            if done and place[1] == close.holding and (not memory.guard or memory.guard.anew)
        ]

        def write(connection: sqlite3.Connection) -> RuleEvent | None:
            store.save_close(connection, close.id, msgspec.json.encode(close), ended=over)
            _forget(connection, over_for)
            return None if event is None else store.add_event(connection, event)

        if close == before:
            return
        kept = await self._given.database.write(write)
        for place in over_for:
            self._memories.pop(place, None)
            self._changed.discard(place)
        if over:
            self._waiting.discard(close.id)
            self.closes.pop(close.id, None)
            self.look_again()
        else:
            self.closes[close.id] = close
        if kept is not None:
            self.happened.emit(kept)

    async def _tell(self, close: Close, kind: str, **detail: Any) -> None:
        event = self._event(close, kind, **detail)
        kept = await self._given.database.write(
            lambda connection: store.add_event(connection, event), durable=False
        )
        self.happened.emit(kept)

    def _event(self, close: Close, kind: str, **detail: Any) -> RuleEvent:
        holding = self._given.watch.holding(close.holding)
        named = {"holding": close.holding} if holding is None else _named(holding)
        shown = {**named, "trigger": close.trigger, "reason": close.reason, **detail}
        return RuleEvent(at=self._clock.now(), kind=kind, rule=close.rule, detail=shown)

    # remembering --------------------------------------------------------------------------------

    async def _forget_what_is_gone(self) -> None:
        held = {each.key for each in self._given.watch.holdings}
        kept = held | {each.holding for each in self.closes.values()}
        for place in [each for each in self._memories if each[1] not in kept]:
            await self._unprotect(place)
        gone = [
            place
            for place, memory in self._memories.items()
            if place[1] not in kept and (memory.guard is None or memory.guard.anew)
        ]
        if not gone:
            return
        await self._given.database.write(lambda connection: _forget(connection, gone))
        for place in gone:
            del self._memories[place]
            self._changed.discard(place)

    async def _keep_now_and_then(self) -> None:
        if self._clock.monotonic() - self._kept_at >= KEEP_SECONDS:
            await self._keep_memories()

    async def _keep_memories(self) -> None:
        self._kept_at = self._clock.monotonic()
        changed, self._changed = self._changed, set()
        kept = [
            (*place, msgspec.json.encode(self._memories[place]))
            for place in changed
            if place in self._memories
        ]
        if not kept:
            return
        try:
            await self._given.database.write(
                lambda connection: _remember(connection, kept), durable=False
            )
        except BridgeError:
            self._changed |= changed  # kept when the journal can be written again
            raise


def _remember(connection: sqlite3.Connection, kept: Iterable[tuple[str, str, bytes]]) -> None:
    for rule, holding, content in kept:
        store.remember(connection, rule, holding, content)


def _forget(connection: sqlite3.Connection, gone: Iterable[tuple[str, str]]) -> None:
    for rule, holding in gone:
        store.forget(connection, rule, holding)


def _named(holding: Holding) -> dict[str, Any]:
    return {
        "holding": holding.key,
        "name": holding.name,
        "symbol": holding.legs[0].contract.symbol,
        "account": holding.account,
    }


def _begun_anew(memory: Memory) -> Memory:
    """What is remembered for a rule that is another than before: it may act once more."""
    guard = memory.guard
    if guard is not None and guard.ended:
        guard = structs.replace(guard, ended=False, anew=True)
    again = structs.replace(memory, guard=guard)
    if not memory.decided:
        return again
    return structs.replace(again, decided=False, round=memory.round + 1)


def _lasting(error: BridgeError) -> bool:
    """Whether the same order would be refused again."""
    return error.kind in {Kind.INVALID, Kind.REFUSED, Kind.FORBIDDEN, Kind.CONFLICT}


def _result(close: Close) -> dict[str, Any]:
    found: dict[str, Any] = {"action": close.action, "quantity": close.filled}
    return found | ({"why": close.refused} if close.refused else {})

"""Closes from the decision to the end: each step is written down, then done, then told.

What the next step is, says `bridge.rules.closing_steps`; how its orders go out,
`bridge.rules.closing_orders`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec
import structlog
from msgspec import structs

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.orders.errors import OrderPendingError
from bridge.orders.halt import HaltSwitch
from bridge.quantity import SLACK, exact, plain
from bridge.rules.closing_orders import ClosingOrders
from bridge.rules.closing_steps import (
    Cancel,
    Change,
    Close,
    ClosedLeg,
    Scene,
    Send,
    Step,
    Wait,
    following,
    not_smaller,
)
from bridge.rules.evaluation import Judgement, Price, is_reopened, price_of
from bridge.rules.holdings import Holding, fits, spoken_contract
from bridge.rules.journal import RuleJournal, forget, named
from bridge.rules.model import Closing, Mode, Rule, RuleSet
from bridge.rules.trouble import Troubles, forbidden, lasting, reason
from bridge.rules.unjudged import NO_DETAILS
from bridge.rules.watch import HoldingWatch
from bridge.side_by_side import side_by_side
from bridge.store import rules as store
from bridge.store.rules import RuleEvent

log = structlog.get_logger(__name__)


@dataclass(kw_only=True, eq=False)
class Closes:
    """Those that have not ended. `pause` says why none may begin; `ended` is called at each end.

    What goes wrong with one concerns that one alone.
    """

    journal: RuleJournal
    orders: ClosingOrders
    watch: HoldingWatch
    halt: HaltSwitch
    clock: Clock
    pause: Callable[[], str | None]
    ended: Callable[[], None]
    running: dict[str, Close] = field(default_factory=dict)
    _said: set[tuple[str, str]] = field(default_factory=set)
    """Of which close people know why it waits: each reason is told once."""
    _troubles: Troubles = field(init=False)
    _leftovers: Troubles = field(init=False)

    def __post_init__(self) -> None:
        self._troubles = Troubles(clock=self.clock)
        self._leftovers = Troubles(clock=self.clock)

    def take_over(self, kept: list[str]) -> None:
        """What the last process has begun."""
        for text in kept:
            close = msgspec.json.decode(text, type=Close)
            self.running[close.id] = close

    def of(self, holding: str) -> Close | None:
        """The close of this holding, if there is one."""
        return next((each for each in self.running.values() if each.holding == holding), None)

    async def begin(self, rule: Rule, mode: Mode, holding: Holding, judged: Judgement) -> None:
        """Writes a decision down: from here on it is carried out, whatever restarts."""
        decision = judged.decision
        if decision is None:
            return
        now = self.clock.now()
        close = Close(
            id=decision.id,
            rule=rule.id,
            holding=holding.key,
            trigger=decision.trigger,
            reason=decision.reason,
            began_at=now,
            units=holding.whole,
            direction=holding.direction,
            named=named(holding),
            legs=self._legs(holding),
            opened=holding.begun_at,
        )
        event = RuleEvent(
            at=now,
            kind="decided" if mode == "trade" else "simulated",
            rule=rule.id,
            detail={
                **named(holding),
                "trigger": decision.trigger,
                "reason": decision.reason,
                "price": decision.price,
                "profit": decision.profit,
                "action": close.action,
                "quantity": holding.whole,
                "order": rule.close.order,
            },
        )
        place = (rule.id, holding.key)

        def write(connection: sqlite3.Connection) -> RuleEvent:
            store.remember(connection, *place, msgspec.json.encode(judged.memory))
            if mode == "trade":
                store.save_close(connection, close.id, msgspec.json.encode(close), ended=False)
            return store.add_event(connection, event)

        kept = await self.journal.database.write(write)
        self.journal.noted(place, judged.memory)
        if mode == "trade":
            self.running[close.id] = close
        self.journal.happened.emit(kept)

    def _legs(self, holding: Holding) -> tuple[ClosedLeg, ...]:
        """Those of a combination, with what is held beside it."""
        if not holding.combination:
            return ()
        return tuple(
            ClosedLeg(
                con_id=leg.contract.con_id,
                name=spoken_contract(leg.contract),
                ratio=leg.ratio,
                beside=exact(
                    self.watch.size(holding.account, leg.contract.con_id)
                    - leg.ratio * holding.units
                ),
            )
            for leg in holding.legs
        )

    def _left(self, close: Close) -> str:
        """What is held still of a combination that is not there any more as a whole."""
        if close.outcome not in {"closed", "gone"} or close.filled >= close.units - SLACK:
            return ""
        account, found = close.named.get("account", ""), []
        for leg in close.legs:
            size = exact(self.watch.size(account, leg.con_id) - leg.beside)
            if size * leg.ratio > 0:
                found.append(f"{'-' if size < 0 else '+'}{plain(abs(size))} {leg.name}")
        return ", ".join(found)

    async def advance_all(self, rules: RuleSet) -> None:
        """The next step of each, a few side by side. Two of one contract cannot both sell it.

        The sender looks at what is held and works again, when it is the turn of each.
        """
        running = tuple(self.running.values())
        await side_by_side(partial(self.advance, each, rules) for each in running)

    async def advance(self, close: Close, rules: RuleSet) -> None:
        """The next step of a close; when something goes wrong, the others do not wait for it."""
        try:
            why = await self._advance(close, rules)
        except Exception as error:
            if isinstance(error, BridgeError):
                log.warning("rules-close-failed", close=close.id, reason=error.detail)
            else:
                log.exception("rules-close-failed", close=close.id)
            why = reason(error)
        if not why:
            self._troubles.over(close.id)
        elif self._troubles.add(close.id, lasting=False):
            await self._tell_of_trouble(close, why)

    async def _tell_of_trouble(self, close: Close, why: str) -> None:
        if (close.id, why) in self._said:
            return
        try:
            await self._tell(close, "waits", why=why)
        except BridgeError as error:
            log.warning("close-trouble-not-told", close=close.id, reason=error.detail)
        else:
            self._troubles.told(close.id)
            self._said.add((close.id, why))

    async def _advance(self, close: Close, rules: RuleSet) -> str:
        """The next step; why it does not get on, empty when it does."""
        rule = next((each for each in rules.rules if each.id == close.rule), None)
        holding = self._holding(close)
        if holding is None and self.watch.may_come_yet(close.holding):
            return ""
        called_off = rule is None or not rule.enabled or rules.mode_of(rule) == "simulate"
        if rule is not None and holding is not None:  # another rule may have got its name
            called_off = called_off or not fits(rule.match, holding)
        scene = await self._scene(close, rule, holding, called_off=called_off)
        after, step = following(close, rule.close if rule else Closing(), scene)
        if self._may_be_whole(after):
            return ""
        if isinstance(step, Change | Cancel) or after != close:
            await self._keep(after, before=close)
        if isinstance(step, Wait):
            if after.outcome is not None:
                return ""
            if step.unknown:
                return NO_DETAILS
            return step.reason if step.stuck else ""
        return await self._act(close, after, step, holding, rule)

    def _holding(self, close: Close) -> Holding | None:
        """What is to be closed; None: it is gone, whatever was opened in its place since."""
        found = self.watch.holding(close.holding)
        if found is not None and is_reopened(found, close.opened, close.began_at):
            return None
        return found

    def _may_be_whole(self, close: Close) -> bool:
        """Whether a leg is held still, and may go in a moment: legs are told of one by one."""
        if self._left(close):
            return not self._leftovers.add(close.id, lasting=False)
        self._leftovers.over(close.id)
        return False

    async def _scene(
        self, close: Close, rule: Rule | None, holding: Holding | None, *, called_off: bool
    ) -> Scene:
        market = None if holding is None else self.watch.market(holding)
        allowed = rule.allow_quotes if rule is not None else ()
        price, bad = Price(), "no quote"
        if holding is not None and market is not None:
            price, bad_or_none = price_of(holding, market.prices, allowed)
            bad = bad_or_none or ""
        outside = rule is not None and rule.outside_rth
        running = market is not None and (market.open or (outside and market.open_outside))
        halt = self.halt.halt
        return Scene(
            now=self.clock.now(),
            price=price,
            price_bad=bad or None,
            tick=0.0 if holding is None else self.watch.tick(holding),
            held=0.0 if holding is None else holding.units,
            size_step=0.0 if holding is None else holding.step,
            others=0.0 if holding is None else await self.orders.others(holding, close),
            order=await self.orders.state(close),
            may_begin=self.pause() is None and running,
            may_change=halt is None,
            expires=market is not None and not running,
            ends_at=None if holding is None else self.watch.day_end(holding, outside=outside),
            called_off=called_off,
            known=holding is None or market is not None,
        )

    async def _act(
        self,
        before: Close,
        after: Close,
        step: Step,
        holding: Holding | None,
        rule: Rule | None,
    ) -> str:
        """Does it; why that did not work, empty when it did."""
        orders = self.orders
        try:
            if isinstance(step, Send) and holding is not None:
                await orders.send(
                    holding, after, step, outside=rule is not None and rule.outside_rth
                )
            elif isinstance(step, Change):
                await orders.change(after, step)
            elif isinstance(step, Cancel):
                await orders.cancel(after)
        except OrderPendingError as error:
            return error.detail  # its fate is looked up at the next turn
        except BridgeError as error:
            await self._failed(before, after, step, error)
            return error.detail
        if isinstance(step, Send):
            sent = {"action": after.action, "quantity": step.units, "limit": step.limit}
            await self._tell(after, "order", **sent)
        return ""

    async def _failed(self, before: Close, after: Close, step: Step, error: BridgeError) -> None:
        """What was not done is tried again; an order that was refused or not sent a bit later.

        What settings refuse may pass once they are others, as for a stop: it ends no close.
        """
        log.warning("rules-step-failed", close=after.id, step=type(step).__name__, why=error.detail)
        if isinstance(step, Change):
            again = before
            if lasting(error):  # the same price is not asked for at every turn
                again = structs.replace(before, stepped_at=after.stepped_at)
                again = again if step.units is None else not_smaller(again, self.clock.now())
            await self._keep(again, before=after)
        if not isinstance(step, Send):
            return
        attempt = after.attempt
        state = await self.orders.state(after)
        if attempt is None or state is None or state.state != "unsent":
            return
        why = "refused" if lasting(error) and not forbidden(error) else "unsent"
        noted = structs.replace(attempt, **{why: error.detail})
        await self._keep(structs.replace(after, attempt=noted), before=after)

    async def _keep(self, close: Close, *, before: Close) -> None:
        over = close.outcome is not None
        left = self._left(close)
        result = _result(close) | ({"left": left} if left else {})
        event = self._event(close, close.outcome or "", **result) if over else None
        done = close.outcome in {"closed", "gone"}
        over_for = [
            place
            for place, memory in self.journal.memories.items()
            if done and place[1] == close.holding and (not memory.guard or memory.guard.anew)
        ]

        def write(connection: sqlite3.Connection) -> RuleEvent | None:
            store.save_close(connection, close.id, msgspec.json.encode(close), ended=over)
            forget(connection, over_for)
            return None if event is None else store.add_event(connection, event)

        if close == before:
            return
        kept = await self.journal.database.write(write)
        self.journal.forgotten(over_for)
        if over:
            self._leftovers.over(close.id)
            self._said = {each for each in self._said if each[0] != close.id}
            self.running.pop(close.id, None)
            self.ended()
        else:
            self.running[close.id] = close
        if kept is not None:
            self.journal.happened.emit(kept)

    async def _tell(self, close: Close, kind: str, **detail: Any) -> None:
        await self.journal.tell(self._event(close, kind, **detail))

    def _event(self, close: Close, kind: str, **detail: Any) -> RuleEvent:
        holding = self.watch.holding(close.holding)
        known = close.named or {"holding": close.holding}
        which = known if holding is None else named(holding)
        shown = {**which, "trigger": close.trigger, "reason": close.reason, **detail}
        return RuleEvent(at=self.clock.now(), kind=kind, rule=close.rule, detail=shown)


def _result(close: Close) -> dict[str, Any]:
    found: dict[str, Any] = {"action": close.action, "quantity": close.filled}
    return found | ({"why": close.refused} if close.refused else {})

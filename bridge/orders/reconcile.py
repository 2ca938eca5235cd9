"""Clears up with the broker what the journal is not sure of; nothing is ever sent again here.

After every connect, before anything new may be sent: open orders, completed orders and the day's
executions are asked for and applied. An open order of the journal that is in none of them is
looked for a second time a moment later (what the last process wrote may still be on its way
through the gateway). If it is still nowhere,

* it was never sent, when it was not acknowledged, was not sent over the present connection, and
  the number that the gateway named as its next one at the beginning of it is not past its own
  (`sequence` says when that is a proof), or
* its fate is unknown: shown, told, and left alone until a person or the broker clears it up.

The entry of a bracket whose last leg was never sent is held back by the gateway, which does not
list it as open: it is cancelled as soon as orders may be sent again. What is nowhere a minute after
that is unknown as well.

Orders may be sent as soon as the open orders are listed; but for the first connection of a process
the second look comes right after that. Where all of the journal's are among them, the day's
executions (there may be thousands) decide nothing, and are asked for right after that as well.
Executions or completed orders that get no answer are named (`silent`) and asked for again; until
they have answered, an order that is nowhere is unknown, and none is called never sent.

While connected the same look is taken at orders whose answer is overdue, and once a minute at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeVar

import structlog

from bridge.clock import Clock, settle
from bridge.errors import BridgeError
from bridge.orders.apply_messages import Own
from bridge.orders.cancel import OrderCanceller
from bridge.orders.halt import Halt, HaltSwitch
from bridge.orders.journal import Listed, OrderJournal
from bridge.orders.lifecycle import ChangeUnanswered, Missing, NotSent
from bridge.orders.order_ids import NumberSequence
from bridge.orders.order_types import INSTRUCTIONS
from bridge.orders.rules import TradingRules
from bridge.orders.sender import OrderSender
from bridge.store import Database, orders
from bridge.store.database import Work
from bridge.store.orders import OrderRecord, State, Status, open_orders
from bridge.tws.errors import ConnectionLostError, ReadOnlyGatewayError, RequestTimedOutError
from bridge.tws.gateway import SETTLES_SECONDS, Gateway

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

SECOND_LOOK_SECONDS: Final = 0.75
ROUTINE_SECONDS: Final = 60.0
LIST_SECONDS: Final = 5.0
"""How long one of the day's lists is waited for; a gateway that answers does so in a moment."""
TICK_SECONDS: Final = 1.0
MARK_SECONDS: Final = 1.25
"""How soon a mark that somebody has left is obeyed for the orders that are open."""


@dataclass(frozen=True, slots=True)
class AbsentOnce:
    """Orders that were in none of the broker's lists when they were looked for once."""

    connection: int
    orders: list[OrderRecord]


class Reconciler:
    """Compares the journal with the broker."""

    def __init__(
        self,
        database: Database,
        gateway: Gateway,
        journal: OrderJournal,
        sender: OrderSender,
        canceller: OrderCanceller,
        halt: HaltSwitch,
        sequence: NumberSequence,
        rules: TradingRules,
        clock: Clock,
    ) -> None:
        self._sequence = sequence
        self._database = database
        self.gateway_read_only = False  # as it said when it was last asked for its orders
        self._gateway = gateway
        self._journal = journal
        self._sender = sender
        self._canceller = canceller
        self._halt = halt
        self._rules = rules
        self._clock = clock
        self._turn = asyncio.Lock()
        self._looked_at = clock.now()
        self._looked_second = clock.monotonic()  # the wall clock may be set meanwhile
        self._looked = False
        self._executions_later = False
        """Whether they may wait until orders may be sent."""
        self._absent: dict[str, float] = {}
        """Since which second an open order is in none of the broker's lists."""
        self._absent_once: AbsentOnce | None = None
        self._held_back: dict[str, OrderRecord] = {}
        self.silent: dict[str, datetime] = {}
        """What was asked for and got no answer, since when; until it has, nothing is concluded."""
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begins to look after overdue answers, and for marks of a halt."""
        for name, work in (("order-reconciler", self._look_after), ("halt-mark", self._watch_mark)):
            self._tasks.append(asyncio.create_task(work(), name=name))

    async def stop(self) -> None:
        await settle(*self._tasks)
        self._tasks.clear()

    async def clear_up(self) -> None:
        """After every (re)connect: cancels what a halt asked for, and what is held back.

        Then takes in the day's executions, if they could wait. Before it gives anything up, it
        takes the second look that could wait.
        """
        halt = self._halt.halt
        if halt is not None:
            await self._cancel_again_for(halt)
        if self._absent_once is not None:
            await self._look_again()
        held_back, self._held_back = self._held_back, {}
        for record in held_back.values():
            log.warning("incomplete-bracket-cancelled", order=record.id)
            await self._gateway.cancel_order(record.broker_order_id)
        if self._executions_later:
            self._executions_later = False
            await self._executions()

    async def _watch_mark(self) -> None:
        """Cancels what a mark asks for that was found since; once, and again at each connect.

        Each send looks for a mark by itself; this is for what is open when somebody leaves one.
        """
        while True:
            try:
                halt = self._halt.found_mark()
                if halt is not None:
                    log.error("halt-mark-found", by=halt.by, reason=halt.reason, cancel=halt.cancel)
                    await self._cancel_for(halt)
            except Exception:
                log.exception("halt-mark-watch-failed")
            await self._clock.sleep(MARK_SECONDS)

    async def compare(self) -> None:
        """After every (re)connect, before orders may be sent: the comparison, and no more.

        Not the second look, but for the first connection of a process: no order waits for what it
        says. Until then what is nowhere counts as open, for every limit and for each rule.
        """
        self._executions_later = later = self._looked and not self.silent
        await self.reconcile(later=later)

    async def reconcile(self, *, later: bool = False) -> None:
        """One whole comparison; what is nowhere in two looks is settled or called unknown.

        `later`: the second one may wait until orders may be sent. A gateway in read-only mode lists
        no orders and takes none: then there is nothing to learn, and nothing to conclude.
        """
        try:
            await self._reconcile(later=later)
            self.gateway_read_only = False
        except ReadOnlyGatewayError:
            self.gateway_read_only = True
            log.warning("read-only-gateway", hint=ReadOnlyGatewayError.next_step)
            await self._answered(
                "executions", self._gateway.queries.executions(timeout=LIST_SECONDS)
            )

    async def _reconcile(self, *, later: bool = False) -> None:
        """`later`: a second look may wait until orders may be sent; `clear_up` takes it."""
        async with self._turn:
            self._absent_once = None
            connection = self._sequence.connection
            await self._sequence.observe()
            missing = await self._look(await self._suspects())
            await self._sequence.keep_proofs(
                [each.id for each in missing if await self._never_seen(each)]
            )
            if missing and not self.silent and later:
                self._absent_once = AbsentOnce(connection, missing)
                return
            if missing and not self.silent:
                missing = await self._missing_still(missing)
            await self._conclude(missing, connection)

    async def _look_again(self) -> None:
        """The second look, at what was nowhere in the first one of this connection."""
        async with self._turn:
            once, self._absent_once = self._absent_once, None
            if once is not None:
                missing = await self._missing_still(once.orders)
                await self._conclude(missing, once.connection)

    async def _missing_still(self, missing: list[OrderRecord]) -> list[OrderRecord]:
        await self._clock.sleep(SECOND_LOOK_SECONDS)
        return await self._look(missing)

    async def _conclude(self, missing: list[OrderRecord], connection: int) -> None:
        """Settles what is nowhere, on the connection on which it was looked for."""
        if self._sequence.connection != connection:
            raise ConnectionLostError("the connection was lost during the look")
        never_seen = [each for each in missing if not self.silent and await self._never_seen(each)]
        broken_off = {each.group_id for each in never_seen if each.terms.transmit}
        broken_off |= await self._broken_off_before(missing)
        for record in missing:
            if record in never_seen:
                self._note_not_sent(record)
            elif (
                not record.terms.transmit
                and record.group_id in broken_off
                and not self._is_absent_for_long(record)
            ):
                self._held_back[record.id] = record
            elif record.state is not State.UNKNOWN and self._absent_long_enough(record):
                self._journal.note(Own(record.id, Missing(self._clock.now())))
        second = self._clock.monotonic()
        self._absent = {each.id: self._absent.get(each.id, second) for each in missing}
        await self._give_up_changes()
        await self._journal.flush()

    async def _give_up_changes(self) -> None:
        """A change that the broker's list does not show in all this time was not taken."""
        for record in await self._suspects():
            pending = record.pending
            if pending is not None and self._long_ago(pending.at, self._looked_at):
                self._journal.note(Own(record.id, ChangeUnanswered(self._clock.now())))

    async def _suspects(self, which: Work[list[OrderRecord]] = open_orders) -> list[OrderRecord]:
        """The journal's open orders, but for those that are being sent at this moment."""
        found = await self._database.read(which)
        return [record for record in found if record.id not in self._journal.sending]

    async def _look(self, suspects: list[OrderRecord]) -> list[OrderRecord]:
        """Applies all that the broker knows; which of these it does not know."""
        self._looked_at, self._looked_second = self._clock.now(), self._clock.monotonic()
        # Each comes as an event, in its place among all others. Noted here again it would take back
        # what the broker has said since: of a change, for one.
        listed = Listed(await self._gateway.queries.all_open_orders())
        unlisted = not all(record in listed for record in suspects)
        self._executions_later &= not unlisted
        if not self._executions_later:
            await self._executions()
        if unlisted or not self._looked or "completed orders" in self.silent:
            asked = self._gateway.queries.completed_orders(timeout=LIST_SECONDS)
            completed = await self._answered("completed orders", asked)
            if completed is not None:
                self._journal.note(*completed)
                self._looked = True  # a journal that has lost orders does not suspect any
        await self._journal.flush()
        still = {each.id: each for each in await self._database.read(open_orders)}
        return [
            still[record.id]
            for record in suspects
            if record.id in still and still[record.id] not in listed
        ]

    async def _answered(self, name: str, asked: Awaitable[Answer]) -> Answer | None:
        """What was asked for, or None: silence costs that one answer, and is remembered."""
        try:
            answer = await asked
        except RequestTimedOutError:
            if name not in self.silent:
                log.warning("list-not-answered", what=name)
            self.silent.setdefault(name, self._clock.now())
            return None
        self.silent.pop(name, None)
        return answer

    async def _executions(self) -> None:
        """The day's, and their commissions: they come as events."""
        asked = self._gateway.queries.executions(timeout=LIST_SECONDS)
        await self._answered("executions", asked)

    async def _broken_off_before(self, missing: list[OrderRecord]) -> set[str]:
        """The groups whose last leg an earlier process has found to be never sent."""
        groups = {record.group_id for record in missing if not record.terms.transmit}
        found = await self._database.read(
            lambda connection: [
                leg for group in groups for leg in orders.by_group(connection, group)
            ]
        )
        return {
            leg.group_id for leg in found if leg.terms.transmit and leg.status is Status.NOT_SENT
        }

    def _absent_long_enough(self, record: OrderRecord) -> bool:
        """An acknowledged order gets a minute: a gateway that has just logged in lists none yet."""
        return record.state is not State.ACKNOWLEDGED or self._is_absent_for_long(record)

    def _is_absent_for_long(self, record: OrderRecord) -> bool:
        since = self._absent.get(record.id)
        return since is not None and self._clock.monotonic() - since >= SETTLES_SECONDS

    async def _never_seen(self, record: OrderRecord) -> bool:
        """Whether it is certain that the gateway never got this order."""
        return (
            record.acknowledged_at is None
            and record.terms.order_type not in INSTRUCTIONS.values()  # they may not move its number
            and record.state is not State.TERMINAL
            and record.client_id == self._gateway.client_id
            and record.id not in self._sender.on_this_connection
            and await self._sequence.never_reached(record.broker_order_id, record.id)
        )

    def _note_not_sent(self, record: OrderRecord) -> None:
        reason = "the gateway has never seen this order"
        self._journal.note(Own(record.id, NotSent(self._clock.now(), reason)))

    async def _cancel_for(self, halt: Halt, patience: float | None = None) -> None:
        result = await self._canceller.cancel_open(halt.cancel, patience=patience)
        if result.failed:  # the next connect repeats it
            log.warning("halt-cancels-not-sent", orders=result.failed)
        elif halt.cancel == "all" and await self._canceller.is_heard():
            await self._halt.note_all_cancelled()

    async def _cancel_again_for(self, halt: Halt) -> None:
        """At a connect: what a halt had cancelled may not have got there.

        What it has let through since is not meant, nor what others have placed since: a global
        cancel is repeated until one has got there. What it has kept is told from the rest as soon
        as the positions are known, however busy the gateway is now.
        """
        if halt.cancel == "own" or (halt.cancel == "all" and halt.all_cancelled):
            await self._canceller.cancel_each(
                each
                for each in self._journal.own_open_orders()
                if not halt.allow_closing or each.created_at <= halt.cancels_until
            )
        else:
            await self._cancel_for(halt, LIST_SECONDS)

    # while connected ----------------------------------------------------------------------------

    async def _look_after(self) -> None:
        while True:
            await self._clock.sleep(TICK_SECONDS)
            try:
                await self._tend()
            except BridgeError as error:
                log.info("reconcile-postponed", reason=error.detail)
            except Exception:
                log.exception("reconcile-failed")

    async def _tend(self) -> None:
        self._gateway.require_ready()
        now = self._clock.now()
        since_look = self._clock.monotonic() - self._looked_second
        if since_look < self._rules.answer_within_seconds:
            return
        waiting = await self._suspects(orders.unanswered)  # each second: the others are not read
        overdue = [each for each in waiting if self._overdue(each, now)]
        if overdue or self._journal.missed or self.silent or since_look >= ROUTINE_SECONDS:
            self._journal.missed = self._executions_later = False
            await self.reconcile()

    def _overdue(self, record: OrderRecord, now: datetime) -> bool:
        """Whether an answer (to the order itself, or to a change) should have come by now."""
        if record.state in {State.INTENTION, State.SENT}:
            return self._long_ago(record.created_at, now)
        return record.pending is not None and self._long_ago(record.pending.at, now)

    def _long_ago(self, moment: datetime, seen: datetime) -> bool:
        """Whether an answer should have come between the two; or the clock was set back since."""
        patience = timedelta(seconds=self._rules.answer_within_seconds)
        return seen - moment > patience or moment - self._clock.now() > patience

"""Placing orders: written down, then sent once, then followed until there is an answer.

    key known? ── yes ──> the first answer again, or what has become of the order since
        │ no
    qualify, judge ──> one synced transaction: key, orders, audit (rules are judged inside it)
        │
    put on the wire ──> the journal hears the broker ──> answer, kept under the key

Between the transaction and the wire nothing can be cancelled by a client that hangs up. A crash
there leaves an intention, which `reconcile` clears up with the broker; it is never sent again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct, structs

from bridge.auditing import Auditor, Caller, Trail, note_end
from bridge.clock import Clock
from bridge.model import Contract
from bridge.orders import order_ids
from bridge.orders.cancel import OrderCanceller
from bridge.orders.errors import (
    KeyRequiredError,
    KeyReusedError,
    OrderArchivedError,
    OrderError,
    OrderFateUnknownError,
    OrderNotSentError,
    OrderPendingError,
    OrderRefusedByRulesError,
    OrderRejectedError,
    Violation,
    name_cancelled,
)
from bridge.orders.halt import Halt, HaltSwitch, halted
from bridge.orders.incomplete import (
    SentInPartError,
    incomplete,
    is_without_trace,
    to_call_off,
)
from bridge.orders.journal import OrderJournal, Watch
from bridge.orders.legs import one_cancels_all
from bridge.orders.prepare import Prepared, Preparer
from bridge.orders.request import OcaRequest, OrderRequest
from bridge.orders.risk_context import RiskContext
from bridge.orders.sender import (
    CANCELLED_BEFORE,
    KeyTakenError,
    OrderSender,
    Sized,
    Submission,
)
from bridge.orders.views import OrderGroup, OrderView, TargetOrder, order_view
from bridge.store import DamagedRowError, Database, idempotency, orders
from bridge.store.idempotency import KeyRecord
from bridge.store.orders import OrderRecord, State, Status
from bridge.store.rows import compact
from bridge.tws.broker_codes import order_advice
from bridge.tws.gateway import Gateway

_LONGEST_KEY: Final = 255
_REASON_SECONDS: Final = 0.25


class TargetReached(Struct, rename="camel", frozen=True, kw_only=True):
    """The position has the wanted size, or will have it with what works: nothing was sent.

    `cancelled` are the orders that were in the way of that, and are gone.
    """

    reached: bool = True
    symbol: str
    con_id: int
    cancelled: tuple[str, ...] = ()


Answer = OrderView | OrderGroup | TargetReached


class Problem(msgspec.Struct, frozen=True):
    """A kept rejection."""

    detail: str
    next_step: str
    extra: dict[str, Any]


class Placed(Struct, frozen=True):
    """An answer, and whether it is the repetition of an earlier one."""

    answer: Answer
    replayed: bool


@dataclass(kw_only=True, eq=False)
class OrderSubmitter:
    """Places orders, and answers repetitions."""

    database: Database
    gateway: Gateway
    preparer: Preparer
    journal: OrderJournal
    sender: OrderSender
    canceller: OrderCanceller
    halt: HaltSwitch
    auditor: Auditor
    clock: Clock
    _keys: WeakValueDictionary[str, asyncio.Lock] = field(
        default_factory=WeakValueDictionary, init=False
    )

    async def place(
        self,
        request: OrderRequest,
        key: str | None,
        caller: Caller,
        *,
        only_closing: bool = False,
    ) -> Placed:
        """Places one order or a bracket; `only_closing`: never one that opens or enlarges."""
        async with self.auditor.trail(caller, "order.place", request) as trail:
            body = ("order", request)
            return await self._place((request,), None, key, body, trail, only_closing=only_closing)

    async def place_group(self, request: OcaRequest, key: str | None, caller: Caller) -> Placed:
        """Places orders of which one fill ends the others."""
        async with self.auditor.trail(caller, "order.place-oca", request) as trail:
            check_group(request)
            return await self._place(request.orders, request.oca_type, key, ("oca", request), trail)

    async def judge(
        self, requests: tuple[OrderRequest, ...], caller: Caller, oca_type: int | None = None
    ) -> tuple[list[Prepared], list[RiskContext]]:
        """Everything short of writing down: what would be sent, and the contexts of the rules.

        Raises what placing would raise, while trading is halted or the journal is behind, too.
        """
        closing = self._require_open_for(requests)
        prepared = await self._prepare(requests, oca_type)
        if closing is not None:
            await self.sender.require_reducing(prepared)
        before = await self.database.read(
            lambda connection: self.preparer.before(connection, caller, prepared)
        )
        return prepared, self.preparer.contexts(prepared, before)

    async def _place(
        self,
        requests: tuple[OrderRequest, ...],
        oca_type: int | None,
        key: str | None,
        body: tuple[str, Any],
        trail: Trail,
        *,
        only_closing: bool = False,
    ) -> Placed:
        claim = self.claim(key, body)
        earlier = await self.repeated(claim, trail)
        if earlier is not None:
            return Placed(earlier, replayed=True)
        closing = self._require_open_for(requests)
        prepared = await self._prepare(requests, oca_type)
        if only_closing:
            # Safe because the sender refuses, in its turn, whatever could open or enlarge.
            prepared = [structs.replace(each, closes=True, unattended=True) for each in prepared]
        reduces = closing is not None or only_closing
        submission = Submission(claim, prepared, trail, reduces, only_closing=only_closing)
        return await self._submitted(submission)

    async def place_sized(
        self,
        claim: KeyRecord,
        sized: Sized,
        trail: Trail,
        contract: Contract,
        *,
        opens: str = "",
        cancelled: tuple[str, ...] = (),
    ) -> Placed:
        """Places what `sized` works out in the sender's turn, if it is anything.

        `opens`: as for `require_open_for_orders`; `cancelled` is told in every answer.
        """
        closing = self.require_open_for_orders(opens) is not None
        submission = Submission(claim, [], trail, closing, sized, cancelled=cancelled)
        nothing = TargetReached(symbol=contract.symbol, con_id=contract.con_id, cancelled=cancelled)
        return await self._submitted(submission, nothing)

    async def _submitted(
        self, submission: Submission, nothing: TargetReached | None = None
    ) -> Placed:
        """`nothing` is the answer when there was nothing to send."""
        claim, part = submission.claim, None
        try:
            records = await self.sender.commit(submission)
            if not records and nothing is not None:
                await self._keep(claim, msgspec.json.encode(nothing))
                return Placed(nothing, replayed=False)
        except KeyTakenError:
            earlier = await self.repeated(claim, submission.trail)
            if earlier is None:
                raise OrderNotSentError("the order with this key was not sent") from None
            return Placed(earlier, replayed=True)
        except SentInPartError as error:
            records, part = error.records, error
        answer = await self._answered(submission, records, part)
        return Placed(answer, replayed=False)

    @asynccontextmanager
    async def alone_with(self, claim: KeyRecord) -> AsyncIterator[None]:
        """Lets one request with this key on at a time: another then finds what the first has done.

        For what cancels before it sends, as the key is only taken when an order is written down.
        """
        lock = self._keys.setdefault(claim.key_digest, asyncio.Lock())
        async with lock:
            yield

    async def once(
        self,
        claim: KeyRecord,
        trail: Trail,
        place: Callable[[], Awaitable[Placed]],
        *,
        opens: str = "",
    ) -> Placed:
        """What `place` gives, alone with this key; or what the key was answered before.

        `opens`: as for `require_open_for_orders`.
        """
        async with self.alone_with(claim):
            earlier = await self.repeated(claim, trail)
            if earlier is not None:
                return Placed(earlier, replayed=True)
            self.require_open_for_orders(opens)
            return await place()

    def claim(self, key: str | None, body: tuple[str, Any]) -> KeyRecord:
        """The key of a request with the digest of its body, not written down yet."""
        return KeyRecord(
            key_digest=order_ids.key_digest(self._checked_key(key)),
            body_digest=order_ids.body_digest(*body),
            created_at=self.clock.now(),
        )

    async def _keep(self, claim: KeyRecord, body: bytes) -> None:
        """Keeps an answer under a key that belongs to no order.

        Raises:
            KeyTakenError: somebody else was first with it.
        """

        def write(connection: sqlite3.Connection) -> None:
            digest, now = claim.key_digest, claim.created_at
            if not idempotency.claim(connection, digest, claim.body_digest, now):
                raise KeyTakenError
            idempotency.answer(connection, digest, body, now, accepted=True)

        await self.database.write(write)

    async def _answered(
        self, submission: Submission, records: list[OrderRecord], part: SentInPartError | None
    ) -> Answer:
        present = await self._waited_for(records)
        if part is not None:
            sent = {each.id for each in present if each.status is not Status.NOT_SENT}
            present = await self._over(present, sent.difference(part.failed))
            raise incomplete(present, _told(present), part.reason, part.failed)
        failed: tuple[str, ...] = ()
        if any(each.status is Status.REJECTED for each in present):
            present, failed = await self._called_off(present)
        digest, cancelled = submission.claim.key_digest, submission.cancelled
        return await self._final(digest, present, submission.trail, cancelled, failed)

    async def _called_off(
        self, present: list[OrderRecord]
    ) -> tuple[list[OrderRecord], tuple[str, ...]]:
        """Cancels the rest of a group that was refused in part, as far as that strips nothing.

        Gives what the group is then, and the orders whose cancel could not be sent.
        """
        failed: tuple[str, ...] = ()
        asked: set[str] = set()
        while chosen := [each for each in to_call_off(present) if each.id not in asked]:
            asked |= {each.id for each in chosen}
            failed += (await self.canceller.cancel_each(chosen)).failed
            present = await self._over(present, asked.difference(failed))
        return present, failed

    async def _over(
        self, records: list[OrderRecord], cancelled: Collection[str]
    ) -> list[OrderRecord]:
        """The same orders when those that were cancelled have ended, or that takes too long."""
        names = [each.id for each in records]
        with self.journal.watch(names) as watch:
            await self._begin(watch, records)
            ended = await watch.until(
                lambda: all(not watch.records[each].open for each in cancelled),
                self.preparer.rules.answer_within_seconds,
            )
            if ended:  # the exits of a bracket end a moment behind their entry
                await watch.until(
                    lambda: all(not watch.records[each].open for each in names), _REASON_SECONDS
                )
            return [watch.records[each] for each in names]

    def _require_open_for(self, requests: tuple[OrderRequest, ...]) -> Halt | None:
        closing = self.require_open_for_orders()
        if closing and any(request.bracket is not None for request in requests):
            raise halted(closing, "a bracket opens a position")
        return closing

    def require_open_for_orders(self, opens: str = "") -> Halt | None:
        """Raises when no order can be sent now; gives the halt that lets only closing ones pass.

        `opens` says why what is to be sent never only closes, so that every halt refuses it.
        """
        halt = self.halt.halt
        if halt is not None:
            if opens:
                raise halted(halt, opens)
            self.halt.require_closing_allowed()
        self.gateway.require_ready()
        self.journal.require_current()
        return halt

    def _checked_key(self, key: str | None) -> str:
        if key is None or not key.strip():
            if self.preparer.rules.require_idempotency_key:
                raise KeyRequiredError("an order needs an Idempotency-Key")
            return order_ids.unnamed_key()
        if len(key) > _LONGEST_KEY or not key.isprintable():
            raise KeyRequiredError(
                f"an Idempotency-Key has at most {_LONGEST_KEY} plain characters"
            )
        return key

    async def _prepare(
        self, requests: tuple[OrderRequest, ...], oca_type: int | None
    ) -> list[Prepared]:
        prepared = list(
            await asyncio.gather(*(self.preparer.prepare(request) for request in requests))
        )
        if oca_type is None:
            return prepared
        group = f"gw-{order_ids.unnamed_key()[-16:]}"
        return [
            structs.replace(
                each, legs=tuple(one_cancels_all(leg, group, oca_type) for leg in each.legs)
            )
            for each in prepared
        ]

    # repetitions --------------------------------------------------------------------------------

    async def repeated(self, claim: KeyRecord, trail: Trail) -> Answer | None:
        """What to answer when the key has been used; None when the order may be sent (again)."""
        beginning = order_ids.beginning(claim.key_digest)
        known, records, adopted, archived = await self.database.read(
            lambda connection: (
                idempotency.get(connection, claim.key_digest),
                orders.by_key(connection, claim.key_digest),
                orders.by_key(connection, beginning),
                idempotency.get(connection, beginning),
            )
        )
        forgotten = known is None and any(each.status is not Status.NOT_SENT for each in records)
        if adopted or forgotten:
            known, records = await self.database.write(lambda c: _taken_back(c, claim, beginning))
        mark = known or archived
        if mark is not None and not mark.body_digest:  # only that it was taken is known
            raise _archived()
        if known is None:
            return None
        if known.body_digest != claim.body_digest:
            raise KeyReusedError("this Idempotency-Key came with another body before")
        if known.accepted is not None:
            trail.target = records[-1].group_id if records else ""
            return _replay(known)
        return await self._resumed(claim.key_digest, records, trail)

    async def _resumed(
        self, digest: str, records: list[OrderRecord], trail: Trail
    ) -> Answer | None:
        if not records:  # what is damaged is left out of a list
            raise DamagedRowError(
                "the order of this Idempotency-Key cannot be read",
                next_step="Nothing was sent. GET /orders?all=true shows what works at the broker",
            )
        newest = [each for each in records if each.group_id == records[-1].group_id]
        trail.target = newest[0].id
        newest = await self._waited_for(newest)
        if all(each.status is Status.NOT_SENT for each in newest):
            await self.database.write(lambda connection: idempotency.release(connection, digest))
            return None
        cancelled = await self._cancelled_before(newest[0])
        return await self._final(digest, newest, trail, cancelled)

    async def _cancelled_before(self, record: OrderRecord) -> tuple[str, ...]:
        """What was cancelled for an order, as it was written down with it."""
        events = await self.database.read(lambda c: orders.events_of(c, record.id))
        return tuple(events[0].detail.get(CANCELLED_BEFORE, ())) if events else ()

    async def _waited_for(self, records: list[OrderRecord]) -> list[OrderRecord]:
        order_ids = [each.id for each in records]
        with self.journal.watch(order_ids) as watch:
            await self._begin(watch, records)
            await watch.until(
                lambda: all(
                    each in watch.records and _decided(watch.records[each]) for each in order_ids
                ),
                self.preparer.rules.answer_within_seconds,
            )
            await watch.until(lambda: all(map(_explained, watch.records.values())), _REASON_SECONDS)
            return [watch.records[each] for each in order_ids]

    async def _begin(self, watch: Watch, records: list[OrderRecord]) -> None:
        """With what the orders are now: as the journal keeps the open ones at hand, or from it."""
        at_hand = [self.journal.open.get(each.id) for each in records]
        fresh = [each for each in at_hand if each is not None]
        if len(fresh) < len(records):
            group = records[0].group_id
            fresh = await self.database.read(lambda connection: orders.by_group(connection, group))
        for record in fresh:
            watch.records.setdefault(record.id, record)

    async def _final(
        self,
        digest: str,
        records: list[OrderRecord],
        trail: Trail,
        cancelled: tuple[str, ...],
        cancel_failed: tuple[str, ...] = (),
    ) -> Answer:
        """The answer, kept for repetitions unless a later one may say more.

        Together with the last entry of `trail`, whose outcome it is.
        """
        now = self.clock.now()
        refused: OrderRejectedError | None = None
        try:
            answer = _with_cancelled(_answer_of(records, cancel_failed), cancelled)
            body = compact(answer).encode()
        except OrderError as error:
            name_cancelled(error, cancelled)
            if not isinstance(error, OrderRejectedError):
                raise
            refused = error
            body = msgspec.json.encode(Problem(error.detail, error.next_step, error.extra))

        def write(connection: sqlite3.Connection) -> None:
            idempotency.answer(connection, digest, body, now, accepted=refused is None)
            note_end(connection, self.auditor, trail, refused.code if refused else "ok")

        try:
            # Without it a repetition is answered with what the order is by then.
            await self.database.write(write, durable=False)
        except BaseException:
            trail.ended = None
            raise
        if refused is not None:
            raise refused
        return answer


def _taken_back(
    connection: sqlite3.Connection, claim: KeyRecord, beginning: str
) -> tuple[KeyRecord | None, list[OrderRecord]]:
    """The key of an order that was adopted from the broker has come: it is that order's again."""
    idempotency.claim(connection, claim.key_digest, claim.body_digest, claim.created_at)
    orders.give_key(connection, beginning, claim.key_digest)
    known = idempotency.get(connection, claim.key_digest)
    return known, orders.by_key(connection, claim.key_digest)


def check_group(request: OcaRequest) -> None:
    """Raises when the orders cannot be one OCA group."""
    found: list[Violation] = []
    if not 2 <= len(request.orders) <= 10:
        found.append(
            Violation(
                "oca-size",
                "an OCA group has 2 to 10 orders",
                field="orders",
                value=len(request.orders),
            )
        )
    for index, order in enumerate(request.orders):
        if order.bracket is not None or order.oca_group:
            found.append(
                Violation(
                    "unexpected-field",
                    "an order of an OCA group has no bracket and no ocaGroup of its own",
                    field=f"orders[{index}]",
                )
            )
    if found:
        raise OrderRefusedByRulesError(found)


def _decided(record: OrderRecord) -> bool:
    """Whether the broker (or the bridge, for want of the broker) has said what the order is."""
    if record.state in {State.INTENTION, State.SENT}:
        return False
    return record.status is not Status.PENDING_SUBMIT


def _explained(record: OrderRecord) -> bool:
    """Whether it has not ended without a reason, which often comes a moment behind the end."""
    ended = record.status in {Status.INACTIVE, Status.CANCELLED}
    return not ended or record.reject_code is not None or bool(record.warning)


def _answer_of(records: list[OrderRecord], cancel_failed: tuple[str, ...] = ()) -> Answer:
    """The answer in words of success.

    Raises:
        OrderRejectedError: the broker refused a leg, and nothing of the others works or has traded.
        GroupIncompleteError: a part was refused or never sent, and the rest has traded, or may.
        OrderFateUnknownError: nobody knows about a leg.
        OrderPendingError: the broker has not answered yet.
        OrderNotSentError: the gateway has never seen it.
    """
    answer, shown = _shown(records), _told(records)
    rejected = next((each for each in records if each.status is Status.REJECTED), None)
    if rejected is not None and all(map(is_without_trace, records)):
        raise _rejection(rejected, shown)
    if rejected is not None:
        raise incomplete(records, shown, failed=cancel_failed)
    if any(record.state is State.UNKNOWN for record in records):
        raise OrderFateUnknownError(
            f"order {records[0].id} may or may not have reached the broker", extra=shown
        )
    if any(record.state in {State.INTENTION, State.SENT} for record in records):
        raise OrderPendingError(
            f"order {records[0].id} is sent, the gateway has not answered in time", extra=shown
        )
    unsent = [each for each in records if each.status is Status.NOT_SENT]
    if len(unsent) == len(records):
        raise OrderNotSentError(f"order {records[0].id} was not sent", extra=shown)
    if unsent:
        raise incomplete(records, shown)
    return answer


def _told(records: list[OrderRecord]) -> dict[str, Any]:
    """The orders as a member of a problem."""
    return {"order": msgspec.to_builtins(_shown(records))}


def _shown(records: list[OrderRecord]) -> Answer:
    """One order, a bracket under its entry, or an OCA group."""
    first = records[0]
    if first.role == "oca":
        return OrderGroup(
            group_id=first.group_id,
            oca_group=first.terms.oca_group,
            orders=tuple(order_view(record) for record in records),
        )
    return order_view(first, tuple(records[1:]))


def _rejection(record: OrderRecord, shown: dict[str, Any]) -> OrderRejectedError:
    """The broker's refusal of one leg, with its text and what to do."""
    code, text = record.reject_code, record.reject_text or "no reason given"
    extra = {"brokerCode": code, "brokerText": text, **shown}
    step = order_advice(code) if code is not None else None
    return OrderRejectedError(f"the broker rejected the order: {text}", next_step=step, extra=extra)


def _archived() -> OrderArchivedError:
    return OrderArchivedError("the order of this Idempotency-Key ended long ago")


def _replay(known: KeyRecord) -> Answer:
    """The first answer again, be it a success or a rejection."""
    if not known.answer:
        raise _archived()
    try:
        if known.accepted:
            return msgspec.json.decode(known.answer, type=_either(known.answer))
        problem = msgspec.json.decode(known.answer, type=Problem)
    except msgspec.MsgspecError:
        raise DamagedRowError(
            "the answer that was kept under this Idempotency-Key cannot be read",
            next_step="Nothing was sent. GET /orders shows the order of this key",
        ) from None
    raise OrderRejectedError(problem.detail, next_step=problem.next_step, extra=problem.extra)


def _with_cancelled(answer: Answer, cancelled: tuple[str, ...]) -> Answer:
    if not cancelled or not isinstance(answer, OrderView):
        return answer
    members = {name: getattr(answer, name) for name in OrderView.__struct_fields__}
    return TargetOrder(**members, cancelled=cancelled)


def _either(body: bytes) -> type[OrderView] | type[OrderGroup] | type[TargetReached]:
    if body.startswith(b'{"reached"'):
        return TargetReached
    if b'"cancelled":[' in body:  # no text has such quotation marks
        return TargetOrder
    return OrderGroup if body.startswith(b'{"groupId"') else OrderView

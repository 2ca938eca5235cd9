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
from typing import Any

import structlog
from msgspec import Struct, structs

from bridge.auditing import Caller, Trail
from bridge.orders import answers, order_ids
from bridge.orders.answers import Answer
from bridge.orders.errors import (
    KeyRequiredError,
    KeyReusedError,
    OrderNotSentError,
    OrderRefusedByRulesError,
    OrderRejectedError,
    Violation,
)
from bridge.orders.halt import halted
from bridge.orders.legs import one_cancels_all
from bridge.orders.prepare import Prepared
from bridge.orders.request import OcaRequest, OrderRequest
from bridge.orders.risk_context import RiskContext
from bridge.orders.rules import TradingRules
from bridge.orders.sender import KeyTakenError, OrderSender, Submission
from bridge.orders.worker import Tools, Worker
from bridge.store import idempotency, orders
from bridge.store.idempotency import KeyRecord
from bridge.store.order_status import Status
from bridge.store.orders import OrderRecord

log = structlog.get_logger(__name__)

_LONGEST_KEY = 255
_REASON_SECONDS = 0.25


class Placed(Struct, frozen=True):
    """An answer, and whether it is the repetition of an earlier one."""

    answer: Answer
    replayed: bool


class OrderSubmitter(Worker):
    """Places orders, and answers repetitions."""

    def __init__(self, tools: Tools, sender: OrderSender) -> None:
        super().__init__(tools)
        self._sender = sender

    @property
    def _rules(self) -> TradingRules:
        return self._preparer.rules

    async def place(self, request: OrderRequest, key: str | None, caller: Caller) -> Placed:
        """Places one order or a bracket."""
        async with self._auditor.trail(caller, "order.place", request) as trail:
            return await self._place((request,), None, key, ("order", request), trail)

    async def place_group(self, request: OcaRequest, key: str | None, caller: Caller) -> Placed:
        """Places orders of which one fill ends the others."""
        async with self._auditor.trail(caller, "order.place-oca", request) as trail:
            check_group(request)
            return await self._place(request.orders, request.oca_type, key, ("oca", request), trail)

    async def judge(
        self, requests: tuple[OrderRequest, ...], caller: Caller
    ) -> tuple[list[Prepared], list[RiskContext]]:
        """Everything short of writing down: what would be sent, and the contexts of the rules."""
        self._halt.require_off()
        self._gateway.require_ready()
        prepared = await self._prepare(requests, None)
        before = await self._database.read(
            lambda connection: self._preparer.before(connection, caller)
        )
        return prepared, self._preparer.contexts(prepared, before)

    async def _place(
        self,
        requests: tuple[OrderRequest, ...],
        oca_type: int | None,
        key: str | None,
        body: tuple[str, Any],
        trail: Trail,
    ) -> Placed:
        digest = order_ids.key_digest(self._checked_key(key))
        claim = KeyRecord(
            key_digest=digest,
            body_digest=order_ids.body_digest(*body),
            created_at=self._clock.now(),
        )
        earlier = await self._repeated(claim, trail)
        if earlier is not None:
            return Placed(earlier, replayed=True)
        closing = self._only_closing(requests)
        self._gateway.require_ready()
        self._tracker.require_current()
        prepared = await self._prepare(requests, oca_type)
        try:
            records = await self._sender.commit(Submission(claim, prepared, trail, closing))
        except KeyTakenError:
            earlier = await self._repeated(claim, trail)
            if earlier is None:
                raise OrderNotSentError("the order with this key was not sent") from None
            return Placed(earlier, replayed=True)
        return Placed(await self._answered(digest, records), replayed=False)

    async def _answered(self, digest: str, records: list[OrderRecord]) -> Answer:
        present = await self._waited_for(records)
        if any(each.status is Status.REJECTED for each in present) and len(present) > 1:
            await self._sender.withdraw([each for each in present if each.open])
        return await self._final(digest, present)

    def _only_closing(self, requests: tuple[OrderRequest, ...]) -> bool:
        """Whether trading is halted and lets orders pass that only reduce a position."""
        halt = self._halt.halt
        if halt is None:
            return False
        self._halt.require_closing_allowed()
        if any(request.bracket is not None for request in requests):
            raise halted(halt, "a bracket opens a position")
        return True

    def _checked_key(self, key: str | None) -> str:
        if key is None or not key.strip():
            if self._rules.require_idempotency_key:
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
            await asyncio.gather(*(self._preparer.prepare(request) for request in requests))
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

    async def _repeated(self, claim: KeyRecord, trail: Trail) -> Answer | None:
        """What to answer when the key has been used; None when the order may be sent (again)."""
        beginning = order_ids.beginning(claim.key_digest)
        known, records, adopted = await self._database.read(
            lambda connection: (
                idempotency.get(connection, claim.key_digest),
                orders.by_key(connection, claim.key_digest),
                orders.by_key(connection, beginning),
            )
        )
        if adopted:
            known, records = await self._database.write(lambda c: _taken_back(c, claim, beginning))
        if known is None:
            return None
        if known.body_digest != claim.body_digest:
            raise KeyReusedError("this Idempotency-Key came with another body before")
        if known.accepted is not None:
            trail.target = records[-1].group_id if records else ""
            return answers.replay(known)
        return await self._resumed(claim.key_digest, records, trail)

    async def _resumed(
        self, digest: str, records: list[OrderRecord], trail: Trail
    ) -> Answer | None:
        newest = [each for each in records if each.group_id == records[-1].group_id]
        trail.target = newest[0].id
        newest = await self._waited_for(newest)
        if all(each.status is Status.NOT_SENT for each in newest):
            await self._database.write(lambda connection: idempotency.release(connection, digest))
            return None
        return await self._final(digest, newest)

    async def _waited_for(self, records: list[OrderRecord]) -> list[OrderRecord]:
        order_ids = [each.id for each in records]
        with self._tracker.watch(order_ids) as watch:
            group = records[0].group_id
            fresh = await self._database.read(lambda connection: orders.by_group(connection, group))
            for record in fresh:
                watch.records.setdefault(record.id, record)
            await watch.until(
                lambda found: answers.all_decided(found, order_ids),
                self._rules.answer_within_seconds,
            )
            await watch.until(answers.explained, _REASON_SECONDS)
            return [watch.records[each] for each in order_ids]

    async def _final(self, digest: str, records: list[OrderRecord]) -> Answer:
        """The answer, kept for repetitions unless a later one may say more."""
        now = self._clock.now()
        try:
            answer = answers.of_records(records)
        except OrderRejectedError as error:
            kept = answers.pack_problem(error)
            await self._keep(digest, kept, now, accepted=False)
            raise
        await self._keep(digest, answers.pack(answer), now, accepted=True)
        return answer

    async def _keep(self, digest: str, body: bytes, now: Any, *, accepted: bool) -> None:
        await self._database.write(
            lambda connection: idempotency.answer(connection, digest, body, now, accepted=accepted)
        )


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
                code="oca-size",
                message="an OCA group has 2 to 10 orders",
                field="orders",
                value=len(request.orders),
            )
        )
    for index, order in enumerate(request.orders):
        if order.bracket is not None or order.oca_group:
            found.append(
                Violation(
                    code="unexpected-field",
                    message="an order of an OCA group has no bracket and no ocaGroup of its own",
                    field=f"orders[{index}]",
                )
            )
    if found:
        raise OrderRefusedByRulesError(found)

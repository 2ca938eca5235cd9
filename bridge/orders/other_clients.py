"""Orders that other clients placed, or people in TWS: listed and cancelled.

They are in no journal: what is shown is what the broker says at that moment. The protocol lets a
client cancel its own orders only, so one of another client's is cancelled under that client's id,
and one that was entered by hand under 0 (`bridge.tws.session`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
from bridge.model import OpenOrder, Order, OrderStatus
from bridge.orders import order_ids
from bridge.orders.errors import (
    ChangeRejectedError,
    OrderNotOpenError,
    OrderPendingError,
    UnknownOrderError,
)
from bridge.orders.journal import OrderJournal, require_reach
from bridge.orders.order_types import kind_of_type
from bridge.orders.views import OrderView, order_view
from bridge.store.orders import ENDED, OrderRecord, State, Status, from_broker
from bridge.tws.broker_codes import Effect, effect_of
from bridge.tws.errors import NotConnectedError, TwsError
from bridge.tws.gateway import Gateway

BY_HAND: Final = 0
"""The client id of orders that people enter."""

_LIST_SECONDS: Final = 5.0

_NEXT_STEP: Final = (
    "Change it where it was placed; DELETE /order/{id} with a key of scope admin cancels it"
)

Borrow = Callable[[int], AbstractAsyncContextManager[Gateway]]


class Other(Struct, frozen=True):
    """One such order, as it was listed, and its last status."""

    report: OpenOrder
    status: OrderStatus | None = None

    @property
    def client_id(self) -> int:
        return self.report.order.client_id


@dataclass(kw_only=True, eq=False)
class OtherClientsOrders:
    """Lists and cancels them; `borrow` makes a session under another client id."""

    gateway: Gateway
    journal: OrderJournal
    auditor: Auditor
    clock: Clock
    answer_seconds: float
    borrow: Borrow | None

    async def listed(self) -> tuple[OrderView, ...]:
        """Those that are open at this moment."""
        now = self.clock.now()
        return tuple(_view(each, now) for each in await self._list())

    async def records(self) -> tuple[OrderRecord, ...]:
        """The same in the shape of the journal's."""
        now = self.clock.now()
        return tuple(_record(each, now) for each in await self._list())

    async def order(self, perm_id: int) -> OrderView:
        """One of them.

        Raises:
            UnknownOrderError: none that is open has this id.
        """
        return _view(await self._find(perm_id), self.clock.now())

    async def cancel(self, perm_id: int, caller: Caller) -> OrderView:
        """Cancels one under the client id that placed it, and waits for the broker's word.

        Raises:
            UnknownOrderError: none that is open has this id.
            ClientIdInUseError: the program that placed it is connected.
            OrderPendingError: sent, and the broker has not answered in time.
        """
        async with self.auditor.trail(caller, "order.cancel", None) as trail:
            trail.target = f"perm-{perm_id}"
            self.gateway.require_ready()
            other = await self._find(perm_id)
            trail.detail = {"clientId": other.client_id, "symbol": other.report.contract.symbol}
            order = other.report.order
            require_reach(caller, trail.target, order.account, other.report.contract.symbol)
            async with self._session(other.client_id) as session:
                number = await self._number(session, other)
                after = await _cancelled(session, other, number, self.answer_seconds)
            return _view(after, self.clock.now())

    async def _list(self) -> list[Other]:
        statuses: dict[int, OrderStatus] = {}
        forget = self.gateway.events.order_status.listen(
            lambda status: statuses.__setitem__(status.perm_id, status)
        )
        try:
            listed = await self.gateway.queries.all_open_orders(timeout=_LIST_SECONDS)
        finally:
            forget()
        return [
            Other(each, statuses.get(each.order.perm_id))
            for each in listed
            if each.order.perm_id and not self._is_ours(each)
        ]

    def _is_ours(self, listed: OpenOrder) -> bool:
        """Whether it is in the journal, or will be as soon as what is listed has been applied."""
        order = listed.order
        if order.client_id == self.gateway.client_id and order_ids.digest_of(order.order_ref):
            return True
        return any(
            record.perm_id == order.perm_id or record.order_ref == order.order_ref
            for record in self.journal.open.values()
        )

    async def _find(self, perm_id: int) -> Other:
        for each in await self._list():
            if each.report.order.perm_id == perm_id:
                return each
        raise UnknownOrderError(
            f"no open order of another client has the id perm-{perm_id}",
            next_step="GET /orders?all=true lists those that are open",
        )

    @asynccontextmanager
    async def _session(self, client_id: int) -> AsyncIterator[Gateway]:
        if client_id == self.gateway.client_id:
            yield self.gateway
        elif self.borrow is None:
            raise NotConnectedError(f"no session under client id {client_id} can be made here")
        else:
            async with self.borrow(client_id) as session:
                yield session

    async def _number(self, session: Gateway, other: Other) -> int:
        """The order's number under that client id; one entered by hand gets it on being listed."""
        if other.client_id != BY_HAND and other.report.order_id:
            return other.report.order_id
        for each in await session.queries.open_orders(timeout=_LIST_SECONDS):
            if each.order.perm_id == other.report.order.perm_id and each.order_id:
                return each.order_id
        raise ChangeRejectedError(
            f"the gateway gives order perm-{other.report.order.perm_id} no number to cancel it by",
            next_step="Cancel it where it was placed: in TWS, or in the Client Portal",
        )


async def _cancelled(session: Gateway, other: Other, number: int, seconds: float) -> Other:
    """Sends the cancel, and what the order is then."""
    perm_id = other.report.order.perm_id
    answer: asyncio.Future[OrderStatus | TwsError] = asyncio.get_running_loop().create_future()

    def heard(status: OrderStatus) -> None:
        ended = from_broker(status.status) in ENDED
        if status.perm_id == perm_id and ended and not answer.done():
            answer.set_result(status)

    def refused(order_id: int, error: TwsError) -> None:
        code = error.broker_code
        final = code is not None and effect_of(code) in {Effect.CHANGE, Effect.REFUSES}
        if order_id == number and final and not answer.done():
            answer.set_result(error)

    forget = session.events.order_status.listen(heard), session.events.order_error.listen(refused)
    try:
        await session.cancel_order(number)
        async with asyncio.timeout(seconds):
            said = await answer
    except TimeoutError:
        raise OrderPendingError(
            f"the cancel of order perm-{perm_id} is sent, the gateway has not answered in time",
            next_step="GET /orders?all=true says whether it is still open",
        ) from None
    finally:
        for each in forget:
            each()
    if isinstance(said, TwsError):
        text = said.broker_text or said.detail
        raise ChangeRejectedError(
            f"the broker refused the cancel: {said.broker_code}: {text}",
            extra={"brokerCode": said.broker_code, "brokerText": text},
        )
    after = structs.replace(other, status=said)
    if from_broker(said.status) is not Status.CANCELLED:
        raise OrderNotOpenError(f"order perm-{perm_id} is {said.status} already")
    return after


def _view(other: Other, now: datetime) -> OrderView:
    """As the journal's orders look; what only a journal knows is left out."""
    record = _record(other, now)
    step = None if record.state is State.TERMINAL else _NEXT_STEP
    return structs.replace(order_view(record), created_at=None, next_step=step)


def _record(other: Other, now: datetime) -> OrderRecord:
    order, contract, last = other.report.order, other.report.contract, other.status
    status = from_broker(last.status if last else other.report.state.status)
    ended, name = status in ENDED, f"perm-{order.perm_id}"
    limit = order.limit_price if _limited(order) else None
    return OrderRecord(
        id=name,
        group_id=name,
        parent_id=None,
        order_ref=order.order_ref,
        key_digest="",
        api_key_id="",
        role="other",
        account=order.account,
        symbol=contract.symbol,
        contract=contract,
        terms=structs.replace(order, limit_price=limit),
        client_id=order.client_id,
        broker_order_id=other.report.order_id,
        perm_id=order.perm_id,
        notional=0.0,
        state=State.TERMINAL if ended else State.ACKNOWLEDGED,
        status=status or Status.UNKNOWN,
        filled=last.filled if last else order.filled_quantity or 0.0,
        average_price=(last.average_fill_price or None) if last else None,
        warning=other.report.state.warning_text or None,
        created_at=now,
        updated_at=now,
        ended_at=now if ended else None,
    )


def _limited(order: Order) -> bool:
    """Whether its limit price is one; where there is none the broker says 0."""
    need = kind_of_type(order.order_type).limit_price
    return need == "yes" or (need == "may" and bool(order.limit_price))

"""Orders that other clients placed, or people in TWS: listed and cancelled.

They are in no journal: what is shown is what the broker says at that moment. The protocol lets a
client cancel its own orders only, so one of another client's is cancelled under that client's id,
and one that was entered by hand under 0 (`bridge.tws.session`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Final

from msgspec import Struct, structs

from bridge.auditing import Caller
from bridge.model import OpenOrder, OrderStatus
from bridge.orders import order_ids
from bridge.orders.errors import (
    ChangeRejectedError,
    KeyBoundError,
    OrderNotOpenError,
    OrderPendingError,
    UnknownOrderError,
)
from bridge.orders.legs import order_type
from bridge.orders.views import OrderView
from bridge.orders.worker import Tools, Worker
from bridge.store.order_status import ENDED, State, Status, from_broker
from bridge.tws.broker_codes import Effect, effect_of
from bridge.tws.errors import NotConnectedError, TwsError
from bridge.tws.gateway import Gateway

BY_HAND: Final = 0
"""The client id of orders that people enter."""

_NAME: Final = re.compile(r"perm-(\d{1,19})")
_LIST_SECONDS: Final = 5.0

Borrow = Callable[[int], AbstractAsyncContextManager[Gateway]]


def perm_id_of(order_id: str) -> int | None:
    """The broker's permanent id in a name such as `perm-1234`; None: another kind of name."""
    found = _NAME.fullmatch(order_id)
    return int(found[1]) if found else None


class Other(Struct, frozen=True):
    """One such order, as it was listed, and its last status."""

    report: OpenOrder
    status: OrderStatus | None = None

    @property
    def client_id(self) -> int:
        """Whose it is."""
        return self.report.order.client_id


class OtherClientsOrders(Worker):
    """Lists and cancels them."""

    def __init__(self, tools: Tools, borrow: Borrow | None) -> None:
        super().__init__(tools)
        self._borrow = borrow

    async def listed(self) -> tuple[OrderView, ...]:
        """Those that are open at this moment."""
        now = self._clock.now()
        return tuple(_view(each, now) for each in await self._list())

    async def order(self, perm_id: int) -> OrderView:
        """One of them.

        Raises:
            UnknownOrderError: none that is open has this id.
        """
        return _view(await self._find(perm_id), self._clock.now())

    async def cancel(self, perm_id: int, caller: Caller) -> OrderView:
        """Cancels one under the client id that placed it, and waits for the broker's word.

        Raises:
            UnknownOrderError: none that is open has this id.
            ClientIdInUseError: the program that placed it is connected.
            OrderPendingError: sent, and the broker has not answered in time.
        """
        async with self._auditor.trail(caller, "order.cancel", None) as trail:
            trail.target = f"perm-{perm_id}"
            self._gateway.require_ready()
            other = await self._find(perm_id)
            trail.detail = {"clientId": other.client_id, "symbol": other.report.contract.symbol}
            order = other.report.order
            if not caller.bounds.reaches(order.account, other.report.contract.symbol):
                raise KeyBoundError(f"this key does not reach order perm-{perm_id}")
            async with self._session(other.client_id) as session:
                number = await self._number(session, other)
                seconds = self._preparer.rules.answer_within_seconds
                after = await _cancelled(session, other, number, seconds)
            return _view(after, self._clock.now())

    async def _list(self) -> list[Other]:
        statuses: dict[int, OrderStatus] = {}
        forget = self._gateway.events.order_status.listen(
            lambda status: statuses.__setitem__(status.perm_id, status)
        )
        try:
            listed = await self._gateway.queries.all_open_orders(timeout=_LIST_SECONDS)
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
        if order.client_id == self._gateway.client_id and order_ids.digest_of(order.order_ref):
            return True
        return any(
            record.perm_id == order.perm_id or record.order_ref == order.order_ref
            for record in self._tracker.open.values()
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
        if client_id == self._gateway.client_id:
            yield self._gateway
        elif self._borrow is None:
            raise NotConnectedError(f"no session under client id {client_id} can be made here")
        else:
            async with self._borrow(client_id) as session:
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

    def said(status: OrderStatus) -> None:
        ended = from_broker(status.status) in ENDED
        if status.perm_id == perm_id and ended and not answer.done():
            answer.set_result(status)

    def refused(order_id: int, error: TwsError) -> None:
        code = error.broker_code
        final = code is not None and effect_of(code) in {Effect.CHANGE, Effect.REFUSES}
        if order_id == number and final and not answer.done():
            answer.set_result(error)

    forget = session.events.order_status.listen(said), session.events.order_error.listen(refused)
    try:
        await session.cancel_order(number)
        async with asyncio.timeout(seconds):
            told = await answer
    except TimeoutError:
        raise OrderPendingError(
            f"the cancel of order perm-{perm_id} is sent, the gateway has not answered in time",
            next_step="GET /orders?all=true says whether it is still open",
        ) from None
    finally:
        for each in forget:
            each()
    if isinstance(told, TwsError):
        text = told.broker_text or told.detail
        raise ChangeRejectedError(
            f"the broker refused the cancel: {told.broker_code}: {text}",
            extra={"brokerCode": told.broker_code, "brokerText": text},
        )
    after = structs.replace(other, status=told)
    if from_broker(told.status) is not Status.CANCELLED:
        raise OrderNotOpenError(f"order perm-{perm_id} is {told.status} already")
    return after


def _view(other: Other, now: datetime) -> OrderView:
    """As the journal's orders look; what only a journal knows is left out."""
    order, contract, status = other.report.order, other.report.contract, other.status
    filled = status.filled if status else order.filled_quantity or 0.0
    word = from_broker(status.status if status else other.report.state.status)
    ended = word in ENDED
    return OrderView(
        order_id=f"perm-{order.perm_id}",
        state=State.TERMINAL if ended else State.ACKNOWLEDGED,
        status=word or Status.UNKNOWN,
        symbol=contract.symbol,
        sec_type=contract.sec_type,
        con_id=contract.con_id,
        exchange=contract.exchange,
        currency=contract.currency,
        expiration=contract.expiration or None,
        strike=contract.strike,
        right=contract.right,
        multiplier=contract.multiplier or None,
        local_symbol=contract.local_symbol,
        trading_class=contract.trading_class,
        action=order.action,
        quantity=order.quantity,
        order_type=order_type(order.order_type),
        limit_price=order.limit_price if "LMT" in order.order_type else None,
        stop_price=order.stop_price if "STP" in order.order_type else None,
        tif=order.tif,
        good_till_date=order.good_till_date or None,
        outside_rth=order.outside_rth,
        oca_group=order.oca_group or None,
        account=order.account,
        filled=filled,
        remaining=max(0.0, order.quantity - filled),
        average_price=(status.average_fill_price or None) if status else None,
        order_ref=order.order_ref,
        broker_order_id=other.report.order_id,
        perm_id=order.perm_id,
        client_id=order.client_id,
        role="other",
        group_id=f"perm-{order.perm_id}",
        created_at=None,
        updated_at=now,
        ended_at=now if ended else None,
        warning=other.report.state.warning_text or None,
        next_step=None if ended else _NEXT_STEP,
    )


_NEXT_STEP: Final = (
    "Change it where it was placed; DELETE /order/{id} with a key of scope admin cancels it"
)

"""Orders, executions, the kill switch and the audit log over HTTP."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from msgspec import Meta
from starlette.responses import Response

from bridge.api.problems import ForbiddenError
from bridge.api.routing import IDEMPOTENCY_KEY, Body, Call, Params, Reply, RouteTable
from bridge.auditing import Caller
from bridge.callers import Scope
from bridge.errors import InvalidRequestError
from bridge.orders.cancel import Cancelling, OrderCanceller
from bridge.orders.close import ClosedPositions, CloseRequest, PositionCloser
from bridge.orders.errors import KeyBoundError
from bridge.orders.executions import ExecutionService, ExecutionsPage, as_csv
from bridge.orders.exercise import ExerciseRequest, OptionExerciser
from bridge.orders.flex_import import FlexImport, ImportView
from bridge.orders.halt import HaltView, TradingHalt
from bridge.orders.journal import OrderJournal
from bridge.orders.modify import OrderModifier
from bridge.orders.order_ids import perm_id_of
from bridge.orders.other_clients import OtherClientsOrders
from bridge.orders.request import ChangeRequest, OcaRequest, OrderRequest
from bridge.orders.service import OrderService, Settlement
from bridge.orders.silence import HeartbeatView, SilenceWatch
from bridge.orders.submit import OrderSubmitter, TargetReached
from bridge.orders.target import TargetPlacer, TargetRequest
from bridge.orders.views import (
    DryRun,
    OrderDetail,
    OrderGroup,
    OrdersPage,
    OrderView,
    Preview,
    TargetOrder,
)
from bridge.store.executions import Query

routes = RouteTable("orders", gateway=True)

_KEY = {"idempotency_key": IDEMPOTENCY_KEY}
_PLACING = {
    200: "a dry run: nothing was sent",
    409: "the Idempotency-Key came with another body before, or a part of a group was not taken",
    422: "the contract is unknown or ambiguous, rules are broken, or the broker rejected the order",
    423: "trading is halted",
    503: "not connected: nothing was sent",
    504: "sent, no answer yet (order-pending), or its fate is unknown (order-fate-unknown)",
}
_CHANGING = {
    404: "no such order",
    409: "the order has ended, or the program that placed it is connected",
    422: "rules are broken, or the broker refused the change",
    503: "not connected: nothing was sent",
    504: "sent, no answer yet",
}


class PlaceParams(Params, frozen=True, kw_only=True):
    """Whether an order is only tried, and under which `Idempotency-Key` it is known."""

    dry_run: bool = False
    idempotency_key: str | None = None


class KeyParams(Params, frozen=True, kw_only=True):
    """Under which `Idempotency-Key` the request is known."""

    idempotency_key: str | None = None


class OrderParams(Params, frozen=True, kw_only=True):
    """Which order: its `orderId`, its number under this client id, or `perm-` and its permId."""

    id: str


class OrdersParams(Params, frozen=True, kw_only=True):
    """Which orders of the journal, and which page of them."""

    open: bool = False
    all: bool = False
    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


class ExecutionsParams(Params, frozen=True, kw_only=True):
    """Which executions: `since` <= time < `until`.

    Both are ISO 8601 (`2026-02-13T14:30:00Z`, or a day); without a zone UTC is meant.
    """

    since: str = ""
    until: str = ""
    symbol: str = ""
    account: str = ""
    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=2000)] = 500
    format: Literal["json", "csv"] | None = None
    accept: str = ""


class HaltBody(Body, frozen=True, kw_only=True):
    """Why, and which open orders to cancel.

    By default those that open or enlarge a position: protective orders that only close one stay.
    `keepOrders` cancels none, `everyClient` all that are open in the account, whoever placed them.
    `cancelOpenOrders`, of earlier releases, says the same about this bridge's own: true cancels all
    of them, false none. With `allowClosing` orders that only reduce a position pass while halted.
    """

    reason: Annotated[str, Meta(max_length=500)] = ""
    keep_orders: bool = False
    every_client: bool = False
    allow_closing: bool = False
    cancel_open_orders: bool | None = None


def _cancelling(body: HaltBody) -> Cancelling:
    keep = body.keep_orders or body.cancel_open_orders is False
    if body.keep_orders and (body.every_client or body.cancel_open_orders):
        raise InvalidRequestError(
            "keepOrders cancels nothing: leave everyClient and cancelOpenOrders out"
        )
    if body.every_client:
        return "all"
    if keep:
        return "none"
    return "own" if body.cancel_open_orders else "opening"


def _caller(call: Call[Any, Any]) -> Caller:
    return Caller(call.principal.key_id, call.request_id, call.principal.bounds)


@routes.post(
    "/order",
    params=PlaceParams,
    body=OrderRequest,
    headers=_KEY,
    recorded=("dryRun", "symbol", "action", "quantity", "orderType", "account"),
    answer=OrderView | DryRun,
    scope=Scope.TRADE,
    status=201,
    statuses=_PLACING,
)
async def place_order(call: Call[PlaceParams, OrderRequest]) -> Reply:
    """Places one order, or a bracket.

    Send an `Idempotency-Key` (a fresh UUID for each order). The same key and body again never send
    a second order: they get the first answer, or what has become of the order since. With
    `dryRun=true` everything is checked and nothing is written down or sent.
    """
    if call.params.dry_run:
        return Reply(await call.services[OrderService].dry_run(call.body, _caller(call)))
    submitter, key = call.services[OrderSubmitter], call.params.idempotency_key
    placed = await submitter.place(call.body, key, _caller(call))
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    if isinstance(placed.answer, OrderView):
        headers["Location"] = f"/order/{placed.answer.order_id}"
    return Reply(placed.answer, status=201, headers=headers)


@routes.post(
    "/orders/oca",
    params=PlaceParams,
    body=OcaRequest,
    headers=_KEY,
    recorded=("dryRun",),
    answer=OrderGroup,
    scope=Scope.TRADE,
    status=201,
    statuses=_PLACING,
)
async def place_group(call: Call[PlaceParams, OcaRequest]) -> Reply:
    """Places two to ten orders of which one fill ends the others.

    All of them are checked before any is sent; one Idempotency-Key holds for the whole group.
    """
    if call.params.dry_run:
        return Reply(await call.services[OrderService].dry_run(call.body, _caller(call)))
    submitter, key = call.services[OrderSubmitter], call.params.idempotency_key
    placed = await submitter.place_group(call.body, key, _caller(call))
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    return Reply(placed.answer, status=201, headers=headers)


_TARGET = _PLACING | {
    200: "the position has that size, or will have it with what works: nothing was sent",
    409: "orders that work are in the way, or the Idempotency-Key came with another body before",
}


@routes.post(
    "/order/target",
    params=KeyParams,
    body=TargetRequest,
    headers=_KEY,
    recorded=("symbol", "targetQuantity", "orderType", "account", "cancelOrders"),
    answer=TargetOrder | TargetReached,
    scope=Scope.TRADE,
    status=201,
    statuses=_TARGET,
)
async def place_target(call: Call[KeyParams, TargetRequest]) -> Reply:
    """Buys or sells what a position lacks of `targetQuantity`; 0 closes it.

    Orders that work in the contract count as filled, stops and the exits of brackets do not. What
    works is never traded against: then it is refused, or cancelled first with `cancelOrders`, which
    `cancelled` names. The same key and body again never send a second order.
    """
    key = call.params.idempotency_key
    placed = await call.services[TargetPlacer].place(call.body, key, _caller(call))
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    if isinstance(placed.answer, TargetReached):
        return Reply(placed.answer, status=200, headers=headers)
    return Reply(placed.answer, status=201, headers=headers)


@routes.post(
    "/positions/close",
    params=KeyParams,
    body=CloseRequest,
    headers=_KEY,
    recorded=("strategy", "symbol", "conId", "account", "all", "cancelOrders"),
    answer=ClosedPositions,
    scope=Scope.TRADE,
    statuses=_CHANGING
    | {
        404: "nothing is held of what is named",
        409: "the Idempotency-Key came with another body before",
    },
)
async def close_positions(call: Call[KeyParams, CloseRequest]) -> ClosedPositions:
    """Closes one position (`conId`), a `strategy`, those of a `symbol`, or `all`.

    Each with an order of its own, a strategy as the combination that it is. Each answers for
    itself: an order, or the problem that there was. The same key and body again close nothing
    twice. An order that only closes is exempt from the limits on size and price.
    """
    key = call.params.idempotency_key
    return await call.services[PositionCloser].close(call.body, key, _caller(call))


@routes.post(
    "/options/exercise",
    params=KeyParams,
    body=ExerciseRequest,
    headers=_KEY,
    recorded=("action", "symbol", "quantity", "account", "confirm", "override"),
    answer=OrderView,
    scope=Scope.TRADE,
    status=201,
    statuses=_PLACING,
)
async def exercise_option(call: Call[KeyParams, ExerciseRequest]) -> Reply:
    """Exercises options that are held, or lets them lapse.

    It is listed as an order of type `EXERCISE` or `LAPSE` until the broker carries it out, and can
    be cancelled until then. Without `confirm` nothing is sent.
    """
    key = call.params.idempotency_key
    placed = await call.services[OptionExerciser].place(call.body, key, _caller(call))
    headers = {"Idempotent-Replayed": "true"} if placed.replayed else {}
    return Reply(placed.answer, status=201, headers=headers)


@routes.post(
    "/order/preview",
    harmless=True,
    body=OrderRequest,
    answer=Preview,
    scope=Scope.TRADE,
    statuses={
        422: "the contract is unknown or ambiguous",
        423: "trading is halted",
        503: "not connected, or the journal cannot be written",
    },
)
async def preview_order(call: Call[None, OrderRequest]) -> Preview:
    """Margin, commission and broken rules of an order that is not placed."""
    return await call.services[OrderService].preview(call.body, _caller(call))


@routes.get(
    "/orders",
    params=OrdersParams,
    answer=OrdersPage,
    statuses={
        503: "not connected: the orders of others are not known (with `all`)",
        504: "the gateway did not list them in time (with `all`)",
    },
)
async def list_orders(call: Call[OrdersParams, None]) -> OrdersPage:
    """Open and recent orders, the newest first.

    With `all` the first page begins with what other clients and people in TWS have open: their
    `orderId` is `perm-` and the broker's permanent id, their `role` is `other`.
    """
    params = call.params
    return await call.services[OrderService].orders(
        only_open=params.open, cursor=params.cursor, limit=params.limit, everyone=params.all
    )


@routes.get("/order/{id}", params=OrderParams, answer=OrderDetail, statuses={404: "no such order"})
async def read_order(call: Call[OrderParams, None]) -> OrderDetail:
    """One order with every step of its life."""
    return await call.services[OrderService].order(call.params.id)


@routes.patch(
    "/order/{id}",
    params=OrderParams,
    body=ChangeRequest,
    answer=OrderView,
    scope=Scope.TRADE,
    statuses=_CHANGING | {423: "trading is halted"},
)
async def modify_order(call: Call[OrderParams, ChangeRequest]) -> OrderView:
    """Changes price, quantity or time in force of a working order."""
    return await call.services[OrderModifier].modify(call.params.id, call.body, _caller(call))


@routes.delete(
    "/order/{id}", params=OrderParams, answer=OrderView, scope=Scope.TRADE, statuses=_CHANGING
)
async def cancel_order(call: Call[OrderParams, None]) -> OrderView:
    """Cancels an order. Works while trading is halted, too.

    One of another client's (`perm-...`, scope admin) is cancelled under the client id that placed
    it, and not while that program is connected.
    """
    perm_id = perm_id_of(call.params.id)
    if perm_id is not None and not await call.services[OrderJournal].knows(call.params.id):
        if call.principal.scope < Scope.ADMIN:
            raise ForbiddenError("orders of other clients are cancelled with a key of scope admin")
        return await call.services[OtherClientsOrders].cancel(perm_id, _caller(call))
    return await call.services[OrderCanceller].cancel(call.params.id, _caller(call))


@routes.post(
    "/order/{id}/settle",
    params=OrderParams,
    body=Settlement,
    answer=OrderView,
    scope=Scope.ADMIN,
    statuses={404: "no such order", 409: "its fate is known"},
)
async def settle_order(call: Call[OrderParams, Settlement]) -> OrderView:
    """Takes a person's word for an order whose fate is unknown.

    Look in TWS or the Client Portal first. Nothing is sent to the broker.
    """
    return await call.services[OrderService].settle(call.params.id, call.body, _caller(call))


@routes.get(
    "/executions",
    params=ExecutionsParams,
    headers={"accept": "Accept"},
    answer=ExecutionsPage,
    media_types=("application/json", "text/csv"),
)
async def list_executions(call: Call[ExecutionsParams, None]) -> ExecutionsPage | Response:
    """Every fill with its commission, once, oldest first; from the journal, beyond the day too.

    Upsert by `execId`. CSV with `format=csv` or `Accept: text/csv`; the next page's cursor is in
    the header `X-Next-Cursor` then.
    """
    params = call.params
    query = Query(
        since=_moment("since", params.since),
        until=_moment("until", params.until),
        symbol=params.symbol.strip().upper(),
        account=params.account.strip(),
    )
    page = await call.services[ExecutionService].page(query, params.cursor, params.limit)
    if params.format != "csv" and not (params.format is None and _wants_csv(params.accept)):
        return page
    headers = {"X-Changes-Cursor": page.changes_cursor}
    if page.next_cursor is not None:
        headers["X-Next-Cursor"] = page.next_cursor
    return Response(as_csv(page.executions), media_type="text/csv", headers=headers)


@routes.post(
    "/executions/import",
    answer=ImportView,
    scope=Scope.TRADE,
    statuses={404: "no Flex query is configured", 429: "the last import began minutes ago"},
)
async def import_executions(call: Call[None, None]) -> Reply:
    """Asks the Flex Web Service for executions of earlier days; the import goes on by itself.

    Executions that are known change nothing; those of an order of unknown fate settle it.
    """
    return Reply(call.services[FlexImport].ask(), 202)


@routes.get("/executions/import", answer=ImportView)
async def last_import(call: Call[None, None]) -> ImportView:
    """How the last import of executions went, or that one is under way."""
    return call.services[FlexImport].last


def _moment(field: str, text: str) -> datetime | None:
    if not text:
        return None
    try:
        # A plus sign that was not escaped in the address arrives as a space.
        moment = datetime.fromisoformat(re.sub(r" (\d\d:?\d\d)$", r"+\1", text.strip()))
    except ValueError:
        raise InvalidRequestError(
            f"{field}: {text[:40]!r} is no time in ISO 8601",
            extra={"errors": [{"field": field, "message": "is no time", "code": "invalid"}]},
        ) from None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment


def _wants_csv(accept: str) -> bool:
    first = accept.split(",", 1)[0].split(";", 1)[0]
    return first.strip().lower() == "text/csv"


_SILENCE = {409: "heartbeats are switched off (trading.cancel_when_silent)"}


@routes.post("/trading/heartbeat", answer=HeartbeatView, scope=Scope.TRADE, statuses=_SILENCE)
async def heartbeat(call: Call[None, None]) -> HeartbeatView:
    """A client's sign of life; the first one arms `trading.cancel_when_silent` for its key.

    When the next does not come in time, the open orders that open or enlarge a position are
    cancelled, as a halt does; trading goes on.
    """
    return await call.services[SilenceWatch].beat(call.principal.key_id)


@routes.delete("/trading/heartbeat", answer=HeartbeatView, scope=Scope.TRADE)
async def leave(call: Call[None, None]) -> HeartbeatView:
    """The client leaves on purpose: its key is not watched any more, and nothing is cancelled."""
    return await call.services[SilenceWatch].leave(call.principal.key_id)


@routes.get("/trading/halt", answer=HaltView)
async def read_halt(call: Call[None, None]) -> HaltView:
    """Whether trading is halted, since when and why."""
    return call.services[TradingHalt].view()


@routes.post("/trading/halt", body=HaltBody, answer=HaltView, scope=Scope.TRADE)
async def halt_trading(call: Call[None, HaltBody]) -> HaltView:
    """The kill switch: from here on no order and no change is sent, after a restart neither.

    It cancels what opens or enlarges a position (`keepOrders`: nothing, `everyClient`: everything).
    Cancels that cannot be sent now are sent when the gateway is back. It works whatever the
    journal's state: `journaled` and `survivesRestart` say what is written down.
    """
    body, bounds, cancelling = call.body, call.principal.bounds, _cancelling(call.body)
    if cancelling in {"own", "all"} and (bounds.accounts or bounds.symbols):
        raise KeyBoundError("a bound key does not cancel what protects other positions")
    return await call.services[TradingHalt].halt(
        body.reason, cancelling, _caller(call), allow_closing=body.allow_closing
    )


@routes.delete(
    "/trading/halt",
    answer=HaltView,
    scope=Scope.ADMIN,
    statuses={409: "the journal is not accepted: trading stays halted"},
)
async def resume_trading(call: Call[None, None]) -> HaltView:
    """Lets orders through again."""
    return await call.services[TradingHalt].resume(_caller(call))

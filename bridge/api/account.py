"""Routes: positions, account, profit and loss."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, structs

from bridge.account.service import AccountService
from bridge.account.views import Accounts, Positions, ProfitAndLoss, strategy_views
from bridge.api.market import ConId
from bridge.api.routing import Call, Params, RouteTable
from bridge.rules.opening_history import OpeningHistory

routes = RouteTable("account", gateway=True)

AccountText = Annotated[
    str, Meta(min_length=1, max_length=24, pattern=r"^[A-Za-z0-9]+$", examples=["DU1234567"])
]


class AccountParams(Params, frozen=True):
    """One account, or all of the session."""

    account: AccountText | None = None


class PnLParams(AccountParams, frozen=True):
    """Of the whole account, or of one position."""

    con_id: ConId = 0


class PositionsParams(AccountParams, frozen=True):
    """Of one account or all; grouped, with sums."""

    group: Literal["underlying", "strategy"] | None = None


@routes.get("/positions", params=PositionsParams, answer=Positions)
async def positions(call: Call[PositionsParams, None]) -> Positions:
    """What is held, what it is worth and what it has brought.

    The broker tells of every change, and is asked anew while somebody reads; `age` says how long
    ago it confirmed the list. Without a session 503, never what was held before. Grouped by
    strategy, what one order of several legs has opened stays together.
    """
    service, params = call.services[AccountService], call.params
    found = await service.positions(
        params.account, grouped=params.group == "underlying", holder=call.holder
    )
    if params.group != "strategy":
        return found
    held = await call.services[OpeningHistory].holdings(service.held(), ask=False)
    return structs.replace(found, strategies=strategy_views(held, found.positions))


@routes.get("/account", params=AccountParams, answer=Accounts)
async def account(call: Call[AccountParams, None]) -> Accounts:
    """What the accounts are worth.

    The usual numbers by name, cash by currency, and everything the broker sent as its text; `age`
    says how long ago that was.
    """
    return await call.services[AccountService].accounts(call.params.account)


@routes.get("/pnl", params=PnLParams, answer=ProfitAndLoss)
async def pnl(call: Call[PnLParams, None]) -> ProfitAndLoss:
    """Profit and loss of the day, unrealized and realized.

    The broker sends it about once a second; `age` says how old it is.
    """
    return await call.services[AccountService].pnl(call.params.account, call.params.con_id)

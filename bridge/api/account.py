"""Routes: positions, account, profit and loss."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bridge.account.service import AccountService
from bridge.account.views import Accounts, Positions, ProfitAndLoss
from bridge.api.instruments import ConId
from bridge.api.routing import Call, Params, RouteTable

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


@routes.get("/positions", params=AccountParams, answer=Positions)
async def positions(call: Call[AccountParams, None]) -> Positions:
    """What is held.

    Read from the broker at each request; without a session 503, never what was held before.
    """
    return await call.services[AccountService].positions(call.params.account)


@routes.get("/account", params=AccountParams, answer=Accounts)
async def account(call: Call[AccountParams, None]) -> Accounts:
    """What the accounts are worth.

    The usual numbers by name, and everything the broker sent as its text.
    """
    return await call.services[AccountService].accounts(call.params.account)


@routes.get("/pnl", params=PnLParams, answer=ProfitAndLoss)
async def pnl(call: Call[PnLParams, None]) -> ProfitAndLoss:
    """Profit and loss of the day, unrealized and realized.

    The broker sends it about once a second; `age` says how old it is.
    """
    return await call.services[AccountService].pnl(call.params.account, call.params.con_id)

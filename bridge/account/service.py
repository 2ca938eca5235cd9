"""Positions, account summary, profit and loss.

The gateway shares what is asked for at the same moment among those who ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from bridge.account.views import (
    Accounts,
    AccountView,
    Amount,
    PnLView,
    Positions,
    PositionView,
    ProfitAndLoss,
)
from bridge.clock import Clock
from bridge.errors import BridgeError, InvalidRequestError, Kind
from bridge.model import AccountValue, PnL, Position
from bridge.tws.connection_state import ConnectionState
from bridge.tws.gateway import Gateway, Subscription


class UnknownAccountError(InvalidRequestError):
    """The session does not manage this account."""

    code = "unknown-account"
    next_step = "Take one of the accounts that GET /account lists"

    def __init__(self, account: str, known: tuple[str, ...]) -> None:
        message = f"{account} is none of this session's {len(known)} accounts"
        super().__init__(
            message,
            extra={"errors": [{"field": "account", "message": message, "code": "unknown-account"}]},
        )


class NoPnLError(BridgeError):
    """The subscription is open, and nothing came."""

    code = "no-pnl"
    kind = Kind.TIMEOUT
    next_step = "Retry; the broker sends profit and loss about once a second"


PNL_SECONDS = 6.0
PNL_LINGER_SECONDS = 120.0
MOST_PNL = 64

_NAMED = {
    "net_liquidation": "NetLiquidation",
    "total_cash": "TotalCashValue",
    "settled_cash": "SettledCash",
    "buying_power": "BuyingPower",
    "available_funds": "AvailableFunds",
    "excess_liquidity": "ExcessLiquidity",
    "equity_with_loan": "EquityWithLoanValue",
    "gross_position_value": "GrossPositionValue",
    "initial_margin": "InitMarginReq",
    "maintenance_margin": "MaintMarginReq",
    "cushion": "Cushion",
}


class AccountService:
    """Reads what an account holds and is worth."""

    def __init__(self, gateway: Gateway, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._pnl: dict[tuple[str, int], _PnLLine] = {}
        gateway.events.state.listen(self._state_changed)

    async def positions(self, account: str | None = None) -> Positions:
        """What is held, in every account or in one.

        Raises:
            NotConnectedError: there is no session; what was held before it broke is not shown.
            UnknownAccountError: the account is not of this session.
        """
        self._gateway.require_ready()
        self._known(account)
        held = await self._gateway.queries.positions()
        views = (_position(item) for item in held if account in {None, item.account})
        ordered = sorted(views, key=lambda item: (item.account, item.symbol, item.con_id))
        return Positions(positions=tuple(ordered), at=self._clock.now())

    async def accounts(self, account: str | None = None) -> Accounts:
        """What the accounts are worth. Raises as `positions`."""
        self._gateway.require_ready()
        self._known(account)
        values = await self._gateway.queries.account_summary()
        by_account: dict[str, list[AccountValue]] = {}
        for value in values:
            if account in {None, value.account}:
                by_account.setdefault(value.account, []).append(value)
        views = tuple(_account(name, by_account[name]) for name in sorted(by_account))
        return Accounts(accounts=views, at=self._clock.now())

    async def pnl(self, account: str | None = None, con_id: int = 0) -> ProfitAndLoss:
        """Profit and loss of one account or of all, or of one position in them.

        Raises:
            NotConnectedError, UnknownAccountError: as `positions`.
            NoPnLError: the broker sent nothing in time.
        """
        self._gateway.require_ready()
        self._known(account)
        self._give_back_idle()
        names = (account,) if account is not None else self._gateway.accounts
        lines = [self._line(name, con_id) for name in names]
        await asyncio.gather(*(line.wait(PNL_SECONDS) for line in lines))
        views = tuple(view for line in lines if (view := line.view()) is not None)
        if not views:
            self._gateway.require_ready()
            raise NoPnLError("no profit and loss came in time")
        return ProfitAndLoss(pnl=views, at=self._clock.now())

    async def stop(self) -> None:
        """Gives every subscription back."""
        for line in self._pnl.values():
            line.cancel()
        self._pnl.clear()

    def _known(self, account: str | None) -> None:
        if account is not None and account not in self._gateway.accounts:
            raise UnknownAccountError(account, self._gateway.accounts)

    def _line(self, account: str, con_id: int) -> _PnLLine:
        key = (account, con_id)
        line = self._pnl.get(key)
        if line is None:
            line = self._pnl[key] = _PnLLine(self._gateway, account, con_id, self._clock)
        line.used_at = self._clock.monotonic()
        return line

    def _give_back_idle(self) -> None:
        limit = self._clock.monotonic() - PNL_LINGER_SECONDS
        idle = [key for key, line in self._pnl.items() if line.used_at <= limit]
        if len(self._pnl) - len(idle) >= MOST_PNL:
            idle.append(min(self._pnl, key=lambda key: self._pnl[key].used_at))
        for key in idle:
            self._pnl.pop(key).cancel()

    def _state_changed(self, _old: ConnectionState, _new: ConnectionState) -> None:
        try:
            self._gateway.require_ready()
        except BridgeError:
            for line in self._pnl.values():
                line.interrupted()


class _PnLLine:
    """One subscription and the last it said."""

    def __init__(self, gateway: Gateway, account: str, con_id: int, clock: Clock) -> None:
        self.account = account
        self.con_id = con_id
        self.used_at = clock.monotonic()
        self._clock = clock
        self._last: PnL | None = None
        self._at = 0.0
        self._fresh = asyncio.Event()
        self._subscription: Subscription = gateway.subscribe_pnl(account, self._came, con_id=con_id)

    def _came(self, pnl: PnL) -> None:
        self._last = pnl
        self._at = self._clock.monotonic()
        self._fresh.set()

    def interrupted(self) -> None:
        self._fresh.clear()

    def cancel(self) -> None:
        self._subscription.cancel()

    async def wait(self, timeout: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._fresh.wait(), timeout)

    def view(self) -> PnLView | None:
        last = self._last
        if last is None:
            return None
        return PnLView(
            account=self.account,
            daily=last.daily,
            unrealized=last.unrealized,
            realized=last.realized,
            tag="live" if self._fresh.is_set() else "stale",
            age=round(self._clock.monotonic() - self._at, 3),
            con_id=self.con_id or None,
            position=last.position,
            value=last.value,
        )


def _position(item: Position) -> PositionView:
    contract = item.contract
    return PositionView(
        account=item.account,
        con_id=contract.con_id,
        symbol=contract.symbol,
        local_symbol=contract.local_symbol,
        trading_class=contract.trading_class,
        sec_type=contract.sec_type,
        exchange=contract.exchange,
        currency=contract.currency,
        quantity=item.quantity,
        average_cost=item.average_cost,
        cost_basis=None if item.average_cost is None else item.quantity * item.average_cost,
        expiration=contract.expiration or None,
        strike=contract.strike,
        right=contract.right,
        multiplier=contract.multiplier or None,
    )


def _account(name: str, values: Iterable[AccountValue]) -> AccountView:
    values = tuple(values)
    texts = {value.tag: value for value in values}
    base = texts.get("NetLiquidation")
    numbers = {field: _number(texts.get(tag)) for field, tag in _NAMED.items()}
    kind = texts.get("AccountType")
    return AccountView(
        account=name,
        account_type=kind.value if kind is not None else "",
        currency=base.currency if base is not None else "",
        values=tuple(
            Amount(tag=value.tag, value=value.value, currency=value.currency) for value in values
        ),
        **numbers,
    )


def _number(value: AccountValue | None) -> float | None:
    """The broker's text as a number; None for an empty or a worded value."""
    if value is None:
        return None
    try:
        return float(value.value)
    except ValueError:
        return None

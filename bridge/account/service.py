"""Positions, account values, profit and loss, from what the broker keeps telling."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from msgspec import structs

from bridge.account.books import PositionBook, Unconfirmed, ValuesBook
from bridge.account.greeks import OPTIONS, PositionGreeks
from bridge.account.held_before import HeldBefore, HeldJournal, Name
from bridge.account.views import (
    Accounts,
    AccountView,
    PnLView,
    Positions,
    PositionView,
    ProfitAndLoss,
    account_view,
    grouped_views,
    position_results,
)
from bridge.broker_time import days_left, exchange_zone
from bridge.callers import BRIDGE, Holder
from bridge.clock import Clock
from bridge.errors import BridgeError, InvalidRequestError, Kind
from bridge.market.contracts import ContractService
from bridge.market.quotes import QuoteService
from bridge.model import AccountValue, Contract, PnL, Position
from bridge.services import Services
from bridge.store import Database
from bridge.tws.connection_state import ConnectionState
from bridge.tws.gateway import LEDGER_TAGS, SUMMARY_TAGS, Gateway, Subscription


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
FIRST_PNL_SECONDS = 0.3
"""For the results of positions that nobody has looked at for a while; without them after that."""
MOST_FOLLOWED = 100
"""Positions whose results are followed: each is one message a second."""
PNL_LINGER_SECONDS = 120.0
MOST_PNL = 164
PNL_AGAIN_SECONDS = 30.0
"""A subscription that was refused is tried again so much later, when somebody asks."""


class AccountService:
    """Reads what the accounts hold and are worth."""

    def __init__(
        self,
        gateway: Gateway,
        clock: Clock,
        greeks: PositionGreeks | None = None,
        held: HeldJournal | None = None,
    ) -> None:
        self._greeks = greeks
        self._held = held
        self.positions_changed = self.values_changed = 0
        self._worth: tuple[AccountView, ...] | None = None  # until a value changes
        self._gateway = gateway
        self._clock = clock
        self._pnl: dict[Name, _PnLLine] = {}
        keep = None if held is None else held.keep
        self._book = PositionBook(gateway, clock, self._positions_have_changed, keep)
        self._values = ValuesBook(gateway, clock, SUMMARY_TAGS, self._values_have_changed)
        self._ledger = ValuesBook(gateway, clock, LEDGER_TAGS, self._values_have_changed)
        gateway.events.state.listen(self._state_changed)

    async def start(self) -> None:
        """Takes over what earlier processes knew to be held; before the gateway is dialled."""
        if self._held is not None:
            self._book.expect(await self._held.load())

    async def begin(self) -> None:
        """After a (re)connect: follows positions and values from then on."""
        self._values.follow()
        self._ledger.follow()
        await self._book.begin()

    async def positions(
        self, account: str | None = None, *, grouped: bool = False, holder: Holder = BRIDGE
    ) -> Positions:
        """What is held, in every account or in one; `grouped` by underlying, too.

        Greeks that nobody has looked at yet are asked for in the share of `holder`.

        Raises:
            NotConnectedError: there is no session; what was held before it broke is not shown.
            UnknownAccountError: the account is not of this session.
        """
        self._gateway.require_ready()
        self._known(account)
        await self._book.current()
        self._gateway.require_ready()
        if self._greeks is not None:
            self._greeks.want((each.contract for each in self._book.held.values()), holder)
        if new := self._follow_results():
            await asyncio.gather(*(line.wait(FIRST_PNL_SECONDS) for line in new))
        return self.positions_now(account, grouped=grouped)

    def positions_now(self, account: str | None = None, *, grouped: bool = False) -> Positions:
        """The same from what is there."""
        self._follow_results()
        bases = {
            each.account: each.currency
            for each in self._values.values.values()
            if each.tag == "NetLiquidation"
        }
        views = sorted(
            (
                self._position(item, bases.get(item.account))
                for item in self._book.held.values()
                if _of(account, item)
            ),
            key=lambda item: (item.account, item.symbol, item.con_id),
        )
        return Positions(
            positions=tuple(views),
            at=self._clock.now(),
            age=round(self._book.age(), 3),
            unconfirmed=tuple(each for each in self._book.unconfirmed if _of(account, each)),
            groups=grouped_views(views) if grouped else None,
        )

    def held(self) -> tuple[Position, ...]:
        """The broker's positions in every account, as far as they are known."""
        return tuple(self._book.held.values())

    def late(self) -> tuple[HeldBefore, ...]:
        """What was held before a login, and may only not be listed again yet."""
        return self._book.late()

    async def accounts(self, account: str | None = None) -> Accounts:
        """What the accounts are worth. Raises as `positions`."""
        self._gateway.require_ready()
        self._known(account)
        await asyncio.gather(self._values.current(), self._ledger.current())
        return self.accounts_now(account)

    def accounts_now(self, account: str | None = None) -> Accounts:
        """The same from what is there."""
        if self._worth is None:
            self._worth = self._accounts()
        return Accounts(
            accounts=tuple(
                structs.replace(each, confirmed=self._is_confirmed(each.account))
                for each in self._worth
                if _of(account, each)
            ),
            at=self._clock.now(),
            age=round(max(self._values.age(), self._ledger.age()), 3),
        )

    def exchange_rate(self, account: str, currency: str) -> tuple[str, float | None] | None:
        """The account's base currency, and what one unit of `currency` is worth in it.

        The rate is None where the account's ledger has none: it lists what the account holds.
        Without account values there is no answer.
        """
        view = next(iter(self.accounts_now(account).accounts), None)
        if view is None or not view.currency:
            return None
        if view.currency == currency:
            return view.currency, 1.0
        rates = (each.exchange_rate for each in view.cash if each.currency == currency)
        return view.currency, next((rate for rate in rates if rate), None)

    def is_confirmed(self, name: Name) -> bool:
        """Whether the broker has sent this position since its last fill, or since its login."""
        return self._book.is_confirmed(name)

    def _is_confirmed(self, account: str) -> bool:
        """Whether the values were asked for after the last fill of this account."""
        filled = self._book.filled_at.get(account)
        return filled is None or filled < min(self._values.asked_at, self._ledger.asked_at)

    @property
    def unconfirmed_accounts(self) -> frozenset[str]:
        """Those whose values are of before their last fill."""
        return frozenset(name for name in self._book.filled_at if not self._is_confirmed(name))

    def _accounts(self) -> tuple[AccountView, ...]:
        values: dict[str, list[AccountValue]] = {}
        for value in self._values.values.values():
            values.setdefault(value.account, []).append(value)
        ledger: dict[str, dict[str, dict[str, AccountValue]]] = {}
        for value in self._ledger.values.values():
            ledger.setdefault(value.account, {}).setdefault(value.currency, {})[value.tag] = value
        return tuple(
            account_view(name, values[name], ledger.get(name, {})) for name in sorted(values)
        )

    @property
    def complete(self) -> tuple[bool, bool]:
        """Whether positions, and whether account values, are there to be shown."""
        return self._book.complete, self._values.complete and self._ledger.complete

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
        told = {view.account for view in views}
        missing = tuple(
            name
            for name in names
            if name not in told and (not con_id or (name, con_id) in self._book.held)
        )
        return ProfitAndLoss(pnl=views, at=self._clock.now(), missing=missing)

    async def stop(self) -> None:
        """Gives every subscription back."""
        if self._greeks is not None:
            await self._greeks.stop()
        await self._book.stop()
        if self._held is not None:
            await self._held.stop()
        self._values.stop()
        self._ledger.stop()
        for line in self._pnl.values():
            line.cancel()
        self._pnl.clear()

    def _known(self, account: str | None) -> None:
        if account is not None and account not in self._gateway.accounts:
            raise UnknownAccountError(account, self._gateway.accounts)

    def _line(self, account: str, con_id: int) -> _PnLLine:
        name = (account, con_id)
        line = self._pnl.get(name)
        if line is None or line.is_over(self._clock.monotonic() - PNL_AGAIN_SECONDS):
            came = self._positions_have_changed
            line = self._pnl[name] = _PnLLine(self._gateway, account, con_id, self._clock, came)
        line.used_at = self._clock.monotonic()
        return line

    def _follow_results(self) -> list[_PnLLine]:
        """Subscribes the results of what is held, as many as there may be; the new ones."""
        self._give_back_idle()
        held = list(self._book.held)[:MOST_FOLLOWED]
        new = [name for name in held if name not in self._pnl]
        lines = {name: self._line(*name) for name in held}
        return [lines[name] for name in new]

    def _positions_have_changed(self) -> None:
        self.positions_changed += 1

    def _values_have_changed(self) -> None:
        self.values_changed += 1
        self._worth = None

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
            self._book.interrupted()
            for line in self._pnl.values():
                line.interrupted()

    def _position(self, item: Position, base_currency: str | None) -> PositionView:
        contract = item.contract
        line = self._pnl.get((item.account, contract.con_id))
        result = None if line is None else line.view()
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
            dte=self._days_left(contract),
            confirmed=self._book.is_confirmed((item.account, contract.con_id)),
            base_currency=base_currency,
            **position_results(item, result),
            **self._greeks_of(contract),
        )

    def _greeks_of(self, contract: Contract) -> dict[str, Any]:
        if self._greeks is None or contract.sec_type not in OPTIONS:
            return {}
        return self._greeks.of(contract.con_id)

    def _days_left(self, contract: Contract) -> int | None:
        return days_left(contract.expiration, exchange_zone("", contract), self._clock.now())


class _PnLLine:
    """One subscription and the last it said."""

    def __init__(
        self,
        gateway: Gateway,
        account: str,
        con_id: int,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self.account = account
        self.con_id = con_id
        self.used_at = self._begun_at = clock.monotonic()
        self._clock = clock
        self._changed = changed
        self._last: PnL | None = None
        self._at = 0.0
        self._fresh = asyncio.Event()
        self._subscription: Subscription = gateway.subscribe_pnl(account, self._came, con_id=con_id)

    def _came(self, pnl: PnL) -> None:
        if pnl != self._last:
            self._changed()
        self._last = pnl
        self._at = self._clock.monotonic()
        self._fresh.set()

    def interrupted(self) -> None:
        self._fresh.clear()

    def is_over(self, before: float) -> bool:
        """Whether the broker has refused it, and it was asked for before that moment."""
        return not self._subscription.active and self._begun_at <= before

    def cancel(self) -> None:
        self._subscription.cancel()

    async def wait(self, timeout: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._fresh.wait()

    def view(self) -> PnLView | None:
        last = self._last
        if last is None:
            return None
        return PnLView(
            account=self.account,
            daily=last.daily,
            unrealized=last.unrealized,
            realized=last.realized,
            tag="live" if self._fresh.is_set() and self._subscription.active else "stale",
            age=round(self._clock.monotonic() - self._at, 3),
            con_id=self.con_id or None,
            position=last.position,
            value=last.value,
        )


def _of(account: str | None, item: Position | AccountView | Unconfirmed) -> bool:
    return account in {None, item.account}


def install(services: Services) -> None:
    """Needs the contracts and the quotes. Provides positions, account values, profit and loss."""
    greeks = PositionGreeks(services[QuoteService], services[ContractService], services.clock)
    database, clock = services.get(Database), services.clock
    held = None if database is None else HeldJournal(database, clock)
    account = services.provide(
        AccountService, AccountService(services.gateway, clock, greeks, held)
    )
    services.on_start(account.start)
    services.gateway.add_reconciler("account", account.begin)
    services.on_stop(account.stop)

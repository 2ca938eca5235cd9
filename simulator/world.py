"""What every part of the simulator shares: clock, faults, contracts, market, trading, clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from simulator.clock import Clock
from simulator.contracts.catalog import Catalog
from simulator.faults import Faults
from simulator.market.market import Market
from simulator.rewriting import Rewriting
from simulator.tws.pacing import HistoryPacing
from simulator.tws.trading import Trading

if TYPE_CHECKING:
    from simulator.options import Options
    from simulator.state import StateFile
    from simulator.tws.session import Session

DEPARTED, DEPARTED_MESSAGES = 30, 100


class World:
    """One simulated broker. Everything in it happens on one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock(options.start)
        self.faults = Faults(self.clock)
        self.rewriting = Rewriting(self)
        self.catalog = Catalog()
        self.market = Market(self.catalog, options.seed, options.hours)
        self.pacing = HistoryPacing()
        self.sessions: list[Session] = []
        """Clients that are ready, in the order in which they came."""
        self.state: StateFile | None = None
        """What keeps accounts and orders between two runs; None: nothing does."""
        self._changed = False
        self.trading = Trading(self, self.market, self.catalog)
        self.history: list[dict[str, Any]] = []
        """What clients that have left had sent, at most of the last `DEPARTED` clients."""

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of this login, as in managedAccounts."""
        return self.options.accounts

    def session_ready(self, session: Session) -> None:
        """Take a client in, and give it what it has open."""
        self.sessions.append(session)
        self.trading.session_ready(session)

    def session_closed(self, session: Session) -> None:
        """Let a client go; its orders stay."""
        self.history = [*self.history[1 - DEPARTED :], session.record(DEPARTED_MESSAGES)]
        if session in self.sessions:
            self.sessions.remove(session)
            self.trading.session_closed(session)

    def changed(self) -> None:
        """Something happened that a later run has to know: keep it before anybody hears of it."""
        if self.state is not None and not self._changed:
            self._changed = True
            asyncio.get_running_loop().call_soon(self.keep)

    def keep(self) -> None:
        """Write what changed since the last time, if anything did."""
        if self.state is not None and self._changed:
            self._changed = False
            self.state.write()

    def book(self) -> dict[str, Any]:
        """The simulator's own record, as `GET /book` gives it."""
        return {
            "time": self.clock.now().isoformat(),
            "seed": self.options.seed,
            "accounts": list(self.accounts),
            "clients": [session.record() for session in self.sessions],
            "departed": self.history,
            **self.trading.book(),
        }

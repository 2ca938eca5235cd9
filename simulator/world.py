"""What every part of the simulator shares: clock, faults, contracts, market, trading, clients."""

from __future__ import annotations

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
    from simulator.tws.client import Client

DEPARTED, DEPARTED_MESSAGES = 30, 100


class World:
    """One simulated broker. Everything in it happens on one event loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock(options.start)
        self.faults = Faults(self.clock)
        self.catalog = Catalog()
        self.market = Market(self.catalog, options.seed, options.hours)
        self.pacing = HistoryPacing()
        self.sessions: list[Client] = []
        """Clients that are ready, in the order in which they came."""
        self.rewriting = Rewriting(self.clock, self.sessions)
        self.trading = Trading(options, self.clock, self.faults, self.market, self.sessions)
        self.history: list[dict[str, Any]] = []
        """What clients that have left had sent, at most of the last `DEPARTED` clients."""
        self.faults.on_start(
            "wire-rewrite", lambda fault: self.rewriting.start(fault.parameters["rules"])
        )
        self.faults.on_end("wire-rewrite", lambda _: self.rewriting.end())

    @property
    def accounts(self) -> tuple[str, ...]:
        """The accounts of this login, as in managedAccounts."""
        return self.options.accounts

    def session_ready(self, session: Client) -> None:
        """Take a client in, and give it what it has open."""
        self.sessions.append(session)
        self.trading.session_ready(session)

    def session_closed(self, session: Client) -> None:
        """Let a client go; its orders stay."""
        self.history = [*self.history[1 - DEPARTED :], session.record(DEPARTED_MESSAGES)]
        if session in self.sessions:
            self.sessions.remove(session)
            self.trading.session_closed(session)

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

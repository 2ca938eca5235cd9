"""A simulator whose market a test sets by hand, and a client library connected to it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from simulator.app import Simulator
from simulator.contracts.catalog import Catalog
from simulator.contracts.contract import Contract
from simulator.options import Options
from simulator.tws.trading import Trading
from tests.simulator.trading.broker import (
    APPLE,
    EURO,
    FUTURE,
    INDEX,
    OPTION,
    HandMarket,
    eastern,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from simulator.contracts.contract import Query

MONDAY_TEN = eastern("2026-11-23 10:00")


class HandCatalog(Catalog):
    """The handful of contracts that the tests know."""

    def resolve(self, query: Query, at: float) -> Contract:
        for listing in (APPLE, FUTURE, OPTION, INDEX, EURO):
            same = (listing.symbol, listing.sec_type) == (query.symbol, query.sec_type)
            if query.con_id == listing.con_id or same:
                return listing
        raise LookupError("No security definition has been found for the request")


@asynccontextmanager
async def simulated(**options: object) -> AsyncIterator[tuple[Simulator, HandMarket]]:
    settings = {"port": 0, "portal_port": 0, "control_port": 0, "start": MONDAY_TEN} | options
    simulator = Simulator(Options(**settings))  # type: ignore[arg-type]
    market = HandMarket()
    world = simulator.world
    world.catalog = HandCatalog()
    world.trading = Trading(world.options, world.clock, world.faults, market, world.sessions)
    async with simulator:
        yield simulator, market

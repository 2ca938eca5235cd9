"""How what is held was opened, by the journal's executions; so which positions belong together."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable

from msgspec import Struct, structs

from bridge.model import Execution, Position
from bridge.orders.journal import OrderJournal
from bridge.rules.holdings import (
    Fill,
    Holding,
    Opened,
    Opening,
    holdings,
    opened_by,
    opened_together,
)
from bridge.rules.model import RuleSet
from bridge.store import Database, executions
from bridge.tws.gateway import Gateway


class _Past(Struct, frozen=True):
    """As far as the journal has it; `change` is how far that was read."""

    held: frozenset[tuple[str, int, float]]
    """The positions that it is about."""
    asked_for: frozenset[tuple[str, int, float]]
    """Those for which the day's executions were asked for."""
    change: int
    openings: list[Opening]
    opened: Opened


class OpeningHistory:
    """Tells positions as holdings: for the rules, for `/positions`, and for closing them.

    `rules` gives the present rules, which may name combinations leg by leg.
    """

    def __init__(self, database: Database, gateway: Gateway, journal: OrderJournal) -> None:
        self.rules: Callable[[], RuleSet] = RuleSet
        self._database = database
        self._gateway = gateway
        self._journal = journal
        self._known: _Past | None = None

    async def holdings(
        self, positions: Iterable[Position], rules: RuleSet | None = None, *, ask: bool = True
    ) -> list[Holding]:
        """Positions as holdings, combinations first; by the present rules if none are given.

        Without `ask` from what the journal has alone: orders of others may be missing for a moment.

        Raises:
            TwsError: positions have changed, and the broker does not say by which executions.
        """
        held = [each for each in positions if each.quantity]
        past = await self._past_of(held, ask=ask)
        named = self.rules() if rules is None else rules
        opened = past.opened
        return holdings(
            held, named, past.openings, opened.labels, opened.since, begun=opened.certain
        )

    async def _past_of(self, positions: list[Position], *, ask: bool) -> _Past:
        """Where positions have changed, the day's executions are asked for, whoever traded.

        Else a leg of what was just opened as one could be taken for a position of its own.
        """
        held = frozenset((each.account, each.contract.con_id, each.quantity) for each in positions)
        if ask and (self._known is None or self._known.asked_for != held):
            await self._gateway.queries.executions()
            await self._journal.flush()
        asked_for = held if ask else self._known.asked_for if self._known else frozenset()
        known = self._known
        read_before = known.change if known is not None and known.held == held else None
        numbers = sorted({con_id for _, con_id, _ in held})
        change, fills = await self._database.read(
            lambda connection: _fills(connection, numbers, read_before)
        )
        if known is not None and fills is None:
            past = structs.replace(known, asked_for=asked_for)
        else:
            opened = opened_by(fills or [], positions)
            past = _Past(held, asked_for, change, opened_together(fills or [], positions), opened)
        self._known = past
        return past


def _fills(
    connection: sqlite3.Connection, con_ids: list[int], known: int | None
) -> tuple[int, list[Fill] | None]:
    """How far the journal's executions go, and the fills in these contracts; None: as before."""
    change = executions.newest_change(connection)
    if change == known:
        return change, None
    return change, [
        Fill(
            account=each.account,
            order=_order_of(each),
            con_id=each.contract.con_id,
            quantity=each.quantity if each.side == "BOT" else -each.quantity,
            at=each.time,
            labels=frozenset({label, each.order_ref} - {""}),
            price=each.price,
        )
        for each, label in executions.of_contracts(connection, con_ids)
    ]


def _order_of(execution: Execution) -> str:
    """A name of its order. What has none, as a booking or a statement without orders, is alone."""
    if execution.perm_id:
        return str(execution.perm_id)
    if execution.order_id:
        return f"{execution.client_id}/{execution.order_id}"
    return execution.exec_id

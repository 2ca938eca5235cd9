"""What the parts of the order room that place, send and change orders work with."""

from __future__ import annotations

from msgspec import Struct

from bridge.auditing import Auditor
from bridge.clock import Clock
from bridge.orders.halt import HaltSwitch
from bridge.orders.journal import OrderJournal
from bridge.orders.prepare import Preparer
from bridge.store import Database
from bridge.tws.gateway import Gateway


class Tools(Struct, frozen=True, kw_only=True):
    """One set for each order room."""

    database: Database
    gateway: Gateway
    preparer: Preparer
    journal: OrderJournal
    halt: HaltSwitch
    auditor: Auditor
    clock: Clock


class Worker:
    """A part of the order room."""

    def __init__(self, tools: Tools) -> None:
        self._database = tools.database
        self._gateway = tools.gateway
        self._preparer = tools.preparer
        self._tracker = tools.journal
        self._halt = tools.halt
        self._auditor = tools.auditor
        self._clock = tools.clock

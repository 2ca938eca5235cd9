"""The one list of parts: what is installed, in which order, and which route tables are served."""

from __future__ import annotations

from collections.abc import Callable

from bridge.api.routing import RouteTable
from bridge.services import Services

Installer = Callable[[Services], None]


def installers() -> tuple[Installer, ...]:
    """The ``install`` function of each part, in the order of their needs."""
    from bridge.account import service as account
    from bridge.alerts import watch as alerts
    from bridge.api import stream
    from bridge.market import wiring as market
    from bridge.orders import wiring as orders
    from bridge.portal import service as portal
    from bridge.rules import wiring as rules
    from bridge.settings import probe as trial
    from bridge.settings import service as settings
    from bridge.watchdog import install as watchdog

    return (
        settings.install,
        trial.install,
        market.install,
        account.install,
        portal.install,
        stream.install,
        orders.install,
        alerts.install,
        rules.install,
        watchdog,
    )


def route_tables() -> tuple[RouteTable, ...]:
    """Every subject's routes (``bridge/api/<subject>.py``, name ``routes``)."""
    from bridge.api import (
        account,
        alerts,
        connection,
        health,
        journal,
        keys,
        market,
        orders,
        page,
        portal,
        rules,
        settings,
        stream,
    )

    return (
        health.routes,
        connection.routes,
        settings.routes,
        portal.routes,
        alerts.routes,
        market.routes,
        account.routes,
        orders.routes,
        rules.routes,
        journal.routes,
        stream.routes,
        keys.routes,
        page.routes,
    )

"""The alerts that the environment asks for; apart, so that a command loads only what it needs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from bridge.alerts.kinds import AlertKind
from bridge.alerts.sender import Sender
from bridge.alerts.service import AlertService
from bridge.clock import Clock
from bridge.environment import Environment, EnvironmentProblem


def alerts_of(
    environment: Environment, clock: Clock, registry: CollectorRegistry
) -> AlertService | None:
    """The alerts that the environment asks for; None without an address file.

    Raises:
        EnvironmentProblem: an event in the list is none.
    """
    if environment.alerts_file is None:
        return None
    names = [name.strip() for name in environment.alert_events.split(",") if name.strip()]
    try:
        wanted = frozenset(AlertKind(name) for name in names)
    except ValueError as error:
        known = ", ".join(kind.value for kind in AlertKind)
        raise EnvironmentProblem("BRIDGE_ALERT_EVENTS", str(error), f"use {known}") from None
    return AlertService(
        Sender(environment.alerts_file),
        clock,
        registry,
        name=f"gangway ({environment.trading_mode})",
        wanted=wanted,
    )

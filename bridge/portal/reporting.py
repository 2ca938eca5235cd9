"""Carries what the session sees into the connection's history and metrics.

Client Portal events stand beside those of the TWS session, with kinds that begin with `portal-`.
"""

from __future__ import annotations

from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge

from bridge.portal.errors import PortalError
from bridge.portal.session import PortalSession
from bridge.portal.state import PortalState
from bridge.store.portal_certificates import StoredCertificate

REPORTED = frozenset(PortalState) - {
    PortalState.OFF,
    PortalState.STARTING,
    PortalState.RECOVERING,
}


class History(Protocol):
    """The connection's history."""

    def note(self, kind: str, **detail: Any) -> None:
        """Adds an event."""


class PortalReporter:
    """Listens to sessions and reports; one for each process, whichever session runs.

    Args:
        history: takes the events.
        registry: takes the metrics `gangway_portal_state`, `gangway_portal_recoveries_total` and
            `gangway_portal_recovery_failures_total`.
    """

    def __init__(self, history: History, registry: CollectorRegistry) -> None:
        self._history = history
        self._last: PortalState | None = None
        self._state = Gauge(
            "gangway_portal_state",
            "1 for the state that the Client Portal session is in",
            ["state"],
            registry=registry,
        )
        self._recoveries = Counter(
            "gangway_portal_recoveries",
            "Brokerage sessions opened again without a login",
            registry=registry,
        )
        self._failures = Counter(
            "gangway_portal_recovery_failures",
            "Recoveries that failed, by the code of the failure",
            ["code"],
            registry=registry,
        )

    def watch(self, session: PortalSession) -> None:
        """Reports what this session sees from now on."""
        self._show(session.state)
        session.changed.listen(lambda _, state: self._changed(session, state))
        session.recovered.listen(self._recovered)
        session.recovery_failed.listen(self._failed)

    def certificate_trusted(self, stored: StoredCertificate) -> None:
        """A gateway's certificate is trusted from now on."""
        self._history.note(
            "portal-certificate-trusted",
            origin=stored.origin,
            trust=stored.trust,
            fingerprint=stored.fingerprint,
        )

    def _changed(self, session: PortalSession, state: PortalState) -> None:
        self._show(state)
        if state not in REPORTED or state is self._last:
            return
        self._last = state
        detail = {"error": session.last_check_error} if session.last_check_error else {}
        self._history.note(f"portal-{state.value}", **detail)

    def _recovered(self) -> None:
        self._recoveries.inc()
        self._history.note("portal-recovered")

    def _failed(self, error: PortalError) -> None:
        self._failures.labels(error.code).inc()
        self._history.note("portal-recovery-failed", code=error.code, error=error.detail)

    def _show(self, state: PortalState) -> None:
        for each in PortalState:
            self._state.labels(each.value).set(each is state)

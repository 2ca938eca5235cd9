"""Watches what holds the bridge up and nobody else watches for weeks: the disk, the certificate."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Gauge

from bridge.alerts.certificate import MEND, Certificate, CertificateUnseenError, look
from bridge.alerts.kinds import AlertKind
from bridge.alerts.service import AlertService
from bridge.clock import Clock

DISK_SECONDS: Final = 60.0
CERTIFICATE_SECONDS: Final = 3600.0
AGAIN_SECONDS: Final = 60.0
"""While there is something to complain about: after a start Caddy is there a little later."""
UNSEEN_SECONDS: Final = 1800.0
"""A first certificate takes its time, and Caddy restarts."""
ENOUGH_AGAIN: Final = 1.25
"""Times the limit: a disk at the limit is not told again and again."""
MEGABYTE: Final = 1024 * 1024

log = structlog.get_logger(__name__)


class HostWatch:
    """Measures for `/metrics`, and tells the alerts if there is one.

    Args:
        alerts: told of conditions; None: nobody is.
        clock: paces the looks.
        registry: takes `gangway_disk_free_bytes` and, with an address,
            `gangway_certificate_expires_timestamp_seconds`.
        folder: on the disk to watch.
        least_megabytes: told when less is free.
        address: where the certificate is shown; None: there is none to watch.
        name: the name that it is shown for.
    """

    def __init__(
        self,
        alerts: AlertService | None,
        clock: Clock,
        registry: CollectorRegistry,
        *,
        folder: Path,
        least_megabytes: int,
        address: tuple[str, int] | None = None,
        name: str = "",
    ) -> None:
        self._alerts = alerts
        self._clock = clock
        self._folder = folder
        self._least = least_megabytes * MEGABYTE
        self._address = address
        self._name = name
        self._seen = clock.monotonic()
        self._free = Gauge(
            "gangway_disk_free_bytes", "Free for the bridge's data", registry=registry
        )
        self._ends: Gauge | None = None
        if address is not None:
            self._ends = Gauge(
                "gangway_certificate_expires_timestamp_seconds",
                "When the shown certificate ends; 0: none was seen",
                registry=registry,
            )

    async def watch_disk(self) -> None:
        """Looks until cancelled."""
        while True:
            self.look_at_disk()
            await self._clock.sleep(DISK_SECONDS)

    async def watch_certificate(self) -> None:
        """Looks until cancelled."""
        while True:
            fine = await self.look_at_certificate()
            await self._clock.sleep(CERTIFICATE_SECONDS if fine else AGAIN_SECONDS)

    # ------------------------------------------------------------------------------------------

    def look_at_disk(self) -> None:
        """One look."""
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError as error:
            log.warning("disk-unseen", error=error.strerror)
            return
        self._free.set(usage.free)
        if usage.free < self._least:
            body = (
                f"{usage.free // MEGABYTE} of {usage.total // MEGABYTE} MB are free. The journal of"
                " orders needs room: docker system prune frees some, ./deploy.py doctor shows more."
            )
            self._raised(AlertKind.DISK_LOW, body)
        elif usage.free >= self._least * ENOUGH_AGAIN:
            self._cleared(AlertKind.DISK_LOW)

    async def look_at_certificate(self) -> bool:
        """One look; whether all is well."""
        if self._address is None or self._ends is None:
            return True
        try:
            found = await asyncio.to_thread(look, *self._address, self._name)
        except CertificateUnseenError as error:
            self._unseen(error)
            return False
        self._seen = self._clock.monotonic()
        self._ends.set(found.ends.timestamp())
        if found.is_late(self._clock.now()):
            self._raised(AlertKind.CERTIFICATE, self._late(found))
            return False
        self._cleared(AlertKind.CERTIFICATE)
        return True

    def _unseen(self, error: CertificateUnseenError) -> None:
        if self._ends is not None:
            self._ends.set(0)
        log.warning("certificate-unseen", error=str(error))
        if self._clock.monotonic() - self._seen >= UNSEEN_SECONDS:
            self._raised(AlertKind.CERTIFICATE, f"{error}.\n\n{MEND}")

    def _late(self, found: Certificate) -> str:
        hours = found.left(self._clock.now()).total_seconds() / 3600
        when = f"{found.ends:%Y-%m-%d %H:%M} UTC"
        state = f"ends in {_span(hours)}, {when}" if hours > 0 else f"has ended, {when}"
        return f"The certificate for {self._name} {state}, and was not renewed.\n\n{MEND}"

    def _raised(self, kind: AlertKind, body: str) -> None:
        if self._alerts is not None:
            self._alerts.raised(kind, body)

    def _cleared(self, kind: AlertKind) -> None:
        if self._alerts is not None:
            self._alerts.cleared(kind)


def _span(hours: float) -> str:
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"

"""Watches what nobody else watches for weeks: the disk, the certificate, whether backups come.

The certificate is the one that the world sees: Caddy's, looked at over TLS, whoever signed it.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec
import structlog
from msgspec import Struct
from prometheus_client import CollectorRegistry, Gauge

from bridge.alerts.messages import AlertKind
from bridge.alerts.service import AlertService
from bridge.clock import Clock, going_on, repeat
from bridge.tls import blind_context, pinned_context

HANDSHAKE_SECONDS: Final = 8.0
TOO_LITTLE: Final = 0.2
"""Of a certificate's life; Caddy renews when a third of it is left."""


BACKUP_MEND: Final = "On the host: journalctl -u 'gangway-*-backup'; ./deploy.py doctor shows more."
MEND: Final = "./deploy.py logs caddy; does the domain lead here, are ports 80 and 443 open?"


class CertificateUnseenError(Exception):
    """No certificate was shown; one line."""


class Certificate(Struct, frozen=True, kw_only=True):
    """For how long it is good."""

    begins: datetime
    ends: datetime

    def left(self, now: datetime) -> timedelta:
        """How long it is still good; negative when it is not."""
        return self.ends - now

    def is_late(self, now: datetime) -> bool:
        """Whether it should have been renewed long ago."""
        return self.left(now) < (self.ends - self.begins) * TOO_LITTLE


def look(host: str, port: int, name: str) -> Certificate:
    """What is shown for `name`; blocks for some seconds at worst.

    The standard library tells the dates only of a certificate that it accepted, so the one that is
    shown is made the only one that it accepts, and is asked for again.

    Raises:
        CertificateUnseenError: nothing answers there, or not with TLS.
    """
    try:
        with _session(host, port, name, blind_context()) as first:
            shown = first.getpeercert(binary_form=True) or b""
        with _session(host, port, name, pinned_context(ssl.DER_cert_to_PEM_cert(shown))) as second:
            dates = second.getpeercert() or {}
    except (OSError, ValueError) as error:  # TLS errors are OSErrors
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise CertificateUnseenError(f"no certificate at {host}:{port}: {reason}") from None
    return Certificate(begins=_moment(dates["notBefore"]), ends=_moment(dates["notAfter"]))


def _session(host: str, port: int, name: str, context: ssl.SSLContext) -> ssl.SSLSocket:
    plain = socket.create_connection((host, port), HANDSHAKE_SECONDS)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def _moment(text: object) -> datetime:
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(str(text)), UTC)


DISK_SECONDS: Final = 60.0
BACKUP_SECONDS: Final = 600.0
BACKUP_FILE: Final = "backup.json"
"""The host leaves it in the data folder while backups are on a schedule:
`{"every": seconds, "since", "succeededAt", "failure"}`."""
BACKUP_LATE: Final = 2.0
"""Times the interval, after which a person has to know."""
CERTIFICATE_SECONDS: Final = 3600.0
AGAIN_SECONDS: Final = 60.0
"""While there is something to complain about: after a start Caddy is there a little later."""
UNSEEN_SECONDS: Final = 1800.0
"""A first certificate takes its time, and Caddy restarts."""
ENOUGH_AGAIN: Final = 1.25
"""Times the limit: a disk at the limit is not told again and again."""
MEGABYTE: Final = 1024 * 1024

log = structlog.get_logger(__name__)


class Backups(Struct, frozen=True, rename="camel"):
    """How the host's schedule of backups goes; times in seconds since 1970."""

    every: float
    since: float
    succeeded_at: float | None = None
    failure: str | None = None


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
        await repeat(self._clock, DISK_SECONDS, "disk", self.look_at_disk, at_once=True)

    async def watch_certificate(self) -> None:
        settled = False  # at the first look of a process nothing is told to have ended yet
        while True:
            fine = False
            with going_on("certificate"):
                fine = await self.look_at_certificate()
            await self._clock.sleep(CERTIFICATE_SECONDS if fine and settled else AGAIN_SECONDS)
            settled = True

    async def watch_backups(self) -> None:
        await repeat(self._clock, BACKUP_SECONDS, "backups", self.look_at_backups, at_once=True)

    # ------------------------------------------------------------------------------------------

    def look_at_backups(self) -> None:
        """One look: whether the host's schedule of backups is kept, if it has one."""
        try:
            text = (self._folder / BACKUP_FILE).read_bytes()
            found = msgspec.json.decode(text, type=Backups)
            moment = datetime.fromtimestamp(found.succeeded_at or found.since, UTC)
        except FileNotFoundError:
            self._forgotten(AlertKind.BACKUP)
            return
        except (OSError, ValueError, OverflowError, msgspec.DecodeError) as error:
            log.warning("backups-unseen", error=str(error))
            body = f"What the host tells of its schedule cannot be read: {error}.\n\n{BACKUP_MEND}"
            self._raised(AlertKind.BACKUP, body, "unseen")
            return
        age = (self._clock.now() - moment).total_seconds()
        # One of the future was taken while a clock was wrong: it says nothing of the next ones.
        if not -found.every <= age <= found.every * BACKUP_LATE:
            said = f": {found.failure}" if found.failure else ""
            body = (
                f"The last one is of {moment:%Y-%m-%d %H:%M} UTC, and one is due every"
                f" {_span(found.every / 3600)}{said}.\n\n{BACKUP_MEND}"
            )
            self._raised(AlertKind.BACKUP, body)
        else:
            self._cleared(AlertKind.BACKUP)

    def look_at_disk(self) -> None:
        try:
            usage = shutil.disk_usage(self._folder)
        except OSError as error:
            log.warning("disk-unseen", error=error.strerror)
            return
        self._free.set(usage.free)
        if usage.free < self._least:
            body = (
                f"{usage.free // MEGABYTE} of {usage.total // MEGABYTE} MB are free. The journal of"
                " orders needs room: docker image prune frees some, ./deploy.py doctor shows more."
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
            ended = found.left(self._clock.now()) <= timedelta(0)
            self._raised(AlertKind.CERTIFICATE, self._late(found), "ended" if ended else "late")
            return False
        self._cleared(AlertKind.CERTIFICATE)
        return True

    def _unseen(self, error: CertificateUnseenError) -> None:
        if self._ends is not None:
            self._ends.set(0)
        log.warning("certificate-unseen", error=str(error))
        if self._clock.monotonic() - self._seen >= UNSEEN_SECONDS:
            self._raised(AlertKind.CERTIFICATE, f"{error}.\n\n{MEND}", "unseen")

    def _late(self, found: Certificate) -> str:
        hours = found.left(self._clock.now()).total_seconds() / 3600
        when = f"{found.ends:%Y-%m-%d %H:%M} UTC"
        state = f"ends in {_span(hours)}, {when}" if hours > 0 else f"has ended, {when}"
        return f"The certificate for {self._name} {state}, and was not renewed.\n\n{MEND}"

    def _raised(self, kind: AlertKind, body: str, about: str = "") -> None:
        if self._alerts is not None:
            self._alerts.raised(kind, body, about)

    def _forgotten(self, kind: AlertKind) -> None:
        if self._alerts is not None:
            self._alerts.forgotten(kind)

    def _cleared(self, kind: AlertKind) -> None:
        if self._alerts is not None:
            self._alerts.cleared(kind)


def _span(hours: float) -> str:
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"

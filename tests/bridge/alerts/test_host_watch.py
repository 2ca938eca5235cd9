"""Disk and certificate: a real disk, real TLS servers with certificates of every age."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from prometheus_client import CollectorRegistry

from bridge.alerts.host_watch import UNSEEN_SECONDS, CertificateUnseenError, HostWatch, look
from bridge.alerts.messages import AlertKind
from tests.bridge.alerts.conftest import WebHook
from tests.bridge.alerts.test_watch import Told
from tests.bridge.portal.conftest import JumpingClock
from tests.bridge.portal.running import running

NOW = datetime.fromtimestamp(1_750_000_000, UTC)
HUGE = 10**7
Serve = Callable[[float, float], Awaitable[int]]


def make_certificate(file: Path, begins: datetime, ends: datetime) -> None:
    """Signed by an authority of its own and without a common name, as Caddy's internal ones."""
    authority, key = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Some Authority")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("gw.example")]), critical=True)
        .sign(authority, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file.write_bytes(private + made.public_bytes(serialization.Encoding.PEM))


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Serve]:
    """Starts a TLS server; its certificate began and ends so many days from `NOW`. Its port."""
    async with AsyncExitStack() as parts:

        async def start(begins: float, ends: float, now: datetime = NOW) -> int:
            file = tmp_path / f"{begins}.pem"
            make_certificate(file, now + timedelta(days=begins), now + timedelta(days=ends))
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(file)
            server = await asyncio.start_server(
                lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context
            )
            await parts.enter_async_context(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        yield start


class Watched:
    def __init__(self, folder: Path, *, least: int = 1, port: int | None = None) -> None:
        self.clock = JumpingClock()
        self.told = Told()
        self.registry = CollectorRegistry()
        self.watch = HostWatch(
            self.told,  # type: ignore[arg-type]
            self.clock,
            self.registry,
            folder=folder,
            least_megabytes=least,
            address=None if port is None else ("127.0.0.1", port),
            name="gw.example",
        )

    def value(self, name: str) -> float | None:
        return self.registry.get_sample_value(name)

    async def certificate(self) -> str | None:
        await self.watch.look_at_certificate()
        return self.told.active.get(AlertKind.CERTIFICATE)


async def test_a_certificate_that_is_renewed_in_time_is_fine(tmp_path: Path, serve: Serve) -> None:
    host_watch = Watched(tmp_path, port=await serve(-60, 30))  # a third of its life is left
    assert await host_watch.certificate() is None
    ends = (NOW + timedelta(days=30)).timestamp()
    assert host_watch.value("gangway_certificate_expires_timestamp_seconds") == ends


async def test_one_that_was_not_renewed_is_told_and_so_is_its_renewal(
    tmp_path: Path, serve: Serve
) -> None:
    host_watch = Watched(tmp_path, port=await serve(-80, 10))
    body = await host_watch.certificate() or ""
    assert "for gw.example ends in 10 days" in body
    assert "deploy.py logs caddy" in body
    host_watch.watch._address = ("127.0.0.1", await serve(0, 90))
    assert await host_watch.certificate() is None


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-0.45, 0.05, "ends in 1.2 hours"), (-91, -1, "has ended"), (-100, -10, "has ended")],
)
async def test_short_lives_and_ends_are_told(
    tmp_path: Path, serve: Serve, begins: float, ends: float, said: str
) -> None:
    host_watch = Watched(tmp_path, port=await serve(begins, ends))
    assert said in (await host_watch.certificate() or "")


async def test_half_a_day_of_the_internal_authority_is_no_alarm(
    tmp_path: Path, serve: Serve
) -> None:
    assert await Watched(tmp_path, port=await serve(-0.3, 0.2)).certificate() is None


async def test_no_certificate_is_told_after_half_an_hour(
    tmp_path: Path, unused_tcp_port: int, serve: Serve
) -> None:
    host_watch = Watched(tmp_path, port=unused_tcp_port)
    assert await host_watch.certificate() is None
    host_watch.clock.advance(UNSEEN_SECONDS - 1)
    assert await host_watch.certificate() is None
    assert host_watch.value("gangway_certificate_expires_timestamp_seconds") == 0
    host_watch.clock.advance(1)
    body = await host_watch.certificate() or ""
    assert f"no certificate at 127.0.0.1:{unused_tcp_port}: Connection refused" in body
    host_watch.watch._address = ("127.0.0.1", await serve(0, 90))
    assert await host_watch.certificate() is None


async def test_something_that_speaks_no_tls_shows_no_certificate() -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(CertificateUnseenError, match="no certificate at"):
            await asyncio.to_thread(look, "127.0.0.1", port, "gw.example")


def test_a_disk_with_room_is_fine_and_a_full_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)  # others fill and empty it at the same time
    monkeypatch.setattr("bridge.alerts.host_watch.shutil.disk_usage", lambda _: usage)
    host_watch = Watched(tmp_path)
    host_watch.watch.look_at_disk()
    assert host_watch.told.active == {}
    free = host_watch.value("gangway_disk_free_bytes") or 0
    assert free > 0
    host_watch.watch._least = 2 * int(free)
    host_watch.watch.look_at_disk()
    assert "MB are free" in host_watch.told.active[AlertKind.DISK_LOW]
    assert "docker image prune" in host_watch.told.active[AlertKind.DISK_LOW]
    host_watch.watch._least = int(free * 0.95)  # a little more than the limit is not yet enough
    host_watch.watch.look_at_disk()
    assert AlertKind.DISK_LOW in host_watch.told.active
    host_watch.watch._least = int(free * 0.5)
    host_watch.watch.look_at_disk()
    assert host_watch.told.active == {}


def test_a_folder_that_is_gone_is_no_alarm(tmp_path: Path) -> None:
    host_watch = Watched(tmp_path / "none", least=HUGE)
    host_watch.watch.look_at_disk()
    assert host_watch.told.active == {}


async def test_a_whole_bridge_tells_of_both_and_measures_both(
    tmp_path: Path, hook: WebHook, address_file: Path, serve: Any
) -> None:
    port = await serve(-80, 1, datetime.now(UTC))
    watched: dict[str, Any] = {
        "tls_address": ("127.0.0.1", port),
        "tls_name": "gw.example",
        "alert_disk_megabytes": HUGE,
    }
    async with running(tmp_path, alerts_file=address_file, **watched) as bridge:
        await hook.until(2)
        assert sorted(hook.titles) == [
            "gangway (paper): The certificate needs a look",
            "gangway (paper): The disk is nearly full",
        ]
        text = (await bridge.client.get("/metrics")).text
    assert "gangway_disk_free_bytes " in text
    assert "gangway_certificate_expires_timestamp_seconds " in text


async def test_without_addresses_they_are_measured_all_the_same(
    tmp_path: Path, hook: WebHook
) -> None:
    async with running(tmp_path, alert_disk_megabytes=HUGE) as bridge:
        text = (await bridge.client.get("/metrics")).text
    assert "gangway_disk_free_bytes " in text
    assert "gangway_certificate" not in text
    assert hook.received == []


def backups(folder: Path, **found: object) -> None:
    (folder / "backup.json").write_text(json.dumps({"every": 86_400, **found}))


def test_backups_that_do_not_come_are_told(tmp_path: Path) -> None:
    host_watch = Watched(tmp_path)
    now = host_watch.clock.now().timestamp()
    host_watch.watch.look_at_backups()
    assert host_watch.told.active == {}  # no schedule
    backups(tmp_path, since=now, succeededAt=now)
    host_watch.clock.advance(2 * 86_400)
    host_watch.watch.look_at_backups()
    assert host_watch.told.active == {}
    backups(tmp_path, since=now, succeededAt=now, failure="the disk is not there")
    host_watch.clock.advance(1)
    host_watch.watch.look_at_backups()
    body = host_watch.told.active[AlertKind.BACKUP]
    assert "every 24.0 hours: the disk is not there" in body
    backups(tmp_path, since=now, succeededAt=host_watch.clock.now().timestamp())
    host_watch.watch.look_at_backups()
    assert host_watch.told.resolved == [AlertKind.BACKUP]


def test_a_schedule_without_any_backup_and_a_torn_file(tmp_path: Path) -> None:
    host_watch = Watched(tmp_path)
    backups(tmp_path, since=host_watch.clock.now().timestamp() - 3 * 86_400, succeededAt=None)
    host_watch.watch.look_at_backups()
    assert AlertKind.BACKUP in host_watch.told.active
    (tmp_path / "backup.json").write_text("{")
    host_watch.watch.look_at_backups()
    assert AlertKind.BACKUP in host_watch.told.active  # nothing is known, nothing is over
    (tmp_path / "backup.json").unlink()
    host_watch.watch.look_at_backups()
    assert host_watch.told.active == {}


async def test_a_certificate_that_has_ended_is_told_again(tmp_path: Path, serve: Serve) -> None:
    host_watch = Watched(tmp_path, port=await serve(-80, 10))
    assert "ends in 10 days" in (await host_watch.certificate() or "")
    host_watch.clock.advance(11 * 86_400)
    assert "has ended" in (await host_watch.certificate() or "")


@pytest.mark.parametrize("succeeded", [1e300, -1e300, "yesterday"])
def test_what_cannot_be_read_of_the_backups_is_told(tmp_path: Path, succeeded: object) -> None:
    host_watch = Watched(tmp_path)
    backups(tmp_path, since=1.0, succeededAt=succeeded)
    host_watch.watch.look_at_backups()
    assert "cannot be read" in host_watch.told.active[AlertKind.BACKUP]


def test_a_backup_of_a_clock_that_was_ahead_does_not_stand_for_the_next_years(
    tmp_path: Path,
) -> None:
    host_watch = Watched(tmp_path)
    now = host_watch.clock.now().timestamp()
    backups(tmp_path, since=now, succeededAt=now + 3600)  # clocks differ
    host_watch.watch.look_at_backups()
    assert host_watch.told.active == {}
    backups(tmp_path, since=now, succeededAt=now + 3 * 365 * 86_400)
    host_watch.watch.look_at_backups()
    assert AlertKind.BACKUP in host_watch.told.active


async def test_a_certificate_is_looked_at_again_soon_after_a_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look of a process tells of no end: what was told before it would be forgotten."""
    host_watch = Watched(tmp_path, port=1)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(0)

    async def fine() -> bool:
        return True

    monkeypatch.setattr(host_watch.clock, "sleep", sleep)
    monkeypatch.setattr(host_watch.watch, "look_at_certificate", fine)
    task = asyncio.create_task(host_watch.watch.watch_certificate())
    while len(slept) < 3:
        await asyncio.sleep(0)
    task.cancel()
    assert slept[:3] == [60.0, 3600.0, 3600.0]


async def test_the_watches_go_on_after_a_look_that_broke(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_watch = Watched(tmp_path, port=1)
    looks = dict.fromkeys(("disk", "certificate", "backups"), 0)

    def breaking(name: str) -> Callable[[], Any]:
        def look() -> Any:
            looks[name] += 1
            raise RuntimeError("by the test")

        return look

    for name in looks:
        monkeypatch.setattr(host_watch.watch, f"look_at_{name}", breaking(name))
    watch = host_watch.watch
    works = (watch.watch_disk(), watch.watch_certificate(), watch.watch_backups())
    tasks = [asyncio.create_task(work) for work in works]
    for _ in range(10):
        await asyncio.sleep(0)
    assert all(count > 1 for count in looks.values())
    for task in tasks:
        task.cancel()

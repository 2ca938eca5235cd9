"""Trust in the gateway's certificate, over real TLS with the simulated gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.portal.certificates import Certificates, origin_of
from bridge.portal.client import PortalClient, PortalPacer
from bridge.portal.errors import PortalCertificateError
from bridge.portal.session import PortalSession
from bridge.portal.state import PortalState
from bridge.store.settings import StoredCertificate
from bridge.tls import normal_fingerprint
from simulator.portal import PortalServer
from tests.bridge.portal.conftest import JumpingClock, MemoryCertificates

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Gateway:
    """A gateway that keeps its port and may change its certificate."""

    def __init__(self, clock: JumpingClock, folder: Path) -> None:
        self.clock = clock
        self.folder = folder
        self.server = PortalServer(clock.monotonic, certificate_folder=folder)

    async def restart(self, *, new_certificate: bool) -> None:
        port = self.server.port
        await self.server.close()
        if new_certificate:
            for file in await asyncio.to_thread(lambda: list(self.folder.iterdir())):
                file.unlink()
        self.server = PortalServer(self.clock.monotonic, certificate_folder=self.folder)
        await self.server.start(port=port)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.server.port}"


@pytest.fixture
async def gateway(clock: JumpingClock, tmp_path: Path) -> AsyncIterator[Gateway]:
    gateway = Gateway(clock, tmp_path / "tls")
    await gateway.server.start()
    yield gateway
    await gateway.server.close()


async def test_the_first_certificate_is_pinned_and_reported(
    gateway: Gateway, clock: JumpingClock
) -> None:
    store, reported = MemoryCertificates(), list[StoredCertificate]()
    for _ in range(2):
        client = PortalClient(
            gateway.url, PortalPacer(clock), Certificates(store, clock, on_pinned=reported.append)
        )
        assert (await client.tickle()).connected
        await client.close()
    pinned = store.stored[origin_of(gateway.url)]
    assert pinned.trust == "pinned"
    assert reported == [pinned]


async def test_a_changed_certificate_is_refused_with_both_fingerprints(
    gateway: Gateway, clock: JumpingClock
) -> None:
    store = MemoryCertificates()
    client = PortalClient(gateway.url, PortalPacer(clock), Certificates(store, clock))
    session = PortalSession(client, clock)
    await session.check()
    pinned = store.stored[origin_of(gateway.url)].fingerprint
    await gateway.restart(new_certificate=True)
    clock.advance(60)
    await client.close()
    with pytest.raises(PortalCertificateError) as raised:
        await client.status()
    assert raised.value.extra["expectedFingerprint"] == pinned
    assert raised.value.extra["presentedFingerprint"] != pinned
    assert "portalFingerprint" in raised.value.next_step
    await session.check()
    assert session.state is PortalState.CERTIFICATE_REFUSED
    assert gateway.server.routes.calls == {}  # nothing was sent to it
    await session.stop()


async def test_the_same_certificate_after_a_restart_is_fine(
    gateway: Gateway, clock: JumpingClock
) -> None:
    client = PortalClient(
        gateway.url, PortalPacer(clock), Certificates(MemoryCertificates(), clock)
    )
    await client.status()
    await gateway.restart(new_certificate=False)
    await client.close()
    assert (await client.tickle()).connected
    await client.close()


async def test_a_given_fingerprint_replaces_what_was_pinned(
    gateway: Gateway, clock: JumpingClock
) -> None:
    store = MemoryCertificates()
    first = PortalClient(gateway.url, PortalPacer(clock), Certificates(store, clock))
    await first.status()
    await first.close()
    await gateway.restart(new_certificate=True)
    refused = PortalClient(gateway.url, PortalPacer(clock), Certificates(store, clock))
    with pytest.raises(PortalCertificateError) as raised:
        await refused.status()
    await refused.close()
    given = raised.value.extra["presentedFingerprint"]
    accepted = PortalClient(gateway.url, PortalPacer(clock), Certificates(store, clock, given))
    assert (await accepted.tickle()).connected
    await accepted.close()
    assert store.stored[origin_of(gateway.url)].fingerprint == given


async def test_a_given_fingerprint_that_does_not_fit_sends_nothing(
    gateway: Gateway, clock: JumpingClock
) -> None:
    certificates = Certificates(MemoryCertificates(), clock, "ab" * 32)
    client = PortalClient(gateway.url, PortalPacer(clock), certificates)
    with pytest.raises(PortalCertificateError):
        await client.status()
    assert gateway.server.routes.calls == {}


async def test_a_host_known_by_authority_never_falls_back_to_a_self_signed_one(
    gateway: Gateway, clock: JumpingClock
) -> None:
    store = MemoryCertificates()
    store.stored[origin_of(gateway.url)] = StoredCertificate(
        origin=origin_of(gateway.url),
        trust="authority",
        certificate="",
        fingerprint="SHA256:" + "0" * 64,
        pinned_at=clock.now(),
    )
    client = PortalClient(gateway.url, PortalPacer(clock), Certificates(store, clock))
    with pytest.raises(PortalCertificateError, match="expected a public one"):
        await client.status()
    await client.close()


@pytest.mark.parametrize(
    "text",
    [
        "SHA256:" + "AB" * 32,
        "ab" * 32,
        "sha256 Fingerprint=" + ":".join(["AB"] * 32),
        " " + ":".join(["ab"] * 32),
    ],
)
def test_fingerprints_are_read_as_openssl_prints_them(text: str) -> None:
    assert normal_fingerprint(text) == "SHA256:" + "ab" * 32


@pytest.mark.parametrize("text", ["", "SHA256:12", "zz" * 32])
def test_other_texts_are_no_fingerprints(text: str) -> None:
    with pytest.raises(ValueError, match="64 hex digits"):
        normal_fingerprint(text)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://gateway", "https://gateway:443"),
        ("https://[::1]:5000/v1/api", "https://[::1]:5000"),
        ("http://localhost", "http://localhost:80"),
    ],
)
def test_origins_name_their_port(url: str, origin: str) -> None:
    assert origin_of(url) == origin

"""The session against the simulated Client Portal, over real sockets and a wound clock."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from bridge.portal.client import PortalClient, PortalPacer
from bridge.portal.errors import (
    CompetingSessionError,
    LoginRequiredError,
    PortalLimitedError,
    PortalSilentError,
    PortalUnreachableError,
    RecoveryFailedError,
)
from bridge.portal.pass_through import fetch
from bridge.portal.service import view
from bridge.portal.session import PortalSession
from bridge.portal.state import PortalState, Reading
from tests.bridge.portal.conftest import JumpingClock, inits

if TYPE_CHECKING:
    from simulator.portal import PortalServer

DAY = 86_400.0


def expect(session: PortalSession, state: PortalState) -> None:
    assert session.state is state


async def test_a_running_session_is_left_alone(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert inits(portal) == 0


async def test_six_idle_minutes_desync_and_the_next_check_mends_it_within_five_seconds(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    logged_in_at = portal.session.authenticated_at
    clock.advance(360)
    assert not portal.session.peek().connected
    started = clock.monotonic()
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert portal.session.peek().established
    assert clock.monotonic() - started <= 5
    assert inits(portal) == 1
    assert portal.session.authenticated_at == logged_in_at  # nobody had to log in again
    assert session.last_recovery_at is not None
    assert session.last_recovery_error == ""


async def test_the_keep_alive_prevents_a_desync_for_a_whole_day(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    seen: list[tuple[PortalState, PortalState]] = []
    session.changed.listen(lambda before, after: seen.append((before, after)))
    end = clock.monotonic() + DAY
    await session.start()
    while clock.monotonic() < end:
        await asyncio.sleep(0.005)
        assert portal.session.peek().connected
    await session.stop()
    assert seen == [(PortalState.STARTING, PortalState.CONNECTED)]
    assert inits(portal) == 0
    assert portal.routes.calls["/tickle"] >= DAY / 60


async def test_two_recoveries_at_once_send_one_init(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.begin_fault("portal-desync")
    await asyncio.gather(session.recover(), session.check(), session.recover(), session.check())
    expect(session, PortalState.CONNECTED)
    assert inits(portal) == 1


async def test_a_caller_that_gives_up_does_not_stop_the_recovery(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    portal.begin_fault("portal-desync")
    impatient = asyncio.create_task(session.recover())
    patient = asyncio.create_task(session.recover())
    await asyncio.sleep(0)
    impatient.cancel()
    await patient
    assert portal.session.peek().connected
    assert inits(portal) == 1


async def test_a_competing_session_is_reported_and_not_fought(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    portal.begin_fault("portal-competing")
    for _ in range(3):
        clock.advance(session.pause())
        await session.check()
    expect(session, PortalState.COMPETING)
    assert inits(portal) == 0
    with pytest.raises(CompetingSessionError):
        await session.recover()
    expect(session, PortalState.COMPETING)
    assert session.last_recovery_error


async def test_a_competing_session_that_ends_is_recovered_from(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    portal.begin_fault("portal-competing")
    await session.check()
    portal.end_fault("portal-competing")
    clock.advance(session.pause())
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert inits(portal) == 1


async def test_a_competing_session_is_beaten_when_that_is_configured(
    client: PortalClient, portal: PortalServer, clock: JumpingClock
) -> None:
    session = PortalSession(client, clock, compete=True)
    portal.begin_fault("portal-competing")
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert not portal.session.peek().competing


async def test_a_person_may_take_over_once(session: PortalSession, portal: PortalServer) -> None:
    portal.begin_fault("portal-competing")
    await session.check()
    await session.recover(compete=True)
    expect(session, PortalState.CONNECTED)


async def test_a_logout_asks_for_a_person_and_the_login_is_followed_up(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    portal.begin_fault("portal-logged-out")
    clock.advance(2)
    await session.check()
    expect(session, PortalState.LOGIN_REQUIRED)
    assert session.reading.authenticated is False
    with pytest.raises(LoginRequiredError):
        await session.recover()
    expect(session, PortalState.LOGIN_REQUIRED)
    before = inits(portal)
    clock.advance(session.pause())
    await session.check()
    assert inits(portal) == before  # no attempt can help here
    portal.end_fault("portal-logged-out")
    clock.advance(session.pause())
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert inits(portal) == before + 1  # proactively, right after the login


async def test_the_first_falsely_unauthenticated_status_is_looked_at_again(
    client: PortalClient, session: PortalSession, portal: PortalServer
) -> None:
    assert (await client.status()).authenticated is False
    portal.begin_fault("portal-first-status")
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert inits(portal) == 0


async def test_server_errors_back_off_and_are_no_lost_session(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    portal.begin_fault("portal-500")
    pauses = []
    for _ in range(7):
        clock.advance(session.pause())
        await session.check()
        expect(session, PortalState.UNREACHABLE)
        pauses.append(session.pause())
    assert pauses == [2, 4, 8, 16, 32, 60, 60]
    assert session.session_state is PortalState.CONNECTED
    assert session.reading.connected is True
    assert inits(portal) == 0
    portal.end_fault("portal-500")
    clock.advance(session.pause())
    await session.check()
    expect(session, PortalState.CONNECTED)


async def test_silence_is_bounded_and_no_lost_session(
    session: PortalSession,
    portal: PortalServer,
    client: PortalClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await session.check()
    portal.begin_fault("portal-timeout")
    with pytest.raises(PortalUnreachableError, match=r"within 0\.2 s"):
        await client.get("/iserver/accounts", timeout=0.2)
    assert session.session_state is PortalState.CONNECTED


async def test_a_gateway_that_is_not_there_is_unreachable(clock: JumpingClock) -> None:
    from bridge.portal.certificates import Certificates
    from tests.bridge.portal.conftest import MemoryCertificates

    for url in ("http://127.0.0.1:9", "https://127.0.0.1:9"):
        session = PortalSession(
            PortalClient(url, PortalPacer(clock), Certificates(MemoryCertificates(), clock)), clock
        )
        await session.check()
        expect(session, PortalState.UNREACHABLE)
        await session.stop()


async def test_a_penalty_is_sat_out(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    portal.begin_fault("portal-429")
    clock.advance(60)
    await session.check()
    expect(session, PortalState.LIMITED)
    calls = sum(portal.routes.calls.values())
    with pytest.raises(PortalLimitedError) as raised:
        await session.recover()
    assert raised.value.retry_after == pytest.approx(900)
    assert sum(portal.routes.calls.values()) == calls  # nothing was sent
    clock.advance(session.pause())
    await session.check()
    expect(session, PortalState.CONNECTED)


async def test_a_flapping_session_is_not_hammered(
    session: PortalSession, portal: PortalServer, clock: JumpingClock
) -> None:
    await session.check()
    end = clock.monotonic() + 450
    session.recovered.listen(lambda: portal.begin_fault("portal-desync"))
    portal.begin_fault("portal-desync")
    while clock.monotonic() < end:
        clock.advance(2)
        await session.check()
    assert 5 <= inits(portal) <= 14
    assert session.state != PortalState.LIMITED


async def test_a_session_that_never_establishes_falls_back_and_then_fails(
    session: PortalSession, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.check()
    portal.begin_fault("portal-desync")
    monkeypatch.setattr(portal.session, "_open_brokerage", lambda: None)
    with pytest.raises(RecoveryFailedError):
        await session.recover()
    expect(session, PortalState.DESYNCED)
    assert portal.routes.calls["/iserver/reauthenticate"] == 1
    assert "not established" in session.last_recovery_error


async def test_a_fallback_that_the_gateway_does_not_know_is_a_failed_recovery(
    session: PortalSession, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await session.check()
    portal.begin_fault("portal-desync")
    monkeypatch.setattr(portal.session, "_open_brokerage", lambda: None)
    del portal.routes._handlers["POST", "/iserver/reauthenticate"]
    with pytest.raises(RecoveryFailedError):
        await session.recover()
    expect(session, PortalState.DESYNCED)


async def test_who_takes_over_is_not_put_off_with_an_attempt_that_may_not(
    session: PortalSession, portal: PortalServer
) -> None:
    portal.begin_fault("portal-competing")
    await session.check()
    peaceful = asyncio.create_task(session.recover())
    await asyncio.sleep(0)
    await session.recover(compete=True)
    with pytest.raises(CompetingSessionError):
        await peaceful
    expect(session, PortalState.CONNECTED)


async def test_a_gateway_without_the_init_is_reauthenticated(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.check()
    del portal.routes._handlers["POST", "/iserver/auth/ssodh/init"]
    portal.begin_fault("portal-desync")
    await session.recover()
    expect(session, PortalState.CONNECTED)
    assert portal.routes.calls["/iserver/reauthenticate"] == 1


async def test_stopping_in_the_middle_of_a_recovery_ends_it(
    session: PortalSession, portal: PortalServer
) -> None:
    await session.start()
    portal.begin_fault("portal-timeout")
    recovering = asyncio.create_task(session.recover())
    await asyncio.sleep(0.05)
    await asyncio.wait_for(session.stop(), 20)
    assert (await asyncio.gather(recovering, return_exceptions=True))[0] is not None


async def test_the_right_to_take_the_session_outlives_a_peaceful_attempt_whatever_it_fails_of(
    session: PortalSession, portal: PortalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    go = asyncio.Event()

    async def reopen(*, compete: bool) -> Reading:
        asked.append(compete)
        if compete:
            return Reading(authenticated=True, connected=True, established=True)
        await go.wait()
        raise RecoveryFailedError("initialised, but not established")

    monkeypatch.setattr(session._recovery, "reopen", reopen)
    automatic = asyncio.create_task(session.recover(compete=False))
    await asyncio.sleep(0)
    wanted = [asyncio.create_task(session.recover(compete=True)) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*wanted)
    assert asked == [False, True]
    with pytest.raises(RecoveryFailedError):
        await automatic


async def test_a_gateway_that_takes_calls_and_answers_none_has_lost_the_broker(
    session: PortalSession,
    portal: PortalServer,
    client: PortalClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await session.check()
    assert view(session).connected is True
    monkeypatch.setattr("bridge.portal.client.LOOK_SECONDS", 1.5)
    portal.begin_fault("portal-timeout")
    with pytest.raises(PortalSilentError):
        await fetch(session, "/portfolio/accounts", {}, timeout=0.2)
    expect(session, PortalState.UPSTREAM_LOST)
    await session.check()
    shown = view(session)
    assert shown.state is PortalState.UPSTREAM_LOST
    assert (shown.authenticated, shown.connected, shown.established) == (None, None, None)
    assert not shown.is_desynced
    assert "Nothing" not in shown.next_action
    assert session.session_state is PortalState.CONNECTED
    portal.end_fault("portal-timeout")
    monkeypatch.undo()
    await session.check()
    expect(session, PortalState.CONNECTED)
    assert view(session).connected is True

"""What the Web API's answers say of a session, its states, and what each means for a person.

The flags `authenticated`, `connected`, `competing` and `established` come at the top level
(`/iserver/auth/status`, `/iserver/auth/ssodh/init`), under `iserver.authStatus` (`/tickle`), or
both; older gateways leave some out. A missing or malformed field is read as unknown (None), never
as false: an unknown must not start a recovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from msgspec import Struct


class Reading(Struct, frozen=True, kw_only=True):
    """What one answer said; None: it did not say.

    ``sso_alive`` tells of the single-sign-on session below the brokerage session: true when the
    answer proves it. ``message`` is the broker's own text, possibly empty.
    """

    authenticated: bool | None = None
    connected: bool | None = None
    competing: bool | None = None
    established: bool | None = None
    sso_alive: bool | None = None
    message: str = ""


def reading_of(answer: object) -> Reading:
    """Reads one JSON answer; anything that is not an object says nothing.

    Of a flag that is given twice, the nested one under ``iserver.authStatus`` counts: it is the
    brokerage session's own.
    """
    parts = tuple(_parts(answer))
    return Reading(
        authenticated=_flag(parts, "authenticated"),
        connected=_flag(parts, "connected"),
        competing=_flag(parts, "competing", "collission", "collision"),
        established=_flag(parts, "established"),
        sso_alive=_sso_alive(parts),
        message=_text(parts, "message") or _text(parts, "fail") or _text(parts, "error"),
    )


def _parts(answer: object) -> Iterator[Mapping[str, Any]]:
    """The objects that may hold flags, the most telling first."""
    if not isinstance(answer, Mapping):
        return
    for server in (answer.get("iserver"), answer.get("iServer")):
        if isinstance(server, Mapping):
            nested = server.get("authStatus")
            if isinstance(nested, Mapping):
                yield nested
    yield answer


def _flag(parts: tuple[Mapping[str, Any], ...], *names: str) -> bool | None:
    for part in parts:
        for name in names:
            value = part.get(name)
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in {"true", "false"}:
                return value.lower() == "true"
    return None


def _text(parts: tuple[Mapping[str, Any], ...], name: str) -> str:
    for part in parts:
        value = part.get(name)
        if isinstance(value, str) and value:
            return value[:300]
    return ""


def _sso_alive(parts: tuple[Mapping[str, Any], ...]) -> bool | None:
    """`RESULT` of `/sso/validate`, `passed` of the init, or a running `ssoExpires` of `/tickle`."""
    passed = _flag(parts, "RESULT", "passed")
    if passed is not None:
        return passed
    for part in parts:
        expires = part.get("ssoExpires")
        if isinstance(expires, int | float) and not isinstance(expires, bool):
            return expires > 0
    return None


class PortalState(StrEnum):
    """The words of `GET /session`."""

    OFF = "off"  # no Client Portal is configured
    STARTING = "starting"  # not asked yet
    CONNECTED = "connected"
    DESYNCED = "desynced"  # logged in, but the brokerage session is closed
    RECOVERING = "recovering"
    COMPETING = "competing"  # the brokerage session belongs to another login of the same user
    LOGIN_REQUIRED = "login-required"  # only a person can help
    UPSTREAM_LOST = "upstream-lost"  # it takes calls and answers none: it has lost the broker
    UNREACHABLE = "unreachable"  # no connection or server errors: says nothing of the session
    LIMITED = "limited"  # kept out for asking too often
    CERTIFICATE_REFUSED = "certificate-refused"


SESSION_STATES = frozenset(
    {
        PortalState.CONNECTED,
        PortalState.DESYNCED,
        PortalState.COMPETING,
        PortalState.LOGIN_REQUIRED,
    }
)
"""The states that say something of the session itself."""

UNTOLD_STATES = frozenset(
    {
        PortalState.UPSTREAM_LOST,
        PortalState.UNREACHABLE,
        PortalState.LIMITED,
        PortalState.CERTIFICATE_REFUSED,
    }
)
"""The states in which the gateway tells nothing now: what it told before is not said of today."""

NEXT_ACTIONS: dict[PortalState, str] = {
    PortalState.OFF: "Set portal.enabled or portal.url in stack.yaml to use the Client Portal",
    PortalState.STARTING: "Wait a moment: the first status is on its way",
    PortalState.CONNECTED: "Nothing to do",
    PortalState.DESYNCED: "Nothing to do: the brokerage session is about to be opened again",
    PortalState.RECOVERING: "Nothing to do: the brokerage session is being opened again",
    PortalState.COMPETING: (
        "Another login of this user holds the brokerage session: end it there, or let the bridge"
        " take over with POST /session/recover?compete=true"
    ),
    PortalState.LOGIN_REQUIRED: "Log in on the Client Portal's own page, with the second factor",
    PortalState.UPSTREAM_LOST: (
        "Check the Client Portal gateway's network and the broker's system status: it takes calls"
        " and answers none; the bridge goes on asking"
    ),
    PortalState.UNREACHABLE: "Check that the Client Portal gateway runs and can be reached",
    PortalState.LIMITED: "Wait: the broker keeps this address out for asking too often",
    PortalState.CERTIFICATE_REFUSED: (
        "Compare the fingerprint with the gateway's own certificate; if it is right, store it with"
        ' PUT /connection/settings {"portalFingerprint": ...}'
    ),
}


def classify(reading: Reading) -> PortalState | None:
    """What a reading says of the session; None when it leaves that open.

    Logged in means `authenticated`, or a living SSO session below a brokerage session that denies
    it: opening the brokerage session again needs no person in both cases.
    """
    if reading.competing and not (reading.connected and reading.authenticated):
        return PortalState.COMPETING
    if reading.authenticated is None and reading.connected is None:
        return PortalState.LOGIN_REQUIRED if reading.sso_alive is False else None
    if reading.authenticated is False:
        return PortalState.DESYNCED if reading.sso_alive else PortalState.LOGIN_REQUIRED
    if reading.connected is None:
        return None
    if reading.connected and reading.established is not False:
        return PortalState.CONNECTED
    return PortalState.DESYNCED

"""The states of a Client Portal session, and what each means for a person."""

from __future__ import annotations

from enum import StrEnum

from bridge.portal.shapes import Reading


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

"""What can go wrong with a Client Portal session.

BridgeError
└── PortalError
    ├── PortalOffError                no Client Portal is configured
    ├── LoginRequiredError            401 or 403: a person has to log in
    ├── PortalUnreachableError        no connection, or a server error
    │   └── PortalSilentError         it took the call and did not answer in time
    ├── PortalLimitedError            429, or our own pacing would have to wait too long
    ├── PortalCertificateError        not the certificate that was pinned
    ├── PortalRefusedError            another 4xx; carries the status
    ├── CompetingSessionError         the brokerage session is held by another login
    ├── RecoveryFailedError           initialised, but never established
    └── NotAllowedError               not on the pass-through's list
"""

from __future__ import annotations

from bridge.errors import BridgeError, Kind


class PortalError(BridgeError):
    """What the Client Portal or the way to it refuses; the others are kinds of it."""

    code = "portal-error"
    kind = Kind.UNAVAILABLE
    next_step = "GET /session tells the state of the Client Portal session"


class PortalOffError(PortalError):
    """No Client Portal is configured."""

    code = "portal-off"
    kind = Kind.NOT_FOUND
    next_step = "Set portal.enabled or portal.url in stack.yaml and deploy"


class LoginRequiredError(PortalError):
    """There is no login."""

    code = "portal-login-required"
    next_step = "Log in on the Client Portal's own page, with the second factor"


class PortalUnreachableError(PortalError):
    """No usable answer. Says nothing about the session."""

    code = "portal-unreachable"
    next_step = "Check that the Client Portal gateway runs; the bridge tries again by itself"


class PortalSilentError(PortalUnreachableError):
    """The gateway took the call and did not answer.

    The real one does so, with every call, when it has lost the broker.
    """

    code = "portal-no-answer"
    next_step = (
        "Check the network of the Client Portal gateway: it answers nothing, as it does when it has"
        " lost the broker; the bridge goes on asking"
    )


class PortalLimitedError(PortalError):
    """Too many requests; `retry_after` seconds are left."""

    code = "portal-limited"
    kind = Kind.LIMITED
    next_step = "Wait; the broker counts every request of this address"


class PortalCertificateError(PortalError):
    """The gateway showed a certificate that is not trusted."""

    code = "portal-certificate-changed"
    next_step = (
        "Compare the fingerprint with the gateway's own certificate; if it is right, store it with"
        " PUT /connection/settings portalFingerprint"
    )


class PortalRefusedError(PortalError):
    """The Web API refused the call; `status` is its own."""

    code = "portal-refused"
    kind = Kind.REFUSED
    next_step = "Mend the request; the detail is the broker's own text"

    def __init__(self, detail: str, status: int) -> None:
        super().__init__(detail, extra={"portalStatus": status})
        self.status = status


class CompetingSessionError(PortalError):
    """Another login holds the brokerage session, and fighting for it is not allowed."""

    code = "portal-competing"
    kind = Kind.CONFLICT
    next_step = "End the other session, or take over with POST /session/recover?compete=true"


class RecoveryFailedError(PortalError):
    """The brokerage session did not open."""

    code = "portal-recovery-failed"
    next_step = "The bridge tries again by itself; if it goes on, log in again"


class NotAllowedError(PortalError):
    """The call is not one of the few that are passed through."""

    code = "portal-not-allowed"
    kind = Kind.FORBIDDEN
    next_step = "docs/client-portal.md lists the calls that are passed through"

"""What each call of the simulated Web API answers, over session, limits and faults.

Paths are those below `/v1/api` (and its older alias `/v1/portal`).  The simulated login page lives
where the real gateway has its own, `/sso/Login`, so that a link to it works in the sandbox.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

from simulator.http import Request, Response
from simulator.portal import shapes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.portal.data import PortalData
    from simulator.portal.session import PortalSession, RequestLimits

PREFIXES = ("/v1/api", "/v1/portal")

LOGIN_PAGE = """<!doctype html><html lang="en"><title>Client Portal login (simulated)</title>
<h1>Client Portal login (simulated)</h1>
<p>No credentials are asked for: the button is the whole login.</p>
<form method="post" action="/sso/Dispatcher"><button>Log in</button></form></html>"""

LOGIN = "/sso/Login?forwardTo=22&RL=1&ip2loc=US"
REMOTE = "https://api.ibkr.com"
"""Where the gateway sends whoever asks for a page that it does not know."""
PREFLIGHT = {"origin", "access-control-request-method"}
CROSS_ORIGIN = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST,GET,OPTIONS,DELETE,PUT",
    "Access-Control-Allow-Headers": "Content-Type,portal,Cookie",
}
JSON = {"Content-Type": "application/json; charset=utf-8"}
PLAIN = {"Content-Type": "text/plain;charset=utf-8"}
HTML = {"Content-Type": "text/html;charset=utf-8"}
DENIED = Response(401, b"Access Denied", PLAIN)


class PortalRoutes:
    """Answers requests.

    Args:
        session: the simulated login.
        limits: counts the requests.
        now: the simulator's clock, in seconds.
        accounts: the account names to report, such as `["DU1234567"]`.
        data: what answers calls about orders, contracts, prices and positions; None: nothing does.
    """

    def __init__(
        self,
        session: PortalSession,
        limits: RequestLimits,
        now: Callable[[], float],
        accounts: Sequence[str],
        data: PortalData | None = None,
    ) -> None:
        self._data = data
        self._session = session
        self._limits = limits
        self._now = now
        self._accounts = tuple(accounts)
        self.failing = False
        self.hanging = False
        self.calls: dict[str, int] = {}
        self._handlers: dict[tuple[str, str], Callable[[Request], Response]] = {
            ("GET", "/iserver/auth/status"): self._status,
            ("POST", "/iserver/auth/status"): self._status,
            ("GET", "/tickle"): self._tickle,
            ("POST", "/tickle"): self._tickle,
            ("POST", "/iserver/auth/ssodh/init"): self._initialise,
            ("GET", "/iserver/reauthenticate"): self._reauthenticate,
            ("POST", "/iserver/reauthenticate"): self._reauthenticate,
            ("GET", "/sso/validate"): self._validate,
            ("POST", "/logout"): self._logout,
            ("GET", "/logout"): self._logout,
            ("GET", "/iserver/accounts"): self._brokerage_accounts,
            ("GET", "/portfolio/accounts"): self._portfolio_accounts,
        }

    async def respond(self, request: Request) -> Response:
        """Answers one request; a time-out fault answers with silence."""
        response = self._answer(request)
        if "origin" in request.headers and not response.silent:
            headers = {"Access-Control-Allow-Origin": "*", **response.headers}
            return replace(response, headers=headers)
        return response

    def _answer(self, request: Request) -> Response:
        """What the gateway answers by itself comes first, also when nothing is behind it."""
        if request.method == "OPTIONS" and request.headers.keys() >= PREFLIGHT:
            return Response(204, headers=CROSS_ORIGIN)
        endpoint = _endpoint(request.path)
        if endpoint is None:
            return self._page(request)
        if endpoint == "/iserver/reauthenticate" and not self._session.logged_in:
            return Response(200, b'{"error":"not logged in"}', JSON)
        if request.method == "POST" and "content-length" not in request.headers:
            # The real gateway refuses a POST that does not say how long it is.
            return Response.json(shapes.error("Length Required", 411), 411)
        self.calls[endpoint] = self.calls.get(endpoint, 0) + 1
        if self.hanging:
            return Response(504, silent=True)
        refusal = self._refusal(endpoint)
        if refusal is not None:
            return refusal
        handler = self._handlers.get((request.method, endpoint))
        if handler is None and (found := self._found(endpoint, request)):
            return found
        if handler is None:
            known = any(path == endpoint for _, path in self._handlers)
            status, text = (405, "Method Not Allowed") if known else (404, "Resource not found")
            return Response.json(shapes.error(text, status), status)
        return handler(request)

    def _refusal(self, endpoint: str) -> Response | None:
        if self._limits.admit(endpoint):
            return Response.json(shapes.error("Too Many Requests", 429), 429)
        if self.failing:
            body = shapes.error("Internal Server Error", 500)
            return Response.json(body, 500)
        return None if self._session.logged_in else DENIED

    def _found(self, endpoint: str, request: Request) -> Response | None:
        answer = self._data.answer(endpoint, request) if self._data else None
        if answer is None:
            return None
        self._session.touch()
        if endpoint.startswith("/iserver") and not self._session.peek().connected:
            return Response.json(shapes.error("Bad Request: no bridge", 400), 400)
        status, body = answer
        return Response.json(body, status)

    def _page(self, request: Request) -> Response:
        if request.path == "/":
            return Response(302, headers={"Location": LOGIN})
        if not request.path.startswith("/sso/"):
            return Response(302, headers={"Location": REMOTE + request.path})
        if self.hanging:
            return Response(504, silent=True)
        if request.path == "/sso/Login" and request.method == "GET":
            return Response(200, LOGIN_PAGE.encode(), HTML)
        if request.path == "/sso/Dispatcher" and request.method == "POST":
            self._session.login()
            return Response(200, b"Client login succeeds", PLAIN)
        return Response.json(shapes.error("Resource not found", 404), 404)

    def _status(self, _: Request) -> Response:
        return Response.json(shapes.authentication_status(self._session.status()))

    def _tickle(self, _: Request) -> Response:
        self._session.touch()
        expires = self._session.sso_expires_milliseconds()
        return Response.json(shapes.tickle(self._session.peek(), self._session_id(), expires))

    def _initialise(self, request: Request) -> Response:
        fields = request.fields()
        if "publish" not in fields or "compete" not in fields:
            return Response.json(shapes.error("Bad Request: missing publish or compete", 400), 400)
        status = self._session.initialise(compete=fields["compete"] in (True, "true"))
        return Response.json(shapes.initialised(status))

    def _reauthenticate(self, _: Request) -> Response:
        self._session.initialise(compete=False)
        return Response.json({"message": "triggered"})

    def _validate(self, _: Request) -> Response:
        expires = self._session.sso_expires_milliseconds()
        body = shapes.sso_validation(self._session.authenticated_at, self._now(), expires)
        return Response.json(body)

    def _logout(self, _: Request) -> Response:
        self._session.logout()
        return Response.json({"status": True})

    def _brokerage_accounts(self, _: Request) -> Response:
        self._session.touch()
        if not self._session.peek().connected:
            # What the real gateway says while the brokerage session is closed.
            return Response.json(shapes.error("Bad Request: no bridge", 400), 400)
        return Response.json(shapes.brokerage_accounts(self._accounts, self._session_id()))

    def _portfolio_accounts(self, _: Request) -> Response:
        self._session.touch()
        return Response.json(shapes.portfolio_accounts(self._accounts))

    def _session_id(self) -> str:
        seed = f"{shapes.USER_NAME}-{self._session.authenticated_at}".encode()
        return hashlib.sha256(seed).hexdigest()[:32]


def _endpoint(path: str) -> str | None:
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            return path.removeprefix(prefix).rstrip("/")
    return None

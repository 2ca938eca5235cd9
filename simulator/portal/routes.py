"""What each call of the simulated Web API answers, over session, limits and faults.

Paths are those below `/v1/api` (and its older alias `/v1/portal`).  The simulated login page lives
where the real gateway has its own, `/sso/Login`, so that a link to it works in the sandbox.

The JSON bodies have the shapes of the API's public documents. Names are its own, misspellings
included (`collission`). Values that identify a machine or a user are made up.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from simulator.http import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulator.portal.data import PortalData
    from simulator.portal.session import PortalSession, RequestLimits, Status

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
USER_ID = 123456789
USER_NAME = "simuser"
MAC = "02:00:5E:10:00:01"
SERVER_INFO = {
    "serverName": "JifN19053",
    "serverVersion": "Build 10.37.1b, Jun 16, 2025 5:48:12 PM",
}


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
            return Response.json(error("Length Required", 411), 411)
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
            return Response.json(error(text, status), status)
        return handler(request)

    def _refusal(self, endpoint: str) -> Response | None:
        if self._limits.admit(endpoint):
            return Response.json(error("Too Many Requests", 429), 429)
        if self.failing:
            body = error("Internal Server Error", 500)
            return Response.json(body, 500)
        return None if self._session.logged_in else DENIED

    def _found(self, endpoint: str, request: Request) -> Response | None:
        answer = self._data.answer(endpoint, request) if self._data else None
        if answer is None:
            return None
        self._session.touch()
        if endpoint.startswith("/iserver") and not self._session.peek().connected:
            return Response.json(error("Bad Request: no bridge", 400), 400)
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
        return Response.json(error("Resource not found", 404), 404)

    def _status(self, _: Request) -> Response:
        return Response.json(authentication_status(self._session.status()))

    def _tickle(self, _: Request) -> Response:
        self._session.touch()
        expires = self._session.sso_expires_milliseconds()
        return Response.json(tickle(self._session.peek(), self._session_id(), expires))

    def _initialise(self, request: Request) -> Response:
        fields = request.fields()
        if "publish" not in fields or "compete" not in fields:
            return Response.json(error("Bad Request: missing publish or compete", 400), 400)
        status = self._session.initialise(compete=fields["compete"] in (True, "true"))
        return Response.json(initialised(status))

    def _reauthenticate(self, _: Request) -> Response:
        self._session.initialise(compete=False)
        return Response.json({"message": "triggered"})

    def _validate(self, _: Request) -> Response:
        expires = self._session.sso_expires_milliseconds()
        body = sso_validation(self._session.authenticated_at, self._now(), expires)
        return Response.json(body)

    def _logout(self, _: Request) -> Response:
        self._session.logout()
        return Response.json({"status": True})

    def _brokerage_accounts(self, _: Request) -> Response:
        self._session.touch()
        if not self._session.peek().connected:
            # What the real gateway says while the brokerage session is closed.
            return Response.json(error("Bad Request: no bridge", 400), 400)
        return Response.json(brokerage_accounts(self._accounts, self._session_id()))

    def _portfolio_accounts(self, _: Request) -> Response:
        self._session.touch()
        return Response.json(portfolio_accounts(self._accounts))

    def _session_id(self) -> str:
        seed = f"{USER_NAME}-{self._session.authenticated_at}".encode()
        return hashlib.sha256(seed).hexdigest()[:32]


def _endpoint(path: str) -> str | None:
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            return path.removeprefix(prefix).rstrip("/")
    return None


def authentication_status(status: Status) -> dict[str, Any]:
    """`/iserver/auth/status`: the flags at top level; no server is named while not connected."""
    return {
        "authenticated": status.authenticated,
        "competing": status.competing,
        "connected": status.connected,
        "established": status.established,
        "message": status.message,
        "MAC": MAC,
        "serverInfo": SERVER_INFO
        if status.connected
        else {"serverName": None, "serverVersion": None},
        "hardware_info": "5c1b0a2e|02:00:5E:10:00:01",
        "fail": "",
    }


def tickle(status: Status, session: str, expires_milliseconds: int) -> dict[str, Any]:
    """`/tickle`: the flags nested under `iserver.authStatus`, beside the SSO session's expiry."""
    return {
        "session": session,
        "ssoExpires": expires_milliseconds,
        "collission": status.competing,
        "userId": USER_ID,
        "hmds": {"error": "no bridge"},
        "iserver": {
            "authStatus": {
                "authenticated": status.authenticated,
                "competing": status.competing,
                "connected": status.connected,
                "established": status.established,
                "message": status.message,
                "MAC": MAC,
                "serverInfo": SERVER_INFO,
            }
        },
    }


def initialised(status: Status) -> dict[str, Any]:
    """`/iserver/auth/ssodh/init`: the flags after the attempt; `passed` is the SSO's part."""
    return {
        "passed": status.authenticated,
        "authenticated": status.authenticated and not status.competing,
        "connected": status.connected,
        "competing": status.competing,
        "established": status.established,
        "message": status.message,
        "MAC": MAC,
        "serverInfo": SERVER_INFO,
        "hardware_info": "5c1b0a2e|02:00:5E:10:00:01",
    }


def sso_validation(
    authenticated_at: float, now: float, expires_milliseconds: int
) -> dict[str, Any]:
    """`/sso/validate`: the SSO session alone; times in milliseconds since 1970."""
    return {
        "USER_ID": USER_ID,
        "USER_NAME": USER_NAME,
        "RESULT": True,
        "AUTH_TIME": int(authenticated_at * 1000),
        "SF_ENABLED": False,
        "IS_FREE_TRIAL": False,
        "CREDENTIAL": USER_NAME,
        "IP": "127.0.0.1",
        "EXPIRES": expires_milliseconds,
        "QUALIFIED_FOR_MOBILE_AUTH": None,
        "LANDING_APP": "UNIVERSAL",
        "IS_MASTER": False,
        "lastAccessed": int(now * 1000),
        "LOGIN_TYPE": 2,
        "PAPER_USER_NAME": USER_NAME,
        "features": {"env": "PROD", "wlms": True, "realtime": True, "bond": True},
        "region": "NJ",
    }


def brokerage_accounts(accounts: Sequence[str], session: str) -> dict[str, Any]:
    """`/iserver/accounts`: the accounts that may trade, and the one selected."""
    return {
        "accounts": list(accounts),
        "acctProps": {
            account: {
                "hasChildAccounts": False,
                "supportsCashQty": True,
                "supportsFractions": True,
                "liteUnderPro": False,
                "noFXConv": False,
                "isProp": False,
                "allowCustomerTime": False,
            }
            for account in accounts
        },
        "aliases": {account: account for account in accounts},
        "allowFeatures": {
            "showGFIS": True,
            "showEUCostReport": False,
            "allowFXConv": True,
            "allowFinancialLens": False,
            "allowMTA": True,
            "allowTypeAhead": True,
            "allowEventTrading": True,
            "snapshotRefreshTimeout": 30,
            "liteUser": False,
            "showWebNews": True,
            "research": True,
            "debugPnl": True,
            "showTaxOpt": True,
            "showImpactDashboard": True,
            "allowDynAccount": False,
            "allowCrypto": False,
            "allowedAssetTypes": "STK,CFD,OPT,FOP,WAR,FUT,BAG,CASH,IND,BOND,FUND",
        },
        "chartPeriods": {
            "STK": ["*"],
            "OPT": ["2h", "1d", "2d", "1w", "1m"],
            "FUT": ["*"],
            "CASH": ["*"],
            "IND": ["*"],
        },
        "groups": [],
        "profiles": [],
        "selectedAccount": accounts[0] if accounts else "",
        "serverInfo": SERVER_INFO,
        "sessionId": session,
        "isFT": False,
        "isPaper": bool(accounts) and accounts[0].startswith("D"),
    }


def portfolio_accounts(accounts: Sequence[str]) -> list[dict[str, Any]]:
    """`/portfolio/accounts`: needs the SSO session only."""
    return [
        {
            "id": account,
            "accountId": account,
            "accountVan": account,
            "accountTitle": "",
            "displayName": account,
            "accountAlias": None,
            "accountStatus": 1689800400000,
            "currency": "USD",
            "type": "DEMO" if account.startswith("D") else "INDIVIDUAL",
            "tradingType": "STKNOPT",
            "faclient": False,
            "clearingStatus": "O",
            "parent": {
                "mmc": [],
                "accountId": "",
                "isMParent": False,
                "isMChild": False,
                "isMultiplex": False,
            },
            "desc": account,
        }
        for account in accounts
    ]


def error(text: str, status_code: int) -> dict[str, Any]:
    """The error body of the Web API."""
    return {"error": text, "statusCode": status_code}

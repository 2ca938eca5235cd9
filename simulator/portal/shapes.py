"""JSON bodies of the Client Portal Web API, in the shapes of its public documents.

Names are the API's own, misspellings included (`collission`).  Values that identify a machine or a
user are made up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from simulator.portal.session import Status

USER_ID = 123456789
USER_NAME = "simuser"
MAC = "02:00:5E:10:00:01"
SERVER_INFO = {
    "serverName": "JifN19053",
    "serverVersion": "Build 10.37.1b, Jun 16, 2025 5:48:12 PM",
}


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

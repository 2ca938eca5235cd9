"""The login and the bridge's own health."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

MENDS = {
    "waiting-for-2fa": "approve on IBKR Mobile",
    "bad-credentials": "correct the user name or `secrets set tws-password`, then up",
    "account-locked": "wait as long as IBKR says, check the password in IBKR's web login, then up",
    "session-taken": "end the other session, or set gateway.existing_session to primary",
    "stopped": "./deploy.py up",
}


def check(evidence: Evidence) -> Iterator[Finding]:
    """Logged in, and able to place orders."""
    if evidence.status is None or evidence.observed is None or not evidence.observed.services:
        return
    login, health = evidence.status["login"], evidence.status["bridge"]
    if login == "logged-in":
        yield Finding("login", "ok", "the gateway is logged in")
    else:
        yield Finding("login", "fail", login.replace("-", " "), MENDS.get(login, "see the logs"))
    if not isinstance(health, dict) or "state" not in health:
        yield Finding("bridge health", "fail", "no answer", "./deploy.py logs bridge")
    elif health.get("connected"):
        yield Finding("bridge health", "ok", f"{health['status']}, {health['state']}")
    else:
        mend = health.get("nextAction") or "./deploy.py diagnose"
        yield Finding("bridge health", "fail", f"{health['status']}, {health['state']}", mend)

"""The login and the bridge's own health."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bridge.login import words
from infrastructure.doctor.model import Evidence, Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

MENDS = {
    words.WAITING_2FA: "approve the login, as IBKR asks for it",
    words.STOPPED: "./deploy.py up",
}


def check(evidence: Evidence) -> Iterator[Finding]:
    """Logged in, and able to place orders."""
    if evidence.status is None or evidence.observed is None or not evidence.observed.services:
        return
    health = evidence.status["bridge"]
    for login in evidence.status.get("logins") or [evidence.status["login"]]:
        yield _login(login)
    if not isinstance(health, dict) or "state" not in health:
        yield Finding("bridge health", "fail", "no answer", "./deploy.py logs bridge")
    elif health.get("connected"):
        yield Finding("bridge health", "ok", f"{health['status']}, {health['state']}")
        yield from (
            Finding("needs you", "fail", need["message"], need["nextStep"])
            for need in health.get("needs", ())
        )
    else:
        mend = health.get("nextAction") or "./deploy.py diagnose"
        yield Finding("bridge health", "fail", f"{health['status']}, {health['state']}", mend)


def _login(login: dict[str, Any]) -> Finding:
    state, code = login["state"], login["code"]
    if state == words.LOGGED_IN:
        return Finding("login", "ok", f"the gateway is logged in ({login['session']})")
    trouble = words.TROUBLES.get(code or "")
    mend = trouble.hint if trouble else MENDS.get(state, "./deploy.py logs gateway --explain")
    text = words.told(state, login["kind"], trouble, login["window"])
    return Finding("login", "fail", f"{state}: {text}" if trouble else state, mend)

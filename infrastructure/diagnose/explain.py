"""From the steps to sentences. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from infrastructure.diagnose.run import Diagnosis, Step, Way

STATES = {
    "waiting-for-gateway": "the gateway does not accept connections yet",
    "waiting-2fa": "the gateway waits for the second factor of its login",
    "connecting": "the bridge is connecting right now",
    "upstream-lost": "the gateway runs, but has lost its own line to IBKR",
    "stalled": "the gateway accepts connections but does not answer",
    "reconnecting": "the connection was lost and is being restored",
    "session-conflict": "the user is logged in elsewhere, or the client id is taken",
    "halted": "trading is halted by a person, or because of a journal that is not accepted",
    "starting": "the bridge has just started",
}


class Conclusion(NamedTuple):
    """Whether orders could be placed, and what a person would say."""

    fine: bool
    text: str


def conclusion(found: Diagnosis) -> Conclusion:
    """One answer for all ways."""
    outside = found.ways[0]
    inside = found.ways[1] if len(found.ways) > 1 else None
    if reaches(outside):
        return _bridge(outside)
    broken = next(step for step in outside.steps if not step.fine)
    if inside is None or not reaches(inside):
        if inside is None:
            return Conclusion(False, f"The bridge cannot be reached: {broken.text}.")
        hint = "./deploy.py status and ./deploy.py logs bridge show why."
        return Conclusion(False, f"The bridge does not answer, not even on its host. {hint}")
    said = _bridge(inside)
    return Conclusion(
        False,
        f"The bridge itself answers on its host, but not from outside ({broken.name}: "
        f"{broken.text}). {_outside(broken)} {said.text}",
    )


def reaches(way: Way) -> bool:
    """Whether the bridge answered at all."""
    ping = way.step("ping")
    return ping is not None and ping.fine


def _outside(broken: Step) -> str:
    if broken.name == "name":
        return "The name has no address: make a DNS record for it."
    if broken.name == "tcp":
        return "Nothing accepts on that port: is it open in the provider's firewall?"
    if broken.name == "tls":
        return "The certificate is not there or not trusted: ./deploy.py logs caddy."
    return "Caddy answers, but does not pass it on: ./deploy.py logs caddy."


def _bridge(way: Way) -> Conclusion:
    health = way.step("health")
    if health is None or not health.fine:
        if health is not None and health.status in (401, 403):
            text = "The bridge answers, but does not accept the key: ./deploy.py apikey list."
            return Conclusion(False, text)
        return Conclusion(False, "The bridge answers /ping but not /health: it is overloaded.")
    body: dict[str, Any] = health.body
    connect = way.step("connect")
    if not body.get("connected"):
        why = STATES.get(body.get("state", ""), f"its state is {body.get('state')}")
        tried = f" One attempt now failed: {connect.text}." if connect and not connect.fine else ""
        return Conclusion(False, f"Not connected: {why}.{tried} {body.get('nextAction') or ''}")
    executions = way.step("executions")
    if executions is not None and not executions.fine:
        return Conclusion(False, f"Connected, but executions fail: {executions.text}.")
    if body.get("state") == "halted":
        return Conclusion(False, f"Connected, but {STATES['halted']}.")
    ping = way.step("ping")
    took = f"{ping.seconds * 1000:.0f} ms" if ping else "?"
    mode = body.get("tradingMode")
    return Conclusion(True, f"All is well: connected ({mode}), an answer takes {took}.")

"""The stack that runs on the host: release, services, certificate, gateway, login, bridge."""

from __future__ import annotations

import base64
import datetime as dt
from typing import TYPE_CHECKING, Any

from bridge.login import states
from infrastructure.cli.output import megabytes
from infrastructure.doctor.evidence import Evidence, Finding
from infrastructure.health.probes import serves_orders
from infrastructure.release_files import SERVICES
from infrastructure.render.model import CONTAINER_UID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.apply.protocol.documents import LoginState
    from infrastructure.doctor.evidence import Check, State


TOO_LITTLE = 0.2
"""Of a certificate's life, as `bridge.alerts.host_watch` has it: some live for days only."""
INTERNAL = "Caddy Local Authority"


def read_certificate(text: str) -> dict[str, Any]:
    """`{"issuer", "notBefore", "notAfter": ISO 8601, "names"}` of a certificate (DER in base64)."""
    from cryptography import x509

    found = x509.load_der_x509_certificate(base64.b64decode(text))
    names: list[str] = []
    for extension in found.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            names = [str(name.value) for name in extension.value]
    return {
        "issuer": found.issuer.rfc4514_string(),
        "notBefore": found.not_valid_before_utc.isoformat().replace("+00:00", "Z"),
        "notAfter": found.not_valid_after_utc.isoformat().replace("+00:00", "Z"),
        "names": names,
    }


def certificate(evidence: Evidence) -> Iterator[Finding]:
    """Who signed it, and how long it is valid."""
    if evidence.facts is None or evidence.target is None or not evidence.facts.engine["services"]:
        return
    text = evidence.facts.certificate
    if text is None:
        yield Finding("certificate", "fail", "Caddy does not speak TLS", "./deploy.py logs caddy")
        return
    found = read_certificate(text)
    ends = dt.datetime.fromisoformat(found["notAfter"])
    left = ends - dt.datetime.now(dt.UTC)
    life = ends - dt.datetime.fromisoformat(found["notBefore"])
    shown = f"for {', '.join(found['names'])} by {found['issuer']}, until {found['notAfter'][:10]}"
    internal = INTERNAL in found["issuer"]
    if evidence.target.stack.caddy.domain and internal:
        reached = evidence.reached and all(evidence.reached.values())
        mend = (
            "ACME: 80 and 443 answer, so its authority refuses: ./deploy.py logs caddy says why"
            if reached
            else "does the domain lead to the host, and are ports 80 and 443 open to the world?"
        )
        yield Finding("certificate", "warn", f"still the internal one: {shown}", mend)
    elif left < dt.timedelta(0):
        yield Finding("certificate", "fail", f"expired: {shown}", "./deploy.py logs caddy")
    elif left < life * TOO_LITTLE:
        yield Finding("certificate", "warn", f"not renewed: {shown}", "./deploy.py logs caddy")
    else:
        yield Finding("certificate", "ok", shown)


def outside(evidence: Evidence) -> Iterator[Finding]:
    """Whether a request that comes to Caddy reaches the bridge."""
    if evidence.status is None or evidence.status.caddy is None:
        return
    if why := evidence.status.caddy:
        text = f"Caddy passes nothing on to the bridge: {why}"
        yield Finding("outside", "fail", text, "./deploy.py logs caddy; ./deploy.py restart caddy")
    else:
        yield Finding("outside", "ok", "Caddy passes requests on to the bridge")


def drift(evidence: Evidence) -> Iterator[Finding]:
    """The release that serves, services that differ, a deploy that did not end."""
    if evidence.facts is None or evidence.observed is None:
        return
    if to := evidence.facts.moved:  # `up` is refused here
        text = f"the stack was moved to {to}"
        yield Finding("release", "fail", text, "change the host in stack.yaml")
        return
    if evidence.facts.pending:
        yield Finding("release", "fail", "an earlier deploy did not end", "./deploy.py up ends it")
    if evidence.observed.release is None:
        yield Finding("release", "warn", "nothing is deployed", "./deploy.py up")
    elif evidence.plan is None:
        text = f"{evidence.observed.release} serves, not compared with stack.yaml"
        for one in evidence.unrendered.problems() if evidence.unrendered else ():
            yield Finding("release", "warn", f"{text}: {one.message}", one.hint)
    elif evidence.plan.changed:
        changed = [one.service for one in evidence.plan.changes if one.action != "unchanged"]
        text = f"differs from stack.yaml: {', '.join(changed) or 'files only'}"
        yield Finding("release", "warn", text, "./deploy.py plan shows how, up applies it")
    else:
        yield Finding("release", "ok", f"{evidence.observed.release}, as stack.yaml says")


def services(evidence: Evidence) -> Iterator[Finding]:
    """Each runs, is healthy, and was not restarted by the engine."""
    if evidence.facts is None or evidence.observed is None:
        return
    known = evidence.facts.engine["services"]
    for name, one in evidence.observed.services.items():
        restarts = known.get(name, {}).get("restarts", 0)
        log = f"./deploy.py logs {name} shows why"
        if one.state != "running" or one.health == "unhealthy":
            health = f", {one.health}" if one.health != "none" else ""
            # A worker is its owner's: the stack serves without it.
            state: State = "fail" if name in SERVICES else "warn"
            yield Finding(name, state, f"{one.state}{health}", f"{log}; ./deploy.py up starts it")
        elif restarts:
            yield Finding(name, "warn", f"running, but ended {restarts} times", log)
        else:
            yield Finding(name, "ok", f"{one.state} since {one.since[:19]}")


def image(evidence: Evidence) -> Iterator[Finding]:
    """By digest where one is pinned; a tag is told with its digest."""
    if evidence.facts is None or evidence.target is None or evidence.sandbox:
        return
    service = evidence.facts.engine["services"].get("gateway")
    if service is None:
        return
    wanted, found = evidence.target.stack.gateway.image, service["digests"]
    shown = found[0].rpartition("@")[2][:19] if found else "of no registry"
    if "@" not in wanted:
        mend = "pin it: gateway.image with @sha256:…, so that a pull changes nothing by itself"
        yield Finding("image", "ok", f"{wanted} ({shown}); a tag can move", mend)
    elif any(one.endswith(wanted.rpartition("@")[2]) for one in found):
        yield Finding("image", "ok", "the pinned digest runs")
    else:
        yield Finding("image", "fail", f"another image runs: {shown}", "./deploy.py up")


def upgrades(evidence: Evidence) -> Iterator[Finding]:
    """Whether a tag stands for something newer now; a registry that is silent is no fault here."""
    for one in evidence.newer:
        if one.found.digest and one.runs.digest not in ("", one.found.digest):
            text = f"{one.found.name} stands for a newer image than {one.service} runs"
            mend = f"./deploy.py upgrade {one.service}"
            if one.refused:
                text, mend = f"{text}, which did not become healthy here", f"{mend} --again"
            yield Finding("upgrade", "warn", text, mend)


def jvm(evidence: Evidence) -> Iterator[Finding]:
    """All that were wanted, and how much memory the JVM has."""
    if evidence.facts is None or evidence.sandbox:
        return
    if "gateway" not in evidence.facts.engine["services"]:
        return
    gateway = evidence.facts.gateway
    if gateway["flags"] is None:
        mend = "./deploy.py logs gateway shows why; ./deploy.py up starts it"
        yield Finding("jvm", "fail", "the gateway's JVM does not run", mend)
    elif gateway["missing"]:
        text = f"flags did not arrive: {', '.join(gateway['missing'])}"
        yield Finding("jvm", "fail", text, "./deploy.py restart gateway --cold, then up")
    else:
        heap = next((flag for flag in gateway["flags"] if flag.startswith("-Xmx")), "-Xmx?")
        resident = megabytes(gateway["resident"])
        yield Finding("jvm", "ok", f"every flag arrived; heap {heap[4:]}, {resident} resident")


def passkey(evidence: Evidence) -> Iterator[Finding]:
    """Whether a login that asks for a passkey could end on this host."""
    if evidence.facts is None or evidence.target is None or evidence.sandbox:
        return
    if not evidence.target.stack.gateway.two_factor.asked:
        return
    machine, lacks = evidence.facts.host["machine"], evidence.facts.gateway["browser"]
    why = ""
    if machine in ("aarch64", "arm64"):
        why = f"IBKR has no browser for it on {machine}"
    elif lacks:
        why = f"the gateway's image lacks {', '.join(lacks)} for IBKR's browser"
    if why:
        mend = "keep IBKR Mobile or an authenticator app as this user's second factor"
        yield Finding("passkey", "warn", f"a login with a passkey could not end here: {why}", mend)
    elif lacks is not None:
        yield Finding("passkey", "ok", "the image has what a login with a passkey wants")


def settings(evidence: Evidence) -> Iterator[Finding]:
    """Its owner, the time zone, and that only this machine is trusted."""
    if evidence.facts is None or evidence.target is None or evidence.sandbox:
        return
    found = evidence.facts.settings
    if found["owner"] is None:
        return
    if found["owner"] != CONTAINER_UID:
        text = f"the settings folder belongs to user {found['owner']}, not {CONTAINER_UID}"
        yield Finding("settings", "fail", text, "./deploy.py up gives it to the right one")
    gateway = evidence.target.stack.gateway
    # The folder of another mode stays, and the start hook mends only what is used.
    used = ("tws_live", "tws_paper") if gateway.mode == "both" else ("tws",)
    texts = {name: text for name, text in found["files"].items() if name in used}
    for name, text in texts.items():
        yield from _settings_file(name, values(text), gateway.time_zone)
    if not texts:
        yield Finding("settings", "warn", "there is no jts.ini yet", "it comes with a first start")


def _settings_file(name: str, found: dict[str, str], zone: str) -> Iterator[Finding]:
    if found.get("TimeZone") != zone:
        text = f"{name}/jts.ini has time zone {found.get('TimeZone')!r}, wanted is {zone}"
        yield Finding("settings", "fail", text, "./deploy.py restart gateway --cold mends it")
    elif found.get("TrustedIPs", "127.0.0.1") != "127.0.0.1":
        text = f"{name}/jts.ini trusts {found['TrustedIPs']}"
        yield Finding("settings", "warn", text, "only 127.0.0.1 needs to be trusted")
    else:
        yield Finding("settings", "ok", f"{name}/jts.ini is used, time zone {zone}")


def values(text: str) -> dict[str, str]:
    """`Name=value` lines, whatever their section."""
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}


def secret_modes(evidence: Evidence) -> Iterator[Finding]:
    """Checks that each secret's file can be opened by its only reader."""
    if evidence.facts is None or not evidence.facts.releases:
        return
    loose = evidence.facts.secrets
    if loose:
        text = f"others can read {', '.join(loose[:3])}"
        yield Finding("secret modes", "fail", text, "chmod 400 them, and change the secrets")
    else:
        yield Finding("secret modes", "ok", "only their reader opens the secrets on the host")


CHECKLIST = (
    "API: Account Management > Settings > Trading Platform allows API access for this user",
    "second factor: IBKR Mobile (IB Key) is enrolled on the phone that will approve",
    "paper: the paper account exists and has been logged into once, if mode is paper or both",
    "nobody else uses this user: an account's user has one session",
)
"""What only a person sees, at IBKR: to be ticked by hand before the first login."""
LOGIN_MENDS = {
    states.WAITING_2FA: "approve the login, as IBKR asks for it",
    states.STOPPED: "./deploy.py up",
}


def bridge(evidence: Evidence) -> Iterator[Finding]:
    """Logged in, and able to place orders."""
    if evidence.status is None or evidence.observed is None or not evidence.observed.services:
        return
    health = evidence.status.bridge
    for login in evidence.status.logins:
        yield _login(login)
    if not isinstance(health, dict) or "state" not in health:
        yield Finding("bridge health", "fail", "no answer", "./deploy.py logs bridge")
    elif serves_orders(health):
        yield Finding("bridge health", "ok", f"{health['status']}, {health['state']}")
        yield from (
            Finding("needs you", "fail", need["message"], need["nextStep"])
            for need in health.get("needs", ())
        )
    else:
        mend = health.get("nextAction") or "./deploy.py diagnose"
        yield Finding("bridge health", "fail", f"{health['status']}, {health['state']}", mend)


def _login(login: LoginState) -> Finding:
    state, code = login["state"], login["code"]
    if state == states.LOGGED_IN:
        return Finding("login", "ok", f"the gateway is logged in ({login['session']})")
    trouble = states.TROUBLES.get(code or "")
    if state == states.WAITING_2FA and login["kind"] == states.CODE and trouble is None:
        return Finding("login", "warn", f"{state}: {states.TYPED}", "ask again in a minute")
    mend = trouble.hint if trouble else LOGIN_MENDS.get(state, "./deploy.py logs gateway --explain")
    text = states.told(state, login["kind"], trouble, login["window"])
    return Finding("login", "fail", f"{state}: {text}" if trouble else state, mend)


STACK_CHECKS: tuple[Check, ...] = (
    certificate,
    outside,
    drift,
    services,
    image,
    upgrades,
    jvm,
    passkey,
    settings,
    secret_modes,
    bridge,
)
"""In the order in which they are shown."""

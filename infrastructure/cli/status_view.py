"""What `status` shows: what runs on the host, and whether orders could be placed."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Any

from infrastructure import kept
from infrastructure.errors import UsageError
from infrastructure.health.probes import serves_orders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.apply.protocol.documents import BackupFacts
    from infrastructure.apply.protocol.events import Facts, Status
    from infrastructure.apply.session import Session
    from infrastructure.cli.settings import Settings
    from infrastructure.config import Target
    from infrastructure.plan.observed import Observed

LOGGED_IN = "logged-in"
_KINDS = {
    "auto-restart": "auto-restart, keeps the session",
    "auto-logoff": "log-off and new login",
    "cold": "cold restart, a full login",
}


def show(current: Settings) -> None:
    """One picture, printed."""
    from infrastructure.cli.host import connected

    target = current.target()
    with connected(current, target) as session:
        found = look(target, session)
    current.out.document(found)
    for line in lines(found):
        current.out.row(line)


def look(target: Target, session: Session) -> dict[str, Any]:
    """One picture of the stack."""
    from infrastructure.cli.host import undecided, with_controller

    observed = session.open()
    answer = session.status()
    if undecided(target):  # the restarts are its
        with contextlib.suppress(UsageError):  # it cannot be deployed; it can be looked at
            target = with_controller(target, session)
    return {**document(target, observed, answer), **more(target, session.facts(), answer)}


def more(target: Target, facts: Facts, answer: Status) -> dict[str, Any]:
    """What goes beyond the contract's shape: `gateway`, `host`, `certificate`, and times."""
    from infrastructure.config.schedule import calendar

    bridge = answer.bridge if isinstance(answer.bridge, dict) else {}
    gateway, host = facts.gateway, facts.host
    due = calendar(target).following(dt.datetime.now(dt.UTC))
    return {
        "gateway": {
            "flags": gateway["flags"],
            "missingFlags": gateway["missing"],
            "residentKb": gateway["resident"],
            "api": gateway["api"],
        },
        "host": {
            "memoryKb": host["memory"],
            "swapKb": host["swap"],
            "diskKb": host["disk"],
            "oomKills": host["oomKills"],
        },
        "backup": facts.backup,
        **({"movedTo": facts.moved} if facts.moved else {}),
        "certificate": _certificate(facts.certificate) if facts.certificate else None,
        "lastDisconnect": {
            "at": bridge.get("lastDisconnectAt"),
            "reason": bridge.get("lastDisconnectReason"),
        },
        "nextRestart": due and {"at": _utc(due.at), "kind": due.kind, "until": _utc(due.until)},
    }


def _certificate(text: str) -> Any:
    """What the certificate says; its reader takes longer to load than the rest of a look."""

    def anew() -> dict[str, Any]:
        from infrastructure.doctor.stack_checks import read_certificate

        return read_certificate(text)

    return kept.once("certificate", [text.encode()], anew)


def document(target: Target, observed: Observed, answer: Status) -> dict[str, Any]:
    """The shape of the contract."""
    from infrastructure.release_files import SERVICES
    from infrastructure.render.caddy import public

    services = [
        {
            "name": service.name,
            "state": service.state,
            "health": service.health,
            "since": service.since,
            "image": service.image,
            **({} if service.name in SERVICES else {"worker": True}),
        }
        for service in observed.services.values()
    ]
    own = [one for one in services if "worker" not in one]
    up = all(one["state"] == "running" and one["health"] != "unhealthy" for one in own)
    bridge = answer.bridge
    logged_in = answer.login["state"] == LOGGED_IN
    serves = serves_orders(bridge) and not answer.caddy
    return {
        "target": target.name,
        "release": observed.release,
        "healthy": bool(own) and up and logged_in and serves,
        "login": answer.login,
        **({"logins": answer.logins} if len(answer.logins) > 1 else {}),
        "services": services,
        "bridge": bridge,
        **({} if answer.caddy is None else {"caddy": _reached(answer.caddy)}),
        "urls": {"page": f"{public(target)}/", "api": public(target)},
    }


def _reached(why: str) -> dict[str, Any]:
    return {"serves": not why, "said": why}


def login_words(found: dict[str, Any]) -> str:
    """The login's state, and what it waits for; both, where there are two."""
    logins = found.get("logins") or [found["login"]]
    return ", ".join(_login_words(one, named=len(logins) > 1) for one in logins)


def _login_words(login: dict[str, Any], *, named: bool) -> str:
    details = [login[name] for name in ("kind", "why", "window", "code") if login.get(name)]
    text = login["state"] + (f" ({', '.join(dict.fromkeys(details))})" if details else "")
    return f"{login['session']} {text}" if named else text


def lines(found: dict[str, Any]) -> list[str]:
    """The same for people."""
    if not found["services"] and found.get("movedTo"):
        to = found["movedTo"]
        return [f"{found['target']}: was moved to {to}; change the host in stack.yaml"]
    if not found["services"]:
        return [f"{found['target']}: nothing is deployed"]
    word = "healthy" if found["healthy"] else "NOT healthy"
    shown = [f"{found['target']}: {word}, release {found['release']}, login {login_words(found)}"]
    width = max(len(one["name"]) for one in found["services"])
    for one in found["services"]:
        health = "" if one["health"] == "none" else f" ({one['health']})"
        shown.append(
            f"  {one['name']:<{width}}  {one['state']}{health} since {one['since'][:19]}  "
            f"{one['image']}{' (worker)' if one.get('worker') else ''}"
        )
    shown += [f"  {name:<11} {text}" for name, text in _details(found) if text]
    return [*shown, f"  {found['urls']['page']}"]


def _details(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    from infrastructure.cli.output import megabytes

    bridge = found["bridge"] if isinstance(found["bridge"], dict) else {}
    if bridge.get("state"):
        upstream = "up" if bridge.get("upstreamConnected") else "down"
        yield "connection", f"{bridge['status']}, {bridge['state']}; upstream {upstream}"
    elif any(one["name"] == "bridge" for one in found["services"]):
        said = " ".join(str(bridge[part]) for part in ("detail", "nextStep") if bridge.get(part))
        yield "bridge", said or "does not answer: ./deploy.py logs bridge"
    if why := found.get("caddy", {}).get("said"):
        yield "Caddy", f"passes nothing on to the bridge: {why}; ./deploy.py logs caddy"
    for need in bridge.get("needs", ()):
        yield "needs you", f"{need['message']}: {need['nextStep']}"
    yield "next step", bridge.get("nextAction") or ""
    yield from _gateway(found.get("gateway"))
    last = found.get("lastDisconnect") or {}
    if last.get("at"):
        yield "last lost", f"{last['at'][:19]}: {last['reason'] or 'no reason given'}"
    if found.get("nextRestart"):
        at = dt.datetime.fromisoformat(found["nextRestart"]["at"]).astimezone()
        kind = _KINDS[found["nextRestart"]["kind"]]
        yield "restart", f"next planned {at:%a %Y-%m-%d %H:%M} here ({kind})"
    if found.get("certificate"):
        one = found["certificate"]
        yield "certificate", f"{', '.join(one['names'])} until {one['notAfter'][:16]}Z"
    if found.get("backup"):
        yield "backup", backup_words(found["backup"])
    if found.get("host"):
        memory, swap, disk = (found["host"][name] for name in ("memoryKb", "swapKb", "diskKb"))
        used = swap["total"] - swap["free"]
        yield (
            "memory",
            f"{megabytes(memory['available'])} of {megabytes(memory['total'])} available",
        )
        yield "swap", f"{megabytes(used)} of {megabytes(swap['total'])} used"
        yield "disk", f"{megabytes(disk['free'])} of {megabytes(disk['total'])} free"


def backup_words(found: BackupFacts) -> str:
    """When the last one went well, and what became of a later one."""
    at, every = found["succeededAt"], found["every"] / 3600
    last = f"last {_moment(at)}" if at else "none yet"
    failed = f"; failed {_moment(found['failedAt'])}: {found['failure']}"
    late = failed if found["failedAt"] else ""
    return f"{last}, every {every:g} hours to {found['to']}{late}"


def _moment(seconds: float | None) -> str:
    return f"{dt.datetime.fromtimestamp(seconds or 0, dt.UTC):%Y-%m-%d %H:%M}Z"


def _utc(moment: dt.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _gateway(gateway: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    from infrastructure.cli.output import megabytes

    if gateway is None:
        return
    yield "API", "answers" if gateway["api"] else "does not answer"
    if gateway["flags"]:
        resident = megabytes(gateway["residentKb"])
        yield "JVM", f"{resident} resident; {' '.join(gateway['flags'])}"
    if gateway["missingFlags"]:
        yield "JVM", f"flags that did not arrive: {', '.join(gateway['missingFlags'])}"

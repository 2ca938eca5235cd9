"""What should be and what is, compared service by service: a plan, with the cause of each change.

Pure: `compute(target, release, observed)`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infrastructure.plan import causes
from infrastructure.plan.forecast import KEPT, Forecast, of_change
from infrastructure.release_files import COMPOSE_FILE, RELEASE_FILE
from infrastructure.runtime.containers import Action, actions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.target import Target
    from infrastructure.plan.observed import Observed, ObservedService
    from infrastructure.render.model import Release


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one service, and why.

    `cause` is one line for a person. `diff` is a unified diff of the text files behind it; for
    a secret only the line `secret NAME changed`.
    """

    service: str
    action: Action
    cause: str
    diff: str = ""
    fresh_login: bool = False

    def as_json(self) -> dict[str, str]:
        """The shape of the contract."""
        return {"service": self.service, "action": self.action, "cause": self.cause}


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change, and what it costs."""

    release: str
    previous: str | None
    changes: tuple[Change, ...]
    forecast: Forecast = KEPT
    file_changes: tuple[str, ...] = ()
    """Changed files that no running service reads, such as the stored configuration."""

    @property
    def changed(self) -> bool:
        """Whether applying it would do anything."""
        return bool(self.file_changes) or any(c.action != "unchanged" for c in self.changes)

    def as_json(self) -> dict[str, object]:
        """The shape of the contract, section 2."""
        return {
            "changed": self.changed,
            "twoFactorExpected": self.forecast.expected,
            "twoFactorReason": self.forecast.reason,
            "release": self.release,
            "changes": [change.as_json() for change in self.changes],
        }


def compute(target: Target, release: Release, observed: Observed) -> Plan:
    """The plan; pure. An empty `Observed` gives a plan that creates everything."""
    wanted = {service.name: service.hash for service in release.services}
    found = actions(wanted, observed.services)
    changes = tuple(_change(name, action, release, observed) for name, action in found.items())
    new = release.file(release.definition).content
    forecast = _forecast(target, observed, changes, causes.old(release.definition, observed), new)
    loose = causes.loose_files(release, observed)
    return Plan(release.id, observed.release, changes, forecast, tuple(loose))


def upgraded(
    target: Target, release: Release, observed: Observed, newer: Mapping[str, str]
) -> Plan:
    """The plan that only exchanges images: `newer` maps services to why; all else stays."""
    changes = tuple(
        Change(one.name, "update", newer[one.name], "", one.holds_session)
        if one.name in newer
        else Change(one.name, "unchanged", "left alone (upgrade)")
        for one in release.services
    )
    new = release.file(release.definition).content
    forecast = _forecast(target, observed, changes, causes.old(release.definition, observed), new)
    return Plan(release.id, observed.release, changes, forecast)


def back_to(
    target: Target, observed: Observed, release: str, found: Mapping[str, Action], definition: str
) -> Plan:
    """The plan of a rollback: an earlier release serves again, as `actions` found on the host.

    `definition` is the text of its services' definition.
    """
    cause = f"as in release {release}"
    now, then = causes.old(COMPOSE_FILE, observed), definition.encode()
    other = causes.other_login(now, then) if "gateway" in found else ""
    changes = tuple(
        Change(name, action, cause, "", action != "remove" and name == "gateway")
        if name != "gateway" or not other
        else Change(name, action, f"{cause}: {other}", "", action != "remove")
        for name, action in found.items()
    )
    forecast = _forecast(_as_it_was(target, then), observed, changes, now, then)
    files = (RELEASE_FILE,) if release != observed.release else ()
    return Plan(release, observed.release, changes, forecast, files)


def _as_it_was(target: Target, definition: bytes) -> Target:
    """The target with the mode of an earlier release; of its second factor nothing is known then.

    stack.yaml may say another mode by now.
    """
    gateway = target.stack.gateway
    mode = causes.variables("gateway", definition).get("TRADING_MODE", gateway.mode)
    if mode == gateway.mode:
        return target
    factor = gateway.two_factor.model_copy(update={"asked": True, "totp": None})
    changed = gateway.model_copy(update={"mode": mode, "two_factor": factor})
    return dataclasses.replace(target, stack=target.stack.model_copy(update={"gateway": changed}))


def _forecast(
    target: Target, observed: Observed, changes: tuple[Change, ...], old: bytes, new: bytes
) -> Forecast:
    login = next((change for change in changes if change.fresh_login), None)
    if login is None:
        return KEPT
    before: Mapping[str, str] = {}
    after: Mapping[str, str] = {}
    if login.action == "update":
        before, after = causes.variables(login.service, old), causes.variables(login.service, new)
    forecast = of_change(target, observed, login.action, before, after)
    return forecast if target.stack.runtime == "sandbox" else forecast.at(observed.time)


def _change(name: str, action: Action, release: Release, observed: Observed) -> Change:
    if action == "remove":
        return Change(name, action, "it is no longer part of the stack")
    service, running = release.service(name), observed.services.get(name)
    if running is None:
        return Change(name, action, "it is not there yet", "", service.holds_session)
    if action == "update":
        cause, diff = causes.explain(service, release, observed)
        return Change(name, action, cause, diff, service.holds_session)
    if action == "restart":
        return Change(name, action, _stopped(running), "", service.holds_session)
    return Change(name, action, f"it is as configured, {running.state}")


def _stopped(running: ObservedService) -> str:
    if running.exit_code is None:
        return f"it is {running.state}"
    return f"it is {running.state} (exit code {running.exit_code})"

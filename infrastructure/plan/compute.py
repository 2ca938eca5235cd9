"""What should be and what is, compared service by service: a plan, with the cause of each change.

Pure: `compute(desired(target, release), observed)`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infrastructure.plan import causes
from infrastructure.release_files import RELEASE_FILE
from infrastructure.runtime.containers import Action, actions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.models import Target
    from infrastructure.render.model import Release


@dataclass(frozen=True, slots=True)
class Desired:
    """What should be on the host.

    `two_factor` is what the configuration says about a fresh login: whether a person is asked,
    and why. It is only used when the plan really needs a fresh login.
    """

    release: Release
    two_factor: bool
    two_factor_reason: str


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """A file of the current release as it lies on the host.

    `content` is None for secrets and for what is too big to be fetched for a diff.
    """

    digest: str
    content: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class ObservedService:
    """A container of the stack as the engine (or the sandbox's supervisor) reports it.

    `state`: created, running, restarting, paused, exited, dead. `health`: starting, healthy,
    unhealthy, none. `since` is ISO 8601 UTC. `hash` is the label's value, "" when there is none.
    """

    name: str
    state: str
    health: str = "none"
    image: str = ""
    image_id: str = ""
    hash: str = ""
    since: str = ""
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class Observed:
    """What is on the host now. All empty: nothing was ever deployed there."""

    release: str | None = None
    files: Mapping[str, ObservedFile] = field(default_factory=dict)
    services: Mapping[str, ObservedService] = field(default_factory=dict)


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
    two_factor_expected: bool = False
    two_factor_reason: str = ""
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
            "twoFactorExpected": self.two_factor_expected,
            "twoFactorReason": self.two_factor_reason,
            "release": self.release,
            "changes": [change.as_json() for change in self.changes],
        }


_KEPT = "the gateway keeps running, and its session"


def desired(target: Target, release: Release) -> Desired:
    """What should be on the host."""
    return Desired(release, *two_factor(target))


def two_factor(target: Target) -> tuple[bool, str]:
    """Whether a fresh login asks for approval, and why."""
    gateway = target.stack.gateway
    if target.stack.runtime == "sandbox":
        return False, "the sandbox logs in to nothing"
    if not gateway.two_factor.asked:
        return False, "gateway.two_factor.asked is false: this user's logins are not asked"
    if gateway.two_factor.totp is not None:
        return False, "gangway types the code (gateway.two_factor.totp)"
    if gateway.mode == "both":
        return True, "the gateway logs in afresh, live and paper: approve both on IBKR Mobile"
    return True, f"the gateway logs in afresh ({gateway.mode}): approve on IBKR Mobile"


def compute(desired: Desired, observed: Observed) -> Plan:
    """The plan; pure. An empty `Observed` gives a plan that creates everything."""
    wanted = {service.name: service.hash for service in desired.release.services}
    found = actions(wanted, observed.services)
    changes = [_change(name, action, desired, observed) for name, action in found.items()]
    login = any(change.fresh_login for change in changes)
    loose = causes.loose_files(desired.release, observed)
    return Plan(
        release=desired.release.id,
        previous=observed.release,
        changes=tuple(changes),
        two_factor_expected=login and desired.two_factor,
        two_factor_reason=desired.two_factor_reason if login else _KEPT,
        file_changes=tuple(loose),
    )


def back_to(
    target: Target, release: str, previous: str | None, found: Mapping[str, Action]
) -> Plan:
    """The plan of a rollback: an earlier release serves again, as `actions` found on the host."""
    cause = f"as in release {release}"
    changes = tuple(
        Change(name, action, cause, "", action != "remove" and name == "gateway")
        for name, action in found.items()
    )
    login = any(change.fresh_login for change in changes)
    expected, reason = two_factor(target)
    files = (RELEASE_FILE,) if release != previous else ()
    return Plan(release, previous, changes, login and expected, reason if login else _KEPT, files)


def _change(name: str, action: Action, desired: Desired, observed: Observed) -> Change:
    if action == "remove":
        return Change(name, action, "it is no longer part of the stack")
    service, running = desired.release.service(name), observed.services.get(name)
    if running is None:
        return Change(name, action, "it is not there yet", "", service.holds_session)
    if action == "update":
        cause, diff = causes.explain(service, desired.release, observed)
        return Change(name, action, cause, diff, service.holds_session)
    if action == "restart":
        return Change(name, action, _stopped(running), "", service.holds_session)
    return Change(name, action, f"it is as configured, {running.state}")


def _stopped(running: ObservedService) -> str:
    if running.exit_code is None:
        return f"it is {running.state}"
    return f"it is {running.state} (exit code {running.exit_code})"

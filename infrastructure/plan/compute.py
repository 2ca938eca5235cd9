"""Compares what should be with what is: service by service, with the cause."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from infrastructure.plan import causes
from infrastructure.plan.model import Change, Plan, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from infrastructure.plan.model import Desired, Observed, ObservedService
    from infrastructure.render.model import Service

_STOPPED = {"exited", "dead", "created", "paused"}


def compute(desired: Desired, observed: Observed) -> Plan:
    """The plan; pure. An empty `Observed` gives a plan that creates everything."""
    changes = [_change(service, desired, observed) for service in desired.release.services]
    wanted = {service.name for service in desired.release.services}
    changes += [
        Change(name, "remove", "it is no longer part of the stack")
        for name in observed.services
        if name not in wanted
    ]
    login = any(change.fresh_login for change in changes)
    loose = causes.loose_files(desired.release, observed)
    plan = Plan(
        release=desired.release.id,
        previous=observed.release,
        changes=tuple(changes),
        two_factor_expected=login and desired.two_factor,
        two_factor_reason=_two_factor_reason(desired, login),
        file_changes=tuple(loose),
    )
    if not plan.changed:
        return plan
    steps = [Step("push", "", f"release {plan.release}"), *_steps(desired, observed, changes)]
    return dataclasses.replace(plan, steps=tuple(steps))


def _two_factor_reason(desired: Desired, login: bool) -> str:
    if not login:
        return "the gateway keeps running, and its session"
    return desired.two_factor_reason


def _change(service: Service, desired: Desired, observed: Observed) -> Change:
    running = observed.services.get(service.name)
    if running is None:
        return Change(service.name, "create", "it is not there yet", "", service.holds_session)
    if running.hash != service.hash:
        cause, diff = causes.explain(service, desired.release, observed)
        return Change(service.name, "update", cause, diff, service.holds_session)
    if running.state in _STOPPED:
        return Change(service.name, "restart", _stopped(running), "", service.holds_session)
    return Change(service.name, "unchanged", f"it is as configured, {running.state}")


def _stopped(running: ObservedService) -> str:
    if running.exit_code is None:
        return f"it is {running.state}"
    return f"it is {running.state} (exit code {running.exit_code})"


def _steps(desired: Desired, observed: Observed, changes: list[Change]) -> Iterator[Step]:
    """Images first, so that the time without the old container is short; removals first of all."""
    pending = [change for change in changes if change.action != "unchanged"]
    for change in pending:
        if change.action == "remove":
            yield Step("remove", change.service, change.cause)
    for change in pending:
        if change.action in {"create", "update"}:
            service = desired.release.service(change.service)
            old = observed.services.get(change.service)
            if old is None or old.image != service.image:
                yield Step("build" if service.builds else "pull", service.name, service.image)
    for change in pending:
        if change.action == "restart":
            yield Step("start", change.service, change.cause)
        elif change.action != "remove":
            if change.action == "update":
                yield Step("stop", change.service, "stop-first: an account has one session")
            yield Step("start", change.service, change.cause)
            yield Step("wait", change.service, "until it is healthy")

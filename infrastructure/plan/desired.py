"""The desired state of a target, and whether a fresh login will need a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.plan.model import Desired

if TYPE_CHECKING:
    from infrastructure.config.models import Target
    from infrastructure.render.model import Release


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
    if gateway.mode == "both":
        return True, "the gateway logs in afresh, live and paper: approve both on IBKR Mobile"
    return True, f"the gateway logs in afresh ({gateway.mode}): approve on IBKR Mobile"

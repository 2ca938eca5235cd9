"""Every check, in the order in which they are shown: from here to the far end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infrastructure.doctor import (
    bridge,
    certificate,
    clock,
    config,
    connection,
    disk,
    dns,
    docker,
    drift,
    image,
    jvm,
    memory,
    oom,
    ports,
    secret_modes,
    services,
    settings,
    tools,
)

if TYPE_CHECKING:
    from infrastructure.doctor.model import Check, Evidence, Finding

CHECKS: tuple[Check, ...] = tuple(
    module.check
    for module in (
        config,
        tools,
        connection,
        docker,
        disk,
        memory,
        oom,
        clock,
        dns,
        ports,
        certificate,
        drift,
        services,
        image,
        jvm,
        settings,
        secret_modes,
        bridge,
    )
)


def run(evidence: Evidence) -> list[Finding]:
    """What every check finds."""
    return [finding for check in CHECKS for finding in check(evidence)]

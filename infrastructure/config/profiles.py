"""What a machine of each size can carry: memory and swap per service, in MB."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from infrastructure.config.models import Stack


class Budget(NamedTuple):
    """Memory limit of a container, and its limit of memory plus swap."""

    memory: int
    with_swap: int


class Profile(NamedTuple):
    """A machine's size, and how it is shared out."""

    memory: int
    swap: int
    heap: int
    gateway: Budget
    bridge: Budget
    caddy: Budget
    portal: Budget


PROFILES: dict[str, Profile] = {
    "e2-micro": Profile(
        1024, 1024, 256, Budget(640, 1536), Budget(128, 320), Budget(96, 192), Budget(256, 768)
    ),
    "small": Profile(
        2048, 1024, 512, Budget(1152, 2048), Budget(192, 384), Budget(128, 256), Budget(384, 768)
    ),
    "standard": Profile(
        4096, 2048, 768, Budget(1536, 2560), Budget(256, 512), Budget(192, 384), Budget(512, 1024)
    ),
}
KNOWN_HEAP = 256
"""The smallest heap (MB) that is known to work."""
JVM_OVERHEAD = 160
"""Memory of the Java machine beside heap and metaspace: code, threads, Xvfb (MB)."""


def heap(stack: Stack) -> int:
    """The gateway's heap in MB."""
    return stack.gateway.jvm.heap or PROFILES[stack.profile].heap


def budget(stack: Stack, service: str) -> Budget:
    """A service's limits in MB: what stack.yaml says, else what the profile gives."""
    given: Budget = getattr(PROFILES[stack.profile], service)
    if service == "gateway" and stack.gateway.mode == "both":
        given = Budget(given.memory * 2, given.with_swap * 2)
    memory = getattr(stack.limits, service) or given.memory
    with_swap = stack.limits.gateway_swap if service == "gateway" else None
    return Budget(memory, max(memory, with_swap or given.with_swap))

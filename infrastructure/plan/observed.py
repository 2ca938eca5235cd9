"""What is on a host now, as a plan compares it with what should be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.apply.protocol.documents import Keeping


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
    logins: tuple[Keeping, ...] = ()
    time: float = 0.0
    """The host's clock, seconds since 1970."""
    skew: float = 0.0
    """How far it is ahead of ours, in seconds, but for what the question took."""

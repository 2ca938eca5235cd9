"""What a plan is made of: the desired state, the observed one, and the changes between them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.render.model import Release

Action = Literal["create", "update", "restart", "remove", "unchanged"]

HASH_LABEL = "gangway.hash"
"""The container label that holds `Service.hash`: Compose does not see changed bind mounts."""

RELEASE_FILE = "release.json"
"""In every release: `{"id", "files": {path: digest}, "services": {name: hash}}`; no contents."""


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
class Step:
    """One thing to carry out, in order. The executor in `apply/` knows each `kind`.

    `push` the release, `build`/`pull` an image, `stop` (stop-first: the old container is kept,
    stopped), `start`, `restart` in place, `remove`, `reload` (Caddy), `wait` for healthy.
    """

    kind: Literal["push", "build", "pull", "stop", "start", "restart", "remove", "wait"]
    service: str
    cause: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change, and what it costs."""

    release: str
    previous: str | None
    changes: tuple[Change, ...]
    steps: tuple[Step, ...] = ()
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

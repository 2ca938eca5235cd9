"""What a check is given, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from infrastructure.config import Target
    from infrastructure.errors import GangwayError
    from infrastructure.plan.model import Observed, Plan

State = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line: what was checked, how it is, and what to do about it."""

    check: str
    state: State
    text: str
    mend: str = ""

    def as_json(self) -> dict[str, str]:
        """The shape of `doctor --json`."""
        return {"check": self.check, "state": self.state, "text": self.text, "mend": self.mend}


@dataclass
class Evidence:
    """All that was gathered; what is None could not be had, and `unreached` says why.

    `facts` is what `apply.host.facts` gives, `skew` the host's clock minus ours in seconds,
    `open_ports` those that answered from here, `resolved` the addresses of the domain.
    """

    target: Target | None = None
    broken: GangwayError | None = None
    tools: dict[str, str | None] = field(default_factory=dict)
    unreached: GangwayError | None = None
    observed: Observed | None = None
    plan: Plan | None = None
    facts: dict[str, Any] | None = None
    status: dict[str, Any] | None = None
    skew: float | None = None
    open_ports: list[int] | None = None
    resolved: list[str] | None = None
    host_addresses: list[str] = field(default_factory=list)

    @property
    def sandbox(self) -> bool:
        """Whether the target is the sandbox."""
        return self.target is not None and self.target.stack.runtime == "sandbox"


Check = Callable[[Evidence], Iterator[Finding]]


def megabytes(kilobytes: int) -> str:
    """A size for people."""
    return (
        f"{kilobytes / 1024:.0f} MB" if kilobytes < 4 << 20 else f"{kilobytes / (1 << 20):.1f} GB"
    )

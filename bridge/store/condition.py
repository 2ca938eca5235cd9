"""What is known of the journal's health, for `/health`, `/ready`, the metrics and the alerts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgspec import Struct

from bridge.store.identity import ACCEPT, Identity

OLDEST_SECONDS: Final = 2.0
"""A message of the broker's that waits longer for the journal makes the bridge not ready."""


class Trouble(Struct, frozen=True):
    """Why no order may be placed now, and what a person can do."""

    what: str
    next_step: str


class JournalCondition:
    """Filled in by whoever knows; asking never waits for the disk.

    `writable`: the last attempt to write succeeded. `quarantined`: messages that could not be
    kept and were set aside.
    """

    def __init__(self) -> None:
        self.probed: Trouble | None = None
        """What the last probe has found."""
        self._takes = True
        self.quarantined = 0
        self.hint = "Look after the disk of the data folder"
        self.identity: Identity | None = None
        self._ages: list[Callable[[], float]] = []

    @property
    def writable(self) -> bool:
        """Whether the journal took what was last written, and could be probed."""
        return self._takes and self.probed is None

    @writable.setter
    def writable(self, takes: bool) -> None:
        self._takes = takes

    def measure(self, age: Callable[[], float]) -> None:
        """Adds a queue: `age()` is how many seconds its oldest entry has waited."""
        self._ages.append(age)

    @property
    def queue_age(self) -> float:
        """Seconds that the oldest message has waited to be kept."""
        return max((age() for age in self._ages), default=0.0)

    @property
    def behind(self) -> bool:
        """Whether what the broker says is not kept in time."""
        return self.queue_age > OLDEST_SECONDS

    @property
    def not_accepted(self) -> Trouble | None:
        """Why trading is halted until a person accepts the journal."""
        why = self.identity.why if self.identity else None
        return None if why is None else Trouble(why, ACCEPT)

    @property
    def trouble(self) -> Trouble | None:
        """What keeps orders from being placed; None when nothing does."""
        if self.probed is not None:
            return self.probed
        if not self.writable:
            return Trouble("the journal cannot be written", self.hint)
        if self.behind:
            return Trouble(
                f"what the broker says has waited {self.queue_age:.0f} s for the journal", self.hint
            )
        return None

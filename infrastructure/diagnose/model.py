"""Steps with their timings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Step:
    """One try: how long it took, whether it went well, what came back."""

    name: str
    seconds: float
    fine: bool
    text: str
    status: int = 0
    body: Any = None

    def as_json(self) -> dict[str, Any]:
        """Without the body, but for /health."""
        shown = {"step": self.name, "ok": self.fine, "seconds": round(self.seconds, 4)}
        more = {"health": self.body} if self.name == "health" else {}
        return {**shown, "status": self.status, "text": self.text, **more}


@dataclass
class Way:
    """One way to the bridge."""

    name: str
    url: str
    steps: list[Step] = field(default_factory=list)

    @property
    def fine(self) -> bool:
        """Whether every step went well."""
        return bool(self.steps) and all(step.fine for step in self.steps)

    def step(self, name: str) -> Step | None:
        """The step of this name, if it was tried."""
        return next((step for step in self.steps if step.name == name), None)


@dataclass
class Diagnosis:
    """The ways that were tried: outside first."""

    ways: list[Way] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """The shape of `diagnose --json`."""
        return {
            "ways": [
                {
                    "name": way.name,
                    "url": way.url,
                    "ok": way.fine,
                    "steps": [step.as_json() for step in way.steps],
                }
                for way in self.ways
            ]
        }

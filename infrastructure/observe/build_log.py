"""The steps of an image's build, from what Docker prints while it builds.

Pure; runs on the host: standard library, Python 3.9. BuildKit prints `#5 [stage 2/3] RUN …` when a
step begins (and again when it comes back to it), the classic builder `Step 2/9 : RUN …`.
"""

from __future__ import annotations

import re
from typing import Any

_BUILDKIT = re.compile(r"#\d+ \[(?P<stage>[^\]]*?) ?(?P<step>\d+)/(?P<steps>\d+)\] (?P<text>.+)")
_CLASSIC = re.compile(r"Step (?P<step>\d+)/(?P<steps>\d+) : (?P<text>.+)")
LONGEST = 100


class BuildLog:
    """Reads a build's output line by line."""

    def __init__(self) -> None:
        self._begun: set[tuple[str, int]] = set()
        self._stages: dict[str, int] = {}

    def feed(self, line: str) -> dict[str, Any] | None:
        """`{"step", "steps", "text"}` for a line with which a step begins.

        BuildKit names a stage when it comes to it, so `steps` may still grow.
        """
        found = _BUILDKIT.match(line) or _CLASSIC.match(line)
        if found is None:
            return None
        stage = found.groupdict().get("stage", "")
        key = (stage, int(found["step"]))
        if key in self._begun:
            return None
        self._begun.add(key)
        self._stages[stage] = int(found["steps"])
        text = " ".join(found["text"].split())
        short = text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
        return {"step": len(self._begun), "steps": sum(self._stages.values()), "text": short}

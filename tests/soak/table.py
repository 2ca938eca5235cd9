"""docs/reliability.md, from what was seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.soak.faults import KINDS

if TYPE_CHECKING:
    from tests.soak.test_soak import Passed

HEAD = Path(__file__).with_name("reliability.md.head")
ENGINE_HEADING = "## A whole stack on an engine"
"""Begins the part of the page that `make chaos` writes; `make reliability` writes what is above."""
POWER_HEADING = "## Power cuts"
"""Begins the part that no run writes."""


def put_processes(page: Path, part: str) -> None:
    """Writes the first part of the page, and keeps the others."""
    _write(page, part, *_parts(page)[1:])


def put_engine(page: Path, part: str) -> None:
    """Writes the second part of the page, which begins with its heading, and keeps the others."""
    processes, _, power = _parts(page)
    _write(page, processes, part, power)


def _parts(page: Path) -> tuple[str, str, str]:
    text = page.read_text() if page.exists() else ""
    text, heading, power = text.partition(POWER_HEADING)
    processes, of_it, engine = text.partition(ENGINE_HEADING)
    return processes, of_it + engine, heading + power


def _write(page: Path, *parts: str) -> None:
    page.write_text("\n".join(part.strip("\n") + "\n" for part in parts if part.strip()))


def written(by_kind: Mapping[str, Sequence[Passed]], figures: Mapping[str, Any]) -> str:
    """The page: `figures` fill its head, each kind of fault that happened is a row."""
    rows = [_row(by_kind[kind.name]) for kind in KINDS if by_kind.get(kind.name)]
    return HEAD.read_text().format(**figures) + "\n".join(rows) + "\n"


def _row(passed: Sequence[Passed]) -> str:
    kind = passed[0].kind
    seen = [each.noticed for each in passed if each.noticed is not None]
    backs = [each.back for each in passed if each.noticed is not None]
    longest = f"{max(backs):.1f}" if backs else "–"
    cells = (
        *(kind.told, len(passed), f"{kind.seconds:g}", _said(passed)),
        *(_middle(seen), _middle(backs), longest),
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def _said(passed: Sequence[Passed]) -> str:
    states = Counter[str]()
    for each in passed:
        states.update({look.state for look in each.looks if not look.ready} - {"ready"})
    return ", ".join(f"`{state}`" for state, _ in states.most_common(3)) or "`ready`"


def _middle(values: Sequence[float]) -> str:
    return f"{sorted(values)[len(values) // 2]:.1f}" if values else "–"

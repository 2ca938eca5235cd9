"""A parsed stack.yaml: its values, and where each stands."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from infrastructure.errors import Place

if TYPE_CHECKING:
    from infrastructure.errors import Problem

Path = tuple[str | int, ...]


@dataclass
class Document:
    """A parsed file: its values, and where each stands."""

    file: str
    values: Any = None
    keys: dict[Path, tuple[int, int]] = field(default_factory=dict)
    positions: dict[Path, tuple[int, int]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def place(self, path: Path, *, key: bool = False, strip: int = 0) -> Place:
        """Where the value (or its key) stands; of the nearest parent when it is not in the file.

        `strip` leaves out that many leading parts of the shown path (`targets.prod.`).
        """
        shown = ".".join(str(part) for part in path[strip:])
        nearest = path
        while nearest and nearest not in self.positions:
            nearest = nearest[:-1]
        table = self.keys if (key or nearest != path) and nearest in self.keys else self.positions
        line, column = table.get(nearest, (0, 0))
        return Place(self.file, line, column, shown)

    def target_place(self, name: str, path: Path, *, key: bool = False) -> Place:
        """Where a value of the target `name` stands: there, else in `defaults`, else its parent."""
        own, shared = ("targets", name, *path), ("defaults", *path)
        if own not in self.positions and shared in self.positions:
            return self.place(shared, key=key, strip=1)
        return self.place(own, key=key, strip=2)

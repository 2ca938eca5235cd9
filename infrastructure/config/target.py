"""A checked target: what every part of a deploy is told of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from infrastructure.errors import Place
from infrastructure.files import expanded

if TYPE_CHECKING:
    from infrastructure.config.document import Document
    from infrastructure.config.models import Stack
    from infrastructure.config.workers import Worker
    from infrastructure.errors import Problem


@dataclass(frozen=True)
class Target:
    """A checked target: its name, its settings, where each value stands, what was odd about it."""

    name: str
    stack: Stack
    file: Path | None = None
    document: Document | None = field(default=None, repr=False, compare=False)
    warnings: tuple[Problem, ...] = ()

    @property
    def project(self) -> str:
        return f"gangway-{self.name}"

    @property
    def base(self) -> PurePosixPath:
        """The stack's folder on the host."""
        return PurePosixPath(self.stack.folder) / self.name

    @property
    def local(self) -> bool:
        """Whether it runs on this machine, without SSH."""
        return self.stack.host.address == "local"

    def worker_folder(self, worker: Worker) -> Path | None:
        """Where a worker is built from; None: from nothing."""
        if worker.build is None:
            return None
        path = expanded(worker.build)
        return path if path.is_absolute() or self.file is None else self.file.parent / path

    def place(self, *path: str | int, key: bool = False) -> Place:
        """Where a value stands in stack.yaml, such as `place("gateway", "mode")`."""
        if self.document is None:
            return Place(self.name, path=".".join(map(str, path)))
        return self.document.target_place(self.name, path, key=key)

"""What runs a stack's services: Docker Compose, or plain processes in the sandbox.

These modules run on the host, carried there by `apply.bundle`: standard library only, Python 3.9.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from infrastructure.runtime.base import Runtime


def choose(kind: str, base: Path, project: str, inherited: tuple[int, ...]) -> Runtime:
    """The runtime `kind` (`stack.runtime`) for the stack in `base`."""
    if kind == "compose":
        from infrastructure.runtime.compose import ComposeRuntime

        return ComposeRuntime(base, project, inherited)
    if kind == "sandbox":
        # Never on a host: it runs in the project's own environment (`bundle.local_command`).
        from infrastructure.runtime.sandbox.runtime import SandboxRuntime

        return SandboxRuntime(base)
    raise ValueError(f"there is no runtime '{kind}'")

"""Which releases a running container has mounted. Runs on the host: standard library, Python 3.9.

A container's folders are those of the release that was current when it started; a gateway keeps
them through any number of later releases, and is lost when they go.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_RELEASE = re.compile(r"(?:^|/)releases/([^/]+)/")


def parse(text: str) -> set[str]:
    """The releases in a `/proc/PID/mountinfo`: the fourth field is where a mount comes from."""
    roots = [line.split(" ")[3] for line in text.splitlines() if line.count(" ") > 3]
    return {found[1] for root in roots if (found := _RELEASE.search(root))}


def releases(processes: Iterable[int], proc: Path = Path("/proc")) -> set[str] | None:
    """What these processes have mounted; None when it cannot be seen, as without root."""
    found: set[str] = set()
    for process in processes:
        try:
            found |= parse((proc / str(process) / "mountinfo").read_text(encoding="utf-8"))
        except FileNotFoundError:  # it has ended
            continue
        except OSError:
            return None
    return found

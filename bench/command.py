"""What a look costs of a processor: the command line, for a target that is the sandbox."""

from __future__ import annotations

import os
import resource
import subprocess
import tempfile

from bench import Figure
from bench.rig.processes import ROOT

TIMES = 5
LOOKS = (("--help", None), ("--target sandbox plan", 200.0), ("--target sandbox status", 200.0))


def processor_milliseconds(arguments: list[str], *, afresh: bool = False) -> float:
    """The least of a few runs: what other work adds to one is none of the command's.

    `afresh`: no run finds what the one before it has kept.
    """
    least = float("inf")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(TIMES):
            cache = f"{folder}/{number}" if afresh else folder
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(
                [ROOT / "deploy.py", *arguments],
                env={**os.environ, "NO_COLOR": "1", "XDG_CACHE_HOME": cache},
                capture_output=True,
                check=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            least = min(least, used * 1000)
    return least


def figures() -> list[Figure]:
    """Each of them; the first `plan` after a change besides, which has to work everything out."""
    found = [
        Figure(
            f"./deploy.py {look}, processor time", processor_milliseconds(look.split()), "ms", bar
        )
        for look, bar in LOOKS
    ]
    first = processor_milliseconds(LOOKS[1][0].split(), afresh=True)
    found.append(Figure("the first plan after a change, processor time", first, "ms"))
    return found

"""What a look costs of a processor: the command line, for a target that is the sandbox."""

from __future__ import annotations

import os
import resource
import subprocess

from bench import Figure
from bench.rig.processes import ROOT

TIMES = 5
LOOKS = (("--help", None), ("--target sandbox plan", 200.0), ("--target sandbox status", 200.0))


def processor_milliseconds(arguments: list[str]) -> float:
    """The least of a few runs: what other work adds to one is none of the command's."""
    least = float("inf")
    for _ in range(TIMES):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [ROOT / "deploy.py", *arguments],
            env={**os.environ, "NO_COLOR": "1"},
            capture_output=True,
            check=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        least = min(least, used * 1000)
    return least


def figures() -> list[Figure]:
    """Each of them."""
    return [
        Figure(
            f"./deploy.py {look}, processor time", processor_milliseconds(look.split()), "ms", bar
        )
        for look, bar in LOOKS
    ]

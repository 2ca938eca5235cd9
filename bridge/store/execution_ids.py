"""The broker's execution ids.

A correction of an execution comes as another execution whose id differs only after the last dot
(`0000e0d5.6596b0c2.01.01` becomes `....02`). So what comes before is the execution's own name, and
the number behind it says which word on it is the newest.
"""

from __future__ import annotations


def split(exec_id: str) -> tuple[str, int]:
    """The stem, which all corrections share, and the number of the correction."""
    stem, dot, revision = exec_id.rpartition(".")
    if not dot or stem.count(".") < 2 or not revision.isdigit():
        return exec_id, 0
    return stem, int(revision)

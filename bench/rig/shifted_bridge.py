"""`python -m bench.rig.shifted_bridge`: the bridge with a clock that is `BENCH_CLOCK_OFFSET` s off.

So that the exchange is open whenever the bench runs.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

from bridge import __main__ as program
from bridge.clock import SystemClock

OFFSET = timedelta(seconds=float(os.environ["BENCH_CLOCK_OFFSET"]))


def _now(_: SystemClock) -> datetime:
    return datetime.now(UTC) + OFFSET


if __name__ == "__main__":
    SystemClock.now = _now  # type: ignore[assignment,method-assign]
    sys.exit(program.main(sys.argv[1:]))

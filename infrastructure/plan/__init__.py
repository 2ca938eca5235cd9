"""(desired, observed) -> changes with their causes, and steps; pure.

`compute(desired, observed)` gives a `Plan`.
"""

from infrastructure.plan.compute import compute
from infrastructure.plan.desired import desired, two_factor
from infrastructure.plan.model import (
    HASH_LABEL,
    RELEASE_FILE,
    Change,
    Desired,
    Observed,
    ObservedFile,
    ObservedService,
    Plan,
    Step,
)

__all__ = [
    "HASH_LABEL",
    "RELEASE_FILE",
    "Change",
    "Desired",
    "Observed",
    "ObservedFile",
    "ObservedService",
    "Plan",
    "Step",
    "compute",
    "desired",
    "two_factor",
]

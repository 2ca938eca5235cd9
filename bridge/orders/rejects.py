"""What the broker's error codes mean for the order they name, each with what to do.

Meanings are from the broker's list of API message codes and from gateways' logs.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from msgspec import Struct


class Effect(Enum):
    """What a code does to the order."""

    ENDS = "ends"  # the order is not working
    CANCELLED = "cancelled"  # confirms a cancellation
    CHANGE_FAILED = (
        "change-failed"  # a cancel or a change did not go through, the order is as it was
    )
    WARNS = "warns"  # the order goes on


class Meaning(Struct, frozen=True):
    """One code: its effect and the next step for a person."""

    effect: Effect
    next_step: str


_READ = "Read brokerText; nothing of this order is working at the broker"

TABLE: Final[dict[int, Meaning]] = {
    103: Meaning(Effect.ENDS, "Another program uses this client id: give the bridge its own"),
    104: Meaning(Effect.CHANGE_FAILED, "The order is filled already: nothing is left to change"),
    105: Meaning(Effect.CHANGE_FAILED, "Change only price, quantity or time in force"),
    106: Meaning(
        Effect.CHANGE_FAILED, "The order cannot be transmitted now; read it and try again"
    ),
    107: Meaning(Effect.ENDS, "Give every field that the order type needs"),
    109: Meaning(Effect.ENDS, "The price is too far from the market: move it closer"),
    110: Meaning(
        Effect.ENDS, "Use the contract's tick: GET /contracts shows it, roundToTick rounds"
    ),
    111: Meaning(Effect.ENDS, "Choose a time in force that goes with the order type"),
    113: Meaning(Effect.ENDS, "The time in force does not suit this order; use DAY"),
    116: Meaning(Effect.ENDS, "The order cannot reach the broker's server now; see /health"),
    117: Meaning(Effect.ENDS, "The order was not sent on by the gateway; read brokerText"),
    125: Meaning(Effect.ENDS, "Give a limit price on the contract's tick"),
    132: Meaning(Effect.ENDS, "Name the account: several are managed by this login"),
    133: Meaning(Effect.ENDS, "The gateway could not submit it; read brokerText"),
    134: Meaning(Effect.CHANGE_FAILED, "The change failed; the order is as it was"),
    135: Meaning(Effect.CHANGE_FAILED, "The gateway does not know this order any more; read it"),
    136: Meaning(Effect.CHANGE_FAILED, "The order cannot be cancelled in its state; read it"),
    140: Meaning(Effect.ENDS, "Give a whole quantity"),
    144: Meaning(Effect.ENDS, "Give a positive quantity"),
    161: Meaning(Effect.CHANGE_FAILED, "The order is not in a cancellable state; read it"),
    163: Meaning(Effect.ENDS, "The price breaks the percentage constraint; move it closer"),
    200: Meaning(Effect.ENDS, "Look the contract up with GET /contracts"),
    201: Meaning(Effect.ENDS, _READ),
    202: Meaning(Effect.CANCELLED, "Nothing to do: the order is cancelled"),
    203: Meaning(
        Effect.ENDS, "The account may not trade this: ask for permission in Account Settings"
    ),
    321: Meaning(
        Effect.ENDS, "If the gateway's API is read-only, set READ_ONLY_API=no; else read brokerText"
    ),
    325: Meaning(Effect.ENDS, "Give a price that the order type takes"),
    328: Meaning(Effect.ENDS, "Trailing stops need a stop or a percentage"),
    329: Meaning(
        Effect.CHANGE_FAILED, "Only an unfilled order with the same account can be changed"
    ),
    355: Meaning(Effect.ENDS, "Give a quantity in the market's lot size"),
    382: Meaning(Effect.ENDS, "The price breaks the gateway's own limit: its presets are stricter"),
    383: Meaning(Effect.ENDS, "The size breaks the gateway's own limit: its presets are stricter"),
    387: Meaning(Effect.ENDS, "This exchange does not take this order type; use LMT"),
    388: Meaning(Effect.ENDS, "The size is below the market's minimum"),
    399: Meaning(Effect.WARNS, "Read brokerText: often the order waits until the market opens"),
    404: Meaning(Effect.WARNS, "The order is held while shares to borrow are located"),
    434: Meaning(Effect.ENDS, "Give a quantity more than 0"),
    436: Meaning(Effect.ENDS, "Name the account"),
    451: Meaning(Effect.ENDS, "Read brokerText; the order's parameters contradict each other"),
    460: Meaning(Effect.ENDS, "The account has no trading permission for this product"),
    461: Meaning(Effect.ENDS, "The size does not fit the contract's increments"),
    463: Meaning(Effect.ENDS, "Give a quantity on the contract's step"),
    478: Meaning(
        Effect.ENDS, "conId and the other contract fields disagree; leave one of them out"
    ),
    10043: Meaning(Effect.ENDS, "The order needs a price"),
    10052: Meaning(Effect.ENDS, "Give a time in force that the broker knows"),
    10147: Meaning(Effect.CHANGE_FAILED, "The gateway does not know this order any more; read it"),
    10148: Meaning(Effect.CHANGE_FAILED, "The order cannot be cancelled in its state; read it"),
    10149: Meaning(Effect.CHANGE_FAILED, "The gateway does not know this order any more; read it"),
    10243: Meaning(
        Effect.ENDS, "Fractions of a share cannot be ordered through the API: whole numbers"
    ),
    10268: Meaning(Effect.ENDS, "The order uses an attribute that the broker has withdrawn"),
    10289: Meaning(Effect.ENDS, "Cash quantities are not allowed here: give a number of shares"),
    10318: Meaning(Effect.ENDS, "The broker does not allow this order; read brokerText"),
    10349: Meaning(Effect.WARNS, "The gateway's preset changed the time in force"),
}

_WARNINGS: Final = (range(2100, 2170), range(10160, 10200))
_LAST_RESORT: Final = Meaning(Effect.ENDS, _READ)


def meaning(code: int) -> Meaning:
    """What `code` does to the order it names; one that nobody has listed counts as a reject."""
    known = TABLE.get(code)
    if known is not None:
        return known
    if any(code in codes for codes in _WARNINGS):
        return Meaning(Effect.WARNS, "Read brokerText")
    return _LAST_RESORT

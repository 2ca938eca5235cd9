"""How a holding is closed, one step at a time. No I/O: what to do next, from what is known.

    decided ──> send (a limit at the middle, or a market order) ──> change the limit, step by step
                  │                                                    │
                  └── the order ended without filling: send again ─────┴──> over

One order at a time: the next is sent only when the one before is known to have ended. An order is
never larger than what is held less what works on the same side already, whoever placed it.
"""

from __future__ import annotations

import math
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct, structs

from bridge.clock import passed
from bridge.quantity import exact, figure, whole_steps
from bridge.rules.evaluation import Price
from bridge.rules.model import Closing

MOST_ORDERS: Final = 20
"""Of one close; after that a person has to look."""
MOST_REFUSALS: Final = 3
CANCEL_SECONDS: Final = 5.0
"""After which an order that is still open is cancelled again."""
SETTLING_SECONDS: Final = 3.0
"""How long the parts of one fill may take to be told."""
RETRY_SECONDS: Final = (5.0, 30.0, 120.0)
"""After a refusal."""
UNSENT_SECONDS: Final = (0.0, 2.0, 5.0, 10.0, 30.0)
"""After the first, second … order in a row that never went out; then each time as the last says."""

Outcome = Literal["closed", "gone", "cancelled", "refused", "gave-up"]
"""Filled by this close · somebody else closed it · somebody cancelled the order · the order was
refused again and again · too many orders that went out came to nothing."""


class Attempt(Struct, frozen=True, kw_only=True):
    """One order of a close, written down before it is sent, so that it is sent at most once.

    `order_id` is empty until the answer came; `limit` None is a market order.
    """

    number: int
    units: float
    limit: float | None
    at: datetime
    order_id: str = ""
    withdrawn: bool = False
    """Whether it is us who cancelled it, or mean to."""
    withdrawn_at: datetime | None = None
    """When that was tried last."""
    too_large_at: datetime | None = None
    """Since when it is for more than is left to close, and no change makes it smaller."""
    refused: str = ""
    """Why the bridge's own limits did not let it out."""
    unsent: str = ""
    """Why it did not go out, where that may pass."""
    ends_at: datetime | None = None
    """When it ends by itself, with the session; None: not known."""


class ClosedLeg(Struct, frozen=True, kw_only=True):
    """A contract of a combination; `beside` is what was held of it apart from that, signed."""

    con_id: int
    name: str
    ratio: float
    beside: float


class Close(Struct, frozen=True, kw_only=True):
    """A close from its decision to its end, as the journal keeps it."""

    id: str
    rule: str
    holding: str
    trigger: str
    reason: str
    began_at: datetime
    units: float
    direction: int
    anchor: float | None = None
    """The middle at the first order: no limit goes further from it than `boundPercent`."""
    step: int = 0
    stepped_at: datetime | None = None
    attempt: Attempt | None = None
    attempts: int = 0
    unsent: int = 0
    """How many of the attempts never went out: they say nothing against the next."""
    unsent_in_a_row: int = 0
    hindrance: str = ""
    """Why the last of them did not go out."""
    refusals: int = 0
    refused: str = ""
    """Why the last order was refused."""
    filled: float = 0.0
    """By the orders that have ended."""
    outcome: Outcome | None = None
    ended_at: datetime | None = None
    named: dict[str, Any] = {}
    """How events say which holding it is, when that is gone."""
    legs: tuple[ClosedLeg, ...] = ()
    """Of a combination; empty: a single position, or begun by an earlier release."""
    opened: datetime | None = None
    """When its position was opened; None: not known."""

    @property
    def action(self) -> Literal["BUY", "SELL"]:
        """Of a single position: what makes it smaller."""
        return "SELL" if self.direction > 0 else "BUY"


class Working(Struct, frozen=True, kw_only=True):
    """What became of the order of the present attempt.

    `state`: open, filled, cancelled, refused, unsent (certainly never sent), or unknown.
    """

    state: Literal["open", "filled", "cancelled", "refused", "unsent", "unknown"]
    quantity: float | None = None
    """In all, as the broker has it; None: as it was sent."""
    filled: float = 0.0
    limit: float | None = None
    stop: float | None = None
    """Where its stop stands at the broker."""
    reason: str = ""
    ended_at: datetime | None = None
    """When it was heard of that it is over."""
    idle: bool = False
    """Whether it is open, and the broker does not let it work (`Inactive`)."""

    @property
    def held_back(self) -> str:
        """Why it does nothing, for people."""
        why = f": {self.reason}" if self.reason else ""
        return f"the broker holds the order back (Inactive){why}"


class Scene(Struct, frozen=True, kw_only=True):
    """What a step is taken from.

    `held`: units that are held now, 0 when the position is gone or has another side; None: not
    known. `others`: units for which somebody else's order works on the same side. `size_step`: what
    an order has to be a multiple of; 0: anything, or not known. `expires`: whether orders end by
    themselves now, because no session is running: never while that is not `known`. `ends_at`: when
    those end that are sent now.
    """

    now: datetime
    price: Price
    price_bad: str | None
    tick: float = 0.0
    held: float | None
    others: float = 0.0
    size_step: float = 0.0
    order: Working | None = None
    may_begin: bool = True
    """Whether a new order may be sent at all now."""
    may_change: bool = True
    expires: bool = False
    ends_at: datetime | None = None
    called_off: bool = False
    """Whether a person has taken the rule away, or switched it off."""
    known: bool = True
    """Whether the contract's details are: without them there is neither a price nor a market."""


class Send(Struct, frozen=True):
    """Send an order of this many units; a limit of None is a market order."""

    units: float
    limit: float | None


class Change(Struct, frozen=True):
    """Give the working order this limit, and for `units` this total quantity."""

    limit: float | None = None
    units: float | None = None


class Cancel(Struct, frozen=True):
    """Cancel the working order: the position is gone or smaller. Done again until it has ended."""

    reason: str


class Wait(Struct, frozen=True):
    """Nothing to do now. `stuck`: when that stays so, somebody may have to act.

    `unknown`: it is for want of the contract's details, and stuck.
    """

    reason: str
    stuck: bool = False
    unknown: bool = False


Step = Send | Change | Cancel | Wait


def following(close: Close, terms: Closing, scene: Scene) -> tuple[Close, Step]:
    """The close as it is now, and what to do. With an outcome set, it is over."""
    if close.outcome is not None:
        return close, Wait("it is over")
    if scene.held is None:
        return close, Wait("the position is not known", stuck=True)
    if close.attempt is not None:
        close, step = _watch(close, terms, scene)
        if step is not None:
            return close, step
    if close.outcome is not None:
        return close, Wait("it is over")
    return _begin(close, terms, scene)


def _watch(close: Close, terms: Closing, scene: Scene) -> tuple[Close, Step | None]:
    """Looks after the order that was sent; None: another may follow it."""
    attempt, order = close.attempt, scene.order
    if attempt is None:
        return close, None
    if attempt.refused:
        order = Working(state="refused", reason=attempt.refused)
    if order is None or order.state == "unknown":
        return close, Wait("what became of the order is not known yet", stuck=True)
    if order.state == "open":
        return _steer(_went_out(close), terms, scene, attempt, order)
    if _unexplained(attempt, order, scene):
        why = "whether the order ended with its session, or a person ended it, is not known"
        return close, Wait(why, stuck=True, unknown=True)
    return _after(close, attempt, order, scene)


def _after(
    close: Close, attempt: Attempt, order: Working, scene: Scene
) -> tuple[Close, Step | None]:
    """The order is over: what that means for the close; None: another may follow."""
    close = structs.replace(close, attempt=None, filled=exact(close.filled + order.filled))
    if order.state == "unsent":
        return _never_went_out(close, attempt.unsent or order.reason), None
    close = _went_out(close)
    if order.state == "filled" or attempt.withdrawn:
        return close, None
    if order.state == "refused":
        return _refused(close, order, scene)
    if whole_steps(_held(scene), scene.size_step) <= 0 or _outlived(attempt, order, scene):
        return close, None
    if scene.expires:
        return close, Wait("the order ended with the session", stuck=True)
    return _over(close, "cancelled", scene), None


def _refused(close: Close, order: Working, scene: Scene) -> tuple[Close, Step | None]:
    refusals = close.refusals + 1
    close = structs.replace(close, refusals=refusals, refused=order.reason, stepped_at=scene.now)
    if refusals >= MOST_REFUSALS:
        return _over(close, "refused", scene), None
    return close, Wait("the order was refused", stuck=True)


def _unexplained(attempt: Attempt, order: Working, scene: Scene) -> bool:
    """Whether nobody can tell yet why it ended: its contract's sessions are not known again."""
    ours = attempt.withdrawn or attempt.ends_at is not None
    return order.state == "cancelled" and not scene.known and not ours


def _outlived(attempt: Attempt, order: Working, scene: Scene) -> bool:
    """Whether the session that the order was for has ended before it did.

    Nobody may have looked since: the next session may be running already.
    """
    return attempt.ends_at is not None and (order.ended_at or scene.now) >= attempt.ends_at


def _went_out(close: Close) -> Close:
    return structs.replace(close, unsent_in_a_row=0, hindrance="")


def _never_went_out(close: Close, why: str) -> Close:
    return structs.replace(
        close,
        unsent=close.unsent + 1,
        unsent_in_a_row=close.unsent_in_a_row + 1,
        hindrance=why,
    )


def _steer(
    close: Close, terms: Closing, scene: Scene, attempt: Attempt, order: Working
) -> tuple[Close, Step]:
    """An order is working: it follows the position down, and the price step by step."""
    if attempt.withdrawn:
        return _withdraw(close, attempt, scene, "it was to be cancelled")
    # What the broker has counts, not what was intended: a change may never have got there.
    quantity = attempt.units if order.quantity is None else order.quantity
    total = whole_steps(_held(scene) - scene.others + order.filled, scene.size_step)
    allowed = max(0.0, exact(total - order.filled))
    if exact(quantity - order.filled) > allowed:
        return _too_large(close, attempt, scene, order.filled, allowed)
    if attempt.too_large_at is not None:
        attempt = structs.replace(attempt, too_large_at=None)
        close = structs.replace(close, attempt=attempt)
    if scene.called_off:
        return _withdraw(close, attempt, scene, "the rule was taken away")
    if order.idle:
        return close, Wait(order.held_back, stuck=True)
    if attempt.limit is None or not scene.may_change:
        return close, Wait("the order is working")
    if scene.price_bad is not None:
        return close, Wait(f"the limit stays: {scene.price_bad}", unknown=not scene.known)
    since = close.stepped_at or attempt.at
    if not passed(since, scene.now, terms.step_seconds):
        return close, _resting(close, terms, scene, order)
    close = structs.replace(close, step=min(close.step + 1, terms.steps), stepped_at=scene.now)
    limit = limit_at(close, terms, scene.price, scene.tick)
    if limit is None or (order.limit is not None and not _towards(close, order.limit, limit)):
        return close, _resting(close, terms, scene, order)
    return close, Change(limit=limit)


def _too_large(
    close: Close, attempt: Attempt, scene: Scene, filled: float, allowed: float
) -> tuple[Close, Step]:
    """The order is for more than may still be closed: it gets smaller, or is cancelled.

    No change is sent while trading is halted, when people close by hand, and one may be refused: a
    cancel is sent then, where it stays so. The legs of a combination are told of one by one.
    """
    if allowed <= 0:
        why = "the position is gone, or somebody else closes it"
        return _withdraw(close, attempt, scene, why)
    since = attempt.too_large_at
    if since is not None and passed(since, scene.now, SETTLING_SECONDS):
        why = "less is left to close than the order is for, and no change makes it smaller"
        return _withdraw(close, attempt, scene, why)
    if scene.may_change:
        return close, Change(units=exact(filled + allowed))
    return not_smaller(close, scene.now), Wait("the order may be too large")


def not_smaller(close: Close, now: datetime) -> Close:
    """The close with since when its order is too large and no change makes it smaller."""
    attempt = close.attempt
    if attempt is None or attempt.too_large_at is not None:
        return close
    return structs.replace(close, attempt=structs.replace(attempt, too_large_at=now))


def _resting(close: Close, terms: Closing, scene: Scene, order: Working) -> Wait:
    """The order works; people are told when the market has gone further than the limit may."""
    bound = bound_of(close, terms, scene.tick)
    side = scene.price.bid if close.direction > 0 else scene.price.ask
    if bound is None or side is None or order.limit is None:
        return Wait("the order is working")
    if _towards(close, bound, side) and not _towards(close, order.limit, bound):
        return Wait(
            f"the limit rests at {figure(order.limit)}: boundPercent {terms.bound_percent:g} from"
            f" {figure(close.anchor or 0.0)} lets it go no further, and the market's other side is"
            " beyond",
            stuck=True,
        )
    return Wait("the order is working")


def _withdraw(close: Close, attempt: Attempt, scene: Scene, why: str) -> tuple[Close, Step]:
    """Cancels the order, and again while it is still open: the first time may have come to nothing.

    That it is us is written down first, so that its end is known for our own.
    """
    if attempt.withdrawn_at is not None and not passed(
        attempt.withdrawn_at, scene.now, CANCEL_SECONDS
    ):
        return close, Wait("the order is being cancelled", stuck=True)
    withdrawn = structs.replace(attempt, withdrawn=True, withdrawn_at=scene.now)
    return structs.replace(close, attempt=withdrawn), Cancel(why)


def _begin(close: Close, terms: Closing, scene: Scene) -> tuple[Close, Step]:
    """No order is out: sends one when there is something to close, or ends."""
    left = whole_steps(min(close.units - close.filled, _held(scene)), scene.size_step)
    outcome = _ended(close, scene, left)
    if outcome is not None:
        return _over(close, outcome, scene), Wait("it is over")
    units = min(left, whole_steps(_held(scene) - scene.others, scene.size_step))
    why = _held_up(close, terms, scene, units)
    if why is not None:
        return close, Wait(why, stuck=True, unknown=not scene.known)
    if close.anchor is None and scene.price_bad is None:
        close = structs.replace(close, anchor=_middle(scene.price))
    limit = limit_at(close, terms, scene.price, scene.tick) if terms.order == "limit" else None
    number = close.attempts + 1
    attempt = Attempt(number=number, units=units, limit=limit, at=scene.now, ends_at=scene.ends_at)
    close = structs.replace(close, attempt=attempt, attempts=number, stepped_at=scene.now)
    return close, Send(units, limit)


def _ended(close: Close, scene: Scene, left: float) -> Outcome | None:
    if left <= 0:
        return "closed" if close.filled > 0 else "gone"
    if scene.called_off:
        return "cancelled"
    return "gave-up" if close.attempts - close.unsent >= MOST_ORDERS else None


def _held_up(close: Close, terms: Closing, scene: Scene, units: float) -> str | None:
    """Why no order is sent now."""
    if not scene.may_begin:
        return "no order may be sent now"
    if close.refusals and close.stepped_at is not None:
        pause = RETRY_SECONDS[min(close.refusals, len(RETRY_SECONDS)) - 1]
        if not passed(close.stepped_at, scene.now, pause):
            return "the order was refused; it is sent again in a moment"
    if close.unsent_in_a_row and close.stepped_at is not None:
        pause = UNSENT_SECONDS[min(close.unsent_in_a_row, len(UNSENT_SECONDS)) - 1]
        if not passed(close.stepped_at, scene.now, pause):
            return f"no order could be sent: {close.hindrance or 'it did not get out'}"
    if units <= 0:
        return "orders that work already close all that is held"
    return scene.price_bad if terms.order == "limit" else None


def limit_at(close: Close, terms: Closing, price: Price, tick: float = 0.0) -> float | None:
    """The limit of this step: from the middle towards the other side, within the bound.

    On the tick on the other side: half a tick is less than a step that changes nothing costs.
    """
    if price.bid is None or price.ask is None:
        return None
    down = close.direction > 0
    middle, side = _middle(price), price.bid if down else price.ask
    wanted = _on_tick(middle + (side - middle) * close.step / terms.steps, tick, down=down)
    bound = bound_of(close, terms, tick)
    if bound is None:
        return wanted
    return max(wanted, bound) if down else min(wanted, bound)


def bound_of(close: Close, terms: Closing, tick: float = 0.0) -> float | None:
    """Where the limit goes no further, on the tick before it; None: not known yet."""
    if close.anchor is None:
        return None
    bound = close.anchor - close.direction * abs(close.anchor) * terms.bound_percent / 100
    return _on_tick(bound, tick, down=close.direction < 0)


def _on_tick(price: float, tick: float, *, down: bool) -> float:
    if tick <= 0:
        return price
    ticks = price / tick
    return round((math.floor(ticks + 1e-6) if down else math.ceil(ticks - 1e-6)) * tick, 8)


def _towards(close: Close, before: float, after: float) -> bool:
    """Whether a limit goes on towards the other side; it never goes back."""
    return (after < before) if close.direction > 0 else (after > before)


def _middle(price: Price) -> float:
    return ((price.bid or 0.0) + (price.ask or 0.0)) / 2


def _held(scene: Scene) -> float:
    return scene.held or 0.0


def _over(close: Close, outcome: Outcome, scene: Scene) -> Close:
    return structs.replace(close, outcome=outcome, ended_at=scene.now)


def key_of(close: Close, attempt: Attempt) -> str:
    """The `Idempotency-Key` of an order of a close: the same after any restart."""
    return f"rule-{close.id}-{attempt.number}"

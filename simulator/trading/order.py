"""An order at the broker, and an execution of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.contracts.contract import Leg
    from simulator.trading.market import Contract
    from simulator.trading.terms import Terms


class Status(StrEnum):
    """The words of orderStatus, in the order in which an order meets them."""

    PENDING_SUBMIT = "PendingSubmit"
    PRE_SUBMITTED = "PreSubmitted"
    SUBMITTED = "Submitted"
    PENDING_CANCEL = "PendingCancel"
    FILLED = "Filled"
    CANCELLED = "Cancelled"
    API_CANCELLED = "ApiCancelled"
    INACTIVE = "Inactive"


DONE = frozenset({Status.FILLED, Status.CANCELLED, Status.API_CANCELLED, Status.INACTIVE})
DUST = 1e-9


@dataclass(slots=True, eq=False)
class Order:
    """One order; it lives at the broker, whatever becomes of its client."""

    perm_id: int
    client_id: int
    order_id: int
    contract: Contract
    terms: Terms
    account: str
    placed_at: float
    status: Status = Status.PENDING_SUBMIT
    transmitted: bool = True
    filled: float = 0.0
    average_price: float = 0.0
    last_price: float = 0.0
    commission: float = 0.0
    why_held: str = ""
    warning: str = ""
    triggered: bool = False
    stop: float | None = None
    """Where a stop stands now; it moves with a trailing one."""
    limit: float | None = None
    quantity: float = 0.0
    """The total, which OCA reduction lowers."""
    active_from: float = 0.0
    expires_at: float | None = None
    auction_at: float | None = None
    """When an order for the open or the close is matched."""
    looked_at: float | None = None
    """When it was last held against the market while it could trade."""
    peg: float | None = None
    """Where an order that follows the quote stands now."""
    delivers: Contract | None = None
    """What an exercised option is about."""
    released: bool = False
    """Its conditions have held."""
    leg_costs: list[float] = field(default_factory=list)
    """Price times quantity that each leg of a combination was filled at so far."""
    parent: Order | None = None
    completed_at: float | None = None
    completed_reason: str = ""

    @property
    def remaining(self) -> float:
        """What is still to be filled."""
        left = self.quantity - self.filled
        return left if left > DUST else 0.0

    @property
    def conditioned(self) -> bool:
        """Whether it still waits for conditions that let it go."""
        terms = self.terms
        return bool(terms.conditions) and not self.released and not terms.conditions_cancel

    @property
    def done(self) -> bool:
        """Whether nothing more can come of it."""
        return self.completed_at is not None

    def shown(self) -> dict[str, Any]:
        """The form of `GET /book`."""
        return {
            "permId": self.perm_id,
            "clientId": self.client_id,
            "orderId": self.order_id,
            "orderRef": self.terms.order_ref,
            "account": self.account,
            "conId": self.contract.con_id,
            "symbol": self.contract.symbol,
            "secType": self.contract.sec_type,
            "action": self.terms.action,
            "orderType": self.terms.order_type,
            "quantity": self.quantity,
            "limitPrice": self.limit,
            "stopPrice": self.stop,
            "tif": self.terms.tif,
            "goodTillDate": self.terms.good_till,
            "outsideRth": self.terms.outside_rth,
            "allOrNone": self.terms.all_or_none,
            "status": self.status.value,
            "filled": self.filled,
            "remaining": self.remaining,
            "averagePrice": self.average_price,
            "parentPermId": self.parent.perm_id if self.parent else None,
            "ocaGroup": self.terms.oca_group,
            "placedAt": self.placed_at,
            "completedAt": self.completed_at,
            "reason": self.completed_reason,
        }


@dataclass(frozen=True, slots=True)
class Execution:
    """One fill; the commission is in the contract's currency."""

    exec_id: str
    order: Order
    at: float
    exchange: str
    quantity: float
    price: float
    cumulative: float
    average_price: float
    liquidity: int
    """1 added, 2 removed, 3 routed out, as lastLiquidity."""
    commission: float
    realized: float | None
    """Profit of the part that closed a position, commission taken off; None when it only opened."""
    leg: Leg | None = None
    """The part of a combination that was filled."""

    @property
    def contract(self) -> Contract:
        """What was filled: the order's contract, or one leg of it."""
        return self.leg.contract if self.leg else self.order.contract

    @property
    def side(self) -> str:
        """BOT or SLD."""
        sign = self.order.terms.sign * (self.leg.sign if self.leg else 1)
        return "BOT" if sign > 0 else "SLD"

    @property
    def has_commission(self) -> bool:
        """Whether a commission report belongs to it: a combination is paid for by its legs."""
        return self.order.contract.sec_type != "BAG" or self.leg is not None

    def shown(self) -> dict[str, Any]:
        """The form of `GET /book`."""
        return {
            "execId": self.exec_id,
            "permId": self.order.perm_id,
            "clientId": self.order.client_id,
            "orderId": self.order.order_id,
            "orderRef": self.order.terms.order_ref,
            "account": self.order.account,
            "conId": self.contract.con_id,
            "symbol": self.contract.symbol,
            "secType": self.contract.sec_type,
            "currency": self.contract.currency,
            "side": self.side,
            "quantity": self.quantity,
            "price": self.price,
            "at": self.at,
            "exchange": self.exchange,
            "commission": self.commission,
            "realizedPnl": self.realized,
        }

"""An order at the broker, an execution of it, their numbers, and who hears of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from zlib import crc32

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract, Leg
    from simulator.trading.ledger import Preview
    from simulator.trading.terms import Terms


class Identifiers:
    """Numbers that never come twice, also not from a simulator started later.

    Args:
        start: when the broker's book was opened, seconds since the epoch.
        seed: the market's seed.
    """

    def __init__(self, start: float, seed: int) -> None:
        opened = int(start * 10)
        self._stamp = opened & 0xFFFFFFFF
        self._order = 1 + (opened * 7) % 1_900_000_000
        self._execution = (crc32(str(seed).encode()) & 0xFF) + 1

    def perm_id(self) -> int:
        """A permanent order id; fits 31 bits, as clients below version 191 expect."""
        self._order += 1
        return (self._order - 1) & 0x7FFFFFFF

    def exec_id(self) -> str:
        """Such as `0000e0d5.6553d8a1.01.01`; a correction would change the last part only."""
        self._execution += 1
        return f"{self._execution - 1:08x}.{self._stamp:08x}.01.01"

    def numbers(self) -> list[int]:
        """What `go_on` takes, in a later run."""
        return [self._stamp, self._order, self._execution]

    def go_on(self, numbers: list[int]) -> None:
        """Go on from the numbers of an earlier run."""
        self._stamp, self._order, self._execution = numbers


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


class Listener(Protocol):
    """The gateway's side: turns what happens into messages for the clients that may know."""

    def order_shown(self, order: Order) -> None:
        """An order's terms or state changed: openOrder and orderStatus."""

    def status_changed(self, order: Order) -> None:
        """Only an order's status changed: orderStatus."""

    def executed(self, execution: Execution) -> None:
        """An order was filled, whole or in part: execDetails."""

    def commissioned(self, execution: Execution) -> None:
        """The commission of a fill is known: commissionReport."""

    def account_changed(self, account: str) -> None:
        """Positions changed without a fill."""

    def previewed(self, order: Order, preview: Preview) -> None:
        """What an order would do, had it been sent: openOrder with whatIf."""

    def message(self, client_id: int, order_id: int, code: int, text: str) -> None:
        """An error or a warning about an order."""

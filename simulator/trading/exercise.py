"""Exercise and lapse of options: an instruction that waits like an order and can be cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from simulator.trading.ledger import multiplier
from simulator.trading.terms import RefusedError, Terms

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.market.market import Market
    from simulator.trading.ledger import Ledger
    from simulator.trading.order import Order

EXERCISE, LAPSE = "EXERCISE", "LAPSE"
ACTIONS = {1: EXERCISE, 2: LAPSE}
OPTIONS = frozenset({"OPT", "FOP"})
INVALID = "Error validating request.-'bP' : cause - "
PROCESSING = "Error processing request.-'bP' : cause - "


class Instruction(NamedTuple):
    """What a client wants of an option that it holds."""

    action: int
    quantity: int
    account: str
    override: bool
    """Also against what the price of the underlying suggests."""


def terms_of(instruction: Instruction) -> Terms:
    """The instruction as the terms of an order."""
    values = {
        "action": "SELL",
        "totalQuantity": str(instruction.quantity),
        "orderType": ACTIONS[instruction.action],
        "tif": "GTC",
        "account": instruction.account,
        "transmit": "1",
    }
    return Terms.read(values)


def worth(contract: Contract, underlying: Contract, market: Market, at: float) -> float:
    """What exercising one unit would bring; 0 or less when the option is not in the money."""
    spot = market.quote(underlying, at).last
    return (spot - contract.strike) * (1 if contract.right == "C" else -1)


def check(
    contract: Contract,
    underlying: Contract | None,
    instruction: Instruction,
    held: float,
    value: float,
) -> None:
    """Refuse an instruction that cannot be carried out.

    Raises:
        RefusedError: with the gateway's code.
    """
    if contract.sec_type not in OPTIONS or underlying is None:
        raise RefusedError(321, INVALID + "Only options can be exercised or lapse")
    if instruction.action not in ACTIONS:
        raise RefusedError(321, f"{INVALID}Invalid exercise action {instruction.action}")
    if instruction.quantity <= 0:
        raise RefusedError(321, f"{INVALID}Invalid exercise quantity {instruction.quantity}")
    if instruction.quantity > held:
        raise RefusedError(322, PROCESSING + "The exercise quantity exceeds the position")
    natural = (value > 0) == (ACTIONS[instruction.action] == EXERCISE)
    if not natural and not instruction.override:
        state = "in the money" if value > 0 else "not in the money"
        raise RefusedError(322, f"{PROCESSING}The option is {state}; override is needed")


def settle(order: Order, market: Market, ledger: Ledger, at: float) -> None:
    """Carry out an instruction: options go, and what they are about is delivered or paid."""
    contract, underlying = order.contract, order.delivers
    if underlying is None:
        return
    quantity = min(order.remaining, ledger.accounts[order.account].held(contract.con_id))
    value = 0.0
    delivered = order.terms.order_type == EXERCISE and underlying.sec_type != "IND"
    if order.terms.order_type == EXERCISE and not delivered:
        value = max(worth(contract, underlying, market, at), 0.0)
    ledger.trade(order.account, contract, -quantity, value, 0.0, at)
    if delivered:
        units = quantity * (multiplier(contract) / multiplier(underlying))
        signed = units if contract.right == "C" else -units
        ledger.trade(order.account, underlying, signed, contract.strike, 0.0, at)

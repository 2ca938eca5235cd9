"""Market rules: the price steps of a contract, by price, and the ids under which clients ask."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulator.trading.market import Contract

Steps = tuple[tuple[float, float], ...]
PENNY, NICKEL, INDEX_OPTION, STOCK, TENTH_PIP, HALF_CENT = 109, 32, 110, 26, 239, 240
PENNY_CLASSES = frozenset({"SPY", "QQQ", "IWM"})
"""Classes of options that trade in cents at every price."""
RULES: dict[int, Steps] = {
    STOCK: ((0.0, 0.01),),
    NICKEL: ((0.0, 0.01), (3.0, 0.05)),
    PENNY: ((0.0, 0.01),),
    INDEX_OPTION: ((0.0, 0.05), (3.0, 0.1)),
    TENTH_PIP: ((0.0, 0.00005),),
    HALF_CENT: ((0.0, 0.005),),
    67: ((0.0, 0.25),),
    57: ((0.0, 0.1),),
    56: ((0.0, 1.0),),
    28: ((0.0, 0.01),),
    79: ((0.0, 0.001),),
    65: ((0.0, 0.005),),
    153: ((0.0, 0.015625),),
    1736: ((0.0, 0.00005),),
    107: ((0.0, 0.05), (5.0, 0.25)),
    92: ((0.0, 0.01),),
    163: ((0.0, 0.1),),
}
"""Market rule -> the price from which each increment holds."""
FUTURE_RULES = {0.25: 67, 0.1: 57, 1.0: 56, 0.01: 28, 0.001: 79, 0.005: 65, 0.015625: 153}
FUTURE_RULES[0.00005] = 1736
FUTURE_OPTION_RULES = {0.05: 107, 0.01: 92, 0.1: 163}


def rule_of(contract: Contract) -> int:
    """The market rule of a contract."""
    kind, tick = contract.sec_type, contract.min_tick
    if kind == "OPT":
        if tick > 0.01:
            return INDEX_OPTION
        return PENNY if contract.trading_class in PENNY_CLASSES else NICKEL
    if kind == "CASH":
        return HALF_CENT if tick > 0.001 else TENTH_PIP
    if kind in ("FUT", "CONTFUT"):
        return FUTURE_RULES[tick]
    if kind == "FOP":
        return FUTURE_OPTION_RULES[tick]
    return STOCK


def increments(rule: int) -> Steps | None:
    """The price increments of a rule; None when there is no such rule."""
    return RULES.get(rule)


def step_at(contract: Contract, price: float) -> float:
    """The increment that holds for a price of the contract's."""
    if contract.sec_type not in ("OPT", "FOP"):
        return contract.min_tick
    step = contract.min_tick
    for low, increment in RULES[rule_of(contract)]:
        if abs(price) >= low - 1e-9:
            step = increment
    return step


def size_step(contract: Contract) -> float:
    """The smallest quantity of a contract, of which every quantity is a multiple."""
    if contract.sec_type == "STK" and contract.currency == "USD":
        return 0.0001
    return 0.01 if contract.sec_type == "CASH" else 1.0


def nearest(contract: Contract, value: float) -> float:
    """A price on the contract's grid; between two it is the upper one."""
    step = step_at(contract, value)
    return round(math.floor(value / step + 0.5) * step, 8)

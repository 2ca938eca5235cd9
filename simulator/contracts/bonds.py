"""Bonds: a few, so that a client meets the message that describes them, which is their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simulator.contracts.contract import SMART, Contract
from simulator.contracts.identifiers import check_digit
from simulator.contracts.instruments import Instrument

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Bond:
    """One bond; days are YYYYMMDD, the coupon is in percent a year, the price in percent of face.

    The numbers are made up: what is listed is nobody's.
    """

    con_id: int
    symbol: str
    name: str
    coupon: float
    issued: str
    matures: str
    kind: str
    ratings: str
    price: float

    @property
    def cusip(self) -> str:
        """Of the right form, and made up."""
        base = f"{self.con_id % 10**8:08}"
        return base + str(check_digit(base))


TREASURY, CORPORATE = "US GOVT", "CORP"
BONDS = {
    each.con_id: each
    for each in (
        Bond(150000001, "US-T", "US TREASURY NOTE", 4.25, "20241115", "20341115", TREASURY,
             "Aa1/AA+", 98.4),
        Bond(150000002, "US-T", "US TREASURY BOND", 3.0, "20190215", "20490215", TREASURY,
             "Aa1/AA+", 74.2),
        Bond(150000003, "MSFT", "MICROSOFT CORP", 3.3, "20170206", "20370206", CORPORATE,
             "Aaa/AAA", 91.7),
    )
}  # fmt: skip


def listed() -> Iterator[Instrument]:
    """Every bond as an instrument."""
    for bond in BONDS.values():
        contract = Contract(
            con_id=bond.con_id,
            symbol=bond.symbol,
            sec_type="BOND",
            exchange=SMART,
            local_symbol=bond.cusip,
            trading_class=bond.symbol,
            expiry=bond.matures,
            min_tick=0.01,
        )
        yield Instrument(contract, bond.price, 0.05, 0, bond.kind, bond.kind, bond.name)


def described(con_id: int) -> dict[str, Any]:
    """What bondContractDetails has of a bond that no other contract has."""
    bond = BONDS[con_id]
    year, month, day = bond.matures[2:4], bond.matures[4:6], bond.matures[6:]
    return {
        "cusip": bond.cusip,
        "coupon": bond.coupon,
        "maturity": bond.matures,
        "issue_date": bond.issued,
        "ratings": bond.ratings,
        "bond_type": bond.kind,
        "coupon_type": "FIXED",
        "convertible": False,
        "callable": False,
        "putable": False,
        "description": f"{bond.coupon:g} {month}/{day}/{year}",
    }

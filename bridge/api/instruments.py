"""How callers name an instrument: the same query parameters on every route."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from bridge.api.routing import Params
from bridge.market.contracts import contract_of, kind_of
from bridge.market.errors import InvalidFieldError
from bridge.model import Contract, Right

SymbolText = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=32,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 .&/_:+-]*$",
        description="The broker's symbol, e.g. AAPL, BRK B, ES",
        examples=["AAPL"],
    ),
]
SecType = Literal[
    "STK", "OPT", "FUT", "CASH", "IND", "CFD", "FOP", "CRYPTO", "BOND", "FUND", "CMDTY"
]
ExchangeText = Annotated[str, Meta(max_length=24, pattern=r"^[A-Za-z0-9._-]*$")]
CurrencyText = Annotated[str, Meta(max_length=3, pattern=r"^[A-Za-z]{3}$|^$")]
ExpirationText = Annotated[
    str, Meta(pattern=r"^([0-9]{8}|[0-9]{6})?$", description="YYYYMMDD (futures: also YYYYMM)")
]
ClassText = Annotated[str, Meta(max_length=24, pattern=r"^[A-Za-z0-9 ._-]*$")]
MultiplierText = Annotated[str, Meta(max_length=12, pattern=r"^[0-9.]*$")]
StrikeNumber = Annotated[float, Meta(ge=0, le=1e9)]
ConId = Annotated[int, Meta(ge=0, le=2**31 - 1, description="The broker's contract id; 0: none")]

_NEEDED = {"OPT": ("expiration", "strike", "right"), "FOP": ("expiration", "strike", "right")}


class InstrumentParams(Params, frozen=True):
    """An instrument, by its symbol and kind or by `conId`."""

    symbol: SymbolText
    con_id: ConId = 0
    sec_type: Annotated[
        SecType | None, Meta(description="The kind; without it and without `conId`: `STK`")
    ] = None
    exchange: ExchangeText = ""
    primary_exchange: ExchangeText = ""
    currency: Annotated[
        CurrencyText, Meta(description="Three letters; without it and without `conId`: `USD`")
    ] = ""
    expiration: ExpirationText = ""
    strike: StrikeNumber | None = None
    right: Right | None = None
    trading_class: ClassText = ""
    multiplier: MultiplierText = ""

    def contract(self) -> Contract:
        """As it was named.

        Raises:
            InvalidFieldError: a part is missing without which the contract is not one.
        """
        kind = kind_of(self)
        for name in () if self.con_id else _NEEDED.get(kind, ()):
            if getattr(self, name) in {None, ""}:
                raise InvalidFieldError(name, f"is needed for {kind}", code="missing")
        return self.partial()

    def partial(self) -> Contract:
        """The same for a search, in which parts may be missing."""
        return contract_of(self)


def stock_contract(symbol: str) -> Contract:
    """A stock by its symbol alone."""
    return Contract(symbol=symbol.upper())

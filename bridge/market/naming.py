"""How an instrument is named, by its parts or by the broker's number, and that both say the same.

Every route, the stream and orders name instruments alike; this is the one place that turns the
name into the question for the broker, and compares the broker's answer with every part that was
said. A part that contradicts `conId` is refused, never overruled: whoever said it meant it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Protocol

from bridge.market.errors import ContractMismatchError
from bridge.model import Contract, ContractDetails


class Named(Protocol):
    """What a caller names an instrument with; empty and None: that part was not said."""

    @property
    def con_id(self) -> int:
        """The broker's number; 0: by its parts."""

    @property
    def sec_type(self) -> str | None:
        """The kind."""


class NamedUnderlying(Named, Protocol):
    """What options are on. `expiration` and `trading_class` beside it are the options' own."""

    @property
    def symbol(self) -> str:
        """The symbol."""

    @property
    def exchange(self) -> str:
        """Where it trades; empty: as usual."""

    @property
    def currency(self) -> str:
        """The currency; empty: as usual."""

    @property
    def contract_month(self) -> str:
        """Which future, `YYYYMM` or the day of its expiry; empty for all other kinds."""


PARTS: Final = (
    "symbol",
    "exchange",
    "primary_exchange",
    "currency",
    "expiration",
    "strike",
    "right",
    "trading_class",
)
DEFAULT_EXCHANGES: Final = {"CASH": "IDEALPRO", "CRYPTO": "PAXOS", "FUT": "", "FOP": "", "IND": ""}
"""Where such instruments trade when nobody says; all others: SMART. Futures have no default."""


def kind_of(named: Named) -> str:
    """The kind: as it was said, a stock when neither kind nor number was; else "", unknown yet."""
    return named.sec_type or ("" if named.con_id else "STK")


def default_exchange(sec_type: str) -> str:
    """Where such instruments trade when nobody says."""
    return DEFAULT_EXCHANGES.get(sec_type, "SMART")


def contract_of(named: Named) -> Contract:
    """The name as a contract, with the defaults that hold when it goes by its parts.

    Beside a number every part stays as it was said, for `require_same`.
    """
    kind, multiplier = kind_of(named), getattr(named, "multiplier", "")
    said = {name: getattr(named, name) for name in PARTS if hasattr(named, name)}
    said["exchange"] = said["exchange"].upper() or (default_exchange(kind) if kind else "")
    said["currency"] = said["currency"].upper() or ("" if named.con_id else "USD")
    said["symbol"] = said["symbol"].strip().upper()
    if "primary_exchange" in said:
        said["primary_exchange"] = said["primary_exchange"].upper()
    text = multiplier if isinstance(multiplier, str) else f"{multiplier:g}"
    return Contract(con_id=named.con_id, sec_type=kind, multiplier=text, **said)


def underlying_of(named: NamedUnderlying) -> Contract:
    """The name of what options are on, as a contract; a future goes by its month or its number."""
    kind = kind_of(named)
    return Contract(
        con_id=named.con_id,
        symbol=named.symbol.strip().upper(),
        sec_type=kind,
        exchange=named.exchange.upper() or (default_exchange(kind) if kind else ""),
        currency=named.currency.upper() or ("" if named.con_id else "USD"),
        expiration=named.contract_month,
    )


def options_kind(underlying: str) -> str:
    """The kind of the options on such an underlying."""
    return "FOP" if underlying == "FUT" else "OPT"


def question(named: Contract) -> Contract:
    """What the broker is asked: by the number alone when there is one."""
    if not named.con_id:
        return named
    return Contract(
        con_id=named.con_id, sec_type=named.sec_type, exchange=named.exchange, currency=""
    )


def require_same(named: Contract, found: ContractDetails) -> None:
    """Compares what was said with what the broker answered to the number.

    Raises:
        ContractMismatchError: they contradict each other; every field is listed.
    """
    wrong = list(_contradictions(named, found)) if named.con_id else []
    if wrong:
        raise ContractMismatchError(named.con_id, wrong)


def _contradictions(
    named: Contract, found: ContractDetails
) -> Iterator[tuple[str, object, object]]:
    contract = found.contract
    if named.symbol and named.symbol not in {
        contract.symbol.upper(),
        contract.local_symbol.upper(),
    }:
        yield "symbol", named.symbol, contract.symbol
    days = {contract.expiration, found.real_expiration, found.contract_month} - {""}
    if len(named.expiration) == 6:
        days = {day[:6] for day in days}
    if named.expiration and named.expiration not in days:
        yield "expiration", named.expiration, contract.expiration or None
    said: tuple[tuple[str, object, object], ...] = (
        ("secType", named.sec_type, contract.sec_type),
        ("currency", named.currency, contract.currency),
        ("strike", named.strike, contract.strike),
        ("right", named.right, contract.right),
        ("tradingClass", named.trading_class, contract.trading_class),
        ("multiplier", _number(named.multiplier), _number(contract.multiplier)),
        ("primaryExchange", named.primary_exchange, contract.primary_exchange),
    )
    yield from (each for each in said if each[1] not in (None, "") and each[1] != each[2])


def _number(multiplier: str) -> float | str:
    try:
        return float(multiplier) if multiplier else ""
    except ValueError:
        return multiplier

"""Everything that is listed, found by number or by description."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from functools import cached_property
from typing import TYPE_CHECKING

from simulator.contracts.derivatives import (
    BLOCK,
    DAILY,
    FIRST_FUTURE_ID,
    FIRST_OPTION_ID,
    FUTURE,
    MONTH_LETTERS,
    MONTHS,
    MORNING,
    WEEKLY,
    OptionClass,
    Root,
    roots,
)
from simulator.contracts.instruments import (
    Instrument,
    listed_bonds,
    listed_instruments,
    security_ids,
)
from simulator.market.calendar import day_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulator.contracts.contract import Contract, Query

STOCK_EXCHANGES = (
    "SMART,AMEX,NYSE,CBOE,PHLX,ISE,CHX,ARCA,NASDAQ,DRCTEDGE,BEX,BATS,EDGEA,BYX,IEX,EDGX,FOXRIVER,"
    "PEARL,NYSENAT,LTSE,MEMX,IBEOS,OVERNIGHT,TPLUS0,PSX"
)
OPTION_EXCHANGES = (
    "SMART,AMEX,CBOE,PHLX,PSE,ISE,BOX,BATS,NASDAQOM,CBOE2,NASDAQBX,MIAX,GEMINI,EDGX,MERCURY,PEARL,"
    "EMERALD,MEMX,IBUSOPT"
)
FORMER_NAMES = {"ISLAND": "NASDAQ", "GLOBEX": "CME", "ECBOT": "CBOT"}
"""Names of exchanges that old programs still use."""
DAILY_OPTIONS = ("SPY", "QQQ", "IWM")


class NotFoundError(LookupError):
    """No contract fits; the text is the gateway's."""

    code = 200

    def __init__(self) -> None:
        super().__init__("No security definition has been found for the request")


class AmbiguousError(LookupError):
    """More than one contract fits; the text is the gateway's."""

    code = 200

    def __init__(self, query: Query) -> None:
        text = f"The contract description specified for {query.symbol or query.local_symbol}"
        tail = "; you must specify the multiplier or trading class." if query.expiry else "."
        super().__init__(f"{text} is ambiguous{tail}")


class Catalog:
    """The listed instruments; what is derived from them is made when asked for."""

    def __init__(self) -> None:
        self.instruments: dict[int, Instrument] = {}
        self._named: dict[tuple[str, str], list[Contract]] = {}
        for instrument in (*listed_instruments(), *listed_bonds()):
            self.add(instrument)
        self.roots = {root.name: root for root in roots()}

    def add(self, instrument: Instrument) -> None:
        """List one more; before anything was asked for.

        Raises:
            ValueError: its number is taken.
        """
        contract = instrument.contract
        if contract.con_id in self.instruments or contract.con_id >= FIRST_FUTURE_ID:
            raise ValueError(f"the contract number {contract.con_id} is taken")
        self.instruments[contract.con_id] = instrument
        for key in {contract.symbol, contract.local_symbol}:
            self._named.setdefault((contract.sec_type, key.upper()), []).append(contract)

    @cached_property
    def classes(self) -> list[OptionClass]:
        """Every class of options, in the order of their contract numbers."""
        found: list[OptionClass] = []
        first = FIRST_OPTION_ID
        for instrument in self.instruments.values():
            for name, rhythm in _classes_of(instrument):
                listed = OptionClass(
                    name=name,
                    underlying=instrument.contract,
                    anchor=instrument.price,
                    step=instrument.strike_step,
                    rhythm=rhythm,
                    first_id=first,
                )
                found.append(listed)
                first += listed.blocks * BLOCK
        for root in self.roots.values():
            if root.options:
                found.append(self._on_futures(root, first))
                first += BLOCK
        return found

    def _on_futures(self, root: Root, first: int) -> OptionClass:
        index = self.index_of(root)
        price = self.instruments[index.con_id].price if index else root.price
        return OptionClass(
            name=root.options,
            underlying=self._future(root.name, 2026, MONTH_LETTERS.index(root.cycle[0]) + 1),
            anchor=price,
            step=root.strike_step,
            rhythm=FUTURE,
            first_id=first,
            root=root,
        )

    def classes_on(self, con_id: int) -> list[OptionClass]:
        """The classes of options on one underlying."""
        return [each for each in self.classes if not each.root and each.underlying.con_id == con_id]

    def options_on(self, future: Contract, today: date) -> list[tuple[OptionClass, list[date]]]:
        """Each class of options on futures, with those of its days that deliver this one."""
        found = []
        for listed in self.classes:
            root = listed.root
            if root and root.name == future.symbol:
                days = [
                    day
                    for day in listed.expirations(today)
                    if root.con_id(*root.traded_until(day)) == future.con_id
                ]
                found.append((listed, days))
        return [(listed, days) for listed, days in found if days]

    def by_id(self, con_id: int) -> Contract | None:
        """The contract with that number, expired or not."""
        instrument = self.instruments.get(con_id)
        if instrument:
            return instrument.contract
        if con_id >= FIRST_OPTION_ID:
            for listed in self.classes:
                if listed.first_id <= con_id < listed.first_id + listed.blocks * BLOCK:
                    return listed.by_id(con_id)
            return None
        number, rest = divmod(con_id - FIRST_FUTURE_ID, MONTHS)
        for root in self.roots.values():
            year, month = divmod(rest - 1, 12)
            if root.number == number and MONTH_LETTERS[month] in root.cycle:
                return self._future(root.name, 2000 + year, month + 1)
        return None

    def find(self, query: Query, at: float) -> Iterator[Contract]:
        """Every contract that fits what the client wrote, on the exchange that it asked for."""
        for contract in self._candidates(query, day_of(at)):
            exchange = FORMER_NAMES.get(query.exchange, query.exchange) or contract.exchange
            if _fits(contract, query) and exchange in self.exchanges(contract):
                yield contract.at(exchange)

    def resolve(self, query: Query, at: float) -> Contract:
        """The one contract that fits.

        Raises:
            NotFoundError: none does.
            AmbiguousError: several do.
        """
        found = self.find(query, at)
        first = next(found, None)
        if first is None:
            raise NotFoundError
        if next(found, None) is not None:
            raise AmbiguousError(query)
        return first

    def exchanges(self, contract: Contract) -> list[str]:
        """Where a contract can be routed to."""
        if contract.sec_type == "OPT":
            return OPTION_EXCHANGES.split(",")
        if contract.sec_type == "STK" and contract.currency == "USD":
            return STOCK_EXCHANGES.split(",")
        if contract.sec_type == "STK":
            return ["SMART", contract.primary_exchange]
        if contract.sec_type in ("FUT", "CONTFUT", "FOP"):
            return [self.roots[contract.symbol].exchange, "QBALGO"]
        return [contract.exchange]

    def matching(self, pattern: str) -> list[Instrument]:
        """At most 16 instruments whose symbol or name begins with, or whose name holds, a text."""
        wanted = pattern.strip().upper()
        if not wanted:
            return []
        ranked = []
        for instrument in self.instruments.values():
            symbol, name = instrument.contract.symbol.upper(), instrument.name.upper()
            if instrument.contract.sec_type in ("CASH", "BOND"):
                continue
            exact, starts = symbol == wanted, symbol.startswith(wanted)
            if starts or wanted in name:
                ranked.append((not exact, not starts, symbol, instrument.contract.con_id))
        return [self.instruments[con_id] for *_, con_id in sorted(ranked)[:16]]

    def _candidates(self, query: Query, today: date) -> Iterator[Contract]:
        if query.con_id:
            contract = self.by_id(query.con_id)
            if contract and (not contract.expiry or contract.expiry >= f"{today:%Y%m%d}"):
                continuous = query.sec_type == "CONTFUT" and contract.sec_type == "FUT"
                yield replace(contract, sec_type="CONTFUT") if continuous else contract
            return
        if query.sec_id:
            yield from self._identified(query)
            return
        name = (query.symbol or query.local_symbol).upper()
        if query.sec_type in ("STK", "IND", "CASH", "BOND"):
            yield from self._named.get((query.sec_type, name), ())
        elif query.sec_type in ("FUT", "CONTFUT", "FUT+CONTFUT"):
            if query.sec_type != "FUT":
                yield from self._continuous(query, today)
            if query.sec_type != "CONTFUT":
                yield from self._futures(query, today)
        elif query.sec_type in ("OPT", "FOP"):
            yield from self._options(query, today)

    def _identified(self, query: Query) -> Iterator[Contract]:
        wanted = (query.sec_id_type.upper(), query.sec_id.upper())
        for instrument in self.instruments.values():
            contract = instrument.contract
            if contract.sec_type in ("", query.sec_type or contract.sec_type) and (
                wanted in security_ids(contract)
            ):
                yield contract

    def _continuous(self, query: Query, today: date) -> Iterator[Contract]:
        """The future that is traded most: the one that expires next."""
        for root in self.roots.values():
            if root.name == query.symbol.upper():
                year, month = root.months(today)[0]
                yield replace(self._future(root.name, year, month), sec_type="CONTFUT")

    def _futures(self, query: Query, today: date) -> Iterator[Contract]:
        begin = date(today.year - 2, today.month, 1) if query.include_expired else today
        for root in self.roots.values():
            if query.symbol.upper() in ("", root.name) and (query.symbol or query.local_symbol):
                months = root.months(today)
                if query.include_expired:
                    months = _months_from(root, begin, months)
                for year, month in months:
                    yield self._future(root.name, year, month)

    def index_of(self, root: Root) -> Contract | None:
        """The index that futures follow, if they do."""
        return next(iter(self._named.get(("IND", root.under), ())), None)

    def _future(self, name: str, year: int, month: int) -> Contract:
        root = self.roots[name]
        under = self.index_of(root)
        return root.contract(year, month, under.con_id if under else 0)

    def _options(self, query: Query, today: date) -> Iterator[Contract]:
        class_name = query.local_symbol[:6].strip()
        if query.sec_type == "FOP":
            class_name = query.local_symbol.partition(" ")[0][:-2]
        for listed in self.classes:
            if bool(listed.root) != (query.sec_type == "FOP"):
                continue
            if query.symbol and listed.underlying.symbol != query.symbol.upper():
                continue
            if not query.symbol and listed.name != class_name:
                continue
            if query.trading_class not in ("", listed.name):
                continue
            yield from _listed(listed, query, today)


def _listed(listed: OptionClass, query: Query, today: date) -> Iterator[Contract]:
    strikes = listed.strikes()
    if query.strike:
        strikes = [each for each in strikes if abs(each - query.strike) < 1e-6]
    rights = [query.right[:1].upper()] if query.right not in ("", "0", "?") else ["C", "P"]
    for expiry in listed.expirations(today):
        if not f"{expiry:%Y%m%d}".startswith(query.expiry):
            continue
        for strike in strikes:
            for right in rights:
                yield listed.contract(expiry, strike, right)


def _months_from(root: Root, begin: date, until: list[tuple[int, int]]) -> list[tuple[int, int]]:
    year, month = begin.year, begin.month
    found: list[tuple[int, int]] = []
    while (year, month) <= until[-1]:
        if MONTH_LETTERS[month - 1] in root.cycle:
            found.append((year, month))
        year, month = year + month // 12, month % 12 + 1
    return found


def _fits(contract: Contract, query: Query) -> bool:
    if query.con_id:
        return True
    pairs = (
        (query.currency, contract.currency),
        (query.local_symbol, contract.local_symbol),
        (query.trading_class, contract.trading_class),
        (query.multiplier, contract.multiplier),
    )
    if any(wanted and wanted != actual for wanted, actual in pairs):
        return False
    primary = FORMER_NAMES.get(query.primary_exchange, query.primary_exchange)
    if contract.primary_exchange and primary not in ("", "SMART", contract.primary_exchange):
        return False
    if len(query.expiry) == 6 and contract.month:
        return contract.month == query.expiry
    return contract.expiry.startswith(query.expiry)


def _classes_of(instrument: Instrument) -> list[tuple[str, str]]:
    symbol = instrument.contract.symbol
    if not instrument.strike_step:
        return []
    if symbol == "SPX":
        return [("SPX", MORNING), ("SPXW", DAILY)]
    return [(symbol.replace(" ", ""), DAILY if symbol in DAILY_OPTIONS else WEEKLY)]

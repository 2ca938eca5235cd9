"""Contracts: details, matching symbols, option chains, market rules, smart components."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from simulator.contracts.catalog import OPTION_EXCHANGES, NotFoundError
from simulator.contracts.details import describe, increments
from simulator.market.calendar import day_of
from simulator.tws.session import handles
from simulator.tws.wire import Field, Layout, frame, framed, text

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from simulator.contracts.catalog import Catalog
    from simulator.contracts.contract import Contract, Query
    from simulator.contracts.derivatives import OptionClass
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

SIZE_RULES = 164
NO_GROUP = 2147483647
CONTRACT_DETAILS = Layout(
    10,
    Field("version", until=SIZE_RULES, default=8),
    "request_id",
    "symbol",
    "sec_type",
    "last_trade",
    "strike",
    "right",
    "exchange",
    "currency",
    "local_symbol",
    "market_name",
    "trading_class",
    "con_id",
    "min_tick",
    Field("size_multiplier", since=110, until=SIZE_RULES, default=1),
    "multiplier",
    "order_types",
    "valid_exchanges",
    Field("price_magnifier", default=1),
    "under_con_id",
    "long_name",
    "primary_exchange",
    "contract_month",
    "industry",
    "category",
    "subcategory",
    "time_zone",
    "trading_hours",
    "liquid_hours",
    "ev_rule",
    Field("ev_multiplier", default=0),
    Field("security_ids", group=(Field("tag"), Field("value"))),
    Field("aggregated_group", since=121),
    Field("under_symbol", since=122),
    Field("under_sec_type", since=122),
    Field("market_rule_ids", since=126),
    Field("real_expiration", since=134),
    Field("stock_type", since=152),
    Field("suggested_size", since=163, until=SIZE_RULES),
    Field("minimum_size", since=SIZE_RULES),
    Field("size_increment", since=SIZE_RULES, default=1),
    Field("suggested_size", since=SIZE_RULES),
)
BOND_CONTRACT_DETAILS = Layout(
    18,
    Field("version", until=SIZE_RULES, default=6),
    "request_id",
    "symbol",
    "sec_type",
    "cusip",
    "coupon",
    "maturity",
    "issue_date",
    "ratings",
    "bond_type",
    "coupon_type",
    "convertible",
    "callable",
    "putable",
    "description",
    "exchange",
    "currency",
    "market_name",
    "trading_class",
    "con_id",
    "min_tick",
    Field("size_multiplier", since=110, until=SIZE_RULES, default=1),
    "order_types",
    "valid_exchanges",
    "next_option_date",
    "next_option_type",
    Field("next_option_partial", default=False),
    "notes",
    "long_name",
    "ev_rule",
    Field("ev_multiplier", default=0),
    Field("security_ids", group=(Field("tag"), Field("value"))),
    Field("aggregated_group", since=121),
    Field("market_rule_ids", since=126),
    Field("minimum_size", since=SIZE_RULES),
    Field("size_increment", since=SIZE_RULES, default=1),
    Field("suggested_size", since=SIZE_RULES),
)
SYMBOL_SAMPLES = Layout(
    79,
    "request_id",
    Field(
        "samples",
        group=(
            Field("con_id"),
            Field("symbol"),
            Field("sec_type"),
            Field("primary_exchange"),
            Field("currency"),
            Field("derivatives", group=(Field("sec_type"),)),
            Field("description", since=176),
            Field("issuer_id", since=176),
        ),
    ),
)
CHAIN = Layout(
    75,
    "request_id",
    "exchange",
    "underlying_id",
    "trading_class",
    "multiplier",
    Field("expirations", group=(Field("day"),)),
    Field("strikes", group=(Field("strike"),)),
)
MARKET_RULE = Layout(93, "rule", Field("increments", group=(Field("low_edge"), Field("increment"))))
DEPTH_EXCHANGES = Layout(
    80,
    Field(
        "exchanges",
        group=(
            Field("exchange"),
            Field("sec_type"),
            Field("listing", since=120),
            Field("service", since=120),
            Field("group", since=120, default=NO_GROUP),
            Field("second_level", until=120),
        ),
    ),
)
SMART_COMPONENTS = Layout(
    82, "request_id", Field("components", group=(Field("bit"), Field("exchange"), Field("letter")))
)


CONTRACT_DETAILS_END = 52
SEC_TYPES = frozenset(
    {"STK", "OPT", "FUT", "CONTFUT", "FUT+CONTFUT", "FOP", "IND", "CASH", "BAG", "BOND", "BILL"}
    | {
        "CFD",
        "CMDTY",
        "CRYPTO",
        "FUND",
        "IOPT",
        "NEWS",
        "WAR",
        "EVENT",
        "FIXED",
        "SLB",
        "ICU",
        "ICS",
    }
)
"""The kinds of contracts that the API knows, also those of which nothing is listed here."""
NO_KIND = "Please enter a valid security type"
CHAIN_END = 76
LETTERS = {
    "AMEX": "A", "NYSENAT": "C", "ISE": "I", "EDGEA": "J", "DRCTEDGE": "K", "CHX": "M",
    "NYSE": "N", "ARCA": "P", "NASDAQ": "Q", "IEX": "V", "CBOE": "W", "PSX": "X", "BYX": "Y",
    "BATS": "Z", "PEARL": "H", "MEMX": "U", "LTSE": "L",
}  # fmt: skip
"""Exchange -> the letter in tick types 32, 33 and 84, in the order of the bits."""
BBO_EXCHANGES = {"STK": "9c0001", "OPT": "9c0002"}
"""The key in tickReqParams by which a client asks for the smart components."""


def venue_of(contract: Contract) -> str:
    """The exchange that ticks of a contract name: where it is listed or traded most."""
    if contract.exchange != "SMART":
        return contract.exchange
    return "CBOE" if contract.kind == "OPT" else contract.primary_exchange


@handles(9, upstream=True)
def request_contract_details(session: Session, fields: Reader) -> None:
    """Send every contract that fits, then the end; 200 when none does."""
    fields.integer()
    request_id = fields.integer()
    query = fields.contract()
    if fields.boolean():
        query = replace(query, include_expired=True)
    sec_id_type, sec_id = (fields.text(), fields.text()) if fields.more else ("", "")
    if sec_id:
        query = replace(query, sec_id_type=sec_id_type, sec_id=sec_id)
    if query.sec_type not in SEC_TYPES and not (query.con_id or query.sec_id):
        session.error(request_id, 321, f"Error validating request.-'bW' : cause - {NO_KIND}")
        return
    if not query.con_id and not (query.symbol or query.local_symbol or query.sec_id):
        cause = "Please enter a local symbol or symbol"
        session.error(request_id, 321, f"Error validating request.-'bW' : cause - {cause}")
        return
    messages = _details(session, request_id, query)
    first = next(messages, None)
    if first is None:
        session.error(request_id, 200, str(NotFoundError()))
        return
    session.write(first)
    session.stream(messages)


def _details(session: Session, request_id: int, query: Query) -> Iterator[bytes]:
    world = session.world
    at, found = world.clock.time(), False
    for contract in world.catalog.find(query, at):
        found = True
        head, tail = _described(world.catalog, session.version, contract, day_of(at))
        yield framed(f"{head}{request_id}{tail}")
    if found:
        yield frame((CONTRACT_DETAILS_END, 1, request_id))


@lru_cache(maxsize=256)
def _described(catalog: Catalog, version: int, contract: Contract, today: date) -> tuple[str, str]:
    """A contractDetails or bondContractDetails message before and behind its request id."""
    content = describe(catalog, contract, today)
    layout = BOND_CONTRACT_DETAILS if contract.sec_type == "BOND" else CONTRACT_DETAILS
    values = [text(value) for value in layout.values(version, content)]
    place = 2 if version < SIZE_RULES else 1
    before, behind = values[:place], values[place + 1 :]
    return "\0".join([*before, ""]), "\0".join(["", *behind, ""])


@handles(81, upstream=True)
def request_matching_symbols(session: Session, fields: Reader) -> None:
    """Send the instruments whose symbol or name fits a text."""
    request_id, pattern = fields.integer(), fields.text()
    world = session.world
    samples = []
    for instrument in world.catalog.matching(pattern):
        contract = instrument.contract
        kinds = ["OPT"] if world.catalog.classes_on(contract.con_id) else []
        kinds += ["FUT"] if any(r.under == contract.symbol for r in _roots(session)) else []
        samples.append(
            {
                "con_id": contract.con_id,
                "symbol": contract.symbol,
                "sec_type": contract.sec_type,
                "primary_exchange": contract.primary_exchange or contract.exchange,
                "currency": contract.currency,
                "derivatives": [{"sec_type": kind} for kind in kinds],
                "description": instrument.name,
            }
        )
    session.send_layout(SYMBOL_SAMPLES, {"request_id": request_id, "samples": samples})


def _roots(session: Session) -> list[Any]:
    return list(session.world.catalog.roots.values())


@handles(78, upstream=True)
def request_option_chain(session: Session, fields: Reader) -> None:
    """Send expirations and strikes for each class and exchange, then the end."""
    request_id, symbol, venue = fields.integer(), fields.text(), fields.text().upper()
    fields.skip(1)
    con_id = fields.integer()
    contract = session.world.catalog.by_id(con_id)
    if contract is None or contract.symbol != symbol.upper():
        cause = "Invalid contract id" if contract is None else "Invalid symbol"
        session.error(request_id, 321, f"Error validating request.-'cI' : cause - {cause}")
        return
    session.stream(_chains(session, request_id, contract, venue))


def _chains(session: Session, request_id: int, underlying: Contract, venue: str) -> Iterator[bytes]:
    """Options on a future come for its exchange, those on anything else without one."""
    today = day_of(session.world.clock.time())
    catalog = session.world.catalog
    future = underlying.sec_type == "FUT"
    if future:
        found = catalog.options_on(underlying, today)
    else:
        classes = [] if venue else catalog.classes_on(underlying.con_id)
        found = [(listed, listed.expirations(today)) for listed in classes]
    for listed, days in found:
        content = _chain(listed, underlying) | {"request_id": request_id}
        content["expirations"] = [{"day": f"{day:%Y%m%d}"} for day in days]
        exchanges = [underlying.exchange] if future else OPTION_EXCHANGES.split(",")
        for exchange in exchanges:
            if not future or venue in ("", exchange):
                yield frame(CHAIN.values(session.version, content | {"exchange": exchange}))
    yield frame((CHAIN_END, request_id))


def _chain(listed: OptionClass, underlying: Contract) -> dict[str, Any]:
    return {
        "underlying_id": underlying.con_id,
        "trading_class": listed.name,
        "multiplier": underlying.multiplier or "100",
        "strikes": [{"strike": strike} for strike in listed.strikes()],
    }


@handles(91)
def request_market_rule(session: Session, fields: Reader) -> None:
    """Send the price increments of a market rule."""
    rule = fields.integer()
    steps = increments(rule)
    if steps is None:
        cause = "Invalid market rule id"
        session.error(-1, 321, f"Error validating request.-'cV' : cause - {cause} {rule}")
        return
    content = [{"low_edge": low, "increment": step} for low, step in steps]
    session.send_layout(MARKET_RULE, {"rule": rule, "increments": content})


@handles(83)
def request_smart_components(session: Session, fields: Reader) -> None:
    """Send which exchange stands behind each bit and letter."""
    request_id, key = fields.integer(), fields.text()
    if key not in BBO_EXCHANGES.values():
        cause = f"Invalid BBO exchange {key}"
        session.error(request_id, 321, f"Error validating request.-'cK' : cause - {cause}")
        return
    components = [
        {"bit": bit, "exchange": exchange, "letter": letter}
        for bit, (exchange, letter) in enumerate(LETTERS.items())
    ]
    session.send_layout(SMART_COMPONENTS, {"request_id": request_id, "components": components})


@handles(82)
def request_depth_exchanges(session: Session, fields: Reader) -> None:
    """Send where market depth can be had."""
    exchanges = [
        {"exchange": exchange, "sec_type": kind, "service": service, "second_level": True}
        for exchange, kind, service in (
            ("NASDAQ", "STK", "Deep2"), ("ARCA", "STK", "Deep"), ("BATS", "STK", "Deep"),
            ("IEX", "STK", "Deep"), ("NYSE", "STK", "Deep"), ("CME", "FUT", "Deep"),
            ("IDEALPRO", "CASH", "Deep"),
        )
    ]  # fmt: skip
    session.send_layout(DEPTH_EXCHANGES, {"exchanges": exchanges})

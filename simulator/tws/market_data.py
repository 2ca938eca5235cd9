"""Market data requests: stream or snap a contract, and the rules about who may."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.contracts.catalog import AmbiguousError, NotFoundError
from simulator.contracts.contract import Query
from simulator.market import options
from simulator.trading.combination import combine
from simulator.trading.terms import RefusedError
from simulator.tws.contracts import NO_KIND, SEC_TYPES
from simulator.tws.line import COMPETING, SNAPSHOT_SECONDS, DataType, Line
from simulator.tws.session import handles
from simulator.tws.ticks import LEGAL, legal_list, tick_option
from simulator.tws.wire import MalformedError

if TYPE_CHECKING:
    from simulator.contracts.contract import Contract
    from simulator.trading.terms import Rows
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader
    from simulator.world import World

LINE = "market data"
CUSTOM_OPTION = 53
NOT_SUBSCRIBED = "Requested market data is not subscribed."
DELAYED_SHOWN = f"{NOT_SUBSCRIBED} Displaying delayed market data."
DELAYED_OFF = f"{NOT_SUBSCRIBED} Delayed market data is not enabled."
NEEDS_MORE = (
    "Requested market data requires additional subscription for API. See link in 'Market Data "
    "Connections' dialog for more details.Delayed market data is available."
)


def find_contract(session: Session, request_id: int, query: Query, place: str) -> Contract | None:
    """The one contract that a client means; otherwise tell it what is wrong."""
    if not query.exchange:
        cause = f"Error validating request.-'{place}' : cause - Please enter exchange"
        session.error(request_id, 321, cause)
        return None
    if query.sec_type not in SEC_TYPES and not query.con_id:
        session.error(request_id, 321, f"Error validating request.-'{place}' : cause - {NO_KIND}")
        return None
    try:
        return session.world.catalog.resolve(query, session.world.clock.time())
    except (NotFoundError, AmbiguousError) as error:
        session.error(request_id, error.code, str(error))
        return None


def entitlement(world: World, contract: Contract) -> str:
    """What the account has paid for: `live`, `delayed` or `none`."""
    general = "live"
    for each in world.options.market_data.split(","):
        symbol, equals, level = each.partition("=")
        if not equals:
            general = symbol.strip()
        elif symbol.strip().upper() == contract.symbol:
            return level.strip()
    return general


def allowed_type(session: Session, request_id: int, contract: Contract) -> DataType | None:
    """The kind of data that the client gets; None after telling it that it gets none."""
    level = entitlement(session.world, contract)
    wanted = DataType(session.market_data_type)
    if session.world.faults.active("competing-session"):
        session.error(request_id, 10197, COMPETING)
        return None
    if level == "live":
        return DataType.FROZEN if wanted in (2, 4) else DataType.LIVE
    if level == "none":
        session.error(request_id, 354, NOT_SUBSCRIBED)
        return None
    if wanted in (DataType.DELAYED, DataType.DELAYED_FROZEN):
        session.error(request_id, 10167, DELAYED_SHOWN)
        return wanted
    if contract.kind in ("STK", "IND"):
        source = f"{contract.symbol} {contract.primary_exchange or contract.exchange}/TOP/ALL"
        session.error(request_id, 10089, NEEDS_MORE + source)
    else:
        session.error(request_id, 10168, DELAYED_OFF)
    return None


@handles(1, upstream=True)
def request_market_data(session: Session, fields: Reader) -> None:
    """Begin a line, or take one snapshot."""
    fields.integer()
    request_id = fields.integer()
    query = fields.contract()
    legs: Rows | None = None
    if query.sec_type == "BAG":
        legs = [tuple(fields.text() for _ in range(4)) for _ in range(fields.count())]
    if fields.boolean():
        fields.skip(3)
    ticks, snapshot = fields.text(), fields.boolean()
    if session.version >= 114:
        snapshot = fields.boolean() or snapshot
    if legs is None:
        contract = find_contract(session, request_id, query, "bQ")
    else:
        contract = _combination(session, request_id, query, legs)
    if contract is None:
        return
    generic = _generic(session, request_id, contract, ticks)
    if generic is None or not _free(session, request_id, snapshot, bool(generic)):
        return
    kind = allowed_type(session, request_id, contract)
    if kind is not None:
        _open_line(Line(session, request_id, contract, kind, generic), snapshot)


def _combination(session: Session, request_id: int, query: Query, legs: Rows) -> Contract | None:
    """The combination that a client means; otherwise tell it what is wrong."""
    world = session.world

    def find(con_id: int, exchange: str) -> Contract:
        return world.catalog.resolve(Query(con_id=con_id, exchange=exchange), world.clock.time())

    try:
        return combine(query.symbol, query.exchange, query.currency, legs, find)
    except RefusedError as error:
        session.error(request_id, error.code, error.text)
        return None


def _open_line(line: Line, snapshot: bool) -> None:
    session, clock = line.session, line.session.world.clock
    if snapshot:

        def finish() -> None:
            session.unsubscribe(LINE, line.request_id)
            line.end_snapshot()

        timer = clock.later(SNAPSHOT_SECONDS, finish)
    else:
        timer = clock.every(session.world.options.tick_interval, line.pulse)
    session.subscribe(LINE, line.request_id, timer.cancel)
    line.begin()


def _generic(
    session: Session, request_id: int, contract: Contract, ticks: str
) -> frozenset[int] | None:
    names = [each.partition(":")[0].strip() for each in ticks.split(",") if each.strip()]
    wrong = [each for each in names if not each.isdecimal() or int(each) not in LEGAL]
    wrong = [each for each in wrong if each.lower() != "mdoff"]
    if wrong:
        cause = f"Incorrect generic tick list of {ticks}.  {legal_list(contract.sec_type)}"
        session.error(request_id, 321, f"Error validating request.-'bQ' : cause - {cause}")
        return None
    return frozenset(int(each) for each in names if each.isdecimal())


def _free(session: Session, request_id: int, snapshot: bool, generic: bool) -> bool:
    if (LINE, request_id) in session.subscriptions:
        text = "Error processing request.-'bQ' : cause - Duplicate ticker id"
        session.error(request_id, 322, text)
    elif snapshot and generic:
        cause = "Snapshot market data subscription is not applicable to generic ticks"
        session.error(request_id, 321, f"Error validating request.-'bQ' : cause - {cause}")
    elif not snapshot and _lines(session.world) >= session.world.options.market_data_lines:
        session.error(request_id, 101, "Max number of tickers has been reached")
    else:
        return True
    return False


def _lines(world: World) -> int:
    return sum(kind == LINE for each in world.sessions for kind, _ in each.subscriptions)


@handles(2)
def cancel_market_data(session: Session, fields: Reader) -> None:
    """End a line."""
    fields.integer()
    request_id = fields.integer()
    if not session.unsubscribe(LINE, request_id):
        session.error(request_id, 300, f"Can't find EId with tickerId:{request_id}")


@handles(59)
def request_market_data_type(session: Session, fields: Reader) -> None:
    """Choose live, frozen, delayed or delayed-frozen for what is requested from now on."""
    fields.integer()
    kind = fields.integer()
    if kind not in (1, 2, 3, 4):
        cause = f"Invalid market data type {kind}"
        session.error(-1, 321, f"Error validating request.-'cE' : cause - {cause}")
        return
    session.market_data_type = kind


@handles(54, upstream=True)
def calculate_implied_volatility(session: Session, fields: Reader) -> None:
    """The volatility at which an option has the price that the client names."""
    _calculate(session, fields, from_price=True)


@handles(55, upstream=True)
def calculate_option_price(session: Session, fields: Reader) -> None:
    """The price that an option has at the volatility that the client names."""
    _calculate(session, fields, from_price=False)


def _calculate(session: Session, fields: Reader, *, from_price: bool) -> None:
    fields.integer()
    request_id = fields.integer()
    query = fields.contract()
    given, spot = fields.decimal(), fields.decimal()
    contract = find_contract(session, request_id, query, "bX")
    if contract is None:
        return
    if contract.kind != "OPT" or spot <= 0 or given <= 0:
        raise MalformedError("an option, its price or volatility and its underlying's are needed")
    market, now = session.world.market, session.world.clock.time()
    years, strike, right = market.years(contract, now), contract.strike, contract.right
    volatility: float | None = given
    if from_price:
        volatility = options.implied_volatility(given, spot, strike, years, right)
    greeks = volatility and options.greeks(spot, strike, years, volatility, right)
    tick_option(session, request_id, CUSTOM_OPTION, volatility, greeks or None, spot)


@handles(56)
def cancel_implied_volatility(session: Session, fields: Reader) -> None:
    """Nothing to end: the answer has gone out already."""
    fields.skip(2)


@handles(57)
def cancel_option_price(session: Session, fields: Reader) -> None:
    """Nothing to end: the answer has gone out already."""
    fields.skip(2)

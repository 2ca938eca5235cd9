"""reqExecutions: the day's fills."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.trading.book import ExecutionFilter
from simulator.trading.hours import moment
from simulator.trading.refusal import RefusedError
from simulator.tws import order_messages as messages
from simulator.tws.orders import trading_of
from simulator.tws.registry import handles

if TYPE_CHECKING:
    from simulator.tws.session import Session
    from simulator.tws.wire import Reader

EXECUTIONS_END = 55
BAD_TIME = "Error validating request.-'bI' : cause - Invalid time format in the execution filter."


@handles(7)
def request_executions(session: Session, fields: Reader) -> None:
    """The fills since midnight that pass the filter, each followed by its commission."""
    fields.skip(1)
    request_id = fields.integer()
    client_id, account, since = fields.integer(), fields.text(), fields.text()
    symbol, sec_type, exchange, side = (fields.text() for _ in range(4))
    trading = trading_of(session)
    midnight = trading.engine.market.midnight(session.world.clock.time())
    try:
        begin = max(moment(since), midnight) if since else midnight
    except RefusedError:
        session.error(request_id, 321, BAD_TIME)
        return
    wanted = ExecutionFilter(client_id, account, begin, symbol, sec_type, exchange, side.upper())
    found = [each for each in trading.engine.book.executions if wanted.takes(each)]
    for execution in found:
        messages.send_execution(session, execution, request_id)
    session.send(EXECUTIONS_END, 1, request_id)
    for execution in found:
        if execution.has_commission:
            messages.send_commission(session, execution)

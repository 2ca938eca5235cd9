"""The official client (ibapi, old or new) against a simulator; prints what it saw as JSON.

Usage: official.py PORT CLIENT_ID GROUPS [MAXIMUM_SERVER_VERSION...]

Every callback is recorded by name. The decoder is wrapped so that an unknown message, a message
that cannot be parsed and a field that nobody read are each a problem.
"""

import json
import logging
import os
import sys
import threading
import urllib.request

import ibapi.client
import ibapi.decoder
import ibapi.wrapper
from ibapi.contract import Contract
from ibapi.execution import ExecutionFilter
from ibapi.order import Order

try:
    from ibapi.order_cancel import OrderCancel
except ImportError:
    OrderCancel = None

PATIENCE = 20.0
problems = []


class Problems(logging.Handler):
    def emit(self, record):
        problems.append(record.getMessage()[:300])


def strict(method):
    """Wrap a decoder's method: all fields of the message must be read."""

    def process(self, fields):
        fields = list(fields)
        position = [0]

        def take():
            while position[0] < len(fields):
                position[0] += 1
                yield fields[position[0] - 1]

        try:
            method(self, take())
        except Exception as error:
            problems.append(f"{method.__name__}: {error!r} in {fields}")
            return
        if position[0] < len(fields):
            problems.append(f"{method.__name__}: unread {fields[position[0] :]}")

    process.__name__ = method.__name__
    return process


for info in ibapi.decoder.Decoder.msgId2handleInfo.values():
    if info.processMeth is not None:
        info.processMeth = strict(info.processMeth)

_interpret = ibapi.decoder.Decoder.interpret


def interpret(self, fields, *message_id):
    known = message_id[0] if message_id else int(fields[0]) if fields else 0
    if known and known not in self.msgId2handleInfo:
        problems.append(f"unknown message {known}")
    return _interpret(self, fields, *message_id)


ibapi.decoder.Decoder.interpret = interpret


class Client(ibapi.client.EClient):
    """Records every callback."""

    def __init__(self):
        self.events = []
        self.changed = threading.Condition()
        wrapper = ibapi.wrapper.EWrapper()
        for name in dir(ibapi.wrapper.EWrapper):
            if not name.startswith("_") and name != "logAnswer":
                setattr(wrapper, name, self.recorder(name))
        super().__init__(wrapper)

    def recorder(self, name):
        def record(*arguments):
            with self.changed:
                self.events.append((name, arguments))
                self.changed.notify_all()

        return record

    def seen(self, *names, since=0):
        return [arguments for name, arguments in self.events[since:] if name in names]

    def wait(self, true, what):
        with self.changed:
            if not self.changed.wait_for(lambda: problems or true(), PATIENCE) or problems:
                problems.append(f"nothing came: {what}; errors {self.errors()}")
                raise LookupError(what)

    def ask(self, request, *ends):
        """Send a request, and give the events up to the one that ends it."""
        since = len(self.events)
        request()
        self.wait(lambda: self.seen(*ends, since=since), ends)
        return since

    def errors(self, since=0):
        """(id, code) of every error, whichever form the callback has."""
        found = []
        for arguments in self.seen("error", since=since):
            numbers = [each for each in arguments if isinstance(each, int)]
            found.append((numbers[0], numbers[-1]))
        return found

    def cancel(self, order_id):
        if OrderCancel is None:
            self.cancelOrder(order_id)
        else:
            self.cancelOrder(order_id, OrderCancel())


def control(method, path, body=None):
    """Talk to the simulator's control port."""
    data = json.dumps(body or {}).encode()
    url = f"http://127.0.0.1:{os.environ['CONTROL_PORT']}{path}"
    urllib.request.urlopen(urllib.request.Request(url, data, method=method)).close()


def wind(client, seconds):
    """Wind the simulator's clock forward, once what was sent before has arrived."""
    client.ask(lambda: client.reqIds(1), "nextValidId")
    control("POST", "/clock", {"advance": seconds})


def contract(symbol="AAPL", kind="STK", exchange="SMART", currency="USD", **more):
    made = Contract()
    made.symbol, made.secType, made.exchange, made.currency = symbol, kind, exchange, currency
    for name, value in more.items():
        setattr(made, name, value)
    return made


def order(**terms):
    made = Order()
    for name in ("eTradeOnly", "firmQuoteOnly"):
        if hasattr(made, name):
            setattr(made, name, False)
    for name, value in ({"tif": "DAY", "action": "BUY", "totalQuantity": 100} | terms).items():
        setattr(made, name, value)
    return made


def statuses(client, order_id, since=0):
    return [each[1] for each in client.seen("orderStatus", since=since) if each[0] == order_id]


def place(client, order_id, status, wanted=None, **terms):
    """Place an order and wait for a status."""
    client.placeOrder(order_id, wanted or contract(), order(**terms))
    client.wait(lambda: status in statuses(client, order_id), f"{order_id} {status}")


def session(client):
    since = client.ask(client.reqCurrentTime, "currentTime")
    return {
        "serverVersion": client.serverVersion(),
        "accounts": client.seen("managedAccounts")[0][0].split(","),
        "nextId": client.seen("nextValidId")[0][0],
        "time": client.seen("currentTime", since=since)[0][0],
        "farms": sorted({code for _, code in client.errors() if 2100 < code < 2160}),
    }


def orders(client):
    first = client.seen("nextValidId")[-1][0]
    result = {"firstId": first}
    place(client, first, "Filled", orderType="MKT", orderRef="market")
    client.wait(lambda: client.seen("commissionReport", "commissionAndFeesReport"), "commission")
    execution = client.seen("execDetails")[-1][2]
    report = client.seen("commissionReport", "commissionAndFeesReport")[-1][0]
    opened = client.seen("openOrder")[-1]
    result["market"] = {
        "statuses": statuses(client, first),
        "execId": execution.execId,
        "shares": float(execution.shares),
        "price": execution.price,
        "side": execution.side,
        "orderRef": execution.orderRef,
        "permId": opened[2].permId,
        "commission": getattr(report, "commission", None) or report.commissionAndFees,
        "state": opened[3].status,
    }
    resting = first + 1
    place(client, resting, "Submitted", orderType="LMT", lmtPrice=10.0, orderRef="resting")
    since = len(client.events)
    client.placeOrder(
        resting, contract(), order(orderType="LMT", lmtPrice=11.0, orderRef="resting")
    )
    client.wait(
        lambda: any(each[2].lmtPrice == 11.0 for each in client.seen("openOrder")), "modified"
    )
    result["modified"] = client.seen("openOrder", since=since)[-1][2].lmtPrice
    since = client.ask(client.reqOpenOrders, "openOrderEnd")
    result["open"] = [each[2].orderRef for each in client.seen("openOrder", since=since)]
    client.cancel(resting)
    client.wait(lambda: "Cancelled" in statuses(client, resting), "cancelled")
    client.wait(lambda: (resting, 202) in client.errors(), "error 202")
    result["resting"] = statuses(client, resting)
    result["whatIf"] = what_if(client, first + 2)
    result["bracket"] = bracket(client, first + 3)
    client.placeOrder(first + 6, contract("NOSUCH"), order(orderType="MKT"))
    client.placeOrder(first + 7, contract(), order(orderType="LMT", lmtPrice=10.001))
    client.cancel(first + 900)
    wanted = {(first + 6, 200), (first + 7, 110), (first + 900, 10147)}
    client.wait(lambda: wanted <= set(client.errors()), "refusals")
    result["refused"] = sorted(code for number, code in wanted & set(client.errors()))
    if client.serverVersion() >= 150:
        since = client.ask(lambda: client.reqCompletedOrders(False), "completedOrdersEnd")
        result["completed"] = [
            [each[1].orderRef, each[2].status]
            for each in client.seen("completedOrder", since=since)
        ]
    return result


def what_if(client, order_id):
    since = client.ask(
        lambda: client.placeOrder(order_id, contract(), order(orderType="MKT", whatIf=True)),
        "openOrder",
    )
    state = client.seen("openOrder", since=since)[0][3]
    fee = getattr(state, "commission", None) or getattr(state, "commissionAndFees", None)
    return {"commission": fee, "after": float(state.initMarginAfter)}


def bracket(client, parent):
    place_terms = {"orderType": "LMT", "lmtPrice": 10.0, "transmit": False, "orderRef": "parent"}
    client.placeOrder(parent, contract(), order(**place_terms))
    child = {"action": "SELL", "parentId": parent}
    client.placeOrder(
        parent + 1, contract(), order(orderType="LMT", lmtPrice=900.0, transmit=False, **child)
    )
    client.placeOrder(parent + 2, contract(), order(orderType="STP", auxPrice=5.0, **child))
    client.wait(lambda: statuses(client, parent + 2)[1:], "bracket")
    held = [statuses(client, parent + step)[-1] for step in range(3)]
    client.cancel(parent)
    client.wait(
        lambda: all(statuses(client, parent + step)[-1:] == ["Cancelled"] for step in range(3)),
        "bracket cancelled",
    )
    return held


def executions(client):
    since = client.ask(lambda: client.reqExecutions(901, ExecutionFilter()), "execDetailsEnd")
    everything = [each[2].execId for each in client.seen("execDetails", since=since)]
    some = ExecutionFilter()
    some.symbol = "NOSUCH"
    since = client.ask(lambda: client.reqExecutions(902, some), "execDetailsEnd")
    return {"all": everything, "none": len(client.seen("execDetails", since=since))}


def account(client):
    name = client.seen("managedAccounts")[0][0].split(",")[0]
    since = client.ask(client.reqPositions, "positionEnd")
    positions = {
        each[1].symbol: [float(each[2]), each[3]] for each in client.seen("position", since=since)
    }
    client.cancelPositions()
    tags = "NetLiquidation,TotalCashValue,BuyingPower,$LEDGER"
    since = client.ask(lambda: client.reqAccountSummary(911, "All", tags), "accountSummaryEnd")
    summary = sorted({each[2] for each in client.seen("accountSummary", since=since)})
    client.cancelAccountSummary(911)
    since = client.ask(lambda: client.reqAccountUpdates(True, name), "accountDownloadEnd")
    values = {each[0]: each[1] for each in client.seen("updateAccountValue", since=since)}
    portfolio = [each[0].symbol for each in client.seen("updatePortfolio", since=since)]
    client.reqAccountUpdates(False, name)
    result = {
        "positions": positions,
        "summary": summary,
        "net": float(values["NetLiquidation"]),
        "portfolio": portfolio,
    }
    if client.serverVersion() < 103:
        return result
    client.ask(lambda: client.reqPositionsMulti(912, name, ""), "positionMultiEnd")
    client.cancelPositionsMulti(912)
    client.ask(lambda: client.reqAccountUpdatesMulti(913, name, "", False), "accountUpdateMultiEnd")
    client.cancelAccountUpdatesMulti(913)
    if client.serverVersion() >= 127:
        since = client.ask(lambda: client.reqPnL(914, name, ""), "pnl")
        client.cancelPnL(914)
        result["pnl"] = [
            each for each in client.seen("pnl", since=since)[0][1:] if each is not None
        ]
        since = client.ask(lambda: client.reqPnLSingle(915, name, "", 265598), "pnlSingle")
        client.cancelPnLSingle(915)
        result["held"] = float(client.seen("pnlSingle", since=since)[0][1])
    return result


def others(client):
    """Open orders of every client, auto-bind, cancel of everything."""
    since = client.ask(client.reqAllOpenOrders, "openOrderEnd")
    foreign = sorted({each[2].clientId for each in client.seen("openOrder", since=since)})
    client.reqAutoOpenOrders(True)
    if client.clientId != 0:
        client.wait(lambda: (-1, 321) in client.errors(), "auto-bind refused")
    since = len(client.events)
    if OrderCancel is None:
        client.reqGlobalCancel()
    else:
        client.reqGlobalCancel(OrderCancel())
    return {"clients": foreign}


def refused(client, number, code, request):
    """Send what is refused, and wait for the error."""
    request()
    client.wait(lambda: (number, code) in client.errors(), f"error {code}")
    return code


def contracts(client):
    since = client.ask(lambda: client.reqContractDetails(801, contract()), "contractDetailsEnd")
    details = client.seen("contractDetails", since=since)[0][1]
    found = getattr(details, "contract", None) or details.summary
    result = {"conId": found.conId, "longName": details.longName, "tick": details.minTick}
    wanted = contract(kind="FUT", symbol="ES", exchange="CME")
    since = client.ask(lambda: client.reqContractDetails(802, wanted), "contractDetailsEnd")
    result["futures"] = len(client.seen("contractDetails", since=since)) > 1
    wanted = contract(kind="CASH", symbol="EUR", exchange="IDEALPRO")
    client.ask(lambda: client.reqContractDetails(803, wanted), "contractDetailsEnd")
    wanted = contract(kind="IND", symbol="SPX", exchange="CBOE")
    client.ask(lambda: client.reqContractDetails(804, wanted), "contractDetailsEnd")
    unknown = contract("NOSUCH")
    result["unknown"] = refused(client, 805, 200, lambda: client.reqContractDetails(805, unknown))
    if client.serverVersion() >= 104:
        ask = client.reqSecDefOptParams
        since = client.ask(
            lambda: ask(806, "AAPL", "", "STK", found.conId),
            "securityDefinitionOptionParameterEnd",
        )
        chain = client.seen("securityDefinitionOptionParameter", since=since)[0]
        expirations, strikes = sorted(chain[5]), sorted(chain[6])
        result["chain"] = len(expirations) > 3 and len(strikes) > 10
        option = contract(
            kind="OPT",
            lastTradeDateOrContractMonth=expirations[-1],
            strike=strikes[len(strikes) // 2],
            right="C",
        )
        since = client.ask(lambda: client.reqContractDetails(807, option), "contractDetailsEnd")
        result["option"] = bool(client.seen("contractDetails", since=since))
    for since_version, request, end in (
        (107, client.reqFamilyCodes, "familyCodes"),
        (108, lambda: client.reqMatchingSymbols(808, "AA"), "symbolSamples"),
        (112, client.reqMktDepthExchanges, "mktDepthExchanges"),
        (115, client.reqNewsProviders, "newsProviders"),
        (126, lambda: client.reqMarketRule(26), "marketRule"),
    ):
        if client.serverVersion() >= since_version:
            client.ask(request, end)
    return result


def first_option(client):
    """An option on Apple, a few months away, near the money."""
    since = client.ask(
        lambda: client.reqSecDefOptParams(821, "AAPL", "", "STK", 265598),
        "securityDefinitionOptionParameterEnd",
    )
    chain = client.seen("securityDefinitionOptionParameter", since=since)[0]
    strikes = sorted(chain[6])
    return contract(
        kind="OPT",
        lastTradeDateOrContractMonth=max(chain[5]),
        strike=strikes[len(strikes) // 2],
        right="C",
    )


def market(client):
    client.reqMarketDataType(1)
    client.reqMktData(701, contract(), "100,101,104,106,233", False, False, [])
    wanted = {"tickPrice", "tickSize", "tickString", "tickGeneric", "marketDataType"}
    client.wait(lambda: wanted <= {name for name, _ in client.events}, "ticks")
    if client.serverVersion() >= 114:
        client.wait(lambda: client.seen("tickReqParams"), "tickReqParams")
        exchange_map = client.seen("tickReqParams")[0][2]
        client.ask(lambda: client.reqSmartComponents(712, exchange_map), "smartComponents")
    client.cancelMktData(701)
    client.ask(lambda: client.reqMktData(702, contract(), "", True, False, []), "tickSnapshotEnd")
    result = {"prices": sorted({each[1] for each in client.seen("tickPrice")} & {1, 2, 4})}
    if client.serverVersion() >= 104:
        option = first_option(client)
        client.reqMktData(703, option, "", False, False, [])
        client.wait(lambda: client.seen("tickOptionComputation"), "greeks")
        client.cancelMktData(703)
        since = len(client.events)
        client.calculateImpliedVolatility(704, option, 20.0, 200.0, [])
        client.calculateOptionPrice(705, option, 0.3, 200.0, [])
        client.wait(
            lambda: (
                {704, 705}
                <= {each[0] for each in client.seen("tickOptionComputation", since=since)}
            ),
            "calculations",
        )
    smart = client.serverVersion() >= 146
    venue = contract(exchange="SMART" if smart else "NASDAQ")
    client.reqMktDepth(706, venue, 5, smart, [])
    client.wait(lambda: client.seen("updateMktDepth", "updateMktDepthL2"), "depth")
    client.cancelMktDepth(706, smart)
    if client.serverVersion() >= 140:
        for number, kind, name in (
            (707, "Last", "tickByTickAllLast"),
            (708, "BidAsk", "tickByTickBidAsk"),
            (709, "MidPoint", "tickByTickMidPoint"),
        ):
            client.reqTickByTickData(number, contract(), kind, 0, False)
            wind(client, 30)
            client.wait(lambda name=name: client.seen(name), name)
            client.cancelTickByTickData(number)
    client.reqRealTimeBars(710, contract(), 5, "TRADES", True, [])
    wind(client, 10)
    client.wait(lambda: client.seen("realtimeBar"), "real-time bars")
    client.cancelRealTimeBars(710)
    result["unknown"] = refused(
        client,
        711,
        200,
        lambda: client.reqMktData(711, contract("NOSUCH"), "", False, False, []),
    )
    return result


def ask_bars(client, number, duration, size, show, keep):
    ask = client.reqHistoricalData
    return client.ask(
        lambda: ask(number, contract(), "", duration, size, show, not keep, 1, keep, []),
        "historicalDataEnd",
    )


def ask_ticks(client, number, show, name):
    ask, end = client.reqHistoricalTicks, "20261120 15:00:00 US/Eastern"
    client.ask(lambda: ask(number, contract(), "", end, 10, show, 1, True, []), name)


def history(client):
    bars = {}
    for number, duration, size, show, keep in (
        (601, "2 D", "1 hour", "TRADES", False),
        (602, "1 M", "1 day", "MIDPOINT", False),
        (603, "3600 S", "5 mins", "BID_ASK", False),
        (604, "1 D", "30 mins", "TRADES", True),
    ):
        since = ask_bars(client, number, duration, size, show, keep)
        found = client.seen("historicalData", since=since)
        bars[show + (" kept" if keep else "")] = len(found)
        if keep:
            wind(client, 10)
            if client.serverVersion() >= 124:
                client.wait(lambda: client.seen("historicalDataUpdate"), "bar updates")
            client.cancelHistoricalData(number)
    if client.serverVersion() >= 118:
        client.ask(
            lambda: client.reqHeadTimeStamp(605, contract(), "TRADES", 1, 1), "headTimestamp"
        )
        client.cancelHeadTimeStamp(605)
    if client.serverVersion() >= 119:
        client.ask(
            lambda: client.reqHistogramData(606, contract(), True, "3 days"), "histogramData"
        )
    if client.serverVersion() >= 130:
        for number, show, name in (
            (607, "TRADES", "historicalTicksLast"),
            (608, "BID_ASK", "historicalTicksBidAsk"),
            (609, "MIDPOINT", "historicalTicks"),
        ):
            ask_ticks(client, number, show, name)
    if client.serverVersion() >= 165:
        client.ask(
            lambda: client.reqHistoricalData(
                610, contract(), "", "5 D", "1 day", "SCHEDULE", 1, 1, False, []
            ),
            "historicalSchedule",
        )
    return {
        "bars": {name: count > 0 for name, count in bars.items()},
        "none": refused(
            client,
            611,
            200,
            lambda: client.reqHistoricalData(
                611, contract("NOSUCH"), "", "1 D", "1 hour", "TRADES", 1, 1, False, []
            ),
        ),
    }


def faults(client):
    """Faults that a client lives through, posted by the client itself."""
    seen = {}
    control("POST", "/faults", {"fault": "frames-dribbled", "seconds": 0.3})
    client.ask(lambda: client.reqContractDetails(501, contract()), "contractDetailsEnd")
    control("DELETE", "/faults")
    control("POST", "/faults", {"fault": "upstream-lost"})
    client.wait(lambda: (-1, 1100) in client.errors(), "1100")
    control("DELETE", "/faults")
    client.wait(lambda: (-1, 1102) in client.errors(), "1102")
    control("POST", "/faults", {"fault": "duplicate-status"})
    number = client.seen("nextValidId")[-1][0] + 50
    place(client, number, "Submitted", orderType="LMT", lmtPrice=10.0)
    client.wait(lambda: statuses(client, number).count("Submitted") == 2, "duplicate")
    seen["duplicates"] = statuses(client, number)
    control("DELETE", "/faults")
    control("POST", "/faults", {"fault": "late-fills"})
    place(client, number + 1, "Submitted", orderType="MKT")
    wind(client, 30)
    seen["early"] = statuses(client, number + 1)[-1]
    control("DELETE", "/faults")
    client.wait(lambda: "Filled" in statuses(client, number + 1), "late fill")
    control("POST", "/faults", {"fault": "drop-order-ack"})
    client.placeOrder(number + 2, contract(), order(orderType="MKT", orderRef="unacknowledged"))
    client.wait(lambda: not client.isConnected(), "dropped")
    control("DELETE", "/faults")
    seen["unacknowledged"] = statuses(client, number + 2)
    return seen


def selftest(client):
    """The checks themselves: a short, a long and an unknown message are problems."""
    before = len(problems)
    status = [b"3", b"7", b"Filled", b"1", b"0", b"1.0", b"5", b"0", b"1.0", b"1", b"", b"0"]
    old = client.serverVersion() < 178
    feed = client.decoder.interpret
    for fields in (status[:6], [*status, b"more"], [b"999", b"1"]):
        if old:
            feed(fields)
        else:
            feed(fields[1:], int(fields[0]))
    found = len(problems) - before
    del problems[before:]
    return {"found": found}


GROUPS = {
    "session": session,
    "contracts": contracts,
    "market": market,
    "history": history,
    "orders": orders,
    "executions": executions,
    "account": account,
    "others": others,
    "faults": faults,
    "selftest": selftest,
}


def visit(port, client_id, groups, maximum):
    ibapi.client.MAX_CLIENT_VER = maximum or ibapi.client.MAX_CLIENT_VER
    problems.clear()
    control("POST", "/clock", {"advance": 700})
    client = Client()
    client.connect("127.0.0.1", port, client_id)
    thread = threading.Thread(target=client.run)
    thread.start()
    result = {}
    try:
        client.wait(lambda: client.seen("nextValidId"), "nextValidId")
        for name in groups:
            result[name] = GROUPS[name](client)
    except Exception as error:
        problems.append(repr(error))
    result["callbacks"] = sorted({name for name, _ in client.events})
    client.disconnect()
    thread.join(5)
    result["problems"] = list(problems)
    return result


def main():
    logging.getLogger().addHandler(Problems(logging.ERROR))
    port, client_id = int(sys.argv[1]), int(sys.argv[2])
    groups = sys.argv[3].split(",")
    versions = [int(each) for each in sys.argv[4:]] or [0]
    visits = enumerate(versions)
    print(json.dumps([visit(port, client_id + n, groups, each) for n, each in visits]))


main()

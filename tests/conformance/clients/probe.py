"""The newest official client asks for one thing after the other; prints what came of each as JSON.

Usage: probe.py PORT. Each call names the callback that answers it. What came is `right`, the code
of an error for that request, or `silent` when nothing did in time.
"""

import json
import sys
import threading
import time
from decimal import Decimal

from ibapi.client import EClient
from ibapi.contract import ComboLeg, Contract
from ibapi.execution import ExecutionFilter
from ibapi.order import Order
from ibapi.order_cancel import OrderCancel
from ibapi.order_condition import PriceCondition, TimeCondition
from ibapi.scanner import ScannerSubscription
from ibapi.tag_value import TagValue
from ibapi.wrapper import EWrapper

PATIENCE = 5.0
NOTICES = {399, 2104, 2106, 2109, 2158, 10167, 10349}
EXPIRY = "20261218"


class Probe(EWrapper, EClient):
    def __init__(self):
        EWrapper.__init__(self)
        EClient.__init__(self, self)
        self.seen = []

    def error(self, *values):
        request, _, code, text, *_ = values
        self.seen.append(("error", request, code, text))


def record(name):
    def take(self, *values):
        self.seen.append((name, *values))

    return take


for _name in dir(EWrapper):
    if not _name.startswith("_") and _name not in {"error", "logAnswer"}:
        setattr(Probe, _name, record(_name))


def contract(kind, symbol, exchange="SMART", currency="USD", **more):
    made = Contract()
    made.secType, made.symbol, made.exchange, made.currency = kind, symbol, exchange, currency
    for name, value in more.items():
        setattr(made, name, value)
    return made


STOCK = contract("STK", "AAPL")
OPTION = contract(
    "OPT", "AAPL", lastTradeDateOrContractMonth=EXPIRY, strike=200.0, right="C", multiplier="100"
)
FUTURE = contract("FUT", "ES", "CME", lastTradeDateOrContractMonth="202612")
CONTRACTS = {
    "STK": STOCK,
    "OPT": OPTION,
    "FUT": FUTURE,
    "CONTFUT": contract("CONTFUT", "ES", "CME"),
    "FOP": contract(
        "FOP", "ES", "CME", lastTradeDateOrContractMonth=EXPIRY, strike=5900.0, right="C"
    ),
    "CASH": contract("CASH", "EUR", "IDEALPRO"),
    "IND": contract("IND", "SPX", "CBOE"),
}


def order(kind="LMT", quantity=1, price=10.0, **more):
    made = Order()
    made.action, made.orderType, made.totalQuantity = "BUY", kind, Decimal(str(quantity))
    made.tif = "DAY"
    if kind in {"LMT", "STP LMT", "LIT", "LOC"}:
        made.lmtPrice = price
    if kind in {"STP", "STP LMT", "TRAIL", "TRAIL LIMIT", "MIT", "LIT"}:
        made.auxPrice = price
    if kind == "TRAIL LIMIT":
        made.trailStopPrice, made.lmtPriceOffset = 900.0, 0.5
    for name, value in more.items():
        setattr(made, name, value)
    return made


def combination(legs):
    made = contract("BAG", "AAPL")
    made.comboLegs = []
    for con_id, action in legs:
        leg = ComboLeg()
        leg.conId, leg.ratio, leg.action, leg.exchange = con_id, 1, action, "SMART"
        made.comboLegs.append(leg)
    return made


def price_condition(con_id):
    made = PriceCondition(PriceCondition.TriggerMethodEnum.Default, con_id, "SMART", True, 900.0)
    made.isConjunctionConnection = True
    return made


class Run:
    def __init__(self, port):
        self.client = Probe()
        self.client.connect("127.0.0.1", port, 1)
        threading.Thread(target=self.client.run, daemon=True).start()
        self.await_("nextValidId", 0)
        self.next = 1000
        self.results = {}

    def await_(self, name, begin, request=None):
        """The answer of that name, or the error of the request; None in silence."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for each in self.client.seen[begin:]:
                if each[0] == name:
                    return each
                wrong = each[0] == "error" and each[2] not in NOTICES
                if wrong and request is not None and each[1] in (request, -1):
                    return each
            time.sleep(0.005)
        return None

    def call(self, label, answer, act):
        """Do one call; `act` gets a request id."""
        self.next += 1
        begin = len(self.client.seen)
        act(self.next)
        found = self.await_(answer, begin, self.next)
        outcome = "silent" if found is None else "right" if found[0] == answer else found[2]
        self.results[label] = outcome
        return self.next, found


def contracts(run):
    client = run.client
    numbers = {}
    for name, each in CONTRACTS.items():
        _, found = run.call(
            f"details {name}", "contractDetails", lambda n, c=each: client.reqContractDetails(n, c)
        )
        if found and found[0] == "contractDetails":
            numbers[name] = found[2].contract.conId
    for kind, number in (("ISIN", "US0378331005"), ("CUSIP", "037833100")):
        named = contract("STK", "", secIdType=kind, secId=number)
        run.call(
            f"details by {kind}",
            "contractDetails",
            lambda n, c=named: client.reqContractDetails(n, c),
        )
    bond = contract("BOND", "IBM")
    run.call("details BOND", "bondContractDetails", lambda n: client.reqContractDetails(n, bond))
    run.call(
        "chain of a stock",
        "securityDefinitionOptionParameter",
        lambda n: client.reqSecDefOptParams(n, "AAPL", "", "STK", numbers["STK"]),
    )
    run.call(
        "chain of a future",
        "securityDefinitionOptionParameter",
        lambda n: client.reqSecDefOptParams(n, "ES", "CME", "FUT", numbers["FUT"]),
    )
    run.call("matching", "symbolSamples", lambda n: client.reqMatchingSymbols(n, "apple"))
    run.call("market rule", "marketRule", lambda _: client.reqMarketRule(26))
    run.call("components", "smartComponents", lambda n: client.reqSmartComponents(n, "9c0001"))
    run.call("depth exchanges", "mktDepthExchanges", lambda _: client.reqMktDepthExchanges())
    return numbers


def data(run):
    client = run.client
    for name, each in CONTRACTS.items():
        number, _ = run.call(
            f"quotes {name}",
            "tickPrice",
            lambda n, c=each: client.reqMktData(n, c, "", False, False, []),
        )
        client.cancelMktData(number)
        kind = "MIDPOINT" if name == "CASH" else "TRADES"
        run.call(
            f"history {name}",
            "historicalData",
            lambda n, c=each, k=kind: client.reqHistoricalData(
                n, c, "", "2 D", "1 hour", k, 0, 1, False, []
            ),
        )
        run.call(
            f"head {name}",
            "headTimestamp",
            lambda n, c=each, k=kind: client.reqHeadTimeStamp(n, c, k, 0, 1),
        )
    run.call(
        "snapshot",
        "tickSnapshotEnd",
        lambda n: client.reqMktData(n, STOCK, "", True, False, []),
    )
    for kind in ("BID", "ASK", "BID_ASK", "ADJUSTED_LAST", "OPTION_IMPLIED_VOLATILITY"):
        run.call(
            f"history of {kind}",
            "historicalData",
            lambda n, k=kind: client.reqHistoricalData(
                n, STOCK, "", "5 D", "1 day", k, 1, 1, False, []
            ),
        )
    run.call(
        "schedule",
        "historicalSchedule",
        lambda n: client.reqHistoricalData(
            n, STOCK, "", "5 D", "1 day", "SCHEDULE", 1, 1, False, []
        ),
    )
    for kind, answer in (
        ("TRADES", "historicalTicksLast"),
        ("BID_ASK", "historicalTicksBidAsk"),
        ("MIDPOINT", "historicalTicks"),
    ):
        run.call(
            f"past ticks {kind}",
            answer,
            lambda n, k=kind: client.reqHistoricalTicks(
                n, STOCK, "", "20261119 15:00:00 US/Eastern", 10, k, 1, True, []
            ),
        )
    for kind, answer in (
        ("AllLast", "tickByTickAllLast"),
        ("BidAsk", "tickByTickBidAsk"),
        ("MidPoint", "tickByTickMidPoint"),
    ):
        run.call(
            f"ticks {kind}",
            answer,
            lambda n, k=kind: client.reqTickByTickData(n, STOCK, k, 0, False),
        )
    run.call(
        "five-second bars",
        "realtimeBar",
        lambda n: client.reqRealTimeBars(n, STOCK, 5, "TRADES", False, []),
    )
    run.call("depth", "updateMktDepthL2", lambda n: client.reqMktDepth(n, STOCK, 5, True, []))
    run.call(
        "histogram", "histogramData", lambda n: client.reqHistogramData(n, STOCK, True, "3 days")
    )
    run.call(
        "implied volatility",
        "tickOptionComputation",
        lambda n: client.calculateImpliedVolatility(n, OPTION, 10.0, 200.0, []),
    )
    run.call(
        "option price",
        "tickOptionComputation",
        lambda n: client.calculateOptionPrice(n, OPTION, 0.3, 200.0, []),
    )


def orders(run, numbers):
    client = run.client

    def place(label, what, made, answer="openOrder"):
        number, found = run.call(label, answer, lambda n: client.placeOrder(n, what, made))
        if found and found[0] == answer:
            client.cancelOrder(number, OrderCancel())

    kinds = ("LMT", "STP LMT", "LIT", "LOC", "STP", "TRAIL", "TRAIL LIMIT", "MIT", "MOC")
    for kind in (*kinds, "MTL", "MIDPRICE", "REL", "PEG MID", "PEG BENCH", "VOL"):
        place(f"order {kind}", STOCK, order(kind))
    for name in ("OPT", "FUT", "FOP", "CASH", "CONTFUT", "IND"):
        price = {"CASH": 1.0}.get(name, 1.0)
        place(f"order {name}", CONTRACTS[name], order(price=price))
    other = contract("OPT", "AAPL", lastTradeDateOrContractMonth=EXPIRY, strike=210.0, right="C")
    _, found = run.call(
        "details of a leg", "contractDetails", lambda n: client.reqContractDetails(n, other)
    )
    legs = [(numbers["OPT"], "BUY"), (found[2].contract.conId, "SELL")]
    place("order BAG", combination(legs), order(price=0.5))
    run.call(
        "fill BAG", "execDetails", lambda n: client.placeOrder(n, combination(legs), order("MKT"))
    )
    run.call(
        "quotes BAG",
        "tickPrice",
        lambda n: client.reqMktData(n, combination(legs), "", False, False, []),
    )
    place("price condition", STOCK, order(conditions=[price_condition(numbers["STK"])]))
    timed = TimeCondition(True, "20281218 10:00:00 US/Eastern")
    timed.isConjunctionConnection = True
    place("time condition", STOCK, order(conditions=[timed]))
    later = "20281218 10:00:00 US/Eastern"
    place("good after", STOCK, order(goodAfterTime=later, tif="GTC"))
    place("cash quantity", CONTRACTS["CASH"], order(quantity=0, price=1.0, cashQty=1000.0))
    urgent = [TagValue("adaptivePriority", "Urgent")]
    place("Adaptive", STOCK, order(algoStrategy="Adaptive", algoParams=urgent))
    place("unknown algorithm", STOCK, order(algoStrategy="Best", algoParams=[]))
    place("no exchange", contract("STK", "AAPL", ""), order())
    place("what if", STOCK, order(whatIf=True))
    run.call("fill", "execDetails", lambda n: client.placeOrder(n, STOCK, order("MKT")))
    run.call(
        "exercise",
        "openOrder",
        lambda n: client.exerciseOptions(n, OPTION, 1, 1, "", 1, "", "", False),
    )
    run.call(
        "lapse of too many",
        "openOrder",
        lambda n: client.exerciseOptions(n, OPTION, 2, 9, "", 1, "", "", False),
    )
    run.call("open orders", "openOrderEnd", lambda _: client.reqOpenOrders())
    run.call("all open orders", "openOrderEnd", lambda _: client.reqAllOpenOrders())
    run.call("completed", "completedOrdersEnd", lambda _: client.reqCompletedOrders(False))
    run.call("executions", "execDetailsEnd", lambda n: client.reqExecutions(n, ExecutionFilter()))


def account(run):
    client = run.client
    run.call(
        "summary",
        "accountSummaryEnd",
        lambda n: client.reqAccountSummary(n, "All", "NetLiquidation"),
    )
    run.call("updates", "accountDownloadEnd", lambda _: client.reqAccountUpdates(True, ""))
    run.call(
        "updates multi",
        "accountUpdateMultiEnd",
        lambda n: client.reqAccountUpdatesMulti(n, "DU1234567", "", False),
    )
    run.call("positions", "positionEnd", lambda _: client.reqPositions())
    run.call(
        "positions multi",
        "positionMultiEnd",
        lambda n: client.reqPositionsMulti(n, "DU1234567", ""),
    )
    run.call("profit", "pnl", lambda n: client.reqPnL(n, "DU1234567", ""))
    run.call(
        "profit of one", "pnlSingle", lambda n: client.reqPnLSingle(n, "DU1234567", "", 265598)
    )
    run.call("accounts", "managedAccounts", lambda _: client.reqManagedAccts())
    run.call("ids", "nextValidId", lambda _: client.reqIds(1))
    run.call("time", "currentTime", lambda _: client.reqCurrentTime())
    run.call("family codes", "familyCodes", lambda _: client.reqFamilyCodes())
    run.call("tiers", "softDollarTiers", lambda n: client.reqSoftDollarTiers(n))
    run.call("user", "userInfo", lambda n: client.reqUserInfo(n))
    run.call("news providers", "newsProviders", lambda _: client.reqNewsProviders())
    run.call("scanner parameters", "scannerParameters", lambda _: client.reqScannerParameters())
    run.call("display groups", "displayGroupList", lambda n: client.queryDisplayGroups(n))
    scan = ScannerSubscription()
    run.call("scanner", "scannerData", lambda n: client.reqScannerSubscription(n, scan, [], []))
    run.call("news article", "newsArticle", lambda n: client.reqNewsArticle(n, "BZ", "1", []))
    run.call(
        "past news",
        "historicalNews",
        lambda n: client.reqHistoricalNews(n, 265598, "BZ", "", "", 5, []),
    )
    run.call("advisor", "receiveFA", lambda _: client.requestFA(1))
    run.call("calendar", "wshMetaData", lambda n: client.reqWshMetaData(n))


def main():
    run = Run(int(sys.argv[1]))
    numbers = contracts(run)
    data(run)
    orders(run, numbers)
    account(run)
    run.client.disconnect()
    print(json.dumps(run.results))


if __name__ == "__main__":
    main()

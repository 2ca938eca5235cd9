"""ib_insync or ib_async against a simulator; prints what it saw as JSON.

Usage: insync.py MODULE PORT CLIENT_ID GROUPS

Every error that the library logs while it decodes is a problem; so is a request without an end.
"""

import asyncio
import importlib
import json
import logging
import os
import sys
import urllib.request

library = importlib.import_module(sys.argv[1])
problems = []
errors = []
PATIENCE = 20.0


class Problems(logging.Handler):
    def emit(self, record):
        text = record.getMessage()
        if "Error handling fields" in text or record.exc_info or "timed out" in text:
            detail = repr(record.exc_info[1]) if record.exc_info else ""
            problems.append(f"{text[:300]} {detail}")


async def until(true, what):
    try:
        async with asyncio.timeout(PATIENCE):
            while not true():
                await asyncio.sleep(0.005)
    except TimeoutError:
        problems.append(f"nothing came: {what}; errors {errors}")
        raise LookupError(what) from None


async def bounded(coroutine, what, seconds=PATIENCE):
    """Await it, but not for ever: these libraries set no deadline of their own."""
    try:
        return await asyncio.wait_for(coroutine, seconds)
    except TimeoutError:
        raise LookupError(f"no end: {what}; errors {errors}") from None


def stock():
    return library.Stock("AAPL", "SMART", "USD")


def seen(trade):
    """The statuses that came, without repeats and without what the library wrote itself."""
    words = [entry.status for entry in trade.log]
    return [word for n, word in enumerate(words) if n == 0 or words[n - 1] != word]


async def session(ib):
    now = await ib.reqCurrentTimeAsync()
    return {
        "serverVersion": ib.client.serverVersion(),
        "accounts": ib.managedAccounts(),
        "time": int(now.timestamp()),
    }


async def orders(ib):
    result = {"firstId": ib.client._reqIdSeq}
    order = library.MarketOrder("BUY", 100, tif="DAY", orderRef="market")
    trade = ib.placeOrder(stock(), order)
    await until(lambda: trade.fills and trade.fills[0].commissionReport.execId, "fill")
    await until(trade.isDone, "Filled")
    fill = trade.fills[0]
    result["market"] = {
        "statuses": seen(trade),
        "execId": fill.execution.execId,
        "shares": fill.execution.shares,
        "price": fill.execution.price,
        "side": fill.execution.side,
        "orderRef": fill.execution.orderRef,
        "permId": trade.order.permId,
        "commission": fill.commissionReport.commission,
        "state": trade.orderStatus.status,
    }
    order = library.LimitOrder("BUY", 100, 10.0, tif="DAY", orderRef="resting")
    resting = ib.placeOrder(stock(), order)
    await until(lambda: resting.orderStatus.status == "Submitted", "Submitted")
    order.lmtPrice = 11.0
    ib.placeOrder(stock(), order)
    await until(lambda: resting.log[-1].message in {"Modify", "Modified"}, "modified")
    open_orders = await ib.reqOpenOrdersAsync()
    result["open"] = sorted({trade.order.orderRef for trade in open_orders})
    result["modified"] = resting.order.lmtPrice
    ib.cancelOrder(order)
    await until(lambda: (order.orderId, 202) in errors, "error 202")
    result["resting"] = seen(resting)
    state = await ib.whatIfOrderAsync(stock(), library.MarketOrder("BUY", 100, tif="DAY"))
    result["whatIf"] = {"commission": state.commission, "after": float(state.initMarginAfter)}
    result["bracket"] = await bracket(ib)
    nowhere = library.Stock("NOSUCH", "SMART", "USD")
    unknown = ib.placeOrder(nowhere, library.MarketOrder("BUY", 1, tif="DAY"))
    odd = ib.placeOrder(stock(), library.LimitOrder("BUY", 1, 10.001, tif="DAY"))
    ib.client.cancelOrder(odd.order.orderId + 900)
    wanted = {
        (unknown.order.orderId, 200),
        (odd.order.orderId, 110),
        (odd.order.orderId + 900, 10147),
    }
    await until(lambda: wanted <= set(errors), "refusals")
    result["refused"] = sorted(code for _, code in wanted)
    completed = await ib.reqCompletedOrdersAsync(False)
    result["completed"] = [[each.order.orderRef, each.orderStatus.status] for each in completed]
    return result


async def bracket(ib):
    legs = ib.bracketOrder("BUY", 100, 10.0, 900.0, 5.0)
    trades = []
    for leg in legs:
        leg.tif = "DAY"
        trades.append(ib.placeOrder(stock(), leg))
    await until(lambda: trades[-1].orderStatus.status == "PreSubmitted", "bracket")
    await until(lambda: trades[0].orderStatus.status == "Submitted", "bracket's parent")
    held = [trade.orderStatus.status for trade in trades]
    ib.cancelOrder(trades[0].order)
    await until(lambda: all(trade.isDone() for trade in trades), "bracket cancelled")
    return held


async def executions(ib):
    everything = await ib.reqExecutionsAsync()
    none = await ib.reqExecutionsAsync(library.ExecutionFilter(symbol="NOSUCH"))
    return {"all": [fill.execution.execId for fill in everything], "none": len(none)}


async def account(ib):
    name = ib.managedAccounts()[0]
    positions = await ib.reqPositionsAsync()
    summary = await ib.accountSummaryAsync()
    await ib.reqAccountUpdatesAsync(name)
    await ib.reqAccountUpdatesMultiAsync(name)
    values = {each.tag: each.value for each in ib.accountValues() if each.account == name}
    pnl = ib.reqPnL(name)
    single = ib.reqPnLSingle(name, "", 265598)
    await until(lambda: pnl.dailyPnL == pnl.dailyPnL, "pnl")
    await until(lambda: single.dailyPnL == single.dailyPnL, "pnl single")
    ib.cancelPnL(name)
    ib.cancelPnLSingle(name, "", 265598)
    return {
        "positions": {each.contract.symbol: [each.position, each.avgCost] for each in positions},
        "summary": sorted({each.tag for each in summary}),
        "net": float(values["NetLiquidation"]),
        "portfolio": [each.contract.symbol for each in ib.portfolio()],
        "pnl": [pnl.dailyPnL, pnl.unrealizedPnL, pnl.realizedPnL],
        "held": single.position,
    }


async def others(ib):
    everyone = await ib.reqAllOpenOrdersAsync()
    ib.reqAutoOpenOrders(True)
    await until(lambda: (-1, 321) in errors, "auto-bind refused")
    ib.reqGlobalCancel()
    return {"clients": sorted({trade.order.clientId for trade in everyone})}


async def contracts(ib):
    details = (await ib.reqContractDetailsAsync(stock()))[0]
    futures = await ib.reqContractDetailsAsync(library.Future("ES", exchange="CME"))
    await ib.reqContractDetailsAsync(library.Forex("EURUSD"))
    await ib.reqContractDetailsAsync(library.Index("SPX", "CBOE"))
    await ib.reqContractDetailsAsync(library.Stock("NOSUCH", "SMART", "USD"))
    chain = (await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", details.contract.conId))[0]
    option = near_the_money(chain)
    qualified = await ib.reqContractDetailsAsync(option)
    await ib.reqMatchingSymbolsAsync("AA")
    await ib.reqMarketRuleAsync(26)
    await ib.reqMktDepthExchangesAsync()
    await ib.reqNewsProvidersAsync()
    return {
        "conId": details.contract.conId,
        "longName": details.longName,
        "tick": details.minTick,
        "futures": len(futures) > 1,
        "unknown": errors[[code for _, code in errors].index(200)][1],
        "chain": len(chain.expirations) > 3 and len(chain.strikes) > 10,
        "option": bool(qualified),
    }


def near_the_money(chain):
    strikes = sorted(chain.strikes)
    strike = strikes[len(strikes) // 2]
    return library.Option("AAPL", max(chain.expirations), strike, "C", "SMART")


async def market(ib):
    ib.reqMarketDataType(1)
    apple = library.Stock("AAPL", "SMART", "USD", conId=265598)
    nowhere = library.Stock("NOSUCH", "SMART", "USD", conId=1)
    ticker = ib.reqMktData(apple, "100,101,104,106,233")
    wanted = ("bid", "ask", "last", "bidSize", "impliedVolatility", "rtVolume")
    await until(lambda: all(getattr(ticker, each) > 0 for each in wanted), "ticks")
    await bounded(ib.reqSmartComponentsAsync(ticker.bboExchange), "smart components")
    ib.cancelMktData(apple)
    snapshot = ib.reqMktData(apple, "", True)
    await until(lambda: snapshot.last > 0, "snapshot")
    chain = (await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", 265598))[0]
    (option,) = await ib.qualifyContractsAsync(near_the_money(chain))
    greeks = ib.reqMktData(option, "")
    await until(lambda: greeks.modelGreeks and greeks.modelGreeks.delta, "greeks")
    ib.cancelMktData(option)
    implied = await ib.calculateImpliedVolatilityAsync(option, 20.0, 200.0)
    priced = await ib.calculateOptionPriceAsync(option, 0.3, 200.0)
    if implied is None or priced is None:
        problems.append("nothing calculated")
    depth = ib.reqMktDepth(apple, 5, isSmartDepth=True)
    await until(lambda: depth.domBids and depth.domAsks, "depth")
    ib.cancelMktDepth(apple, isSmartDepth=True)
    for kind in ("Last", "BidAsk", "MidPoint"):
        ticks = ib.reqTickByTickData(apple, kind)
        await wind(ib, 30)
        await until(lambda ticks=ticks: ticks.tickByTicks, kind)
        ib.cancelTickByTickData(apple, kind)
    bars = ib.reqRealTimeBars(apple, 5, "TRADES", True)
    await wind(ib, 10)
    await until(lambda: bars, "real-time bars")
    ib.cancelRealTimeBars(bars)
    before = len(errors)
    ib.reqMktData(nowhere, "")
    await until(lambda: 200 in {code for _, code in errors[before:]}, "error 200")
    prices = {1: ticker.bid, 2: ticker.ask, 4: ticker.last}
    return {"prices": [kind for kind, price in prices.items() if price > 0], "unknown": 200}


async def until_updated(ib, bars):
    updated = []
    bars.updateEvent += lambda *_: updated.append(1)
    await wind(ib, 10)
    await until(lambda: updated, "bar updates")


async def history(ib):
    found = {}
    for duration, size, show, keep in (
        ("2 D", "1 hour", "TRADES", False),
        ("1 M", "1 day", "MIDPOINT", False),
        ("3600 S", "5 mins", "BID_ASK", False),
        ("1 D", "30 mins", "TRADES", True),
    ):
        bars = await ib.reqHistoricalDataAsync(
            stock(), "", duration, size, show, not keep, keepUpToDate=keep
        )
        found[show + (" kept" if keep else "")] = len(bars) > 0
        if keep:
            await until_updated(ib, bars)
            ib.cancelHistoricalData(bars)
    await ib.reqHeadTimeStampAsync(stock(), "TRADES", True, 1)
    await ib.reqHistogramDataAsync(stock(), True, "3 days")
    for show in ("TRADES", "BID_ASK", "MIDPOINT"):
        end = "20261120 15:00:00 US/Eastern"
        if not await ib.reqHistoricalTicksAsync(stock(), "", end, 10, show, True):
            problems.append(f"no ticks of {show}")
    schedule = await ib.reqHistoricalScheduleAsync(stock(), 5)
    if not schedule.sessions:
        problems.append("no schedule")
    before = len(errors)
    nowhere = library.Stock("NOSUCH", "SMART", "USD")
    await ib.reqHistoricalDataAsync(nowhere, "", "1 D", "1 hour", "TRADES", True)
    return {"bars": found, "none": errors[before][1]}


def post(method, path, body=None):
    data = json.dumps(body or {}).encode()
    url = f"http://127.0.0.1:{os.environ['CONTROL_PORT']}{path}"
    urllib.request.urlopen(urllib.request.Request(url, data, method=method)).close()


async def control(method, path, body=None):
    """Talk to the simulator's control port."""
    await asyncio.get_running_loop().run_in_executor(None, post, method, path, body)


async def wind(ib, seconds):
    """Wind the simulator's clock forward, once what was sent before has arrived."""
    await ib.reqMatchingSymbolsAsync("AA")
    await control("POST", "/clock", {"advance": seconds})


async def faults(ib):
    """Faults that a client lives through, posted by the client itself."""
    raw = []
    receive = ib.client.decoder.interpret

    def interpret(fields):
        if fields[0] == "3":
            raw.append((int(fields[1]), fields[2]))
        receive(fields)

    ib.client.decoder.interpret = interpret
    await control("POST", "/faults", {"fault": "frames-dribbled", "seconds": 0.3})
    await ib.reqContractDetailsAsync(stock())
    await control("DELETE", "/faults")
    await control("POST", "/faults", {"fault": "upstream-lost"})
    await until(lambda: (-1, 1100) in errors, "1100")
    await control("DELETE", "/faults")
    await until(lambda: (-1, 1102) in errors, "1102")
    await control("POST", "/faults", {"fault": "duplicate-status"})
    resting = ib.placeOrder(stock(), library.LimitOrder("BUY", 100, 10.0, tif="DAY"))
    number = resting.order.orderId
    await until(lambda: raw.count((number, "Submitted")) == 2, "duplicate")
    duplicates = [status for each, status in raw if each == number]
    await control("DELETE", "/faults")
    await control("POST", "/faults", {"fault": "late-fills"})
    late = ib.placeOrder(stock(), library.MarketOrder("BUY", 100, tif="DAY"))
    await until(lambda: late.orderStatus.status == "Submitted", "Submitted")
    await wind(ib, 30)
    early = late.orderStatus.status
    await control("DELETE", "/faults")
    await until(lambda: late.orderStatus.status == "Filled", "late fill")
    await control("POST", "/faults", {"fault": "drop-order-ack"})
    order = library.MarketOrder("BUY", 100, tif="DAY", orderRef="unacknowledged")
    dropped = ib.placeOrder(stock(), order)
    await until(lambda: not ib.isConnected(), "dropped")
    await control("DELETE", "/faults")
    unacknowledged = [status for each, status in raw if each == dropped.order.orderId]
    return {"duplicates": duplicates, "early": early, "unacknowledged": unacknowledged}


async def selftest(ib):
    """The checks themselves: a short, a long and an unknown message are problems."""
    before = len(problems)
    for message in (["3", "7", "Filled"], ["5", "7", "short"], ["999", "1"]):
        ib.client.decoder.interpret(message)
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


async def main():
    asyncio.set_event_loop(asyncio.get_running_loop())
    logging.getLogger().addHandler(Problems())
    logging.getLogger().setLevel(logging.INFO)
    port, client_id, groups = int(sys.argv[2]), int(sys.argv[3]), sys.argv[4].split(",")
    ib = library.IB()
    ib.errorEvent += lambda number, code, *_: errors.append((number, code))
    result = {}
    try:
        await ib.connectAsync("127.0.0.1", port, client_id, timeout=PATIENCE)
        for name in groups:
            result[name] = await bounded(GROUPS[name](ib), name, 60.0)
    except Exception as error:
        problems.append(repr(error))
    ib.disconnect()
    result["problems"] = problems
    print(json.dumps([result]))


asyncio.run(main())

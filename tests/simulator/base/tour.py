"""A tour of every request group with a real client library; prints what its decoder could not read.

Runs in the environment of either library: `python tour.py ib_async|ib_insync PORT`.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import sys
from typing import Any

NOTICES = {2103, 2104, 2105, 2106, 2107, 2108, 2157, 2158}


class Complaints(logging.Handler):
    """What the library's decoder and client log as errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info or "ecoder" in record.name or "handling" in record.getMessage():
            self.found.append(f"{record.name}: {record.getMessage()[:300]}")


class Tour:
    def __init__(self, library: Any) -> None:
        self.lib = library
        self.ib = library.IB()
        self.ib.RequestTimeout = 20
        self.codes: list[int] = []
        self.seen: dict[str, Any] = {}
        self.ib.errorEvent += lambda _id, code, *_: self.codes.append(code)

    async def qualified(self, contract: Any) -> Any:
        [found] = await self.ib.qualifyContractsAsync(contract)
        return found

    async def contracts(self) -> None:
        lib, ib = self.lib, self.ib
        self.stock = await self.qualified(lib.Stock("AAPL", "SMART", "USD"))
        self.pair = await self.qualified(lib.Forex("EURUSD"))
        self.index = await self.qualified(lib.Index("SPX", "CBOE", "USD"))
        futures = await ib.reqContractDetailsAsync(lib.Future("ES", exchange="CME"))
        self.future = futures[0].contract
        self.seen["futures"] = len(futures)
        chains = await ib.reqSecDefOptParamsAsync("AAPL", "", "STK", self.stock.conId)
        self.seen["chains"] = len(chains)
        expiry = chains[0].expirations[3]
        option = lib.Option("AAPL", expiry, 200.0, "C", "SMART", currency="USD")
        self.option = await self.qualified(option)
        details = await ib.reqContractDetailsAsync(self.option)
        self.seen["longName"] = details[0].longName
        self.seen["unknown"] = len(await ib.reqContractDetailsAsync(lib.Stock("NOPE", "SMART")))
        self.seen["samples"] = len(await ib.reqMatchingSymbolsAsync("apple"))
        self.seen["rule"] = (await ib.reqMarketRuleAsync(26))[0].increment
        self.seen["components"] = len(await ib.reqSmartComponentsAsync("9c0001"))
        self.seen["depthExchanges"] = len(await ib.reqMktDepthExchangesAsync())

    async def market_data(self) -> None:
        ib = self.ib
        ticks = "100,101,104,105,106,165,221,233,236,293,294,295,318,375,411,456"
        tickers = [ib.reqMktData(self.stock, ticks)]
        tickers += [ib.reqMktData(each, "") for each in (self.pair, self.index)]
        tickers += [ib.reqMktData(self.future, "588"), ib.reqMktData(self.option, "100,101")]
        bars = ib.reqRealTimeBars(self.stock, 5, "TRADES", False)
        self.tick = ib.reqTickByTickData(self.stock, "BidAsk", 2)
        ib.reqTickByTickData(self.stock, "AllLast")
        ib.reqTickByTickData(self.pair, "MidPoint")
        ib.reqMktDepth(self.stock, 5, True)
        ib.reqMktDepth(self.future, 5)
        while not (bars and tickers[4].modelGreeks):
            await asyncio.sleep(0.1)
        option, stock = tickers[4], tickers[0]
        self.seen["bars"] = len(bars) > 0
        self.seen["stock"] = [stock.bid > 0, stock.ask > stock.bid, stock.volume > 0]
        self.seen["generic"] = [stock.histVolatility > 0, stock.impliedVolatility > 0]
        self.seen["greeks"] = 0 < option.modelGreeks.delta < 1
        for each in tickers:
            ib.cancelMktData(each.contract)
        price = await ib.calculateOptionPriceAsync(self.option, 0.3, 200.0)
        self.seen["priced"] = price.optPrice > 0
        ib.reqMarketDataType(3)
        ib.cancelRealTimeBars(bars)

    async def history(self) -> None:
        ib, stock = self.ib, self.stock
        self.seen["history"] = []
        for duration, size, kind in (
            ("1 D", "5 mins", "TRADES"),
            ("1 M", "1 day", "MIDPOINT"),
            ("1 Y", "1 week", "BID_ASK"),
            ("600 S", "1 secs", "BID"),
            ("1 M", "1 day", "OPTION_IMPLIED_VOLATILITY"),
        ):
            for form in (1, 2):
                bars = await ib.reqHistoricalDataAsync(stock, "", duration, size, kind, False, form)
                self.seen["history"].append(len(bars) > 3)
        live = await ib.reqHistoricalDataAsync(
            stock, "", "60 S", "5 secs", "TRADES", False, keepUpToDate=True
        )
        self.seen["head"] = str(await ib.reqHeadTimeStampAsync(stock, "TRADES", True, 1))[:4]
        schedule = await ib.reqHistoricalScheduleAsync(stock, 5)
        self.seen["schedule"] = len(schedule.sessions)
        end = "20261119 15:59:00 US/Eastern"
        for kind in ("TRADES", "BID_ASK", "MIDPOINT"):
            ticks = await ib.reqHistoricalTicksAsync(stock, "", end, 5, kind, True)
            self.seen[f"ticks {kind}"] = len(ticks)
        self.seen["histogram"] = len(await ib.reqHistogramDataAsync(stock, True, "1 day")) > 3
        ib.cancelHistoricalData(live)

    async def rest(self) -> None:
        ib = self.ib
        await ib.reqCurrentTimeAsync()
        await ib.reqNewsProvidersAsync()
        await ib.reqScannerParametersAsync()
        await ib.accountSummaryAsync()
        await ib.reqPositionsAsync()
        ib.client.reqSoftDollarTiers(9001)
        ib.client.reqFamilyCodes()
        ib.client.queryDisplayGroups(9002)
        ib.client.reqUserInfo(9003)
        ib.client.setServerLogLevel(2)
        ib.client.reqManagedAccts()
        await asyncio.sleep(0.3)


async def main(name: str, port: int) -> dict[str, Any]:
    complaints = Complaints()
    logging.getLogger().addHandler(complaints)
    library = importlib.import_module(name)
    tour = Tour(library)
    await tour.ib.connectAsync("127.0.0.1", port, clientId=3, timeout=10)
    tour.seen["version"] = tour.ib.client.serverVersion()
    await tour.contracts()
    await tour.market_data()
    await tour.history()
    await tour.rest()
    tour.ib.disconnect()
    errors = sorted({code for code in tour.codes if code not in NOTICES})
    return {"complaints": complaints.found, "errors": errors, **tour.seen}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], int(sys.argv[2])))))

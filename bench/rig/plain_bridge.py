"""What the bridge is compared with: Flask and ib_insync, one lock, as such bridges are written.

Run by `.venv-plain/bin/python bench/rig/plain_bridge.py --gateway N --port N`; it prints one JSON
line when it serves. One connection, made on demand; every request takes the lock, because
ib_insync must not be used from several threads at once; `/ping` takes none.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import threading
from typing import TYPE_CHECKING, Any

import ib_insync
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

app = Flask(__name__)
lock = threading.Lock()
loop = asyncio.new_event_loop()
ib = ib_insync.IB()
ib.RequestTimeout = 60
gateway = 4002


def run(ask: Callable[[], Awaitable[Any]], timeout: float = 60) -> Any:
    """What ib_insync answers, asked on the thread of its loop."""

    async def asked() -> Any:
        return await ask()

    return asyncio.run_coroutine_threadsafe(asked(), loop).result(timeout)


def turn() -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


def ensure_connected() -> None:
    if not ib.isConnected():
        run(lambda: ib.connectAsync("127.0.0.1", gateway, clientId=902, timeout=4))


@app.get("/ping")
def ping() -> Any:
    return jsonify(status="ok")


@app.get("/health")
def health() -> Any:
    with lock:
        connected = ib.isConnected()
    return jsonify(connected=connected, status="ok" if connected else "down")


@app.get("/positions")
def positions() -> Any:
    with lock:
        ensure_connected()
        held = run(ib.reqPositionsAsync)
    return jsonify([[item.account, item.contract.symbol, item.position] for item in held])


@app.get("/time")
def gateway_time() -> Any:
    with lock:
        ensure_connected()
        return jsonify(time=run(ib.reqCurrentTimeAsync).isoformat())


@app.get("/history")
def history() -> Any:
    symbol, duration = request.args["symbol"], request.args.get("duration", "1 D")
    size = request.args.get("barSize", "5 mins")
    with lock:
        ensure_connected()
        bars = run(
            lambda: ib.reqHistoricalDataAsync(
                ib_insync.Stock(symbol, "SMART", "USD"),
                endDateTime="",
                durationStr=duration,
                barSizeSetting=size,
                whatToShow="TRADES",
                useRTH=True,
            )
        )
    return jsonify([[str(bar.date), bar.close] for bar in bars])


@app.get("/order")
def order() -> Any:
    """A small limit order far from the market; GET only to keep the load generator simple."""
    with lock:
        ensure_connected()

        async def place() -> int:
            contract = ib_insync.Stock("AAPL", "SMART", "USD")
            limit = ib_insync.LimitOrder("BUY", 1, 1.0)
            trade = ib.placeOrder(contract, limit)
            return int(trade.order.orderId)

        return jsonify(orderId=run(place))


@app.get("/quotes")
def quotes() -> Any:
    """The last values of ten stocks, subscribed at the first request."""
    symbols = request.args["symbols"].split(",")
    with lock:
        ensure_connected()

        async def read() -> list[list[Any]]:
            known = {ticker.contract.symbol: ticker for ticker in ib.tickers() if ticker.contract}
            for symbol in symbols:
                if symbol not in known:
                    contract = ib_insync.Stock(symbol, "SMART", "USD")
                    known[symbol] = ib.reqMktData(contract)
            return [[symbol, known[symbol].last, known[symbol].lastSize] for symbol in symbols]

        return jsonify(run(read))


def main() -> None:
    global gateway
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", type=int, required=True)
    parser.add_argument("--port", type=int, required=True)
    given = parser.parse_args()
    gateway = given.gateway
    logging.disable(logging.CRITICAL)
    threading.Thread(target=turn, daemon=True).start()
    server = make_server("127.0.0.1", given.port, app, threaded=True)
    print(json.dumps({"ready": True}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

"""An hour of an app's use in a few minutes: what it asks for in an hour, without the pauses."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, zip_longest

import httpx
from websockets.sync.client import connect

SYMBOLS = ("AAPL", "MSFT", "SPY", "QQQ", "IBM", "TSLA", "AMZN", "NVDA")
HOUR = {
    "/quotes?symbols=AAPL,MSFT,SPY": 360,
    "/health": 120,
    "/positions": 120,
    "/executions": 60,
    "/account": 60,
    "/history?symbol=AAPL&duration=2%20D&barSize=5%20mins": 60,
    "/options/chain?symbol=AAPL": 12,
    "/options/quotes?symbol=AAPL&count=6": 12,
}
"""Path to how often it is asked in an hour: quotes every ten seconds, and so on."""


@contextmanager
def stream(port: int, key: str) -> Iterator[Counter[str]]:
    """A stream of quotes that is open all the while; counts its messages by type."""
    seen: Counter[str] = Counter()
    address = f"ws://127.0.0.1:{port}/stream"
    with connect(address, additional_headers={"X-API-KEY": key}, open_timeout=60) as held:
        held.send(json.dumps({"op": "subscribe", "channel": "quotes", "symbols": SYMBOLS}))

        def read() -> None:
            for text in held:
                seen[json.loads(text)["type"]] += 1

        reader = threading.Thread(target=read)
        reader.start()
        yield seen
        held.close()
        reader.join(30)


def hour(port: int, key: str, limit: float) -> Counter[int]:
    """Asks for an hour's worth, mixed, within `limit` seconds; how often each status came."""
    found: Counter[int] = Counter()
    until = time.monotonic() + limit
    mixed = zip_longest(*([path] * count for path, count in HOUR.items()))
    with httpx.Client(
        base_url=f"http://127.0.0.1:{port}", headers={"X-API-KEY": key}, timeout=60
    ) as app:
        for path in chain.from_iterable(mixed):
            if path is None:
                continue
            if time.monotonic() > until:
                break
            found[app.get(path).status_code] += 1
    return found


def asked() -> int:
    """How many requests an hour holds."""
    return sum(HOUR.values())

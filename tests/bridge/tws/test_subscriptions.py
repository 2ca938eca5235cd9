"""What is subscribed, over a wire that only writes down."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from bridge.model import Contract, MarketDataType
from bridge.tws.connection_context import ConnectionContext, Target
from bridge.tws.connection_state import Socket
from bridge.tws.errors import QueueFullError
from bridge.tws.pacing import Lane
from bridge.tws.subscriptions import MarketDataLine, Subscriptions
from tests.bridge.wound import WoundClock


class Sent:
    """Encoders that remember which of them were called."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_: self.names.append(name)


def listener() -> Any:
    return SimpleNamespace()


def test_a_line_is_given_back_however_many_requests_wait() -> None:
    clock, sent = WoundClock(), Sent()
    context = ConnectionContext(Target(), clock)
    context.wire = SimpleNamespace(send=sent)  # type: ignore[assignment]
    context.status.update(started=True, socket=Socket.UP)
    subscriptions = Subscriptions(context)
    contract, kind, nobody = Contract(symbol="A", con_id=1), MarketDataType.LIVE, listener()
    made = MarketDataLine(subscriptions, contract, nobody, (), kind, Lane.INTERACTIVE)
    line = subscriptions.add(made)
    assert sent.names[-1] == "reqMktData"
    with suppress(QueueFullError):
        while True:
            context.pacer.submit(Lane.INTERACTIVE, lambda: None)
    line.cancel()
    assert len(subscriptions) == 0
    clock.advance(60)
    assert sent.names[-1] == "cancelMktData"

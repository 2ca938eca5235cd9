"""What goes on until it is cancelled.

Market-data lines and profit and loss, restored over reconnects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from bridge import model
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.connection_state import Socket
from bridge.tws.convert import to_contract
from bridge.tws.errors import CompetingSessionError, TwsError
from bridge.tws.gateway import AccountValuesListener, MarketDataListener
from bridge.tws.pacing import Lane, Ticket

log = structlog.get_logger(__name__)
S = TypeVar("S", bound="Standing")
QUIET_SECONDS = 120.0  # without another 10197 for so long, the other session is taken to be gone


class Standing:
    """One subscription: the handle that a service holds, and what is asked for it."""

    messages = 1
    lane = Lane.INTERACTIVE

    def __init__(self, owner: Subscriptions) -> None:
        self._owner = owner
        self.request_id = 0  # 0 while it is not asked for at the gateway
        self.ticket: Ticket | None = None
        self.active = True

    @property
    def asked(self) -> bool:
        """Whether the request is on the wire."""
        return self.ticket is not None and self.ticket.written

    def renew(self) -> None:
        """Asks for it anew."""
        self._owner.renew(self)

    def cancel(self) -> None:
        if self.active:
            self.active = False
            self._owner.remove(self)

    def make_way(self) -> None:
        """Gives it back before what an order asks for, which would find no room else."""
        self.lane = Lane.ORDER
        self.cancel()

    def write(self, send: Any) -> None:
        raise NotImplementedError

    def write_cancel(self, send: Any, request_id: int) -> None:
        """Gives it back to the gateway."""
        raise NotImplementedError

    def failed(self, error: TwsError) -> None:
        """It was refused; the next value will never come, which a log line explains."""
        log.warning("subscription-refused", code=error.code, detail=error.detail)

    def interrupted(self) -> None:
        """Its source is gone."""

    def restored(self) -> None:
        """It was asked for again."""


class MarketDataLine(Standing):
    """One market-data line at the broker, asked for again after a reconnect."""

    messages = 2

    def __init__(
        self,
        owner: Subscriptions,
        contract: model.Contract,
        listener: MarketDataListener,
        generic_ticks: tuple[int, ...],
        kind: model.MarketDataType,
        lane: Lane,
    ) -> None:
        super().__init__(owner)
        self._contract = contract
        self._generic = ",".join(str(tick) for tick in generic_ticks)
        self._kind = kind
        self.lane = lane
        self.listener = listener

    def write(self, send: Any) -> None:
        """Sets the kind if need be, and asks for the line."""
        self._owner.set_kind(send, self._kind)
        send.reqMktData(
            self.request_id, to_contract(self._contract), self._generic, False, False, []
        )

    def write_cancel(self, send: Any, request_id: int) -> None:
        """Gives the line back."""
        send.cancelMktData(request_id)

    def tick(self, tick: model.Tick) -> None:
        if not tick.delayed and self._kind is model.MarketDataType.LIVE:
            self._owner.alone()
        self.listener.tick(tick)

    def failed(self, error: TwsError) -> None:
        self.listener.failed(error)

    def interrupted(self) -> None:
        """Its values are stale from now on."""
        self.listener.interrupted()

    def restored(self) -> None:
        """It was asked for again."""
        self.listener.restored()


class AccountValuesSubscription(Standing):
    """What the accounts are worth, by these tags."""

    def __init__(self, owner: Subscriptions, listener: AccountValuesListener, tags: str) -> None:
        super().__init__(owner)
        self._tags = tags
        self.listener = listener

    def write(self, send: Any) -> None:
        self.listener.begun()
        send.reqAccountSummary(self.request_id, "All", self._tags)

    def write_cancel(self, send: Any, request_id: int) -> None:
        send.cancelAccountSummary(request_id)

    def failed(self, error: TwsError) -> None:
        self.listener.failed(error)

    def interrupted(self) -> None:
        """The connection is gone."""
        self.listener.interrupted()


class PnLSubscription(Standing):
    """Profit and loss of an account or of one position."""

    def __init__(
        self,
        owner: Subscriptions,
        account: str,
        con_id: int,
        listener: Callable[[model.PnL], None],
    ) -> None:
        super().__init__(owner)
        self.account = account
        self.con_id = con_id
        self.listener = listener

    def write(self, send: Any) -> None:
        if self.con_id:
            send.reqPnLSingle(self.request_id, self.account, "", self.con_id)
        else:
            send.reqPnL(self.request_id, self.account, "")

    def write_cancel(self, send: Any, request_id: int) -> None:
        if self.con_id:
            send.cancelPnLSingle(request_id)
        else:
            send.cancelPnL(request_id)


class Subscriptions:
    """All that is subscribed; request ids are new after every reconnect."""

    def __init__(self, context: ConnectionContext) -> None:
        self._context = context
        self._all: list[Standing] = []
        self._by_id: dict[int, Standing] = {}
        self.sent_kind: model.MarketDataType | None = None
        self._competing_until = 0.0

    def __len__(self) -> int:
        return len(self._all)

    def add(self, running: S) -> S:
        """Starts a subscription now, or at the next connection."""
        self._all.append(running)
        if self._context.status.facts.socket is Socket.UP and self._context.upstream:
            self._ask(running)
        return running

    def remove(self, running: Standing) -> None:
        if running in self._all:
            self._all.remove(running)
        self._withdraw(running)

    def get(self, request_id: int) -> Standing | None:
        """The subscription of that request id."""
        return self._by_id.get(request_id)

    def fail(self, request_id: int, error: TwsError) -> bool:
        """The gateway refused one; false when the id is not ours."""
        running = self._by_id.pop(request_id, None)
        if running is None:
            return False
        if isinstance(error, CompetingSessionError):
            self.compete()
        running.request_id = 0
        running.active = False
        if running in self._all:
            self._all.remove(running)
        self._guard(lambda: running.failed(error))
        return True

    def interrupt(self, *, forget: bool) -> None:
        """The source is gone; ``forget`` when the gateway has forgotten the requests too."""
        for running in list(self._all):
            if forget:
                running.request_id, running.ticket = 0, None
            self._guard(running.interrupted)
        if forget:
            self._by_id.clear()
            self.sent_kind = None

    def withdraw(self) -> None:
        """Takes every request back, so that `restore` asks for all of them."""
        for running in list(self._all):
            self._withdraw(running)

    def restore(self) -> None:
        """Asks again for what the gateway does not have."""
        for running in list(self._all):
            if not running.request_id or (running.ticket and not running.ticket.written):
                self._by_id.pop(running.request_id, None)
                self._ask(running)
            self._guard(running.restored)

    def renew(self, running: Standing) -> None:
        """Asks for one anew, if it is asked for."""
        if running.request_id:
            self._withdraw(running)
            self._ask(running)

    def renew_lines(self) -> None:
        """Asks for every market-data line anew, as after a change of what they ask for."""
        for running in list(self._all):
            if isinstance(running, MarketDataLine) and running.request_id:
                self._guard(running.interrupted)
                self.renew(running)
                self._guard(running.restored)

    def set_kind(self, send: Any, kind: model.MarketDataType) -> None:
        """Written before a line of that kind, unless the gateway is set to it already."""
        wanted = self._context.target.kind_for(kind)
        if self.sent_kind is not wanted:
            send.reqMarketDataType(int(wanted))
            self.sent_kind = wanted

    # a competing session (10197) --------------------------------------------------------------

    def compete(self) -> None:
        """Live data goes elsewhere."""
        context = self._context
        self._competing_until = context.clock.monotonic() + QUIET_SECONDS
        context.status.update(competing=True)
        context.clock.call_later(QUIET_SECONDS, self._maybe_alone)

    def alone(self) -> None:
        """Live data has come: nobody competes."""
        if self._context.status.facts.competing:
            self._competing_until = 0.0
            self._context.status.update(competing=False)

    def _maybe_alone(self) -> None:
        if self._context.clock.monotonic() >= self._competing_until - 0.001:
            self.alone()

    # ------------------------------------------------------------------------------------------

    def _ask(self, running: Standing) -> None:
        context = self._context
        wire = context.wire
        if wire is None:
            return
        running.request_id = context.requests.new_id()
        self._by_id[running.request_id] = running

        try:
            running.ticket = context.pacer.submit(
                running.lane, lambda: running.write(wire.send), messages=running.messages
            )
        except TwsError as error:
            self.fail(running.request_id, error)

    def _withdraw(self, running: Standing) -> None:
        request_id, running.request_id = running.request_id, 0
        self._by_id.pop(request_id, None)
        ticket, wire = running.ticket, self._context.wire
        if not request_id or ticket is None or wire is None:
            return
        ticket.void = True
        if ticket.written:
            self._context.pacer.submit(
                running.lane,
                lambda: running.write_cancel(wire.send, request_id),
                gives_back=True,
            )

    @staticmethod
    def _guard(call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            log.exception("listener-failed")

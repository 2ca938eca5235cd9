"""The way of every request.

Is there a session, is its kind answering, its turn in the lane, its answer.

``Requester`` gives each coroutine of the gateway its promise: it ends in time, with a value or a
typed error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar, cast

from bridge.clock import within
from bridge.single_flight import SingleFlight
from bridge.tws.breaker import Breaker
from bridge.tws.connection_context import ConnectionContext
from bridge.tws.errors import (
    RequestRefusedError,
    RequestTimedOutError,
)
from bridge.tws.pacing import Lane, Ticket
from bridge.tws.requests import Key, Kind, Name, Pending

T = TypeVar("T")


_NEVER_BROKEN: Final = (Lane.CANCEL, Lane.ORDER)


class Requester:
    """Asks over the wire of the moment."""

    def __init__(self, context: ConnectionContext) -> None:
        self._context = context
        self._turns: dict[str, asyncio.Lock] = {}
        self._queued: dict[str, int] = {}
        self._flights: SingleFlight[tuple[Any, ...], Any] = SingleFlight(context.clock)

    async def by_id(
        self,
        kind: Kind,
        write: Callable[[Any, int], None],
        *,
        lane: Lane,
        timeout: float,
        cancel: Callable[[Any, int], None] | None = None,
        request_id: int | None = None,
        upstream: bool = True,
    ) -> list[Any]:
        """A request whose answer carries its id.

        ``cancel`` is sent when it is given up after sending. With ``upstream`` it is not sent at
        all while the gateway has lost the broker.
        """
        name = self._context.requests.new_id() if request_id is None else request_id
        return await self._ask(name, kind, write, lane, timeout, cancel, upstream=upstream)

    async def by_key(
        self, kind: Kind, key: str, write: Callable[[Any], None], *, lane: Lane, timeout: float
    ) -> list[Any]:
        """A request whose answer carries no id: one at a time for each key.

        Identical ones that are asked for at the same time share one answer.
        """
        return await self.together(
            (kind, key), timeout, lambda left: self._in_turn(kind, key, write, lane, left)
        )

    async def _in_turn(
        self, kind: Kind, key: str, write: Callable[[Any], None], lane: Lane, timeout: float
    ) -> list[Any]:
        begun = self._context.clock.monotonic()
        turn = self._turns.setdefault(key, asyncio.Lock())
        await self._take_turn(turn, key, kind, timeout)
        try:
            left = max(0.05, timeout - (self._context.clock.monotonic() - begun))
            return await self._ask(key, kind, lambda send, _: write(send), lane, left, None)
        finally:
            turn.release()
            if not turn.locked() and not self._queued.get(key):
                self._turns.pop(key, None)  # keys hold numbers of the gateway's

    async def _take_turn(self, turn: asyncio.Lock, key: str, kind: Kind, timeout: float) -> None:
        if not turn.locked() and not self._queued.get(key):
            await turn.acquire()  # at once: nobody has it and nobody waits for it
            return
        self._queued[key] = self._queued.get(key, 0) + 1
        try:
            await within(self._context.clock, timeout, turn.acquire())
        except TimeoutError:
            raise RequestTimedOutError(f"{kind} found no turn in {timeout:g} s") from None
        finally:
            self._queued[key] -= 1
            if not self._queued[key]:
                del self._queued[key]

    async def together(
        self, flight: tuple[Any, ...], timeout: float, ask: Callable[[float], Awaitable[T]]
    ) -> T:
        """Joins an identical request that is under way, or starts it with ``ask(seconds)``.

        Each caller keeps its own deadline: when what was joined gives up early, it is asked anew.
        """
        clock = self._context.clock
        deadline = clock.monotonic() + timeout
        while True:
            left = deadline - clock.monotonic()
            joined = self._flights.running(flight)
            answer = self._flights.get(flight, lambda left=left: ask(left))  # type: ignore[misc]
            try:
                # What is started here has the same deadline; waiting for that keeps both in step.
                return cast("T", await (within(clock, left, answer) if joined else answer))
            except RequestTimedOutError:
                if not joined or deadline - clock.monotonic() < 0.05:
                    raise
            except TimeoutError:
                text = f"{flight[0]} got no answer after {timeout:g} s"
                raise RequestTimedOutError(text) from None

    async def write_order(
        self, write: Callable[[Any], None], *, lane: Lane = Lane.ORDER, timeout: float = 5.0
    ) -> None:
        """Puts an order message on the wire; an exception means that it was not written."""
        self._context.require_ready()
        name = self._context.requests.new_id()
        await self._ask(
            name, Kind.ORDER, lambda send, _: write(send), lane, timeout, None, done=True
        )

    async def _ask(
        self,
        name: Name,
        kind: Kind,
        write: Callable[[Any, int], None],
        lane: Lane,
        timeout: float,
        cancel: Callable[[Any, int], None] | None,
        *,
        done: bool = False,
        upstream: bool = True,
    ) -> list[Any]:
        context = self._context
        wire = context.require(upstream=upstream and name != Key.CURRENT_TIME)
        breaker = None if lane in _NEVER_BROKEN else context.breakers[kind]
        if breaker:
            breaker.enter()
        pending = context.requests.open(name, kind, timeout)

        def put() -> None:
            if pending.future.done():
                return
            try:
                write(wire.send, name if isinstance(name, int) else 0)
            except Exception as error:  # the encoders write whole messages or nothing
                pending.future.set_exception(error)
                return
            pending.sent_at = context.clock.monotonic()
            if done and not pending.future.done():
                pending.future.set_result([])

        ticket: Ticket | None = None
        try:
            with _learning(breaker, pending):
                ticket = context.pacer.submit(lane, put)
                return await pending.future
        except (RequestTimedOutError, asyncio.CancelledError):
            self._give_up(pending, ticket, cancel)
            raise
        finally:
            if ticket:
                ticket.void = True
            context.requests.close(pending)

    def _give_up(
        self, pending: Pending, ticket: Ticket | None, cancel: Callable[[Any, int], None] | None
    ) -> None:
        if (
            ticket
            and ticket.written
            and cancel
            and self._context.wire
            and isinstance(pending.name, int)
        ):
            wire, name = self._context.wire, pending.name
            self._context.pacer.submit(
                Lane.INTERACTIVE, lambda: cancel(wire.send, name), gives_back=True
            )


@contextmanager
def _learning(breaker: Breaker | None, pending: Pending) -> Iterator[None]:
    """Tells the breaker how the request ended; a refusal is an answer too."""
    try:
        yield
    except BaseException as error:
        if breaker is None:
            pass
        elif isinstance(error, RequestRefusedError):
            breaker.answered()
        elif isinstance(error, RequestTimedOutError) and pending.sent_at is not None:
            breaker.timed_out()
        else:
            breaker.abandoned()
        raise
    if breaker:
        breaker.answered()

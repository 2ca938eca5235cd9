"""The one task that owns the connection: dial, start, watch, lose, dial again; for ever.

Delays between attempts grow from ``backoff_first`` to ``backoff_cap`` with jitter, and start over
when a port that was closed opens. After a connection that lasted there is none; after one that did
not, they begin at how many in a row did not, whatever the attempts before it have cost. The cap is
small because an attempt at a closed port costs nothing and apps wait for the answer. It is larger
where the gateway itself says no, which costs it something each time, and when nothing has listened
for minutes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import structlog

from bridge.clock import settle, within
from bridge.tws.connection_context import ConnectionContext, waiting_for_2fa
from bridge.tws.connection_state import DialProblem, Socket, can_trade
from bridge.tws.errors import ConnectionLostError
from bridge.tws.gateway import Reconciler
from bridge.tws.heartbeat import Heartbeat, UpstreamProbe
from bridge.tws.wire import CloseReason, DialError, Wire, greet

HOOK_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Hook:
    """One service's work."""

    name: str
    work: Reconciler
    required: bool


class Reconciliation:
    """What has to be put in order after every (re)connect, before and after the state is ready.

    Runs the hooks each time ``wanted`` is set.
    """

    def __init__(self, context: ConnectionContext) -> None:
        self._context = context
        self._hooks: list[Hook] = []
        self.wanted = asyncio.Event()

    def add(self, hook: Hook) -> None:
        """Registers a hook; names are for events and logs."""
        self._hooks.append(hook)

    async def run(self) -> None:
        """For the life of one connection."""
        self.wanted.set()
        while True:
            await self.wanted.wait()
            self.wanted.clear()
            if self._context.upstream and await self._required():
                self._context.status.update(reconciled=True, was_ready=True)
                self._context.events.ready.emit()
                await self._others()

    async def _required(self) -> bool:
        """True when all have passed; false when it has to begin anew."""
        for hook in self._hooks:
            pause = 0.5
            while hook.required and not await self._passed(hook):
                if self.wanted.is_set() or not self._context.upstream:
                    return False
                await self._context.clock.sleep(pause)
                pause = min(5.0, pause * 2)
        return not self.wanted.is_set() and self._context.upstream

    async def _others(self) -> None:
        for hook in self._hooks:
            if not hook.required and not self.wanted.is_set():
                await self._passed(hook)

    async def _passed(self, hook: Hook) -> bool:
        try:
            await within(self._context.clock, HOOK_SECONDS, hook.work())
        except asyncio.CancelledError:
            raise
        except Exception as error:
            log.warning("reconcile-failed", hook=hook.name, error=str(error) or repr(error))
            self._context.diagnostics.note("reconcile-failed", hook=hook.name, error=str(error))
            return False
        return True


STABLE_SECONDS = 10.0
LOGIN_SECONDS = 5.0  # a forwarder that closes for this long: the gateway behind it is at its login
LATER, LATER_SECONDS, REFUSED_SECONDS = 5.0, 120.0, 15.0
"""So much larger is the cap, without a session for so long; sooner where the gateway itself says
no. Not at once: it may not have seen yet that our own last connection is over."""
_CLOSED_PORT = (DialProblem.REFUSED, DialProblem.UNREACHABLE)
_NOBODY_THERE = (*_CLOSED_PORT, DialProblem.CLOSED)
"""Behind a forwarder a closed port looks like one that closes."""
log = structlog.get_logger(__name__)


class Starting:
    """What the callbacks report while a session is being started."""

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.have_id = False
        self.have_accounts = False

    def seen(self, *, order_id: bool = False, accounts: bool = False) -> None:
        """One of the two messages that make a session has come."""
        self.have_id |= order_id
        self.have_accounts |= accounts
        if self.have_id and self.have_accounts and not self.done.done():
            self.done.set_result(None)

    def refused(self, problem: DialProblem, detail: str) -> None:
        """The gateway will not have this session."""
        if not self.done.done():
            self.done.set_exception(DialError(problem, detail))


class Supervisor:
    """``run`` is the owner task; the other methods may be called from anywhere on the loop."""

    def __init__(
        self,
        context: ConnectionContext,
        heartbeat: Heartbeat,
        reconciliation: Reconciliation,
        upstream_probe: UpstreamProbe,
        callbacks: Callable[[Starting], object],
        on_lost: Callable[[str], None],
    ) -> None:
        self._context = context
        self._heartbeat = heartbeat
        self._reconciliation = reconciliation
        self._upstream_probe = upstream_probe
        self._callbacks = callbacks
        self._on_lost = on_lost
        self._wake = asyncio.Event()
        self._watchers: list[asyncio.Future[str | None]] = []
        self._tries = 0
        self._short = 0
        """Connections in a row that did not last."""
        self._without_since = context.clock.monotonic()
        self._closing_since: float | None = None

    async def run(self) -> None:
        self._context.status.update(started=True)
        while True:
            wire = await self._connect()
            connected_at = self._context.clock.monotonic()
            try:
                reason = await self._watch(wire)
            finally:
                wire.drop(CloseReason.LET_GO)
                self._context.wire = None
            self._lost(reason)
            self._without_since = self._context.clock.monotonic()
            if self._context.clock.monotonic() - connected_at >= STABLE_SECONDS:
                self._tries = self._short = 0
            elif not self._wake.is_set():
                self._tries, self._short = self._short, self._short + 1
                await self._pause()

    def reconnect(self, reason: str) -> None:
        """Drops what there is and dials at once."""
        self._tries = 0
        self._wake.set()
        if self._context.wire:
            self._context.wire.drop(reason)
            self._context.status.update(socket=Socket.NONE, reconciled=False)

    async def attempt(self, seconds: float) -> str | None:
        """Hurries the next attempt and waits for its end.

        The error, or None when the session has become ready.
        """
        context = self._context
        if can_trade(context.status.facts):
            return None
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str | None] = loop.create_future()

        def ready() -> None:
            if not ended.done():
                ended.set_result(None)

        remove = context.events.ready.listen(ready)
        self._watchers.append(ended)
        if context.status.facts.socket is Socket.NONE:
            self._wake.set()
        try:
            return await within(context.clock, seconds, ended)
        except TimeoutError:
            return f"no result within {seconds:g} s"
        finally:
            remove()
            if ended in self._watchers:
                self._watchers.remove(ended)

    # connecting -------------------------------------------------------------------------------

    async def _connect(self) -> Wire:
        while True:
            self._wake.clear()
            self._context.diagnostics.attempted()
            try:
                wire = await self._attempt()
            except DialError as error:
                self._failed(error)
                await self._pause()
            else:
                return wire

    async def _attempt(self) -> Wire:
        context = self._context
        target = context.target
        wire = await greet(
            target.host,
            target.port,
            context.clock,
            on_silence=lambda: context.status.update(problem=DialProblem.SILENT),
        )
        try:
            if context.target is not target:
                raise DialError(DialProblem.NOT_STARTED, "the settings changed meanwhile")
            context.status.update(socket=Socket.GREETED, logging_in=False, upstream=True)
            await self._start(wire)
        except BaseException:
            wire.drop(CloseReason.NOT_STARTED)
            context.wire = None
            context.status.update(socket=Socket.NONE)
            raise
        self._closing_since = None
        return wire

    async def _start(self, wire: Wire) -> None:
        context = self._context
        starting = Starting()
        context.wire = wire
        context.version_ends = None  # a gateway that ends says so at each connect
        context.pacer.charge()
        wire.held_up, wire.on_size = self._context.held_up, self._context.requests.arriving
        context.readings.begin(wire.version, context.target)
        client_id = context.target.client_id
        wire.start(self._callbacks(starting), client_id=client_id, readings=context.readings)
        ends: set[asyncio.Future[Any]] = {starting.done, wire.lost}
        waiting = asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        with suppress(TimeoutError):
            await within(context.clock, context.target.start_seconds, waiting)
        if starting.done.done():
            starting.done.result()
            context.server_version = wire.version
            return
        starting.done.cancel()
        detail = (
            f"the gateway did not start the session in {context.target.start_seconds:g} s"
            if wire.alive
            else f"before the session was started, {wire.lost.result()}"
        )
        raise DialError(DialProblem.NOT_STARTED, detail)

    def _failed(self, error: DialError) -> None:
        context = self._context
        before = context.status.facts.problem
        if before in _CLOSED_PORT and error.problem not in _CLOSED_PORT:
            self._tries = 0
        context.diagnostics.attempt_failed(
            error.problem.value,
            error.detail,
            expected=self._tries == 0 or context.expected_now(),
        )
        context.status.update(problem=error.problem, logging_in=self._logging_in(error.problem))
        self._tell(error.detail)

    def _logging_in(self, problem: DialProblem) -> bool:
        clock = self._context.clock
        said = waiting_for_2fa(self._context.login_file, clock.now().timestamp())
        now = clock.monotonic()
        if problem is not DialProblem.CLOSED:
            self._closing_since = None
            return said is True
        if self._closing_since is None:
            self._closing_since = now
        if said is not None:
            return said
        return now - self._closing_since >= LOGIN_SECONDS and not self._context.expected_now()

    def _tell(self, result: str) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(result)

    async def _pause(self) -> None:
        target = self._context.target
        grown = min(self._longest_pause(), target.backoff_first * 2 ** min(self._tries, 20))
        if target.quick_attempts and self._tries >= target.quick_attempts:
            grown = target.slow_pause
        self._tries += 1
        delay = grown * self._context.random.uniform(0.7, 1.0)
        with suppress(TimeoutError):
            await within(self._context.clock, delay, self._wake.wait())

    def _longest_pause(self) -> float:
        cap = self._context.target.backoff_cap
        without = self._context.clock.monotonic() - self._without_since
        problem = self._context.status.facts.problem
        if problem is None:  # the last one was a session, which did not last
            return cap * LATER
        soon = LATER_SECONDS if problem in _NOBODY_THERE else REFUSED_SECONDS
        return cap if without < soon else cap * LATER

    # connected --------------------------------------------------------------------------------

    async def _watch(self, wire: Wire) -> str:
        """Until the wire is lost; why."""
        context = self._context
        context.breakers.reset()
        context.status.update(
            socket=Socket.UP,
            problem=None,
            logging_in=False,
            heartbeat=True,
            reconciled=False,
            competing=False,
        )
        context.diagnostics.connected(
            version=wire.version,
            clientId=context.target.client_id,
            accounts=len(context.accounts),
        )
        tasks = [
            asyncio.create_task(self._heartbeat.run(wire), name="heartbeat"),
            asyncio.create_task(self._reconciliation.run(), name="reconciliation"),
            asyncio.create_task(self._upstream_probe.run(), name="upstream-probe"),
        ]
        try:
            ends: set[asyncio.Future[Any]] = {wire.lost, *tasks}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done() and not task.cancelled() and task.exception():
                    failure = task.exception()
                    log.error("session-task-failed", task=task.get_name(), exc_info=failure)
                    wire.drop(f"the bridge's {task.get_name()} failed")
            return await wire.lost
        finally:
            await settle(*tasks)

    def _lost(self, reason: str) -> None:
        context = self._context
        expected = context.expected_now()
        context.pacer.clear()
        context.status.update(socket=Socket.NONE, upstream=True, reconciled=False, heartbeat=True)
        context.requests.fail_all(
            lambda kind: ConnectionLostError(f"{kind} was pending when {reason}"), forget=True
        )
        context.diagnostics.disconnected(reason, expected=expected)
        self._on_lost(reason)

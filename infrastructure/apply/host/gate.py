"""Waits until the stack is really healthy. Runs on the host: standard library, Python 3.9.

Container -> JVM with the right flags -> login -> API handshake -> bridge connected -> Caddy
serving. Waiting for a second factor has a budget of its own and is no failure.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from infrastructure.apply.host.wire import Cancelled
from infrastructure.health import jvm, login, probes
from infrastructure.observe.containers import serving
from infrastructure.runtime.base import HostFailure

if TYPE_CHECKING:
    from collections.abc import Callable

    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Container, Runtime

POLL = 0.25
LOOK = 1.0
TAIL = 25
BRIDGE_PORT = 8080


class WaitingForPerson(Exception):  # noqa: N818
    """The second factor was not approved within its budget; everything was left as it is."""


class Gate:
    """One look at a stack until it is healthy, or is not going to be.

    `checks` says what healthy means: `{"gateway": {"jvm": [flags], "twoFactorWait": seconds},
    "bridge": {"port"}, "caddy": {"port", "address", "name"}}`, and `{}` for others.
    `seconds` is the budget for everything but the wait for a person. `since`: a login from before
    this moment does not count (the gateway was told to restart inside its container).
    `on_waiting` is called when the wait for a person begins. `key` reads the bridge's first key, to
    whose holder the bridge says why it is not ready.
    """

    def __init__(
        self,
        runtime: Runtime,
        wire: Wire,
        checks: dict[str, dict[str, Any]],
        seconds: float,
        since: str = "",
        on_waiting: Callable[[], None] = lambda: None,
        key: Callable[[], str] = str,
    ) -> None:
        self._runtime = runtime
        self._wire = wire
        self._checks = checks
        self._deadline = time.monotonic() + seconds
        self._seconds = seconds
        self._since = since
        self._on_waiting = on_waiting
        self._key = key
        self._looked = 0.0
        self._containers: dict[str, Container] = {}
        self._restarts: dict[str, int] = {}

    def run(self, seen: dict[str, Container] | None = None) -> None:
        """Returns when all is healthy; HostFailure, WaitingForPerson or Cancelled otherwise.

        `seen` are the containers as they were a moment ago.
        """
        self._look(seen)
        self._restarts = {name: found.restarts for name, found in self._containers.items()}
        order = sorted(self._checks, key=lambda name: _ORDER.get(name, 1))
        for name in order:
            if name == "gateway":
                self._gateway(name)
                continue
            self._service(name)
            more = {"bridge": self._bridge, "caddy": self._caddy}.get(name)
            if more is not None and self._checks[name]:
                more(self._checks[name])

    # --- any service --------------------------------------------------------------------------
    def _service(self, name: str) -> None:
        """Its container runs and its own healthcheck passes."""
        reason = ""
        while True:
            container = self._containers[name]
            if container.health == "healthy":
                return
            passed, reason = self._runtime.probe(container, 10)
            if passed:
                return
            self._pause(name, f"{name} does not become healthy", reason)

    def _bridge(self, check: dict[str, Any]) -> None:
        """Connected to the gateway: orders could be placed, or a person has halted trading."""
        self._stage("bridge", "connecting", "connecting to the gateway")
        while True:
            address, port = reach(self._containers["bridge"], check["port"])
            status, body = probes.ready(address, port, self._key())
            state = body.get("state", "") if isinstance(body, dict) else ""
            if status == 200 or state == "halted":
                self._stage("bridge", "connected", "bridge connected")
                return
            reason = f"/ready answers {status} {state}".rstrip() if status else "no answer"
            self._pause("bridge", "the bridge does not connect to the gateway", reason)

    def _caddy(self, check: dict[str, Any]) -> None:
        """Passes requests on; with a public name, its certificate may still be on the way."""
        while True:
            passed, reason = probes.caddy(check["address"], check["port"], check["name"])
            if passed:
                self._stage("caddy", "serving", f"Caddy serves on port {check['port']}")
                return
            if check.get("public") and reason.startswith("no TLS"):
                self._stage("caddy", "certificate", f"Caddy runs; {reason}")
                return
            self._pause("caddy", "Caddy does not serve", reason)

    # --- the gateway --------------------------------------------------------------------------
    def _gateway(self, name: str) -> None:
        check, container = self._checks[name], self._containers[name]
        if container.health == "healthy" and container.running and not self._since:
            self._flags(name, check)
            self._stage(name, "ready", "the gateway's API answers")
            return
        self._stage(name, "container", "container started")
        follower = Follower(self._runtime, container, self._since)
        try:
            self._login(name, check, follower)
        finally:
            follower.close()

    def _login(self, name: str, check: dict[str, Any], follower: Follower) -> None:
        state = login.Login()
        waiting_since: float | None = None
        flags_seen = False
        while True:
            for line in follower.lines():
                self._told(name, state, line)
            if state.trouble is not None:
                self._give_up(name, state.trouble)
            flags_seen = flags_seen or self._flags(name, check)
            waiting_since = self._wait_for_person(name, state, waiting_since, check)
            if self._answers(name, state):
                self._stage(name, "ready", "the gateway's API answers")
                return
            self._pause(name, _late(state), "", charge=waiting_since is None)

    def _told(self, name: str, state: login.Login, line: str) -> None:
        text = state.feed(line)
        self._wire.emit("log", service=name, line=line)
        if text:
            self._stage(name, state.state, text)

    def _flags(self, name: str, check: dict[str, Any]) -> bool:
        """Whether the JVM runs; HostFailure when it runs with other flags than it should."""
        if not check.get("jvm"):
            return True
        found = jvm.java_flags(self._runtime.programs(self._containers[name]))
        if found is None:
            return False
        wrong = jvm.missing_flags(check["jvm"], found)
        if wrong:
            raise HostFailure(
                "jvm-flags",
                f"the gateway's JVM does not run with the wanted flags: {', '.join(wrong)}",
                "does the image run START_SCRIPTS? It must be 10.37.1m (stable), 10.40.1d (latest) "
                "or newer",
            )
        self._stage(name, "jvm", f"JVM up with {' '.join(check['jvm'])}")
        return True

    def _wait_for_person(
        self, name: str, state: login.Login, since: float | None, check: dict[str, Any]
    ) -> float | None:
        """Since when a person is waited for; the other budget stands still meanwhile."""
        now = time.monotonic()
        if state.state != login.WAITING:
            if since is not None:
                self._deadline += now - since
                return None
            return since
        if since is None:
            since = now
            self._on_waiting()
        left = check.get("twoFactorWait", 600) - (now - since)
        self._wire.emit("waiting", service=name, left=max(0, int(left)))
        if left <= 0 or self._wire.gone.is_set():
            raise WaitingForPerson
        return since

    def _answers(self, name: str, state: login.Login) -> bool:
        healthy = self._containers[name].health == "healthy" and not self._since
        if state.state == login.DONE or healthy:
            passed, _ = self._runtime.probe(self._containers[name], 10)
            return passed
        return False

    def _give_up(self, name: str, trouble: login.Trouble) -> None:
        """Stops the gateway at once when further attempts would do harm."""
        if trouble.stop:
            self._runtime.stop([self._containers[name]])
        tail = self._runtime.log(self._containers[name], TAIL)
        raise HostFailure(trouble.code, trouble.message, trouble.hint, tail)

    # --- common -------------------------------------------------------------------------------
    def _stage(self, service: str, stage: str, text: str) -> None:
        self._wire.emit("stage", service=service, stage=stage, text=text)

    def _look(self, seen: dict[str, Container] | None = None) -> None:
        """Reads the containers' states anew after a while, and fails when one has ended."""
        if time.monotonic() - self._looked < LOOK:
            return
        self._containers = seen or serving(self._runtime.containers())
        self._looked = time.monotonic()
        for name in self._checks:
            container = self._containers.get(name)
            if container is None:
                raise HostFailure("container-missing", f"there is no container of {name}")
            if container.state in ("exited", "dead", "restarting") or container.restarts > (
                self._restarts.get(name, container.restarts)
            ):
                self._ended(container)

    def _ended(self, container: Container) -> None:
        """A container that ends before it was healthy would only be started again and again."""
        tail = self._runtime.log(container, TAIL)
        self._runtime.stop([container])
        name = container.service
        if name == "gateway":
            state = login.Login()
            for line in tail.splitlines():
                state.feed(line)
            if state.trouble is not None:
                raise HostFailure(
                    state.trouble.code, state.trouble.message, state.trouble.hint, tail
                )
        code = "" if container.exit_code is None else f" (exit code {container.exit_code})"
        raise HostFailure(
            f"{name}-ended", f"{name} ended on its own{code}, and was stopped", "", tail
        )

    def _pause(self, name: str, late: str, reason: str, *, charge: bool = True) -> None:
        try:
            self._wire.check()
        except Cancelled:
            if not charge:  # to undo a login that waits would only cost another approval
                raise WaitingForPerson from None
            raise
        self._look()
        if charge and time.monotonic() > self._deadline:
            tail = self._runtime.log(self._containers[name], TAIL)
            text = f"{late} within {self._seconds:.0f} s" + (f": {reason}" if reason else "")
            raise HostFailure(
                f"{name}-unhealthy", text, "up --wait SECONDS gives it more time", tail
            )
        time.sleep(POLL)


def reach(bridge: Container, published: int | None) -> tuple[str, int]:
    """Where the host reaches the bridge: its published port, else its private address."""
    if published or not bridge.addresses:
        return "127.0.0.1", published or BRIDGE_PORT
    return bridge.addresses[0], BRIDGE_PORT


_ORDER = {"gateway": 0, "portal": 1, "bridge": 2, "caddy": 3}


def _late(state: login.Login) -> str:
    if state.state == login.DONE:
        return "the gateway is logged in, but its API does not answer"
    return f"the gateway does not log in (it is {state.state.replace('-', ' ')})"


class Follower:
    """A container's log, read by a thread of its own until `close`."""

    def __init__(self, runtime: Runtime, container: Container, since: str = "") -> None:
        self._queue: queue.Queue[str] = queue.Queue()
        self._log = runtime.follow(container, since)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._log:
            self._queue.put(line)

    def lines(self) -> list[str]:
        """What came since the last call."""
        found = []
        while not self._queue.empty():
            found.append(self._queue.get_nowait())
        return found

    def close(self) -> None:
        """Ends the reading."""
        with contextlib.suppress(ValueError):  # a generator that its own thread is running
            self._log.close()

"""Waits until the stack is really healthy. Runs on the host: standard library, Python 3.9.

Container -> JVM with the right flags -> login -> API handshake -> bridge connected -> Caddy
serving. Waiting for a second factor has a budget of its own and is no failure.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from bridge.login import states
from infrastructure.apply.host.wire import Cancelled
from infrastructure.apply.protocol import documents, events
from infrastructure.health import probes
from infrastructure.health.explain import KILLED, explaining, of_java, short_of_memory
from infrastructure.health.login import Logins, excerpt, moment
from infrastructure.health.pressure import Budget
from infrastructure.runtime.base import HostFailure
from infrastructure.runtime.containers import serving

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.login.model import Login
    from infrastructure.apply.host.wire import Wire
    from infrastructure.runtime.base import Container, Runtime

POLL = 0.25
LOOK = 1.0
TAIL = 25
MOVED = 0.5
"""Of the budget so much is left when a stage is reached that was not before."""
LONG_TAIL = 2000
"""Lines that an excerpt is made from: a gateway that has just started says a thousand."""


class WaitingForPerson(Exception):  # noqa: N818
    """A person did not act on the login within the budget; everything was left as it is."""

    def __init__(self, login: Login | None = None) -> None:
        self.told = login.told if login else "waiting for 2FA"
        trouble = login.trouble if login else None
        self.hint = trouble.hint if trouble else ""
        super().__init__(self.told)


class Clock(Protocol):
    """What passes while the gate waits; the module `time` is one."""

    def time(self) -> float:
        """Seconds since 1970."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back."""

    def sleep(self, seconds: float, /) -> None:
        """Returns after so many seconds."""


class Questions(Protocol):
    """What is asked over the network; the module `health.probes` does."""

    def ready(self, address: str, port: int, key: str) -> tuple[int, Any]:
        """The status (0: no answer) and the decoded body of the bridge's `/ready`."""

    def caddy(self, address: str, port: int, name: str) -> tuple[bool, str]:
        """Whether Caddy passes a request on, and if not, why."""


class Gate:
    """One look at a stack until it is healthy, or is not going to be.

    `checks` says what healthy means: `{"gateway": {"jvm": [flags], "twoFactorWait": seconds},
    "bridge": {"port"}, "caddy": {"port", "address", "name"}}`, and `{}` for others.
    `seconds` is the budget for everything but the wait for a person. `since`: a login from before
    this moment does not count (the gateway was told to restart inside its container).
    `on_waiting` is called when the wait for a person begins. `key` reads the bridge's first key, to
    whose holder the bridge says why it is not ready. `clock` and `questions` replace this machine's
    time and network; the containers are seen through `runtime` alone. `stretch`: by how much the
    budget may grow on a machine that lets programs wait (`stalled`), and while stage after stage is
    reached: one that is slow comes to the same answer as a fast one, later.
    """

    def __init__(
        self,
        runtime: Runtime,
        wire: Wire,
        checks: documents.Checks,
        seconds: float,
        since: str = "",
        on_waiting: Callable[[Login], None] = lambda _: None,
        key: Callable[[], str] = str,
        *,
        clock: Clock | None = None,
        questions: Questions = probes,
        stretch: float = 1.0,
        stalled: Callable[[], dict[str, float]] | None = None,
    ) -> None:
        self._runtime = runtime
        self._wire = wire
        self._checks = checks
        self._clock: Clock = clock or time
        self._questions = questions
        self._budget = Budget(seconds, stretch, clock=self._clock, counted=stalled)
        self._seconds = seconds
        self._reached: set[tuple[str, str]] = set()
        self._since = since
        self._on_waiting = on_waiting
        self._key = key
        self._looked = float("-inf")
        self._containers: dict[str, Container] = {}
        self._restarts: dict[str, int] = {}
        self._logins = Logins([])
        self._told = ""
        self._asked = False
        self._waited, self._polled = 0.0, 0.0

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

    def _bridge(self, check: documents.Check) -> None:
        """Connected to the gateway: orders could be placed, or a person has halted trading."""
        self._stage("bridge", "connecting", "connecting to the gateway")
        while True:
            address, port = probes.reach(self._containers["bridge"], check["port"])
            status, body = self._questions.ready(address, port, self._key())
            state = body.get("state", "") if isinstance(body, dict) else ""
            if status == 200 or state == "halted":
                self._stage("bridge", "connected", "bridge connected")
                return
            if state == "read-only":
                raise HostFailure(
                    "read-only-gateway",
                    "the gateway runs, but its API is read-only: it refuses every order",
                    "set gateway.read_only: false; if it is, untick Read-Only API in its own"
                    " settings (./deploy.py vnc --web), or set trading.read_only: true",
                )
            reason = f"/ready answers {status} {state}".rstrip() if status else "no answer"
            late, hint = "the bridge does not connect to the gateway", ""
            if state in _NOT_OF_TIME:
                late, hint = "the bridge does not become ready", body.get("nextStep", "")
                reason = f"{reason} ({body.get('detail', '')})"
            self._pause("bridge", late, reason, hint=hint)

    def _caddy(self, check: documents.Check) -> None:
        """Passes requests on; with a public name, its certificate may still be on the way."""
        while True:
            passed, reason = self._questions.caddy(check["address"], check["port"], check["name"])
            if passed:
                self._stage("caddy", "serving", f"Caddy serves on port {check['port']}")
                return
            if probes.waits_for_certificate(reason, public=check.get("public", False)):
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
        since = moment(self._since or container.since)
        self._logins = Logins(check.get("sessions", ()), since, kept=bool(self._since))
        follower = Follower(self._runtime, container, self._since)
        try:
            self._login(name, check, follower)
        finally:
            follower.close()

    def _login(self, name: str, check: documents.Check, follower: Follower) -> None:
        flags_seen = False
        while True:
            login = self._look_at_login(name, follower)
            if login.held:
                self._give_up(name, login)
            flags_seen = flags_seen or self._flags(name, check)
            waiting = self._wait_for_person(name, login, check)
            if self._answers(name, login):
                self._stage(name, "ready", "the gateway's API answers")
                return
            self._pause(name, _late(login), "", charge=not waiting, login=login)

    def _look_at_login(self, name: str, follower: Follower) -> Login:
        """The session that is farthest from logged in; what is new of it is told."""
        now = self._clock.time()
        for line in follower.lines():
            self._logins.feed(line, now)
            self._wire.emit(events.Log(name, line))
            self._tell_login(name, self._logins.worst(now))
        self._logins.read(self._runtime.login_facts())
        login = self._logins.worst(now)
        self._tell_login(name, login)
        return login

    def _tell_login(self, name: str, login: Login) -> None:
        if login.told != self._told and login.state != states.UNKNOWN:
            self._told = login.told
            self._stage(name, login.state, login.told)

    def _flags(self, name: str, check: documents.Check) -> bool:
        """Whether the JVM runs; HostFailure when it runs with other flags than it should."""
        if not check.get("jvm"):
            return True
        found = probes.java_flags(self._runtime.programs(self._containers[name]))
        if found is None:
            return False
        wrong = probes.missing_flags(check["jvm"], found)
        if wrong:
            raise HostFailure(
                "jvm-flags",
                f"the gateway's JVM does not run with the wanted flags: {', '.join(wrong)}",
                "does the image run START_SCRIPTS? It must be 10.37.1m (stable), 10.40.1d (latest) "
                "or newer",
            )
        self._stage(name, "jvm", f"JVM up with {' '.join(check['jvm'])}")
        return True

    def _wait_for_person(self, name: str, login: Login, check: documents.Check) -> bool:
        """Whether a person is waited for; the other budget stands still meanwhile.

        One budget for all that is asked: a dialog that opens again begins no new one.
        """
        now = self._clock.monotonic()
        # One that waits at the first look has not waited for any time yet.
        passed, self._polled = now - (self._polled or now), now
        if login.state not in (states.WAITING_2FA, states.BLOCKED):
            return False
        if not self._asked and not login.automatic:
            self._asked = True
            self._on_waiting(login)
        self._waited += passed
        self._budget.add(passed)
        left = check.get("twoFactorWait", 600) - self._waited
        self._wire.emit(events.Waiting(name, max(0, int(left)), login.told))
        if left <= 0 or self._wire.gone.is_set():
            raise WaitingForPerson(login)
        return True

    def _answers(self, name: str, login: Login) -> bool:
        healthy = self._containers[name].health == "healthy" and not self._since
        if login.state == states.LOGGED_IN or healthy:
            passed, _ = self._runtime.probe(self._containers[name], 10)
            return passed
        return False

    def _give_up(self, name: str, login: Login) -> None:
        """Ends with a login that only a person can mend; its container holds it, or is stopped."""
        trouble = login.trouble
        assert trouble is not None  # noqa: S101 - what is held has a reason
        tail = excerpt(self._runtime.log(self._containers[name], LONG_TAIL))
        if not self._logins.written:
            self._runtime.stop([self._containers[name]])
        raise HostFailure(trouble.code, trouble.message, trouble.hint, tail)

    # --- common -------------------------------------------------------------------------------
    def _stage(self, service: str, stage: str, text: str) -> None:
        if (service, stage) not in self._reached:  # what goes round in circles does not move
            self._reached.add((service, stage))
            self._budget.at_least(self._seconds * MOVED)
        self._wire.emit(events.Stage(service, text, stage))

    def _look(self, seen: dict[str, Container] | None = None) -> None:
        """Reads the containers' states anew after a while, and fails when one has ended."""
        if self._clock.monotonic() - self._looked < LOOK:
            return
        self._containers = seen or serving(self._runtime.containers())
        self._looked = self._clock.monotonic()
        for name in self._checks:
            container = self._containers.get(name)
            if container is None:
                raise HostFailure("container-missing", f"there is no container of {name}")
            if container.state in ("exited", "dead", "restarting") or container.restarts > (
                self._restarts.get(name, container.restarts)
            ):
                self._ended(container)

    def _ended(self, container: Container) -> None:
        """A container that ends before it was healthy would only be started again and again.

        But a gateway that the broker does not let in for now: its own attempts are spaced out.
        """
        name = container.service
        tail = self._runtime.log(container, LONG_TAIL if name == "gateway" else TAIL)
        login = self._login_at_the_end(container, tail) if name == "gateway" else None
        if login is not None and login.state == states.WAITING_BROKER:
            self._restarts[name] = container.restarts
            return
        self._runtime.stop([container])
        details = tail if login is None else excerpt(tail)
        if login is not None and login.trouble is not None:
            trouble = login.trouble
            raise HostFailure(trouble.code, trouble.message, trouble.hint, details)
        code = "" if container.exit_code is None else f" (exit code {container.exit_code})"
        # Without a line of its log: the message goes into the ledger and to alert addresses.
        raise HostFailure(
            f"{name}-ended",
            f"{name} ended on its own{code}, and was stopped",
            _mend(name, container.exit_code, explaining(tail)),
            details,
        )

    def _login_at_the_end(self, container: Container, tail: str) -> Login:
        sessions = self._checks["gateway"].get("sessions", ())
        logins = Logins(sessions, moment(container.since) if container.running else 0.0)
        logins.read(self._runtime.login_facts())
        now = self._clock.time()
        for line in tail.splitlines():
            logins.feed(line, now)
        login = logins.worst(now)
        if container.exit_code in (77, 78):
            login.note("exit", now, str(container.exit_code))
        return login

    def _pause(
        self,
        name: str,
        late: str,
        reason: str,
        *,
        charge: bool = True,
        login: Login | None = None,
        hint: str = "",
    ) -> None:
        try:
            self._wire.check()
        except Cancelled:
            if not charge:  # to undo a login that waits would only cost another approval
                raise WaitingForPerson(login) from None
            raise
        self._look()
        over = self._budget.over  # asked each time, so that what the machine did is seen
        if charge and over:
            log = self._runtime.log(self._containers[name], LONG_TAIL if login else TAIL)
            text = f"{late} within {self._seconds:.0f} s" + (f": {reason}" if reason else "")
            trouble = login.trouble if login else None
            raise HostFailure(
                f"{name}-unhealthy",
                text,
                trouble.hint
                if trouble
                else hint or "./deploy.py up --wait SECONDS gives it more time",
                excerpt(log) if login else log,
            )
        self._clock.sleep(POLL)


def _mend(name: str, code: int | None, line: str) -> str:
    """What to do about a service that ended, by the line that explains it."""
    if name == "gateway" and short_of_memory(line):
        return "lower gateway.jvm.heap, or choose a bigger machine; then ./deploy.py up"
    if name == "gateway" and of_java(line):
        return "mend gateway.jvm in stack.yaml, then ./deploy.py up"
    if code == KILLED:  # it could say nothing
        return "most often the memory was full: ./deploy.py doctor looks at memory and swap"
    return f"mend it (the end of {name}'s log is above), then ./deploy.py up"


_NOT_OF_TIME = ("stalled", "session-conflict")
"""States of the bridge that more time does not end: it says itself what does."""
_ORDER = {"gateway": 0, "portal": 1, "bridge": 2, "caddy": 3}


def _late(login: Login) -> str:
    if login.state == states.LOGGED_IN:
        return "the gateway is logged in, but its API does not answer"
    why = f"; {login.told}" if login.trouble else ""
    return f"the gateway does not log in (it is {login.state.replace('-', ' ')}{why})"


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
        with contextlib.suppress(ValueError):  # a generator that its own thread is running
            self._log.close()

"""The one register of faults: what is wrong at this moment, and who wants to know.

Other modules ask `active(name)` where a fault bends what they do, or register with `on_start` and
`on_end` where it acts on what is already connected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from simulator import rewriting

if TYPE_CHECKING:
    from simulator.clock import Clock, Timer

TRANSPORT = (
    "fin",
    "rst",
    "port-closed",
    "relay-closes",
    "accept-silent",
    "half-open",
    "frames-cut",
    "frames-dribbled",
    "wire-rewrite",
)
LOGIN = ("slow-login", "waiting-2fa", "client-id-in-use", "close-after-start")
UPSTREAM = (
    "upstream-lost",
    "upstream-restored",
    "upstream-restored-data-lost",
    "competing-session",
    "rate-exceeded",
    "nightly-restart",
    "sunday-invalidation",
)
TRADING = ("late-fills", "duplicate-status", "drop-order-ack")
PORTAL = ("portal-desync", "portal-competing", "portal-logged-out", "portal-500")
EXTRA_PORTAL = ("portal-timeout", "portal-429", "portal-first-status")
NAMES = (*TRANSPORT, *LOGIN, *UPSTREAM, *TRADING, *PORTAL, *EXTRA_PORTAL)
PARAMETERS: dict[str, dict[str, str]] = {
    "slow-login": {"delay": "seconds"},
    "duplicate-status": {"delay": "seconds"},
    "upstream-lost": {"silent": "flag"},
    "wire-rewrite": {"rules": "rules"},
}
"""What a fault may be told besides its length: seconds (0 or more), a flag (true or false), or
rules (`simulator.rewriting`), which it needs."""

Hook = Callable[["Fault"], object]


class UnknownFaultError(ValueError):
    """No fault has that name."""


class WrongParameterError(ValueError):
    """The fault does not take that parameter, or not that value."""


@dataclass
class Fault:
    """One active fault; `seconds` is None when it lasts until it is deleted."""

    name: str
    since: float
    seconds: float | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    timer: Timer | None = None

    def shown(self) -> dict[str, Any]:
        """The form of `GET /faults`."""
        return {"fault": self.name, "since": self.since, "seconds": self.seconds, **self.parameters}


class Faults:
    """What is wrong now; times are the simulator's own."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._active: dict[str, Fault] = {}
        self._starts: dict[str, list[Hook]] = {}
        self._ends: dict[str, list[Hook]] = {}

    def on_start(self, name: str, hook: Hook) -> None:
        """Call `hook(fault)` when the fault begins, also when it is posted again."""
        self._starts.setdefault(_known(name), []).append(hook)

    def on_end(self, name: str, hook: Hook) -> None:
        """Call `hook(fault)` when the fault ends, by time or by deletion."""
        self._ends.setdefault(_known(name), []).append(hook)

    def active(self, name: str) -> bool:
        """Whether the fault is on."""
        return name in self._active

    def get(self, name: str) -> Fault | None:
        """The active fault of that name."""
        return self._active.get(name)

    def start(self, name: str, seconds: float | None = None, /, **parameters: Any) -> Fault:
        """Begin a fault, or begin it anew when it is already on.

        Raises:
            UnknownFaultError: no fault has that name.
            WrongParameterError: it does not take one of the parameters.
        """
        check_parameters(name, parameters)
        fault = Fault(name, self._clock.time(), seconds, parameters)
        earlier = self._active.pop(name, None)
        if earlier and earlier.timer:
            earlier.timer.cancel()
        self._active[name] = fault
        if seconds is not None:
            fault.timer = self._clock.later(seconds, lambda: self.clear(name))
        for hook in self._starts.get(name, ()):
            hook(fault)
        return fault

    def clear(self, name: str | None = None) -> None:
        """End one fault, or all of them."""
        for each in [name] if name else list(self._active):
            fault = self._active.pop(_known(each), None)
            if fault is None:
                continue
            if fault.timer:
                fault.timer.cancel()
            for hook in self._ends.get(each, ()):
                hook(fault)

    def shown(self) -> list[dict[str, Any]]:
        """The active faults, oldest first."""
        return [fault.shown() for fault in self._active.values()]


def check_parameters(name: str, parameters: Mapping[str, object]) -> None:
    """Raises UnknownFaultError or WrongParameterError when the fault cannot be started so."""
    taken = PARAMETERS.get(_known(name), {})
    if "rules" in taken and "rules" not in parameters:
        raise WrongParameterError(f"{name} needs 'rules'")
    for key, value in parameters.items():
        if key not in taken:
            raise WrongParameterError(f"{key!r} is no parameter of {name}")
        if taken[key] == "rules":
            try:
                rewriting.parse(value)
            except rewriting.WrongRuleError as error:
                raise WrongParameterError(str(error)) from None
        elif taken[key] == "flag":
            if not isinstance(value, bool):
                raise WrongParameterError(f"{key!r} must be true or false")
        elif not is_seconds(value) and (value != 0 or isinstance(value, bool)):
            raise WrongParameterError(f"{key!r} must be seconds, 0 or more")


def is_seconds(value: object) -> bool:
    """Whether a value is a length of time above 0; true, nan and infinity are not."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9


def _known(name: str) -> str:
    if name not in NAMES:
        raise UnknownFaultError(f"no fault is called {name!r}")
    return name

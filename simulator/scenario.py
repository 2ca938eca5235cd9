"""Scenarios: a YAML list of faults, each with when it comes and how long it stays.

- {at: 5, fault: upstream-lost, for: 30}          # seconds after the start
- {at: "23:45", fault: nightly-restart, for: 60}  # every day, New York time
- {at: "sunday 01:00", fault: sunday-invalidation}

A step with `symbol` is none: it lists one more instrument, for as long as the simulator runs.

- {symbol: ACME, conId: 900001, primary: NYSE, price: 12.5, volatility: 0.4, strikeStep: 0.5}
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simulator.clock import EASTERN
from simulator.contracts.instruments import described
from simulator.faults import NAMES, WrongParameterError, check_parameters, is_seconds

if TYPE_CHECKING:
    from simulator.contracts.instruments import Instrument
    from simulator.options import Options
    from simulator.world import World

DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


class ScenarioError(ValueError):
    """The scenario cannot be used; the text says where and why."""


@dataclass(frozen=True)
class Step:
    """One fault of a scenario.

    `after` is seconds from the start; without it, it comes at `hour`:`minute` in New York, daily
    or on one `weekday` (Monday is 0).
    """

    fault: str
    seconds: float | None = None
    after: float | None = None
    weekday: int | None = None
    hour: int = 0
    minute: int = 0
    parameters: dict[str, Any] = field(default_factory=dict)

    def next(self, now: float) -> float:
        """When the step comes next, after `now`; only for steps by the clock."""
        local = datetime.fromtimestamp(now, EASTERN)
        day = local.date()
        while True:
            moment = datetime(day.year, day.month, day.day, self.hour, self.minute, tzinfo=EASTERN)
            if moment.timestamp() > now and self.weekday in (None, day.weekday()):
                return moment.timestamp()
            day += timedelta(days=1)


def _content(path: str) -> list[tuple[str, object]]:
    """Read a scenario: the place and the content of each of its steps.

    Raises:
        ScenarioError: it is not there, not YAML, or no list.
    """
    import yaml

    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ScenarioError(f"{path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ScenarioError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, list):
        raise ScenarioError(f"{path}: a scenario is a list of steps")
    return [(f"{path}: step {number}", each) for number, each in enumerate(content, 1)]


def load(path: str) -> list[Step]:
    """Read and check the faults of a scenario.

    Raises:
        ScenarioError: it is not there, not YAML, or a step is wrong.
    """
    return [_step(place, content) for place, content in _content(path) if not _is_symbol(content)]


def _is_symbol(content: object) -> bool:
    return isinstance(content, dict) and "symbol" in content


def symbols(options: Options) -> list[Instrument]:
    """The instruments that the scenario lists beside those that are there.

    Raises:
        ScenarioError: one of them cannot be listed.
    """
    found = []
    for place, content in _content(options.scenario) if options.scenario else []:
        if isinstance(content, dict) and _is_symbol(content):
            row = {str(key): value for key, value in content.items()}
            try:
                found.append(described(row))
            except (KeyError, ValueError, TypeError) as error:
                raise ScenarioError(f"{place}: {_reason(error)}") from None
    return found


def _reason(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


def steps(options: Options) -> list[Step]:
    """What the options say will happen: faults, the scenario, the nightly restart, the Sunday.

    Raises:
        ScenarioError: one of them cannot be used.
    """
    found = [_fault(each) for each in options.faults]
    found += load(options.scenario) if options.scenario else []
    if options.nightly_restart:
        restart = {"at": options.nightly_restart, "fault": "nightly-restart"}
        found.append(_step("--nightly-restart: step 1", restart))
    if options.sunday_invalidation:
        found.append(Step("sunday-invalidation", weekday=6, hour=1))
    return found


def _fault(text: str) -> Step:
    name, colon, seconds = text.partition(":")
    try:
        content = {"at": 0, "fault": name} | ({"for": float(seconds)} if colon else {})
    except ValueError:
        raise ScenarioError(f"--fault {text}: what follows the colon is not seconds") from None
    return _step(f"--fault {text}: step 1", content)


def _step(place: str, content: object) -> Step:
    if not isinstance(content, dict) or not {"at", "fault"} <= content.keys():
        raise ScenarioError(f"{place}: needs 'at' and 'fault'")
    rest = {str(key): value for key, value in content.items()}
    at, fault, seconds = rest.pop("at"), rest.pop("fault"), rest.pop("for", None)
    if fault not in NAMES:
        raise ScenarioError(f"{place}: no fault is called {fault!r}")
    if seconds is not None and not is_seconds(seconds):
        raise ScenarioError(f"{place}: 'for' must be seconds above 0")
    try:
        check_parameters(fault, rest)
    except WrongParameterError as error:
        raise ScenarioError(f"{place}: {error}") from None
    if is_seconds(at) or (at == 0 and at is not False):
        return Step(fault, seconds, after=float(at), parameters=rest)
    weekday, hour, minute = _clock_time(place, str(at))
    return Step(fault, seconds, weekday=weekday, hour=hour, minute=minute, parameters=rest)


def _clock_time(place: str, text: str) -> tuple[int | None, int, int]:
    day, _, clock = text.strip().lower().rpartition(" ")
    hour, colon, minute = clock.partition(":")
    matching = [number for number, name in enumerate(DAYS) if day and name.startswith(day)]
    right = colon and hour.isdecimal() and minute.isdecimal() and int(hour) < 24
    if not right or int(minute) > 59 or (day and len(matching) != 1):
        raise ScenarioError(f'{place}: \'at\' must be seconds, "HH:MM" or "sunday HH:MM"')
    return (matching[0] if day else None), int(hour), int(minute)


def schedule(world: World, steps: list[Step]) -> None:
    """Let the steps happen on the world's clock."""
    for step in steps:
        _schedule(world, step)


def _schedule(world: World, step: Step) -> None:
    def happen() -> None:
        world.faults.start(step.fault, step.seconds, **step.parameters)
        if step.after is None:
            _schedule(world, step)

    if step.after == 0:
        happen()
    elif step.after is not None:
        world.clock.later(step.after, happen)
    else:
        world.clock.at(step.next(world.clock.time()), happen)

"""The fault `wire-rewrite`: messages of either direction changed, lost, doubled, late or invented.

What happens is data, a list of rules; `docs/simulator.md` describes their members. A rule sees a
message as its fields, texts all, the message number first; the handshake before them is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.clock import Clock
    from simulator.tws.client import Client

TO_CLIENT, TO_GATEWAY = WAYS = ("to-client", "to-gateway")
ACTIONS = ("rewrite", "drop", "duplicate", "delay", "hold", "inject")
MEMBERS: dict[str, type | tuple[type, ...]] = {
    "action": str,
    "direction": str,
    "message": int,
    "where": dict,
    "client": int,
    "skip": int,
    "times": int,
    "set": dict,
    "seconds": (int, float),
    "messages": int,
    "fields": list,
    "to": str,
    "before": bool,
}
MOST_RULES = 100
_PLACE = re.compile(r"\{(\d{1,3})\}")

Passer = Callable[[list[str]], None]


class WrongRuleError(ValueError):
    """A rule says something that cannot be done; the text says which and why."""


@dataclass
class Rule:
    """One rule; `matched` counts the messages that it was for, those it skipped as well."""

    action: str
    direction: str = TO_CLIENT
    message: int | None = None
    where: dict[int, str] = field(default_factory=dict)
    client: int | None = None
    skip: int = 0
    times: int | None = None
    set: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    messages: int = 1
    fields: tuple[str, ...] = ()
    to: str = TO_CLIENT
    before: bool = False
    matched: int = 0

    @property
    def at_once(self) -> bool:
        """Whether it injects by itself, without a message to wait for."""
        return self.action == "inject" and self.message is None and not self.where

    def takes(self, session: Client, direction: str, fields: list[str]) -> bool:
        """Whether it acts on this message; counts it."""
        fits = (
            direction == self.direction
            and not self.at_once
            and (self.message is None or fields[0] == str(self.message))
            and (self.client is None or self.client == session.client_id)
            and all(
                place < len(fields) and fnmatchcase(fields[place], pattern)
                for place, pattern in self.where.items()
            )
        )
        if not fits:
            return False
        self.matched += 1
        number = self.matched - self.skip
        return number > 0 and (self.times is None or number <= self.times)


@dataclass
class Held:
    """A message that waits until so many others have passed it."""

    session: Client
    direction: str
    passer: Passer
    fields: list[str]
    left: int


class Rewriting:
    """Stands between each session and its connection while the fault is on."""

    def __init__(self, clock: Clock, sessions: Sequence[Client]) -> None:
        self.active = False
        self._clock = clock
        self._sessions = sessions
        self._rules: list[Rule] = []
        self._held: list[Held] = []

    def start(self, rules: object) -> None:
        """Begin with these rules, which were checked when the fault was posted."""
        self.end()
        self._rules = parse(rules)
        self.active = True
        for rule in self._rules:
            if rule.at_once:
                for session in list(self._sessions):
                    if rule.client in (None, session.client_id):
                        self._inject(session, rule, [])

    def end(self) -> None:
        """Let everything pass again, and what is held go now."""
        self.active = False
        self._rules = []
        held, self._held = self._held, []
        for each in held:
            _pass_on(each)

    def matched(self) -> list[int]:
        """For each rule how many messages it was for."""
        return [rule.matched for rule in self._rules]

    def pass_on(self, session: Client, direction: str, fields: list[str], passer: Passer) -> None:
        """Let a message go its way, by `passer`, as the rules have it."""
        after: list[Rule] = []
        for rule in self._rules:
            if not rule.takes(session, direction, fields):
                continue
            if rule.action == "inject":
                if rule.before:
                    self._inject(session, rule, fields)
                else:
                    after.append(rule)
                continue
            self._act(rule, session, direction, fields, passer)
            break
        else:
            passer(fields)
        self._passed(session, direction)
        for rule in after:
            self._inject(session, rule, fields)

    def _act(
        self,
        rule: Rule,
        session: Client,
        direction: str,
        fields: list[str],
        passer: Passer,
    ) -> None:
        if rule.action == "rewrite":
            passer(_changed(fields, rule.set))
        elif rule.action == "duplicate":
            passer(fields)
            self._later(rule.seconds, partial(passer, list(fields)))
        elif rule.action == "delay":
            self._later(rule.seconds, partial(passer, fields))
        elif rule.action == "hold":  # this message itself is counted as one that passes
            self._held.append(Held(session, direction, passer, fields, rule.messages + 1))

    def _inject(self, session: Client, rule: Rule, fields: list[str]) -> None:
        made = [_filled(text, fields) for text in rule.fields]
        passer = session.put if rule.to == TO_CLIENT else session.take
        self._later(rule.seconds, partial(passer, made))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        if seconds:
            self._clock.later(seconds, act)
        else:
            act()

    def _passed(self, session: Client, direction: str) -> None:
        for each in list(self._held):
            if each.session is session and each.direction == direction:
                each.left -= 1
                if not each.left:
                    self._held.remove(each)
                    _pass_on(each)


def _pass_on(held: Held) -> None:
    held.passer(held.fields)


def _filled(text: str, fields: list[str]) -> str:
    """The text with `{N}` replaced by the N-th field of the message that brought this about."""

    def value(place: re.Match[str]) -> str:
        number = int(place[1])
        return fields[number] if number < len(fields) else ""

    return _PLACE.sub(value, text)


def _changed(fields: list[str], changes: Mapping[int, str]) -> list[str]:
    changed = list(fields)
    for place, text in changes.items():
        changed += [""] * (place + 1 - len(changed))
        changed[place] = _filled(text, fields)
    return changed


def parse(rules: object) -> list[Rule]:
    """The rules of a `POST /faults`.

    Raises:
        WrongRuleError: one of them is wrong.
    """
    if not isinstance(rules, list) or not 0 < len(rules) <= MOST_RULES:
        raise WrongRuleError(f"'rules' must be a list of 1 to {MOST_RULES} rules")
    return [_rule(f"rule {number}", each) for number, each in enumerate(rules, 1)]


def _rule(place: str, content: object) -> Rule:
    if not isinstance(content, dict):
        raise WrongRuleError(f"{place}: must be an object")
    for name, value in content.items():
        _member(place, name, value)
    made: dict[str, Any] = dict(content)
    for name in ("where", "set"):
        made[name] = _by_place(f"{place}: {name!r}", made.get(name, {}))
    made["fields"] = tuple(_text(f"{place}: 'fields'", each) for each in made.get("fields", ()))
    for name, allowed in (("action", ACTIONS), ("direction", WAYS), ("to", WAYS)):
        if made.get(name, "" if name == "action" else TO_CLIENT) not in allowed:
            raise WrongRuleError(f"{place}: {name!r} must be one of {', '.join(allowed)}")
    needed = {"inject": "fields", "rewrite": "set", "delay": "seconds"}.get(made["action"])
    if needed and not made.get(needed):
        raise WrongRuleError(f"{place}: {made['action']} needs {needed!r}")
    return Rule(**made)


def _member(place: str, name: object, value: object) -> None:
    kind = MEMBERS.get(str(name))
    if kind is None:
        raise WrongRuleError(f"{place}: {name!r} is no member of a rule")
    if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
        raise WrongRuleError(f"{place}: {name!r} has the wrong kind of value")
    if isinstance(value, int | float) and not 0 <= value < 1e9:
        raise WrongRuleError(f"{place}: {name!r} must be 0 or more")


def _by_place(place: str, content: Mapping[str, object]) -> dict[int, str]:
    if not all(key.isdecimal() and len(key) < 4 for key in content):
        raise WrongRuleError(f"{place} must be by the number of a field")
    return {int(key): _text(place, value) for key, value in content.items()}


def _text(place: str, value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise WrongRuleError(f"{place} must hold texts or numbers")
    if isinstance(value, str) and "\0" in value:
        raise WrongRuleError(f"{place} must not hold the end of a field")
    return str(value)

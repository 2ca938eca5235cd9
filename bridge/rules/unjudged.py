"""What rules do nothing for although it is held: people are told once, when it stays so.

A holding that cannot be judged (its contract is not known, its legs are not clear), and a trigger
without what it is held against (no live quote, a session that ends before `at`), close nothing. So
does a turn that cannot even look at the positions. None of that may be noticed only by a loss.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

import structlog
from msgspec import Struct

from bridge.clock import Clock
from bridge.errors import BridgeError
from bridge.quantity import plain
from bridge.rules.evaluation import EXPECTED, Judgement
from bridge.rules.holdings import Holding
from bridge.rules.journal import named
from bridge.rules.trouble import PATIENCE_SECONDS
from bridge.services import Need
from bridge.store.rules import RuleEvent

log = structlog.get_logger(__name__)

DETAILS_SECONDS: Final = 60.0
"""So long the details of a contract may be on their way."""
UNSEEN_SECONDS: Final = 300.0
"""So long a trigger may be without its value: quotes come and go."""
BLIND_SECONDS: Final = 60.0
"""So long turns may fail one after the other."""
AGAIN_SECONDS: Final = 20 * 3600.0
"""The same is not told again sooner: what comes and goes would be told each time."""
NO_DETAILS: Final = (
    "the gateway does not say what contract it is: nothing of it is judged, and no stop is sent"
)
_FAILS: Final = "an error of the bridge keeps it from being judged; see its log"
_UNCLEAR: Final = (
    "several positions fit the legs that it names, and no rule is for any of them: say the"
    " expiration or the conId of each leg"
)
_HINTS: Final = {"at": "; close it yourself before that, or give the rule minutes_before_close"}
_NEXT_STEP: Final = "GET /rules shows it; look after these positions yourself until then"

_Key = tuple[str, str, str]
"""A rule's id, a holding's key, and what about it."""


class _Finding(Struct, frozen=True, kw_only=True):
    """One thing that is not judged. `trigger`: the one that it is about; empty: all of them."""

    rule: str
    holding: Holding
    why: str
    trigger: str = ""
    patience: float = PATIENCE_SECONDS


@dataclass(kw_only=True, eq=False)
class Unjudged:
    """Collects what a turn finds, and tells of what lasts."""

    clock: Clock
    tell: Callable[[RuleEvent], Awaitable[None]]
    _found: dict[_Key, _Finding] = field(default_factory=dict)
    _resting: set[tuple[str, str]] = field(default_factory=set)
    """Rules and holdings that need not be judged now: their market is closed."""
    _since: dict[_Key, float] = field(default_factory=dict)
    _told: dict[_Key, _Finding] = field(default_factory=dict)
    _told_at: dict[_Key, float] = field(default_factory=dict)
    _before: list[tuple[float, RuleEvent]] = field(default_factory=list)
    """What an earlier process told, and until when it is not told again."""
    _blind_since: float | None = None
    _blind: str = ""
    """Why nothing gets on, when people know of it."""

    def recall(self, told: Iterable[RuleEvent]) -> None:
        """Of what an earlier process told, nothing is told again sooner."""
        wall, now = self.clock.now(), self.clock.monotonic()
        aged = (((wall - each.at).total_seconds(), each) for each in told)
        self._before = [(now + AGAIN_SECONDS - age, each) for age, each in aged if age >= 0]

    # what a turn finds --------------------------------------------------------------------------

    def begin(self) -> None:
        """A turn begins to judge: what it finds is noted anew."""
        self._found.clear()
        self._resting.clear()

    def fails(self, rule: str, holding: Holding) -> None:
        """An error of the bridge about this holding."""
        self._note("fails", _Finding(rule=rule, holding=holding, why=_FAILS))

    def unclear(self, holdings: Iterable[Holding]) -> None:
        """Nobody can tell whether these are legs that a rule names."""
        for each in holdings:
            self._note("unclear", _Finding(rule=each.unclear, holding=each, why=_UNCLEAR))

    def without_details(self, rule: str, holding: Holding) -> None:
        """Nobody knows what a price of it counts for, nor its hours."""
        found = _Finding(rule=rule, holding=holding, why=NO_DETAILS, patience=DETAILS_SECONDS)
        self._note("details", found)

    def judged(self, judged: Judgement, holding: Holding) -> None:
        """A judgement, of which some triggers may be without their value."""
        if judged.waits is not None:
            self._resting.add((judged.rule, holding.key))
            return
        for each in judged.triggers:
            if each.unknown is not None and each.unknown not in EXPECTED:
                self._note(
                    each.name,
                    _Finding(
                        rule=judged.rule,
                        holding=holding,
                        why=each.unknown + _HINTS.get(each.name, ""),
                        trigger=each.name,
                        patience=PATIENCE_SECONDS if each.name in _HINTS else UNSEEN_SECONDS,
                    ),
                )

    def too_small(self, rule: str, holding: Holding) -> None:
        """No order may be for so little: what it decides could not be done."""
        why = f"no order may be for {plain(holding.units)}: sell that in TWS"
        found = _Finding(rule=rule, holding=holding, why=why, trigger="close")
        self._note("close", found)

    def refused(self, rule: str, holding: Holding, why: str) -> None:
        """Its settings let no order out: what it decides could not be done."""
        why = f"an order would be refused: {why}"
        self._note("refused", _Finding(rule=rule, holding=holding, why=why, trigger="close"))

    def _note(self, about: str, finding: _Finding) -> None:
        self._found[finding.rule, finding.holding.key, about] = finding

    # telling ------------------------------------------------------------------------------------

    async def tell_of_it(self) -> None:
        """Of what has lasted; one event for all holdings of a rule with the same reason."""
        now = self.clock.monotonic()
        for key in self._since.keys() - self._found.keys():
            if key in self._told and key[:2] in self._resting:
                continue  # it is so again when the market opens, perhaps
            del self._since[key]
            self._told.pop(key, None)
        due: dict[tuple[str, str, str], list[_Key]] = {}
        for key, each in self._found.items():
            since = self._since.setdefault(key, now)
            if key in self._told or now - since < each.patience:
                continue
            told_at = self._told_at.get(key, float("-inf"))
            if now - told_at < AGAIN_SECONDS or self._was_told_before(each, now):
                self._told[key] = each
            else:
                due.setdefault((each.rule, each.holding.account, each.why), []).append(key)
        for keys in due.values():
            await self._tell_together(keys, now)

    def _was_told_before(self, finding: _Finding, now: float) -> bool:
        return any(until > now and _tells_of(event, finding) for until, event in self._before)

    async def _tell_together(self, keys: list[_Key], now: float) -> None:
        findings = [self._found[key] for key in keys]
        first = findings[0]
        triggers = ", ".join(dict.fromkeys(each.trigger for each in findings if each.trigger))
        detail = {
            **named(first.holding),
            "name": _names(findings),
            "why": f"{triggers}: {first.why}" if triggers else first.why,
        }
        event = RuleEvent(at=self.clock.now(), kind="waits", rule=first.rule, detail=detail)
        try:
            await self.tell(event)
        except BridgeError as error:
            log.warning("unjudged-not-told", rule=first.rule, reason=error.detail)
            return
        for key, each in zip(keys, findings, strict=True):
            self._told[key] = each
            self._told_at[key] = now
        late = now - AGAIN_SECONDS
        self._told_at = {key: at for key, at in self._told_at.items() if at > late}

    def wait(self, holdings: Iterable[Holding]) -> None:
        """Nothing is judged now, which is told otherwise: time counts anew for what is not told.

        `holdings`: what is held, as far as that is known; of what is not, nothing is said any more.
        """
        held = {each.key for each in holdings}
        self._told = {key: each for key, each in self._told.items() if key[1] in held}
        self._since = {key: since for key, since in self._since.items() if key in self._told}

    def forget(self) -> None:
        """There are no rules."""
        self._found.clear()
        self._since.clear()
        self._told.clear()
        self._told_at.clear()

    # turns that fail ----------------------------------------------------------------------------

    def sees(self) -> None:
        """A turn came to its end, or there was none: what failed before says nothing any more."""
        self._blind_since, self._blind = None, ""

    async def blind(self, why: str) -> None:
        """A turn did not get to its end, as `why` says."""
        now = self.clock.monotonic()
        self._blind_since = now if self._blind_since is None else self._blind_since
        if self._blind or now - self._blind_since < BLIND_SECONDS:
            return
        detail = {"all": True, "why": why}
        try:
            await self.tell(RuleEvent(at=self.clock.now(), kind="waits", rule="", detail=detail))
        except BridgeError as error:
            log.warning("blindness-not-told", reason=error.detail)
        except Exception:  # turns go on, whatever it is
            log.exception("blindness-not-told")
        else:
            self._blind = why

    def need(self) -> Need | None:
        """What people were told of, as long as it is so; nothing of one trigger alone."""
        if self._blind:
            return _need(f"Rules do not get on: {self._blind}")
        lasting = [each for each in self._told.values() if not each.trigger]
        if not lasting:
            return None
        first = lasting[0]
        same = [each for each in lasting if (each.rule, each.why) == (first.rule, first.why)]
        more = f" (and {len(lasting) - len(same)} more)" if len(lasting) > len(same) else ""
        what = f"Rule {first.rule} is not judged for {_names(same)}: {first.why}{more}"
        return _need(what)


def _tells_of(event: RuleEvent, finding: _Finding) -> bool:
    """Whether an event, which may name several holdings and triggers, was about this one."""
    detail, holding = event.detail, finding.holding
    if (event.rule, detail.get("account")) != (finding.rule, holding.account):
        return False
    if f", {holding.name}, " not in f", {detail.get('name')}, ":
        return False
    why = str(detail.get("why"))
    if not finding.trigger:
        return why == finding.why
    triggers = why.removesuffix(f": {finding.why}")
    return triggers != why and finding.trigger in triggers.split(", ")


def _need(message: str) -> Need:
    return Need(code="rules-unjudged", message=message, next_step=_NEXT_STEP)


def _names(findings: Iterable[_Finding]) -> str:
    return ", ".join({each.holding.key: each.holding.name for each in findings}.values())

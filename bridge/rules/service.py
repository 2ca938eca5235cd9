"""Reading and writing the rules, their events, and what people are told of them."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import structlog
from msgspec import Struct

from bridge.auditing import Auditor, Caller
from bridge.clock import Clock
from bridge.errors import BridgeError, InvalidRequestError, Kind
from bridge.orders.errors import KeyBoundError
from bridge.quantity import figure, plain
from bridge.rules.evaluation import Standing
from bridge.rules.manager import PositionManager, Terms
from bridge.rules.model import Mode, Rule, RuleSet, RulesInvalidError, check, read, together
from bridge.store import Database, settings
from bridge.store import rules as store
from bridge.store.rules import RuleEvent

log = structlog.get_logger(__name__)

_OVERRIDDEN: Final = {
    "overridden": True,
    "why": "stack.yaml has a rule of the same name, and that one holds: give yours another",
}
_SUMMARY: Final = "rules.summary"
_SUMMARY_ZONE: Final = ZoneInfo("America/New_York")
_SUMMARY_HOUR: Final = 17
_LONGEST: Final = timedelta(days=7)
_SUMMARY_LOOK_SECONDS: Final = 300.0
_TOLD: Final = {
    "decided",
    "simulated",
    "closed",
    "gone",
    "cancelled",
    "refused",
    "gave-up",
    "unprotected",
    "waits",
}


class RulesChangedError(BridgeError):
    """Somebody else has written the rules meanwhile."""

    code = "rules-changed"
    kind = Kind.CONFLICT
    next_step = "GET /rules, make your change again, and send its version along"


class RulesFileError(BridgeError):
    """The rules of stack.yaml or of the API cannot be used, so the bridge does not start."""

    code = "rules-file-invalid"
    next_step = "mend the rules: section; docs/position-manager.md lists every name"


class RulesView(Struct, rename="camel", frozen=True, kw_only=True):
    """The rules that were written here, with their version, and those of stack.yaml.

    `waits`: why nothing is judged now. `overridden`: names of rules that were written here and do
    nothing, because stack.yaml has one of the same name.
    """

    rules: tuple[Rule, ...]
    mode: Mode | None
    version: int
    from_file: RuleSet
    waits: str | None
    overridden: tuple[str, ...] = ()
    holdings: int
    standing: tuple[Standing, ...]


class RuleEvents(Struct, rename="camel", frozen=True, kw_only=True):
    """What was decided and done, the newest first."""

    events: tuple[RuleEvent, ...]
    next_cursor: str | None = None


def load(path: Path | None) -> RuleSet:
    """The rules of stack.yaml; none without a file.

    Raises:
        RulesFileError: it is wrong; never ignored.
    """
    if path is None:
        return RuleSet()
    try:
        return read(msgspec.json.decode(path.read_bytes()))
    except OSError as error:
        raise RulesFileError(f"{path}: {error.strerror}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RulesFileError(f"{path}: {error}") from None
    except RulesInvalidError as error:
        raise RulesFileError(f"{path}: {error.detail}") from None


class RulesService:
    """Reads and writes the rules for the routes: versioned, audited, names of the file refused."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        auditor: Auditor,
        manager: PositionManager,
        of_file: RuleSet,
    ) -> None:
        self.manager = manager
        self._database = database
        self._clock = clock
        self._auditor = auditor
        self._file = of_file
        self._own = RuleSet()
        self._version = 0
        self._writing = asyncio.Lock()

    async def start(self) -> None:
        """Takes over the newest version, and begins to act on it."""
        kept = await self._database.read(store.newest_rules)
        if kept is not None:
            self._version = kept[0]
            try:
                self._own = msgspec.json.decode(kept[1], type=RuleSet)
            except ValueError as error:  # of a later release; never ignored, as a file is not
                text = f"those written through the API, version {kept[0]}: {error}"
                next_step = "start the release again that wrote them"
                raise RulesFileError(text, next_step=next_step) from None
        await self.manager.start(self._terms())
        for name in self._overridden():
            await self._tell_of_overridden(name)

    async def _tell_of_overridden(self, name: str) -> None:
        event = RuleEvent(at=self._clock.now(), kind="waits", rule=name, detail=_OVERRIDDEN)
        try:
            kept = await self._database.write(
                lambda connection: store.add_event(connection, event), durable=False
            )
        except BridgeError as error:
            log.warning("overridden-rule-not-told", rule=name, reason=error.detail)
        else:
            self.manager.happened.emit(kept)

    def _overridden(self) -> tuple[str, ...]:
        """Taken by stack.yaml since they were written here."""
        return tuple(each.id for each in self._own.rules if each.id in self._names())

    def view(self) -> RulesView:
        """The rules as they are, and how they stand to what is held."""
        return RulesView(
            rules=self._own.rules,
            mode=self._own.mode,
            version=self._version,
            from_file=self._file,
            waits=self.manager.waits,
            overridden=self._overridden(),
            holdings=self.manager.holdings,
            standing=tuple(self.manager.standing()),
        )

    async def replace(self, wanted: RuleSet, version: int | None, caller: Caller) -> RulesView:
        """Goes on with these rules instead of those that were written here before.

        Raises:
            RulesInvalidError: they cannot be used, or one has the name of one in stack.yaml.
            RulesChangedError: they are not made from the present version.
            KeyBoundError: the key does not reach every account and symbol, as rules may.
        """
        if caller.bounds.about_orders:
            raise KeyBoundError("a key that is bound cannot write rules: they may close anything")
        check(wanted)
        taken = {rule.id for rule in self._file.rules} & {rule.id for rule in wanted.rules}
        if taken:
            raise RulesInvalidError(
                f"stack.yaml has a rule of the same name: {', '.join(sorted(taken))}",
                next_step="Give it another name, or change it in stack.yaml",
            )
        async with self._auditor.trail(caller, "rules.replace", None) as trail, self._writing:
            if version is not None and version != self._version:
                raise RulesChangedError(f"version {self._version} is the present one")
            now, content = self._clock.now(), msgspec.json.encode(wanted)
            event = RuleEvent(
                at=now,
                kind="rules",
                rule="",
                detail={"rules": len(wanted.rules), "by": caller.key_id},
            )

            def write(connection: sqlite3.Connection) -> tuple[int, RuleEvent]:
                made = store.put_rules(connection, content, now, caller.key_id)
                return made, store.add_event(connection, event)

            self._version, kept = await self._database.write(write)
            trail.target = f"version {self._version}"
            trail.detail = {"rules": [rule.id for rule in wanted.rules], "mode": wanted.mode}
            self._own = wanted
            self.manager.adopt(self._terms())
            self.manager.happened.emit(kept)
        return self.view()

    async def events(self, cursor: str, limit: int, rule: str) -> RuleEvents:
        """What was decided and done, the newest first."""
        if cursor and not (cursor.isascii() and cursor.isdigit() and len(cursor) < 16):
            raise InvalidRequestError(
                f"{cursor[:40]!r} is no cursor", code="invalid-cursor", next_step="Use nextCursor"
            )
        before = int(cursor) if cursor else None
        found, following = await self._database.read(
            lambda connection: store.events(connection, before=before, limit=limit, rule=rule)
        )
        return RuleEvents(
            events=tuple(found), next_cursor=None if following is None else str(following)
        )

    def _terms(self) -> Terms:
        """Both together: `simulate` of either holds for all, `trade` for its own rules alone."""
        own = tuple(each for each in self._own.rules if each.id not in self._names())
        return Terms(rules=together(self._file, RuleSet(rules=own, mode=self._own.mode)))

    def _names(self) -> set[str]:
        return {rule.id for rule in self._file.rules}

    # the day's summary --------------------------------------------------------------------------

    async def watch_day(self, tell: Any) -> None:
        """Tells once a day, an hour after the close in New York, what the rules have done."""
        while True:
            await self._clock.sleep(_SUMMARY_LOOK_SECONDS)
            try:
                text = await self.summary()
            except BridgeError:
                continue  # the journal's trouble is told by itself
            except Exception:
                log.exception("rules-summary-failed")  # the next look may be better
                continue
            if text is not None:
                tell(text)

    async def summary(self) -> str | None:
        """The day's summary, when its time has come and it was not given yet."""
        here = self._clock.now().astimezone(_SUMMARY_ZONE)
        if here.hour < _SUMMARY_HOUR or here.weekday() > 4:
            return None
        kept = await self._database.read(lambda connection: settings.get(connection, _SUMMARY))
        last = _last_summary(kept)
        if last is not None and last.date() > here.date():
            last = None  # the clock was ahead then
        if last is not None and last.date() >= here.date():
            return None
        begun = here.replace(hour=0, minute=0, second=0, microsecond=0)
        if last is not None:  # what came after the last one, in a night or over a weekend, is told
            begun = max(last, here - _LONGEST)
        day = here.isoformat().encode()
        found = await self._database.read(lambda connection: store.events_since(connection, begun))
        await self._database.write(
            lambda connection: settings.put(connection, _SUMMARY, day, self._clock.now()),
            durable=False,
        )
        told = [each for each in found if each.kind in _TOLD]
        if not told and not self.manager.holdings:
            return None
        counted = Counter(each.kind for each in told)
        said = ", ".join(f"{count} {kind}" for kind, count in sorted(counted.items())) or "nothing"
        since = "Today" if begun.date() == here.date() else f"Since {begun:%A %H:%M}"
        lines = [f"Rules watch {self.manager.holdings} positions. {since}: {said}."]
        if self.manager.waits is not None:
            lines.append(f"Nothing is judged now: {self.manager.waits}.")
        elif (need := self.manager.need()) is not None:
            lines.append(f"{need.message}.")
        lines += [f"{_clock(each.at, here)} {described(each)}" for each in told[:20]]
        if len(told) > 20:
            lines.append(f"And {len(told) - 20} more: GET /rules/events.")
        return "\n".join(lines)


def _last_summary(kept: bytes | None) -> datetime | None:
    """When it was given, in New York; earlier releases kept the day alone."""
    if kept is None:
        return None
    try:
        at = datetime.fromisoformat(kept.decode())
    except ValueError:
        return None
    if at.tzinfo is None:
        return at.replace(hour=_SUMMARY_HOUR, tzinfo=_SUMMARY_ZONE)
    return at.astimezone(_SUMMARY_ZONE)


def _clock(at: datetime, now: datetime) -> str:
    there = at.astimezone(_SUMMARY_ZONE)
    return f"{there:%H:%M}" if there.date() == now.date() else f"{there:%a %H:%M}"


def wanted(event: RuleEvent) -> bool:
    """Whether people are told of it at once."""
    return event.kind in _TOLD


_SAID: Final = {
    "decided": "closes",
    "simulated": "would close (simulate)",
    "closed": "has closed",
    "gone": "ends, somebody else has closed",
    "cancelled": "ends, somebody has cancelled the order that closed",
    "waits": "cannot close yet",
    "unprotected": "has NO stop at the broker for",
    "refused": "could NOT close, the order is refused:",
    "gave-up": "could NOT close, too many orders came to nothing:",
}


def level_of(event: RuleEvent) -> str:
    """How a message about it is marked."""
    return (
        "failure"
        if "left" in event.detail
        or event.kind in {"cancelled", "refused", "gave-up", "unprotected", "waits"}
        else "info"
    )


def described(event: RuleEvent) -> str:
    """An event as a sentence."""
    detail = event.detail
    what = detail.get("name") or detail.get("holding") or ""
    amount = detail.get("quantity")
    size = f"{plain(amount)} " if amount else ""
    said = _SAID.get(event.kind, event.kind)
    if "covered" in detail:
        covered = plain(detail["covered"])
        said = f"has a stop at the broker for {covered} that cannot follow: held are"
        size = f"{plain(detail['held'])} "
    if "damaged" in detail:
        said = "has lost what it knew of"
    if "leftover" in detail:
        said = "cannot take away its stop at the broker for"
    if "all" in detail:
        said = "Rules do not get on"
    if "overridden" in detail:
        said = "as it was written through the API does nothing"
    parts = [f"{event.rule} {said} {size}{what}".strip()]
    if event.kind in {"decided", "simulated"}:
        price, profit = detail.get("price"), detail.get("profit")
        parts.append(str(detail.get("reason", "")))
        parts += [] if price is None else [f"price {figure(price)}"]
        parts += [] if profit is None else [f"profit {profit:+.2f}"]
    if detail.get("left"):
        parts.append(f"STILL HELD are {detail['left']}, which no rule for combinations sees now")
    if detail.get("why"):
        parts.append(str(detail["why"]))
    return "; ".join(part for part in parts if part)

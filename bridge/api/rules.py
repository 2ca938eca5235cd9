"""The position manager's rules over HTTP."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from bridge.api.routing import Body, Call, Params, RouteTable
from bridge.auditing import Caller
from bridge.callers import Scope
from bridge.rules.model import Mode, Rule, RuleSet
from bridge.rules.service import RuleEvents, RulesService, RulesView

routes = RouteTable("rules")


class RulesBody(Body, frozen=True, kw_only=True):
    """All rules, and the mode for all; what is not in it goes.

    With `version` (of `GET /rules`) nothing is overwritten that somebody else has written since.
    """

    rules: tuple[Rule, ...]
    mode: Mode | None = None
    version: int | None = None


class RuleEventsParams(Params, frozen=True, kw_only=True):
    """Which rule's events, and how many of the newest."""

    rule: str = ""
    cursor: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 100


@routes.get("/rules", answer=RulesView)
async def read_rules(call: Call[None, None]) -> RulesView:
    """The rules, and for each position how far each trigger is: what would happen now."""
    return call.services[RulesService].view()


@routes.put(
    "/rules",
    body=RulesBody,
    answer=RulesView,
    scope=Scope.TRADE,
    statuses={409: "somebody else has written rules meanwhile", 422: "a rule is wrong"},
)
async def write_rules(call: Call[None, RulesBody]) -> RulesView:
    """Replaces the rules; those of stack.yaml stay. A rule that is another may act anew.

    A close of a rule that is taken away, switched off or set to `simulate` is cancelled.
    """
    body, principal = call.body, call.principal
    caller = Caller(principal.key_id, call.request_id, principal.bounds)
    wanted = RuleSet(rules=body.rules, mode=body.mode)
    return await call.services[RulesService].replace(wanted, body.version, caller)


@routes.get("/rules/events", params=RuleEventsParams, answer=RuleEvents)
async def rule_events(call: Call[RuleEventsParams, None]) -> RuleEvents:
    """What was decided and done, at which values, the newest first."""
    params = call.params
    return await call.services[RulesService].events(params.cursor, params.limit, params.rule)

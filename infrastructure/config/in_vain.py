"""Values that are right in themselves and do nothing, because of what else is set."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from infrastructure.config.models import Simulated
from infrastructure.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config.base import Placer
    from infrastructure.config.models import Stack


def warnings(stack: Stack, place: Placer) -> Iterator[Problem]:
    """What somebody has set and would wait for in vain."""
    yield from _session_is_the_only_one(stack, place)
    yield from _swap_below_memory(stack, place)
    yield from _answers_after_caddy(stack, place)
    yield from _unread(stack, place)


def _session_is_the_only_one(stack: Stack, place: Placer) -> Iterator[Problem]:
    asked, mode = stack.bridge.session, stack.gateway.mode
    if asked is not None and mode not in (asked, "both"):
        yield Problem(
            f"bridge.session: {asked} does nothing: the gateway's only session is {mode}",
            place("bridge", "session"),
            f"gateway.mode: {asked} logs in to that account; else leave it out",
        )


def _swap_below_memory(stack: Stack, place: Placer) -> Iterator[Problem]:
    asked, memory = stack.limits.gateway_swap, stack.budget("gateway").memory
    if asked is not None and asked < memory:
        yield Problem(
            f"limits.gateway_swap {asked} is less than the gateway's memory alone: {memory} MB"
            " holds, without swap",
            place("limits", "gateway_swap"),
            "it is memory plus swap; leave it out for the profile's",
        )


def _answers_after_caddy(stack: Stack, place: Placer) -> Iterator[Problem]:
    """Whoever orders through Caddy hears that nobody answers, of an order that goes on."""
    asked, allowed = stack.trading.answer_within_seconds, stack.caddy.response_timeout
    if asked >= seconds(allowed):
        given = "answer_within_seconds" in stack.trading.model_fields_set
        at = place("trading", "answer_within_seconds") if given else None
        yield Problem(
            f"an order is answered within {asked:g} s, and Caddy waits no longer than {allowed}:"
            " its client hears bridge-unreachable while the order goes on",
            at or place("caddy", "response_timeout"),
            "a longer caddy.response_timeout, or a shorter trading.answer_within_seconds",
        )


_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def seconds(duration: str) -> float:
    """Seconds of one of Caddy's durations, such as `1m30s`."""
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(ms|s|m|h)", duration))


class _Idle(NamedTuple):
    """Keys of a section that only do something under a condition."""

    section: str
    keys: tuple[str, ...]
    used: Callable[[Stack], bool]
    why: str
    hint: str


_IDLE = (
    _Idle(
        *("alerts", ("lost_minutes", "disk_megabytes", "events")),
        lambda stack: bool(stack.alerts.urls),
        "there is nobody to tell",
        "set alerts.urls, or leave it out",
    ),
    _Idle(
        *("gateway", ("paper_password",)),
        lambda stack: stack.gateway.mode == "both",
        "it is only read with mode 'both'",
        "the password of the one user is gateway.password",
    ),
    _Idle(
        *("caddy", ("names",)),
        lambda stack: stack.caddy.domain is None,
        "the certificate is for caddy.domain alone",
        "leave one of the two out",
    ),
    _Idle(
        *("caddy", ("email",)),
        lambda stack: stack.caddy.domain is not None,
        "only an authority that signs caddy.domain is told of it",
        "set caddy.domain, or leave it out",
    ),
    _Idle(
        *("portal", ("image", "username", "password")),
        lambda stack: stack.portal.enabled,
        "this stack has no Client Portal gateway",
        "set portal.enabled: true, or leave it out",
    ),
    _Idle(
        *("limits", ("portal",)),
        lambda stack: stack.portal.enabled,
        "this stack has no Client Portal gateway",
        "set portal.enabled: true, or leave it out",
    ),
    _Idle(
        *("trading", ("undefined_loss",)),
        lambda stack: stack.trading.max_loss is not None,
        "no loss is too large without a limit",
        "set trading.max_loss, or leave it out",
    ),
    _Idle(
        *("simulated", tuple(Simulated.model_fields)),
        lambda stack: stack.runtime == "sandbox",
        "nothing is simulated in this stack",
        "leave it out; runtime: sandbox has it",
    ),
)


def _unread(stack: Stack, place: Placer) -> Iterator[Problem]:
    for section, keys, used, why, hint in _IDLE:
        settings = getattr(stack, section)
        for key in keys:
            if key in settings.model_fields_set and getattr(settings, key) and not used(stack):
                at = place(section, key)
                yield Problem(f"{section}.{key} does nothing: {why}", at, hint)

"""Targets that log in as the same user: IBKR gives a user one session, so they end each other's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from infrastructure.config.base import Placer
    from infrastructure.config.target import Target

HINT = "a user of its own for each at IBKR; or never let both run, each login may cost an approval"


def logins(mode: Any, username: Any, paper_username: Any) -> frozenset[tuple[str, str]]:
    """The sessions of a gateway, each with its user; without those whose user is stored."""
    users = {"live": username, "paper": paper_username if mode == "both" else username}
    return frozenset(
        (session, user.lower())
        for session, user in users.items()
        if mode in (session, "both") and isinstance(user, str)
    )


def of_values(values: Any) -> frozenset[tuple[str, str]]:
    """The same of a target's values as they stand in stack.yaml, checked or not."""
    if not isinstance(values, dict) or values.get("runtime") == "sandbox":
        return frozenset()
    gateway = values.get("gateway")
    if not isinstance(gateway, dict):
        return frozenset()
    return logins(
        gateway.get("mode", "paper"), gateway.get("username"), gateway.get("paper_username")
    )


def warnings(name: str, every: Mapping[str, Any], place: Placer) -> Iterator[Problem]:
    """Of a target, for each other one; `every`: the values of all by name."""
    own = of_values(every[name])
    for other, values in every.items():
        for session, user in sorted(own & of_values(values)) if other != name else ():
            yield Problem(
                f"target {other} logs in as the same user ({session}): each login ends the other's"
                " session",
                place("gateway", _key(every[name], user)),
                HINT,
            )


def _key(values: Any, user: str) -> str:
    named = str(values["gateway"].get("username", "")).lower()
    return "username" if named == user else "paper_username"


def first_two(targets: Sequence[Target]) -> tuple[Target, Target] | None:
    """Two that would end each other's session when both are started."""
    seen: dict[tuple[str, str], Target] = {}
    for target in targets:
        gateway = target.stack.gateway
        if target.stack.runtime == "sandbox":
            continue
        for login in logins(gateway.mode, gateway.username, gateway.paper_username):
            if login in seen:
                return seen[login], target
            seen[login] = target
    return None

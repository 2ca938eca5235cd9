"""Reads the session flags out of whatever the Web API answers.

The flags `authenticated`, `connected`, `competing` and `established` come at the top level
(`/iserver/auth/status`, `/iserver/auth/ssodh/init`), under `iserver.authStatus` (`/tickle`), or
both; older gateways leave some out. A missing or malformed field is read as unknown (None), never
as false: an unknown must not start a recovery.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct


class Reading(Struct, frozen=True, kw_only=True):
    """What one answer said; None: it did not say.

    ``sso_alive`` tells of the single-sign-on session below the brokerage session: true when the
    answer proves it. ``message`` is the broker's own text, possibly empty.
    """

    authenticated: bool | None = None
    connected: bool | None = None
    competing: bool | None = None
    established: bool | None = None
    sso_alive: bool | None = None
    message: str = ""


def read(answer: object) -> Reading:
    """Reads one JSON answer; anything that is not an object says nothing.

    Of a flag that is given twice, the nested one under ``iserver.authStatus`` counts: it is the
    brokerage session's own.
    """
    parts = tuple(_parts(answer))
    return Reading(
        authenticated=_flag(parts, "authenticated"),
        connected=_flag(parts, "connected"),
        competing=_flag(parts, "competing", "collission", "collision"),
        established=_flag(parts, "established"),
        sso_alive=_sso_alive(parts),
        message=_text(parts, "message") or _text(parts, "fail") or _text(parts, "error"),
    )


def _parts(answer: object) -> Iterator[Mapping[str, Any]]:
    """The objects that may hold flags, the most telling first."""
    if not isinstance(answer, Mapping):
        return
    for server in (answer.get("iserver"), answer.get("iServer")):
        if isinstance(server, Mapping):
            nested = server.get("authStatus")
            if isinstance(nested, Mapping):
                yield nested
    yield answer


def _flag(parts: tuple[Mapping[str, Any], ...], *names: str) -> bool | None:
    for part in parts:
        for name in names:
            value = part.get(name)
            if isinstance(value, bool):
                return value
            if isinstance(value, str) and value.lower() in {"true", "false"}:
                return value.lower() == "true"
    return None


def _text(parts: tuple[Mapping[str, Any], ...], name: str) -> str:
    for part in parts:
        value = part.get(name)
        if isinstance(value, str) and value:
            return value[:300]
    return ""


def _sso_alive(parts: tuple[Mapping[str, Any], ...]) -> bool | None:
    """`RESULT` of `/sso/validate`, `passed` of the init, or a running `ssoExpires` of `/tickle`."""
    passed = _flag(parts, "RESULT", "passed")
    if passed is not None:
        return passed
    for part in parts:
        expires = part.get("ssoExpires")
        if isinstance(expires, int | float) and not isinstance(expires, bool):
            return expires > 0
    return None

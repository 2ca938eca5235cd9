"""What a host's program may say: the shape of each event, and how long a stream of them may last.

A host is another machine, and perhaps not the one that was meant: an answer of another shape is an
error for a person, not a surprise somewhere later.
"""

from __future__ import annotations

import json
from typing import Any, Final

from infrastructure.errors import GangwayError

ANSWER_WITHIN: Final = 300.0
"""Seconds until a question is answered, whatever else is told meanwhile."""
WORK_WITHIN: Final = 7200.0
"""Seconds that work on the host may take beside the waits that the request allows: pulling and
building on a small machine."""

Shape = Any
"""A type, a tuple of types, `[shape]` for a list, `{str: shape}` for any keys, `{"name": shape}`
for these at least (`"name?"`: may be missing)."""
_NUMBER: Final = (int, float)
_TEXT: Final = (str, type(None))
_LOGIN: Final = {"state": str, "session": str, "kind?": _TEXT, "why?": _TEXT, "code?": _TEXT}
_SIZES: Final = {"total": _NUMBER, "free?": _NUMBER, "available?": _NUMBER}
_SERVICE: Final = {
    "name": str,
    "state": str,
    "health": str,
    "image": str,
    "image_id": str,
    "hash": str,
    "since": str,
    "exit_code": (int, type(None)),
}
_ENTRY: Final = {
    "time": str,
    "release": _TEXT,
    "result": str,
    "seconds?": _NUMBER,
    "reason?": _TEXT,
}
EVENTS: Final[dict[str, Shape]] = {
    "alive": {},
    "step": {"text": str},
    "stage": {"service": str, "text": str},
    "log": {"service": str, "line": str},
    "line": {"service": str, "time": str, "text": str},
    "waiting": {"service": str, "left": int},
    "build": {"service": str, "step": int, "steps": int, "text": str},
    "observed": {
        "release": _TEXT,
        "files": {str: {"digest": str, "content?": str}},
        "services": {str: _SERVICE},
        "has": bool,
        "pending": (dict, type(None)),
        "verifying": bool,
    },
    "lacking": {"images": [str], "architecture": str, "layers": [[str]]},
    "loaded": {"refused": bool},
    "failed": {"code": str, "message": str, "hint": str, "details": str, "restored": bool},
    "done": {
        "result?": str,
        "release?": _TEXT,
        "healthy?": bool,
        "restored?": bool,
        "seconds?": _NUMBER,
        "told?": str,
        "hint?": str,
        "kept?": bool,
    },
    "status": {"bridge": object, "login": _LOGIN, "logins": [_LOGIN]},
    "going_back": {"release": str, "previous": _TEXT, "changes": {str: str}},
    "ask_bridge": {"status": int, "body": object, "seconds": _NUMBER},
    "address": {"address": str},
    "screen": {"address": str, "port": int},
    "halted": {"way": str, "answer": object, "mark": str, "status": int},
    "resumed": {"way": str, "answer": object, "mark": str, "status": int},
    "cancelled": {
        "left": (int, type(None)),
        "errors": [str],
    },
    "history": {"entries": [_ENTRY], "current": _TEXT},
    "facts": {
        "host": {
            "time": _NUMBER,
            "uid": int,
            "system": str,
            "memory": _SIZES,
            "swap": _SIZES,
            "disk": _SIZES,
            "load": _NUMBER,
            "oomKills": (int, type(None)),
            "synchronized": bool,
            "exposed": [int],
        },
        "engine": {"services": {str: {}}},
        "gateway": {
            "flags": (list, type(None)),
            "missing": [str],
            "resident": _NUMBER,
            "api": bool,
            "said": str,
        },
        "certificate": _TEXT,
        "secrets": [str],
        "settings": {"files": {str: str}},
        "pending": (dict, type(None)),
        "releases": [str],
    },
}
"""Of each event what is read here. An event of another name is passed over."""


def decode(line: bytes, name: str) -> dict[str, Any]:
    """One event of the host `name`; GangwayError (`protocol`) for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        raise GangwayError(
            f"{name} answers something else: {line[:80].decode(errors='replace')!r}",
            hint="does a login script print text for commands, too?",
            code="protocol",
        ) from None
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise _malformed(name, line, "it is no event")
    wrong = misshapen(event, EVENTS.get(event["event"], {}))
    if wrong:
        raise _malformed(name, line, wrong)
    return event


def _malformed(name: str, line: bytes, wrong: str) -> GangwayError:
    return GangwayError(
        f"{name} answers what no program of ours says: {wrong}: "
        f"{line[:80].decode(errors='replace')!r}",
        hint="is it the machine that you mean? ./deploy.py doctor looks at the way to it",
        code="protocol",
    )


def misshapen(value: Any, shape: Shape, at: str = "") -> str:
    """Where a value differs from its shape; empty when it does not."""
    if isinstance(shape, dict):
        return _mapping(value, shape, at)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"'{at}' is no list"
        return next((bad for item in value if (bad := misshapen(item, shape[0], at))), "")
    kinds = shape if isinstance(shape, tuple) else (shape,)
    if isinstance(value, bool) and bool not in kinds and object not in kinds:
        return f"'{at}' is true or false"
    return "" if isinstance(value, kinds) else f"'{at}' is of another kind"


def _mapping(value: Any, shape: dict[Any, Shape], at: str) -> str:
    if not isinstance(value, dict):
        return f"'{at}' is no mapping"
    if str in shape:
        return next(
            (bad for item in value.values() if (bad := misshapen(item, shape[str], at))), ""
        )
    for key, inner in shape.items():
        name = key.rstrip("?")
        if name not in value:
            if name == key:
                return f"'{name}' is missing"
        elif bad := misshapen(value[name], inner, name):
            return bad
    return ""

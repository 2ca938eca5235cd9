"""Messages as lines, and what is read held against its type. Travels: Python 3.9."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING, fields
from functools import cache
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from infrastructure.apply.protocol.documents import is_part, made
from infrastructure.apply.protocol.events import Event, Unknown
from infrastructure.apply.protocol.requests import Request

if TYPE_CHECKING:
    from collections.abc import Mapping


class Misshapen(ValueError):  # noqa: N818
    """A value is not of the type that it should have."""


Of = TypeVar("Of")


def name_of(kind: type) -> str:
    """What a message is called on the wire: `AskBridgeRequest` is `ask_bridge`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__.removesuffix("Request")).lower()


REQUESTS: dict[str, type[Request]] = {name_of(one): one for one in Request.__subclasses__()}
EVENTS: dict[str, type[Event]] = {name_of(one): one for one in Event.__subclasses__()}


def encode(message: Request | Event) -> bytes:
    """A message as a line."""
    key = "op" if isinstance(message, Request) else "event"
    values = {key: name_of(type(message)), **vars(message)}
    return json.dumps(values, separators=(",", ":"), default=vars).encode() + b"\n"


def request_of(line: bytes) -> Request:
    """The request that a line holds; Misshapen when it holds none."""
    values = json.loads(line)
    return read(REQUESTS[values["op"]], values)


def event_of(line: bytes) -> Event:
    """The event that a line holds; ValueError when it is no JSON, Misshapen when it is no event."""
    values = json.loads(line)
    if not isinstance(values, dict) or not isinstance(values.get("event"), str):
        raise Misshapen("it is no event")
    return read(EVENTS.get(values["event"], Unknown), values)


def read(kind: type[Of], value: Any, at: str = "") -> Of:
    """A decoded value as the type that it has to be; Misshapen when it is not.

    Of a mapping with more in it than its type says, a dataclass leaves the rest out, a `TypedDict`
    keeps it.
    """
    found: Of = _read(kind, value, at)
    return found


@cache
def _parts(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _read(kind: Any, value: Any, at: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin is Union:  # Optional: nothing else is used here
        return None if value is None else _read(get_args(kind)[0], value, at)
    if origin is Literal:
        if value not in get_args(kind):
            raise Misshapen(f"'{at}' is of another kind")
        return value
    if origin is list:
        if not isinstance(value, list):
            raise Misshapen(f"'{at}' is no list")
        return [_read(get_args(kind)[0], item, at) for item in value]
    if origin is dict or is_part(kind) or hasattr(kind, "__total__"):
        if not isinstance(value, dict):
            raise Misshapen(f"'{at}' is no mapping")
        if origin is dict:
            return {key: _read(get_args(kind)[1], item, at) for key, item in value.items()}
        return _document(kind, value)
    return _plain(kind, value, at)


def _document(kind: Any, value: dict[str, Any]) -> Any:
    """A dataclass or a TypedDict."""
    as_dataclass = is_part(kind)
    needed = (
        {
            one.name
            for one in fields(made(kind))
            if one.default is MISSING and one.default_factory is MISSING
        }
        if as_dataclass
        else kind.__required_keys__
    )
    found = {}
    for name, part in _parts(kind).items():
        if name in value:
            found[name] = _read(part, value[name], name)
        elif name in needed:
            raise Misshapen(f"'{name}' is missing")
    return kind(**found) if as_dataclass else {**value, **found}


def _plain(kind: Any, value: Any, at: str) -> Any:
    if isinstance(value, bool) and kind is not bool:
        raise Misshapen(f"'{at}' is true or false")
    if not isinstance(value, (int, float) if kind is float else kind):
        raise Misshapen(f"'{at}' is of another kind")
    return value

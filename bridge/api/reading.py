"""Checked input.

Path, query, headers and body become structs, or one 422 that lists every wrong field:
its place inside the body, what would be right, and a guess.
"""

from __future__ import annotations

import asyncio
import difflib
import json
import math
import re
import typing
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from datetime import MAXYEAR, MINYEAR, datetime
from itertools import islice
from typing import Any, Final

import msgspec
from msgspec import inspect, structs
from starlette.datastructures import QueryParams
from starlette.requests import Request

from bridge.api.problems import BodyTooSlowError, UnsupportedMediaError
from bridge.errors import InvalidRequestError

# What command-line tools say unasked is let pass: the body has to be JSON whatever its name.
_JSON_ENOUGH = ("", "application/json", "application/x-www-form-urlencoded", "text/plain")
_SEQUENCES = (list, tuple, set, frozenset)
BODY_SECONDS = 30.0
"""So long a body may take: a peer that is gone would hold its place among the pending for ever."""
MOST_PARAMETERS: Final = 250
"""In one address: fifty symbols and eighty strikes may each be one; more are not even read."""
MOST_UNKNOWN: Final = 20
"""Unknown names that an answer tells: each costs a guess, on some routes before any key."""
LONGEST_GUESSED: Final = 64
"""Letters of what a near word is looked for; no name of ours has as many."""


def invalid(problems: list[dict[str, str]]) -> InvalidRequestError:
    """One error for all that is wrong."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return InvalidRequestError(
        f"{first['field']}: {first['message']}{more}", extra={"errors": problems}
    )


def _problem(field: str, message: str, code: str = "invalid") -> dict[str, str]:
    return {"field": field, "message": message, "code": code}


def is_sequence(annotation: Any) -> bool:
    """Whether a parameter of this type takes several values."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return is_sequence(typing.get_args(annotation)[0])
    if origin is not None and origin not in _SEQUENCES:
        return any(is_sequence(each) for each in typing.get_args(annotation))
    return (origin or annotation) in _SEQUENCES


class ParamsReader:
    """Reads one ``Params`` struct."""

    def __init__(self, kind: type[Any], headers: dict[str, str]) -> None:
        self._kind = kind
        self._fields = structs.fields(kind)
        self._headers = headers
        self._known = {f.encode_name for f in self._fields if f.name not in headers}
        optional = not headers and not any(field.required for field in self._fields)
        self._nothing_given = kind() if optional else None

    def read(self, request: Request) -> Any:
        """The checked struct, or ``InvalidRequestError``."""
        if not request.scope["query_string"] and not request.path_params and self._nothing_given:
            return self._nothing_given
        if request.scope["query_string"].count(b"&") >= MOST_PARAMETERS:
            raise invalid([_problem("query", f"has more than {MOST_PARAMETERS} parameters")])
        problems: list[dict[str, str]] = []
        values: dict[str, Any] = {}
        for field in self._fields:
            raw = self._raw(request, field, problems)
            if raw is None:
                if field.required:
                    problems.append(_problem(field.encode_name, "is missing", "missing"))
                continue
            try:
                values[field.name] = msgspec.convert(raw, field.type, strict=False)
            except msgspec.ValidationError as error:
                _, message = refused(field.encode_name, field.type, error)
                problems.append(_problem(field.encode_name, message))
                continue
            problems += _out_of_range(field.encode_name, values[field.name])
        problems += _unknown(request.query_params, self._known, "parameter of this route")
        if problems:
            raise invalid(problems)
        return self._kind(**values)

    def _raw(
        self, request: Request, field: structs.FieldInfo, problems: list[dict[str, str]]
    ) -> Any:
        if field.name in self._headers:
            return request.headers.get(self._headers[field.name])
        if field.encode_name in request.path_params:
            if field.encode_name in request.query_params:
                problems.append(_problem(field.encode_name, "is in the path already"))
            return request.path_params[field.encode_name]
        return _from_query(request.query_params, field, problems)


def _unknown(given: Iterable[str], known: Collection[str], what: str) -> list[dict[str, str]]:
    """What nobody knows, as far as an answer tells it."""
    names = islice((name for name in given if name not in known), MOST_UNKNOWN)
    return [_problem(name, f"is not a {what}{guess(name, known)}", "unknown") for name in names]


def _out_of_range(name: str, value: Any) -> list[dict[str, str]]:
    """What has the right form, and cannot be worked with."""
    if isinstance(value, float) and not math.isfinite(value):
        return [_problem(name, "must be a finite number")]
    if isinstance(value, datetime) and not MINYEAR < value.year < MAXYEAR:
        # At either end the same moment has no name in other zones.
        return [_problem(name, "must be a time of the years 2 to 9998")]
    return []


def _from_query(
    query: QueryParams, field: structs.FieldInfo, problems: list[dict[str, str]]
) -> Any:
    given = query.getlist(field.encode_name)
    if not given:
        return None
    if is_sequence(field.type):
        return [part.strip() for text in given for part in text.split(",") if part.strip()]
    if len(given) > 1:
        problems.append(_problem(field.encode_name, "is given more than once"))
    return given[-1]


async def read_body(request: Request, kind: type[Any]) -> Any:
    """The checked JSON body, or ``InvalidRequestError``."""
    media = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if media not in _JSON_ENOUGH and not media.endswith("+json"):
        raise UnsupportedMediaError(f"{media} is not application/json")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.body() or b"{}"  # nothing said: whatever has a default takes it
    except TimeoutError:
        text = f"the body was not whole after {BODY_SECONDS:g} seconds"
        raise BodyTooSlowError(text) from None
    try:
        return _decoded(raw, kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid([_problem("body", f"is not JSON: {error}", "malformed")]) from None


def _decoded(raw: bytes, kind: type[Any]) -> Any:
    try:
        body = msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        raise invalid(_all_problems(raw, kind) or [_problem("body", str(error))]) from None
    repeated = _repeated_names(raw)
    if repeated:
        raise invalid([_problem(name, "is given more than once", "repeated") for name in repeated])
    return body


def _repeated_names(raw: bytes) -> list[str]:
    """Members that one object has twice: which of them is meant cannot be known."""
    repeated: list[str] = []

    def note(members: list[tuple[str, Any]]) -> None:
        counted = Counter(name for name, _ in members)
        repeated.extend(name for name, times in counted.items() if times > 1)

    json.loads(raw, object_pairs_hook=note)
    return repeated


def _all_problems(raw: bytes, kind: type[Any]) -> list[dict[str, str]]:
    """Every member that is wrong, not only the first."""
    given = msgspec.json.decode(raw)
    if not isinstance(given, dict):
        return []
    problems = []
    known = {field.encode_name: field for field in structs.fields(kind)}
    for name, field in known.items():
        if name not in given:
            if field.required:
                problems.append(_problem(name, "is missing", "missing"))
            continue
        try:
            msgspec.convert(given[name], field.type)
        except msgspec.ValidationError as error:
            problems.append(_problem(*refused(name, field.type, error)))
    return problems + _unknown(given, known, "member of this body")


_AT: Final = re.compile(r"^(?P<text>.*?)(?: - at (?:key in )?`\$(?P<path>[^`]*)`)?$", re.DOTALL)
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")
_ENUM: Final = re.compile(r"Invalid enum value '?(?P<given>.*?)'?$", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<given>.*)`", re.DOTALL)


def refused(field: str, kind: Any, error: Exception) -> tuple[str, str]:
    """The field, as a path from `field`, and the message of a `msgspec.ValidationError`."""
    found = _AT.match(str(error))
    text, path = (found["text"], found["path"] or "") if found else (str(error), "")
    wanted = _follow(inspect.type_info(kind), path)
    enum, unknown = _ENUM.match(text), _UNKNOWN.match(text)
    if enum and (words := sorted(_words(wanted))):
        text = f"{enum['given']!r} is none of {', '.join(words)}{guess(enum['given'], words)}"
    elif unknown:
        names = [each.encode_name for one in _structs(wanted) for each in one.fields]
        text = f"has no member {unknown['given']!r}{guess(unknown['given'], names)}"
    return field + path, text


def guess(given: str, words: Iterable[str]) -> str:
    """`; did you mean STP_LMT?` for `stp lmt`; nothing when no word is near."""
    if len(given) > LONGEST_GUESSED:
        return ""
    by_form = {_form(word): word for word in words}
    close = difflib.get_close_matches(_form(given), by_form, 1, 0.6)
    return f"; did you mean {by_form[close[0]]}?" if close else ""


def _form(word: str) -> str:
    """Without what people write differently: `stp lmt`, `Stp-Lmt` and `STP_LMT` are one."""
    return re.sub(r"[\W_]+", "", word.lower()) or word


def _follow(kind: inspect.Type, path: str) -> inspect.Type:
    """The type at a path such as `.bracket.stopLoss` or `.orders[0].action`."""
    for name, _ in _STEP.findall(path):
        kind = next(_inside(kind, name), kind)
    return kind


def _inside(kind: inspect.Type, name: str) -> Iterator[inspect.Type]:
    for each in _alternatives(kind):
        if name and isinstance(each, inspect.StructType):
            yield from (field.type for field in each.fields if field.encode_name == name)
        elif not name and isinstance(each, inspect.ListType | inspect.VarTupleType):
            yield each.item_type


def _alternatives(kind: inspect.Type) -> tuple[inspect.Type, ...]:
    return kind.types if isinstance(kind, inspect.UnionType) else (kind,)


def _structs(kind: inspect.Type) -> Iterator[inspect.StructType]:
    return (each for each in _alternatives(kind) if isinstance(each, inspect.StructType))


def _words(kind: inspect.Type) -> Iterator[str]:
    for each in _alternatives(kind):
        if isinstance(each, inspect.LiteralType):
            yield from map(str, each.values)
        elif isinstance(each, inspect.EnumType):
            yield from (str(member.value) for member in each.cls)
        elif isinstance(each, inspect.ListType | inspect.VarTupleType):
            yield from _words(each.item_type)

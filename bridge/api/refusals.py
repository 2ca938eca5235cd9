"""What a refused value is told: its place inside the body, what would be right, and a guess."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec import inspect

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

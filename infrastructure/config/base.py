"""What every model of stack.yaml has in common, and the small types they share."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Protocol, get_origin
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from infrastructure.config.terms import SecretTerms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

    from infrastructure.errors import Place

LONGEST_TEXT = 4096
"""Letters of one value: the longest path of a file on Linux."""
_UNSEEN = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\xad\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff\\ufff0-\\uffff"
    "\\ud800-\\udfff]"
)
"""What ends a line or cannot be seen: files for machines are made of settings."""


class Placer(Protocol):
    """Says where a value of the target stands."""

    def __call__(self, *path: str | int) -> Place:
        """Its file, line and column."""
        ...


class Section(BaseModel):
    """A mapping in stack.yaml: unknown keys are refused, values cannot change after loading."""

    model_config = ConfigDict(
        defer_build=True,  # what a command does not read is never compiled
        allow_inf_nan=False,  # no file of ours could hold them
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        str_strip_whitespace=True,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain_texts(cls, value: Any) -> Any:
        """Every text of every field, lists and mappings of texts included."""
        for text in _texts(value):
            plain_text(text)
        return value

    @model_validator(mode="before")
    @classmethod
    def _empty_sections(cls, value: Any) -> Any:
        """A section whose keys are all commented out reads as null: its defaults hold."""
        if not isinstance(value, dict):
            return value
        return {
            key: inner
            for key, inner in value.items()
            if inner is not None or not is_section(_annotation(cls.model_fields.get(key)))
        }


def plain_text(text: str) -> str:
    """A text that can stand in a file of any kind; ValueError for another."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a text of more than {LONGEST_TEXT} letters does not belong here")
    if _UNSEEN.search(text.strip(" \t\r\n")):
        raise ValueError("a line break or an invisible character does not belong here")
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        yield from (each for each in value if isinstance(each, str))
    elif isinstance(value, dict):
        # What is deeper is a section, which looks at its own fields and knows their places.
        yield from (each for each in value if isinstance(each, str))


def _annotation(field: FieldInfo | None) -> Any:
    return field.annotation if field else None


def is_section(kind: Any) -> bool:
    """Whether a type is a mapping that is always there, so that an empty one says nothing.

    One that may be None is not: there null switches it off.
    """
    return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Section))


class SecretRef(SecretTerms, Section):
    """Where a secret's value comes from; the value itself never stands in stack.yaml.

    Exactly one of: `stored` (set with `./deploy.py secrets set NAME`), `file`, or `command`.
    """

    stored: str | None = None
    """A name in this project's own secret store, `.gangway/secrets/<target>/` beside stack.yaml."""
    file: str | None = None
    """A file on this machine that holds the value; a trailing newline is dropped."""
    command: tuple[str, ...] | None = None
    """A command that prints the value, such as `op read op://vault/ibkr` or `pass ibkr`."""

    @model_validator(mode="before")
    @classmethod
    def _shape(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError("a secret's value does not belong in stack.yaml")  # noqa: TRY004
        if isinstance(value, dict) and isinstance(value.get("command"), str):
            return {**value, "command": shlex.split(value["command"])}
        return value

    @model_validator(mode="after")
    def _one_source(self) -> SecretRef:
        given = [name for name in ("stored", "file", "command") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("give exactly one of stored, file, command")
        if self.stored is not None and not re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", self.stored):
            raise ValueError("a stored secret's name has only a-z, 0-9, dot, dash and underscore")
        return self


def stored(name: str) -> SecretRef:
    """The reference to a value of the project's own secret store."""
    return SecretRef(stored=name)


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
        known = "/" in value or value == "UTC"
        known = known and not value.startswith(("posix/", "right/"))  # Java knows neither
    except (ZoneInfoNotFoundError, ValueError, OSError):
        known = False
    if not known:
        raise ValueError(f"unknown time zone '{value}'{_as_named(value)}")
    return value


def _as_named(value: str) -> str:
    """How the zone database calls `UTC+1`, `GMT-5` or `+01:00`; nothing for another text."""
    hours = re.fullmatch(r"(?:UTC|GMT)?([+-])0?([1-9]|1[0-4])(?::?00)?", value, re.IGNORECASE)
    if hours is None or (hours[1] == "-" and int(hours[2]) > 12):
        return ""
    turned = "-" if hours[1] == "+" else "+"
    named = f"UTC{hours[1]}{hours[2]} is called Etc/GMT{turned}{hours[2]}"
    return f": {named}, with the sign turned around"


def _clock(value: Any) -> Any:
    """`23:30`, `9:30 pm` or `09:30 AM` to 24-hour `HH:MM`; `off` (or false) to `off`."""
    if value is False or (isinstance(value, str) and value.lower() in {"off", "no", "never"}):
        return "off"
    if not isinstance(value, str):
        raise ValueError("a time of day is written as '23:30' or '11:30 PM'")  # noqa: TRY004
    match = re.fullmatch(r"\s*([0-9]{1,2}):([0-9]{2})\s*([aApP][mM])?\s*", value)
    if match is None:
        raise ValueError(f"'{value}' is no time of day")
    hour, minute = int(match[1]), int(match[2])
    if match[3]:
        if not 1 <= hour <= 12:
            raise ValueError(f"'{value}' is no time of day: with AM/PM the hour is 1 to 12")
        hour = hour % 12 + (12 if match[3].lower() == "pm" else 0)
    if hour > 23 or minute > 59:
        raise ValueError(f"'{value}' is no time of day")
    return f"{hour:02d}:{minute:02d}"


def check_image(value: str) -> str:
    """An image reference with a tag or a digest; ValueError for anything else."""
    digest, tag = r"@sha256:[0-9a-f]{64}", r":[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
    part = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
    registry = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?::[0-9]{1,5})?/)?"
    if not re.fullmatch(rf"{registry}{part}(?:/{part})*(?:{tag}(?:{digest})?|{digest})", value):
        raise ValueError(f"'{value}' is no image with a tag or digest")
    return value


def _port(value: int) -> int:
    if not 1 <= value <= 65535:
        raise ValueError("a port is a number from 1 to 65535")
    return value


Clock = Annotated[str, BeforeValidator(_clock)]
"""A time of day in 24 hours, or `off`."""
Zone = Annotated[str, AfterValidator(_zone)]
Port = Annotated[int, AfterValidator(_port)]
Megabytes = Annotated[int, Field(ge=1, le=1_048_576)]

"""The text protocol: frames of NUL-terminated fields behind a four-byte length.

`Reader` takes a request apart, `text` turns a value into a field, `Layout` writes a message whose
fields depend on the negotiated server version.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from simulator.contracts.contract import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

MAXIMUM_SERVER_VERSION = 178
MINIMUM_SERVER_VERSION = 100
FRAME_LIMIT = 512 * 1024
"""No real request is longer; a longer length prefix is garbage and ends the connection."""


class MalformedError(ValueError):
    """A field is missing or not of the kind that belongs there."""


def text(value: object) -> str:
    """A value as the field that carries it; None is the empty field."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if value is True:
        return "1"
    if value is False:
        return "0"
    return str(value)


def frame(fields: Iterable[object]) -> bytes:
    """The fields as one frame."""
    return framed("\0".join([text(value) for value in fields]) + "\0")


def framed(body: str) -> bytes:
    """Fields that are joined already, the last one ended too, as one frame."""
    data = body.encode()
    return struct.pack(">I", len(data)) + data


def unframed(data: bytes) -> Iterator[list[str]]:
    """The fields of each of the whole frames."""
    while data:
        end = 4 + int.from_bytes(data[:4])
        yield data[4:end].decode().removesuffix("\0").split("\0")
        data = data[end:]


class Reader:
    """A request's fields, taken one after the other."""

    __slots__ = ("fields", "position", "version")

    def __init__(self, fields: Sequence[str], version: int) -> None:
        self.fields = fields
        self.version = version
        """The negotiated server version, on which the fields depend."""
        self.position = 0

    @property
    def more(self) -> bool:
        """Whether there are fields left."""
        return self.position < len(self.fields)

    def text(self) -> str:
        """The next field as it is.

        Raises:
            MalformedError: there is none left.
        """
        if self.position >= len(self.fields):
            raise MalformedError("the message ends too early")
        self.position += 1
        return self.fields[self.position - 1]

    def integer(self) -> int:
        """The next field as a whole number; empty is 0."""
        value = self.text()
        try:
            return int(value or 0)
        except ValueError:
            raise MalformedError(f"{value[:40]!r} is not a whole number") from None

    def decimal(self) -> float:
        """The next field as a number; empty is 0."""
        value = self.text()
        try:
            return float(value or 0)
        except ValueError:
            raise MalformedError(f"{value[:40]!r} is not a number") from None

    def optional_decimal(self) -> float | None:
        """The next field as a number; empty or the unset value is None."""
        value = self.text()
        if not value:
            return None
        self.position -= 1
        number = self.decimal()
        return None if number > 1e300 else number

    def boolean(self) -> bool:
        """The next field as yes or no."""
        return self.text().strip().lower() in ("1", "true")

    def skip(self, count: int = 1) -> None:
        for _ in range(count):
            self.text()

    def count(self) -> int:
        """The size of a group; more than what is left is malformed."""
        size = self.integer()
        if not 0 <= size <= len(self.fields) - self.position:
            raise MalformedError(f"a group of {size} does not fit")
        return size

    def contract(self, *, primary: bool = True) -> Query:
        """Twelve fields from the contract number to the trading class, as most requests have them.

        Args:
            primary: whether the primary exchange is among them.
        """
        return Query(
            con_id=self.integer(),
            symbol=self.text(),
            sec_type=self.text().upper(),
            expiry=self.text(),
            strike=self.optional_decimal() or 0.0,
            right={"CALL": "C", "PUT": "P"}.get(right := self.text().upper(), right),
            multiplier=self.text(),
            exchange=self.text().upper(),
            primary_exchange=self.text().upper() if primary else "",
            currency=self.text().upper(),
            local_symbol=self.text(),
            trading_class=self.text(),
        )


class Field(NamedTuple):
    """A field of a message: present from version `since` up to, not including, `until`.

    `group` makes it a repeated group: a count, then the group's fields for each mapping.
    """

    name: str
    since: int = 0
    until: int = 10_000
    default: Any = None
    group: tuple[Field, ...] | None = None

    def present(self, version: int) -> bool:
        """Whether the message has this field at that version."""
        return self.since <= version < self.until


class Layout:
    """A message to the client: its id, then fields by version; the one table of both."""

    def __init__(self, message_id: int, *fields: Field | str) -> None:
        self.message_id = message_id
        self.fields = tuple(Field(each) if isinstance(each, str) else each for each in fields)

    @lru_cache(maxsize=256)  # noqa: B019  (layouts live as long as the program)
    def at(self, version: int) -> tuple[Field, ...]:
        """The fields that the message has at a version."""
        return tuple(each for each in self.fields if each.present(version))

    def values(self, version: int, content: Mapping[str, Any]) -> list[Any]:
        """The message as a list of values, ready for `frame`."""
        return [self.message_id, *_values(self.at(version), version, content)]


def _values(fields: tuple[Field, ...], version: int, content: Mapping[str, Any]) -> list[Any]:
    values: list[Any] = []
    for each in fields:
        value = content.get(each.name, each.default)
        if each.group is not None:
            inner = tuple(part for part in each.group if part.present(version))
            values.append(len(value or ()))
            for item in value or ():
                values.extend(_values(inner, version, item))
        else:
            values.append(value)
    return values

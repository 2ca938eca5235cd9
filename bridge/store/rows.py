"""Rows of the journal as values, and times as it keeps them: milliseconds since 1970, UTC.

A row that cannot be read is one line in the log, and never a reason not to start.
Where a list is read, a damaged row is left out; where one certain row is wanted, its reader hears
of it: an order must not be sent because the row of its key cannot be read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

import msgspec
import structlog

from bridge.store.errors import DamagedRowError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def to_milliseconds(moment: datetime) -> int:
    """An aware datetime as milliseconds since the epoch; fractions of a millisecond are cut off."""
    if moment.tzinfo is None:
        raise ValueError("a time in the journal needs its zone")
    return (moment - _EPOCH) // _MILLISECOND


def from_milliseconds(value: int) -> datetime:
    """The aware UTC datetime of what `to_milliseconds` made."""
    return _EPOCH + value * _MILLISECOND


def optional_from_milliseconds(value: int | None) -> datetime | None:
    """The same for a column that may be empty."""
    return None if value is None else from_milliseconds(value)


def optional_to_milliseconds(moment: datetime | None) -> int | None:
    """The other way round."""
    return None if moment is None else to_milliseconds(moment)


log = structlog.get_logger(__name__)

Row = TypeVar("Row")
_DAMAGE: Final = (ValueError, TypeError, KeyError, OverflowError)  # msgspec's are ValueErrors
_MOST_REPORTED: Final = 1000
_reported: set[tuple[str, str]] = set()


def compact(value: msgspec.Struct) -> str:
    """A struct as JSON, without the members that are left at their defaults.

    An older bridge reads it too: what is not there has its default.
    """
    return msgspec.json.encode(_given(value)).decode()


def _given(value: msgspec.Struct) -> dict[str, Any]:
    members = {}
    for name, encoded_name, default in _defaults(type(value)):
        member = getattr(value, name)
        if isinstance(member, msgspec.Struct):
            members[encoded_name] = _given(member)
        elif member is not default and (member != default or type(member) is not type(default)):
            members[encoded_name] = member
    return members


@cache
def _defaults(kind: type[msgspec.Struct]) -> tuple[tuple[str, str, Any], ...]:
    """Name, name on the wire and default of each member; one that has none is never left out."""
    if kind.__struct_config__.tag is not None:
        raise TypeError(f"{kind.__name__} is told apart by a tag, which would be lost")
    return tuple(
        (
            field.name,
            field.encode_name,
            field.default_factory()
            if field.default_factory is not msgspec.NODEFAULT
            else field.default,
        )
        for field in msgspec.structs.fields(kind)
    )


class DamagedTextError(ValueError):
    """A text of a row is no UTF-8."""


class _Undecodable(bytes):
    """What stands in a column of text, as it is."""


class _CheckedRow(sqlite3.Row):
    """A row of which everything can be read but the texts that are none."""

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if isinstance(value, _Undecodable):
            raise DamagedTextError(f"column {key} is no UTF-8")
        return value

    def __iter__(self) -> Iterator[Any]:
        values = tuple(super().__iter__())
        if any(isinstance(value, _Undecodable) for value in values):
            raise DamagedTextError("a column is no UTF-8")
        return iter(values)


def _text(raw: bytes) -> str | _Undecodable:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _Undecodable(raw)


def as_they_are(row: sqlite3.Row) -> tuple[Any, ...]:
    """The values of a row, a text that is none as its bytes."""
    return tuple(sqlite3.Row.__iter__(row))


def is_undecodable(error: BaseException) -> bool:
    """Whether SQLite has met a text that is no UTF-8: then it gives no row at all."""
    return isinstance(error, sqlite3.OperationalError) and str(error).startswith("Could not decode")


@contextmanager
def reading_what_is_damaged(connection: sqlite3.Connection) -> Iterator[None]:
    """Rows with such a text are given meanwhile, and raise where that text is asked for.

    Not always, because each text would cost a call.
    """
    connection.text_factory, connection.row_factory = _text, _CheckedRow
    try:
        yield
    finally:
        connection.text_factory, connection.row_factory = str, sqlite3.Row


def wanted(table: str, row: sqlite3.Row, build: Callable[[sqlite3.Row], Row]) -> Row:
    """The row as a value.

    Raises:
        DamagedRowError: it cannot be read.
    """
    try:
        return build(row)
    except _DAMAGE as error:
        _tell(table, row, error)
        raise DamagedRowError(f"row {_name(row)} of {table} is damaged: {_line(error)}") from None


def readable(
    table: str, rows: Iterable[sqlite3.Row], build: Callable[[sqlite3.Row], Row]
) -> Iterator[Row]:
    """The rows as values, without those that cannot be read."""
    for row in rows:
        try:
            yield build(row)
        except _DAMAGE as error:
            _tell(table, row, error)


def detail(text: str) -> dict[str, Any]:
    """A member that explains a row; what is left of it when it is damaged."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except _DAMAGE:
        return {"damaged": text[:200]}


def _tell(table: str, row: sqlite3.Row, error: Exception) -> None:
    """Once for each row."""
    name = _name(row)
    if (table, name) in _reported or len(_reported) >= _MOST_REPORTED:
        return
    _reported.add((table, name))
    log.error("row-damaged", table=table, row=name, error=_line(error))


def _name(row: sqlite3.Row) -> str:
    """Its sequence number or its name."""
    try:
        return str(row["sequence"] if "sequence" in row.keys() else row[0])[:80]  # noqa: SIM118
    except DamagedTextError:
        return "of no name"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__

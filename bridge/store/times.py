"""Times as the journal keeps them.

Whole milliseconds since 1970 UTC, an integer that sorts and indexes.
"""

from datetime import UTC, datetime, timedelta

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

"""Checked settings without the models: as JSON, and as plain objects that read the same.

A model is what checks a value; what was checked once needs only to be held. `written` makes JSON
values of a model, `read` makes objects of them with the same names, values, terms and texts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, cast

from infrastructure.config.terms import JournalTerms, SecretTerms, StackTerms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from infrastructure.config.base import SecretRef, Section
    from infrastructure.config.models import Stack


class PlainSection:
    """A checked section of stack.yaml: its values are attributes, and stay as they are."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        vars(self).update(values)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"'{name}' cannot change after loading")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(vars(self)))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({vars(self)!r})"

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """The same with other values."""
        return type(self)({**vars(self), **update})

    def model_dump(self) -> dict[str, Any]:
        """The values by their names; of a section without others in it."""
        return dict(vars(self))


class PlainStack(StackTerms, PlainSection):
    """One target of stack.yaml."""


class PlainTrading(PlainSection):
    """What may be ordered, and how the model writes it: there a whole number may be a fraction."""

    __slots__ = ("_as_json",)
    _as_json: Mapping[str, Any]

    def __init__(self, values: Mapping[str, Any], as_json: Mapping[str, Any]) -> None:
        super().__init__(values)
        object.__setattr__(self, "_as_json", as_json)

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Only the model knows how it would write other values."""
        raise NotImplementedError

    def model_dump(self, **_: str) -> dict[str, Any]:
        """The values as the model writes them, as JSON values."""
        return dict(self._as_json)


class PlainJournal(JournalTerms, PlainSection):
    """The bridge's journal of orders."""


class PlainSecret(SecretTerms, PlainSection):
    """Where a secret's value comes from."""


TRADING = "Trading"
KINDS: dict[str, type[PlainSection]] = {
    "Stack": PlainStack,
    "Journal": PlainJournal,
    "SecretRef": PlainSecret,
}
"""Of the sections with terms; the others are their values alone."""


def stored(name: str) -> SecretRef:
    """The reference to a value of the project's own secret store."""
    return cast("SecretRef", PlainSecret({"stored": name, "file": None, "command": None}))


def written(section: Section) -> dict[str, Any]:
    """A model as JSON values; TypeError for what does not come back the same."""
    values = {name: _written(getattr(section, name)) for name in type(section).model_fields}
    found: dict[str, Any] = {"section": type(section).__name__, "values": values}
    if found["section"] == TRADING:
        found["json"] = section.model_dump(mode="json")
    return found


def read(value: Any) -> Stack:
    """The stack that `written` made these values of; ValueError when it was not one."""
    try:
        found = _read(value)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no stack was written like this: {error}") from error
    if not isinstance(found, PlainStack):
        raise ValueError("no stack was written like this")  # noqa: TRY004
    return cast("Stack", found)


def _written(value: Any) -> Any:
    if value is None or type(value) in {bool, int, float, str}:
        return value
    if type(value) is tuple:
        return {"tuple": [_written(item) for item in value]}
    if type(value) is list:
        return [_written(item) for item in value]
    if type(value) is dict and all(type(key) is str for key in value):
        return {"mapping": {key: _written(item) for key, item in value.items()}}
    if hasattr(type(value), "model_fields"):
        return written(value)
    raise TypeError(f"a {type(value).__name__} is not written")


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return [_read(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "section" in value:
        values = {name: _read(item) for name, item in value["values"].items()}
        if value["section"] == TRADING:
            return PlainTrading(values, value["json"])
        return KINDS.get(value["section"], PlainSection)(values)
    if "tuple" in value:
        return tuple(_read(item) for item in value["tuple"])
    return {key: _read(item) for key, item in value["mapping"].items()}

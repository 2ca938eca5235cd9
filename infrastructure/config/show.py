"""The resolved configuration as plain values; secrets appear as where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.config.base import SecretRef

if TYPE_CHECKING:
    from pydantic import BaseModel

    from infrastructure.config.models import Target


def resolved(target: Target) -> dict[str, Any]:
    """Every value with its default filled in; a secret is `<stored secret 'NAME'>`."""
    return {"target": target.name, **_section(target.stack)}


def as_yaml(values: dict[str, Any]) -> str:
    """Block style YAML in the order of the models."""
    import yaml

    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _section(section: BaseModel) -> dict[str, Any]:
    return {name: _plain(getattr(section, name)) for name in type(section).model_fields}


def _plain(value: Any) -> Any:
    from pydantic import BaseModel

    if isinstance(value, SecretRef):
        return f"<{value}>"
    if isinstance(value, BaseModel):
        return _section(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value

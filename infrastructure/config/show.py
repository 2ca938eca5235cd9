"""The resolved configuration as plain values; secrets appear as where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infrastructure.config.base import SecretRef

if TYPE_CHECKING:
    from pydantic import BaseModel

    from infrastructure.config.models import Stack, Target


def resolved(target: Target) -> dict[str, Any]:
    """Every value as it takes effect; a secret is `<stored secret 'NAME'>`.

    What stack.yaml leaves to the mode and the profile (restart times, heap, limits) is filled in.
    """
    return {"target": target.name, **_section(_effective(target.stack))}


def _effective(stack: Stack) -> Stack:
    from infrastructure.config.profiles import budget, heap
    from infrastructure.config.schedule import schedule

    restart, logoff, cold = (clock or "off" for clock in schedule(stack.gateway))
    jvm = stack.gateway.jvm.model_copy(update={"heap": heap(stack)})
    gateway = stack.gateway.model_copy(
        update={"auto_restart": restart, "auto_logoff": logoff, "cold_restart": cold, "jvm": jvm}
    )
    memory = {name: budget(stack, name) for name in ("gateway", "bridge", "caddy", "portal")}
    limits = stack.limits.model_copy(
        update={name: one.memory for name, one in memory.items()}
        | {"gateway_swap": memory["gateway"].with_swap}
    )
    return stack.model_copy(update={"gateway": gateway, "limits": limits})


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

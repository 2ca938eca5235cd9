"""What is generated for readers (scripts/reference): docs/configuration.md and the help's text.

Also the JSON schema of stack.yaml, and what a target's configuration comes to.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import itertools
import os
import textwrap
import types
import typing
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from infrastructure.cli import HELP_FILE
from infrastructure.config.base import SecretRef
from infrastructure.config.host import Host
from infrastructure.config.loading import model_in
from infrastructure.config.models import Stack
from infrastructure.config.schedule import schedule
from infrastructure.program import PROJECT

if TYPE_CHECKING:
    from pathlib import Path

    from infrastructure.config.target import Target

INTRODUCTION = """\
# Configuration

Everything stands in one file, `stack.yaml`; `./deploy.py init` writes a commented one and
`./deploy.py config` shows what it comes to, with every default filled in.

```yaml
defaults:            # optional: what all targets share
  profile: e2-micro
targets:
  prod:              # a-z, 0-9 and dash; the stack's name on the host
    host: ubuntu@203.0.113.7
    gateway:
      username: alice
```

Unknown keys, wrong types, impossible times and unsafe combinations are refused before anything is
touched: all at once, each with file:line:column and a hint, exit code 2. A section whose keys are
all commented out keeps its defaults, and what `defaults:` says of it; only where the table says
that unset is off (`two_factor.totp`, `bridge.flex`) an empty one switches off.
Words such as `no` and times such as `23:30` need no quotes.
For completion in an editor: `./deploy.py config --schema > stack.schema.json`.

**Secrets** never stand in this file, only where they come from: `{stored: NAME}` (set with
`./deploy.py secrets set NAME`, kept in `.gangway/secrets/<target>/` beside `stack.yaml`, mode
0600), `{file: PATH}` or `{command: op read op://vault/ibkr/password}` (also `pass`, `sops -d`, …).

**Times** are in 24 hours (`23:30`) or with AM/PM (`11:30 PM`), in `gateway.time_zone`; `off`
switches one off.
"""


def markdown() -> str:
    """The whole page."""
    parts = [INTRODUCTION]
    _section(Stack, "", "A target", parts)
    return "\n".join(parts).rstrip() + "\n"


def schema() -> dict[str, Any]:
    """JSON schema of stack.yaml, for editors."""
    target = Stack.model_json_schema(ref_template="#/$defs/{model}")
    definitions = target.pop("$defs")
    models: list[type[BaseModel]] = [Stack, *_models(Stack)]
    for model in models:
        shape = target if model is Stack else definitions[model.__name__]
        for name, text in descriptions(model).items():
            shape["properties"][name]["description"] = text
    short = {"type": "string", "description": "user@host:port"}
    definitions["Host"] = {"anyOf": [short, definitions["Host"]]}
    definitions["Target"] = target
    shared = {name: value for name, value in target.items() if name != "required"}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "stack.yaml",
        "type": "object",
        "additionalProperties": False,
        "required": ["targets"],
        "properties": {
            "defaults": shared,
            "targets": {"type": "object", "additionalProperties": {"$ref": "#/$defs/Target"}},
        },
        "$defs": definitions,
    }


def _section(model: type[BaseModel], path: str, title: str, parts: list[str]) -> None:
    inner: list[tuple[str, type[BaseModel], str]] = []
    described = descriptions(model)
    rows = ["| key | type | default | what |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        nested = model_in(field.annotation)
        text = described[name].replace("|", "\\|")
        if nested is not None and nested != SecretRef:
            by_name = typing.get_origin(field.annotation) is dict
            place = f"{path}{name}.NAME" if by_name else f"{path}{name}"
            inner.append((place, nested, text))
            kind, default = f"[section{'s by name' if by_name else ''}](#{_anchor(place)})", ""
            if nested is Host:
                kind += " or text"
            default = "**required**" if field.is_required() else ""
        else:
            kind, default = _kind(field.annotation), _default(field)
        rows.append(f"| `{name}` | {kind} | {default} | {text} |")
    parts.append(f"## {title}\n\n" + "\n".join(rows) + "\n")
    for inner_path, nested, _ in inner:
        _section(nested, f"{inner_path}.", f"`{inner_path}`", parts)


def _models(model: type[BaseModel]) -> set[type[BaseModel]]:
    """Every model below this one."""
    nested = {model_in(field.annotation) for field in model.model_fields.values()} - {None}
    found = {item for item in nested if item is not None}
    return found.union(*(_models(item) for item in found))


def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """The docstring below each field, as one line.

    Read from the source here, not by pydantic when a class is made: that would cost every command
    a tenth of a second.
    """
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(model))).body
    assert isinstance(definition, ast.ClassDef)  # noqa: S101 - the source of a class
    found = {}
    for field, text in itertools.pairwise(definition.body):
        match (field, text):
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(documented))),
            ):
                found[name] = " ".join(documented.split())
    return found


def _anchor(path: str) -> str:
    return path.replace(".", "").lower()


def _default(field: Any) -> str:
    value = field.default
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else None
        if field.is_required():
            return "**required**"
    if isinstance(value, SecretRef):
        return f"`{{stored: {value.stored}}}`"
    if value is None or value in ((), {}):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _kind(annotation: Any) -> str:
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:
        return _kind(arguments[0])
    if origin is typing.Literal:
        return " ".join(f"`{value}`" for value in arguments)
    if origin in {typing.Union, types.UnionType}:
        kinds = [_kind(item) for item in arguments if item is not type(None)]
        return " or ".join(kinds)
    if origin is tuple:
        return f"list of {_kind(arguments[0])}"
    if origin is dict:
        return "mapping"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    if annotation is SecretRef:
        return "[secret](#configuration)"
    return names.get(annotation, str(annotation))


# --- what a configuration comes to ---------------------------------------------------------------
def resolved(target: Target) -> dict[str, Any]:
    """Every value as it takes effect; a secret is `<stored secret 'NAME'>`.

    What stack.yaml leaves to the mode and the profile (restart times, heap, limits) is filled in.
    """
    return {"target": target.name, **_values(_effective(target.stack))}


def _effective(stack: Stack) -> Stack:
    restart, logoff, cold = (clock or "off" for clock in schedule(stack.gateway))
    jvm = stack.gateway.jvm.model_copy(update={"heap": stack.heap})
    gateway = stack.gateway.model_copy(
        update={"auto_restart": restart, "auto_logoff": logoff, "cold_restart": cold, "jvm": jvm}
    )
    memory = {name: stack.budget(name) for name in ("gateway", "bridge", "caddy", "portal")}
    limits = stack.limits.model_copy(
        update={name: one.memory for name, one in memory.items()}
        | {"gateway_swap": memory["gateway"].with_swap}
    )
    return stack.model_copy(update={"gateway": gateway, "limits": limits})


def as_yaml(values: dict[str, Any]) -> str:
    """Block style YAML in the order of the models."""
    return str(yaml.safe_dump(values, sort_keys=False, allow_unicode=True))


def _values(section: BaseModel) -> dict[str, Any]:
    return {name: _plain(getattr(section, name)) for name in type(section).model_fields}


def _plain(value: Any) -> Any:
    if isinstance(value, SecretRef):
        return f"<{value}>"
    if isinstance(value, BaseModel):
        return _values(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value


def help_text() -> str:
    """What typer prints for `./deploy.py --help`, 80 columns wide."""
    from infrastructure.cli.app import app

    before, printed = os.environ.get("COLUMNS"), io.StringIO()
    os.environ["COLUMNS"] = "80"
    try:
        with contextlib.redirect_stdout(printed):
            app(["--help"], prog_name="deploy.py", standalone_mode=False)
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


def generated() -> dict[Path, str]:
    """Every generated file with its content."""
    return {
        PROJECT / "docs" / "configuration.md": markdown(),
        HELP_FILE: help_text(),
    }


if __name__ == "__main__":
    for path, content in generated().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")

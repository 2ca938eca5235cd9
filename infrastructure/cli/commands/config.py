"""`config [--check]`: what stack.yaml comes to."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from infrastructure.cli.settings import settings


def print_schema(schema: dict[str, Any]) -> None:
    """The schema on stdout, with or without --json."""
    typer.echo(json.dumps(schema, indent=2))


def config(
    context: typer.Context,
    check: Annotated[bool, typer.Option("--check", help="Only validate")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of stack.yaml, for editors")
    ] = False,
) -> None:
    """Print the resolved configuration, secrets masked.

    Every problem is shown at once, each with file:line:column and a hint; exit code 2.

    \b
    Examples:
      ./deploy.py config
      ./deploy.py --target prod config --check
    """
    current = settings(context)
    if schema:
        from infrastructure.cli.reference import schema as json_schema

        print_schema(json_schema())
        return
    target = current.target()
    if check:
        from infrastructure.config.secrets import missing
        from infrastructure.config.worker_files import missing_folders
        from infrastructure.errors import ConfigError

        if folders := missing_folders(target):
            raise ConfigError(f"{target.file} cannot be deployed", found=tuple(folders))
        absent = missing(target)
        for problem in absent:
            current.out.warn(problem)
        current.out.say(f"{target.file or 'the built-in target'} is valid: {target.name}")
        warnings = [problem.as_json() for problem in (*target.warnings, *absent)]
        current.out.document({"target": target.name, "valid": True, "warnings": warnings})
        return
    from infrastructure.cli.reference import as_yaml, resolved

    values = resolved(target)
    current.out.document(values)
    current.out.data(as_yaml(values))

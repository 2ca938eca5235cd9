"""`diagnose [--connect-once] [--api-key-file F]`: the bridge from outside, explained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infrastructure.cli.settings import settings


def diagnose(
    context: typer.Context,
    connect_once: Annotated[
        bool, typer.Option("--connect-once", help="Let the bridge try to connect once")
    ] = False,
    api_key_file: Annotated[
        Path | None,
        typer.Option("--api-key-file", metavar="FILE", help="The key to use [the first key]"),
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", metavar="URL", help="Another way in, such as a proxy's")
    ] = None,
) -> int:
    """Try the bridge as a client does, with timings, and say what it means.

    From outside through Caddy: name, TCP, TLS, /ping, /health, with --connect-once a connection
    attempt, and /executions. When outside fails, the same through the SSH connection, so that it
    is clear which half is at fault. Exit code 1 when orders could not be placed.

    \b
    Examples:
      ./deploy.py diagnose
      ./deploy.py --target prod diagnose --connect-once --api-key-file phone.key
    """
    from infrastructure.diagnose.run import conclusion, diagnose

    current = settings(context)
    target = current.target()
    found = diagnose(current, target, connect_once=connect_once, key_file=api_key_file, url=url)
    said = conclusion(found)
    current.out.document({**found.as_json(), "ok": said.fine, "conclusion": said.text})
    for way in found.ways:
        current.out.data(f"{way.name} ({way.url})")
        for step in way.steps:
            mark = "ok  " if step.fine else "FAIL"
            current.out.row(f"  {mark} {step.name:<12} {step.seconds * 1000:7.0f} ms  {step.text}")
    current.out.row(said.text)
    return 0 if said.fine else 1

"""`mcp [--scope read|trade]`: the bridge as tools for an agent, over stdio."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from infrastructure.cli.settings import Settings, settings

if TYPE_CHECKING:
    from infrastructure.config import Target
    from infrastructure.mcp.bridge import Way

Scope = Literal["read", "trade"]


def mcp(
    context: typer.Context,
    scope: Annotated[
        Scope, typer.Option("--scope", help="read: looking only; trade: orders, in two steps")
    ] = "read",
    api_key_file: Annotated[
        Path | None,
        typer.Option(
            "--api-key-file", metavar="FILE", help="A key to use [one is made, and revoked]"
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="The bridge's address [a tunnel]"),
    ] = None,
) -> None:
    """Serve the bridge to an agent by the Model Context Protocol, on stdin and stdout.

    Runs on this machine, started by the agent's program; nothing more runs on the host. The
    bridge is reached through the SSH connection, with an API key of its own that ends with the
    command. With --scope trade orders go out in two steps, and on a live account only after a
    person has confirmed them in the agent's program.

    \b
    Examples:
      ./deploy.py --target prod mcp
      ./deploy.py --config /home/me/stack.yaml --target prod mcp --scope trade
    """
    import importlib

    from infrastructure.errors import UsageError

    current = settings(context)
    try:
        importlib.import_module("mcp.server.mcpserver")
    except ImportError:
        raise UsageError(
            "the protocol's library is not installed", hint="scripts/setup mcp", code="no-mcp"
        ) from None
    if url is not None and api_key_file is None:
        raise UsageError("--url needs a key", hint="--api-key-file FILE")
    target = current.target()
    _serve(target, scope, _way(current, target, scope, api_key_file, url))


def _way(
    current: Settings, target: Target, scope: Scope, key_file: Path | None, url: str | None
) -> Way:
    from infrastructure.mcp.bridge import Address, Tunnel, read_key

    if key_file is not None:
        read_key(key_file)  # a mistake is told now, not with the first question
        if url is not None:
            return Address(url, key_file)
    return Tunnel(current, target, scope, key_file)


def _serve(target: Target, scope: Scope, way: Way) -> None:
    from infrastructure.mcp.bridge import BridgeClient
    from infrastructure.mcp.placing import Previews
    from infrastructure.mcp.server import serve

    bridge = BridgeClient(way)
    previews = Previews(_kept(target)) if scope == "trade" else None
    try:
        serve(bridge, scope, previews)
    finally:
        bridge.close()
        if previews is not None:
            previews.close()


def _kept(target: Target) -> Path:
    """The file of previewed orders: beside the target's secrets."""
    from infrastructure.config import secrets

    store = secrets.folder(target)
    if target.file is None:
        return store.parent / "mcp" / "previews.sqlite3"
    return store.parent.parent / "mcp" / target.name / "previews.sqlite3"

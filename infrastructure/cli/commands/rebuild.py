"""`rebuild bridge`: a fresh build, whatever was built before."""

from __future__ import annotations

import typer

from infrastructure.cli.commands.sync import BRIDGE, Service, Wait, replace_bridge
from infrastructure.cli.settings import settings


def command(context: typer.Context, service: Service = BRIDGE, wait: Wait = None) -> None:
    """Build the bridge's image afresh, without cached layers, and restart only the bridge.

    \b
    Examples:
      ./deploy.py rebuild bridge
    """
    replace_bridge(settings(context), service, fresh=True, wait=wait)

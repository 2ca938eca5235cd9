"""``python -m bridge settings show|rotate-key``.

Through the running bridge if there is one, else in its journal. One JSON document on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import msgspec

from bridge import logs, running_bridge
from bridge.auditing import Auditor, Caller
from bridge.clock import SystemClock
from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.settings.service import RotationView, settings_of, view
from bridge.store import Database, StoreBusyError
from bridge.store.condition import JournalCondition
from bridge.store.urgent import Urgent

ROUTES = {
    "show": ("GET", "/connection/settings"),
    "rotate-key": ("POST", "/connection/settings/rotate-key"),
}

DEPLOYED = {
    "show": "GET /connection/settings",
    "rotate-key": "POST /connection/settings/rotate-key",
}
"""The same of a bridge that was deployed."""


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Runs the command; the exit code."""
    command = _parser().parse_args(arguments).command
    logs.configure("error")
    try:
        running_bridge.need_journal(environment, DEPLOYED[command])
        try:
            result = asyncio.run(_in_journal(command, environment))
        except StoreBusyError:
            result = running_bridge.ask(environment, *ROUTES[command])
    except BridgeError as error:
        return _failed(error.detail, error.next_step)
    except OSError as error:
        return _failed(f"the bridge does not answer: {error}", "check BRIDGE_LISTEN")
    print(msgspec.json.encode(result).decode())
    return 0


def _failed(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bridge settings")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("show", help="the settings in use, without secrets")
    commands.add_parser("rotate-key", help="seal every secret with a new key, forget the old one")
    return parser


async def _in_journal(command: str, environment: Environment) -> Any:
    database = await Database.open(environment.data_dir, lock_wait=0.0)
    try:
        settings = settings_of(environment, database, SystemClock())
        if command == "show":
            return view(await settings.show(), await settings.names())
        sealed = await settings.rotate_key()
        auditor = Auditor(Urgent(database, JournalCondition()), SystemClock(), aloud=False)
        await auditor.note(Caller("host-command", ""), "settings rotate-key", "", {}, "ok")
        return RotationView(secrets_sealed=sealed)
    finally:
        await database.close()

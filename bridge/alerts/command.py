"""``python -m bridge alerts test|tell``: sends a message to every service of the address file.

`test` sends a test message; `tell EVENT` what stands on standard input, for whoever finds no
running bridge that would. One JSON document on stdout; exit code 1 when a service did not take it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec
from prometheus_client import CollectorRegistry

from bridge import logs
from bridge.alerts.messages import AlertKind, Delivery
from bridge.alerts.service import alerts_of
from bridge.clock import SystemClock
from bridge.environment import Environment
from bridge.errors import BridgeError

LONGEST = 4000
"""Characters that are read."""


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Runs the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bridge alerts")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("test", help="send a test message to every service")
    tell = commands.add_parser("tell", help="send the text on standard input to every service")
    events = [kind.value for kind in AlertKind if kind is not AlertKind.TEST]
    tell.add_argument("event", choices=events)
    given = parser.parse_args(arguments)
    logs.configure("error")
    if environment.alerts_file is None:
        return _failed(
            "no address file is given",
            "./deploy.py alerts test for a deployed bridge; for this one set BRIDGE_ALERTS_FILE",
        )
    kind = AlertKind(given.event) if given.command == "tell" else AlertKind.TEST
    try:
        deliveries = asyncio.run(_send(environment, kind))
    except BridgeError as error:
        return _failed(error.detail, error.next_step)
    print(msgspec.json.encode({"services": deliveries}).decode())
    return 0 if all(delivery.sent for delivery in deliveries) else 1


async def _send(environment: Environment, kind: AlertKind) -> list[Delivery]:
    alerts = alerts_of(environment, SystemClock(), CollectorRegistry())
    if alerts is None:
        return []
    if kind is AlertKind.TEST:
        return await alerts.test()
    return await alerts.send_now(kind, sys.stdin.read(LONGEST).strip())


def _failed(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1

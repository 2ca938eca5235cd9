"""``python -m bridge alerts test``: sends a test message to every service of the address file.

One JSON document on stdout; exit code 1 when a service did not take it.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

import msgspec
from prometheus_client import CollectorRegistry

from bridge import logs
from bridge.alerts.desk import AlertDesk
from bridge.alerts.sender import Sender
from bridge.clock import SystemClock
from bridge.environment import Environment
from bridge.errors import BridgeError


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Runs the command; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bridge alerts")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("test", help="send a test message to every service")
    parser.parse_args(arguments)
    logs.configure("error")
    if environment.alerts_file is None:
        return _failed("no address file is given", "set BRIDGE_ALERTS_FILE")
    name = f"gangway ({environment.trading_mode})"
    sender = Sender(environment.alerts_file)
    desk = AlertDesk(sender, SystemClock(), CollectorRegistry(), name=name)
    try:
        deliveries = asyncio.run(desk.test())
    except BridgeError as error:
        return _failed(error.detail, error.next_step)
    print(msgspec.json.encode({"services": deliveries}).decode())
    return 0 if all(delivery.sent for delivery in deliveries) else 1


def _failed(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1

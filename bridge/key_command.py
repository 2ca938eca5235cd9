"""``python -m bridge apikey create|list|revoke``.

Through the running bridge if there is one, else in its journal.

The journal belongs to one process at a time, so while a bridge runs it is the one that makes the
change; the command then needs BRIDGE_ADMIN_KEY_FILE. One JSON document on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec

from bridge import running_bridge
from bridge.api.auth import KeyRing
from bridge.api.keys import NewKey, checked_bounds, end_of
from bridge.auditing import Auditor, Caller
from bridge.callers import Scope
from bridge.clock import SystemClock
from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.store import Database, StoreBusyError, StoreError
from bridge.store.condition import JournalCondition
from bridge.store.urgent import Urgent


def run(arguments: Sequence[str], environment: Environment) -> int:
    """Runs the command; the exit code."""
    wanted = _parser().parse_args(arguments)
    try:
        deployed = f"./deploy.py apikey {wanted.command}"
        running_bridge.need_journal(environment, deployed, make=wanted.command == "create")
        try:
            result = asyncio.run(_in_journal(wanted, environment))
        except StoreBusyError:
            result = _over_http(wanted, environment)
    except StoreError as error:
        return _failed(str(error), error.next_step)
    except msgspec.ValidationError as error:
        return _failed(str(error), "python -m bridge apikey create --help")
    except BridgeError as error:
        return _failed(error.detail, error.next_step)
    except OSError as error:
        return _failed(f"the bridge does not answer: {error}", "check BRIDGE_LISTEN")
    print(msgspec.json.encode(result, enc_hook=str).decode())
    return 0


def _failed(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bridge apikey")
    commands = parser.add_subparsers(dest="command", required=True)
    create = commands.add_parser("create", help="make a key and print it once")
    create.add_argument("--label", required=True)
    create.add_argument("--scope", choices=("read", "trade", "admin"), default="read")
    create.add_argument("--days", type=int, default=None)
    create.add_argument("--expires", default=None, metavar="DATE", help="a day, or a time, UTC")
    create.add_argument("--account", action="append", default=[], help="trades only this one")
    create.add_argument("--symbols", action="append", default=[], metavar="A,B")
    create.add_argument("--max-notional", type=float, default=None, help="money in one order")
    create.add_argument("--max-orders-per-day", type=int, default=None)
    create.add_argument("--from", action="append", default=[], metavar="CIDR", dest="networks")
    commands.add_parser("list", help="all keys, without the keys themselves")
    revoke = commands.add_parser("revoke", help="end a key")
    revoke.add_argument("id")
    revoke.add_argument("--overlap", type=int, default=0, help="seconds that it stays valid")
    return parser


async def _in_journal(wanted: argparse.Namespace, environment: Environment) -> Any:
    database = await Database.open(environment.data_dir, lock_wait=0.0)
    try:
        ring = KeyRing(database, SystemClock(), None)
        auditor, caller = (
            Auditor(Urgent(database, JournalCondition()), SystemClock(), aloud=False),
            Caller("host-command", ""),
        )
        await ring.load()
        if wanted.command == "create":
            asked = msgspec.json.decode(_new_key(wanted), type=NewKey)
            expires = end_of(asked.days, asked.expires, SystemClock().now())
            scope = next(scope for scope in Scope if scope.word == asked.scope)
            bounds = checked_bounds(asked.bounds, asked.scope)
            secret, key = await ring.create(asked.label, scope, expires, bounds)
            detail = {"label": key.label, "scope": asked.scope}
            detail["bounds"] = msgspec.to_builtins(bounds)
            await auditor.note(caller, "apikey create", key.id, detail, "ok")
            return {"key": secret, "id": key.id, "label": key.label, "scope": asked.scope}
        if wanted.command == "revoke":
            overlap = timedelta(seconds=wanted.overlap) if wanted.overlap else None
            await ring.revoke(wanted.id, after=overlap)
            await auditor.note(caller, "apikey revoke", wanted.id, {}, "ok")
            return {"id": wanted.id, "revoked": True}
        keys = await ring.everything()
        return {"keys": [_shown(msgspec.to_builtins(key)) for key in keys]}
    finally:
        await database.close()


def _shown(key: dict[str, Any]) -> dict[str, Any]:
    del key["digest"]
    return key


def _over_http(wanted: argparse.Namespace, environment: Environment) -> Any:
    method, path, body = _request(wanted)
    document = running_bridge.ask(environment, method, path, body)
    return {"id": wanted.id, "revoked": True} if document is None else document


def _request(wanted: argparse.Namespace) -> tuple[str, str, bytes | None]:
    if wanted.command == "create":
        return "POST", "/keys", _new_key(wanted)
    if wanted.command == "revoke":
        return "DELETE", f"/keys/{wanted.id}?overlap={wanted.overlap}", None
    return "GET", "/keys", None


def _new_key(wanted: argparse.Namespace) -> bytes:
    bounds = {
        "accounts": _words(wanted.account),
        "symbols": _words(wanted.symbols),
        "maxNotional": wanted.max_notional,
        "maxOrdersPerDay": wanted.max_orders_per_day,
        "from": _words(wanted.networks),
    }
    body = {
        "label": wanted.label,
        "scope": wanted.scope,
        "days": wanted.days,
        "expires": wanted.expires,
        "bounds": {name: value for name, value in bounds.items() if value},
    }
    return msgspec.json.encode(body)


def _words(texts: Sequence[str]) -> list[str]:
    return [word.strip() for text in texts for word in text.split(",") if word.strip()]

"""``python -m bridge apikey|settings|alerts``: one JSON document on stdout, errors with a hint.

Keys and settings are in the journal, which belongs to one process at a time. While a bridge runs,
it is asked to do the work, with the key of BRIDGE_ADMIN_KEY_FILE; else the command does what the
same route of the HTTP API does, and is noted in the audit log as `host-command`.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import http.client
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast
from urllib.parse import urlencode

import msgspec

from bridge import auditing, logs
from bridge.api.auth import KeyRing
from bridge.api.keys import routes as key_routes
from bridge.api.routing import Call, Principal, Reply
from bridge.api.settings import routes as settings_routes
from bridge.auditing import Auditor, Caller
from bridge.callers import Scope
from bridge.clock import SystemClock
from bridge.environment import Environment
from bridge.errors import BridgeError
from bridge.services import Services
from bridge.settings.service import SettingsService, settings_of
from bridge.store import Database, StoreBusyError
from bridge.store.condition import JournalCondition
from bridge.store.database import FILE_NAME
from bridge.store.urgent import Urgent
from bridge.tws.gateway import Gateway

ANSWER_SECONDS = 30.0
LONGEST_TEXT = 4000
"""Characters that are read of an alert's text."""


class Request(msgspec.Struct, frozen=True):
    """A command as a call of the HTTP API; `command` is how the audit log names it."""

    command: str
    method: str
    path: str
    params: dict[str, Any] = {}
    body: dict[str, Any] | None = None

    @property
    def address(self) -> str:
        """The path and query to send."""
        query = {n: v for n, v in self.params.items() if f"{{{n}}}" not in self.path}
        return self.path.format(**self.params) + (f"?{urlencode(query)}" if query else "")


def run(command: str, arguments: Sequence[str], environment: Environment) -> int:
    """Runs the command of that name; the exit code."""
    parser = argparse.ArgumentParser(prog=f"python -m bridge {command}")
    add_arguments, work = COMMANDS[command]
    add_arguments(parser.add_subparsers(dest="command", required=True))
    given = parser.parse_args(arguments)
    logs.configure("error")
    try:
        document, code = work(given, environment)
    except msgspec.ValidationError as error:
        return _failed(str(error), f"python -m bridge {command} {given.command} --help")
    except BridgeError as error:
        return _failed(error.detail, error.next_step)
    except OSError as error:
        return _failed(f"the bridge does not answer: {error}", "check BRIDGE_LISTEN")
    print(msgspec.json.encode(document, enc_hook=str).decode())
    return code


def _failed(message: str, hint: str) -> int:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)
    return 1


# keys and settings ------------------------------------------------------------------------------


def _key_arguments(commands: Any) -> None:
    create = commands.add_parser("create", help="make a key and print it once")
    create.add_argument("--label", required=True)
    create.add_argument("--scope", choices=("history", "read", "trade", "admin"), default="read")
    create.add_argument("--days", type=int, default=None)
    ends = "a day, or a time, UTC"
    create.add_argument("--expires", type=_given, default=None, metavar="DATE", help=ends)
    bound = functools.partial(create.add_argument, action="append", default=[], type=_given)
    bound("--account", help="trades only this one")
    bound("--symbols", metavar="A,B")
    bound("--from", metavar="CIDR", dest="networks")
    create.add_argument("--max-notional", type=float, default=None, help="money in one order")
    create.add_argument("--max-orders-per-day", type=int, default=None)
    commands.add_parser("list", help="all keys, without the keys themselves")
    revoke = commands.add_parser("revoke", help="end a key")
    revoke.add_argument("id")
    revoke.add_argument("--overlap", type=int, default=0, help="seconds that it stays valid")


def _apikey(given: argparse.Namespace, environment: Environment) -> tuple[Any, int]:
    name = f"apikey {given.command}"
    if given.command == "create":
        _need_journal(environment, f"./deploy.py {name}", make=True)
        return _carry_out(Request(name, "POST", "/keys", body=_new_key(given)), environment), 0
    _need_journal(environment, f"./deploy.py {name}")
    if given.command == "list":
        return _carry_out(Request(name, "GET", "/keys"), environment), 0
    params = {"id": given.id, "overlap": given.overlap}
    _carry_out(Request(name, "DELETE", "/keys/{id}", params), environment)
    return {"id": given.id, "revoked": True}, 0


def _new_key(given: argparse.Namespace) -> dict[str, Any]:
    bounds = {
        "accounts": _parts(given.account),
        "symbols": _parts(given.symbols),
        "maxNotional": given.max_notional,
        "maxOrdersPerDay": given.max_orders_per_day,
        "from": _parts(given.networks),
    }
    return {
        "label": given.label,
        "scope": given.scope,
        "days": given.days,
        "expires": given.expires,
        "bounds": {name: value for name, value in bounds.items() if value not in (None, [])},
    }


def _given(text: str) -> str:
    """An empty one would be no bound at all, where a shell's variable was not set."""
    if not text.strip(" ,"):
        raise argparse.ArgumentTypeError("is empty; leave it out for no bound")
    return text


def _parts(texts: Iterable[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _settings_arguments(commands: Any) -> None:
    commands.add_parser("show", help="the settings in use, without secrets")
    commands.add_parser("rotate-key", help="seal every secret with a new key, forget the old one")


def _settings(given: argparse.Namespace, environment: Environment) -> tuple[Any, int]:
    method, path = "GET", "/connection/settings"
    if given.command == "rotate-key":
        method, path = "POST", "/connection/settings/rotate-key"
    _need_journal(environment, f"{method} {path}")
    return _carry_out(Request(f"settings {given.command}", method, path), environment), 0


def _need_journal(environment: Environment, deployed: str, *, make: bool = False) -> None:
    """Sees to it that a command looks at a bridge's folder, and makes none by surprise.

    `deployed` is the command for a bridge that `stack.yaml` describes. With `make` a folder that
    BRIDGE_DATA_DIR names may still be empty.
    """
    if (environment.data_dir / FILE_NAME).exists() or (make and environment.data_dir_named):
        return
    raise BridgeError(
        f"there is no bridge's journal in {environment.data_dir.absolute()}",
        next_step=f"{deployed} for a deployed bridge; for this one set BRIDGE_DATA_DIR",
    )


def _carry_out(request: Request, environment: Environment) -> Any:
    """The answer's document; None when it has none."""
    try:
        return asyncio.run(_in_journal(request, environment))
    except StoreBusyError:
        return _over_http(request, environment)


async def _in_journal(request: Request, environment: Environment) -> Any:
    """What the route does, without a bridge around it."""
    routes = [*key_routes.routes, *settings_routes.routes]
    route = next(r for r in routes if (r.method, r.path) == (request.method, request.path))
    params = msgspec.convert(request.params, route.params) if route.params else None
    body = msgspec.convert(request.body, route.body) if route.body else None
    database = await Database.open(environment.data_dir, environment.identity_dir, lock_wait=0.0)
    try:
        clock = SystemClock()
        services = Services(environment, cast("Gateway", None), clock)  # no command asks it
        ring = services.provide(KeyRing, KeyRing(database, clock, None))
        services.provide(SettingsService, settings_of(environment, database, clock))
        await ring.load()
        noted = auditing.begin()
        call = Call(services, params, body, Principal("host-command", Scope.ADMIN), "")
        result = await route.handler(call)
        if route.changes:
            auditor = Auditor(Urgent(database, JournalCondition()), clock, aloud=False)
            asked = {**request.params, **(request.body or {})}
            detail = {name: asked[name] for name in route.recorded if asked.get(name)}
            target = noted.target or str(request.params.get("id", ""))
            await auditor.note(Caller("host-command", ""), request.command, target, detail, "ok")
        return result.content if isinstance(result, Reply) else result
    finally:
        await database.close()


def _over_http(request: Request, environment: Environment) -> Any:
    """What the bridge that has the journal answers.

    Raises:
        BridgeError: there is no key to ask with, or the bridge said no.
        OSError: the bridge does not answer.
    """
    if environment.admin_key_file is None:
        raise BridgeError(
            "a bridge is running on this data folder",
            next_step="set BRIDGE_ADMIN_KEY_FILE, so that it can be asked to make the change",
        )
    key = environment.admin_key_file.read_text(encoding="utf-8").strip()
    host = environment.listen_host
    connection = http.client.HTTPConnection(
        "127.0.0.1" if host in {"0.0.0.0", "::"} else host,  # noqa: S104 - not bound here
        environment.listen_port,
        timeout=ANSWER_SECONDS,
    )
    try:
        headers = {"X-API-KEY": key, "Content-Type": "application/json"}
        body = None if request.body is None else msgspec.json.encode(request.body)
        connection.request(request.method, request.address, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    document: Any = msgspec.json.decode(content) if content else None
    if answer.status >= 400:
        raise BridgeError(document["detail"], next_step=document["nextStep"])
    return document


# alerts -----------------------------------------------------------------------------------------


def _alerts_arguments(commands: Any) -> None:
    from bridge.alerts.messages import AlertKind

    commands.add_parser("test", help="send a test message to every service")
    tell = commands.add_parser("tell", help="send the text on standard input to every service")
    events = [kind.value for kind in AlertKind if kind is not AlertKind.TEST]
    tell.add_argument("event", choices=events)


def _alerts(given: argparse.Namespace, environment: Environment) -> tuple[Any, int]:
    """Sends at once, for whoever finds no running bridge that would.

    1: a service did not take the test, or none has taken the text.
    """
    from prometheus_client import CollectorRegistry

    from bridge.alerts.messages import AlertKind
    from bridge.alerts.service import alerts_of

    alerts = alerts_of(environment, SystemClock(), CollectorRegistry())
    if alerts is None:
        raise BridgeError(
            "no address file is given",
            next_step="./deploy.py alerts test for a deployed bridge; for this one set"
            " BRIDGE_ALERTS_FILE",
        )
    if given.command == "test":
        deliveries = asyncio.run(alerts.test())
    else:
        text = sys.stdin.read(LONGEST_TEXT).strip()
        deliveries = asyncio.run(alerts.send_now(AlertKind(given.event), text))
    missed = [each for each in deliveries if not each.sent]
    if given.command == "test":
        return {"services": deliveries}, 1 if missed else 0
    # Somebody has heard of it: whoever asked for it says no longer that nobody could be told.
    return {"services": deliveries}, 1 if missed and len(missed) == len(deliveries) else 0


Arguments = Callable[[Any], None]
Work = Callable[[argparse.Namespace, Environment], tuple[Any, int]]
COMMANDS: dict[str, tuple[Arguments, Work]] = {
    "apikey": (_key_arguments, _apikey),
    "settings": (_settings_arguments, _settings),
    "alerts": (_alerts_arguments, _alerts),
}

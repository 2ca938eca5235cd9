"""``python -m bridge``: serve, or one command.

``openapi`` prints the document, ``apikey`` manages keys, ``settings`` those of the connection,
``alerts test`` sends a test message, ``alerts tell`` any other.

Exit codes: 0 ended as asked, 1 could not run, 2 bad settings or usage.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Callable, Sequence

import bridge.logs  # first: it loads structlog without what only a terminal needs
from bridge import environment as env

SWITCH_SECONDS = 0.0001
"""How long a thread waits for another one's Python. The journal's asks for it back after each
statement: with Python's own 5 ms, an order among clients that read without pause took 100 ms, with
a tenth of that 30 ms, with this 15 ms. Shorter ones cost the readers more than they give."""


def _complain(message: str, hint: str) -> None:
    print(f"error: {message}\nhint: {hint}", file=sys.stderr)


def _serve(arguments: Sequence[str]) -> int:
    from bridge import process
    from bridge.orders.rules import RulesError
    from bridge.store import StoreError

    if arguments:
        _complain(f"unknown command {arguments[0]}", f"python -m bridge [{'|'.join(COMMANDS)}]")
        return 2
    settings = env.read(os.environ)
    bridge.logs.configure(settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        listener = process.listen(settings)
    except OSError as error:
        address = f"{settings.listen_host}:{settings.listen_port}"
        _complain(f"cannot listen on {address}: {error.strerror}", "set BRIDGE_LISTEN")
        return 1
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(process.serve(settings, listener))
    except RulesError as error:
        _complain(str(error), error.next_step)
        return 2
    except StoreError as error:
        _complain(str(error), error.next_step)
        return 1
    except sqlite3.Error as error:
        _complain(f"the journal cannot be used: {error}", "restore the data folder from a backup")
        return 1
    finally:
        listener.close()
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def _openapi(_: Sequence[str]) -> int:
    import msgspec

    from bridge import compose
    from bridge.api.app import document

    text = msgspec.json.format(msgspec.json.encode(document(compose.route_tables())), indent=2)
    print(text.decode())
    return 0


def _command(name: str) -> Callable[[Sequence[str]], int]:
    def run(arguments: Sequence[str]) -> int:
        from bridge import commands

        return commands.run(name, arguments, env.read(os.environ))

    return run


COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "openapi": _openapi,
    **{name: _command(name) for name in ("apikey", "settings", "alerts")},
}


def main(arguments: Sequence[str]) -> int:
    """Runs one command; errors are one line with a hint."""
    os.umask(0o077)
    try:
        if arguments and arguments[0] in COMMANDS:
            return COMMANDS[arguments[0]](arguments[1:])
        return _serve(arguments)
    except env.EnvironmentProblem as problem:
        _complain(str(problem), problem.hint)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`python -m simulator`: runs until SIGTERM or SIGINT; prints one JSON line when ready."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys

from simulator import options
from simulator.app import Simulator
from simulator.options import Options
from simulator.scenario import ScenarioError
from simulator.state import InUseError

DESCRIPTION = "A simulated gateway: runs until SIGTERM or SIGINT; prints one JSON line when ready."


def parse(words: list[str] | None = None) -> Options:
    """The options of the command line."""
    parser = options.Parser(prog="python -m simulator", description=DESCRIPTION)
    parser.add_argument(
        "--port", type=options.port, default=4002, help="TWS API; 0 takes a free one"
    )
    parser.add_argument("--portal-port", type=options.port, default=5000, help="Client Portal")
    parser.add_argument(
        "--control-port", type=options.port, default=4099, help="faults, clock and book"
    )
    parser.add_argument("--listen", default="127.0.0.1", metavar="ADDRESS")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same market")
    parser.add_argument(
        "--accounts", type=options.accounts, default="DU1234567", help="comma-separated"
    )
    parser.add_argument(
        "--rate-limit", type=options.count, default=50, help="messages a second; 0 is none"
    )
    parser.add_argument(
        "--pacing",
        choices=("queue", "reject"),
        default="queue",
        help="what becomes of messages above the limit",
    )
    parser.add_argument("--scenario", metavar="FILE", help="faults by time, as YAML")
    parser.add_argument(
        "--fault", action="append", dest="faults", default=[], metavar="NAME[:SECONDS]"
    )
    parser.add_argument("--read-only", action="store_true", help="refuse orders with error 321")
    parser.add_argument(
        "--market-data",
        type=options.entitlements,
        default="live",
        metavar="live|delayed|none[,SYM=...]",
    )
    parser.add_argument("--market-data-lines", type=options.count, default=100)
    parser.add_argument("--tick-interval", type=options.pause, default=0.25, metavar="SECONDS")
    parser.add_argument("--history-pacing", choices=("all", "small", "off"), default="small")
    parser.add_argument("--hours", choices=("always", "exchange"), default="always")
    parser.add_argument(
        "--start",
        type=options.moment,
        metavar="ISO-TIME",
        help="the time to begin at, default now",
    )
    parser.add_argument("--state", metavar="FILE", help="keep accounts and orders there")
    parser.add_argument("--nightly-restart", metavar="HH:MM", help="every day, New York time")
    parser.add_argument("--sunday-invalidation", action="store_true", help="Sunday 01:00, New York")
    parser.add_argument("--portal-certificate", metavar="FOLDER", help="keep the TLS key there")
    parser.add_argument("--master-client-id", type=options.count)
    given = vars(parser.parse_args(words))
    return Options(**given | {"faults": tuple(given["faults"])})


async def run(options: Options) -> None:
    """Run until a signal says stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    async with Simulator(options) as simulator:
        print(json.dumps({"ready": True, **simulator.ports}), flush=True)
        await stop.wait()


def main() -> int:
    """The command: 1 when a port is taken, 2 for a wrong scenario or fault."""
    try:
        asyncio.run(run(parse()))
    except ScenarioError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except socket.gaierror as error:
        print(f"error: argument --listen: {error.strerror}", file=sys.stderr)
        return 2
    except InUseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

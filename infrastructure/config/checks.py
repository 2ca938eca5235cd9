"""What each value alone cannot show: combinations that are unsafe or cannot work.

Every rule is a function of the whole stack that yields problems (refused) or warnings (said).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from infrastructure.config import in_vain, worker_checks
from infrastructure.config.gateway import refusal
from infrastructure.config.schedule import (
    choose,
    cold_restart_window,
    fits,
    quiet_time,
    restarts_cold,
    same_clock,
    schedule,
    trading_time,
)
from infrastructure.config.terms import PORTAL_IS_THE_GATEWAY, TWS_PORTS, same_user
from infrastructure.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from infrastructure.config.base import Placer
    from infrastructure.config.models import Stack
    from infrastructure.errors import Place

_OLDEST_IMAGE = (10, 37, 1)


KNOWN_HEAP = 256
"""The smallest heap (MB) that is known to work."""
JVM_OVERHEAD = 160
"""Memory of the Java machine beside heap and metaspace: code, threads, Xvfb (MB)."""


def check(stack: Stack, place: Placer) -> tuple[list[Problem], list[Problem]]:
    """Problems and warnings of a target whose single values are all right."""
    problems = [problem for rule in PROBLEMS for problem in rule(stack, place)]
    warnings = [warning for rule in WARNINGS for warning in rule(stack, place)]
    return problems, warnings


def _unsafe(message: str, place: Place, hint: str) -> Problem:
    return Problem(message, place, hint, code="unsafe")


def _sandbox_is_here(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.runtime == "sandbox" and stack.host.address != "local":
        yield Problem(
            "the sandbox's parts are processes of this machine, and the host is another one",
            place("host"),
            "host: local; or drop runtime: sandbox",
        )


def _both_on_small(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.gateway.mode == "both" and stack.profile == "e2-micro":
        yield _unsafe(
            "mode 'both' needs two Java machines, which 1 GB cannot hold",
            place("gateway", "mode"),
            "choose paper or live, or a bigger profile",
        )


def _both_needs_two_users(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    if gateway.mode == "both" and gateway.paper_username is None:
        hint = "with both, username is the live user and paper_username the paper user"
        yield Problem("'paper_username' is missing", place("gateway", "mode"), hint, "missing-key")
    if gateway.mode != "both" and gateway.paper_username is not None:
        at = place("gateway", "paper_username")
        yield Problem(
            f"paper_username is only read with mode 'both', not '{gateway.mode}'",
            at,
            "put the paper user into username",
        )


def _live_is_deliberate(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    if gateway.mode != "paper" and gateway.read_only is False and not stack.trading.live:
        yield _unsafe(
            f"mode '{gateway.mode}' with read_only: false, but trading.live is not set",
            place("gateway", "read_only"),
            "set trading.live: true to let orders reach the live account, or drop read_only",
        )


def _live_orders_need_a_writable_gateway(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.trading.live and stack.gateway.mode == "paper":
        yield Problem(
            "trading.live is set, but gateway.mode is paper",
            place("trading", "live"),
            "set gateway.mode: live, or drop trading.live",
        )
    if stack.trading.live and stack.gateway.read_only:
        yield Problem(
            "trading.live is set, but gateway.read_only refuses every order",
            place("gateway", "read_only"),
            "drop one of the two",
        )


def _one_factor_is_accepted(stack: Stack, place: Placer) -> Iterator[Problem]:
    totp = stack.gateway.two_factor.totp
    if totp is None:
        return
    if not totp.i_accept_one_factor:
        yield _unsafe(
            "two_factor.totp leaves one factor of two: the seed lies beside the password",
            place("gateway", "two_factor", "totp"),
            "set i_accept_one_factor: true there if whoever gets the machine may get the account",
        )
    if stack.gateway.mode == "both":
        yield Problem(
            "two_factor.totp knows one user's codes, and mode 'both' has two users",
            place("gateway", "two_factor", "totp"),
            "choose paper or live",
        )


def _one_daily_event(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    if {gateway.auto_restart, gateway.auto_logoff} & {None, "off"}:
        return
    yield Problem(
        "auto_restart and auto_logoff are both set, and the gateway does only one of them",
        place("gateway", "auto_logoff"),
        "keep auto_restart for live accounts, auto_logoff for paper",
    )


def _heap_fits(stack: Stack, place: Placer) -> Iterator[Problem]:
    machines = 2 if stack.gateway.mode == "both" else 1
    jvm = stack.gateway.jvm
    needed = (stack.heap + jvm.metaspace + JVM_OVERHEAD) * machines
    limit = stack.budget("gateway").memory
    if needed > limit:
        yield _unsafe(
            f"a heap of {stack.heap} MB needs about {needed} MB, but the limit is {limit} MB",
            place("gateway", "jvm", "heap"),
            "lower gateway.jvm.heap, raise limits.gateway, or choose a bigger profile",
        )
    if jvm.initial_heap is not None and jvm.initial_heap > stack.heap:
        yield Problem(
            f"initial_heap {jvm.initial_heap} is more than the heap of {stack.heap} MB",
            place("gateway", "jvm", "initial_heap"),
            "Java would not start; leave it out",
        )


def _extra_environment(stack: Stack, place: Placer) -> Iterator[Problem]:
    for name in stack.gateway.environment:
        refused = refusal(name)
        if refused is not None:
            at = place("gateway", "environment", name)
            yield Problem(refused[0], at, refused[1], code="dead-variable")


def _image_runs_hooks(stack: Stack, place: Placer) -> Iterator[Problem]:
    match = re.search(r"/ib-gateway:(\d+)\.(\d+)\.(\d+)", stack.gateway.image)
    if match and tuple(map(int, match.groups())) < _OLDEST_IMAGE:
        yield Problem(
            f"image {stack.gateway.image} is too old to run start hooks",
            place("gateway", "image"),
            "10.37.1m (stable) or 10.40.1d (latest) at least",
        )


def _different_ports(stack: Stack, place: Placer) -> Iterator[Problem]:
    taken: dict[tuple[str, str], tuple[ipaddress.IPv4Address | ipaddress.IPv6Address, int]] = {}
    for key, address, port in _published(stack):
        for other, (there, theirs) in taken.items():
            same = address.version == there.version and (
                address == there or address.is_unspecified or there.is_unspecified
            )
            if port == theirs and same:
                names = f"{key[1]} and {other[1]}"
                if key[0] != other[0]:
                    names = f"{'.'.join(key)} and {'.'.join(other)}"
                yield Problem(f"{names} are the same: {port}", place(*key), "give each its own")
                break
        taken[key] = (address, port)


def _published(
    stack: Stack,
) -> Iterator[tuple[tuple[str, str], ipaddress.IPv4Address | ipaddress.IPv6Address, int]]:
    """Every port of the host's that the stack takes: its key, the address, the number."""
    listen, own = ipaddress.ip_address(stack.caddy.listen), ipaddress.ip_address("127.0.0.1")
    yield ("caddy", "http_port"), listen, stack.caddy.http_port
    yield ("caddy", "https_port"), listen, stack.caddy.https_port
    yield ("bridge", "port"), own, stack.bridge.port
    if stack.runtime == "sandbox":
        for name, port in stack.simulated.model_dump().items():
            yield ("simulated", name), own, port
    elif stack.gateway.publish_api:
        address, _, number = stack.gateway.publish_api.rpartition(":")
        where = ipaddress.ip_address(address.strip("[]"))
        yield ("gateway", "publish_api"), where, int(number)


def _domain_can_be_reached(stack: Stack, place: Placer) -> Iterator[Problem]:
    caddy = stack.caddy
    address = ipaddress.ip_address(caddy.listen)
    if caddy.domain and (getattr(address, "ipv4_mapped", None) or address).is_loopback:
        yield Problem(
            f"the certificate of {caddy.domain} needs ports that the world reaches,"
            f" but Caddy listens on {caddy.listen}",
            place("caddy", "listen"),
            "leave listen out, or leave domain out and use caddy.names",
        )


def _portal_has_its_own_user(stack: Stack, place: Placer) -> Iterator[Problem]:
    portal, gateway = stack.portal, stack.gateway
    if portal.enabled and portal.url is not None:
        at = place("portal", "url")
        yield Problem("portal.enabled and portal.url exclude each other", at, "drop one of the two")
        return
    if not portal.enabled:
        return
    if portal.username is None:
        at = place("portal", "username")
        yield Problem("'username' is missing", at, "a second IBKR user", code="missing-key")
    elif same_user(portal.username, gateway.username, gateway.paper_username):
        message, hint = PORTAL_IS_THE_GATEWAY
        yield _unsafe(message, place("portal", "username"), hint)


def _portal_speaks_http(stack: Stack, place: Placer) -> Iterator[Problem]:
    port = urlsplit(stack.portal.url).port if stack.portal.url else None
    if port in TWS_PORTS:
        yield Problem(
            f"port {port} speaks the TWS API, not HTTP: no Client Portal gateway is there",
            place("portal", "url"),
            "it usually listens on 5000; the bridge speaks to the gateway without being told where",
        )


def _small_heap(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.heap < KNOWN_HEAP:
        yield Problem(
            f"a heap of {stack.heap} MB is less than what is known to work ({KNOWN_HEAP} MB)",
            place("gateway", "jvm", "heap"),
            "an OutOfMemoryError ends the gateway, and each fresh login may ask for 2FA",
        )


def _session_hangs(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.gateway.existing_session == "manual":
        yield Problem(
            "existing_session: manual hangs until a person clicks in the gateway's window",
            place("gateway", "existing_session"),
            "primary takes the session over, secondary leaves it to the other",
        )
    if stack.gateway.accept_incoming == "manual":
        yield Problem(
            "accept_incoming: manual hangs until a person clicks in the gateway's window",
            place("gateway", "accept_incoming"),
            "accept: the port is on the private network only",
        )


def _sunday(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    restart, _, cold = schedule(gateway)
    if restart is None or not restarts_cold(gateway):
        return
    window = cold_restart_window(gateway.time_zone, restart)
    at = place("gateway", "cold_restart" if gateway.cold_restart else "auto_restart")
    if window is None:
        yield Problem(
            f"no Sunday time in {gateway.time_zone} is between the session's end and {restart}",
            at,
            f"set auto_restart: '{quiet_time(gateway.time_zone)}', which leaves room",
        )
    elif cold is None:
        yield Problem(
            "without a cold restart the first auto-restart after Sunday 01:00 New York fails",
            at,
            f"cold_restart: '{choose(window)}' is before it",
        )
    elif not fits(window, cold):
        yield Problem(
            f"the cold restart at {cold} is not between the session's end and {restart}",
            at,
            f"cold_restart: '{choose(window)}' is",
        )


def cold_restart_of_nobody(stack: Stack, place: Placer) -> Iterator[Problem]:
    """Also asked once the host has said what `auto` is."""
    gateway = stack.gateway
    if gateway.cold_restart not in (None, "off") and not restarts_cold(gateway):
        yield Problem(
            f"nobody restarts the gateway at {gateway.cold_restart}: {gateway.controller} takes no"
            " time for that",
            place("gateway", "cold_restart"),
            "leave it out: the broker ends the session on Sunday at 01:00 New York, and a full"
            " login follows",
        )


def _domain_on_other_ports(stack: Stack, place: Placer) -> Iterator[Problem]:
    caddy = stack.caddy
    for key, port, usual in (
        ("http_port", caddy.http_port, 80),
        ("https_port", caddy.https_port, 443),
    ):
        if caddy.domain and port != usual:
            yield Problem(
                f"the authority looks for {caddy.domain} on port {usual}, and Caddy is on {port}",
                place("caddy", key),
                f"right if something before the host leads {usual} to {port}; else leave it out",
            )


UNSIGNED = {
    *("local", "localhost", "internal", "lan", "home", "corp", "intranet", "private"),
    *("test", "invalid", "example", "arpa", "onion"),
}
"""Ends of names that nobody owns or can prove to own."""


def _domain_of_nobody(stack: Stack, place: Placer) -> Iterator[Problem]:
    domain = stack.caddy.domain
    if domain and domain.rpartition(".")[2] in UNSIGNED:
        yield Problem(
            f"no public authority signs {domain}: names that end in"
            f" .{domain.rpartition('.')[2]} belong to nobody",
            place("caddy", "domain"),
            f"a name of your own; or leave domain out and set caddy.names: [{domain}]",
        )


EXCHANGES = {
    "America/New_York": ("09:30", "16:00"),
    "Europe/London": ("08:00", "16:30"),
    "Europe/Berlin": ("09:00", "17:30"),
    "Europe/Paris": ("09:00", "17:30"),
    "Europe/Zurich": ("09:00", "17:30"),
    "Europe/Helsinki": ("10:00", "18:30"),
    "Asia/Kolkata": ("09:15", "15:30"),
    "Asia/Tokyo": ("09:00", "15:30"),
    "Asia/Hong_Kong": ("09:30", "16:00"),
    "Asia/Singapore": ("09:00", "17:00"),
    "Australia/Sydney": ("10:00", "16:00"),
    "Pacific/Auckland": ("10:00", "16:45"),
}
"""Trading hours of shares, by the exchange's zone."""


def _exchange_of(zone: str) -> str | None:
    """The exchange whose hours are those of a zone: its own, or one with the same clock."""
    if zone in EXCHANGES:
        return zone
    return next((each for each in EXCHANGES if same_clock(zone, each)), None)


def _restart_while_trading(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    if stack.runtime == "sandbox":
        return
    restart, logoff, _ = schedule(gateway)
    for key, clock in (("auto_restart", restart), ("auto_logoff", logoff)):
        if clock is None:
            continue
        for zone in dict.fromkeys(("America/New_York", _exchange_of(gateway.time_zone))):
            if zone is None:
                continue
            hours = EXCHANGES[zone]
            there = trading_time(clock, gateway.time_zone, zone, hours)
            if there:
                given = getattr(gateway, key) is not None
                yield Problem(
                    f"{key} {clock} is {there} in {zone}, where shares trade from"
                    f" {hours[0]} to {hours[1]}",
                    place("gateway", key if given else "time_zone"),
                    f"{_calm_time(gateway.time_zone, zone)} is quiet there and in New York;"
                    " nothing is ordered while the gateway restarts",
                )
                break


def _calm_time(zone: str, exchange: str) -> str:
    """The last half hour before New York's night in which neither there nor here is traded."""
    at = dt.datetime.combine(dt.date(2026, 7, 1), dt.time.fromisoformat(quiet_time(zone)))
    for _ in range(48):
        clock = at.strftime("%H:%M")
        if not any(
            trading_time(clock, zone, each, EXCHANGES[each])
            for each in ("America/New_York", exchange)
        ):
            return clock
        at -= dt.timedelta(minutes=30)
    return quiet_time(zone)


def _log_off_on_live(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    if gateway.mode != "paper" and gateway.auto_logoff not in (None, "off"):
        yield Problem(
            f"auto_logoff on mode '{gateway.mode}' costs an approval every night",
            place("gateway", "auto_logoff"),
            "auto_restart keeps the session: one approval a week",
        )


def _orders_wait_for_a_click(stack: Stack, place: Placer) -> Iterator[Problem]:
    gateway = stack.gateway
    takes_orders = not (gateway.read_only or stack.trading.read_only)
    if takes_orders and not gateway.bypass_order_warnings:
        yield Problem(
            "an order that the gateway asks about waits for a click on its screen",
            place("gateway", "bypass_order_warnings"),
            "drop bypass_order_warnings: false, or answer with ./deploy.py vnc",
        )


def _secret_in_the_environment(stack: Stack, place: Placer) -> Iterator[Problem]:
    hint = "leave it out: the gateway's passwords are keys of their own and passed as files"
    yield from worker_checks.in_the_open(stack.gateway.environment, place, ("gateway",), hint)


def _zone_of_hours(stack: Stack, place: Placer) -> Iterator[Problem]:
    zone = stack.gateway.time_zone
    match = re.fullmatch(r"Etc/GMT([+-])(\d{1,2})", zone)
    if match and match[2] != "0":
        other = "-" if match[1] == "+" else "+"
        yield Problem(
            f"{zone} is UTC{other}{match[2]}: in these names the sign is turned around",
            place("gateway", "time_zone"),
            f"Etc/GMT{other}{match[2]} is UTC{match[1]}{match[2]}; a city such as Europe/Berlin"
            " also knows daylight saving",
        )


def _portal_on_small(stack: Stack, place: Placer) -> Iterator[Problem]:
    if stack.portal.enabled and stack.portal.url is None and stack.profile == "e2-micro":
        yield Problem(
            "the Client Portal gateway is a second Java machine on 1 GB: expect heavy swapping",
            place("portal", "enabled"),
            "a bigger profile, or portal.url of one that runs elsewhere",
        )


PROBLEMS: list[Callable[[Stack, Placer], Iterator[Problem]]] = [
    _sandbox_is_here,
    _both_on_small,
    _both_needs_two_users,
    _live_is_deliberate,
    _live_orders_need_a_writable_gateway,
    _one_factor_is_accepted,
    _one_daily_event,
    _heap_fits,
    _extra_environment,
    _image_runs_hooks,
    _different_ports,
    _domain_can_be_reached,
    _portal_has_its_own_user,
    _portal_speaks_http,
    worker_checks.problems,
]
WARNINGS: list[Callable[[Stack, Placer], Iterator[Problem]]] = [
    _small_heap,
    _session_hangs,
    _sunday,
    cold_restart_of_nobody,
    _domain_on_other_ports,
    _domain_of_nobody,
    _restart_while_trading,
    _log_off_on_live,
    _orders_wait_for_a_click,
    _secret_in_the_environment,
    _zone_of_hours,
    _portal_on_small,
    in_vain.warnings,
    worker_checks.warnings,
]

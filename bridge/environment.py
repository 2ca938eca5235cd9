"""What the process is told by its environment (``BRIDGE_*``).

docs/bridge-reference.md has a line for each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from bridge.callers import KeyFileError, read_key
from bridge.logs import LEVELS
from bridge.restart_calendar import RestartCalendar


class EnvironmentProblem(Exception):  # noqa: N818 - it is one line for a person
    """A variable that cannot be used: its name, what is wrong, and what would be right."""

    def __init__(self, name: str, problem: str, hint: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.hint = hint


class Environment(Struct, frozen=True, kw_only=True):
    """Checked settings of one process."""

    listen_host: str = "127.0.0.1"
    listen_port: int = 8080
    tws_host: str = "127.0.0.1"
    tws_port: int = 4002
    client_id: int = 1
    data_dir: Path = Path("data")
    data_dir_named: bool = False
    """Whether somebody chose the folder; a command makes no journal in one that nobody chose."""
    identity_dir: Path | None = None
    """Where the journal's name is kept besides; a data folder that was emptied is not a new one."""
    admin_key_file: Path | None = None
    portal_url: str = ""
    trading_mode: str = "paper"
    log_level: str = "info"
    time_zone: str = "America/New_York"
    restarts: RestartCalendar = RestartCalendar()
    login_state_file: Path | None = None
    other_login_file: Path | None = None
    gateway_requests: Path | None = None
    watchdog: bool = True
    trading_file: Path | None = None
    rules_file: Path | None = None
    journal_keep_days: int = 730
    max_body_bytes: int = 256 * 1024
    max_pending: int = 1000
    max_streams: int = 100
    trusted_proxies: str = "127.0.0.1"
    simulator_url: str = ""
    page_trading: bool = True
    flex_query: str = ""
    flex_token_file: Path | None = None
    flex_url: str = ""
    settings_key_file: Path | None = None
    alerts_file: Path | None = None
    alert_lost_minutes: int = 5
    alert_events: str = ""
    alert_disk_megabytes: int = 1024
    tls_address: tuple[str, int] | None = None
    tls_name: str = ""


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return parse


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host.strip("[]") or "127.0.0.1", _number(0, 65535)(port)


def _choice(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in words:
            raise ValueError
        return text.lower()

    return parse


def _yes(text: str) -> bool:
    return {"yes": True, "true": True, "no": False, "false": False}[text.lower()]


def _digits(text: str) -> str:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return text


def _zone(text: str) -> str:
    ZoneInfo(text)
    return text


def _key_file(text: str) -> Path:
    read_key(Path(text))
    return Path(text)


_VARIABLES: dict[str, tuple[str, Callable[[str], Any], str]] = {
    "BRIDGE_LISTEN": ("listen", _address, "an address such as 127.0.0.1:8080"),
    "BRIDGE_TWS_HOST": ("tws_host", str, "a host name or an address"),
    "BRIDGE_TWS_PORT": ("tws_port", _number(1, 65535), "a port from 1 to 65535"),
    "BRIDGE_CLIENT_ID": ("client_id", _number(0, 2**31 - 1), "a number of 0 or more"),
    "BRIDGE_DATA_DIR": ("data_dir", Path, "a folder that can be written"),
    "BRIDGE_IDENTITY_DIR": ("identity_dir", Path, "a folder that can be written"),
    "BRIDGE_ADMIN_KEY_FILE": ("admin_key_file", _key_file, "a readable file that holds a key"),
    "BRIDGE_PORTAL_URL": ("portal_url", str, "an address such as https://127.0.0.1:5000"),
    "BRIDGE_TRADING_MODE": ("trading_mode", _choice("paper", "live"), "paper or live"),
    "BRIDGE_LOG_LEVEL": ("log_level", _choice(*LEVELS), "debug, info, warning or error"),
    "BRIDGE_TIME_ZONE": ("time_zone", _zone, "a zone such as America/New_York"),
    "BRIDGE_RESTARTS_FILE": (
        "restarts",
        lambda text: RestartCalendar.load(Path(text)),
        "a JSON file with the planned restarts (docs/bridge.md)",
    ),
    "BRIDGE_LOGIN_STATE_FILE": ("login_state_file", Path, "a file"),
    "BRIDGE_OTHER_LOGIN_FILE": ("other_login_file", Path, "a file"),
    "BRIDGE_GATEWAY_REQUESTS": ("gateway_requests", Path, "a folder that can be written"),
    "BRIDGE_WATCHDOG": ("watchdog", _yes, "yes or no"),
    "BRIDGE_TRADING_FILE": ("trading_file", Path, "a JSON file with the trading limits"),
    "BRIDGE_RULES_FILE": ("rules_file", Path, "a JSON file with rules of the position manager"),
    "BRIDGE_JOURNAL_KEEP_DAYS": ("journal_keep_days", _number(30, 36_500), "days, at least 30"),
    "BRIDGE_MAX_BODY_BYTES": ("max_body_bytes", _number(1024, 2**26), "a number of bytes"),
    "BRIDGE_MAX_PENDING": ("max_pending", _number(1, 100_000), "a number of requests"),
    "BRIDGE_MAX_STREAMS": ("max_streams", _number(0, 10_000), "a number of streams"),
    "BRIDGE_SIMULATOR_URL": ("simulator_url", str, "the address of a simulator's control port"),
    "BRIDGE_PAGE_TRADING": ("page_trading", _yes, "yes or no"),
    "BRIDGE_FLEX_QUERY": ("flex_query", _digits, "the number of a Flex query"),
    "BRIDGE_FLEX_TOKEN_FILE": ("flex_token_file", Path, "a file with the Flex token"),
    "BRIDGE_FLEX_URL": ("flex_url", str, "the address of the Flex Web Service"),
    "BRIDGE_ALERTS_FILE": ("alerts_file", Path, "a file with service addresses"),
    "BRIDGE_ALERT_LOST_MINUTES": ("alert_lost_minutes", _number(1, 1440), "minutes"),
    "BRIDGE_ALERT_EVENTS": ("alert_events", str, "events, by commas"),
    "BRIDGE_ALERT_DISK_MB": ("alert_disk_megabytes", _number(1, 10**7), "megabytes"),
    "BRIDGE_TLS_ADDRESS": ("tls_address", _address, "an address such as caddy:8443"),
    "BRIDGE_TLS_NAME": ("tls_name", str, "a host name"),
    "BRIDGE_SETTINGS_KEY_FILE": ("settings_key_file", Path, "a file with Fernet keys"),
    "BRIDGE_TRUSTED_PROXIES": ("trusted_proxies", str, "addresses, networks or names, by commas"),
}


def read(variables: Mapping[str, str]) -> Environment:
    """The settings, or ``EnvironmentProblem`` for the first variable that is wrong.

    Empty means not set.
    """
    values: dict[str, Any] = {}
    for name, (field, parse, wanted) in _VARIABLES.items():
        text = variables.get(name, "").strip()
        if not text:
            continue
        try:
            value = parse(text)
        except KeyFileError as error:
            raise EnvironmentProblem(name, f"{text!r}: {error}", error.hint) from None
        except (ValueError, KeyError, OSError):
            raise EnvironmentProblem(name, f"{text!r} is not {wanted}", f"give {wanted}") from None
        if field == "data_dir":
            values["data_dir_named"] = True
        if field == "listen":
            values["listen_host"], values["listen_port"] = value
        else:
            values[field] = value
    return Environment(**values)

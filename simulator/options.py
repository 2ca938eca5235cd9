"""What a simulator can be started with."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """The settings of one simulator; ports of 0 take a free one."""

    port: int = 4002
    portal_port: int = 5000
    control_port: int = 4099
    listen: str = "127.0.0.1"
    seed: int = 1
    accounts: tuple[str, ...] = ("DU1234567",)
    rate_limit: int = 50
    """Messages a second that a client may send; 0 is no limit."""
    pacing: str = "queue"
    """What becomes of messages above that limit: `queue` holds them back until there is room, as
    a gateway does unless it is told otherwise, `reject` answers each with error 100."""
    portal_certificate: str | None = None
    """The folder that keeps the Client Portal's TLS key and certificate; None: made anew."""
    master_client_id: int | None = None
    read_only: bool = False
    """Refuse orders with error 321, as a gateway in read-only API mode does."""
    market_data_lines: int = 100
    market_data: str = "live"
    """What the account has paid for: `live`, `delayed` or `none`, then perhaps exceptions such as
    `live,SPX=delayed,VIX=none`."""
    tick_interval: float = 0.25
    """Seconds between two looks of a market data line at the market."""
    history_pacing: str = "small"
    """Which history requests are refused when they come too fast: those for `small` bars (to
    30 s), while the others are only slowed down, `all` of them, or none and none slowed (`off`)."""
    hours: str = "always"
    """`always`: the market never closes; `exchange`: trading hours, weekends and holidays."""
    start: float | None = None
    """The time to begin at, in seconds since the epoch; the machine's own when None."""
    state: str | None = None
    """The file that keeps accounts, orders and executions between two runs; None: nothing does."""
    nightly_restart: str | None = None
    """When the gateway restarts every day, `HH:MM` in New York."""
    sunday_invalidation: bool = False
    """Whether the session ends on Sunday at 01:00 in New York and waits for a person."""
    scenario: str | None = None
    faults: tuple[str, ...] = field(default=())
    """Faults on from the start, as `NAME` or `NAME:SECONDS`."""

"""Which gateway, as whom, and how patiently."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from bridge.model import MarketDataType
from bridge.restart_calendar import RestartCalendar


class Target(Struct, frozen=True, kw_only=True):
    """Settings of one session. Seconds are the clock's."""

    host: str = "127.0.0.1"
    port: int = 4002
    client_id: int = 17
    time_zone: str = "America/New_York"  # of times that the gateway sends without a zone
    restarts: RestartCalendar = RestartCalendar()
    login_state_file: Path | None = None
    other_login_file: Path | None = None
    session: str | None = None  # paper or live; of the login
    start_seconds: float = 45.0  # a slow login keeps the client id waiting
    heartbeat_interval: float = 4.0
    heartbeat_patience: float = 4.0
    backoff_first: float = 0.25
    backoff_cap: float = 1.5
    quick_attempts: int = 0  # in a row, after which there is only one every slow_pause; 0: no limit
    slow_pause: float = 60.0
    market_data_type: MarketDataType = MarketDataType.LIVE  # the best kind that lines ask for

    def kind_for(self, asked: MarketDataType) -> MarketDataType:
        """The kind to request for a line that asked for this one: never better than is set."""
        match self.market_data_type:
            case MarketDataType.LIVE:
                return asked
            case MarketDataType.FROZEN if asked is MarketDataType.LIVE:
                return MarketDataType.FROZEN
            case MarketDataType.FROZEN:
                return asked
            case delayed:
                return delayed

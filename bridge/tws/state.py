"""The states of the connection, their words and what each means for callers."""

from __future__ import annotations

from enum import StrEnum


class ConnectionState(StrEnum):
    """The words of ``/health``."""

    STARTING = "starting"
    WAITING_FOR_GATEWAY = "waiting-for-gateway"
    WAITING_FOR_2FA = "waiting-2fa"
    CONNECTING = "connecting"
    READY = "ready"
    UPSTREAM_LOST = "upstream-lost"
    STALLED = "stalled"
    RECONNECTING = "reconnecting"
    SESSION_CONFLICT = "session-conflict"
    READ_ONLY = "read-only"  # only shown: an overlay over ready while the gateway refuses orders
    HALTED = "halted"  # only shown: an overlay over ready while trading is halted


class Lane(StrEnum):
    """Who goes first under the gateway's message limit."""

    ORDER = "order"  # orders and cancels; overtakes everything
    INTERACTIVE = "interactive"  # someone waits for the answer
    BULK = "bulk"  # history, chains, background

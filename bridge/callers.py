"""Who calls: what a key is and may do, and how much of something scarce each caller may have.

One key cannot take all, one address (a tunnel, a leaked script) cannot, and all keys of the lowest
scope together cannot: something is always left for those who may do more. A key of scope admin is
bounded by what there is alone.
"""

from __future__ import annotations

import math
import stat
from collections import Counter, deque
from collections.abc import Callable
from contextvars import ContextVar
from enum import IntEnum
from pathlib import Path
from typing import Final

from msgspec import Struct

from bridge.clock import Clock
from bridge.errors import BridgeError, Kind


class Scope(IntEnum):
    """What a key may do. Each scope includes those before it; ``PUBLIC`` needs no key.

    ``HISTORY`` is a guest's: bars, chains and contracts, and nothing of any account.
    """

    PUBLIC = 0
    HISTORY = 1
    READ = 2
    TRADE = 3
    ADMIN = 4

    @property
    def word(self) -> str:
        """The word used on the wire."""
        return self.name.lower()


ONE_KEY: Final = 0.6
ONE_ADDRESS: Final = 0.8
LOWEST: Final = 0.8


class Holder(Struct, frozen=True):
    """Who has a share: the key's id and digest, where it comes from, and its rank."""

    key: str
    address: str = ""
    rank: int = Scope.READ
    digest: bytes = b""


BRIDGE: Final = Holder("", "", Scope.ADMIN)
"""The bridge's own work, that nobody asked for by name."""

ORDER_CHECKS: Final = Holder("order-checks", "", Scope.ADMIN + 1)
"""Looks at the market before an order is let through."""


class Shares:
    """Counts who holds how many of `capacity`; keeps nothing of those who hold none."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.one_key = math.ceil(capacity * ONE_KEY)
        self.one_address = math.ceil(capacity * ONE_ADDRESS)
        self.lowest = math.ceil(capacity * LOWEST)
        self._keys: Counter[str] = Counter()
        self._addresses: Counter[str] = Counter()
        self._low = 0
        self.taken = 0

    def held(self, holder: Holder) -> int:
        """How many this key holds."""
        return self._keys[holder.key]

    def over_share(self, holder: Holder) -> str | None:
        """Why this holder gets no more, although there may be some; None: it may have one."""
        if holder.rank >= Scope.ADMIN:
            return None
        if self._keys[holder.key] >= self.one_key:
            return f"this key has its share of {self.one_key} already"
        if holder.address and self._addresses[holder.address] >= self.one_address:
            return f"{holder.address} has its share of {self.one_address} already"
        if holder.rank <= Scope.READ and self._low >= self.lowest:
            return f"keys of scope read have their share of {self.lowest} already"
        return None

    def take(self, holder: Holder) -> None:
        self.taken += 1
        self._keys[holder.key] += 1
        self._addresses[holder.address] += 1
        self._low += holder.rank <= Scope.READ

    def give(self, holder: Holder) -> None:
        self.taken -= 1
        self._low -= holder.rank <= Scope.READ
        for counter, name in ((self._keys, holder.key), (self._addresses, holder.address)):
            counter[name] -= 1
            if counter[name] <= 0:
                del counter[name]


GUEST_SECONDS: Final = 600.0
GUEST_REQUESTS: Final = 20
"""The broker takes some 60 history requests in ten minutes: of these guests have a third."""
ONE_GUEST: Final = math.ceil(GUEST_REQUESTS * ONE_KEY)


class GuestLimitError(BridgeError):
    """Guests have asked the broker for as much as they may."""

    code = "guest-limit"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds; what is in the bridge's cache is still answered"


class GuestBudget:
    """What guests may ask the broker for: little, together, in any ten minutes.

    What a cache answers costs nothing. Keeps at most `GUEST_REQUESTS` moments.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._spent: deque[tuple[float, str]] = deque()

    def spend(self, key: str) -> None:
        """One request to the broker for this key; GuestLimitError when it has had its share."""
        now = self._clock.monotonic()
        while self._spent and self._spent[0][0] <= now - GUEST_SECONDS:
            self._spent.popleft()
        own = [moment for moment, holder in self._spent if holder == key]
        for who, moments, most in (
            ("this key has", own, ONE_GUEST),
            ("guests have", [moment for moment, _ in self._spent], GUEST_REQUESTS),
        ):
            if len(moments) >= most:
                raise GuestLimitError(
                    f"{who} asked the broker {most} times within ten minutes",
                    retry_after=moments[0] + GUEST_SECONDS - now,
                )
        self._spent.append((now, key))


GUEST: Final[ContextVar[Callable[[], None] | None]] = ContextVar("guest", default=None)
"""Within a guest's request: what counts a request to the broker, or refuses it."""


SHORTEST: Final = 16
FEWEST_DIFFERENT: Final = 6
_EVERYBODY: Final = stat.S_IROTH | stat.S_IWOTH | stat.S_IXOTH


class KeyFileError(Exception):
    """Why the file cannot be used, and what would be right."""

    def __init__(self, problem: str, hint: str) -> None:
        super().__init__(problem)
        self.hint = hint


def read_key(path: Path) -> str:
    """The key in `path`.

    Raises:
        KeyFileError: everybody on this machine could read it, or it could be guessed.
        OSError: it cannot be read.
    """
    if path.stat().st_mode & _EVERYBODY:
        raise KeyFileError("everybody on this machine may use the file", f"chmod 600 {path}")
    try:
        key = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise KeyFileError("it holds no text", "write one line: the key") from None
    if not key:
        raise KeyFileError("it is empty", "write a key into it: openssl rand -base64 32")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise KeyFileError("it holds more than one word", "write one line: the key")
    if len(key) < SHORTEST or len(set(key)) < FEWEST_DIFFERENT:
        raise KeyFileError(
            f"the key can be guessed: it has fewer than {SHORTEST} characters, or too few different"
            " ones",
            "openssl rand -base64 32 makes a good one",
        )
    return key

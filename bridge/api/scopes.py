"""What a key may do. Each scope includes those before it."""

from __future__ import annotations

from enum import IntEnum


class Scope(IntEnum):
    """``READ`` < ``TRADE`` < ``ADMIN``; ``PUBLIC`` needs no key."""

    PUBLIC = 0
    READ = 1
    TRADE = 2
    ADMIN = 3

    @property
    def word(self) -> str:
        """The word used on the wire."""
        return self.name.lower()

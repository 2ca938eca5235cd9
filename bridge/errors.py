"""The root of everything that the bridge refuses or fails to do.

    BridgeError                 code, nextStep, a kind
    ├── bridge.tws.errors.TwsError      the gateway or the way to it
    └── one tree for each part (orders, market, portal ...), in its ``errors`` module

Nothing here knows HTTP: ``bridge.api.problems`` turns a kind into a status.
"""

from __future__ import annotations

from enum import Enum
from typing import Any, ClassVar


class Kind(Enum):
    """What sort of failure this is, in the bridge's own terms."""

    INVALID = "invalid"  # the input makes no sense: mend it
    UNAUTHORIZED = "unauthorized"  # who is it?
    NOT_FOUND = "not-found"
    METHOD = "method"
    UNSUPPORTED_MEDIA = "unsupported-media"
    CONFLICT = "conflict"  # at odds with what was asked before
    FORBIDDEN = "forbidden"
    HALTED = "halted"  # trading is halted on purpose
    LIMITED = "limited"  # too much at once: wait retry_after seconds
    TOO_LARGE = "too-large"
    UNAVAILABLE = "unavailable"  # not connected: later, perhaps
    TIMEOUT = "timeout"  # asked, and no answer in time
    REFUSED = "refused"  # the broker said no
    INTERNAL = "internal"


class BridgeError(Exception):
    """An expected failure.

    ``detail`` for people, ``code`` for programs, ``next_step`` for whoever must act.

    ``extra`` holds further members of the problem document (camelCase, JSON-able). A subclass sets
    the three class variables; an instance may say a more fitting ``next_step`` or ``code``.
    """

    code: str = "internal-error"
    kind: ClassVar[Kind] = Kind.INTERNAL
    next_step: str = "Look in the bridge's log for this request id"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        next_step: str | None = None,
        retry_after: float | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.extra: dict[str, Any] = dict(extra or {})
        if code is not None:
            self.code = code
        if next_step is not None:
            self.next_step = next_step


class InvalidRequestError(BridgeError):
    """The input is wrong; ``extra["errors"]`` may list ``{"field", "message", "code"}``."""

    code = "invalid-request"
    kind = Kind.INVALID
    next_step = "Mend the request; /docs describes every field"


class NotFoundError(BridgeError):
    """There is no such thing."""

    code = "not-found"
    kind = Kind.NOT_FOUND
    next_step = "Check the address and the id"

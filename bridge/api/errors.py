"""What only an HTTP interface can refuse.

BridgeError
├── UnauthorizedError       unauthorized        401
├── ForbiddenError          forbidden           403, the key's scope does not reach
├── AddressNotAllowedError  address-not-allowed 403, the key is bound to other addresses
├── TooManyFailuresError    too-many-failures   429, wrong keys from one address
├── TooManyPendingError     too-many-pending    429
├── BodyTooLargeError       body-too-large      413
├── UnsupportedMediaError   unsupported-media   415
├── MethodNotAllowedError   method-not-allowed  405
└── StoppingError           stopping            503, cut off by the end of the process
"""

from __future__ import annotations

from bridge.errors import BridgeError, Kind


class UnauthorizedError(BridgeError):
    """No key, or one that is not valid."""

    code = "unauthorized"
    kind = Kind.UNAUTHORIZED
    next_step = "Send a valid key in the header X-API-KEY (deploy.py apikey create makes one)"


class ForbiddenError(BridgeError):
    """The key's scope does not reach."""

    code = "forbidden"
    kind = Kind.FORBIDDEN
    next_step = "Use a key of the scope that is named"


class AddressNotAllowedError(BridgeError):
    """The key is bound to other networks than this address."""

    code = "address-not-allowed"
    kind = Kind.FORBIDDEN
    next_step = "Use the key from where it is bound to, or make another with apikey create --from"
    key_id = ""


class TooManyFailuresError(BridgeError):
    """Too many wrong keys from one address."""

    code = "too-many-failures"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds, then use the right key"


class TooManyPendingError(BridgeError):
    """More requests are pending than the bridge takes."""

    code = "too-many-pending"
    kind = Kind.LIMITED
    next_step = "Wait Retry-After seconds and send fewer requests at once"


class BodyTooLargeError(BridgeError):
    """The body is larger than the bridge takes."""

    code = "body-too-large"
    kind = Kind.TOO_LARGE
    next_step = "Send a smaller body"


class UnsupportedMediaError(BridgeError):
    """The body is not JSON."""

    code = "unsupported-media"
    kind = Kind.UNSUPPORTED_MEDIA
    next_step = "Send application/json"


class MethodNotAllowedError(BridgeError):
    """The path is there, but not for this method."""

    code = "method-not-allowed"
    kind = Kind.METHOD
    next_step = "See /docs for the methods of this path"


class StoppingError(BridgeError):
    """The process ends, and this request has not come to an end in the time it had."""

    code = "stopping"
    kind = Kind.UNAVAILABLE
    next_step = "Look whether it was done, and repeat it when /ready answers 200"

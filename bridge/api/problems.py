"""Failures as RFC 9457 problem documents: the one place where a kind becomes a status.

Below it what only an HTTP interface can refuse:

BridgeError
├── UnauthorizedError       unauthorized        401
├── ForbiddenError          forbidden           403, the key's scope does not reach
├── AddressNotAllowedError  address-not-allowed 403, the key is bound to other addresses
├── TooManyFailuresError    too-many-failures   429, wrong keys from one address
├── TooManyPendingError     too-many-pending    429
├── BodyTooLargeError       body-too-large      413
├── BodyTooSlowError        body-too-slow       422, the rest of it did not come
├── UnsupportedMediaError   unsupported-media   415
├── MethodNotAllowedError   method-not-allowed  405
└── StoppingError           stopping            503, cut off by the end of the process
"""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

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


class BodyTooSlowError(BridgeError):
    """The body did not come in the time that it has; what came of it is forgotten."""

    code = "body-too-slow"
    kind = Kind.INVALID
    next_step = "Send it again, over a better connection: nothing was done"


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


MEDIA_TYPE = "application/problem+json"
TYPE_BASE = "urn:gangway:problem:"

STATUS: dict[Kind, tuple[int, str]] = {
    Kind.INVALID: (422, "The request cannot be processed"),
    Kind.UNAUTHORIZED: (401, "A valid key is needed"),
    Kind.NOT_FOUND: (404, "Not found"),
    Kind.METHOD: (405, "Method not allowed"),
    Kind.UNSUPPORTED_MEDIA: (415, "Unsupported media type"),
    Kind.CONFLICT: (409, "Conflict with an earlier request"),
    Kind.FORBIDDEN: (403, "Not allowed"),
    Kind.HALTED: (423, "Trading is halted"),
    Kind.LIMITED: (429, "Too many requests"),
    Kind.TOO_LARGE: (413, "Too large"),
    Kind.UNAVAILABLE: (503, "Not available now"),
    Kind.TIMEOUT: (504, "No answer in time"),
    Kind.REFUSED: (422, "Refused by the broker"),
    Kind.INTERNAL: (500, "Internal error"),
}


class FieldProblem(msgspec.Struct, rename="camel", frozen=True):
    """One field that is wrong."""

    field: str
    message: str
    code: str = "invalid"


class Problem(msgspec.Struct, rename="camel", kw_only=True):
    """RFC 9457, with a stable ``code`` and what to do next; further members depend on the code."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    next_step: str
    request_id: str = ""
    errors: list[FieldProblem] | msgspec.UnsetType = msgspec.UNSET
    broker_code: int | msgspec.UnsetType = msgspec.UNSET
    broker_text: str | msgspec.UnsetType = msgspec.UNSET


def members(error: BridgeError, request_id: str) -> dict[str, Any]:
    """The document as a mapping."""
    status, title = STATUS[error.kind]
    return {
        **error.extra,
        "type": TYPE_BASE + error.code,
        "title": title,
        "status": status,
        "code": error.code,
        "detail": error.detail,
        "nextStep": error.next_step,
        "requestId": request_id,
    }


def response(error: BridgeError, request_id: str) -> Response:
    """The answer to a request that failed."""
    status, _ = STATUS[error.kind]
    headers = {"Cache-Control": "no-store"}
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    elif error.kind in (Kind.LIMITED, Kind.UNAVAILABLE):
        headers["Retry-After"] = "2"
    if status == 401:
        headers["WWW-Authenticate"] = 'ApiKey header="X-API-KEY"'
    if isinstance(error, BodyTooSlowError):
        headers["Connection"] = "close"  # the rest is read by nobody
    body = msgspec.json.encode(members(error, request_id), enc_hook=str)
    return Response(body, status, headers, MEDIA_TYPE)

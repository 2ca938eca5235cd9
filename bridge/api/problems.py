"""Failures as RFC 9457 problem documents: the one place where a kind becomes a status."""

from __future__ import annotations

import math
from typing import Any

import msgspec
from starlette.responses import Response

from bridge.errors import BridgeError, Kind

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
    body = msgspec.json.encode(members(error, request_id), enc_hook=str)
    return Response(body, status, headers, MEDIA_TYPE)

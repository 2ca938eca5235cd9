"""Who calls: the key in ``X-API-KEY``, for requests and for WebSockets."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from bridge.api.connections import KNOWN
from bridge.api.errors import AddressNotAllowedError, ForbiddenError
from bridge.api.keys import KeyRing
from bridge.api.routing import ANONYMOUS, Principal
from bridge.api.scopes import Scope
from bridge.services import Services

HEADER = "x-api-key"


def address_of(connection: HTTPConnection) -> str:
    """Where the caller is, as far as a trusted proxy or the socket tells."""
    return connection.client.host if connection.client else "unknown"


def authenticate(services: Services, connection: HTTPConnection, needed: Scope) -> Principal:
    """The caller of a request; ``UnauthorizedError`` or ``ForbiddenError``."""
    if needed is Scope.PUBLIC:
        return ANONYMOUS
    try:
        principal = services[KeyRing].verify(connection.headers.get(HEADER), address_of(connection))
    except AddressNotAllowedError as error:
        connection.scope["key_id"] = error.key_id
        raise
    connection.scope["key_id"] = principal.key_id
    require_scope(principal, needed)
    mark_known(connection)
    return principal


def mark_known(connection: HTTPConnection) -> None:
    """Tells the server that this connection has shown a key: it is not the first to go."""
    tell = connection.scope.get("extensions", {}).get(KNOWN)
    if tell is not None:
        tell()


def authenticate_key(services: Services, key: str | None, address: str, needed: Scope) -> Principal:
    """The same for a key that came otherwise (a WebSocket's first message)."""
    principal = services[KeyRing].verify(key, address)
    require_scope(principal, needed)
    return principal


def require_scope(principal: Principal, needed: Scope) -> None:
    """Raises when the key may not do this."""
    if principal.scope < needed:
        raise ForbiddenError(
            f"this needs scope {needed.word}; the key has {principal.scope.word}",
            extra={"neededScope": needed.word, "scope": principal.scope.word},
        )

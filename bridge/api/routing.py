"""How a subject registers its routes.

One declaration gives the address, the check of the input and the OpenAPI entry.

    routes = RouteTable("market")

    class HistoryParams(Params, frozen=True):
        symbol: str
        duration: str = "1 D"

    @routes.get("/history", params=HistoryParams, answer=History, scope=Scope.READ)
    async def history(call: Call[HistoryParams, None]) -> History:
        '''Bars of one contract.

        The rest of the docstring is the description in the OpenAPI document.
        '''
        return await call.services[HistoryService].bars(call.params)

The handler gets checked input and returns the answer struct (or ``Reply`` for another status or
headers, or a Starlette response for anything that is not JSON). Failures are raised as
``BridgeError`` and become problem+json in one place. Names are camelCase on the wire; unknown
members are refused, so that a misspelt field is never ignored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct
from starlette.websockets import WebSocket

from bridge.callers import Holder, Scope
from bridge.store.keys import UNBOUND, KeyBounds

if TYPE_CHECKING:
    from bridge.services import Services


IDEMPOTENCY_KEY = "Idempotency-Key"
"""The header that names an order, so that it is never sent twice."""


class Params(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Path, query and header parameters of a route, in one struct.

    A field whose wire name is in the path template comes from the path; one named in the route's
    ``headers`` mapping comes from that header; the rest is the query. Fields of a tuple or list
    type take ``a,b,c`` and repeated parameters alike.
    """


class Body(Struct, rename="camel", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON request body."""


class Answer(Struct, rename="camel", kw_only=True):
    """A JSON answer."""


P = TypeVar("P")
B = TypeVar("B")


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the key's id (never the key), its scope, and how far it reaches."""

    key_id: str
    scope: Scope
    bounds: KeyBounds = UNBOUND
    digest: bytes = field(default=b"", repr=False)

    def holder(self, address: str) -> Holder:
        """As whom it has its shares of what is scarce."""
        return Holder(self.key_id, address, int(self.scope), self.digest)


ANONYMOUS = Principal("", Scope.PUBLIC)


@dataclass(frozen=True, slots=True)
class Call(Generic[P, B]):
    """One checked request."""

    services: Services
    params: P
    body: B
    principal: Principal
    request_id: str
    address: str = "unknown"

    @property
    def holder(self) -> Holder:
        """Whose shares this request uses."""
        return self.principal.holder(self.address)


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer with a status or headers of its own."""

    content: Struct | list[Any] | dict[str, Any] | None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[Call[Any, Any]], Awaitable[Any]]
WebSocketHandler = Callable[["Services", WebSocket], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    ``statuses`` are further answers than ``status`` and the usual ones, with what they mean.
    ``gateway``: whether it may wait for the gateway, so that 503 and 504 can be the answer. A call
    that is no GET is noted in the audit log, unless it is ``harmless``; ``recorded`` names the
    members (on the wire) of its parameters and body whose values are told there: never secrets.
    """

    method: str
    path: str
    handler: Handler
    tag: str
    scope: Scope
    answer: Any  # a struct, list[struct], or None
    params: type[Any] | None = None
    body: type[Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)  # field name -> header name
    status: int = 200
    statuses: dict[int, str] = field(default_factory=dict)
    media_types: tuple[str, ...] = ("application/json",)
    gateway: bool = False
    harmless: bool = False
    recorded: tuple[str, ...] = ()

    @property
    def changes(self) -> bool:
        """Whether a call may change something, and so is noted in the audit log."""
        return self.method not in ("GET", "HEAD") and not self.harmless


@dataclass(frozen=True, slots=True)
class WebSocketRoute:
    """A stream; the handler accepts and authenticates itself (``bridge.api.auth``)."""

    path: str
    handler: WebSocketHandler
    summary: str


class RouteTable:
    """The routes of one subject; ``bridge.api.app`` lists the tables.

    ``gateway`` holds for all of them that do not say otherwise.
    """

    def __init__(self, tag: str, *, gateway: bool = False) -> None:
        self.tag = tag
        self._gateway = gateway
        self.routes: list[Route] = []
        self.websockets: list[WebSocketRoute] = []

    def add(
        self, method: str, path: str, *, answer: Any, scope: Scope, **options: Any
    ) -> Callable[[Handler], Handler]:
        """Registers a handler; ``options`` are further fields of ``Route``."""

        def register(handler: Handler) -> Handler:
            more = {"gateway": self._gateway, **options}
            self.routes.append(Route(method, path, handler, self.tag, scope, answer, **more))
            return handler

        return register

    def get(
        self, path: str, *, answer: Any, scope: Scope = Scope.READ, **options: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("GET", path, answer=answer, scope=scope, **options)

    def post(
        self, path: str, *, answer: Any, scope: Scope, **options: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("POST", path, answer=answer, scope=scope, **options)

    def put(
        self, path: str, *, answer: Any, scope: Scope, **options: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("PUT", path, answer=answer, scope=scope, **options)

    def patch(
        self, path: str, *, answer: Any, scope: Scope, **options: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("PATCH", path, answer=answer, scope=scope, **options)

    def delete(
        self, path: str, *, answer: Any, scope: Scope, **options: Any
    ) -> Callable[[Handler], Handler]:
        return self.add("DELETE", path, answer=answer, scope=scope, **options)

    def websocket(
        self, path: str, *, summary: str
    ) -> Callable[[WebSocketHandler], WebSocketHandler]:
        def register(handler: WebSocketHandler) -> WebSocketHandler:
            self.websockets.append(WebSocketRoute(path, handler, summary))
            return handler

        return register

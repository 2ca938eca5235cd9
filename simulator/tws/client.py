"""A connected client, as those see it who are not its session: who it is, and how it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


class Client(Protocol):
    """What the world and the broker need of `simulator.tws.session.Session`."""

    @property
    def client_id(self) -> int: ...

    @property
    def version(self) -> int:
        """The server version that its connection speaks."""

    @property
    def is_master(self) -> bool:
        """Whether this client sees every client's orders and executions."""

    @property
    def subscriptions(self) -> Mapping[tuple[str, int], Callable[[], object]]:
        """(kind, request id) -> what ends it."""

    def drop_subscriptions(self, kinds: Collection[str] | None = None) -> None:
        """End every subscription, or those of some kinds, without a word to the client."""

    def send(self, *values: object) -> None:
        """Send one message of these fields."""

    def error(self, request_id: int, code: int, message: str, advanced: str = "") -> None:
        """Send an error or a notice; request id -1 concerns the connection."""

    def put(self, fields: list[str]) -> None:
        """Send one message as it is, whatever the rules of `wire-rewrite` say."""

    def take(self, fields: list[str]) -> None:
        """Answer one request, whatever those rules say."""

    def record(self, limit: int = ...) -> dict[str, Any]:
        """What `GET /book` shows of this client, with its last messages."""

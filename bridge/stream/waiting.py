"""Quotes that were asked for while there was no session: subscribed as soon as there is one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bridge.model import Contract
from bridge.stream.hub import Session

RequestId = str | int | None
"""The id that a client gave its message."""


class WaitingList:
    """What each session waits for."""

    def __init__(self) -> None:
        self._wanted: dict[Session, dict[Contract, RequestId]] = {}

    def add(self, session: Session, contract: Contract, request: RequestId) -> None:
        """To be tried at the next session."""
        self._wanted.setdefault(session, {})[contract] = request

    def count(self, session: Session) -> int:
        """How many a session waits for."""
        return len(self._wanted.get(session, ()))

    def drop(self, session: Session, which: Callable[[Contract], bool]) -> None:
        """No longer wanted."""
        wanted = self._wanted.get(session, {})
        for contract in [contract for contract in wanted if which(contract)]:
            del wanted[contract]

    def forget(self, session: Session) -> None:
        """The session has ended."""
        self._wanted.pop(session, None)

    def take(self) -> Iterator[tuple[Session, RequestId, tuple[Contract, ...]]]:
        """Everything, by session and request; the list is empty then."""
        taken, self._wanted = self._wanted, {}
        for session, wanted in taken.items():
            if session.closed:
                continue
            for request in dict.fromkeys(wanted.values()):
                yield session, request, tuple(each for each in wanted if wanted[each] == request)

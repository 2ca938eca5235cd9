"""A short session under another program's client id.

An order can be cancelled only under the client id that placed it (those entered by hand: under 0),
whoever else may see it; not even the master client may. While that program is connected the
gateway refuses its id to anybody else (326).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from msgspec import structs

from bridge.clock import within
from bridge.tws.errors import ClientIdInUseError
from bridge.tws.session import TwsSession
from bridge.tws.state import ConnectionState

SECONDS: Final = 8.0
_SETTLED: Final = {ConnectionState.READY, ConnectionState.SESSION_CONFLICT}


class ClientIds:
    """Borrows the ids of other clients at the gateway of `own`, one at a time."""

    def __init__(self, own: TwsSession) -> None:
        self._own = own
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def borrowed(self, client_id: int) -> AsyncIterator[TwsSession]:
        """A session that is ready, ended afterwards.

        Raises:
            ClientIdInUseError: a program with this id is connected.
            NotConnectedError: the gateway lets no such session begin.
        """
        async with self._turn:
            link = self._own.link
            session = TwsSession(structs.replace(link.target, client_id=client_id), link.clock)
            settled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

            def changed(_: ConnectionState, state: ConnectionState) -> None:
                if state in _SETTLED and not settled.done():
                    settled.set_result(None)

            session.events.state.listen(changed)
            await session.start()
            try:
                with suppress(TimeoutError):
                    await within(link.clock, SECONDS, settled)
                if session.link.client_id_taken:
                    raise ClientIdInUseError(
                        f"a program with client id {client_id} is connected to the gateway"
                    )
                session.require_ready()
                yield session
            finally:
                await session.stop()

"""What clients may say on the stream.

One JSON object a message, told apart by `op`. Unknown members are refused, so that a misspelt one
is never ignored.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from bridge.errors import InvalidRequestError
from bridge.market.contracts import contract_of
from bridge.model import Contract, Right

Channel = Literal["quotes", "orders", "executions", "health", "positions", "account", "rules"]
Symbol = Annotated[str, Meta(min_length=1, max_length=32)]

MOST_TOPICS: Final = 200
"""Of one stream; the account's market-data lines are the harder limit for quotes."""


class Instrument(Struct, rename="camel", forbid_unknown_fields=True):
    """An instrument, named as in the reading routes."""

    symbol: str = ""
    con_id: int = 0
    sec_type: (
        Literal["STK", "OPT", "FUT", "CASH", "IND", "CFD", "FOP", "CRYPTO", "BOND", "FUND", "CMDTY"]
        | None
    ) = None
    exchange: str = ""
    primary_exchange: str = ""
    currency: str = ""
    expiration: str = ""
    strike: float | None = None
    right: Right | None = None
    trading_class: str = ""
    multiplier: str = ""

    def contract(self) -> Contract:
        """As it was named."""
        return contract_of(self)


class _Operation(Struct, rename="camel", kw_only=True, forbid_unknown_fields=True, tag_field="op"):
    """`id` comes back in the answer."""

    id: Annotated[str, Meta(max_length=64)] | int | None = None


class Authenticate(_Operation, tag="auth"):
    """The key, when the handshake had none; with it an earlier session to resume."""

    key: str
    session: str | None = None
    last_seq: int | None = None


class Subscribe(_Operation, tag="subscribe"):
    """A channel; `symbols` (stocks) or `contracts` for quotes."""

    channel: Channel
    symbols: Annotated[tuple[Symbol, ...], Meta(max_length=MOST_TOPICS)] = ()
    contracts: Annotated[tuple[Instrument, ...], Meta(max_length=MOST_TOPICS)] = ()


class Unsubscribe(_Operation, tag="unsubscribe"):
    """The same, given back. Of quotes without symbols, contracts or ids: all of them."""

    channel: Channel
    symbols: Annotated[tuple[Symbol, ...], Meta(max_length=MOST_TOPICS)] = ()
    con_ids: Annotated[tuple[int, ...], Meta(max_length=MOST_TOPICS)] = ()


class Ping(_Operation, tag="ping"):
    """Answered by `pong`."""


class Heartbeat(_Operation, tag="heartbeat"):
    """A sign of life for `trading.cancel_when_silent`; `off`: the client leaves on purpose."""

    off: bool = False


Operation = Authenticate | Subscribe | Unsubscribe | Ping | Heartbeat

_decoder: Final[msgspec.json.Decoder[Operation]] = msgspec.json.Decoder(Operation)


def decode(text: str | bytes) -> Operation:
    """A client's message.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return _decoder.decode(text)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidRequestError(
            f"not a message of the stream: {error}", next_step="docs/api.md lists the messages"
        ) from None

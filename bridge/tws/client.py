"""The only importer of the client library: ib_async, or ib_insync where that is what is installed.

Taken from it: the encoders of requests (``Client``), the decoder of messages, and the plain data
classes. Not taken: its socket, its throttle and its ``IB`` class, whose shared futures and missing
deadlines the bridge cannot live with. Everything here that touches the library's insides is tested
in tests/bridge/test_wire.py.
"""

from __future__ import annotations

import importlib
import logging
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC
from functools import cache
from hashlib import blake2b
from types import SimpleNamespace
from typing import Any, Final

import structlog

from bridge.errors import InvalidRequestError
from bridge.lean import deferred
from bridge.tws.values import mark_empty


def _library() -> Any:
    with deferred("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ib_insync makes a loop when imported
        try:
            return importlib.import_module("ib_async")
        except ModuleNotFoundError:
            return importlib.import_module("ib_insync")


library = _library()
Client: Any = library.client.Client
Decoder: Any = library.decoder.Decoder


class _Decoder(Decoder):  # type: ignore[misc]
    """The library's, which takes a fraction for a whole number and drops the bond."""

    def parse(self, obj: Any) -> None:
        """Gives each field that is no text the type of its default, empty ones the default.

        The library's own looks at the definition of all 150 fields of an order each time.
        """
        for name, read, default in _typed_fields(obj.__class__):
            value = getattr(obj, name)
            setattr(obj, name, read(value) if value else default)


FRACTIONS = ("coupon", "evMultiplier")


@cache
def _typed_fields(kind: Any) -> tuple[tuple[str, Callable[[Any], Any], Any], ...]:
    """Name, how its text is read, and default of each field that is no text."""
    return tuple(
        (field.name, _fraction if field.name in FRACTIONS else read, field.default)
        for field in fields(kind)
        if (read := _READ.get(type(field.default))) is not None
    )


def _fraction(value: Any) -> Any:
    return float(value) if isinstance(value, str) else int(value)


_READ: Final[dict[type, Callable[[Any], Any]]] = {
    int: int,
    float: float,
    bool: lambda value: bool(int(value)),
}
LIBRARY = f"{library.__name__} {library.__version__}"
MIN_VERSION: int = Client.MinClientVersion
MAX_VERSION: int = Client.MaxClientVersion

log = structlog.get_logger(__name__)


def contract_object(**fields: Any) -> Any:
    """The library's contract, camelCase fields."""
    return library.Contract(**fields)


def order_object(**fields: Any) -> Any:
    """The library's order, camelCase fields; what is left out is the library's default."""
    return library.Order(**fields)


def price_condition_object(**fields: Any) -> Any:
    """The library's condition on a price, camelCase fields."""
    return library.PriceCondition(**fields)


def time_condition_object(**fields: Any) -> Any:
    """The library's condition on the time, camelCase fields."""
    return library.TimeCondition(**fields)


def combo_leg_object(**fields: Any) -> Any:
    """The library's part of a combination, camelCase fields."""
    return library.ComboLeg(**fields)


def tag_value_object(tag: str, value: str) -> Any:
    """The library's pair, of an algorithm's parameters for one."""
    return library.TagValue(tag, value)


def execution_filter_object(**fields: Any) -> Any:
    """The library's execution filter, camelCase fields."""
    return library.ExecutionFilter(**fields)


class _Encoder(Client):  # type: ignore[misc]
    """The library's encoders, writing to a callable instead of a socket of their own."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        self._write = write
        super().__init__(SimpleNamespace())

    def send(self, *fields: Any, makeEmpty: bool = True) -> None:  # noqa: N803
        """Called by most encoders with the fields of one message, which end with a NUL each.

        Raises:
            InvalidRequestError: a text holds one, which would shift all the fields behind it.
        """
        if not self.isConnected():
            raise ConnectionError("not connected")
        texts: list[str] = []
        for field in fields:
            if isinstance(field, library.Contract):
                texts += [str(getattr(field, name)) for name in _CONTRACT]
            else:
                texts.append(_text(field, makeEmpty))
        message = "\0".join(texts) + "\0"
        if message.count("\0") != len(texts):
            raise InvalidRequestError("a text must not hold the character NUL")
        self.sendMsg(message)

    def sendMsg(self, msg: str) -> None:  # noqa: N802
        """Called by every encoder with one message."""
        self._write(frame(msg.encode()))


_CONTRACT: Final = (
    "conId",
    "symbol",
    "secType",
    "lastTradeDateOrContractMonth",
    "strike",
    "right",
    "multiplier",
    "exchange",
    "primaryExchange",
    "currency",
    "localSymbol",
    "tradingClass",
)
"""A contract's fields in the order in which requests hold them."""


def _text(field: Any, make_empty: bool) -> str:
    """A field as the gateway reads it: yes and no as digits, no value as nothing."""
    kind = type(field)
    if kind is str:
        return str(field)
    if kind is bool:
        return "1" if field else "0"
    if kind is list:
        return "".join(f"{pair.tag}={pair.value};" for pair in field)
    if field is None or (make_empty and kind in _UNSET and field == _UNSET[kind]):
        return ""
    return "Infinite" if field == math.inf else str(field)


_UNSET: Final = {int: library.util.UNSET_INTEGER, float: library.util.UNSET_DOUBLE}
_times = 0


def _not_understood(**what: str) -> None:
    """Logs the first, second, fourth ... of them: a flood of such messages is no flood of lines."""
    global _times
    _times += 1
    if _times & (_times - 1) == 0:
        log.warning("message-not-understood", times=_times, **what)


class _DecoderLog(logging.Handler):
    """Turns the library's tracebacks, which hold whole messages, into one line without content."""

    failure: BaseException | None = None  # of the message that is being decoded

    def emit(self, record: logging.LogRecord) -> None:
        """Called when a message could not be understood, or a callback of ours failed."""
        error = record.exc_info[1] if record.exc_info else None
        _DecoderLog.failure = error or ValueError("not understood")
        _not_understood(error=type(error).__name__, where=record.funcName)


_decoder_log = logging.getLogger(f"{library.__name__}.Decoder")
_decoder_log.handlers = [_DecoderLog()]
_decoder_log.propagate = False


def frame(payload: bytes) -> bytes:
    """A message with its four-byte length before it."""
    return struct.pack(">I", len(payload)) + payload


OPEN_ORDER: Final = 5
EXECUTION, _TIME = 11, 15
"""The message of a fill, and where in it the time is."""

_REMEMBERED: Final = 512
"""Orders whose last openOrder message is kept; one takes some 2 kB."""
_REMEMBERED_FILLS: Final = 2048
"""Some 1 kB each."""


class SaidBefore:
    """What openOrder messages said, by order: most say the same again, or only another status.

    To read one takes a tenth of all the time that an order takes. One counts as read when every
    byte but the status's own is what it was.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, tuple[bytes, bytes, Any]] = {}

    def again(self, payload: bytes) -> tuple[Any, str] | None:
        """What such a message was read as, and its status; None: it has to be read."""
        kept = self._kept.get(_order_of(payload))
        if kept is None:
            return None
        before, behind, opened = kept
        status = payload[len(before) : len(payload) - len(behind)]
        same = payload.startswith(before) and payload.endswith(behind) and status.isalpha()
        return (opened, status.decode()) if same else None

    def remember(self, payload: bytes, opened: Any) -> None:
        """Keeps what it was read as, if it is clear where the status is."""
        name = _order_of(payload)
        self._kept.pop(name, None)
        word = opened.state.status.encode()
        before, found, behind = payload.partition(b"\0%b\0" % word)
        if not word.isalpha() or not found or b"\0%b\0" % word in b"\0" + behind:
            return
        if len(self._kept) >= _REMEMBERED:
            del self._kept[next(iter(self._kept))]
        self._kept[name] = (before + b"\0", b"\0" + behind, opened)


def _order_of(payload: bytes) -> bytes:
    """The order's number, as the message has it behind its own."""
    return payload[2 : payload.find(b"\0", 2)]


class FillsToldBefore:
    """What messages of fills were read as: a day's come again at each reconnect, and once a minute.

    One counts as read when every byte but the number of the request that asked is what it was.
    """

    def __init__(self) -> None:
        self._kept: dict[bytes, Any] = {}

    def again(self, payload: bytes) -> tuple[int, Any] | None:
        """The request's number, and what such a message was read as; None: it has to be read."""
        parts = payload.split(b"\0", 2)
        fill = self._kept.get(_digest(parts[-1]))
        try:
            return None if fill is None else (int(parts[1]), fill)
        except ValueError:
            return None

    def remember(self, payload: bytes, fill: Any) -> None:
        """Keeps what it was read as."""
        if len(self._kept) >= _REMEMBERED_FILLS:
            del self._kept[next(iter(self._kept))]
        self._kept[_digest(payload.split(b"\0", 2)[2])] = fill


def _digest(said: bytes) -> bytes:
    return blake2b(said, digest_size=16).digest()


class Readings:
    """What messages were read as before; outlives the connections to gateways of one version."""

    def __init__(self) -> None:
        self.orders = SaidBefore()
        self.fills = FillsToldBefore()
        self._by: tuple[object, ...] = ()

    def begin(self, *by: object) -> None:
        """A connection; `by`: what the reading depends on. What was read by something else goes."""
        if by != self._by:
            self.orders, self.fills, self._by = SaidBefore(), FillsToldBefore(), by


GREETING = b"API\0" + frame(b"v%d..%d" % (MIN_VERSION, MAX_VERSION))


class Codec:
    """Encodes and decodes for one connection, once the version is agreed.

    ``send`` has a method for each request, named as in the broker's own client
    (``reqContractDetails`` ...). ``callbacks`` has methods named as in the broker's own wrapper;
    those that it lacks are not decoded. Before ``execDetails`` its ``execution_time`` is set to the
    text of the fill's time, for the callback to read (``bridge.broker_time``). What its
    ``openOrder`` leaves in ``opened_order`` it is given again, as ``open_order_again``, for a
    message that says the same; so is what its ``execDetails`` leaves in ``told_fill``, as
    ``fill_again``. ``readings`` keep both.
    """

    def __init__(
        self,
        write: Callable[[bytes], None],
        callbacks: object,
        *,
        version: int,
        client_id: int,
        readings: Readings | None = None,
    ) -> None:
        encoder = _Encoder(write)
        encoder.connState = Client.CONNECTED
        encoder._serverVersion = version  # noqa: SLF001
        encoder.clientId = client_id
        self.send: Any = encoder
        # The decoder reads two settings from its wrapper, for times that it does not get to see.
        callbacks.ib = SimpleNamespace(TimezoneTWS="UTC")  # type: ignore[attr-defined]
        callbacks.defaultTimezone = UTC  # type: ignore[attr-defined]
        self._callbacks: Any = callbacks
        self._decoder = _Decoder(callbacks, version)
        self._not_understood = getattr(callbacks, "not_understood", lambda *_: None)
        self._kept = getattr(callbacks, "MESSAGES", ())
        self._readings = readings or Readings()

    def receive(self, payload: bytes) -> int:
        """Decodes one message and calls back; returns its message id. Never raises."""
        opens, fills = payload.startswith(b"5\0"), payload.startswith(b"11\0")
        if opens and (order := self._readings.orders.again(payload)) is not None:
            self._callbacks.open_order_again(*order)
            return OPEN_ORDER
        if fills and (fill := self._readings.fills.again(payload)) is not None:
            self._callbacks.fill_again(*fill)
            return EXECUTION
        fields = payload.decode(errors="backslashreplace").split("\0")
        fields.pop()
        try:
            number = int(fields[0])
        except (ValueError, IndexError):
            _not_understood(error="no number", message=str(fields[:1])[:80])
            return -1
        mark_empty(number, fields)
        kept = number in self._kept or number == EXECUTION
        said = list(fields) if kept else fields  # a handler may take some away
        _DecoderLog.failure = None
        if opens or fills:
            self._callbacks.opened_order = self._callbacks.told_fill = None
        if number == EXECUTION and len(fields) > _TIME:
            # The library knows few forms of a time, reads one of them wrong, and drops the fill.
            self._callbacks.execution_time = said[_TIME]
            fields[_TIME] = "0"
        try:
            self._decoder.handlers[number](fields)
        except Exception as error:
            _not_understood(error=type(error).__name__, message=str(fields[:1])[:80])
            _DecoderLog.failure = error
        if _DecoderLog.failure is not None:
            self._not_understood(number, said, _DecoderLog.failure)
            return -1
        if opens and self._callbacks.opened_order is not None:
            self._readings.orders.remember(payload, self._callbacks.opened_order)
        if fills and self._callbacks.told_fill is not None:
            self._readings.fills.remember(payload, self._callbacks.told_fill)
        return number
